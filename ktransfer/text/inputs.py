"""Find the texts of `ktransfer predict` in words, files and folders."""

import os
from collections.abc import Sequence
from pathlib import Path

from ktransfer.data.examples import printable
from ktransfer.data.inputs import Inputs, files_below, kinds_of, left_out
from ktransfer.data.pairs import Pair
from ktransfer.data.tables.file_bytes import TABLE_SUFFIXES, table_suffix
from ktransfer.data.tables.pair_cells import PAIR_CELLS
from ktransfer.data.tables.table import read_input_column
from ktransfer.data.tables.table_files import read_text
from ktransfer.errors import DataError
from ktransfer.text.modality import MODALITY

_LONGEST_PATH = 4096  # characters


def find_texts(inputs: Sequence[str], *, column: str | None = None, encoding: str | None = None) -> Inputs:
    """The texts that are given, in tables and files as well, and in folders of these at any depth.

    Args:
        inputs: Texts, paths of tables whose every row has one, of other files that are each one text, and of
            folders of tables and `.txt` files.
        column: Of tables, its name or number. Defaults to the customary one.
        encoding: Of files, as Python names it. Defaults to UTF-8.

    Returns:
        `Inputs`.

    Raises:
        DataError: A file cannot be read or has no texts, a folder has no table or `.txt` file, a text is empty,
            or a word is called as a file is and there is none.

    Example:
        >>> find_texts(["Free entry!"]).items
        ('Free entry!',)
    """
    items: list[str] = []
    notes: list[str] = []
    for given in inputs:
        is_path = len(given) < _LONGEST_PATH and "\0" not in given
        if is_path and os.path.isdir(given):
            found, others, junk = files_below(given, MODALITY.suffixes)
            notes += left_out(given, others, "neither tables nor .txt files")
            notes += left_out(given, junk, "left by other programs")
            if not found:
                raise DataError(
                    f"Expected tables or .txt files in the folder {printable(given)}, got "
                    f"{kinds_of([*others, *junk], ())}. Pass a folder that holds some, or other words."
                )
            before = len(items)
            items += [text for path in found for text in _texts(path, column, encoding)]
            notes.append(f"folder     {printable(given)}: {len(items) - before} texts in {len(found)} files")
        elif is_path:
            items += _texts(given, column, encoding)
        else:
            items.append(given)
    return Inputs(tuple(items), tuple(notes))


def find_pairs(inputs: Sequence[str], *, columns: Sequence[str] = (), encoding: str | None = None) -> Inputs:
    """The pairs of texts that are given: tables of them, folders of tables, and texts of which two are a pair.

    Args:
        inputs: Paths of tables with two columns of texts, folders of such tables, and texts, an even number one after
            the other.
        columns: Both columns of tables, by name or number. Defaults to none, the customary ones.
        encoding: Of files, as Python names it. Defaults to UTF-8.

    Returns:
        `Inputs`, whose items are `Pair`s.

    Raises:
        DataError: A table cannot be read or has no such columns, a side is empty, or a text is left without another.

    Example:
        >>> find_pairs(["A plane lands.", "A plane takes off."]).items
        (Pair(first='A plane lands.', second='A plane takes off.'),)
    """
    items: list[Pair] = []
    notes: list[str] = []
    waiting: list[str] = []

    def require_none(place: str) -> None:
        if waiting:
            raise DataError(
                f"Expected two texts for each pair, got {waiting[0][:60]!r} without another {place}. Pass both texts "
                "of a pair one after the other, or a table with both columns."
            )

    for given in inputs:
        is_path = len(given) < _LONGEST_PATH and "\0" not in given
        if is_path and os.path.isdir(given):
            require_none(f"before {printable(given)}")
            found, others, junk = files_below(given, TABLE_SUFFIXES)
            notes += left_out(given, others, "no tables")
            notes += left_out(given, junk, "left by other programs")
            if not found:
                raise DataError(
                    f"Expected tables of pairs in the folder {printable(given)}, got {kinds_of([*others, *junk], ())}. "
                    "Pass a folder that holds some, or two texts."
                )
            before = len(items)
            for path in found:
                items += _pairs_of_table(path, columns, encoding)
            notes.append(f"folder     {printable(given)}: {len(items) - before} pairs in {len(found)} files")
        elif is_path and (table_suffix(given) or (os.path.isfile(given) and not Path(given).suffix)):
            require_none(f"before {printable(given)}")
            items += _pairs_of_table(given, columns, encoding)
        elif is_path and os.path.isfile(given):
            raise DataError(
                f"Expected tables of pairs, got the file {printable(given)}, which is one text. Pass a table with both "
                "columns, or two texts."
            )
        elif not given.strip():
            raise DataError("Expected two texts for each pair, got an empty one. Pass some words.")
        else:
            waiting.append(given)
            if len(waiting) == 2:
                items.append(Pair(*waiting))
                waiting.clear()
    require_none("after it")
    return Inputs(tuple(items), tuple(notes))


def _pairs_of_table(path: str, columns: Sequence[str], encoding: str | None) -> tuple[Pair, ...]:
    return read_input_column(path, input_column=columns or None, encoding=encoding, kind=PAIR_CELLS)


def _texts(given: str, column: str | None, encoding: str | None) -> tuple[str, ...]:
    suffix = Path(given).suffix.lower()
    # A file without a suffix is a table, as it is in training.
    if table_suffix(given) or (given.strip() and not suffix and os.path.isfile(given)):
        return read_input_column(given, input_column=column, encoding=encoding)
    if suffix and os.path.isfile(given):
        return (read_text(given, encoding),)
    if given.split() == [given] and (suffix in MODALITY.suffixes or given.endswith(("/", os.sep))):
        raise DataError(
            f"Expected texts, or files and folders of them, got {printable(given)}, which does not exist. "
            "Check the path; a text of one word that is no file may have a space at its end."
        )
    if not given.strip():
        raise DataError("Expected a text, got an empty one. Pass some words.")
    return (given,)
