"""From tables to the splits of a data set: what is read by which columns, and checked."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ktransfer.core.task import get_task
from ktransfer.data.examples import Examples, printable
from ktransfer.data.folders import counted
from ktransfer.data.groups import group_names, groups_by, groups_note, require_groups
from ktransfer.data.label_names import label_key
from ktransfer.data.split_names import SPLITS, parse_split_name
from ktransfer.data.tables.column_contents import require_classes
from ktransfer.data.tables.columns import Columns, InputKind, split_references
from ktransfer.data.tables.file_bytes import named_rows
from ktransfer.data.tables.label_sets import MULTI_LABEL, REGRESSION, SINGLE_LABEL, is_empty, label_matrix
from ktransfer.data.tables.labels import (
    LabelPlan,
    check_task,
    class_names,
    plan_labels,
    read_labels,
    set_notes,
)
from ktransfer.data.tables.split_tables import TableFiles
from ktransfer.data.tables.table import joined, read_input_column, read_table
from ktransfer.data.tables.targets import require_targets, target_notes
from ktransfer.errors import DataError, did_you_mean, listed

if TYPE_CHECKING:
    from ktransfer.data.tables.table import Table


GroupBy = Callable[[str], str]


_Value = TypeVar("_Value")


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading tables; `None` means guessed, or absent.

    Args:
        kind: What the input column holds.
        input_column, group_column: A name, or a number from 1 on. Default to `None`.
        label_column: The same; several, one a label, as a sequence or with commas between them.
        label_separator: What stands between the labels of a cell; `"list"` for lists as JSON or Python has them.
        task: `"single_label"`, `"multi_label"` or `"regression"`.
        encoding: Of the files, as Python names it.
        group_by: From the name of an example to that of its group, in place of a column.

    Raises:
        DataError: The task is unknown, or groups are asked for in two ways.
    """

    kind: InputKind
    input_column: str | Sequence[str] | None = None
    label_column: str | Sequence[str] | None = None
    group_column: str | None = None
    label_separator: str | None = None
    task: str | None = None
    encoding: str | None = None
    group_by: GroupBy | None = None

    def __post_init__(self) -> None:
        check_task(self.task)
        if self.group_column is not None and self.group_by is not None:
            raise DataError(
                f"Expected group_column or group_by, got both, group_column={self.group_column!r}. Leave one out."
            )

    def with_columns(self, columns: Columns | None) -> ReadOptions:
        """Options for another table with the same columns; unchanged for class folders."""
        if columns is None:
            return self
        kinds = (self.kind, *self.kind.others)
        return dataclasses.replace(
            self,
            kind=next((kind for kind in kinds if kind.option == columns.option), self.kind),
            input_column=columns.input,
            label_column=columns.label,
            group_column=columns.group,
        )

    def for_shards(self, data: str) -> None:
        """Raise `DataError` for what is asked of shards that only tables have: groups, and other tasks.

        Args:
            data: The shards, for messages.
        """
        asked: dict[str, Any] = {
            **{
                name: getattr(self, name)
                for name in ("group_column", "label_separator", "group_by", "encoding")
            },
            "task": None if self.task == SINGLE_LABEL else self.task,
        }
        if given := [name for name, value in asked.items() if value is not None]:
            raise DataError(
                f"Expected a table for {' and '.join(given)}, got {printable(data)}, shards with one class for each "
                f"record. Leave {given[0]} out."
            )

    def for_class_folders(self, data: str, *, unused: Sequence[str] = ()) -> tuple[str, ...]:
        """Notes on what class folders do not need.

        Args:
            data: The folder, for messages.
            unused: Further options that they do not need. Defaults to none.

        Raises:
            DataError: Something is asked for that only tables have.
        """
        asked: dict[str, Any] = {"group_column": self.group_column}
        if self.kind.width > 1:
            asked |= {self.kind.option: self.input_column}
        if self.task != SINGLE_LABEL:
            asked |= {"label_separator": self.label_separator, "task": self.task}
        given = [f"{name}={value!r}" for name, value in asked.items() if value is not None]
        if given:
            fix = "Pass a table"
            if self.group_column is not None:
                fix += ", or in Python group_by=, a function of the file name"
            raise DataError(
                f"Expected a table for {' and '.join(given)}, got {printable(data)}, where folders are the "
                f"classes. {fix}."
            )
        columns = {self.kind.option: self.input_column, "label_column": self.label_column}
        columns |= {name: getattr(self, name) for name in unused}
        given = [f"{name}={value!r}" for name, value in columns.items() if value is not None]
        return (f"not used: {' and '.join(given)}, as folders are the classes",) if given else ()


@dataclass(frozen=True)
class LabeledSplit:
    """Examples of a split with the names of their labels, checked.

    Attributes:
        inputs: Texts, pairs of texts or paths.
        labels: The name of the class of each, or a tuple of the names of its labels, or its number.
        rows: Numbers of rows or, of files, names.
        source: Where the labels stood, for messages.
        file: The table or folder, for messages.
        task: As in `Examples`. Defaults to `"single_label"`.
        literal: Whether each name is that of a class, as folders have it; a column may hold anything. Defaults to
            `False`.
        groups: The group of each. Defaults to `None`.
    """

    inputs: tuple[Any, ...]
    labels: tuple[Any, ...]
    rows: Sequence[int | str]
    source: str
    file: str
    task: str = SINGLE_LABEL
    literal: bool = False
    groups: tuple[str, ...] | None = None

    def chosen(self, positions: Sequence[int]) -> LabeledSplit:
        """The examples at some positions."""

        def at(values: Sequence[_Value]) -> tuple[_Value, ...]:
            return tuple(values[position] for position in positions)

        return dataclasses.replace(
            self,
            inputs=at(self.inputs),
            labels=at(self.labels),
            rows=list(at(self.rows)),
            groups=None if self.groups is None else at(self.groups),
        )


@dataclass(frozen=True)
class LabeledSplits:
    """The splits of a data set.

    Attributes:
        splits: The labeled splits by name, with `train`.
        columns: Of the training table; `None` of class folders.
        notes: Lines on how it was read and what is not used.
        plan: How labels were read; `None` of class folders.
    """

    splits: dict[str, LabeledSplit]
    columns: Columns | None
    notes: tuple[str, ...]
    plan: LabelPlan | None = None


FolderSplit = Callable[[Path, Collection[str]], tuple[LabeledSplit, tuple[str, ...]]]


def read_table_splits(
    tables: TableFiles, options: ReadOptions, folder_split: FolderSplit | None = None
) -> LabeledSplits:
    """Read the splits of a folder of tables; the others are read by the columns of the training table.

    Args:
        tables: Which file is which split.
        options: How to read them.
        folder_split: From a folder of class folders and the known classes to its examples; `None` if no split is one.

    Raises:
        DataError: A table cannot be read, or labels of a split are no such.
    """
    notes = tables.notes
    train_folder = tables.splits["train"][0]
    if folder_split is not None and train_folder.is_dir():
        train, more = folder_split(train_folder, ())
        found = LabeledSplits({"train": train}, None, more)
    else:
        found = read_table_split(tables.splits["train"], options, whole=tables.splits.keys() != {"train"})
        train = found.splits["train"]
        options = options.with_columns(found.columns)
    labeled_splits, notes = dict(found.splits), notes + found.notes
    known = _names(train)
    for split in ("validation", "test"):
        if split not in tables.splits:
            continue
        paths = tables.splits[split]
        if folder_split is not None and paths[0].is_dir():
            labeled_splits[split], more = folder_split(paths[0], known)
            notes += more
            continue
        if split == "test" and found.columns is not None and _lacks_labels(paths, options, known):
            notes += (f"not used: {printable(paths[0].name)}, whose {options.kind.noun} have no labels",)
            continue
        read = read_table_split(paths, options, known=known, plan=found.plan, train=train)
        labeled_splits[split] = read.splits["train"]
        notes += read.notes
    return _complete(LabeledSplits(labeled_splits, found.columns, notes, found.plan), options)


def read_table_file(path: Path, options: ReadOptions, known: Collection[str] = ()) -> LabeledSplits:
    """Read one table, by its column of splits where it has one; else all of it is `train`."""
    found = read_table_split((path,), options, known=known)
    return _complete(found, options)


def read_more(
    path: Path, options: ReadOptions, names: Sequence[str], tables: LabeledSplits | None
) -> tuple[LabeledSplit, tuple[str, ...]]:
    """Read a table that is evaluated on.

    Args:
        path: The file; a column of splits in it is not looked at.
        options: How the training data was asked for.
        names: The classes.
        tables: What was trained on, by whose columns it is read; `None` for class folders.

    Returns:
        `(labeled, notes)`.

    Raises:
        DataError: As in `read_table_split`.
    """
    if tables is None:
        found = read_table_split(
            (path,), dataclasses.replace(options, task=SINGLE_LABEL), known=names, whole=True
        )
    else:
        options, train = options.with_columns(tables.columns), tables.splits["train"]
        found = read_table_split((path,), options, known=names, plan=tables.plan, train=train, whole=True)
    return found.splits["train"], found.notes


def read_table_split(
    paths: Sequence[Path],
    options: ReadOptions,
    *,
    known: Collection[str] = (),
    plan: LabelPlan | None = None,
    train: LabeledSplit | None = None,
    whole: bool = False,
) -> LabeledSplits:
    """Read one table, or the shards of one.

    Args:
        paths: The files.
        options: How to read them.
        known: Classes that are known from elsewhere.
        plan: How labels are read, where that is decided; `None` decides it.
        train: The training split, where this is another.
        whole: Whether a column of splits is not looked at. Defaults to `False`.

    Raises:
        DataError: It cannot be read, or a row has no input, label or group.
    """
    tables, groups = [], train is None or train.groups is not None
    notes = []
    for path in paths:
        try:
            table = _table(path, options, known)
        except DataError:
            if train is None or options.group_column is None:
                raise
            # A table to evaluate on needs no groups.
            table = _table(path, dataclasses.replace(options, group_column=None), known)
            notes.append(
                f"{printable(path.name)} has no column {options.group_column!r}: its groups are not known"
            )
            groups = False
        tables.append(table)
        if path == paths[0]:
            options = options.with_columns(table.columns)
            known = {*known, *(str(cell) for cell in table.labels)} if len(paths) > 1 else known
    table = joined(tables, paths)
    if not table.inputs:
        raise DataError(f"Expected {options.kind.noun} in {table.source}, got no row of data. Add some.")
    names = _input_names(tables, paths, table, table.kind)
    decided = plan or plan_labels(table, options.task, options.label_separator, known)
    labels, more = read_labels(table, decided)
    notes += more
    found = LabeledSplit(
        names[0],
        labels,
        table.rows,
        _label_source(table),
        table.source,
        decided.task,
        groups=_groups(table, names[1], options) if groups else None,
    )
    splits = {"train": found}
    unused = list(table.columns.others)
    if table.splits is not None and plan is None and not whole and table.columns.header:
        splits, more = _by_column(found, *table.splits)
        notes += more
        unused = [name for name in unused if name != table.splits[0]]
    if unused and (plan is None or whole):
        notes.append(f"not used: {counted(unused, 'columns')}")
    if table.kind.each_once:
        for split, labeled in splits.items():
            splits[split], more = _each_once(labeled, table.kind)
            notes += more
    columns = dataclasses.replace(table.columns, separator=decided.separator, task=decided.task)
    return LabeledSplits(splits, columns, tuple(notes), decided)


def _table(path: Path, options: ReadOptions, known: Collection[str]) -> Table:
    return read_table(
        path,
        input_column=options.input_column,
        label_column=options.label_column,
        group_column=options.group_column,
        encoding=options.encoding,
        # Of regression they are the name of the column, which a first row may have.
        labels=() if options.task == REGRESSION else known,
        kind=options.kind,
    )


def _input_names(
    tables: list[Table], paths: Sequence[Path], whole: Table, kind: InputKind
) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """`(inputs, names)` of all shards."""
    inputs: list[Any] = []
    names: list[str] = []
    start = 0
    for table, path in zip(tables, paths, strict=True):
        rows = whole.rows[start : start + len(table.rows)]
        start += len(table.rows)
        source = f"column {table.columns.input!r} of {table.source}"
        read = kind.read(table.inputs, rows, source, path.parent)
        inputs += read[0]
        names += read[1]
    return tuple(inputs), tuple(names)


def _label_source(table: Table) -> str:
    names = split_references(table.columns.label)
    if len(names) == 1:
        return f"column {table.columns.label!r} of {table.source}"
    return f"the {len(names)} label columns of {table.source}"


def _groups(table: Table, names: Sequence[str], options: ReadOptions) -> tuple[str, ...] | None:
    if options.group_by is not None:
        return groups_by(options.group_by, names)
    if table.groups is None:
        return None
    return group_names(table.groups, table.rows, f"column {table.columns.group!r} of {table.source}")


def _by_column(
    labeled: LabeledSplit, name: str, cells: Sequence[Any]
) -> tuple[dict[str, LabeledSplit], tuple[str, ...]]:
    """`({split: examples}, notes)` by the cells of a column of splits."""
    values = ["" if is_empty(cell) else str(cell).strip() for cell in cells]
    splits = [parse_split_name(value).split for value in values]
    if "train" not in splits or len(set(splits) - {None}) < 2:
        return {"train": labeled}, (f"not used: the column {name!r}, which names no splits of the rows",)
    labeled_splits = {}
    for split in SPLITS:
        chosen = [at for at, found in enumerate(splits) if found == split]
        if chosen:
            labeled_splits[split] = labeled.chosen(chosen)
    named = sorted({value for value, split in zip(values, splits, strict=True) if split is None})
    notes = [f"read the splits from the column {name!r}"]
    if named:
        left = [row for row, split in zip(labeled.rows, splits, strict=True) if split is None]
        value = ", ".join(map(repr, named[:3]))
        notes.append(f"not used: {_where(left)}, whose {name} is {value}, which names no split")
    return labeled_splits, tuple(notes)


def _each_once(labeled: LabeledSplit, kind: InputKind) -> tuple[LabeledSplit, tuple[str, ...]]:
    """The split without rows that repeat the label of a file, and notes on files of several rows."""
    first: dict[str, tuple[int, object]] = {}
    repeated: list[int] = []
    others: dict[str, list[int | str]] = {}
    for at, (path, labels) in enumerate(zip(labeled.inputs, labeled.labels, strict=True)):
        labels = frozenset(labels) if labeled.task == MULTI_LABEL else labels
        before = first.setdefault(path, (at, labels))
        if before[0] == at:
            continue
        if before[1] == labels:
            repeated.append(at)
        else:
            others.setdefault(path, [labeled.rows[before[0]]]).append(labeled.rows[at])
    notes = []
    if repeated:
        rows = [labeled.rows[at] for at in repeated]
        notes.append(
            f"not used: {_where(rows)} of {labeled.file}, which {'say' if len(rows) > 1 else 'says'} the same of "
            f"{kind.noun} that are listed before"
        )
    if others:
        path, rows = next(iter(others.items()))
        notes.append(
            f"{kind.noun} that {labeled.file} lists more than once with different labels: {len(others):,}, such as "
            f"{printable(path)} in {_where(rows)}; write all labels of a file into one row"
        )
    if not repeated:
        return labeled, tuple(notes)
    left_out = set(repeated)
    return labeled.chosen([at for at in range(len(labeled.inputs)) if at not in left_out]), tuple(notes)


def _lacks_labels(paths: Sequence[Path], options: ReadOptions, known: Collection[str]) -> bool:
    """Whether the tables of a test split have inputs and no labels, as those of competitions."""
    for path in paths:
        try:
            found = _table(path, dataclasses.replace(options, group_column=None), known)
        except DataError:
            try:
                column, encoding = options.input_column, options.encoding
                read_input_column(path, input_column=column, encoding=encoding, kind=options.kind)
            except DataError:
                return False
        else:
            hidden = () if "-1" in known else ("-1", "-1.0")
            cells = found.labels
            if found.label_names:
                cells = [cell for several in cells for cell in several]
            if not all(is_empty(cell) or str(cell).strip() in hidden for cell in cells):
                return False
    return True


def _complete(found: LabeledSplits, options: ReadOptions) -> LabeledSplits:
    """The splits with notes on groups that several of them have."""
    train, notes = found.splits["train"], found.notes
    source = "group_by" if options.group_by is not None else f"column {options.group_column!r}"
    require_groups(train.groups, f"{source} of {train.file}")
    for split, labeled in found.splits.items():
        if split != "train" and (note := groups_note(train.groups, labeled.groups, split)):
            notes += (note,)
    return dataclasses.replace(found, notes=notes)


def _names(labeled: LabeledSplit) -> set[str]:
    if labeled.task == REGRESSION:
        return set()
    if labeled.task == MULTI_LABEL:
        return {name for found in labeled.labels for name in found}
    return set(labeled.labels)


def split_classes(labeled: LabeledSplit, plan: LabelPlan | None) -> tuple[str, ...]:
    """The classes of a training split of a table in their order, or the name of its target.

    Raises:
        DataError: The labels name no classes, or nothing can be learned of the targets.
    """
    if plan is not None and plan.task == REGRESSION:
        require_targets(labeled.labels, labeled.rows, labeled.source)
        return (plan.target,)
    return class_names(labeled.labels, labeled.rows, labeled.source, plan or LabelPlan(labeled.task))


def label_notes(found: LabeledSplits, names: Sequence[str]) -> tuple[str, ...]:
    """Lines on how the labels of tables were read."""
    if found.plan is None:
        return ()
    notes = [found.plan.note.format(labels=len(names))] if found.plan.note else []
    train = found.splits["train"]
    if found.plan.task == REGRESSION:
        notes += target_notes(train.labels, train.rows, train.source)
    if found.plan.task != MULTI_LABEL:
        return tuple(notes)
    empty = {
        split: sum(not labels for labels in labeled.labels)
        for split, labeled in found.splits.items()
        if labeled.task == MULTI_LABEL
    }
    unlabeled = [
        f"{count:,} of {len(found.splits[split].labels):,} in {split}"
        for split, count in empty.items()
        if count
    ]
    if unlabeled:
        notes.append(f"rows without any label: {', '.join(unlabeled)}")
    notes += set_notes(found.splits["train"].labels, names)
    return tuple(notes)


def unused_columns(found: LabeledSplits, names: Sequence[str]) -> tuple[str, ...]:
    """A line on label columns that have no 1 in training."""
    if found.columns is None or len(columns := split_references(found.columns.label)) < 2:
        return ()
    left = [name for name in columns if name not in names]
    more = ", ..." if len(left) > 3 else ""
    return (
        (f"not used: label columns without any 1 in training, {', '.join(map(repr, left[:3]))}{more}",)
        if left
        else ()
    )


def examples_of(labeled: LabeledSplit, names: Sequence[str], kind: str) -> Examples:
    """The examples of a labeled split.

    Args:
        labeled: The labeled split.
        names: The classes in the order of their labels.
        kind: As in `Examples`.

    Raises:
        DataError: A label is none of the classes; the message names the rows.
    """
    if labeled.task == REGRESSION:
        options: dict[str, Any] = {"kind": kind, "groups": labeled.groups, "task": get_task(labeled.task)}
        return Examples(labeled.inputs, np.array(labeled.labels), tuple(names), **options)
    places: Mapping[str, int] = {name: place for place, name in enumerate(names)}
    multi = labeled.task == MULTI_LABEL
    occurring = _names(labeled)
    if not labeled.literal:
        # A label of another spelling, such as true for True, where that is clear.
        alike = Counter(map(label_key, names))
        keys = {label_key(name): at for name, at in places.items() if alike[label_key(name)] == 1}
        found = {n: places.get(n, keys.get(label_key(n))) for n in {*names, *occurring}}
        places = {name: at for name, at in found.items() if at is not None}
    if unknown := occurring - places.keys():
        sets = labeled.labels if multi else [(name,) for name in labeled.labels]
        rows = [row for row, found in zip(labeled.rows, sets, strict=True) if unknown & set(found)]
        if not labeled.literal:
            flat = [(name, row) for row, found in zip(labeled.rows, sets, strict=True) for name in found]
            require_classes([name for name, _ in flat], [row for _, row in flat], labeled.source)
        name = next(name for found in sets for name in found if name in unknown)
        raise DataError(
            f"Expected labels out of {listed(names)}, got {name!r} in {_where(rows)} of {labeled.source}. "
            f"{did_you_mean(name, names)}Rename that label, or add examples of it to the training split."
        )
    if multi:
        labels = label_matrix([[names[places[name]] for name in found] for found in labeled.labels], names)
    else:
        labels = np.array([places[name] for name in labeled.labels])
    task = get_task(MULTI_LABEL if multi else SINGLE_LABEL)
    return Examples(labeled.inputs, labels, tuple(names), kind=kind, task=task, groups=labeled.groups)


def _where(rows: Sequence[int | str]) -> str:
    return named_rows(rows, "row" if isinstance(rows[0], int) else "file")
