"""The targets of a table: a number a row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ktransfer.data.label_names import reads_as_missing
from ktransfer.data.tables.file_bytes import named_rows
from ktransfer.data.tables.label_sets import is_empty
from ktransfer.errors import DataError
from ktransfer.security.safe_io import visible

if TYPE_CHECKING:
    from ktransfer.data.tables.table import Table

_LEAST = 2  # rows to train on
_FIX = "Correct or remove such rows, or pass another --label-column."


def read_targets(table: Table) -> tuple[float, ...]:
    """The target of each row.

    Args:
        table: A table with one label column.

    Raises:
        DataError: A row lacks a number, or has one that is NaN or infinite; the message names the rows.

    Example:
        >>> read_targets(read_table("prices.csv"))[:2]  # doctest: +SKIP
        (869500.0, 865200.0)
    """
    found: list[float] = []
    wrong: dict[str, list[tuple[Any, Any]]] = {}
    for cell, row in zip(table.labels, table.rows, strict=True):
        value = _number(cell)
        kind = "" if isinstance(value, float) else value
        if kind:
            wrong.setdefault(str(kind), []).append((cell, row))
        found.append(value if isinstance(value, float) else math.nan)
    for kind, pairs in wrong.items():
        shown = "" if kind == "no value" else f" such as {visible(str(pairs[0][0]))[:40]!r}"
        where = named_rows([row for _, row in pairs], "row")
        raise DataError(
            f"Expected a number in every row of column {table.columns.label!r} of {table.source}, got {kind}{shown} in "
            f"{where}. {_FIX}"
        )
    return tuple(found)


def _number(cell: object) -> float | str:
    """The number of a cell, or what it is instead."""
    if is_empty(cell) or (isinstance(cell, str) and reads_as_missing(cell.strip())):
        return "no value"
    if isinstance(cell, bool):
        return "true or false"
    if not isinstance(cell, str | int | float | Decimal):
        return "a list or an object"
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        return "text"
    if isinstance(cell, str) and "_" in cell:  # Python reads 1_000 as a number, a spreadsheet does not
        return "text"
    if not math.isfinite(value):
        return "an infinite value"
    return value


def require_targets(targets: Sequence[float], rows: Sequence[int | str], source: str) -> None:
    """Refuse training targets of which nothing can be learned: one row, one value, or the number of each row.

    Args:
        targets: Of the training table.
        rows: The row of each.
        source: The column and its file, for messages.

    Raises:
        DataError: They are such; the message says how.

    Example:
        >>> require_targets([3.5, 1.0], [2, 3], "column 'price' of houses.csv")
    """
    if len(targets) < _LEAST:
        where = f" in {named_rows(list(rows), 'row')}" if rows else ""
        raise DataError(
            f"Expected at least {_LEAST} numbers in {source}, got {len(targets)}{where}. Add rows to train on."
        )
    if len(set(targets)) == 1:
        raise DataError(
            f"Expected numbers that differ in {source}, got {targets[0]:.10g} in all {len(targets):,} rows. Pass "
            "another --label-column."
        )
    steps = {after - before for before, after in itertools.pairwise(targets)}
    if len(targets) > _LEAST and steps == {1.0} and all(value.is_integer() for value in targets):
        raise DataError(
            f"Expected a quantity in {source}, got numbers that count the rows, from {targets[0]:.0f} in row {rows[0]} "
            f"to {targets[-1]:.0f} in row {rows[-1]}. Pass the column of the target as --label-column."
        )


def target_notes(targets: Sequence[float], rows: Sequence[int | str], source: str) -> list[str]:
    """Lines on training targets that may be ids: whole numbers that rise from row to row, none of them twice.

    Example:
        >>> target_notes([1001.0, 1005.0, 1009.0, 1010.0], [2, 3, 4, 5], "column 'no' of a.csv")
        ["column 'no' of a.csv rises from row to row, 1001 in row 2 to 1010 in row 5, as ids do; is it the target?"]
    """
    rising = all(before < after for before, after in itertools.pairwise(targets))
    if len(targets) > 3 and rising and all(value.is_integer() for value in targets):
        return [
            f"{source} rises from row to row, {targets[0]:.0f} in row {rows[0]} to {targets[-1]:.0f} in row "
            f"{rows[-1]}, as ids do; is it the target?"
        ]
    return []
