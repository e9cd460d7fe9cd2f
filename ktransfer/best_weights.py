"""The best weights so far and how good they were, in memory and, for a run that may be cut off, on disk."""

import math
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransfer.errors import RunError
from ktransfer.files import replacing


class BestWeights:
    """Remembers the weights of the best epoch.

    Args:
        rising: Whether a higher value is better.
        baseline: The value of the weights to begin with; `None` where they are not worth keeping.
        path: An `.npz` file to keep it all in, and to go on from where there is one.

    Raises:
        RunError: That file is damaged.

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
            self._load(path)

    def offer(self, value: float, variables: Sequence[keras.Variable], origin: str) -> None:
        """Take these weights if `value` is better than any before; else count one more epoch that was not."""
        if not math.isnan(value) and (self.value is None or self._better(value, self.value)):
            self.value, self.origin, self.waited = value, origin, 0
            self._weights = {v.path: keras.ops.convert_to_numpy(v) for v in variables}
        else:
            self.waited += 1
        self._save()

    def join(self, variables: Sequence[keras.Variable], *, resumed: bool = False) -> None:
        """At the start of a stage: what begins to train now is, as it is, part of the best so far.

        Where a stage is `resumed` in its middle, the epochs that were not better still count.
        """
        if not resumed:
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

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What it remembers: the JSON-able facts, and the weights by their paths."""
        return {"value": self.value, "waited": self.waited, "origin": self.origin}, dict(self._weights)

    def set_state(self, facts: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> None:
        """Remember what `state` gave, in another process."""
        self.value, self.waited, self.origin = facts["value"], facts["waited"], facts["origin"]
        self._weights = dict(weights)

    def _load(self, path):
        try:
            with np.load(path, allow_pickle=False) as kept:
                weights = {name[1:]: kept[name] for name in kept.files if name.startswith("/")}
                facts = {"value": float(kept["value"]), "waited": int(kept["waited"])}
                self.set_state(facts | {"origin": str(kept["origin"])}, weights)
        except Exception as error:  # whatever NumPy, zipfile and zlib have for a damaged file
            raise RunError(
                f"Weights that ktransfer kept were expected in {path}. "
                f"Received: {type(error).__name__}: {error}. Remove it to begin with the weights as they are."
            ) from error

    def _save(self):
        if self._path is not None and self.value is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            facts, weights = self.state()
            # A slash before each path keeps them apart from the three names.
            named = {f"/{path}": value for path, value in weights.items()}
            with replacing(self._path) as partial:
                np.savez(partial, **facts, **named)
