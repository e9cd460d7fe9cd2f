"""Base classes of tasks: those that name classes, and those with one answer for an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ktransfer.errors import DataError, RecipeError, RunError

if TYPE_CHECKING:
    from ktransfer.core.typing import Array
    from ktransfer.recipes.recipe import Recipe

# Below this, float32 probabilities have no digits left to compare (the smallest normal number is 1.2e-38).
_SMALLEST_PROBABILITY = 1e-30


class Classes:
    """The part of `ktransfer.core.task.Task` that is the same wherever answers are probabilities of classes."""

    title = "classification"
    loss_title, compared_title = "log loss", "probabilities"
    agreement_title, picture = "with the same label", "confusion.png"
    tempered, least_squares, only_gains = True, False, False

    def check_class_names(self, class_names: Sequence[str]) -> None:
        return None

    def fit(self, labels: Array, *, transform: str | None = None) -> Self:
        if transform is not None:
            raise DataError(
                f'Expected task="regression" with target_transform={transform!r}, got {self.title}. Leave it out.'
            )
        return self

    def hints(self, labels: Array) -> list[str]:
        return []

    def facts(self) -> dict[str, Any] | None:
        return None

    def with_facts(self, facts: Mapping[str, Any] | None) -> Self:
        if facts is not None:
            raise RunError(f"Expected no scale of a target of {self.title}, got {facts!r:.80}. Train again.")
        return self

    def adapted(self, recipe: Recipe) -> Recipe:
        return recipe

    def check_recipe(self, recipe: Recipe) -> None:
        if recipe.loss not in ("cross_entropy", "focal"):
            raise RecipeError(
                f'Expected the loss "cross_entropy" or "focal" for {self.title}, got {recipe.loss!r}. Pass one, or '
                'task="regression" to predict a number.'
            )

    def better_biases(self, probabilities: Array, labels: Array) -> tuple[Array, str] | None:
        return None

    def in_graph(self, logits: Any) -> Any:
        raise TypeError("Expected an activation of tf.nn, got another. Override `in_graph`.")

    def compared(self, probabilities: Array) -> tuple[Array, Array]:
        return probabilities, np.log(np.maximum(probabilities, _SMALLEST_PROBABILITY))


class OneAnswer(Classes):
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
