"""A table of texts and labels in a file: CSV, TSV, JSON, JSON lines or Parquet."""

import codecs
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ktransfer.data.examples import printable
from ktransfer.data.tables.column_contents import require_texts
from ktransfer.data.tables.delimited import read_delimited
from ktransfer.data.tables.file_bytes import (
    TABLE_SUFFIXES,
    named_rows,
    read_packed,
    require_table,
    table_suffix,
)
from ktransfer.data.tables.json_tables import read_json_table
from ktransfer.data.tables.text_columns import (
    TextColumns,
    find_column,
    has_header,
    has_text_header,
    pick_columns,
    references,
)
from ktransfer.errors import DataError
from ktransfer.security.safe_io import visible

__all__ = [
    "TABLE_SUFFIXES",
    "TextTable",
    "named_rows",
    "read_table",
    "read_text",
    "read_text_column",
    "table_suffix",
]

_MOST_UNPACKED = 2**32  # bytes; a small Parquet file can be made to unpack to any size
_PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zip")
# Of how a text file begins that states its encoding; the longer marks first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


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

    CSV, TSV, JSON and JSON lines may be packed (`.csv.gz`, `.bz2`, `.xz`, `.zip`). Files that end in none of
    `TABLE_SUFFIXES` are read as CSV or TSV, by what their rows hold (`read_delimited`, `read_json_table`).
    Columns that are not given are guessed where there is one guess only: by their customary names, or, of two
    columns, the one of fewer different values holds the labels; a column that numbers the rows is neither.
    The first row is a header where it holds a name given or customary, or a label that never comes again.

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
    names, records, rows = _records(path, encoding, least=2)
    wanted = (text_column, label_column)
    header = names is not None or has_header(records, wanted, labels, path)
    if names is None:
        names = [name.strip() if header else str(at) for at, name in enumerate(records[0], start=1)]
        records, rows = records[header:], rows[header:]
    text, label = pick_columns(names, records, wanted, path)
    found = references(names)
    return TextTable(
        [record[text] for record in records],
        [record[label] for record in records],
        rows,
        TextColumns(
            found[text],
            found[label],
            header=header,
            guessed=None in wanted,
            others=tuple(name for at, name in enumerate(found) if at not in (text, label)),
        ),
    )


def read_text_column(
    path: str | os.PathLike, *, text_column: str | None = None, encoding: str | None = None
) -> list[str]:
    """Read the texts of a table that need not have labels.

    Args:
        path: The file, as in `read_table`.
        text_column: Name of a column, or its number from 1 on; where there is one column only it is that.
        encoding: As in `read_table`.

    Raises:
        DataError: As in `read_table`, or a row has no text.

    Example:
        >>> read_text_column("new.csv", text_column="text")  # doctest: +SKIP
        ['Free entry!', 'See you at six.']
    """
    path = Path(path).expanduser()
    names, records, rows = _records(path, encoding, least=1)
    shown = None
    if names is None:
        header = has_text_header(records[0], text_column)
        shown = [cell.strip() for cell in records[0]]
        names = [name.strip() if header else str(at) for at, name in enumerate(records[0], start=1)]
        records, rows = records[header:], rows[header:]
    text = 0 if len(names) == 1 else find_column(names, text_column, path, shown, records)
    wrong = [
        row
        for row, record in zip(rows, records, strict=True)
        if not isinstance(record[text], str) or not record[text].strip()
    ]
    if wrong or not records:
        received = f"none in {named_rows(wrong)}" if wrong else "no row"
        raise DataError(
            f"Expected a text in every row of {printable(str(path))}. Received: {received}. Remove such rows."
        )
    unfit = [row for row, record in zip(rows, records, strict=True) if not _is_fit(record[text])]
    if unfit:
        raise DataError(
            f"Expected Unicode text in {printable(str(path))}. Received: half of a surrogate pair, or a NUL "
            f"character, in {named_rows(unfit)}. Fix or remove it."
        )
    source = f"column {references(names)[text]!r} of {printable(str(path))}"
    require_texts([record[text] for record in records], rows, source)
    return [record[text] for record in records]


def _records(path, encoding, least):
    """`(names or None, records, rows)` of a table with at least so many columns."""
    require_table(path)
    suffix = table_suffix(path)
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
                names, *table = None, *read_delimited(content, path, suffix, least=least)
                records, rows = table
    except OSError as error:
        raise DataError(
            f"Expected to read {printable(str(path))}. Received: {error.strerror or error}. Check the path."
        ) from error
    if names is not None and not names:
        raise DataError(f"Expected texts in {printable(str(path))}. Received: no row of data. Add some.")
    if names is None and (not records or len(records[0]) < least):
        raise DataError(
            f"Expected a column of texts and one of labels in {printable(str(path))}. "
            f"Received: {'one column' if records else 'nothing'}. Pass a table, CSV or TSV, with both; where "
            "another character parts the columns, put the line sep= with that character first."
        )
    return names, records, rows


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
            f"Expected {encoding.upper().removesuffix('-SIG')} in {printable(str(path))}. Received: the byte "
            f"0x{content[error.start]:02X} in {named_rows(bad, 'line')} ({around!r}). "
            f"{hint}, or pass --encoding latin-1 if it was written so."
        ) from error
    except (LookupError, ValueError) as error:  # of some encodings no position is told
        raise DataError(
            f"Expected an encoding of text that Python knows. Received: {encoding!r}. Pass such as latin-1."
        ) from error
    if "\0" in text:
        raise _null(text, content, path)
    return text.removeprefix("\ufeff")


def _null(text, content, path):
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


def _refuse_others(content, path):
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


def _is_fit(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _decodes(line, encoding):
    try:
        line.decode(encoding)
    except UnicodeError:
        return False
    return True


def _read_parquet(path):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"Expected the package pyarrow for {printable(str(path))}. Received: an environment without it. "
            'Run `pip install "ktransfer[parquet]"`.'
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
            f"Expected a Parquet file. Received: {printable(str(path))} ({visible(str(error))[:300]}). "
            "Write it again."
        ) from error
    return names, records, list(range(1, len(records) + 1))
