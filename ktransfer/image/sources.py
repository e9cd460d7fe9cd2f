"""Read images from a folder, a table or a TFDS name."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ktransfer.data.examples import Examples, Splits, printable
from ktransfer.data.folders import FileKind, counted, read_class_folders, read_folders
from ktransfer.data.groups import groups_by, groups_note, require_groups
from ktransfer.data.junk import junk_name
from ktransfer.data.label_names import class_order
from ktransfer.data.tables.columns import Columns
from ktransfer.data.tables.file_bytes import table_suffix
from ktransfer.data.tables.file_cells import image_cells, names_files
from ktransfer.data.tables.label_sets import REGRESSION, SINGLE_LABEL
from ktransfer.data.tables.labeled_splits import (
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
from ktransfer.data.tables.split_tables import find_split_tables
from ktransfer.data.tables.table import read_table
from ktransfer.errors import DataError, did_you_mean, listed
from ktransfer.image.decoding import EXTRAS, IMAGE_EXTENSIONS, UNREAD_EXTENSIONS
from ktransfer.image.shard_sources import ShardColumns, image_shards, read_image_shards

if TYPE_CHECKING:
    from ktransfer.core.typing import PathLike
    from ktransfer.data.folders import Layout
    from ktransfer.data.tables.split_tables import TableFiles


IMAGE_FILES = FileKind("images", IMAGE_EXTENSIONS, UNREAD_EXTENSIONS, "JPEG or PNG", extras=EXTRAS)
IMAGE_CELLS = image_cells(tuple(IMAGE_EXTENSIONS), tuple(UNREAD_EXTENSIONS))

_KIND = "file"  # of `Examples`
_AGREE = (
    0.9  # share of the rows whose folder is called as their class, which makes folders and table the same
)


@dataclasses.dataclass(frozen=True)
class _Read:
    """Splits, and the labeled splits of tables by which further data is read; `None` for class folders."""

    splits: Splits
    tables: LabeledSplits | None = None
    shards: ShardColumns | None = None

    @property
    def columns(self) -> Columns | ShardColumns | None:
        """The columns of tables, or the fields of shards."""
        return self.shards if self.tables is None else self.tables.columns


def read_data(
    data: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    **columns: Any,
) -> Splits:
    """Read the examples that `data` names; nothing is decoded.

    A folder holds either one folder of images for each class, or `train/` and optionally `val/` and `test/`,
    each such a folder, under any of their usual names (see `parse_split_name`), or classes with `train/` and
    so on in each. Images lie at any depth below their class; links are followed, and a folder that is the
    only one is searched. `Splits.notes` says what is not used.

    Or a folder holds tables, `train.csv` and optionally `val.csv` and `test.csv`, whose rows name image files
    below it and their labels; or `data` is such a table itself.

    Args:
        data: A folder, a table, or `tfds:NAME[/CONFIG][:VERSION]` for a data set that TensorFlow Datasets has
            prepared; nothing is downloaded.
        class_names: The classes in the order of their labels; None takes those of the training split, sorted,
            by value where all are numbers.
        data_dir: Where TFDS keeps its data; None takes `TFDS_DATA_DIR` or its default.
        cache_dir: Where the images of a TFDS data set are laid out as files, once; None takes
            `KTRANSFER_CACHE` or `~/.cache/ktransfer`.
        **columns: `file_column`, `label_column`, `group_column`, `label_separator`, `task`, `encoding` and
            `group_by` of `read_images`.

    Returns:
        `Splits`; a folder of class folders is all `train`.

    Raises:
        DataError: There is nothing usable, a class is empty or unknown, or there is only one.

    Example:
        >>> read_data("flowers").train.counts()  # doctest: +SKIP
        {'daisy': 100, 'roses': 100}
    """
    return read_images(data, class_names=class_names, data_dir=data_dir, cache_dir=cache_dir, **columns)[0]


def read_images(
    data: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    file_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    label_separator: str | None = None,
    task: str | None = None,
    encoding: str | None = None,
    group_by: Callable[[str], str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[Splits, Columns | ShardColumns | None]:
    """Read the examples that `data` names, as `read_data`, and the columns of a table.

    Where a folder has class folders as well as tables, the class folders are read if no column is given and
    the tables say the same, or not clearly which column holds labels.

    Args:
        data, class_names, data_dir, cache_dir: As in `read_data`.
        file_column: The column with the names of image files, relative to the folder of the table: a name, or a
            number from 1 on; None guesses it.
        label_column: The column with the labels; several columns of 0 and 1, one a label, as a sequence or with
            commas between them. None guesses.
        group_column: The column that says what an image belongs to, such as a patient or a drive.
        label_separator: What stands between the labels of a cell, such as `"|"`; `"list"` for lists as JSON or
            Python writes them. None guesses.
        task: `"single_label"` takes each cell as one class, `"multi_label"` as any number of labels,
            `"regression"` as a number; None guesses.
        encoding: Of tables, as Python names it; None takes UTF-8.
        group_by: From the name of an image below the folder, with forward slashes, to the name of its group.

    Returns:
        `(splits, columns)`; columns of the training table, `None` of class folders.

    Raises:
        DataError: As `read_data`; files are missing, or a path is absolute or leads out of the folder.

    Example:
        >>> read_images("camvid_tags", group_by=lambda name: name.split("/")[1].split("_")[0])  # doctest: +SKIP
    """
    options = ReadOptions(
        IMAGE_CELLS,
        file_column,
        label_column,
        group_column,
        label_separator,
        task,
        encoding,
        group_by,
    )
    found = _read(data, options, class_names, data_dir, cache_dir)
    return found.splits, found.columns


def load_splits(
    data: str | os.PathLike[str],
    *,
    validation: str | os.PathLike[str] | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    **columns: Any,
) -> Splits:
    """Read `data` for training, with a validation split in any case.

    Args:
        data: As in `read_data`.
        validation: A folder of class folders or a table to validate on, in place of the data's own validation
            split.
        validation_fraction: The share of each class to hold out, between 0 and 1, when there is no validation
            split.
        seed: Fixes which examples are held out.
        data_dir: As in `read_data`.
        cache_dir: As in `read_data`.
        **columns: As in `read_data`.

    Returns:
        `Splits` whose `validation` is filled.

    Raises:
        DataError: As in `read_data` and `Examples.split`, or validation has a class that training lacks.

    Example:
        >>> splits = load_splits("flowers", validation_fraction=0.1, seed=7)  # doctest: +SKIP
    """
    return load_image_splits(
        data,
        validation=validation,
        validation_fraction=validation_fraction,
        seed=seed,
        data_dir=data_dir,
        cache_dir=cache_dir,
        **columns,
    )[0]


def load_image_splits(
    data: str | os.PathLike[str],
    *,
    validation: str | os.PathLike[str] | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    file_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    label_separator: str | None = None,
    task: str | None = None,
    encoding: str | None = None,
    group_by: Callable[[str], str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[Splits, Columns | ShardColumns | None]:
    """Read `data` for training, as `load_splits`, and the columns of a table.

    Args:
        data, validation, validation_fraction, seed, data_dir, cache_dir: As in `load_splits`.
        file_column, label_column, group_column, label_separator, task, encoding, group_by: As in `read_images`.

    Returns:
        `(splits, columns)`; columns of the training table, `None` of class folders.

    Raises:
        DataError: As in `load_splits` and `read_images`.

    Example:
        >>> load_image_splits("camvid_tags/train.csv", group_column="drive")  # doctest: +SKIP
    """
    options = ReadOptions(
        IMAGE_CELLS,
        file_column,
        label_column,
        group_column,
        label_separator,
        task,
        encoding,
        group_by,
    )
    found = _read(data, options, None, data_dir, cache_dir)
    splits, tables = found.splits, found.tables
    train, held_out, notes = splits.train, splits.validation, splits.notes
    columns = found.columns
    if validation is not None:
        if held_out is not None:
            notes += (
                f"not used: the data's own validation split, as {printable(str(validation))} was given",
            )
        if (shards := image_shards(validation)) is not None:
            read = read_image_shards(
                shards,
                class_names=train.class_names,
                file_column=_one(options.input_column),
                label_column=_one(options.label_column),
                whole=True,
            )[0]
            held_out, more = read.train, read.notes
        else:
            held_out, more = _read_validation(Path(validation).expanduser(), options, train, tables)
        notes += tuple(f"{printable(str(validation))}: {note}" for note in more)
        if note := groups_note(train.groups, held_out.groups, "validation"):
            notes += (note,)
    elif held_out is None:
        train, held_out = train.split(validation_fraction, seed=seed)
        return Splits(train, held_out, splits.test, notes, held_out=True), columns
    return Splits(train, held_out, splits.test, notes), columns


def _read(
    data: PathLike,
    options: ReadOptions,
    class_names: Sequence[str] | None,
    data_dir: PathLike | None,
    cache_dir: PathLike | None,
) -> _Read:
    if str(data).startswith("tfds:"):
        # Here, as the module needs the optional package only when it is asked for.
        from ktransfer.data.tfds import read_tfds

        spec = str(data).removeprefix("tfds:")
        notes = options.for_class_folders(str(data), unused=("encoding",))
        found, more = read_tfds(spec, data_dir=data_dir, cache_dir=cache_dir)
        return _of_folders(found, notes + more, class_names, data, options)
    if (shards := image_shards(data)) is not None:
        options.for_shards(str(data))
        splits, fields = read_image_shards(
            shards,
            class_names=class_names,
            file_column=_one(options.input_column),
            label_column=_one(options.label_column),
        )
        return _Read(splits, shards=fields)
    path = Path(data).expanduser()
    if path.is_file() and (table_suffix(path) or names_files(path, IMAGE_EXTENSIONS)):
        labeled_splits = read_table_file(path, options, class_names or ())
        return _of_tables(labeled_splits, class_names, path, path.parent, whole=False)
    folder = _folder(data)
    top = _only_folder(folder)
    tables, error = _find_tables(top)
    if tables is None:
        try:
            layout = read_folders(folder, IMAGE_FILES, known=class_names or ())
        except DataError as other:
            raise (error or other) from other
        notes = options.for_class_folders(str(data), unused=("encoding",))
        return _of_folders(layout.splits, layout.notes + notes, class_names, data, options, folder)
    asked = (options.input_column, options.label_column, options.group_column, options.label_separator)
    of_folders: Layout | None = None
    if all(value is None for value in asked) and options.task in (None, SINGLE_LABEL):
        of_folders = _class_folders(folder, class_names)
    names = ", ".join(printable(path.name) for paths in tables.splits.values() for path in paths)
    if of_folders is None:
        return _of_tables(read_table_splits(tables, options), class_names, data, top, whole=True)
    if unclear := _unclear(tables, options):
        notes = (f"not used: {names}, as folders are the classes ({unclear})",)
    else:
        try:
            labeled_splits = read_table_splits(tables, options)
        except DataError as error:
            raise DataError(
                f"{error} Or move {names} out of {printable(str(folder))} to read its class folders."
            ) from error
        if not _say_the_same(labeled_splits, of_folders):
            note = f"read {names}; folders are not read as classes, as they say something else"
            labeled_splits = dataclasses.replace(labeled_splits, notes=(*labeled_splits.notes, note))
            return _of_tables(labeled_splits, class_names, data, top, whole=True)
        notes = (f"not used: {names}, as folders are the classes and say the same",)
    return _of_folders(of_folders.splits, of_folders.notes + notes, class_names, data, options, folder)


def _one(column: str | Sequence[str] | None) -> str | None:
    """The field of a shard that a column is asked for by."""
    return column if column is None or isinstance(column, str) else ",".join(column)


def _class_folders(folder: Path, class_names: Sequence[str] | None) -> Layout | None:
    """The layout of a folder of class folders; None where it is no such."""
    try:
        return read_folders(folder, IMAGE_FILES, known=class_names or ())
    except DataError:
        return None


def _unclear(tables: TableFiles, options: ReadOptions) -> str | None:
    """The reason why the label column of the training table is unclear; None if it is clear."""
    path = tables.splits["train"][0]
    try:
        found = read_table(path, encoding=options.encoding, kind=IMAGE_CELLS)
    except DataError as error:
        return f"{error!s:.200}"
    return None if found.is_clear else f"its column {found.columns.label!r} may hold no labels"


def _say_the_same(labeled_splits: LabeledSplits, layout: Layout) -> bool:
    """Whether the class folders agree with the labels of a training table."""
    labeled = labeled_splits.splits["train"]
    if labeled.task != SINGLE_LABEL:
        return False
    folders = {
        os.path.realpath(path): name
        for classes in layout.splits.values()
        for name, paths in classes.items()
        for path in paths
    }
    pairs = Counter(
        (folders.get(os.path.realpath(path)), label)
        for path, label in zip(labeled.inputs, labeled.labels, strict=True)
    )
    return all(folder is not None for folder, _ in pairs) and all(
        len({pair[side] for pair in pairs}) == len(pairs) for side in (0, 1)
    )


def _find_tables(folder: Path) -> tuple[TableFiles | None, DataError | None]:
    """`(tables, None)` where tables for training name images; else `(None, the reason, where there is one)`."""
    try:
        found = find_split_tables(folder, named=tuple(IMAGE_EXTENSIONS))
    except DataError as error:
        # Of tables that have nothing to do with the images it says nothing.
        tables = [
            path for path in folder.iterdir() if table_suffix(path) and names_files(path, IMAGE_EXTENSIONS)
        ]
        return None, error if tables else None
    if found is None or not all(names_files(path, IMAGE_EXTENSIONS) for path in found.splits["train"]):
        return None, None
    return found, None


def _only_folder(folder: Path) -> Path:
    """The folder, or the only folder in it where nothing else is."""
    while True:
        children = [c for c in folder.iterdir() if junk_name(c.name, is_folder=c.is_dir()) is None]
        if len(children) != 1 or not children[0].is_dir() or children[0].is_symlink():
            return folder
        [folder] = children


def _of_tables(
    labeled_splits: LabeledSplits,
    class_names: Sequence[str] | None,
    data: PathLike,
    folder: Path,
    *,
    whole: bool,
) -> _Read:
    train = labeled_splits.splits["train"]
    names = tuple(class_names) if class_names is not None else split_classes(train, labeled_splits.plan)
    if len(names) < 2 and train.task != REGRESSION:
        raise DataError(
            f"Expected at least two classes, got only {names[0]!r} in {printable(str(data))}. Add images of "
            "another class, or name another label column."
        )
    notes = labeled_splits.notes + label_notes(labeled_splits, names) + unused_columns(labeled_splits, names)
    notes += _not_named(
        folder, [path for labeled in labeled_splits.splits.values() for path in labeled.inputs], whole=whole
    )
    splits = {split: examples_of(labeled, names, _KIND) for split, labeled in labeled_splits.splits.items()}
    return _Read(Splits(splits["train"], splits.get("validation"), splits.get("test"), notes), labeled_splits)


def _not_named(folder: Path, paths: Sequence[str], *, whole: bool) -> tuple[str, ...]:
    """A note on images that no table names, in the folder or, of a single table, next to those it names."""
    named = {os.path.normpath(path) for path in paths}
    parents = {os.path.dirname(path) for path in named}
    others = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if junk_name(name, is_folder=True) is None)
        if not whole:
            folders[:] = [name for name in folders if _leads_to(os.path.join(parent, name), parents)]
            if os.path.normpath(parent) not in parents:
                continue
        found = (os.path.normpath(os.path.join(parent, name)) for name in files if IMAGE_FILES.matches(name))
        others += [
            path
            for path in found
            if path not in named and junk_name(os.path.basename(path), is_folder=False) is None
        ]
    if not others:
        return ()
    shown = counted([Path(os.path.relpath(path, folder)).as_posix() for path in sorted(others)], "images")
    return (f"not used: {shown} that no table names",)


def _leads_to(folder: str, parents: Iterable[str]) -> bool:
    folder = os.path.normpath(folder)
    return any(parent == folder or parent.startswith(folder + os.sep) for parent in parents)


def _of_folders(
    found: dict[str, dict[str, list[str]]],
    notes: tuple[str, ...],
    class_names: Sequence[str] | None,
    data: PathLike,
    options: ReadOptions,
    folder: Path | None = None,
) -> _Read:
    names = tuple(class_names) if class_names is not None else class_order(found["train"])
    if len(names) < 2:
        raise DataError(
            f"Expected at least two classes, got only {', '.join(names) or 'none'} in {data}. Add a folder "
            "of images for each further class."
        )
    source = printable(str(data))
    splits = {
        split: _examples(
            classes,
            names,
            f"the {split} split of {source}" if len(found) > 1 else source,
            options.group_by,
            folder,
        )
        for split, classes in found.items()
    }
    train = splits["train"]
    require_groups(train.groups, f"group_by of {printable(str(data))}")
    for split, examples in splits.items():
        if split != "train" and (note := groups_note(train.groups, examples.groups, split)):
            notes += (note,)
    return _Read(Splits(train, splits.get("validation"), splits.get("test"), tuple(notes)))


def _read_validation(
    path: Path, options: ReadOptions, train: Examples, tables: LabeledSplits | None
) -> tuple[Examples, tuple[str, ...]]:
    """`(examples, notes)` of a table or a folder of class folders to validate on."""
    if path.is_file() and (table_suffix(path) or names_files(path, IMAGE_EXTENSIONS)):
        labeled, notes = read_more(path, options, train.class_names, tables)
        notes += _not_named(path.parent, labeled.inputs, whole=False)
        return examples_of(labeled, train.class_names, _KIND), notes
    folder = _folder(path)
    if tables is not None and tables.plan is not None and tables.plan.task != SINGLE_LABEL:
        raise DataError(
            f"Expected a table to validate on, as the data is {tables.plan.task.replace('_', '-')}, got the folder "
            f"{printable(str(path))}. "
            "Pass a table."
        )
    layout = read_class_folders(folder, IMAGE_FILES, known=train.class_names)
    examples = _examples(
        layout.splits["train"], train.class_names, printable(str(path)), options.group_by, folder
    )
    return examples, layout.notes


def _folder(path: PathLike) -> Path:
    path = Path(path).expanduser()
    if not path.is_dir():
        received = f"the file {path}" if path.exists() else f"{path}, which does not exist"
        raise DataError(
            f"Expected a folder that holds a folder of images for each class, got {received}. Pass such a "
            "folder, a table that names images, or tfds:NAME."
        )
    return path


def _examples(
    classes: Mapping[str, Sequence[str]],
    names: Sequence[str],
    source: str,
    group_by: Callable[[str], str] | None = None,
    folder: Path | None = None,
) -> Examples:
    labels = {name: label for label, name in enumerate(names)}
    unknown = sorted(set(classes) - set(names))
    if unknown:
        raise DataError(
            f"Expected classes out of {listed(names)}, got {unknown[0]!r} in {source}. "
            f"{did_you_mean(unknown[0], names)}Rename that class, or remove it."
        )
    pairs = [(path, labels[name]) for name in sorted(classes) for path in classes[name]]
    paths, indices = zip(*pairs, strict=True)
    groups = None
    if group_by is not None:
        names_below = [
            os.path.basename(path) if folder is None else Path(os.path.relpath(path, folder)).as_posix()
            for path in paths
        ]
        groups = groups_by(group_by, names_below)
    return Examples(paths, np.array(indices), tuple(names), groups=groups)
