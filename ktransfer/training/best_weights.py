"""The best weights so far and their monitored value, in memory and, for a run that may be cut off, on disk."""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransfer.errors import RunError
from ktransfer.utils.files import replacing


class BestWeights:
    """Remembers the weights of the best epoch, by variable and not by name: names repeat within a model.

    Args:
        rising: Whether a higher value is better.
        baseline: The value of the weights to begin with; `None` where they are not worth keeping.
        path: An `.npz` file to keep it all in, and to resume from where there is one.
        universe: Returns all variables that there can be, in an order that is the same in every process;
            `None` for the variables of each call. The file names weights by it.

    Raises:
        RunError: That file is damaged.

    Example:

        best = BestWeights(rising=True)
        best.offer(0.8, model.variables, "epoch 1")
        best.restore(model.variables)
    """

    def __init__(
        self,
        *,
        rising: bool,
        baseline: float | None = None,
        path: Path | None = None,
        universe: Callable[[], Sequence[keras.Variable]] | None = None,
    ) -> None:
        self.set_direction(rising=rising)
        self._path, self._universe = path, universe
        self.value, self.origin, self.waited = baseline, "the weights that fit began with", 0
        self._weights: dict[int, np.ndarray] = {}
        self._variables: dict[int, keras.Variable] = {}  # kept, so that no other variable gets their ids
        self._found: dict[str, np.ndarray] = {}
        if path is not None and path.is_file():
            self._load(path)

    def set_direction(self, *, rising: bool) -> None:
        """Whether a higher value is better, where it was not known at first."""
        self._better = operator.gt if rising else operator.lt

    def offer(self, value: float, variables: Sequence[keras.Variable], origin: str) -> None:
        """Take these weights if `value` is better than any before; else count one more epoch that was not."""
        self.recognise(variables)
        if not math.isnan(value) and (self.value is None or self._better(value, self.value)):
            self.value, self.origin, self.waited = value, origin, 0
            self._keep(variables, anew=True)
        else:
            self.waited += 1
        self._save()

    def join(self, variables: Sequence[keras.Variable], *, resumed: bool = False) -> None:
        """At the start of a stage, add what begins to train now, as it is, to the best so far.

        Where a stage is `resumed` in its middle, the epochs that were not better still count.
        """
        self.recognise(variables)
        if not resumed:
            self.waited = 0
        if self.value is not None:
            self._keep([variable for variable in variables if id(variable) not in self._weights])
            self._save()

    def restore(self, variables: Sequence[keras.Variable]) -> None:
        """Assign the best weights."""
        self.recognise(variables)
        for variable in variables:
            if id(variable) in self._weights:
                variable.assign(self._weights[id(variable)])

    def recognise(self, variables: Sequence[keras.Variable]) -> None:
        """Find the variables of the weights that a file has, whose order and paths are those of the model."""
        if not self._found:
            return
        known = {id(variable) for variable in variables}
        for name, variable in unique_names(self._universe() if self._universe else variables).items():
            if id(variable) not in known:
                continue
            value = self._found.pop(name, None)
            if value is not None and value.shape == tuple(variable.shape):
                self._weights[id(variable)], self._variables[id(variable)] = value, variable

    def state(self, names: Mapping[int, str] | None = None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The saved state: JSON-able facts, and the weights by name.

        Args:
            names: Names of the variables by their ids; those without one are left out. `None` uses paths.
        """
        facts = {"value": self.value, "waited": self.waited, "origin": self.origin}
        if names is None:
            by_name = unique_names(self._universe() if self._universe else self._variables.values())
            names = {id(variable): name for name, variable in by_name.items()}
        weights = {names[key]: value for key, value in self._weights.items() if key in names}
        return facts, weights

    def set_state(
        self,
        facts: Mapping[str, Any],
        weights: Mapping[str, np.ndarray],
        variables: Mapping[str, keras.Variable] | None = None,
    ) -> None:
        """Remember what `state` gave, in another process; `variables` by the names that it was given."""
        self.value, self.waited, self.origin = facts["value"], facts["waited"], facts["origin"]
        self._weights, self._variables, self._found = {}, {}, {}
        if variables is None:
            self._found = dict(weights)
            return
        for name, value in weights.items():
            key = id(variables[name])
            self._weights[key], self._variables[key] = value, variables[name]

    def _keep(self, variables: Sequence[keras.Variable], *, anew: bool = False) -> None:
        if anew:
            self._weights, self._variables = {}, {}
        for variable in variables:
            # Copied: on the CPU an array may be a view of the variable.
            self._weights[id(variable)] = np.array(keras.ops.convert_to_numpy(variable))
            self._variables[id(variable)] = variable

    def _load(self, path: Path) -> None:
        try:
            with np.load(path, allow_pickle=False) as kept:
                weights = {name[1:]: kept[name] for name in kept.files if name.startswith("/")}
                facts = {"value": float(kept["value"]), "waited": int(kept["waited"])}
                self.set_state(facts | {"origin": str(kept["origin"])}, weights)
        except Exception as error:  # whatever NumPy, zipfile and zlib have for a damaged file
            raise RunError(
                f"Expected weights that ktransfer kept in {path}, got {type(error).__name__}: {error}. "
                "Remove it to begin with the weights as they are."
            ) from error

    def _save(self) -> None:
        if self._path is not None and self.value is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            facts, weights = self.state()
            # A slash before each name keeps them apart from the three facts.
            named = {f"/{name}": value for name, value in weights.items()}
            with replacing(self._path) as partial:
                arrays: dict[str, Any] = facts | named
                np.savez(partial, **arrays)


def unique_names(variables: Iterable[keras.Variable]) -> dict[str, keras.Variable]:
    """Variables by path, with a count where a path repeats, so that equal orders give equal names.

    Example:

        unique_names(model.variables)   # {"dense/kernel": ..., "dense/kernel#2": ...}
    """
    named: dict[str, keras.Variable] = {}
    counts: dict[str, int] = {}
    for variable in variables:
        counts[variable.path] = count = counts.get(variable.path, 0) + 1
        named[variable.path if count == 1 else f"{variable.path}#{count}"] = variable
    return named
