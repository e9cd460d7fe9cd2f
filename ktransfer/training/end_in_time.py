"""End `fit` when the time for it is over."""

from collections.abc import Callable
from typing import Any

import keras

from ktransfer.recipes.time_budget import TimeBudget


class EndInTime(keras.callbacks.Callback):
    """Ends `fit` when the time that a `TimeBudget` leaves for training is over.

    Args:
        budget: The `TimeBudget`.
        say: Callable that receives a message when it ends `fit`.

    Example:

        model.fit(train, callbacks=[EndInTime(TimeBudget(600), print)])
    """

    def __init__(self, budget: TimeBudget, say: Callable[[str], None]) -> None:
        super().__init__()
        self._budget, self._say, self._ended = budget, say, False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._ended = False

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not self._ended and self._budget.left() < 0:
            self._ended = True
            self.model.stop_training = True
            self._say("budget     the time for training is over; the present weights are kept")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._ended:  # ProgressiveUnfreezing goes on with the next stage where one ends early
            self.model.stop_training = True
