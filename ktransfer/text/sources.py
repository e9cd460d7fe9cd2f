"""Read texts from a table, a folder or a TFDS name."""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ktransfer.core.modality import modalities
from ktransfer.data.examples import Splits, printable
from ktransfer.data.folders import FileKind, read_class_folders, read_folders
from ktransfer.data.groups import groups_by, groups_note, require_groups
from ktransfer.data.label_names import class_order
from ktransfer.data.tables.columns import Columns, InputKind, join_references
from ktransfer.data.tables.label_sets import REGRESSION, SINGLE_LABEL
from ktransfer.data.tables.labeled_splits import (
    LabeledSplit,
    LabeledSplits,
    ReadOptions,
    examples_of,
    label_notes,
    read_more,
    read_table_file,
    read_table_splits,
    split_classes,
    unused_columns,
)
from ktransfer.data.tables.pair_cells import PAIR_CELLS
from ktransfer.data.tables.split_tables import find_split_tables
from ktransfer.data.tables.table_files import read_text
from ktransfer.data.tables.text_cells import TEXT_CELLS, check_texts
from ktransfer.errors import DataError
from ktransfer.text.modality import MODALITY

if TYPE_CHECKING:
    from ktransfer.core.typing import PathLike
    from ktransfer.data.examples import Examples


TEXT_FILES = FileKind(
    "texts", (".txt",), (".doc", ".docx", ".odt", ".pdf", ".rtf", ".htm", ".html"), ".txt", has_masks=False
)


# Where no column is asked for, two that are called as the sides of pairs are taken as such.
_TEXTS = dataclasses.replace(TEXT_CELLS, others=(PAIR_CELLS,))


def read_texts(
    source: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    text_column: str | None = None,
    text_columns: str | Sequence[str] | None = None,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    label_separator: str | None = None,
    task: str | None = None,
    encoding: str | None = None,
    group_by: Callable[[str], str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> tuple[Splits, Columns | None]:
    """Read labelled texts.

    A folder holds `train.csv` and optionally `val.csv` and `test.csv`, each of any kind that `read_table`
    reads and under any of their usual names (see `parse_split_name`); or one folder of `.txt` files for each
    class; or `train/` and so on with such folders in them. `Splits.notes` says what is not used.

    Args:
        source: A table, a folder, or `tfds:NAME[/CONFIG][:VERSION]` for a data set that TensorFlow Datasets
            has prepared; nothing is downloaded.
        class_names: The classes in the order of their labels; None takes those of the training split, sorted,
            by value where all are numbers.
        text_column, label_column: Columns of a table or features of a TFDS data set; None guesses them where
            there is one guess only, of two columns called as pairs are, such as premise and hypothesis, both.
            Several label columns of 0 and 1, one a label, are given as a sequence or
            with commas between them.
        text_columns: Both columns of a table of pairs of texts, in place of `text_column`, as a sequence or with a
            comma between them.
        group_column: The column of a table that says what a text belongs to, such as a person.
        label_separator: What stands between the labels of a cell, such as `"|"`; `"list"` for lists as JSON or
            Python writes them. None guesses.
        task: `"single_label"` takes each cell as one class, `"multi_label"` as any number of labels,
            `"regression"` as a number; None guesses.
        encoding: Of tables and text files, as Python names it; None takes UTF-8.
        group_by: From a text of a table, or the name of a text file below the folder, to the name of its group.
        data_dir: Where TFDS keeps its data; None takes `TFDS_DATA_DIR` or its default.

    Returns:
        `(splits, columns)`: data without splits is all `train`; `columns` are those of the training table, None
        for a folder of texts.

    Raises:
        DataError: There is nothing usable. The message names the rows of what is missing, empty or unknown.

    Example:
        >>> splits, columns = read_texts("reviews.csv")  # doctest: +SKIP
        >>> columns.input, splits.train.counts()  # doctest: +SKIP
        ('text', {'negative': 400, 'positive': 412})
    """
    kind, column = _asked(text_column, text_columns)
    options = ReadOptions(kind, column, label_column, group_column, label_separator, task, encoding, group_by)
    splits, tables = _read(source, options, class_names, data_dir)
    return splits, tables.columns


def load_text_splits(
    source: str | os.PathLike[str],
    *,
    validation: str | os.PathLike[str] | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    text_column: str | None = None,
    text_columns: str | Sequence[str] | None = None,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    label_separator: str | None = None,
    task: str | None = None,
    encoding: str | None = None,
    group_by: Callable[[str], str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> tuple[Splits, Columns | None]:
    """Read labelled texts for training, with a validation split in any case.

    Args:
        source: As in `read_texts`.
        validation: A table or a folder of class folders to validate on, in place of the data's own split.
        validation_fraction: The share of each class to hold out, between 0 and 1, when there is no validation
            split; texts that differ in case and white space only stay on one side.
        seed: Fixes which texts are held out.
        text_column: As in `read_texts`.
        text_columns: As in `read_texts`.
        label_column: As in `read_texts`.
        group_column: As in `read_texts`.
        label_separator: As in `read_texts`.
        task: As in `read_texts`.
        encoding: As in `read_texts`.
        group_by: As in `read_texts`.
        data_dir: As in `read_texts`.

    Returns:
        As `read_texts`, with `splits.validation` filled.

    Raises:
        DataError: As in `read_texts` and `Examples.split`, or validation has a class that training lacks.

    Example:
        >>> splits, columns = load_text_splits("reviews.csv", seed=7)  # doctest: +SKIP
    """
    kind, column = _asked(text_column, text_columns)
    options = ReadOptions(kind, column, label_column, group_column, label_separator, task, encoding, group_by)
    splits, tables = _read(source, options, None, data_dir)
    train, held_out, notes = splits.train, splits.validation, splits.notes
    if validation is not None:
        if held_out is not None:
            notes += (
                f"not used: the data's own validation split, as {printable(str(validation))} was given",
            )
        held_out, more = _read_validation(Path(validation).expanduser(), options, train, tables)
        notes += tuple(f"{printable(str(validation))}: {note}" for note in more)
        if note := groups_note(train.groups, held_out.groups, "validation"):
            notes += (note,)
    elif held_out is None:
        train, held_out = train.split(validation_fraction, seed=seed)
        return Splits(train, held_out, splits.test, notes, held_out=True), tables.columns
    return Splits(train, held_out, splits.test, notes), tables.columns


def _asked(
    text_column: str | None, text_columns: str | Sequence[str] | None
) -> tuple[InputKind, str | Sequence[str] | None]:
    """The kind of a table's inputs, and the column or columns that are asked for."""
    if text_columns is None:
        return _TEXTS, text_column
    if text_column is not None:
        raise DataError(
            f"Expected text_column or text_columns, got both, {text_column!r} and {text_columns!r}. Leave out "
            "--text-column for pairs of texts."
        )
    return PAIR_CELLS, PAIR_CELLS.column_names(text_columns)


def _read(
    source: PathLike, options: ReadOptions, class_names: Sequence[str] | None, data_dir: PathLike | None
) -> tuple[Splits, LabeledSplits]:
    """`(splits, labeled_splits)`."""
    if str(source).startswith("tfds:"):
        found = _read_tfds(str(source).removeprefix("tfds:"), options, data_dir)
    else:
        found = _read_labeled_splits(Path(source).expanduser(), options, class_names or ())
    train = found.splits["train"]
    if class_names is not None:
        names = tuple(class_names)
    else:
        names = class_order(train.labels) if train.literal else split_classes(train, found.plan)
    if len(names) < 2 and train.task != REGRESSION:
        raise DataError(
            f"Expected at least two classes, got only {names[0]!r} in {printable(str(source))}. Add texts of "
            "another class, or name another label column."
        )
    notes = found.notes + label_notes(found, names) + unused_columns(found, names)
    splits = {split: examples_of(labeled, names, MODALITY.kind) for split, labeled in found.splits.items()}
    return Splits(splits["train"], splits.get("validation"), splits.get("test"), notes), found


def _read_labeled_splits(source: Path, options: ReadOptions, known: Collection[str]) -> LabeledSplits:
    """The labeled splits of a table or a folder."""
    if not source.is_dir():
        others = tuple(
            suffix for each in modalities() if each.name != MODALITY.name for suffix in each.suffixes
        )
        if source.name.lower().endswith(others) and source.exists():
            raise DataError(
                f"Expected a table or a folder, got the file {printable(str(source))}. "
                "Unpack an archive; of images, pass the folder that holds the class folders."
            )
        return read_table_file(source, options, known)

    def folder_split(path: Path, known: Collection[str]) -> tuple[LabeledSplit, tuple[str, ...]]:
        return _read_class_folders(path, options, known)

    tables = find_split_tables(source)
    if tables is not None:
        return read_table_splits(tables, options, folder_split)
    notes = options.for_class_folders(str(source))
    layout = read_folders(source, TEXT_FILES, known=known)
    labeled_splits = {
        split: _read_files(classes, source, options) for split, classes in layout.splits.items()
    }
    train = labeled_splits["train"]
    require_groups(train.groups, f"group_by of {printable(str(source))}")
    more = [
        groups_note(train.groups, labeled.groups, split)
        for split, labeled in labeled_splits.items()
        if labeled is not train
    ]
    return LabeledSplits(labeled_splits, None, layout.notes + notes + tuple(filter(None, more)))


def _read_class_folders(
    path: Path, options: ReadOptions, known: Collection[str]
) -> tuple[LabeledSplit, tuple[str, ...]]:
    """`(labeled, notes)` of one folder of class folders."""
    notes = options.for_class_folders(str(path)) if options.task not in (None, SINGLE_LABEL) else ()
    layout = read_class_folders(path, TEXT_FILES, known=known)
    return _read_files(layout.splits["train"], path, options), layout.notes + notes


def _read_validation(
    path: Path, options: ReadOptions, train: Examples, tables: LabeledSplits
) -> tuple[Examples, tuple[str, ...]]:
    """`(examples, notes)` of a table or a folder of class folders to validate on."""
    if not path.is_dir():
        labeled, notes = read_more(path, options, train.class_names, tables if tables.plan else None)
    elif tables.plan is not None and tables.plan.task != SINGLE_LABEL:
        raise DataError(
            f"Expected a table to validate on, as the data is {tables.plan.task.replace('_', '-')}, got the folder "
            f"{printable(str(path))}. "
            "Pass a table."
        )
    else:
        labeled, notes = _read_class_folders(path, options, train.class_names)
    return examples_of(labeled, train.class_names, MODALITY.kind), notes


def _read_files(classes: dict[str, list[str]], folder: Path, options: ReadOptions) -> LabeledSplit:
    """The labeled split of text files, `{class name: [path, ...]}`."""
    texts, labels, rows = [], [], []
    for name, paths in classes.items():
        for path in paths:
            try:
                texts.append(read_text(path, options.encoding))
            except OSError as error:
                raise DataError(
                    f"Expected to read every text, got {printable(str(path))} ({error.strerror}). Remove it, "
                    "or correct its permissions."
                ) from error
            labels.append(name)
            rows.append(printable(os.path.relpath(path, folder)))
    names = [Path(row).as_posix() for row in rows]
    return _literal_part(texts, labels, rows, printable(str(folder)), names, options.group_by)


def _read_tfds(spec: str, options: ReadOptions, data_dir: PathLike | None) -> LabeledSplits:
    # Here, as the module needs the optional package only when it is asked for.
    from ktransfer.data.tfds import read_tfds_texts

    options.for_class_folders(f"tfds:{spec}")
    text, label = cast("str | None", options.input_column), options.label_column
    found, text, label, notes = read_tfds_texts(
        spec,
        text,
        label if label is None or isinstance(label, str) else join_references(label),
        data_dir=data_dir,
    )
    labeled_splits = {
        split: _literal_part(
            texts, names, range(1, len(texts) + 1), f"tfds:{spec} {split}", texts, options.group_by
        )
        for split, (texts, names) in found.items()
    }
    guessed = None in (options.input_column, options.label_column)
    return LabeledSplits(labeled_splits, Columns(text, label, header=True, guessed=guessed), notes)


def _literal_part(
    texts: Sequence[str],
    labels: Sequence[str],
    rows: Sequence[int | str],
    source: str,
    names: Sequence[str],
    group_by: Callable[[str], str] | None,
) -> LabeledSplit:
    """The labeled split of folders and prepared data sets, which name their classes, whatever they are called."""
    if not texts:
        raise DataError(f"Expected texts in {source}, got no row of data. Add some.")
    classes = tuple(unicodedata.normalize("NFC", label) for label in labels)
    groups = None if group_by is None else groups_by(group_by, names)
    return LabeledSplit(
        check_texts(texts, rows, source), classes, rows, source, source, literal=True, groups=groups
    )
