"""What `ktransfer predict` is given, files and folders, to the images or texts in them."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ktransfer.data.examples import printable
from ktransfer.data.tables.text_tables import TABLE_SUFFIXES, read_text, read_text_column, table_suffix
from ktransfer.errors import DataError, listed
from ktransfer.image.decoding import IMAGE_EXTENSIONS, unreadable_reason

_NEVER_DATA = ("__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini")
_LONGEST_PATH = 4096  # characters
_NAMED = 3  # files


@dataclass(frozen=True)
class Inputs:
    """What is predicted, and what was left out of the folders.

    Args:
        items: Paths of images, or texts.
        notes: A line for each kind of file that was left out, with how many and the first names.

    Example:
        >>> find_images(["holiday"]).items  # doctest: +SKIP
        ('holiday/beach.jpg', 'holiday/day 2/boat.png')
    """

    items: tuple[str, ...]
    notes: tuple[str, ...] = ()


def find_images(inputs: Sequence[str], *, decode: bool = True) -> Inputs:
    """The image files that are named, and all images in the folders that are named, at any depth.

    Args:
        inputs: Paths of images and folders.
        decode: Leave out images of folders that cannot be decoded. Defaults to `True`; `False` goes by their
            names alone, which takes no time.

    Returns:
        `Inputs`: files in the order given, those of a folder sorted.

    Raises:
        DataError: A path does not exist, or a folder has no image that can be used.

    Example:
        >>> find_images(["rose.jpg", "holiday"]).notes  # doctest: +SKIP
        ('skipped    2 files in holiday that are not images: notes.txt, plan.pdf',)
    """
    items, notes = [], []
    for given in inputs:
        if not os.path.isdir(given):
            if not os.path.exists(given):
                raise DataError(
                    "An image file or a folder of images was expected. "
                    f"Received: {printable(given)}, which does not exist. Check the path."
                )
            items.append(given)
            continue
        found, others = _split(given, IMAGE_EXTENSIONS)
        reasons = {path: unreadable_reason(path) if decode else None for path in found}
        broken = [path for path, reason in reasons.items() if reason]
        notes += _note(given, others, "that are not images")
        notes += _note(given, broken, "that cannot be read as images")
        if len(broken) == len(found):
            raise DataError(
                f"Images ({' '.join(IMAGE_EXTENSIONS)}) were expected in {printable(given)}. "
                f"Received: {_kinds(others, broken)}. Pass image files, or a folder that holds some."
            )
        items += [path for path, reason in reasons.items() if not reason]
    return Inputs(tuple(items), tuple(notes))


def find_texts(inputs: Sequence[str], *, column: str | None = None, encoding: str | None = None) -> Inputs:
    """The texts that are given, in tables and files as well, and in folders of these at any depth.

    Args:
        inputs: Texts, paths of tables whose every row has one, of other files that are each one text, and of
            folders of tables and `.txt` files.
        column: Of tables, its name or number. Defaults to the customary one.
        encoding: Of files, as Python names it. Defaults to UTF-8.

    Returns:
        `Inputs`.

    Raises:
        DataError: A file cannot be read or has no texts, a folder has no table or `.txt` file, or a text is
            empty.

    Example:
        >>> find_texts(["Free entry!"]).items
        ('Free entry!',)
    """
    items, notes = [], []
    for given in inputs:
        is_path = len(given) < _LONGEST_PATH and "\0" not in given
        if is_path and os.path.isdir(given):
            found, others = _split(given, (".txt", *TABLE_SUFFIXES))
            notes += _note(given, others, "that are neither tables nor .txt files")
            if not found:
                raise DataError(
                    f"Tables or .txt files were expected in the folder {printable(given)}. "
                    f"Received: {_kinds(others, ())}. Pass a folder that holds some, or other words."
                )
            before = len(items)
            items += [text for path in found for text in _texts(path, column, encoding)]
            notes.append(f"folder     {printable(given)}: {len(items) - before} texts in {len(found)} files")
        elif is_path:
            items += _texts(given, column, encoding)
        else:
            items.append(given)
    return Inputs(tuple(items), tuple(notes))


def _texts(given, column, encoding):
    suffix = Path(given).suffix.lower()
    # A file without a suffix is a table, as it is in training.
    if table_suffix(given) or (given.strip() and not suffix and os.path.isfile(given)):
        return read_text_column(given, text_column=column, encoding=encoding)
    if suffix and os.path.isfile(given):
        return [read_text(given, encoding)]
    if not given.strip():
        raise DataError("A text was expected. Received: an empty one. Pass some words.")
    return [given]


def _split(folder, suffixes):
    """Paths of the files below a folder: those with these suffixes, and the others."""
    found, others = [], []
    for path in _files(folder):
        name = os.path.basename(path)
        used = name.lower().endswith(suffixes) and not name.startswith(".") and name not in _NEVER_DATA
        (found if used else others).append(path)
    return found, others


def _files(folder) -> Iterator[str]:
    """Every file below a folder, sorted; of folders that are never data, their own path."""
    seen = set()
    try:
        for root, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
            status = os.stat(root)
            if (status.st_dev, status.st_ino) in seen:  # a link that loops
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            left_out = {name for name in folders if name.startswith(".") or name in _NEVER_DATA}
            folders[:] = sorted(set(folders) - left_out)
            yield from (os.path.join(root, name) for name in sorted([*files, *left_out]))
    except OSError as error:
        raise DataError(
            f"A folder that can be listed was expected. Received: {printable(str(error.filename))} "
            f"({error.strerror}). Change its permissions, or remove it."
        ) from error


def _raise(error):
    raise error


def _note(folder, paths, which):
    if not paths:
        return []
    names = listed(printable(os.path.relpath(path, folder)) for path in paths[:_NAMED])
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    files = "file" if len(paths) == 1 else "files"
    return [f"skipped    {len(paths):,} {files} in {printable(folder)} {which}: {names}{more}"]


def _kinds(others, broken):
    counts = Counter(Path(path).suffix.lower() or "no suffix" for path in others)
    found = [f"{count:,} {kind}" for kind, count in counts.most_common(5)]
    if broken:
        first = printable(os.path.basename(broken[0]))
        found.append(f"{len(broken):,} that cannot be read, such as {first}")
    return listed(found) or "an empty folder"
