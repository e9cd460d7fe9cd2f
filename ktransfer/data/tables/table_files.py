"""Files of tables and texts: read, decoded and parsed to rows, or refused by what they are."""

import codecs
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ktransfer.data.examples import printable
from ktransfer.data.tables.delimited import read_delimited
from ktransfer.data.tables.file_bytes import named_rows, read_packed, require_table, table_suffix
from ktransfer.data.tables.json_tables import read_json_table
from ktransfer.errors import DataError
from ktransfer.security.safe_io import visible

_MOST_UNPACKED = 2**32  # bytes; a small Parquet file can be made to unpack to any size
_PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zip")
# Of how a text file begins that states its encoding; the longer marks first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_records(
    path: Path, encoding: str | None, *, least: int = 2
) -> tuple[list[str] | None, Sequence[Sequence[Any]], list[int]]:
    """The rows of a table.

    CSV, TSV, JSON and JSON lines may be packed (`.csv.gz`, `.bz2`, `.xz`, `.zip`). Files that end in none of
    `TABLE_SUFFIXES` are read as CSV or TSV, by what their rows hold (`read_delimited`, `read_json_table`).

    Args:
        path: The file.
        encoding: As Python names it; None takes UTF-8, or UTF-16 where the file begins with its mark.
        least: Columns that the table needs. Defaults to 2.

    Returns:
        `(names, records, rows)`: names of the columns, `None` where they may be in the first record; the cells
        of each row; and the row of each, as a spreadsheet or, for JSON, an editor counts: the first is 1.

    Raises:
        DataError: The file cannot be read, decoded or parsed, or has no rows or too few columns; the message
            names the row.

    Example:
        >>> read_records(Path("spam.jsonl"), None)[0]  # doctest: +SKIP
        ['text', 'label']
    """
    require_table(path)
    suffix = table_suffix(path)
    names: list[str] | None
    records: Sequence[Sequence[Any]]
    try:
        if suffix == ".parquet":
            names, records, rows = _read_parquet(path)
        else:
            content = read_text(path, encoding)
            while suffix.endswith(_PACKED_SUFFIXES):
                suffix = suffix.rpartition(".")[0]
            _refuse_others(content, path)
            if suffix in (".json", ".jsonl", ".ndjson"):
                names, records, rows = read_json_table(content, path, suffix)
            else:
                names = None
                records, rows = read_delimited(content, path, suffix, least=least)
    except OSError as error:
        raise DataError(
            f"Expected to read {printable(str(path))}, got {error.strerror or error}. Check the path."
        ) from error
    if names is not None and not names:
        raise DataError(f"Expected rows in {printable(str(path))}, got no row of data. Add some.")
    if names is None and (not records or len(records[0]) < least):
        raise DataError(
            f"Expected a column of examples and one of labels in {printable(str(path))}, got "
            f"{'one column' if records else 'nothing'}. Pass a table, CSV or TSV, with both; where another "
            "character parts the columns, put the line sep= with that character first."
        )
    return names, records, rows


def read_text(path: str | os.PathLike[str], encoding: str | None = None) -> str:
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
    content = read_packed(path)
    if encoding is None:
        encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        bad = [number for number, line in enumerate(content.split(b"\n"), 1) if not _decodes(line, encoding)]
        around = content[max(error.start - 10, 0) : error.start + 10].decode("latin-1")
        hint = "Save the file as UTF-8" if encoding == "utf-8-sig" else "Check the encoding"
        raise DataError(
            f"Expected {encoding.upper().removesuffix('-SIG')} in {printable(str(path))}, got the byte "
            f"0x{content[error.start]:02X} in {named_rows(bad, 'line')} ({around!r}). {hint}, or pass "
            "--encoding latin-1 if it was written so."
        ) from error
    except (LookupError, ValueError) as error:  # some encodings give no position
        raise DataError(
            f"Expected an encoding of text that Python knows, got {encoding!r}. Pass such as latin-1."
        ) from error
    if "\0" in text:
        raise _null(text, content, path)
    return text.removeprefix("\ufeff")


def _null(text: str, content: bytes, path: str | os.PathLike[str]) -> DataError:
    # UTF-16 without its mark decodes as UTF-8 where it is of Latin letters: every other byte is zero.
    sides = [content[start:2000:2].count(0) for start in (0, 1)]
    bad = [number for number, line in enumerate(text.split("\n"), 1) if "\0" in line]
    fix = "Remove them"
    if max(sides) > len(content[:2000]) / 4:
        order = "be" if sides[0] > sides[1] else "le"
        fix = f"It looks like UTF-16: pass --encoding utf-16-{order}"
    return DataError(
        f"Expected text in {printable(str(path))}, got NUL characters in {named_rows(bad, 'line')}. {fix}."
    )


def _refuse_others(content: str, path: Path) -> None:
    if re.match(r"__label__\S+ [^\t\n]*(\n|\Z)", content):
        raise DataError(
            f"Expected a table in {printable(str(path))}, got lines of fastText. "
            "Write the label and the text as two columns, with a tab between them."
        )
    if content[:200].lstrip().lower().startswith(("<!doctype html", "<html", "<?xml")):
        raise DataError(
            f"Expected a table in {printable(str(path))}, got a web page or XML. "
            "Download the file itself, or write it as CSV."
        )


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeError:
        return False
    return True


def _read_parquet(path: Path) -> tuple[list[str], list[tuple[Any, ...]], list[int]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"Expected the package pyarrow for {printable(str(path))}, got an environment without it. Run "
            '`pip install "ktransfer[parquet]"`.'
        ) from error
    try:
        facts = pyarrow.parquet.read_metadata(path)
        unpacked = sum(facts.row_group(group).total_byte_size for group in range(facts.num_row_groups))
        if max(unpacked, facts.num_rows * facts.num_columns) > _MOST_UNPACKED:
            raise ValueError(f"more than {_MOST_UNPACKED:,} bytes or values, unpacked")
        table = pyarrow.parquet.read_table(path)
        # The index that pandas writes along is no column of the data.
        kept = [at for at, name in enumerate(table.column_names) if not name.startswith("__index_level_")]
        names = [table.column_names[at] for at in kept]
        records = list(zip(*(table.column(at).to_pylist() for at in kept), strict=True))
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file has Arrow raise errors of many kinds, and dates out of range
        raise DataError(
            f"Expected a Parquet file, got {printable(str(path))} ({visible(str(error))[:300]}). Write it "
            "again."
        ) from error
    return names, records, list(range(1, len(records) + 1))
