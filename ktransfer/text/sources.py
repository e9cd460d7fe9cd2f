"""What a person names as texts, a table, a folder or a TFDS name, to examples."""

import math
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from ktransfer.core.modality import modalities
from ktransfer.data.examples import Examples, Splits, printable
from ktransfer.data.folders import FileKind, counted, read_class_folders, read_folders
from ktransfer.data.label_names import class_order, is_number, label_key, label_name, reads_as_missing
from ktransfer.data.split_names import SPLITS, parse_split_name
from ktransfer.data.tables.column_contents import require_classes, require_texts
from ktransfer.data.tables.split_tables import find_split_tables
from ktransfer.data.tables.text_columns import TextColumns
from ktransfer.data.tables.text_tables import named_rows, read_table, read_text, read_text_column
from ktransfer.errors import DataError, did_you_mean, listed
from ktransfer.security.safe_io import is_line
from ktransfer.text.modality import MODALITY

TEXT_FILES = FileKind(
    "texts", (".txt",), (".doc", ".docx", ".odt", ".pdf", ".rtf", ".htm", ".html"), ".txt", has_masks=False
)

# What a column that names the split of each row is called, in any case.
_SPLIT_COLUMNS = ("split", "subset", "partition", "set", "part", "data_split", "dataset_split", "phase")

_LONGEST_NAME = 200  # characters; what is longer is a text
_LABELS = str | int | float | Decimal


@dataclass(frozen=True)
class _Part:
    """Texts and the names of their classes, checked; `rows` are numbers or, in a folder, file names.

    `literal` says that each name is that of a class, as folders have it; a column may hold anything.
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]
    rows: Sequence[int | str]
    source: str
    literal: bool = False


def read_texts(
    source: str | os.PathLike,
    *,
    class_names: Sequence[str] | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    data_dir: str | os.PathLike | None = None,
    encoding: str | None = None,
) -> tuple[Splits, TextColumns | None]:
    """Read labelled texts.

    A folder holds `train.csv` and optionally `val.csv` and `test.csv`, each of any kind that `read_table`
    reads and under any of their usual names (see `parse_split_name`); or one folder of `.txt` files for each
    class; or `train/` and so on with such folders in them. `Splits.notes` says what is not used.

    Args:
        source: A table, a folder, or `tfds:NAME[/CONFIG][:VERSION]` for a data set that TensorFlow Datasets
            has prepared; nothing is downloaded.
        class_names: The classes in the order of their labels; None takes those of the training part, sorted,
            by value where all are numbers.
        text_column, label_column: Columns of a table or features of a TFDS data set; None guesses them where
            there is one guess only.
        data_dir: Where TFDS keeps its data; None takes `TFDS_DATA_DIR` or its default.
        encoding: Of tables and text files, as Python names it; None takes UTF-8.

    Returns:
        `(splits, columns)`: what has no parts is all `train`; `columns` are those of the training table, None
        for a folder of texts.

    Raises:
        DataError: There is nothing usable. The message names the rows of what is missing, empty or unknown.

    Example:
        >>> splits, columns = read_texts("reviews.csv")  # doctest: +SKIP
        >>> columns.text, splits.train.counts()  # doctest: +SKIP
        ('text', {'negative': 400, 'positive': 412})
    """
    options = {"text_column": text_column, "label_column": label_column, "encoding": encoding}
    if str(source).startswith("tfds:"):
        spec = str(source).removeprefix("tfds:")
        parts, columns, notes = _read_tfds(spec, text_column, label_column, data_dir)
    else:
        parts, columns, notes = _read_parts(Path(source).expanduser(), options, class_names or ())
    names = _class_names(parts["train"]) if class_names is None else tuple(class_names)
    if len(names) < 2:
        raise DataError(
            f"Expected at least two classes. Received: only {names[0]!r} in {printable(str(source))}. "
            "Add texts of another class, or name another label column."
        )
    splits = {split: _examples(part, names) for split, part in parts.items()}
    return Splits(**splits, notes=notes), columns


def load_text_splits(
    source: str | os.PathLike,
    *,
    validation: str | os.PathLike | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    **options,
) -> tuple[Splits, TextColumns | None]:
    """Read labelled texts for training, with a validation part in any case.

    Args:
        source: As in `read_texts`.
        validation: A table or a folder of class folders to validate on, in place of the data's own part.
        validation_fraction: The share of each class to hold out, between 0 and 1, when there is no validation
            part; texts that differ in case and white space only stay on one side.
        seed: Fixes which texts are held out.
        **options: `text_column`, `label_column`, `data_dir` and `encoding` of `read_texts`.

    Returns:
        As `read_texts`, with `splits.validation` filled.

    Raises:
        DataError: As in `read_texts` and `Examples.split`, or validation has a class that training lacks.

    Example:
        >>> splits, columns = load_text_splits("reviews.csv", seed=7)  # doctest: +SKIP
    """
    splits, columns = read_texts(source, **options)
    train, held_out, notes = splits.train, splits.validation, splits.notes
    if validation is not None:
        if held_out is not None:
            notes += (
                f"not used: the data's own validation split, as {printable(str(validation))} was given",
            )
        known = {name: options.get(name) for name in ("text_column", "label_column", "encoding")}
        if columns is not None:
            known |= {"text_column": columns.text, "label_column": columns.label}
        part, own, more = _read_one((Path(validation).expanduser(),), known, train.class_names)
        if own is not None:
            more += _unused_columns(own.others)
        notes += tuple(f"{printable(str(validation))}: {note}" for note in more)
        held_out = _examples(part, train.class_names)
    elif held_out is None:
        train, held_out = train.split(validation_fraction, seed=seed)
        return Splits(train, held_out, splits.test, notes, held_out=True), columns
    return Splits(train, held_out, splits.test, notes), columns


def _class_names(part):
    """The classes of a training part in their order, each in one spelling."""
    if part.literal:
        return class_order(part.names)
    require_classes(part.names, part.rows, part.source)
    spellings = {}
    for name in set(part.names):
        spellings.setdefault(label_key(name), set()).add(name)
    # Of true, True and TRUE the class is called as Python has it.
    return class_order(min(found) if len(found) == 1 else key.title() for key, found in spellings.items())


def _read_parts(source, options, labels):
    """`({split: part}, columns, notes)`."""
    if not source.is_dir():
        others = tuple(suffix for each in modalities() if each is not MODALITY for suffix in each.suffixes)
        if source.name.lower().endswith(others) and source.exists():
            raise DataError(
                f"Expected a table or a folder, got the file {printable(str(source))}. "
                "Unpack an archive; of images, pass the folder that holds the class folders."
            )
        part, columns, notes = _read_one((source,), options, labels)
        parts, more = _by_column(part, columns, source, options["encoding"])
        return parts, columns, notes + more
    found = find_split_tables(source)
    if found is None:
        layout = read_folders(source, TEXT_FILES, known=labels)
        encoding = options["encoding"]
        parts = {split: _read_files(classes, source, encoding) for split, classes in layout.splits.items()}
        return parts, None, layout.notes
    part, columns, notes = _read_one(found.splits["train"], options)
    parts, more = {"train": part}, ()
    if columns is not None:
        if found.splits.keys() == {"train"} and len(found.splits["train"]) == 1:
            parts, more = _by_column(part, columns, found.splits["train"][0], options["encoding"])
        else:
            more = _unused_columns(columns.others)
    notes = found.notes + notes + more
    if columns is not None:
        options = options | {"text_column": columns.text, "label_column": columns.label}
    for split in ("validation", "test"):
        if split in found.splits:
            paths, names = found.splits[split], set(part.names)
            if split == "test" and columns is not None and _lacks_labels(paths, options, names):
                notes += (f"not used: {printable(paths[0].name)}, whose texts have no labels",)
                continue
            parts[split], _, more = _read_one(paths, options, names)
            notes += more
    return parts, columns, notes


def _read_one(paths, options, labels=()):
    """`(part, columns, notes)` of one table, of the shards of one, or of one folder of class folders."""
    [path, *more] = paths
    if path.is_dir():
        layout = read_class_folders(path, TEXT_FILES, known=labels)
        return _read_files(layout.splits["train"], path, options["encoding"]), None, layout.notes
    table = read_table(path, labels=labels, **options)
    part = _checked(table.texts, table.labels, table.rows, printable(str(path)), table.columns)
    if not more:
        return part, table.columns, ()
    columns = {"text_column": table.columns.text, "label_column": table.columns.label}
    texts, names, rows = list(part.texts), list(part.names), [f"{path.name}:{row}" for row in part.rows]
    for shard in more:
        further, _, _ = _read_one((shard,), options | columns, {*labels, *names})
        texts += further.texts
        names += further.names
        rows += [f"{shard.name}:{row}" for row in further.rows]
    return _Part(tuple(texts), tuple(names), rows, printable(str(path.parent))), table.columns, ()


def _by_column(part, columns, path, encoding):
    """`({split: part}, notes)` of one table, by its column of splits where it has one."""
    names = [name for name in columns.others if name.strip().casefold() in _SPLIT_COLUMNS]
    if not columns.header or len(names) != 1:
        return {"train": part}, _unused_columns(columns.others)
    [name] = names
    unused = _unused_columns(other for other in columns.others if other != name)
    table = read_table(path, text_column=columns.text, label_column=name, encoding=encoding)
    values = [str(value).strip() for value in table.labels]
    splits = [parse_split_name(value).split for value in values]
    if table.rows != list(part.rows) or "train" not in splits or len(set(splits) - {None}) < 2:
        note = f"not used: the column {name!r}, which names no splits of the rows"
        return {"train": part}, (note, *unused)
    parts = {}
    for split in SPLITS:
        chosen = [at for at, found in enumerate(splits) if found == split]
        if chosen:
            texts, names, rows = (
                [column[at] for at in chosen] for column in (part.texts, part.names, part.rows)
            )
            parts[split] = _Part(tuple(texts), tuple(names), rows, part.source)
    named = sorted({value for value, split in zip(values, splits, strict=True) if split is None})
    notes = [f"read the splits from the column {name!r}"]
    if named:
        left = [row for row, split in zip(part.rows, splits, strict=True) if split is None]
        value = ", ".join(map(repr, named[:3]))
        notes.append(f"not used: {_where(left)}, whose {name} is {value}, which names no split")
    return parts, (*notes, *unused)


def _unused_columns(names):
    names = list(names)
    return (f"not used: {counted(names, 'columns')}",) if names else ()


def _lacks_labels(paths, options, labels):
    """Whether the tables of a test split have texts and no labels, as those of competitions."""
    for path in paths:
        if path.is_dir():
            return False
        try:
            found = read_table(path, labels=labels, **options).labels
        except DataError:
            text = {name: options[name] for name in ("text_column", "encoding")}
            try:
                read_text_column(path, **text)
            except DataError:
                return False
        else:
            hidden = () if "-1" in labels else ("-1", "-1.0")
            if not all(_is_missing(label) or str(label).strip() in hidden for label in found):
                return False
    return True


def _read_files(classes, folder, encoding):
    """The part that files of texts are, `{class name: [path, ...]}`."""
    texts, labels, rows = [], [], []
    for name, paths in classes.items():
        for path in paths:
            try:
                texts.append(read_text(path, encoding))
            except OSError as error:
                raise DataError(
                    f"Expected to read every text. Received: {printable(str(path))} ({error.strerror}). "
                    "Remove it, or correct its permissions."
                ) from error
            labels.append(name)
            rows.append(printable(os.path.relpath(path, folder)))
    return _checked(texts, labels, rows, printable(str(folder)))


def _read_tfds(spec, text_column, label_column, data_dir):
    # Here, as the module needs the optional package only when it is asked for.
    from ktransfer.data.tfds import read_tfds_texts

    found, text, label, notes = read_tfds_texts(spec, text_column, label_column, data_dir=data_dir)
    parts = {
        split: _checked(texts, names, range(1, len(texts) + 1), f"tfds:{spec} {split}")
        for split, (texts, names) in found.items()
    }
    return parts, TextColumns(text, label, header=True, guessed=None in (text_column, label_column)), notes


def _checked(texts, labels, rows, source, columns=None):
    """A `_Part`, with every label as a name; of a table `columns` are given, and its cells are looked at."""
    if not texts:
        raise DataError(f"Expected texts in {source}. Received: no row of data. Add some.")

    def refuse(wrong, received, expected, mend):
        bad = [row for row, value in zip(rows, wrong, strict=True) if value]
        if bad:
            raise DataError(f"Expected {expected} in {source}. Received: {received} in {_where(bad)}. {mend}")

    kind = next((type(text).__name__ for text in texts if not isinstance(text, str | None)), "null")
    refuse(
        [not isinstance(text, str) for text in texts],
        f"a value of type {kind}",
        "a text in every row",
        "Remove it, or pass another --text-column.",
    )
    refuse([not text.strip() for text in texts], "an empty text", "a text in every row", "Remove it.")
    # Half of a UTF-16 pair, as JSON can hold it, is no text and cannot be written to a file.
    refuse(
        [not _encodes(text) for text in texts],
        "half of a surrogate pair",
        "Unicode text",
        "Fix or remove it.",
    )
    refuse(["\0" in text for text in texts], "a NUL character", "text", "Remove it.")
    if columns is None:  # folders and prepared data sets name their classes, whatever they are called
        names = (unicodedata.normalize("NFC", name) for name in labels)
        return _Part(tuple(texts), tuple(names), rows, source, literal=True)
    refuse([_is_missing(label) for label in labels], "no label", "a label in every row", "Add or remove it.")
    kind = next((type(label) for label in labels if not isinstance(label, _LABELS)), None)
    refuse(
        [not isinstance(label, _LABELS) for label in labels],
        "a list or an object"
        if kind in (list, dict, tuple)
        else f"a value of type {kind.__name__ if kind else None}",
        "labels that are names or numbers",
        "ktransfer trains classifiers of one label: write one a row, or pass another --label-column.",
    )
    refuse(
        [len(str(label)) > _LONGEST_NAME for label in labels],
        f"a label of more than {_LONGEST_NAME} characters",
        "labels that name classes",
        "Pass another --label-column.",
    )
    names = tuple(map(label_name, labels))
    lines = {name for name in set(names) if is_line(name)}
    refuse(
        [name not in lines for name in names],
        "a line break or a control character",
        "labels of one line",
        "Rename that class, or pass another --label-column.",
    )
    # Where all others are numbers, nan is how a program writes that there is none; among names it is one.
    absent = [reads_as_missing(name) for name in names]
    others = {name for name, missing in zip(names, absent, strict=True) if not missing}
    if others and all(is_number(name) or name.casefold() in ("true", "false") for name in others):
        shown = next((name for name, missing in zip(names, absent, strict=True) if missing), "")
        refuse(
            absent,
            f"{shown!r} among numbers, which is no label,",
            "a label in every row",
            "Add or remove it, or give such a class another name.",
        )
    require_texts(texts, rows, f"column {columns.text!r} of {source}")
    return _Part(tuple(texts), names, rows, f"column {columns.label!r} of {source}")


def _where(rows):
    return named_rows(rows, "row" if isinstance(rows[0], int) else "file")


def _is_missing(label):
    """Whether a cell is empty; a cell that reads `nan` is not, it may be the name of a class."""
    if isinstance(label, float):
        return math.isnan(label)
    return label is None or (isinstance(label, str) and not label.strip())


def _encodes(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _examples(part, names):
    positions = {name: position for position, name in enumerate(names)}
    if not part.literal:
        # A label of another spelling, such as true for True, where that is clear.
        alike = Counter(map(label_key, names))
        keys = {label_key(name): at for name, at in positions.items() if alike[label_key(name)] == 1}
        positions = {n: positions.get(n, keys.get(label_key(n))) for n in {*names, *part.names}}
        positions = {name: at for name, at in positions.items() if at is not None}
    unknown = [row for row, name in zip(part.rows, part.names, strict=True) if name not in positions]
    if unknown:
        if not part.literal:
            require_classes(part.names, part.rows, part.source)
        name = next(name for name in part.names if name not in positions)
        raise DataError(
            f"Expected labels out of {listed(names)}. "
            f"Received: {name!r} in {_where(unknown)} of {part.source}. "
            f"{did_you_mean(name, names)}Rename that label, or add texts of it to the training part."
        )
    return Examples(part.texts, [positions[name] for name in part.names], names, kind="text")
