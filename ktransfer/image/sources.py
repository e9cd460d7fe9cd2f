"""What a person names as data, a folder or a TFDS name, to examples."""

import os
from collections.abc import Sequence
from pathlib import Path

from ktransfer.data.examples import Examples, Splits, printable
from ktransfer.data.folders import FileKind, read_class_folders, read_folders
from ktransfer.data.label_names import class_order
from ktransfer.errors import DataError, did_you_mean, listed
from ktransfer.image.decoding import EXTRAS, IMAGE_EXTENSIONS, UNREAD_EXTENSIONS

IMAGE_FILES = FileKind("images", IMAGE_EXTENSIONS, UNREAD_EXTENSIONS, "JPEG or PNG", extras=EXTRAS)


def read_data(
    data: str | os.PathLike,
    *,
    class_names: Sequence[str] | None = None,
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> Splits:
    """Read the examples that `data` names; nothing is decoded.

    A folder holds either one folder of images for each class, or `train/` and optionally `val/` and `test/`,
    each such a folder, under any of their usual names (see `parse_split_name`), or classes with `train/` and
    so on in each. Images lie at any depth below their class; links are followed, and a folder that is the
    only one is looked through. `Splits.notes` says what is not used.

    Args:
        data: A folder, or `tfds:NAME[/CONFIG][:VERSION]` for a data set that TensorFlow Datasets has
            prepared; nothing is downloaded.
        class_names: The classes in the order of their labels; None takes those of the training part, sorted,
            by value where all are numbers.
        data_dir: Where TFDS keeps its data; None takes `TFDS_DATA_DIR` or its default.
        cache_dir: Where the images of a TFDS data set are laid out as files, once; None takes
            `KTRANSFER_CACHE` or `~/.cache/ktransfer`.

    Returns:
        `Splits`; a folder of class folders is all `train`.

    Raises:
        DataError: There is nothing usable, a class is empty or unknown, or there is only one.

    Example:
        >>> read_data("flowers").train.counts()  # doctest: +SKIP
        {'daisy': 100, 'roses': 100}
    """
    if str(data).startswith("tfds:"):
        # Here, as the module needs the optional package only when it is asked for.
        from ktransfer.data.tfds import read_tfds

        spec = str(data).removeprefix("tfds:")
        found, notes = read_tfds(spec, data_dir=data_dir, cache_dir=cache_dir)
    else:
        layout = read_folders(_folder(data), IMAGE_FILES, known=class_names or ())
        found, notes = layout.splits, layout.notes
    names = tuple(class_names) if class_names is not None else class_order(found["train"])
    if len(names) < 2:
        raise DataError(
            f"Expected at least two classes. Received: only {', '.join(names) or 'none'} in {data}. "
            "Add a folder of images for each further class."
        )
    source = printable(str(data))
    splits = {
        split: _examples(classes, names, f"the {split} split of {source}" if len(found) > 1 else source)
        for split, classes in found.items()
    }
    return Splits(**splits, notes=notes)


def load_splits(
    data: str | os.PathLike,
    *,
    validation: str | os.PathLike | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> Splits:
    """Read `data` for training, with a validation part in any case.

    Args:
        data: As in `read_data`.
        validation: A folder of class folders to validate on, in place of the data's own validation part.
        validation_fraction: The share of each class to hold out, between 0 and 1, when there is no validation
            part.
        seed: Fixes which examples are held out.
        data_dir: As in `read_data`.
        cache_dir: As in `read_data`.

    Returns:
        `Splits` whose `validation` is filled.

    Raises:
        DataError: As in `read_data` and `Examples.split`, or validation has a class that training lacks.

    Example:
        >>> splits = load_splits("flowers", validation_fraction=0.1, seed=7)  # doctest: +SKIP
    """
    splits = read_data(data, data_dir=data_dir, cache_dir=cache_dir)
    train, held_out, notes = splits.train, splits.validation, splits.notes
    if validation is not None:
        if held_out is not None:
            notes += (
                f"not used: the data's own validation split, as {printable(str(validation))} was given",
            )
        layout = read_class_folders(_folder(validation), IMAGE_FILES, known=train.class_names)
        held_out = _examples(layout.splits["train"], train.class_names, printable(str(validation)))
        notes += tuple(f"{printable(str(validation))}: {note}" for note in layout.notes)
    elif held_out is None:
        train, held_out = train.split(validation_fraction, seed=seed)
        return Splits(train, held_out, splits.test, notes, held_out=True)
    return Splits(train, held_out, splits.test, notes)


def _folder(path):
    path = Path(path).expanduser()
    if not path.is_dir():
        received = f"the file {path}" if path.exists() else f"{path}, which does not exist"
        raise DataError(
            f"Expected a folder that holds a folder of images for each class. Received: {received}. "
            "Pass such a folder, or tfds:NAME."
        )
    return path


def _examples(classes, names, source):
    labels = {name: label for label, name in enumerate(names)}
    unknown = sorted(set(classes) - set(names))
    if unknown:
        raise DataError(
            f"Expected classes out of {listed(names)}. Received: {unknown[0]!r} in {source}. "
            f"{did_you_mean(unknown[0], names)}Rename that class, or remove it."
        )
    pairs = [(path, labels[name]) for name in sorted(classes) for path in classes[name]]
    paths, indices = zip(*pairs, strict=True)
    return Examples(paths, indices, names)
