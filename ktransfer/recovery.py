"""Back to the last good state of training, which is kept in memory."""

from collections.abc import Callable, Iterable

import keras
import numpy as np

from ktransfer.optimizers import GroupedOptimizer


class Recovery:
    """Remembers what training changes as long as that is finite, to go back to when the loss is no number.

    What an epoch ends with is proven by the first loss of the next one: finite weights may be far too large.
    It takes as much of the host's memory as the weights that train and the optimizer's state of them.

    Args:
        model: Being fit.
        optimizer: Its own, within a loss scale or not; it counts the divergences, so that a checkpoint does.
        tell: Told in a sentence of a divergence and what is done.

    Example:

        recovery = Recovery(model, optimizer, print)
        recovery.take(model.trainable_variables, proven=True)
        recovery.diverged("in batch 3")   # the first time: False
    """

    def __init__(self, model: keras.Model, optimizer: GroupedOptimizer, tell: Callable[[str], None]):
        self._model, self._optimizer, self._tell = model, optimizer, tell
        self._good: list[tuple[keras.Variable, np.ndarray]] = []
        self._unproven: list[tuple[keras.Variable, np.ndarray]] = []

    def take(self, moving: Iterable[keras.Variable], *, proven: bool = False) -> bool:
        """Remember these variables and the optimizer's, unless what trains is not finite.

        Args:
            moving: What training changes.
            proven: Whether it can be gone back to as it is.

        Returns:
            Whether it was.
        """
        checked = {id(variable) for variable in self._model.trainable_variables + self._optimizer.variables}
        # Copied: on the CPU an array may be a view of the variable.
        kept = [
            (variable, np.array(keras.ops.convert_to_numpy(variable)))
            for variable in [*moving, *self._model.optimizer.variables]
        ]
        if not all(np.isfinite(value).all() for variable, value in kept if id(variable) in checked):
            return False
        self._unproven = kept
        if proven:
            self.prove()
        return True

    def prove(self) -> None:
        """What was taken last is good."""
        self._good, self._unproven = self._unproven or self._good, []

    def restore(self) -> None:
        """Put back what was taken last."""
        for variable, value in self._unproven or self._good:
            variable.assign(value)

    def diverged(self, where: str) -> bool:
        """Go back; the first time learning rates fall to a tenth, from the second on a stage is to end.

        Returns:
            Whether it is.
        """
        if keras.backend.backend() == "jax":
            self._model.jax_state_sync()  # within an epoch the variables hold nothing
        count = int(keras.ops.convert_to_numpy(self._optimizer.divergences)) + 1
        self._unproven = []
        self.restore()
        self._optimizer.divergences.assign(count)
        then = "the stage ends" if count > 1 else "learning rates are a tenth from here on"
        self._tell(f"the loss is no number {where}: back to the last good weights and optimizer, {then}")
        return count > 1
