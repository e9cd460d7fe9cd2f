"""The pad of minus infinity before a max-pool in numbers that can be quantized."""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf


@contextlib.contextmanager
def finite_padding() -> Iterator[None]:
    """Trace with each pad of minus infinity written as one that repeats the edge.

    keras-hub's ResNet v2 and CSPNet pad so by one pixel before a max-pool of three. Calibration then sees a
    range that no int8 holds. A max-pool's window that sees the copy of an edge pixel sees that pixel as well
    wherever the pad is no more than half the window, so that what it gives is the same.

    Example:
        >>> x, paddings = tf.zeros((1, 4, 4, 1)), [[0, 0], [1, 1], [1, 1], [0, 0]]
        >>> with finite_padding():
        ...     x = tf.nn.max_pool2d(tf.pad(x, paddings, constant_values=float("-inf")), 3, 2, "VALID")
        >>> x.shape
        TensorShape([1, 2, 2, 1])
    """
    before = tf.pad

    def pad(
        tensor: tf.Tensor,
        paddings: Any,
        mode: str = "CONSTANT",
        constant_values: Any = 0,
        name: str | None = None,
    ) -> tf.Tensor:
        if isinstance(constant_values, float) and constant_values == float("-inf"):
            return before(tensor, paddings, "SYMMETRIC", name=name)
        return before(tensor, paddings, mode, constant_values, name)

    # Replaced while a model is traced, as in `fourier_as_matrices`: Keras calls it by this name, and the
    # operation is a node of a functional graph deep inside keras-hub's.
    tf.pad = pad
    try:
        yield
    finally:
        tf.pad = before
