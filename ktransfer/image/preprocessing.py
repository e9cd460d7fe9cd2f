"""Image preprocessing before the backbone, and reading images for a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ktransfer.data.examples import Examples
from ktransfer.image.dataset import image_dataset
from ktransfer.image.decoding import Resize, load_images
from ktransfer.models.rows import RowAnExample

if TYPE_CHECKING:
    import tensorflow as tf


_LARGEST = 4_096  # pixels a side, that a manifest may ask for


@dataclass(frozen=True)
class Preprocessing(RowAnExample):
    """Image preprocessing: resizing outside the model, scaling inside it.

    Its methods are those of `TextPreprocessing`, so that training, evaluation and prediction need not know
    which of the two it has.

    Attributes:
        resize: Size in pixels and how it is reached.
        scale, offset: Pixels in 0-255 become `pixel * scale + offset`; a number, or one for each channel.
    """

    task: ClassVar[str] = "image-classification"
    sequence_length: ClassVar[None] = None

    resize: Resize
    scale: float | list[float]
    offset: float | list[float]

    def __call__(self, paths: Sequence[str]) -> np.ndarray:
        """The pixels of image files as the model takes them: float32 `(B, H, W, 3)` in 0-255.

        Raises:
            DataError: A file cannot be read as an image.
        """
        return load_images(paths, self.resize)

    def order(self, paths: Sequence[str]) -> np.ndarray:
        """The order in which a model runs over them fastest: int `(n,)`; for images any will do."""
        return np.arange(len(paths))

    def dataset(self, examples: Examples, *, keep: bool | str = "auto", **options: Any) -> tf.data.Dataset:
        """`image_dataset` with this `resize`; `keep` is its `cache`."""
        return image_dataset(examples, resize=self.resize, cache=keep, **options)

    def epoch_order(self, examples: Examples, *, batch_size: int, seed: int, epoch: int) -> np.ndarray:
        """The order of an epoch of a training `dataset`: int `(n,)`."""
        return np.random.default_rng([seed, epoch]).permutation(len(examples))

    def extra_inputs(self, examples: Examples, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs of the model's upper part in addition to features: none for images."""
        return {}

    def digest(self) -> dict[str, Any]:
        """JSON-able facts of which one differs wherever the backbone would be given anything else."""
        return self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """The settings as flat JSON values, as in the manifest."""
        return {**dataclasses.asdict(self.resize), "scale": self.scale, "offset": self.offset}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`.

        Raises:
            ValueError, TypeError, KeyError, RecipeError: It is not what `to_dict` gave.
        """
        values = dict(values)
        scale, offset = values.pop("scale"), values.pop("offset")
        resize = Resize(**values)
        if not all(type(size) is int and size <= _LARGEST for size in (resize.height, resize.width)):
            raise ValueError(f"an image size that is no whole number up to {_LARGEST:,} pixels")
        for factors in (scale, offset):
            listed = factors if isinstance(factors, list) else [factors]
            if len(listed) not in (1, 3) or not all(isinstance(factor, int | float) for factor in listed):
                raise ValueError(f"{factors!r:.80} as scale or offset")
        return cls(resize, scale, offset)
