"""The step of a whole batch, taken from the gradients of its parts."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops


class GradientAccumulation:
    """Sums gradients over the parts of a batch that does not fit into memory.

    The result is the gradient of the whole batch: each part counts by its examples, also in the last batch of
    an epoch, which may be smaller. Keras' own accumulation is over a fixed number of parts, whose means count
    alike, so that an epoch's last batch runs into the next epoch.

    Args:
        variables: All that will ever train.
        batch_size: Examples in a whole batch.
        part_size: In a part; it divides `batch_size`.
        examples: In an epoch.
        add_variable: Makes a variable of zeros; `optimizer.add_variable`, so that the optimizer has it.

    Example:

        parts = GradientAccumulation(model.trainable_variables, 32, 8, 1000, optimizer.add_variable)
    """

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        batch_size: int,
        part_size: int,
        examples: int,
        add_variable: Callable[..., keras.Variable],
    ) -> None:
        self._batch_size, self._part_size, self._examples = batch_size, part_size, examples
        self._part = add_variable(shape=(), dtype="int", name="part", aggregation="only_first_replica")
        self._sums = {
            id(v): add_variable(shape=v.shape, dtype=v.dtype, name=f"sum_{v.name}") for v in variables
        }

    @property
    def variables(self) -> list[keras.Variable]:
        return [self._part, *self._sums.values()]

    @property
    def steps(self) -> int:
        """Whole batches in an epoch."""
        return -(-self._examples // self._batch_size)

    def begin_epoch(self) -> None:
        """Prepare for the first part of an epoch."""
        self._part.assign(0)

    def add(
        self, pairs: Sequence[tuple[Any, ...]], state: Sequence[keras.Variable], step: Callable[..., Any]
    ) -> None:
        """Add a part's gradients, and `step` with the sums when the batch is whole.

        Args:
            pairs: `(gradient of the part's mean loss, variable)`.
            state: Variables that `step` changes in addition to these.
            step: Takes such pairs.
        """
        first = self._part * self._part_size
        batch = first - first % self._batch_size
        batch_end = ops.minimum(batch + self._batch_size, self._examples)
        end = ops.minimum(first + self._part_size, batch_end)
        share = ops.cast(end - first, "float32") / ops.cast(batch_end - batch, "float32")
        totals = []
        for gradient, variable in pairs:
            total = ops.convert_to_tensor(self._sums[id(variable)])
            # What is left of a batch that was broken off does not count.
            start = ops.where(ops.equal(first, batch), ops.zeros_like(total), total)
            totals.append(start + ops.cast(gradient, total.dtype) * ops.cast(share, total.dtype))
        touched = [*(variable for _, variable in pairs), *state]
        before = [ops.copy(variable) for variable in touched]
        step([(total, variable) for total, (_, variable) in zip(totals, pairs, strict=True)])
        # Taken and, within a batch, taken back: on JAX a branch cannot assign.
        for variable, value in zip(touched, before, strict=True):
            now = ops.convert_to_tensor(variable)
            variable.assign(ops.where(ops.equal(end, batch_end), now, value))
        for total, (_, variable) in zip(totals, pairs, strict=True):
            self._sums[id(variable)].assign(total)
        self._part.assign_add(1)
