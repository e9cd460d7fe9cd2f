"""CSV, TSV and the like: which delimiter and which quotes a file has, and its rows."""

import csv
import io
import itertools
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ktransfer.data.examples import printable
from ktransfer.data.tables.columns import is_customary
from ktransfer.errors import DataError

_NAMED = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_SAMPLE = 1000  # rows that the delimiter is chosen by
_STATED = re.compile(r'"?sep=([^\w\s"]|\t)"?[ ]*(\r\n|\r|\n|\Z)', re.IGNORECASE)
_RULE = re.compile(r"\s*(:?-{2,}:?\s*)?")  # between the head and the rows of a Markdown table
_QUOTED = re.compile(r'"[^"]*+(?:""[^"]*+)*+"')
_ESCAPED = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)


@dataclass
class _Parsed:
    """The rows of a table under one delimiter, up to the first that does not fit."""

    delimiter: str
    records: list[list[str]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    wrong: tuple[int, str, str] | None = None  # row, what it has, how to fix it
    cut: bool = False  # whether there may be more rows

    @property
    def width(self) -> int:
        return len(self.records[0]) if self.records else 0


def read_delimited(
    content: str, path: Path, suffix: str = ".csv", *, least: int = 2
) -> tuple[list[list[str]], list[int]]:
    """The rows of a table in text.

    A first line `sep=;`, as Excel writes it, states the delimiter. Else it is the one by which all rows have
    the same number of cells; where there are several such, the one whose first row holds customary names, or
    that is not followed by a space as in prose.

    In CSV quotes enclose cells. With tabs or `|` a quote is a character as any other, unless the quotes of
    the file are those of a writer: each of them encloses a cell or is doubled in one, and the cells need it
    or all of their column have it.

    Args:
        content: Decoded.
        path: For messages.
        suffix: Of the file: in `.tsv` a tab that fits is the delimiter. Defaults to `.csv`.
        least: Columns that the table needs. Defaults to 2.

    Returns:
        `(records, rows)`: cells as text, and the row of each, blank ones counted.

    Raises:
        DataError: A row has another number of cells, a quote is not closed, or two delimiters fit alike.

    Example:
        >>> read_delimited("sep=;\\ntext;label\\nyes, I do;a\\n", Path("a.csv"))
        ([['text', 'label'], ['yes, I do', 'a']], [2, 3])
    """
    content = content.removesuffix("\x1a")  # the end of a file, to DOS
    if stated := _STATED.match(content):
        found = _parse(content[stated.end() :], stated[1])
        found.rows = [row + 1 for row in found.rows]
        if found.wrong:
            found.wrong = (found.wrong[0] + 1, *found.wrong[1:])
        return _accepted(found, path)
    order = ",;\t|" if suffix == ".csv" else "\t,;|"
    samples = [_parse(content, delimiter, _SAMPLE) for delimiter in order]
    fitting = [sample for sample in samples if not sample.wrong and sample.width > 1]
    fitting.sort(key=lambda sample: _evidence(sample, suffix), reverse=True)
    tied = [sample for sample in fitting if _evidence(sample, suffix) == _evidence(fitting[0], suffix)]
    if len(tied) > 1:
        first, second = (sample.delimiter for sample in tied[:2])
        raise DataError(
            f"Expected one delimiter in {printable(str(path))}, got a {_NAMED[first]} and a {_NAMED[second]} "
            f"that both separate every row. Put the line sep={first} or sep={second} first."
        )
    broken = []
    for sample in fitting:
        found = _parse(content, sample.delimiter) if sample.cut else sample
        if not found.wrong:
            return _accepted(found, path)
        broken.append(found)
    broken += [sample for sample in samples if sample.wrong and sample.width > 1]
    single = _parse(content, order[0])
    if broken and (least > 1 or single.wrong):
        # The delimiter that fits most rows was meant; of several the first is the likeliest.
        return _accepted(max(broken, key=lambda sample: len(sample.records)), path)
    return _accepted(single, path)


def _accepted(found: _Parsed, path: Path) -> tuple[list[list[str]], list[int]]:
    if found.wrong:
        row, received, fix = found.wrong
        raise DataError(f"Expected a table in {printable(str(path))}, got row {row}, {received}. {fix}")
    if len(found.records) > 1 and all(map(_RULE.fullmatch, found.records[1])):
        raise DataError(
            f"Expected a table in {printable(str(path))}, got one of Markdown. Write it as CSV or JSON lines."
        )
    return found.records, found.rows


def _evidence(sample: _Parsed, suffix: str) -> tuple[Any, ...]:
    """The evidence for a delimiter, the strongest first."""
    cells = [cell for record in sample.records for cell in record[1:] if cell.strip()]
    prose = sum(cell.startswith(" ") for cell in cells) > len(cells) / 2
    columns = range(sample.width)
    repeated = any(len({r[at].strip() for r in sample.records}) <= len(sample.records) / 2 for at in columns)
    names = sum(map(is_customary, sample.records[0]))
    # A cell that begins with a quote and ends without one is a piece of a quoted cell.
    pieces = any(cell[:1] == '"' and (len(cell) < 2 or cell[-1] != '"') for r in sample.records for cell in r)
    tab = sample.delimiter == "\t"
    return tab and suffix in (".tsv", ".tab"), names, not pieces, not prose, tab, repeated


def _parse(content: str, delimiter: str, most: int | None = None) -> _Parsed:
    """Rows by one delimiter, with the quotes that the file has."""
    quoted: dict[str, Any] = {"strict": True}
    single: dict[str, Any] = {"strict": True, "quotechar": "'"}
    if delimiter in "\t|":
        raw = _rows(content, delimiter, most, quoting=csv.QUOTE_NONE)
        if '"' not in content:
            return raw
        if not raw.wrong and not _quotes_cross_cells(raw.records):
            return _unquoted(raw)
        found = _rows(content, delimiter, most, **quoted)
        if found.wrong or found.width < 2:
            return raw if raw.wrong else _unquoted(raw)
        return found
    attempts: list[dict[str, Any]] = [quoted]
    if f"\\{delimiter}" in content:
        attempts.append({"strict": True, "escapechar": "\\"})
    if '\\"' in content:
        attempts.append({"strict": True, "escapechar": "\\", "doublequote": False})
    if f'{delimiter} "' in content:
        attempts.append({"strict": True, "skipinitialspace": True})
    if content.startswith("'") or f"{delimiter}'" in content:
        attempts.append(single)
    results: list[_Parsed] = []
    for options in attempts:
        found = _rows(content, delimiter, most, **options)
        if not found.wrong:
            if options is quoted and _all_in_single_quotes(found.records):
                undone = _rows(content, delimiter, most, **single)
                return found if undone.wrong else undone
            return found
        results.append(found)
    return results[0]


def _all_in_single_quotes(records: list[list[str]]) -> bool:
    """Whether a whole column is in single quotes, its name or not."""
    rows = records[1:]
    return bool(rows) and any(
        all(len(row[at]) > 1 and row[at][0] == row[at][-1] == "'" for row in rows)
        for at in range(len(records[0]))
    )


def _rows(content: str, delimiter: str, most: int | None, **options: Any) -> _Parsed:
    found, row = _Parsed(delimiter), 0
    limit = csv.field_size_limit(2**31 - 1)
    try:
        reader = csv.reader(io.StringIO(content, ""), delimiter=delimiter, **options)
        for row, record in enumerate(itertools.islice(reader, most), 1):
            if not any(cell.strip() for cell in record):
                continue
            if found.records and len(record) != found.width:
                received = f"{len(record)} cells where row {found.rows[0]} has {found.width}"
                name = _NAMED.get(delimiter, delimiter)
                fix = f"Quote a text that holds a {name}, or save as CSV or JSON lines."
                others = {len(other) for other in reader if any(other)} if len(found.records) == 1 else ()
                if others == {len(record)} and len(record) > 1:
                    received += ", and so has every other row"  # R leaves out the name of the row names
                    fix = "Name each column in the first row."
                found.wrong = (row, received, fix)
                break
            found.records.append(record)
            found.rows.append(row)
        found.cut = row == most
    except csv.Error as error:
        reason = "a quote that is never closed" if "end of data" in str(error) else f"a stray quote ({error})"
        found.wrong = (row + 1, reason, "Close it, or double it inside a quoted cell.")
    finally:
        csv.field_size_limit(limit)
    return found


def _quotes_cross_cells(records: list[list[str]]) -> bool:
    """Whether quotes enclose several cells of a row, in every row where a cell begins with one."""
    crossing = False
    for record in records:
        begun = sum(cell[:1] == '"' and (len(cell) < 2 or cell[-1] != '"') for cell in record)
        ended = sum(cell[-1:] == '"' and (len(cell) < 2 or cell[0] != '"') for cell in record)
        if begun != ended:
            return False
        crossing |= begun > 0 and not any(cell == '"' for cell in record)
    return crossing


def _unquoted(raw: _Parsed) -> _Parsed:
    """The rows with quotes undone where they are those of a writer, else as they are."""
    for enclosed, undo in (
        (_QUOTED, lambda cell: cell[1:-1].replace('""', '"')),
        (_ESCAPED, lambda cell: re.sub(r"\\(.)", r"\1", cell[1:-1], flags=re.DOTALL)),
    ):
        if _are_of_a_writer(raw.records, enclosed):
            records = [[undo(cell) if cell.startswith('"') else cell for cell in r] for r in raw.records]
            return replace(raw, records=records)
    return raw


def _are_of_a_writer(records: list[list[str]], enclosed: re.Pattern[str]) -> bool:
    width = len(records[0])
    quoted, bare, needed, commas = [False] * width, [False] * width, False, False
    for index, record in enumerate(records):
        for column, cell in enumerate(record):
            if '"' not in cell:
                commas |= "," in cell
                # The name of a column may lack quotes that its cells have.
                bare[column] |= bool(cell) and index > 0
                continue
            if not enclosed.fullmatch(cell):
                return False  # a writer encloses every cell that holds a quote
            quoted[column] = True
            needed |= '"' in cell[1:-1]
    whole = any(q and not b for q, b in zip(quoted, bare, strict=True))
    # Excel encloses cells that hold a comma.
    excel = not commas and all("," in cell for record in records for cell in record if cell[:1] == '"')
    return needed or whole or excel
