"""The labels of a table: one class a row, or a set of labels."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from ktransfer.data.label_names import class_order, is_number, label_key, label_name, reads_as_missing
from ktransfer.data.tables.column_contents import holds_no_labels, require_classes
from ktransfer.data.tables.columns import split_references
from ktransfer.data.tables.file_bytes import named_rows
from ktransfer.data.tables.label_sets import (
    LIST,
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    alike_names,
    are_vectors,
    find_separator,
    hot_value,
    is_empty,
    split_cell,
)
from ktransfer.data.tables.table import Table
from ktransfer.data.tables.targets import read_targets
from ktransfer.errors import DataError, listed
from ktransfer.security.safe_io import is_line, visible

_LONGEST_NAME = 200  # characters; what is longer is a text
_MANY = 1_000  # labels from which on a note is printed
_RARE = 10  # rows, fewer of which make a label rare
_KNOWN = 0.9  # share of the cells that makes them single labels, where classes are known


@dataclass(frozen=True)
class LabelPlan:
    """The way labels of a table are read: decided on the training table, used for the others.

    Args:
        task: `"single_label"`, `"multi_label"` or `"regression"`.
        separator: As in `split_cell`.
        note: A line on what was guessed, with `{labels}` for how many there are. Defaults to none.
        target: Of regression the name of the number. Defaults to none.
    """

    task: str
    separator: str | None = None
    note: str = ""
    target: str = ""


def plan_labels(
    table: Table, task: str | None = None, separator: str | None = None, known: Collection[str] = ()
) -> LabelPlan:
    """Decide how the labels of a table are read.

    Args:
        table: The training table.
        task: `"single_label"` takes each cell as one class, `"multi_label"` as a set of labels, `"regression"` as a
            number; `None` guesses, and never takes numbers as such.
        separator: As in `split_cell`; `None` guesses.
        known: The classes, where they are known; cells that are such are no lists.

    Raises:
        DataError: What is asked for does not fit the table.

    Example:
        >>> plan_labels(read_table("tags.csv")).separator  # doctest: +SKIP
        '|'
    """
    check_task(task)
    if separator is not None and (not isinstance(separator, str) or not separator):
        raise DataError(
            f"Expected the text between two labels as label_separator, got {separator!r}. Pass such as '|'."
        )
    if task == REGRESSION:
        if table.label_names or separator is not None:
            received = (
                f"{len(table.label_names)} label columns"
                if table.label_names
                else f"label_separator={separator!r}"
            )
            raise DataError(
                f"Expected one column of numbers for task='regression', got {received}. Pass one --label-column, and "
                "no --label-separator."
            )
        name = label_name(split_references(table.columns.label)[0])
        return LabelPlan(REGRESSION, target=name if is_line(name) else "target")
    if table.label_names:
        if separator is not None:
            raise DataError(
                f"Expected one label column for label_separator={separator!r}, got {len(table.label_names)} "
                "columns. Leave it out: columns of 0 and 1 need none."
            )
        return _plan_columns(table, task)
    if separator is not None:
        if task == SINGLE_LABEL and separator != LIST:
            raise DataError(
                f"Expected task='multi_label' with label_separator={separator!r}, got task={task!r}. "
                "Leave one of them out."
            )
        return LabelPlan(task or MULTI_LABEL, separator)
    if task == SINGLE_LABEL:
        by_type = any(isinstance(cell, list | tuple) for cell in table.labels)
        return LabelPlan(SINGLE_LABEL, LIST if by_type else None)
    found = None if task is None and _are_single(table.labels, known) else find_separator(table.labels)
    if found is None:
        note = "no separator of labels was found: every row has one label at most" if task else ""
        return LabelPlan(task or SINGLE_LABEL, None, note)
    how = "lists" if found == LIST else f"lists separated by {found!r}"
    if task is not None:
        return LabelPlan(MULTI_LABEL, found, f"labels are read as {how}")
    if found == LIST and all(len(_pieces(cell)) == 1 for cell in table.labels):
        return LabelPlan(
            SINGLE_LABEL,
            LIST,
            'labels are lists of one label each: single-label (task="multi_label" takes them as sets)',
        )
    return LabelPlan(
        MULTI_LABEL,
        found,
        f'labels are {how}: multi-label with {{labels}} labels (task="single_label" takes each cell as one class)',
    )


def check_task(task: str | None) -> None:
    """Raise `DataError` for a task that tables are not for.

    Example:
        >>> check_task("multi_label")
    """
    if task not in (None, SINGLE_LABEL, MULTI_LABEL, REGRESSION):
        raise DataError(
            f"Expected the task '{SINGLE_LABEL}', '{MULTI_LABEL}' or '{REGRESSION}', got {task!r}. Pass one of these, "
            "or none."
        )


def _plan_columns(table: Table, task: str | None) -> LabelPlan:
    if task is not None:
        return LabelPlan(task)
    once = all(sum(map(bool, map(hot_value, cells))) == 1 for cells in table.labels)
    columns = f"the {len(table.label_names)} label columns"
    if once:
        return LabelPlan(
            SINGLE_LABEL,
            note=f'{columns} have one 1 in every row: single-label (task="multi_label" takes them as sets)',
        )
    return LabelPlan(MULTI_LABEL, note=f"{columns} hold 0 and 1: multi-label with {{labels}} labels")


def _are_single(cells: Sequence[Any], known: Collection[str]) -> bool:
    names = [label_name(cell) for cell in cells if isinstance(cell, str) and cell.strip()]
    if not names:
        return False
    if known:
        keys = set(map(label_key, known))
        if sum(label_key(name) in keys for name in names) >= _KNOWN * len(names):
            return True
    return holds_no_labels(names)


def _pieces(cell: Any) -> list[str]:
    try:
        return [name for name in split_cell(cell, LIST) if name]
    except ValueError:
        return []


def read_labels(table: Table, plan: LabelPlan) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """The labels of each row, checked.

    Args:
        table: The table.
        plan: How they are read.

    Returns:
        `(labels, notes)`: for single labels the name of the class of each row; for sets of labels a tuple of names
        for each row, each once; for numbers a float.

    Raises:
        DataError: A row has no label or no such label as its task asks for; the message names it.

    Example:
        >>> read_labels(table, plan_labels(table))[0][:2]  # doctest: +SKIP
        (('joy',), ('anger', 'fear'))
    """
    if plan.task == REGRESSION:
        return read_targets(table), ()
    if plan.task == MULTI_LABEL:
        return _read_sets(table, plan.separator)
    return _read_classes(table, plan.separator), ()


def _read_classes(table: Table, separator: str | None) -> tuple[str, ...]:
    if table.label_names:
        sets = _hot_sets(table)
        wrong = [row for names, row in zip(sets, table.rows, strict=True) if len(names) != 1]
        if wrong:
            raise DataError(
                f"Expected one 1 in the label columns of every row of {table.source}, got none or several in "
                f"{_where(wrong)}. Correct it, or pass task='multi_label' (--task multi_label)."
            )
        names = [name for [name] in sets]
        _check_names(names, table.rows, table.source)
        return tuple(names)
    refuse = _Refuse(table.source)
    pairs = list(zip(table.labels, table.rows, strict=True))
    refuse(
        [row for cell, row in pairs if is_empty(cell)],
        "no label",
        "a label in every row",
        "Add or remove it, or pass task='multi_label' (--task multi_label) where rows may have none.",
    )
    lists = _split_all(table, separator)
    several = [list(dict.fromkeys(filter(None, found))) for found in lists]
    refuse(
        [row for found, row in zip(several, table.rows, strict=True) if len(found) != 1],
        "a list of no label or several",
        "one label a row",
        "Keep one label a row, or pass task='multi_label' (--task multi_label).",
    )
    names = [name for [name] in several]
    _check_names(names, table.rows, table.source)
    return tuple(names)


def _read_sets(table: Table, separator: str | None) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    notes = []
    if table.label_names:
        sets = _hot_sets(table)
    else:
        cells = table.labels
        if all(map(is_empty, cells)):
            raise DataError(
                f"Expected labels in column {table.columns.label!r} of {table.source}, got only empty cells, "
                f"{len(cells):,} of them. Fill them in, or pass another --label-column."
            )
        lists = _split_all(table, separator)
        if are_vectors(lists):
            raise DataError(
                f"Expected lists of labels in column {table.columns.label!r} of {table.source}, got lists of "
                f"{len(lists[0])} zeros and ones, which name no labels. Write the names of the labels of a "
                "row, or one column a label."
            )
        sets = [tuple(dict.fromkeys(filter(None, found))) for found in lists]
        for what, wrong in (
            ("name a label more than once, which counts once", [len(set(f)) < len(f) for f in lists]),
            ("have nothing between two separators, which is left out", [not all(f) for f in lists]),
        ):
            rows = [row for row, found in zip(table.rows, wrong, strict=True) if found]
            if rows:
                notes.append(f"{_where(rows)} of {table.source} {what}")
    flat = [(name, row) for names, row in zip(sets, table.rows, strict=True) for name in names]
    _check_names([name for name, _ in flat], [row for _, row in flat], table.source)
    return tuple(sets), tuple(notes)


def _split_all(table: Table, separator: str | None) -> list[list[str]]:
    """The labels of each row, in its order."""
    lists, wrong = [], []
    for cell, row in zip(table.labels, table.rows, strict=True):
        try:
            lists.append(split_cell(cell, separator))
        except ValueError as error:
            wrong.append((row, str(error)))
    if wrong:
        raise DataError(
            f"Expected labels that are names or numbers, or lists of such, in column {table.columns.label!r} "
            f"of {table.source}, got {wrong[0][1]} in {_where([row for row, _ in wrong])}. Write the names "
            "of the labels, or pass another --label-column."
        )
    return lists


def _hot_sets(table: Table) -> list[tuple[str, ...]]:
    """The names of the columns that have a 1, for each row."""
    names = [label_name(name) for name in table.label_names]
    columns = ", ".join(map(repr, split_references(table.columns.label)))
    if not table.columns.header or any(not name for name in names) or len(set(names)) < len(names):
        raise DataError(
            f"Expected a header with a name for each label column of {table.source}, got {columns:.300}. "
            "Write the names of the labels into the first row."
        )
    for at, name in enumerate(names):
        wrong = [r for cells, r in zip(table.labels, table.rows, strict=True) if hot_value(cells[at]) is None]
        if wrong:
            cell = next(cells[at] for cells in table.labels if hot_value(cells[at]) is None)
            raise DataError(
                f"Expected 0 or 1 in column {name!r} of {table.source}, got {visible(str(cell))[:40]!r} in "
                f"{_where(wrong)}. Correct it, or leave that column out of --label-column."
            )
    return [
        tuple(name for name, cell in zip(names, cells, strict=True) if hot_value(cell))
        for cells in table.labels
    ]


class _Refuse:
    def __init__(self, source: str) -> None:
        self.source = source

    def __call__(self, rows: Sequence[int | str], received: str, expected: str, fix: str) -> None:
        if rows:
            raise DataError(f"Expected {expected} in {self.source}, got {received} in {_where(rows)}. {fix}")


def _check_names(names: Sequence[str], rows: Sequence[int | str], source: str) -> None:
    refuse, pairs = _Refuse(source), list(zip(names, rows, strict=True))
    refuse(
        [row for name, row in pairs if len(name) > _LONGEST_NAME],
        f"a label of more than {_LONGEST_NAME} characters",
        "labels that name classes",
        "Pass another --label-column.",
    )
    lines = {name for name in set(names) if is_line(name)}
    refuse(
        [row for name, row in pairs if name not in lines],
        "a line break or a control character",
        "labels of one line",
        "Rename that class, or pass another --label-column.",
    )
    # Where all others are numbers, nan is how a program writes that there is none; among names it is one.
    absent = {name for name in lines if reads_as_missing(name)}
    others = lines - absent
    if absent and others and all(is_number(n) or n.casefold() in ("true", "false") for n in others):
        refuse(
            [row for name, row in pairs if name in absent],
            f"{min(absent)!r} among numbers, which is no label,",
            "a label in every row",
            "Add or remove it, or give such a class another name.",
        )


def class_names(labels: Sequence[Any], rows: Sequence[Any], source: str, plan: LabelPlan) -> tuple[str, ...]:
    """The classes of a training table in their order, each in one spelling.

    Args:
        labels: As `read_labels` gives them.
        rows: The row of each.
        source: The column and its file, for messages.
        plan: How they were read.

    Raises:
        DataError: They hold something else than names of classes, such as dates.

    Example:
        >>> class_names(["ham", "spam", "ham"], [2, 3, 4], "column 'label' of sms.csv", LabelPlan("single_label"))
        ('ham', 'spam')
    """
    names, repeated = list(labels), list(rows)
    if plan.task == MULTI_LABEL:
        flat = [(name, row) for found, row in zip(labels, rows, strict=True) for name in found]
        names, repeated = [name for name, _ in flat], [row for _, row in flat]
    if not names:
        raise DataError(f"Expected labels in {source}, got no label in any row. Pass another --label-column.")
    require_classes(names, repeated, source)
    spellings: dict[str, set[str]] = {}
    for name in set(names):
        spellings.setdefault(label_key(name), set()).add(name)
    # Of true, True and TRUE the class is called as Python has it.
    return class_order(min(found) if len(found) == 1 else key.title() for key, found in spellings.items())


def set_notes(sets: Sequence[Sequence[str]], names: Sequence[str]) -> list[str]:
    """Lines on sets of labels that may not be meant so: names that are alike, and very many labels.

    Args:
        sets: The labels of each training row.
        names: All labels.

    Example:
        >>> set_notes([["joy"], ["Joy"], ["joy"]], ["Joy", "joy"])
        ["the labels 'Joy' (1 row) and 'joy' (2 rows) differ only in case or spaces; write one label in one way"]
    """
    counts, notes = Counter(name for found in sets for name in found), []
    for alike in alike_names(names)[:3]:
        shown = [f"{name!r} ({counts[name]:,} row{'s' if counts[name] != 1 else ''})" for name in alike]
        notes.append(
            f"the labels {' and '.join(shown)} differ only in case or spaces; write one label in one way"
        )
    if len(names) > _MANY:
        rare = sum(counts[name] < _RARE for name in names)
        notes.append(
            f"{len(names):,} labels, {rare:,} of them in fewer than {_RARE} rows, such as "
            f"{listed(list(names)[:3])}; labels of so few rows are hardly learned"
        )
    return notes


def _where(rows: Sequence[int | str]) -> str:
    return named_rows(rows, "row" if isinstance(rows[0], int) else "file")
