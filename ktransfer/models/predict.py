"""Predictions in batches, smaller ones where memory runs out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.utils.oom import is_out_of_memory

if TYPE_CHECKING:
    from ktransfer.core.typing import Array, ModelInputs


def predict_in_batches(model: keras.Model, batches: Iterable[Any]) -> Iterator[np.ndarray | list[np.ndarray]]:
    """The outputs of `model` for each batch, in inference mode.

    A batch smaller than the first is filled up and cut again: a new size would be compiled anew. Where memory
    runs out, batches are halved from there on, with a warning.

    Args:
        model: Any.
        batches: Arrays `(B, ...)`, or for several inputs a dict of them; none larger than the first.

    Yields:
        `(B, ...)` for each batch, or a list of these from a model with a list of outputs.

    Example:

        logits = np.concatenate(list(predict_in_batches(model, [images[:32], images[32:]])))
    """
    size = None
    for batch in batches:
        batch = keras.tree.map_structure(np.asarray, batch)  # JAX takes no tensors of TensorFlow
        count = len(keras.tree.flatten(batch)[0])
        size = size or count
        answers: list[Any] = []
        while (start := sum(len(keras.tree.flatten(answer)[0]) for answer in answers)) < count:
            try:
                answers.append(_predict_part(model, batch, start, size))
            except Exception as error:
                if not is_out_of_memory(error) or size == 1:
                    raise
                size = -(-size // 2)
                warnings.warn(f"ktransfer: out of memory; batches are run in parts of {size}", stacklevel=2)
        if len(answers) == 1:
            yield answers[0]
        else:
            yield keras.tree.map_structure(lambda *parts: np.concatenate(parts), *answers)


def _predict_part(model: keras.Model, batch: ModelInputs, start: int, size: int) -> Array | list[Array]:
    """The answers to `size` examples from `start` on, or as many as there are."""
    part = keras.tree.map_structure(lambda rows: rows[start : start + size], batch)
    count = len(keras.tree.flatten(part)[0])
    if count < size:
        part = keras.tree.map_structure(
            lambda rows: np.pad(rows, [(0, size - count)] + [(0, 0)] * (rows.ndim - 1), "edge"), part
        )
    return keras.tree.map_structure(lambda rows: rows[:count], model.predict_on_batch(part))
