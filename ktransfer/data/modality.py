"""Detect whether data holds images or texts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ktransfer.core.modality import Modality, modality_of_task
from ktransfer.data.entities.files import find_annotated
from ktransfer.data.examples import printable
from ktransfer.data.junk import junk_name
from ktransfer.data.shards.contents import is_content
from ktransfer.data.shards.shard import find_shards, open_shard
from ktransfer.data.shards.storage import is_url
from ktransfer.data.split_names import parse_split_name, without_shard
from ktransfer.data.tables.file_bytes import TABLE_SUFFIXES, table_suffix
from ktransfer.data.tables.file_cells import names_files
from ktransfer.data.tfds import find_prepared, import_tfds
from ktransfer.errors import DataError, listed

if TYPE_CHECKING:
    from ktransfer.core.typing import PathLike


IMAGES, TEXTS = "image-classification", "text-classification"

_PEEK = 2**16  # bytes of a table that are looked at


def find_task(data: str | os.PathLike[str], *, data_dir: str | os.PathLike[str] | None = None) -> str:
    """Detect the task of data from its files.

    A file is a table of texts, or of images where its rows name image files (`names_files`). A folder is of
    what the table for training at its top is of; else of texts where it holds tables with more rows than it has
    images, or more `.txt` files in its folders than images; and where it holds tables that do not name images
    and no class folders of images. Else it is of images. Images directly in the folder do not count.

    Args:
        data: A file, a folder, or `tfds:NAME`.
        data_dir: Where TFDS keeps its data.

    Returns:
        `"image-classification"` or `"text-classification"`; the former where nothing is found, whose reader
        says what is missing.

    Raises:
        DataError: The TFDS data set is not there.

    Example:
        >>> find_task("reviews.csv")  # doctest: +SKIP
        'text-classification'
    """
    if str(data).startswith("tfds:"):
        return _task_of_tfds(str(data).removeprefix("tfds:"), data_dir)
    if _has_image_shards(data):
        return IMAGES
    path = Path(data).expanduser()
    if not path.is_dir():
        if path.is_file():
            return IMAGES if _names_images(path) else TEXTS
        # What is not there at all may be either; by its name it was meant as one of them.
        return TEXTS if table_suffix(path) else IMAGES
    if find_annotated(path):
        return TEXTS
    path = _inside(path)
    tables, texts, images, folders_of_images = [], 0, 0, set()
    for folder, names in _walk(path):
        found = sum(name.lower().endswith(_image_suffixes()) for name in names)
        tables += [folder / name for name in names if name.lower().endswith(TABLE_SUFFIXES)]
        if folder != path:
            texts += sum(name.lower().endswith(".txt") for name in names)
            images += found
            folders_of_images |= {folder} if found else set()
        else:
            # train.txt and the like at the top are tables.
            texts += sum(_is_for_training(name) for name in names if name.lower().endswith(".txt"))
    training = [table for table in tables if table.parent == path and _is_for_training(table.name)]
    if training:
        return IMAGES if all(map(_names_images, training)) else TEXTS
    if not images:
        return TEXTS if tables or texts else IMAGES
    if texts > images or any(_rows(table) > images and not _names_images(table) for table in tables):
        return TEXTS
    if tables and all(map(_names_images, tables)):
        return IMAGES
    classes = len(folders_of_images) > 1 or any(folder.parent != path for folder in folders_of_images)
    return IMAGES if classes or not tables else TEXTS


def find_modality(
    data: str | os.PathLike[str], *, data_dir: str | os.PathLike[str] | None = None
) -> Modality:
    """Detect the modality of data from its files, as `find_task` does.

    Example:
        >>> find_modality("reviews.csv").noun  # doctest: +SKIP
        'texts'
    """
    return modality_of_task(find_task(data, data_dir=data_dir))


def _has_image_shards(data: PathLike) -> bool:
    found = find_shards(data)
    if found is None:
        return False
    holds = open_shard(found[0]).fields
    contents = modality_of_task(IMAGES).shard_contents()
    if is_content(holds, contents):
        return True
    if is_url(str(data)) or not found[0].lower().endswith(".parquet"):
        raise DataError(
            f"Expected images in the shards of {printable(str(data))}, got the fields {listed(map(repr, holds))}. "
            "Texts are trained on as tables on this machine, such as .parquet; shards of them are predicted."
        )
    return False


def _image_suffixes() -> tuple[str, ...]:
    return modality_of_task(IMAGES).suffixes


def _inside(path: Path) -> Path:
    """The folder that the only folder, where nothing else is, leads to."""
    while True:
        children = _children(path)
        only = [child for child in children if child.is_dir()]
        data = [c for c in children if c.name.lower().endswith((*TABLE_SUFFIXES, *_image_suffixes()))]
        if data or len(only) != 1 or only[0].resolve() in (path.resolve(), *path.resolve().parents):
            return path
        inner = _children(only[0])
        if not any(child.is_dir() or child.name.lower().endswith(TABLE_SUFFIXES) for child in inner):
            return path
        path = only[0]


def _children(folder: Path) -> list[Path]:
    try:
        return [c for c in folder.iterdir() if junk_name(c.name, is_folder=c.is_dir()) is None]
    except OSError:  # the reader of the data reports it
        return []


def _walk(path: Path) -> Iterator[tuple[Path, list[str]]]:
    """`(folder, names of files)` without what is never data; each real folder once."""
    seen = set()
    for folder, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if junk_name(name, is_folder=True) is None)
        yield Path(folder), [name for name in files if junk_name(name, is_folder=False) is None]


def _is_for_training(name: str) -> bool:
    found = parse_split_name(without_shard(name.split(".")[0]))
    return found.split == "train" and not found.unlabelled


def _names_images(table: Path) -> bool:
    return names_files(table, _image_suffixes())


def _rows(table: Path) -> int:
    """The number of rows in the beginning of a text table."""
    return len([line for line in _lines(table) if line.strip()])


def _lines(table: Path) -> list[str]:
    try:
        with open(table, "rb") as file:
            return file.read(_PEEK).decode("latin-1").splitlines()
    except OSError:
        return []


def _task_of_tfds(spec: str, data_dir: PathLike | None) -> str:
    tfds = import_tfds(spec)
    features = tfds.builder_from_directory(str(find_prepared(spec, data_dir))).info.features.values()
    kinds = {type(feature) for feature in features}
    return TEXTS if tfds.features.Text in kinds and tfds.features.Image not in kinds else IMAGES
