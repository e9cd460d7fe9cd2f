"""What a person names as data: images or texts?"""

import os
from pathlib import Path

from ktransfer.data.images import IMAGE_EXTENSIONS
from ktransfer.data.table_bytes import table_suffix
from ktransfer.data.tfds_source import find_prepared, import_tfds

IMAGES, TEXTS = "image-classification", "text-classification"


def find_task(data: str | os.PathLike, *, data_dir: str | os.PathLike | None = None) -> str:
    """Which task data is for, told by the first files that say so; nothing of them is read.

    A file is a table of texts. A folder with an image anywhere in it is of images, whatever else lies there;
    one with tables or with `.txt` files in class folders and no image is of texts.

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
    path = Path(data).expanduser()
    if not path.is_dir():
        # What is not there at all may be either; by its name it was meant as one of them.
        return TEXTS if path.is_file() or table_suffix(path) else IMAGES
    texts = False
    for folder, folders, files in os.walk(path, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        suffixes = {Path(name).suffix.lower() for name in files if not name.startswith(".")}
        if suffixes & set(IMAGE_EXTENSIONS):
            return IMAGES
        at_top = Path(folder) == path
        texts |= any(map(table_suffix, files)) or (".txt" in suffixes and not at_top)
    return TEXTS if texts else IMAGES


def _task_of_tfds(spec, data_dir):
    tfds = import_tfds(spec)
    features = tfds.builder_from_directory(str(find_prepared(spec, data_dir))).info.features.values()
    kinds = {type(feature) for feature in features}
    return TEXTS if tfds.features.Text in kinds and tfds.features.Image not in kinds else IMAGES
