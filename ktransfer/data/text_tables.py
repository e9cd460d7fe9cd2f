"""A table of texts and labels in a file: CSV, TSV, JSON lines or Parquet."""

import codecs
import csv
import io
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ktransfer.data.examples import printable
from ktransfer.data.text_columns import TextColumns, find_column, has_header, has_text_header, pick_columns
from ktransfer.errors import DataError
from ktransfer.untrusted import visible

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet")

_MOST_UNPACKED = 2**32  # bytes; a small Parquet file can be made to unpack to any size
_NAMED = {",": "comma", ";": "semicolon", "\t": "tab"}


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
    names, records, rows = _records(path, encoding, least=2)
    wanted = (text_column, label_column)
    header = names is not None or has_header(records, wanted, labels, path)
    if names is None:
        names = [name.strip() if header else str(at) for at, name in enumerate(records[0], start=1)]
        records, rows = records[header:], rows[header:]
    text, label = pick_columns(names, records, wanted, path)
    return TextTable(
        [record[text] for record in records],
        [record[label] for record in records],
        rows,
        TextColumns(names[text], names[label], header=header, guessed=None in wanted),
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
    if names is None:
        header = has_text_header(records[0], text_column)
        names = [name.strip() if header else str(at) for at, name in enumerate(records[0], start=1)]
        records, rows = records[header:], rows[header:]
    text = 0 if len(names) == 1 else find_column(names, text_column, path)
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
    return [record[text] for record in records]


def _records(path, encoding, least):
    """`(names or None, records, rows)` of a table with at least so many columns."""
    reader = {".parquet": _read_parquet, ".jsonl": _read_json_lines, ".ndjson": _read_json_lines}
    try:
        names, records, rows = reader.get(path.suffix.lower(), _read_delimited)(path, encoding)
    except OSError as error:
        raise DataError(
            f"Expected to read {printable(str(path))}. Received: {error.strerror or error}. Check the path."
        ) from error
    if names is None and (not records or len(records[0]) < least):
        raise DataError(
            f"Expected a column of texts and one of labels in {printable(str(path))}. "
            f"Received: {'one column' if records else 'nothing'}. Pass a table, CSV or TSV, with both."
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
    content = Path(path).read_bytes()
    if encoding is None:
        marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding = "utf-16" if marked else "utf-8-sig"
    try:
        return content.decode(encoding)
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
    except UnicodeError:
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


def _read_json_lines(path, encoding):
    objects, rows = [], []
    # Not splitlines: it breaks at characters that JSON strings may hold.
    for row, line in enumerate(read_text(path, encoding).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
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
    failures, found = [], ([], [])
    for delimiter in delimiters:
        try:
            found = max(_parse(content, delimiter, path), found, key=lambda table: len((table[0] or [[]])[0]))
        except DataError as error:
            failures.append(error)
            continue
        if found[0] and len(found[0][0]) > 1:
            break
    # Of several delimiters the first is the likeliest.
    if failures and not (found[0] and len(found[0][0]) > 1):
        raise failures[0]
    return None, *found


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
    return records, rows


def _broken(path, row, received, mend):
    return DataError(f"Expected a table in {printable(str(path))}. Received: row {row}, {received}. {mend}")
