"""End a `fit` whose epochs show that it will not be the best."""

from __future__ import annotations

import math
from typing import Any

import keras
import optuna


class PruneEpochs(keras.callbacks.Callback):
    """Reports the monitored value of each epoch to a trial of Optuna, and ends the trial where its pruner asks for it.

    Epochs are counted over all `fit`s that the callback is given to, as `ktransfer.train` may have one for each stage.
    What is reported is the value itself, or where higher is better 1 less it, so that the study minimizes.

    Args:
        trial: Of Optuna, of a study that minimizes.
        monitor: As in the history, such as `"val_accuracy"`.
        higher_is_better: Whether it is. Defaults to `True`.

    Raises:
        optuna.TrialPruned: Within `fit`, after an epoch.

    Example:

        model.fit(train, validation_data=validation, callbacks=[PruneEpochs(trial, "val_accuracy")])
    """

    def __init__(self, trial: optuna.Trial, monitor: str, *, higher_is_better: bool = True) -> None:
        super().__init__()
        self._trial, self._monitor, self._higher = trial, monitor, higher_is_better
        self.epochs = 0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epochs += 1
        value = (logs or {}).get(self._monitor)
        if value is None or not math.isfinite(value):
            return
        self._trial.report(1 - float(value) if self._higher else float(value), self.epochs)
        if self._trial.should_prune():
            raise optuna.TrialPruned(f"after {self.epochs} epochs")
