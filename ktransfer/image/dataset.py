"""Examples to batches of pixels and labels, as tf.data."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from ktransfer.data.examples import Examples
from ktransfer.errors import DataError
from ktransfer.image.augmentation import Augmentation
from ktransfer.image.augmentation_ops import augment
from ktransfer.image.decoding import Resize, load_image
from ktransfer.utils.files import cache_folder, read_at, write_at

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


# Of the free disk that kept pixels may take.
CACHE_SHARE = 0.5


def image_dataset(
    examples: Examples,
    *,
    resize: Resize,
    batch_size: int,
    training: bool = False,
    augmentation: Augmentation | None = None,
    one_hot: bool = False,
    seed: int = 0,
    first_pass: int = 0,
    cache: bool | str = "auto",
    workers: int | None = None,
) -> tf.data.Dataset:
    """Batches of `examples`, decoded, resized and, when training, shuffled and augmented.

    Each pass over a training dataset is another epoch with its own order and augmentation; both follow from
    `seed`, so that two datasets with one seed give the same passes. Otherwise the order is that of the
    examples and nothing is varied. The last batch may be smaller; nothing is dropped.

    Args:
        examples: Paths of images and their labels.
        resize: The size of every image.
        batch_size: Images a batch.
        training: Whether to shuffle, and to apply `augmentation`.
        augmentation: How to vary training images; None varies nothing. Not used unless `training`.
        one_hot: Whether labels are the targets of a loss, such as shares of classes; always so where the augmentation
            mixes labels. Defaults to `False`.
        seed: A non-negative integer.
        first_pass: Which epoch's order and augmentation the first pass has, such as one to go on with.
        cache: Whether to keep the resized uint8 images from the first pass on, in a file without a name in
            ktransfer's cache folder, which goes with the dataset; memory stays flat. `"auto"` does so while
            they take up to `CACHE_SHARE` of the free disk. Augmentation comes after the cache.
        workers: Threads that decode; None lets Python choose by the number of cores.

    Returns:
        A dataset of `(images, labels)` with a known number of batches: float32 `(B, H, W, 3)` in 0-255, and
        labels as the examples have them or, as targets, float32 `(B, C)`.

    Raises:
        DataError: `batch_size` is below 1 or `cache` is unknown.

    Example:
        >>> dataset = image_dataset(examples, resize=Resize(160, 160), batch_size=32)  # doctest: +SKIP
        >>> model.evaluate(dataset)  # doctest: +SKIP
    """
    if batch_size < 1:
        raise DataError(f"Expected a batch size of at least 1, got {batch_size}. Pass such as 32.")
    if cache not in (True, False, "auto"):
        raise DataError(f'Expected cache to be True, False or "auto", got {cache!r}. Pass one of them.')
    varied = augmentation if training and augmentation is not None else Augmentation.none()
    pixels = _Pixels(examples.inputs, resize, keep=cache, workers=workers)
    epochs = itertools.count(first_pass)
    labels = examples.targets if one_hot or varied.mixes_labels else examples.labels

    def batches() -> Iterator[tuple[Array, Array, Array]]:
        random = np.random.default_rng([seed, next(epochs)])
        order = random.permutation(len(examples)) if training else np.arange(len(examples))
        for start in range(0, len(examples), batch_size):
            indices = order[start : start + batch_size]
            yield pixels.read(indices), labels[indices], random.integers(2**31, size=2)

    def finish(images: tf.Tensor, labels: tf.Tensor, batch_seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return augment(images, labels, batch_seed, varied)

    signature = (
        tf.TensorSpec((None, resize.height, resize.width, 3), tf.uint8),
        tf.TensorSpec((None, *labels.shape[1:]), labels.dtype),
        tf.TensorSpec((2,), tf.int64),
    )
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(math.ceil(len(examples) / batch_size)))
    return dataset.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


class _Pixels:
    """Resized images by index, read by a few threads at once and kept if asked to."""

    def __init__(
        self, paths: Sequence[str], resize: Resize, *, keep: bool | str, workers: int | None
    ) -> None:
        self._paths, self._resize = paths, resize
        self._pool = ThreadPoolExecutor(workers)
        self._shape = (resize.height, resize.width, 3)
        self._bytes = math.prod(self._shape)
        self._file = _scratch_file(len(paths) * self._bytes, keep)
        self._kept = np.zeros(len(paths), dtype=bool)

    def read(self, indices: Array) -> Array:
        """uint8 `(len(indices), H, W, 3)`."""
        images = np.empty((len(indices), *self._shape), np.uint8)
        for _ in self._pool.map(self._read, indices.tolist(), images):
            pass  # what one of them raises is raised here
        return images

    def _read(self, index: int, image: Array) -> None:
        offset = index * self._bytes
        # Not a memory map, whose pages would count as this process's memory.
        file = self._file
        if file is not None and self._kept[index] and read_at(file, image, offset) == self._bytes:
            return
        image[:] = load_image(self._paths[index], self._resize)
        if file is not None:
            with contextlib.suppress(OSError):  # a disk that is full by now: decoded again next time
                self._kept[index] = write_at(file, image, offset) == self._bytes


def _scratch_file(size: int, keep: bool | str) -> io.BufferedRandom | None:
    """A file that is deleted when it is closed or the process ends; `None` if there is no room for one."""
    if not keep:
        return None
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        if keep == "auto" and size > CACHE_SHARE * shutil.disk_usage(cache_folder()).free:
            return None
        return tempfile.TemporaryFile(dir=cache_folder(), prefix="pixels-")
    except OSError:
        return None
