"""Find the texts of `ktransfer predict` in words, files and folders."""

import os
from collections.abc import Sequence
from pathlib import Path

from ktransfer.data.examples import printable
from ktransfer.data.inputs import Inputs, files_below, kinds_of, left_out
from ktransfer.data.tables.file_bytes import table_suffix
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
