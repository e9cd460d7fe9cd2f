"""The best weights so far and how good they were, in memory and, for a run that may be cut off, on disk."""

import operator
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from ktransfer.files import replacing


class BestWeights:
    """Remembers the weights of the best epoch.

    Args:
        rising: Whether a higher value is better.
        baseline: The value of the weights to begin with; `None` where they are not worth keeping.
        path: An `.npz` file to keep it all in, and to go on from where there is one.

    Example:

        best = BestWeights(rising=True)
        best.offer(0.8, model.variables, "epoch 1")
        best.restore(model.variables)
    """

    def __init__(self, *, rising: bool, baseline: float | None = None, path: Path | None = None):
        self._better = operator.gt if rising else operator.lt
        self._path = path
        self.value, self.origin, self.waited = baseline, "the weights that fit began with", 0
        self._weights: dict[str, np.ndarray] = {}
        if path is not None and path.is_file():
            with np.load(path) as kept:
                self._weights = {name[1:]: kept[name] for name in kept.files if name.startswith("/")}
                self.value, self.waited = float(kept["value"]), int(kept["waited"])
                self.origin = str(kept["origin"])

    def offer(self, value: float, variables: Sequence[keras.Variable], origin: str) -> None:
        """Take these weights if `value` is better than any before; else count one more epoch that was not."""
        if self.value is None or self._better(value, self.value):
            self.value, self.origin, self.waited = value, origin, 0
            self._weights = {v.path: keras.ops.convert_to_numpy(v) for v in variables}
        else:
            self.waited += 1
        self._save()

    def join(self, variables: Sequence[keras.Variable]) -> None:
        """At the start of a stage: what begins to train now is, as it is, part of the best so far."""
        self.waited = 0
        if self.value is not None:
            for variable in variables:
                self._weights.setdefault(variable.path, keras.ops.convert_to_numpy(variable))
            self._save()

    def restore(self, variables: Sequence[keras.Variable]) -> None:
        """Put the best weights back."""
        for variable in variables:
            if variable.path in self._weights:
                variable.assign(self._weights[variable.path])

    def _save(self):
        if self._path is not None and self.value is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # A slash before each path keeps them apart from the three names.
            weights = {f"/{path}": value for path, value in self._weights.items()}
            with replacing(self._path) as partial:
                np.savez(partial, value=self.value, waited=self.waited, origin=self.origin, **weights)
