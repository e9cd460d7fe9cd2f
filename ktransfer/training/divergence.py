"""Restore the last good weights and optimizer state after a loss that is NaN or infinite."""

from collections.abc import Callable, Iterable

import keras
import numpy as np

from ktransfer.training.layerwise_optimizer import LayerwiseOptimizer


class Recovery:
    """Remembers what training changes as long as it is finite, and restores it when the loss is not.

    What an epoch ends with is proven by the first loss of the next one: finite weights may be far too large.
    It takes as much of the host's memory as the weights that train and the optimizer's state of them.

    Args:
        model: Being fit.
        layerwise: Its optimizer; counts the divergences, so that a checkpoint does.
        warn: Called with a sentence about a divergence and what was done.

    Example:

        recovery = Recovery(model, layerwise, print)
        recovery.take(model.trainable_variables, proven=True)
        recovery.diverged("in batch 3")   # the first time: False
    """

    def __init__(
        self, model: keras.Model, layerwise: LayerwiseOptimizer, warn: Callable[[str], None]
    ) -> None:
        self._model, self._layerwise, self._warn = model, layerwise, warn
        self._good: list[tuple[keras.Variable, np.ndarray]] = []
        self._unproven: list[tuple[keras.Variable, np.ndarray]] = []

    def take(self, moving: Iterable[keras.Variable], *, proven: bool = False) -> bool:
        """Remember these variables and the optimizer's, unless what trains is not finite.

        Args:
            moving: What training changes.
            proven: Whether it may be restored as it is.

        Returns:
            Whether everything was finite.
        """
        optimizer = self._layerwise.outer
        checked = {id(variable) for variable in [*self._model.trainable_variables, *optimizer.variables]}
        # Copied: on the CPU an array may be a view of the variable.
        kept = [
            (variable, np.array(keras.ops.convert_to_numpy(variable)))
            for variable in [*moving, *optimizer.variables]
        ]
        if not all(np.isfinite(value).all() for variable, value in kept if id(variable) in checked):
            return False
        self._unproven = kept
        if proven:
            self.prove()
        return True

    def prove(self) -> None:
        """Mark what was taken last as good."""
        self._good, self._unproven = self._unproven or self._good, []

    def restore(self) -> None:
        """Restore what was taken last."""
        for variable, value in self._unproven or self._good:
            variable.assign(value)

    def diverged(self, where: str) -> bool:
        """Restore the last good state; lower learning rates the first time, end the stage from the second on.

        Returns:
            Whether the stage is to end.
        """
        if keras.backend.backend() == "jax":
            self._model.jax_state_sync()  # within an epoch the variables hold nothing
        self._unproven = []
        self.restore()
        self._layerwise.divergences += 1
        again = self._layerwise.divergences > 1
        then = "the stage ends" if again else "learning rates are a tenth from here on"
        self._warn(f"loss is NaN or infinite {where}: restored the last good weights and optimizer, {then}")
        return again
