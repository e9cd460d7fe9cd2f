"""A table of texts and labels in a file: CSV, TSV, JSON lines or Parquet, and which columns hold them."""

import codecs
import csv
import io
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ktransfer.data.examples import printable
from ktransfer.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet")

# What columns are customarily called, in any case.
_TEXT_NAMES = {"text", "sentence", "message", "utterance", "content", "review", "tweet", "sms"}
_LABEL_NAMES = {"label", "labels", "class", "category", "target", "intent", "sentiment", "topic", "y"}
_NAMED = {",": "comma", ";": "semicolon", "\t": "tab"}


@dataclass(frozen=True)
class TextColumns:
    """Which columns of a table hold the texts and the labels.

    Attributes:
        text, label: Names; in a file without a header `"1"` is the first column.
        header: Whether the first row held the names.
        guessed: Whether one of the two was not given.

    Example:
        >>> TextColumns("text", "label", header=True, guessed=True).text
        'text'
    """

    text: str
    label: str
    header: bool
    guessed: bool


@dataclass(frozen=True)
class TextTable:
    """The texts and labels of a table, as they stand there.

    Attributes:
        texts, labels: Values of any type that the format has; None where a JSON row has no such key.
        rows: The row of each, as a spreadsheet or, for JSON, an editor counts: the first is 1.
        columns: Where they stood.
    """

    texts: list
    labels: list
    rows: list[int]
    columns: TextColumns


def read_table(
    path: str | os.PathLike,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    encoding: str | None = None,
    labels: Collection[str] = (),
) -> TextTable:
    """Read the text and the label column of a table.

    Files that end in neither of `TABLE_SUFFIXES` are read as CSV or TSV, by what their first line holds. In
    TSV a quote is a character as any other, as the format has it; in CSV it has to be closed. Columns that
    are not given are guessed where there is one guess only: by their customary names, or, of two columns, the
    one of fewer different values holds the labels. The first row is a header where it holds a name given or
    customary, or a label that never comes again.

    Args:
        path: The file.
        text_column, label_column: Name of a column, or its number from 1 on.
        encoding: As Python names it; None takes UTF-8, or UTF-16 where the file begins with its mark.
        labels: Labels known from another file; a first row with one of them is no header.

    Returns:
        `TextTable`, not yet checked for missing values.

    Raises:
        DataError: The file cannot be read, decoded or parsed, or the columns are not there or not clear; the
            message names the row.

    Example:
        >>> read_table("spam.tsv").columns  # doctest: +SKIP
        TextColumns(text='2', label='1', header=False, guessed=True)
    """
    path = Path(path).expanduser()
    reader = {".parquet": _read_parquet, ".jsonl": _read_json_lines, ".ndjson": _read_json_lines}
    try:
        names, records, rows = reader.get(path.suffix.lower(), _read_delimited)(path, encoding)
    except OSError as error:
        raise DataError(
            f"Expected to read {printable(str(path))}. Received: {error.strerror or error}. Check the path."
        ) from error
    wanted = (text_column, label_column)
    header = names is not None or _has_header(records, wanted, labels, path)
    if names is None:
        names = [name.strip() if header else str(at) for at, name in enumerate(records[0], start=1)]
        records, rows = records[header:], rows[header:]
    text, label = _pick(names, records, wanted, path)
    return TextTable(
        [record[text] for record in records],
        [record[label] for record in records],
        rows,
        TextColumns(names[text], names[label], header=header, guessed=None in wanted),
    )


def read_text(path: str | os.PathLike, encoding: str | None = None) -> str:
    """The content of a text file.

    Args:
        path: The file.
        encoding: As Python names it; None takes UTF-8, or UTF-16 where the file begins with its mark.

    Raises:
        DataError: It is in another encoding; the message names the lines.
        OSError: It cannot be read.

    Example:
        >>> read_text("review.txt")  # doctest: +SKIP
        'A film to remember.'
    """
    content = Path(path).read_bytes()
    if encoding is None:
        marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding = "utf-16" if marked else "utf-8-sig"
    try:
        return content.decode(encoding)
    except LookupError as error:
        raise DataError(
            f"Expected an encoding that Python knows. Received: {encoding!r}. Pass such as latin-1."
        ) from error
    except UnicodeDecodeError as error:
        bad = [number for number, line in enumerate(content.split(b"\n"), 1) if not _decodes(line, encoding)]
        around = content[max(error.start - 10, 0) : error.start + 10].decode("latin-1")
        hint = "Save the file as UTF-8" if encoding == "utf-8-sig" else "Check the encoding"
        raise DataError(
            f"Expected {encoding.upper().removesuffix('-SIG')} in {printable(str(path))}. Received: the byte "
            f"0x{content[error.start]:02X} in {named_rows(bad, 'line')} ({around!r}). "
            f"{hint}, or pass --encoding latin-1 if it was written so."
        ) from error


def named_rows(rows: Sequence[int], noun: str = "row") -> str:
    """The first few of `rows` and how many there are more.

    Example:
        >>> named_rows([3, 17, 20, 21, 40])
        'rows 3, 17, 20 and 2 more'
    """
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return f"{noun}{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:3]))}{more}"


def _decodes(line, encoding):
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _read_parquet(path, encoding):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"Expected the package pyarrow for {printable(str(path))}. Received: an environment without it. "
            'Run `pip install "ktransfer[parquet]"`.'
        ) from error
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(
            f"Expected a Parquet file. Received: {printable(str(path))} ({error}). Write it again."
        ) from error
    # The index that pandas writes along is no column of the data.
    names = [name for name in table.column_names if not name.startswith("__index_level_")]
    records = list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
    return names, records, list(range(1, len(records) + 1))


def _read_json_lines(path, encoding):
    objects, rows = [], []
    # Not splitlines: it breaks at characters that JSON strings may hold.
    for row, line in enumerate(read_text(path, encoding).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise _broken(path, row, f"which is no JSON ({error})", "Mend that line.") from error
        if not isinstance(value, dict):
            raise _broken(path, row, f"a JSON {type(value).__name__}", "Write one object a line.")
        objects.append(value)
        rows.append(row)
    names = list(dict.fromkeys(name for value in objects for name in value))
    return names, [[value.get(name) for name in names] for value in objects], rows


def _read_delimited(path, encoding):
    content = read_text(path, encoding)
    delimiters = {".csv": ",;\t", ".tsv": "\t", ".tab": "\t"}.get(path.suffix.lower(), "\t,;")
    failures = []
    for delimiter in delimiters:
        try:
            return None, *_parse(content, delimiter, path)
        except DataError as error:
            failures.append(error)
    # Of several delimiters the first is the likeliest.
    raise failures[0]


def _parse(content, delimiter, path):
    options = {"quoting": csv.QUOTE_NONE} if delimiter == "\t" else {"strict": True}
    limit = csv.field_size_limit(2**31 - 1)
    records, rows, row = [], [], 0
    try:
        for row, record in enumerate(csv.reader(io.StringIO(content, ""), delimiter=delimiter, **options), 1):
            if not any(cell.strip() for cell in record):
                continue
            records.append(record)
            rows.append(row)
            if len(record) != len(records[0]):
                received = f"{len(record)} cells where row {rows[0]} has {len(records[0])}"
                mend = f"Quote a text that holds a {_NAMED[delimiter]}, or save as CSV or JSON lines."
                raise _broken(path, row, received, mend)
    except csv.Error as error:
        reason = "a quote that is never closed" if "end of data" in str(error) else f"a stray quote ({error})"
        raise _broken(path, row + 1, reason, "Close it, or double it inside a quoted cell.") from error
    finally:
        csv.field_size_limit(limit)
    if not records or len(records[0]) < 2:
        raise DataError(
            f"Expected a column of texts and one of labels in {printable(str(path))}. "
            f"Received: {'one column' if records else 'nothing'}. Pass a table, CSV or TSV, with both."
        )
    return records, rows


def _broken(path, row, received, mend):
    return DataError(f"Expected a table in {printable(str(path))}. Received: row {row}, {received}. {mend}")


def _has_header(records, wanted, known, path):
    first, rest = [cell.strip() for cell in records[0]], records[1:]
    if any(name in first and not name.isdecimal() for name in wanted if name is not None):
        return True
    customary = any(name.casefold() in _TEXT_NAMES | _LABEL_NAMES for name in first)
    numbers = [str(at + 1) for at in range(len(first))]
    _, label = _pick(first if customary else numbers, rest, wanted, path, shown=first)
    return first[label] not in known and all(record[label].strip() != first[label] for record in rest)


def _pick(names, records, wanted, path, shown=None):
    """Positions of the text and the label column."""
    text, label = (None if name is None else _find(names, str(name), path, shown) for name in wanted)
    if text is None:
        text = _customary(names, _TEXT_NAMES, label)
    if label is None:
        label = _customary(names, _LABEL_NAMES, text)
    if len(names) == 2 and (text is None) != (label is None):
        text, label = (1 - label, label) if text is None else (text, 1 - text)
    elif len(names) == 2 and text is None:
        # Labels repeat themselves, texts hardly.
        different = [len({str(record[column]).strip() for record in records}) for column in (0, 1)]
        if different[0] != different[1] and min(different) <= len(records) / 2:
            label = different.index(min(different))
            text = 1 - label
    if text is None or label is None or text == label:
        raise DataError(
            f"Expected to know the columns of texts and of labels in {printable(str(path))}. "
            f"Received: the columns {', '.join(map(repr, shown or names))}. "
            "Pass --text-column and --label-column."
        )
    return text, label


def _find(names, name, path, shown):
    if names.count(name) == 1:
        return names.index(name)
    if name.isdecimal() and name not in names and 1 <= int(name) <= len(names):
        return int(name) - 1
    raise DataError(
        f"Expected one column {name!r} in {printable(str(path))}. "
        f"Received: the columns {', '.join(map(repr, shown or names))}. Pass one of them, or its number."
    )


def _customary(names, customary, other):
    found = [at for at, name in enumerate(names) if name.casefold() in customary and at != other]
    return found[0] if len(found) == 1 else None
