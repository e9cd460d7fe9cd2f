"""What tasks have in common of which an example has one answer, a vector of probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


class OneAnswer:
    """The part of `ktransfer.core.task.Task` that is the same wherever an example has one row of answers."""

    per_token, every_class, weights_in_loss = False, True, False

    @property
    def row_task(self) -> Self:
        return self

    def output_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        return tuple(class_names)

    def output_axes(self, input_axes: Sequence[Any], outputs: int) -> tuple[Any, ...]:
        return (input_axes[0], outputs)

    def head_rows(
        self, row_labels: Array, class_weight: str | Mapping[int, float] | None, *, seed: int
    ) -> tuple[Array, Mapping[int, float] | None]:
        return np.arange(len(row_labels)), None

    def findings(
        self, inputs: Sequence[str], labels: Array, class_names: Sequence[str]
    ) -> list[tuple[str, list[int], str]]:
        return []

    def confidence(self, probabilities: Array) -> float:
        return float(np.max(probabilities, axis=-1).mean())
