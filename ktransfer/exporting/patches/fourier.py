"""FNet's Fourier transform in operations that TFLite and ONNX have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np

if TYPE_CHECKING:
    from ktransfer.core.typing import Array, Tensor


@contextlib.contextmanager
def fourier_as_matrices() -> Iterator[None]:
    """Trace with the transform of two axes written as products with matrices of cosines and sines.

    TFLite has a transform of real powers of two alone, tf2onnx none. FNet is exported for one sequence
    length, so that the matrices are constants; its authors do the same on TPUs (Lee-Thorp et al. 2022).

    Example:
        >>> x = keras.random.normal((1, 4, 4))
        >>> with fourier_as_matrices():
        ...     real, imaginary = keras.ops.fft2((x, keras.ops.zeros_like(x)))
    """
    before = keras.ops.fft2
    # The one function of Keras that ktransfer replaces, while a model is traced: keras-hub's layer calls it
    # by this name deep inside, so neither a subclass nor a clone of the graph reaches it.
    keras.ops.fft2 = _fft2
    try:
        yield
    finally:
        keras.ops.fft2 = before


def _fft2(x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    real, imaginary = x
    rows_cos, rows_sin = _waves(real.shape[-2])
    cos, sin = _waves(real.shape[-1])
    # (cos - i sin) (real + i imaginary), along one axis and then along the other
    real, imaginary = (
        keras.ops.matmul(rows_cos, real) + keras.ops.matmul(rows_sin, imaginary),
        keras.ops.matmul(rows_cos, imaginary) - keras.ops.matmul(rows_sin, real),
    )
    return (
        keras.ops.matmul(real, cos) + keras.ops.matmul(imaginary, sin),
        keras.ops.matmul(imaginary, cos) - keras.ops.matmul(real, sin),
    )


def _waves(size: int) -> tuple[Array, Array]:
    turns = np.outer(np.arange(size), np.arange(size)) % size * (2 * np.pi / size)
    return np.cos(turns).astype(np.float32), np.sin(turns).astype(np.float32)
