"""Names for types that many modules share. Nothing is imported for them while a program runs.

Import them under `if TYPE_CHECKING:` in modules with `from __future__ import annotations`, or as any other name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

# An array of NumPy. Its shape, its axes and its dtype are in the docstrings: a type checker knows none of the three.
Array: TypeAlias = "np.ndarray[Any, Any]"

# A tensor or an array of the backend: TensorFlow's, JAX's or PyTorch's, of which type checkers know nothing here.
Tensor: TypeAlias = Any

# What a model takes: one array, or several by the names of its inputs.
ModelInputs: TypeAlias = "Array | dict[str, Array]"

PathLike: TypeAlias = str | os.PathLike[str]

# Callable that receives progress messages, such as `print`.
Say: TypeAlias = Callable[[str], None]

# Callable that receives the number done and the total.
OnProgress: TypeAlias = Callable[[int, int], None]

# A model or an artifact as it is called: inputs by name to answers `(B, C)`.
Answer: TypeAlias = "Callable[[dict[str, Array]], Array]"
