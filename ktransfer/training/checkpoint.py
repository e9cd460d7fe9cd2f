"""Checkpoint of an interrupted fit: one file with the state after the last complete epoch."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransfer.errors import RunError
from ktransfer.training.best_weights import unique_names
from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing
from ktransfer.utils.files import replacing, write_text


class Checkpoint(keras.callbacks.Callback):
    """Keeps weights, optimizer, best weights and history of a `fit` as of its last whole epoch.

    They lie in one file, which is replaced in one step: whenever the process ends, what is there belongs
    together. The order of the examples, their variation and dropout follow from the seed and the epoch and
    need no keeping. So a `fit` that resumes from it ends as one that was never interrupted.

    It stands behind `ProgressiveUnfreezing` in the list of callbacks.

    Args:
        path: An `.npz` file; if it exists, training resumes from it.
        history: A CSV file to write the same history to, for people; `None` for none.

    Attributes:
        rows: For each epoch that is done its number, `stage`, loss and so on.
        epoch: The one to go on with, as stages count them: those that were skipped have passed.
        found: Whether there is something to go on from.

    Raises:
        RunError: The file is damaged, or of another model.

    Example:

        checkpoint = Checkpoint("runs/flowers/checkpoint.npz")
        fine_tune(model, train, validation, recipe, checkpoint=checkpoint)
    """

    def __init__(
        self, path: str | os.PathLike[str], *, history: str | os.PathLike[str] | None = None
    ) -> None:
        super().__init__()
        self._path, self._history = Path(path), history
        self.rows: list[dict[str, Any]] = []
        self.epoch = 0
        self._arrays: dict[str, Any] = {}
        self.found = self._path.is_file()
        if self.found:
            self._load()

    @property
    def best(self) -> float | None:
        """The monitored value of the best weights that were found; `None` where nothing was."""
        return self._facts["best"]["value"] if self.found else None

    def restore(self, weights: Sequence[keras.Variable]) -> None:
        """Keep these weights from now on, and assign what was found to them.

        Args:
            weights: All that any stage changes.
        """
        self._variables = unique_names(weights)
        if not self.found:
            return
        for name, variable in self._variables.items():
            value = self._arrays.pop(f"model/{name}", None)
            if value is None or value.shape != tuple(variable.shape):
                raise self._unfit(f"nothing that fits {name}")
            variable.assign(value)

    def watch(self, unfreezing: ProgressiveUnfreezing) -> None:
        """Keep the state of this callback, which the next `fit` has before this one.

        The first one resumes from what was found.
        """
        self._unfreezing = unfreezing
        if self._arrays:
            try:
                unfreezing.set_state(self._facts["unfreezing"], self._arrays, self._variables)
            except (KeyError, TypeError, AttributeError) as error:
                raise self._unfit(f"no training state, {type(error).__name__}: {error}") from error
            self._arrays = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.rows.append(
            {"epoch": epoch} | {name: np.asarray(value).item() for name, value in (logs or {}).items()}
        )
        self.epoch = self._unfreezing.epochs_passed
        names = {id(variable): name for name, variable in self._variables.items()}
        facts, arrays = self._unfreezing.state(names)
        arrays |= {f"model/{name}": keras.ops.convert_to_numpy(v) for name, v in self._variables.items()}
        facts = {"epoch": self.epoch, "rows": self.rows, "best": facts["best"], "unfreezing": facts}
        with replacing(self._path) as partial:
            kept: dict[str, Any] = {"facts": json.dumps(facts), **arrays}
            np.savez(partial, **kept)
        self.write_history()

    def write_history(self) -> None:
        """Write the CSV file, as it belongs to what is kept."""
        if self._history and self.rows:
            names = dict.fromkeys(name for row in self.rows for name in sorted(row))
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, ["epoch", *(name for name in names if name != "epoch")])
            writer.writeheader()
            writer.writerows(self.rows)
            write_text(self._history, text.getvalue())

    def _load(self) -> None:
        try:
            with np.load(self._path, allow_pickle=False) as kept:
                self._arrays = {name: kept[name] for name in kept.files if name != "facts"}
                self._facts = json.loads(str(kept["facts"]))
            self.rows, self.epoch = list(self._facts["rows"]), int(self._facts["epoch"])
            self._facts["best"] = {name: self._facts["best"][name] for name in ("value", "waited", "origin")}
        except Exception as error:  # whatever NumPy, zipfile, zlib and json have for a damaged file
            raise self._unfit(f"{type(error).__name__}: {error}") from error

    def _unfit(self, received: str) -> RunError:
        return RunError(
            f"Expected a checkpoint to resume training from in {self._path}, got {received}. Remove it to train again "
            "from model.keras as it is."
        )
