"""Columns as the CoNLL shared tasks have them: a word and its tag a line, an empty line after each sentence."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ktransfer.data.entities.annotated import Annotated, checked
from ktransfer.data.entities.tag_schemes import IOB2, OUTSIDE, entities_of, find_scheme, is_tag
from ktransfer.data.examples import printable
from ktransfer.data.tables.file_bytes import named_rows, read_beginning
from ktransfer.data.tables.table_files import read_text
from ktransfer.errors import DataError

_DOCUMENT = "-DOCSTART-"
_MOST_COLUMNS = 10  # CoNLL-U has as many
_PEEK = 2**16  # bytes


def looks_like_conll(path: Path) -> bool:
    """Whether the beginning of a file is columns whose last one has tags of entities.

    Example:
        >>> looks_like_conll(Path("none.conll"))
        False
    """
    beginning = read_beginning(path, most=_PEEK)
    lines = beginning.decode("utf-8", "replace").removeprefix("\ufeff").split("\n")
    if len(beginning) == _PEEK:
        lines = lines[:-1]  # it may be cut
    rows = [cells for line in lines if (cells := _cells(line, "\t" in "".join(lines[:50])))]
    rows = [row for row in rows if row[0] != _DOCUMENT and not row[0].startswith("#")]
    if not rows or len({len(row) for row in rows}) > 1 or len(rows[0]) < 2:
        return False
    tags = [row[-1] for row in rows]
    return all(map(is_tag, tags)) and (any(tag != OUTSIDE for tag in tags) or len(rows) < len(lines) - 1)


def _cells(line: str, tabs: bool) -> list[str]:
    line = line.rstrip("\r\n")
    if not line.strip():
        return []
    return [cell.strip() for cell in line.split("\t")] if tabs else line.split()


def read_conll(path: Path, *, column: str | None = None, encoding: str | None = None) -> Annotated:
    """Read sentences of words with tags.

    The first column has the words, or the second where the first counts them. A text is its words with spaces
    between them. Tags may be IOB1, IOB2, IOBES, BILOU or BMES.

    Args:
        path: The file.
        column: The number of the column of tags, from 1 on. Defaults to the last.
        encoding: As Python names it. Defaults to UTF-8.

    Returns:
        `Annotated`, its `rows` the line of each sentence's first word.

    Raises:
        DataError: A line has other columns than the first, or a tag cannot stand where it does; the message names
            the line.

    Example:
        >>> read_conll(Path("train.conll")).layout  # doctest: +SKIP
        'CoNLL columns, IOB2'
    """
    source = printable(path.name)
    lines = re.split("\r\n|\n|\r", read_text(path, encoding))
    tabs = any("\t" in line.strip() for line in lines[:1000])
    rows = [(number, _cells(line, tabs)) for number, line in enumerate(lines, 1)]
    sizes = Counter(len(cells) for _, cells in rows[:5000] if cells and cells[0] != _DOCUMENT)
    if not sizes:
        raise DataError(f"Expected words with tags in {source}, got an empty file. Pass another.")
    columns = sizes.most_common(1)[0][0]
    separator = "tabs" if tabs else "spaces"
    if not 2 <= columns <= _MOST_COLUMNS:
        raise DataError(
            f"Expected a word and a tag in each line of {source}, got {columns} columns between {separator}. "
            "Write a word, a tab, and its tag, and an empty line after each sentence."
        )
    sentences, ragged, documents = _sentences(rows, columns)
    if ragged:
        _, cells = ragged[0]
        where = named_rows([number for number, _ in ragged], "line")
        raise DataError(
            f"Expected {columns} columns between {separator} in each line of {source}, got {len(cells)} in {where}. "
            "Fix these lines."
        )
    if not sentences:
        raise DataError(f"Expected words with tags in {source}, got none. Pass another file.")
    counted = all(
        [cells[0] for _, cells in sentence] == [str(n) for n in range(1, len(sentence) + 1)]
        for sentence in sentences
    )
    of_words, of_tags = int(counted and columns > 2), _tag_column(column, columns, source)
    return _annotated(source, sentences, of_words, of_tags, documents)


def _sentences(rows: Iterable[Any], columns: int) -> tuple[list[list[Any]], list[Any], int]:
    """`(sentences, ragged lines, number of documents)`."""
    sentences: list[list[Any]] = [[]]
    ragged, documents = [], 0
    for number, cells in rows:
        if not cells:
            sentences.append([])
        elif cells[0] == _DOCUMENT:
            documents += 1
            sentences.append([])
        elif len(cells) == columns:
            sentences[-1].append((number, cells))
        elif not cells[0].startswith("#"):
            ragged.append((number, cells))
    return [sentence for sentence in sentences if sentence], ragged, documents


def _tag_column(column: str | None, columns: int, source: str) -> int:
    if column is None:
        return columns - 1
    if not column.isdecimal() or not 1 <= int(column) <= columns:
        raise DataError(
            f"Expected the number of a column of {source}, 1 to {columns}, got {column!r}. Pass the one with the tags."
        )
    return int(column) - 1


def _annotated(
    source: str, sentences: Sequence[Any], of_words: int, of_tags: int, documents: int
) -> Annotated:
    tags = [[cells[of_tags] for _, cells in sentence] for sentence in sentences]
    lines = [[number for number, _ in sentence] for sentence in sentences]
    words = [[cells[of_words] for _, cells in sentence] for sentence in sentences]
    _check_cells(source, words, tags, lines)
    texts, spans, layout, notes = texts_of_tags(source, words, tags, lines)
    found = checked(source, texts, spans, [each[0] for each in lines], f"CoNLL columns, {layout}")
    found.notes = notes + found.notes
    if documents:
        found.notes.append(f"{source}: {documents} lines {_DOCUMENT} between documents, left out")
    return found


def _check_cells(source: str, words: Sequence[Any], tags: Sequence[Any], lines: Sequence[Any]) -> None:
    wrong = [
        (tag, line)
        for sentence, numbers in zip(tags, lines, strict=True)
        for tag, line in zip(sentence, numbers, strict=True)
        if not is_tag(tag)
    ]
    if wrong:
        where = named_rows([line for _, line in wrong], "line")
        raise DataError(
            f"Expected tags such as O, B-PER and I-PER in {source}, got {wrong[0][0]!r} in {where}. "
            "Fix them, or name the column of tags by its number with --label-column."
        )
    empty = [
        line
        for sentence, numbers in zip(words, lines, strict=True)
        for word, line in zip(sentence, numbers, strict=True)
        if not word
    ]
    if empty:
        raise DataError(
            f"Expected a word in each line of {source}, got a tag without one in {named_rows(empty, 'line')}. "
            "Remove these lines."
        )


def texts_of_tags(
    source: str, words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], lines: Sequence[Sequence[int]]
) -> tuple[list[str], list[list[tuple[int, int, str]]], str, list[str]]:
    """Texts and spans of sentences whose words have tags.

    Args:
        source: For messages.
        words, tags, lines: Of each sentence, one a word.

    Returns:
        `(texts, spans, scheme, notes)`.

    Raises:
        DataError: The tags fit no scheme, or one cannot stand where it does.

    Example:
        >>> texts_of_tags("a", [["In", "Rome"]], [["O", "B-LOC"]], [[1, 2]])[:3]
        (['In Rome'], [[(3, 7, 'LOC')]], 'IOB2')
    """
    scheme = find_scheme(tags)
    if scheme is None:
        # Which tag it is that does not fit: as IOB2, or as what ends each entity.
        letters = {tag[0] for sentence in tags for tag in sentence if tag != OUTSIDE}
        if letters <= {"B", "I"}:
            for sentence, numbers in zip(tags, lines, strict=True):
                entities_of(sentence, IOB2, lines=numbers, source=source)
        raise DataError(
            f"Expected tags of one scheme (IOB1, IOB2, IOBES, BILOU or BMES) in {source}, got the letters "
            f"{', '.join(sorted(letters))}. Write all in one."
        )
    texts, spans = [], []
    for sentence, given, numbers in zip(words, tags, lines, strict=True):
        places, at = [], 0
        for word in sentence:
            places.append((at, at + len(word)))
            at += len(word) + 1
        texts.append(" ".join(sentence))
        spans.append(
            [
                (places[first][0], places[last][1], kind)
                for first, last, kind in entities_of(given, scheme, lines=numbers, source=source)
            ]
        )
    notes = [] if scheme == IOB2 else [f"{source}: tags are {scheme}, converted to IOB2"]
    return texts, spans, scheme, notes
