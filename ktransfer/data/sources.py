"""What a person names as data, a folder or a TFDS name, to examples."""

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ktransfer.data.examples import Examples, Splits, printable
from ktransfer.data.images import IMAGE_EXTENSIONS
from ktransfer.errors import DataError, did_you_mean, listed

# Folder names in any case, and TFDS split names.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def read_data(
    data: str | os.PathLike,
    *,
    class_names: Sequence[str] | None = None,
    data_dir: str | os.PathLike | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> Splits:
    """Read the examples that `data` names; nothing is decoded.

    A folder holds either one folder of images for each class, or `train/` and optionally `val/` (`valid/`,
    `validation/`) and `test/`, each such a folder. Images lie at any depth below their class; links are
    followed, hidden files and files that are no images are passed over.

    Args:
        data: A folder, or `tfds:NAME[/CONFIG][:VERSION]` for a data set that TensorFlow Datasets has
            prepared; nothing is downloaded.
        class_names: The classes in the order of their labels; None takes those of the training part, sorted.
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
        from ktransfer.data.tfds_source import read_tfds

        found = read_tfds(str(data).removeprefix("tfds:"), data_dir=data_dir, cache_dir=cache_dir)
    else:
        found = _read_folder(_folder(data))
    names = tuple(class_names) if class_names is not None else tuple(sorted(found["train"]))
    if len(names) < 2:
        raise DataError(
            f"Expected at least two classes. Received: only {', '.join(names) or 'none'} in {data}. "
            "Add a folder of images for each further class."
        )
    return Splits(**{split: _examples(classes, names, data) for split, classes in found.items()})


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
    train, held_out = splits.train, splits.validation
    if validation is not None:
        held_out = _examples(_classes(_folder(validation)), train.class_names, validation)
    elif held_out is None:
        train, held_out = train.split(validation_fraction, seed=seed)
    return Splits(train, held_out, splits.test)


def _folder(path):
    path = Path(path).expanduser()
    if not path.is_dir():
        received = f"the file {path}" if path.exists() else f"{path}, which does not exist"
        raise DataError(
            f"Expected a folder that holds a folder of images for each class. Received: {received}. "
            "Pass such a folder, or tfds:NAME."
        )
    return path


def _read_folder(folder):
    """{split: {class name: [path, ...]}}."""
    parts = {}
    for child in _subfolders(folder):
        split = SPLIT_NAMES.get(child.name.lower())
        # A class may well be called "train": its folder holds images, a split's holds folders.
        if split is None or any(_is_image(name) for name in _entries(child)):
            continue
        if split in parts:
            raise DataError(
                f"Expected one {split} folder in {folder}. "
                f"Received: {parts[split].name}/ and {child.name}/. Remove one."
            )
        parts[split] = child
    if not parts:
        return {"train": _classes(folder)}
    if "train" not in parts:
        raise DataError(
            f"Expected train/ beside {parts.popitem()[1].name}/. Received: {folder} without it. "
            "Add it, or pass the folder that holds the class folders."
        )
    return {split: _classes(parts[split]) for split in ("train", "validation", "test") if split in parts}


def _classes(folder):
    """{class name: [path, ...]} of a folder of class folders."""
    classes = {}
    for child in _subfolders(folder):
        # macOS may hand out the same name decomposed, and labels are compared across machines.
        name = unicodedata.normalize("NFC", child.name)
        if printable(name) != name:
            raise DataError(
                f"Expected class folders named in UTF-8. Received: {printable(str(child))}. Rename it."
            )
        classes.setdefault(name, []).extend(_images(child))
    if not classes:
        raise DataError(
            f"Expected a folder of images for each class in {folder}. Received: {_contents(folder)}. "
            "Put the images of each class into a folder named after it."
        )
    return classes


def _images(folder):
    """The paths of the images below `folder`; each real folder is read once, so that links cannot loop."""
    seen = {_identity(parent) for parent in folder.resolve().parents}
    images = []
    try:
        for root, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
            identity = _identity(root)
            if identity in seen:
                folders.clear()
                continue
            seen.add(identity)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            images += [os.path.join(root, name) for name in sorted(files) if _is_image(name)]
    except OSError as error:
        raise _unlistable(error) from error
    if not images:
        raise DataError(
            f"Expected images ({' '.join(IMAGE_EXTENSIONS)}) in {folder}. Received: {_contents(folder)}. "
            "Add images to that class, or remove its folder."
        )
    for path in images:
        if not os.path.isfile(path):
            raise DataError(
                f"Expected an image file. Received: {printable(path)}, a link to nothing or no regular file. "
                "Remove it."
            )
    return images


def _examples(classes, names, data):
    labels = {name: label for label, name in enumerate(names)}
    unknown = sorted(set(classes) - set(names))
    if unknown:
        raise DataError(
            f"Expected classes out of {listed(names)}. Received: {unknown[0]!r} in {data}. "
            f"{did_you_mean(unknown[0], names)}Rename that class, or remove it."
        )
    pairs = [(path, labels[name]) for name in sorted(classes) for path in classes[name]]
    paths, indices = zip(*pairs, strict=True)
    return Examples(paths, indices, names)


def _entries(folder):
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise _unlistable(error) from error


def _subfolders(folder):
    return [folder / name for name in _entries(folder) if (folder / name).is_dir()]


def _contents(folder):
    """What lies directly in `folder`, in a few words."""
    names = _entries(folder)
    kinds = Counter(
        "folders" if (folder / n).is_dir() else Path(n).suffix.lower() or "no suffix" for n in names
    )
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "an empty folder"


def _is_image(name):
    return name.lower().endswith(IMAGE_EXTENSIONS) and not name.startswith(".")


def _identity(path):
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _raise(error):
    raise error


def _unlistable(error):
    return DataError(
        f"Expected to list every folder. Received: {printable(str(error.filename))} ({error.strerror}). "
        "Mend its permissions, or remove it."
    )
