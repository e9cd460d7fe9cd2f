"""Reset random state per epoch for reproducible dropout."""

from typing import Any

import keras
import numpy as np


class SeededDraws(keras.callbacks.Callback):
    """Sets the random state of every layer that has one, such as dropout, at the start of each epoch.

    The random numbers follow from the seed and the epoch, as do the order of the examples and augmentation;
    an epoch that is repeated, in this process or in another, uses the same ones.

    Args:
        model: The model whose layers have random state; what is fit may be a part of it.
        seed: A non-negative integer.
        passed: Epochs of `fit` before its first one that used no random numbers.

    Example:

        model.fit(train, epochs=3, callbacks=[SeededDraws(model, 0)])
    """

    def __init__(self, model: keras.Model, seed: int, *, passed: int = 0) -> None:
        super().__init__()
        held = {id(variable) for variable in model.weights}
        self._states = [variable for variable in model.variables if id(variable) not in held]
        self._seed, self._passed = seed, passed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        random = np.random.default_rng([self._seed, epoch - self._passed, 2])
        for state in self._states:
            state.assign(random.integers(2**31, size=state.shape))
