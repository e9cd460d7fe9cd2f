"""What a person names as texts, a table, a folder or a TFDS name, to examples."""

import math
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ktransfer.data.examples import Examples, Splits, printable
from ktransfer.data.sources import SPLIT_NAMES
from ktransfer.data.text_columns import TextColumns
from ktransfer.data.text_tables import TABLE_SUFFIXES, named_rows, read_table, read_text
from ktransfer.errors import DataError, did_you_mean, listed

_LONGEST_NAME = 200  # characters; what is longer is a text


@dataclass(frozen=True)
class _Part:
    """Texts and the names of their classes, checked; `rows` are numbers or, in a folder, file names."""

    texts: tuple[str, ...]
    names: tuple[str, ...]
    rows: Sequence[int | str]
    source: str


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

    A folder holds `train.csv` and optionally `val.csv` (`valid`, `validation`) and `test.csv`, each of any
    kind that `read_table` reads; or one folder of `.txt` files for each class; or `train/` and so on with
    such folders in them.

    Args:
        source: A table, a folder, or `tfds:NAME[/CONFIG][:VERSION]` for a data set that TensorFlow Datasets
            has prepared; nothing is downloaded.
        class_names: The classes in the order of their labels; None takes those of the training part, sorted,
            by value where all are whole numbers.
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
        parts, columns = _read_tfds(str(source).removeprefix("tfds:"), text_column, label_column, data_dir)
    else:
        parts, columns = _read_parts(Path(source).expanduser(), options, class_names or ())
    names = _in_order(set(parts["train"].names)) if class_names is None else tuple(class_names)
    if len(names) < 2:
        raise DataError(
            f"Expected at least two classes. Received: only {names[0]!r} in {printable(str(source))}. "
            "Add texts of another class, or name another label column."
        )
    return Splits(**{split: _examples(part, names) for split, part in parts.items()}), columns


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
    train, held_out = splits.train, splits.validation
    if validation is not None:
        known = {name: options.get(name) for name in ("text_column", "label_column", "encoding")}
        if columns is not None:
            known |= {"text_column": columns.text, "label_column": columns.label}
        part, _ = _read_one(Path(validation).expanduser(), known, train.class_names)
        held_out = _examples(part, train.class_names)
    elif held_out is None:
        train, held_out = train.split(validation_fraction, seed=seed)
    return Splits(train, held_out, splits.test), columns


def _in_order(names):
    """Sorted: by value where all are whole numbers, else by letter."""
    by_letter = sorted(names)
    try:
        return tuple(sorted(by_letter, key=int))
    except ValueError:
        return tuple(by_letter)


def _read_parts(source, options, labels):
    """`({split: part}, columns)`."""
    if not source.is_dir():
        part, columns = _read_one(source, options, labels)
        return {"train": part}, columns
    children = [child for child in sorted(source.iterdir()) if not child.name.startswith(".")]
    tables = [c for c in children if c.is_file() and c.suffix.lower() in TABLE_SUFFIXES]
    found = {}
    for child in (c for c in children if c in tables or (c.is_dir() and not any(c.glob("*.txt")))):
        split = SPLIT_NAMES.get(child.stem.lower())
        if split in found:
            raise DataError(
                f"Expected one {split} part in {source}. "
                f"Received: {found[split].name} and {child.name}. Remove one."
            )
        if split:
            found[split] = child
    if not found:
        if tables and not any(child.is_dir() for child in children):
            raise DataError(
                f"Expected train{tables[0].suffix} in {source}. "
                f"Received: {tables[0].name}. Pass that file itself, or rename it."
            )
        part, columns = _read_one(source, options, labels)
        return {"train": part}, columns
    if "train" not in found:
        raise DataError(
            f"Expected a train part beside {found.popitem()[1].name}. Received: {source} without it. Add it."
        )
    part, columns = _read_one(found["train"], options)
    parts = {"train": part}
    if columns is not None:
        options = options | {"text_column": columns.text, "label_column": columns.label}
    for split in ("validation", "test"):
        if split in found:
            parts[split], _ = _read_one(found[split], options, set(part.names))
    return parts, columns


def _read_one(path, options, labels=()):
    """`(part, columns)` of one table or one folder of class folders."""
    if path.is_dir():
        return _read_class_folders(path, options["encoding"]), None
    table = read_table(path, labels=labels, **options)
    return _checked(table.texts, table.labels, table.rows, printable(str(path))), table.columns


def _read_class_folders(folder, encoding):
    texts, labels, paths = [], [], []
    for child in sorted(folder.iterdir()):
        if child.name.startswith(".") or not child.is_dir():
            continue
        files = [f for f in sorted(child.rglob("*.txt")) if f.is_file() and not f.name.startswith(".")]
        if not files:
            raise DataError(
                f"Expected .txt files in {printable(str(child))}. Received: none. "
                "Add texts to that class, or remove its folder."
            )
        for path in files:
            try:
                texts.append(read_text(path, encoding))
            except OSError as error:
                raise DataError(
                    f"Expected to read every text. Received: {printable(str(path))} ({error.strerror}). "
                    "Remove it, or mend its permissions."
                ) from error
            labels.append(unicodedata.normalize("NFC", child.name))
            paths.append(printable(str(path.relative_to(folder))))
    if not texts:
        raise DataError(
            f"Expected a table, or a folder of .txt files for each class, in {folder}. "
            "Received: neither. Put the texts of each class into a folder named after it."
        )
    return _checked(texts, labels, paths, printable(str(folder)))


def _read_tfds(spec, text_column, label_column, data_dir):
    # Here, as the module needs the optional package only when it is asked for.
    from ktransfer.data.tfds_source import read_tfds_texts

    found, text, label = read_tfds_texts(spec, text_column, label_column, data_dir=data_dir)
    parts = {
        split: _checked(texts, names, range(1, len(texts) + 1), f"tfds:{spec} {split}")
        for split, (texts, names) in found.items()
    }
    return parts, TextColumns(text, label, header=True, guessed=None in (text_column, label_column))


def _checked(texts, labels, rows, source):
    """A `_Part`, with every label as a name."""
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
        "Mend or remove it.",
    )
    refuse([_is_missing(label) for label in labels], "no label", "a label in every row", "Add or remove it.")
    refuse(
        [not isinstance(label, str | int | float) for label in labels],
        "a list or an object",
        "labels that are names or numbers",
        "Pass another --label-column.",
    )
    refuse(
        [len(str(label)) > _LONGEST_NAME for label in labels],
        f"a label of more than {_LONGEST_NAME} characters",
        "labels that name classes",
        "Pass another --label-column.",
    )
    return _Part(tuple(texts), tuple(map(_label_name, labels)), rows, source)


def _where(rows):
    return named_rows(rows, "row" if isinstance(rows[0], int) else "file")


def _is_missing(label):
    if isinstance(label, float):
        return math.isnan(label)
    return label is None or (isinstance(label, str) and label.strip().lower() in ("", "nan"))


def _label_name(label):
    # Columns of whole numbers come as 1.0 where one of their rows was once missing.
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return unicodedata.normalize("NFC", str(label).strip())


def _encodes(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _examples(part, names):
    positions = {name: position for position, name in enumerate(names)}
    unknown = [row for row, name in zip(part.rows, part.names, strict=True) if name not in positions]
    if unknown:
        name = next(name for name in part.names if name not in positions)
        raise DataError(
            f"Expected labels out of {listed(names)}. "
            f"Received: {name!r} in {_where(unknown)} of {part.source}. "
            f"{did_you_mean(name, names)}Rename that label, or add texts of it to the training part."
        )
    return Examples(part.texts, [positions[name] for name in part.names], names, kind="text")
