"""A table of examples and labels in a file: its columns, as they stand there."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ktransfer.data.examples import printable
from ktransfer.data.split_names import is_split_column
from ktransfer.data.tables.columns import (
    Columns,
    InputKind,
    Wanted,
    find_column,
    has_header,
    has_input_header,
    is_label_name,
    join_references,
    pick_columns,
    references,
)
from ktransfer.data.tables.file_bytes import named_rows
from ktransfer.data.tables.table_files import read_records
from ktransfer.data.tables.text_cells import TEXT_CELLS
from ktransfer.errors import DataError


@dataclass(frozen=True)
class Table:
    """The examples, labels and groups of a table, as they stand there.

    Attributes:
        inputs: Values of any type that the format has; None where a JSON row has no such key.
        labels: The same; of several label columns a tuple of values for each row.
        rows: The row of each, as a spreadsheet or, for JSON, an editor counts: the first is 1. Of several files
            the name of the file as well.
        columns: Where they stood.
        source: The file, or the folder of several, for messages.
        label_names: The names of several label columns; none where one column holds the labels.
        is_clear: Whether it can only hold labels: a column called so, several of 0 and 1, or the only other one.
            Defaults to `True`.
        groups: Values of the group column. Defaults to `None`: it was not asked for.
        splits: Name and values of the column that is called as columns of splits are. Defaults to `None`.
        kind: What the inputs are. Defaults to texts.
    """

    inputs: list[Any]
    labels: list[Any]
    rows: Sequence[int | str]
    columns: Columns
    source: str
    label_names: tuple[str, ...] = ()
    is_clear: bool = True
    groups: list[Any] | None = None
    splits: tuple[str, list[Any]] | None = None
    kind: InputKind = TEXT_CELLS


def read_table(
    path: str | os.PathLike[str],
    *,
    input_column: str | Sequence[str] | None = None,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    encoding: str | None = None,
    labels: Collection[str] = (),
    kind: InputKind = TEXT_CELLS,
) -> Table:
    """Read the columns of a table that hold the examples, the labels and the groups.

    Files are read as by `read_records`. Columns of examples and labels that are not given are guessed where
    there is one guess only: by their customary names; names of image files by their suffixes; several columns
    of 0 and 1 next to the examples are labels; or, of two columns, the one of fewer different values holds the
    labels. A column that numbers the rows is neither. The first row is a header where it holds a name given or
    customary, or a label that never comes again.

    Args:
        path: The file.
        input_column, group_column: Name of a column, or its number from 1 on; of pairs two, as a sequence or with a
            comma between them.
        label_column: The same; several, one a label, as a sequence or with commas between them.
        encoding: As Python names it; None takes UTF-8, or UTF-16 where the file begins with its mark.
        labels: Labels known from another file; a first row with one of them is no header.
        kind: What the examples are. Defaults to texts.

    Returns:
        `Table`, not yet checked for missing values.

    Raises:
        DataError: The file cannot be read, decoded or parsed, or the columns are not there or not clear; the
            message names the row.

    Example:
        >>> read_table("spam.tsv").columns  # doctest: +SKIP
        Columns(input='2', label='1', header=False, guessed=True, ...)
    """
    path = Path(path).expanduser()
    names, records, rows = read_records(path, encoding)
    wanted = Wanted(input_column, label_column, group_column)
    header = names is not None or _has_header(records, wanted, labels, path, kind)
    if names is None:
        names = [name.strip() if header else str(at) for at, name in enumerate(records[0], start=1)]
        records, rows = records[header:], rows[header:]
    kind = kind.fitting(names, records, wanted)
    found = pick_columns(names, records, wanted, path, kind)
    if len(found.labels) == 1:
        cells = [record[found.labels[0]] for record in records]
    else:
        cells = [tuple(record[at] for at in found.labels) for record in records]
    called = references(names)
    used = {*found.inputs, *found.labels, found.group}
    splits = [at for at, name in enumerate(names) if header and is_split_column(name)]
    split = splits[0] if len(splits) == 1 and splits[0] not in (*found.inputs, *found.labels) else None
    return Table(
        _cells(records, found.inputs),
        cells,
        rows,
        Columns(
            called[found.inputs[0]]
            if kind.width == 1
            else join_references(called[at] for at in found.inputs),
            join_references(called[at] for at in found.labels),
            header=header,
            guessed=None in (input_column, label_column),
            group=None if found.group is None else called[found.group],
            option=kind.option,
            noun=kind.noun,
            others=tuple(name for at, name in enumerate(called) if at not in used),
        ),
        printable(str(path)),
        label_names=tuple(names[at] for at in found.labels) if len(found.labels) > 1 else (),
        is_clear=len(found.labels) > 1 or len(names) == 2 or is_label_name(names[found.labels[0]]),
        groups=None if found.group is None else [record[found.group] for record in records],
        splits=None if split is None else (names[split], [record[split] for record in records]),
        kind=kind,
    )


def _has_header(
    records: Sequence[Sequence[str]], wanted: Wanted, known: Collection[str], path: Path, kind: InputKind
) -> bool:
    first = [cell.strip() for cell in records[0]]
    return has_header(records, wanted, known, path, kind.fitting(first, records[1:], wanted))


def _cells(records: Sequence[Sequence[Any]], places: Sequence[int]) -> list[Any]:
    """The cell of each row, or a tuple of cells for inputs in several columns."""
    if len(places) == 1:
        return [record[places[0]] for record in records]
    return [tuple(record[at] for at in places) for record in records]


def joined(tables: Sequence[Table], paths: Sequence[Path]) -> Table:
    """The shards of one table as one; rows are named with their files.

    Args:
        tables: Of the same columns.
        paths: The file of each.
    """
    if len(tables) == 1:
        return tables[0]
    [first, *_] = tables

    def together(attribute: str) -> list[Any]:
        return [value for table in tables for value in getattr(table, attribute)]

    return replace(
        first,
        inputs=together("inputs"),
        labels=together("labels"),
        rows=[f"{path.name}:{row}" for table, path in zip(tables, paths, strict=True) for row in table.rows],
        source=printable(str(paths[0].parent)),
        groups=None if first.groups is None else together("groups"),
        splits=None,
    )


def read_input_column(
    path: str | os.PathLike[str],
    *,
    input_column: str | Sequence[str] | None = None,
    encoding: str | None = None,
    kind: InputKind = TEXT_CELLS,
) -> tuple[Any, ...]:
    """Read the examples of a table that need not have labels.

    Args:
        path: The file, as in `read_table`.
        input_column: Name of a column, or its number from 1 on; where there is one column only it is that. Of pairs
            two of them.
        encoding: As in `read_table`.
        kind: What the examples are. Defaults to texts.

    Raises:
        DataError: As in `read_table`, or a row has no example.

    Example:
        >>> read_input_column("new.csv", input_column="text")  # doctest: +SKIP
        ('Free entry!', 'See you at six.')
    """
    path = Path(path).expanduser()
    names, records, rows = read_records(path, encoding, least=kind.width)
    given: list[str | None] = [None] if input_column is None else [*kind.column_names(input_column)]
    shown = None
    if names is None:
        header = any(has_input_header(records[0], name, kind) for name in given)
        shown = [cell.strip() for cell in records[0]]
        if input_column is None and kind.find is not None:
            header = kind.find(shown, records[1:]) is not None
        names = [name.strip() if header else str(at) for at, name in enumerate(records[0], start=1)]
        records, rows = records[header:], rows[header:]
    if len(names) == kind.width:
        places: tuple[int, ...] = tuple(range(kind.width))
        if kind.width > 1 and input_column is not None and all(name in names for name in given):
            places = tuple(names.index(str(name)) for name in given)
    elif input_column is None and kind.find is not None and (found := kind.find(names, records)):
        places = found
    elif input_column is None and kind.width > 1:
        raise DataError(
            f"Expected to know the columns of {kind.noun} in {printable(str(path))}, got "
            f"{', '.join(map(repr, names))}. Pass {kind.flag}."
        )
    else:
        places = tuple(find_column(names, name, path, kind, shown, records) for name in given)
    wrong = [
        row
        for row, record in zip(rows, records, strict=True)
        if not all(isinstance(record[at], str) and record[at].strip() for at in places)
    ]
    if wrong or not records:
        received = f"none in {named_rows(wrong)}" if wrong else "no row"
        raise DataError(
            f"Expected {kind.noun} in every row of {printable(str(path))}, got {received}. Remove such rows."
        )
    called = references(names)
    source = f"column {join_references(called[at] for at in places)!r} of {printable(str(path))}"
    if kind.width == 1:
        source = f"column {called[places[0]]!r} of {printable(str(path))}"
    return kind.read(_cells(records, places), rows, source, path.parent)[0]
