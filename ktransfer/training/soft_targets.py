"""Train on a mix of labels and a teacher's answers: a task around another one, whose targets hold both."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import keras
import numpy as np
from keras import ops

from ktransfer.errors import RecipeError

if TYPE_CHECKING:
    from ktransfer.core.task import Task
    from ktransfer.core.typing import Array
    from ktransfer.data.examples import Examples
    from ktransfer.recipes.recipe import Recipe


class SoftTargets:
    """A task whose labels hold the answers of a teacher as well; all else is that of the task within.

    Labels and targets are float32 `(N, 2C + 1)`: the targets of the true label `(C)`, zeros where there is none; the
    teacher's answer at the temperature `(C)`; and 1 where there is a true label, else 0. The loss of an example is
    `(1 - weight) * loss(label) + weight * T^2 * loss(teacher at T)`, of one without a label the second alone, with the
    logits of the student divided by the temperature T in it.

    Args:
        task: With one row of answers for an example.
        temperature: By which logits are divided for the soft part, above 0. Without meaning for numbers.
        weight: Share of the soft part where there is a label, in [0, 1].

    Raises:
        RecipeError: One is out of range, or the task answers words.

    Example:
        >>> from ktransfer.core.task import get_task
        >>> soft = SoftTargets(get_task("single_label"), temperature=2.0, weight=0.5)
        >>> soft.packed(np.array([1]), np.array([[0.25, 0.75]]), classes=2).tolist()
        [[0.0, 1.0, 0.25, 0.75, 1.0]]

    Source: Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network", section 2.
    """

    weights_in_loss = True

    def __init__(self, task: Task, *, temperature: float = 2.0, weight: float = 0.5) -> None:
        check_distillation(temperature, weight)
        if task.per_token:
            raise RecipeError(
                f"Expected a task with one answer for an example, which a teacher gives, got {task.title}. Train a "
                "smaller backbone with `ktransfer train` instead."
            )
        self._task = task
        self.temperature = float(temperature) if task.tempered else 1.0
        self.weight = float(weight)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not there yet, while it is copied
            raise AttributeError(name)
        return getattr(self._task, name)

    @property
    def row_task(self) -> Self:
        return self

    def packed(self, labels: Array | None, soft: Array, *, classes: int) -> Array:
        """Labels of this task.

        Args:
            labels: As the task within has them; `None` of examples without.
            soft: The teacher's answers at the temperature as targets, `(N, classes)`.
            classes: How many outputs there are.

        Returns:
            float32 `(N, 2 * classes + 1)`.
        """
        count = len(soft)
        hard = (
            np.zeros((count, classes), "float32") if labels is None else self._task.targets(labels, classes)
        )
        known = np.full((count, 1), float(labels is not None), "float32")
        return np.concatenate([hard, soft, known], axis=1).astype("float32")

    def soft(self, probabilities: Sequence[Array], logits: Sequence[Array]) -> Array:
        """The mean answer of teachers at the temperature, as targets `(N, C)`.

        Args:
            probabilities: Of each teacher, in the unit of its task.
            logits: Of each.
        """
        if self._task.least_squares:
            return np.mean([self._task.targets(each[:, 0], 1) for each in probabilities], axis=0)
        return np.mean([self._task.probabilities(each / self.temperature) for each in logits], axis=0)

    def hard(self, labels: Array) -> Array:
        """Labels of the task within: the true ones, and the teacher's answer where there is none."""
        return self._task.labels_of(self._decided(np.asarray(labels)))

    def _decided(self, packed: Any) -> Any:
        """Targets `(N, C)`: of the label, or where there is none what the teacher decides."""
        count = packed.shape[-1] // 2
        true, soft, known = packed[:, :count], packed[:, count : 2 * count], packed[:, 2 * count :]
        if self._task.activation == "sigmoid":  # a share of each label, not of one in all
            soft = ops.round(soft) if keras.ops.is_tensor(soft) else np.round(soft)
        elif (decision := getattr(self._task, "median_targets", None)) is not None:
            # The median is that of the answer at a temperature of 1; the argmax is that at any.
            soft = decision(soft**self.temperature)
        return known * true + (1 - known) * soft

    # Labels.

    def check_labels(self, labels: Any, *, examples: int, classes: int) -> Array:
        found = np.array(labels, "float32")
        if found.shape != (examples, 2 * classes + 1):
            raise RecipeError(
                f"Expected labels with soft targets of shape {(examples, 2 * classes + 1)}, got {found.shape}. Make "
                "them with `SoftTargets.packed`."
            )
        found.setflags(write=False)
        return found

    def counts(self, labels: Array, classes: int) -> Array:
        return self._task.counts(self.hard(labels), classes)

    def keys(self, labels: Array) -> list[Hashable]:
        return self._task.keys(self.hard(labels))

    def targets(self, labels: Array, classes: int) -> Array:
        return np.asarray(labels, "float32")

    def labels_of(self, targets: Array) -> Array:
        return targets

    def folds(self, labels: Array, *, seed: int) -> list[tuple[Array, Array]] | None:
        return self._task.folds(self.hard(labels), seed=seed)

    def sample(self, labels: Array, count: int, *, seed: int) -> Array:
        return self._task.sample(self.hard(labels), count, seed=seed)

    def head_rows(
        self, row_labels: Array, class_weight: str | Mapping[int, float] | None, *, seed: int
    ) -> tuple[Array, Mapping[int, float] | None]:
        return np.arange(len(row_labels)), None

    # Training.

    def loss(
        self, recipe: Recipe, *, one_hot: bool = True, class_weight: Mapping[int, float] | None = None
    ) -> keras.losses.Loss:
        plain = dataclasses.replace(
            recipe,
            label_smoothing=0.0,
            loss="squared_error" if self._task.least_squares else "cross_entropy",
        )
        return _MixedLoss(
            self._task.loss(recipe), self._task.loss(plain), self.temperature, self.weight, class_weight
        )

    def metric(self, *, one_hot: bool = True) -> keras.metrics.Metric:
        return _OnLabels(self._task.metric(), self._decided)

    def smoothed(self, targets: Array, smoothing: float) -> Array:
        count = targets.shape[1] // 2
        true, soft, known = targets[:, :count], targets[:, count : 2 * count], targets[:, 2 * count :]
        if self._task.least_squares:
            # The sum of two squared errors is, but for a constant, that from their weighted mean.
            share = known * (1 - self.weight)
            return share * true + (1 - share) * soft
        true = np.where(known > 0, self._task.smoothed(true, smoothing), true)
        return np.concatenate([true, soft, known], axis=1)

    def likelihoods(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        count = logits.shape[1]
        if targets.shape[1] == count:  # already mixed
            return self._task.likelihoods(logits, targets)
        true, soft, known = targets[:, :count], targets[:, count : 2 * count], targets[:, 2 * count :]
        hard_share, soft_share = known * (1 - self.weight), 1 - known * (1 - self.weight)
        losses, errors = self._task.likelihoods(logits, true)
        soft_losses, soft_errors = self._task.likelihoods(logits / self.temperature, soft)
        return (
            hard_share * losses + soft_share * self.temperature**2 * soft_losses,
            hard_share * errors + soft_share * self.temperature * soft_errors,
        )

    def example_weights(self, labels: Array, classes: int, choice: str | Mapping[int, float] | None) -> Array:
        return self._task.example_weights(self.hard(labels), classes, choice)


def check_distillation(temperature: float, weight: float) -> None:
    """Raise `RecipeError` for a temperature or a weight out of range.

    Example:
        >>> check_distillation(2.0, 0.5)
    """
    if not 0 < temperature <= 100:
        raise RecipeError(
            f"Expected a temperature above 0 and up to 100, got {temperature!r}. Pass such as 2."
        )
    if not 0 <= weight <= 1:
        raise RecipeError(f"Expected a weight of the teacher from 0 to 1, got {weight!r}. Pass such as 0.5.")


def hard_labels(examples: Examples, labels: Array | None = None) -> Array:
    """Labels as the task of the data has them, whether or not there are soft targets as well.

    Args:
        examples: Whose task tells which.
        labels: Of their rows. Defaults to `None`, those of the examples.

    Example:

        hard_labels(splits.train)
    """
    labels = examples.labels if labels is None else labels
    task: Any = examples.task
    return task.hard(labels) if isinstance(task, SoftTargets) else labels


def with_soft_targets(examples: Examples, task: SoftTargets, soft: Array) -> Examples:
    """The examples with a teacher's answers.

    Args:
        examples: With their true labels.
        task: Around theirs.
        soft: As `SoftTargets.soft` gives them.

    Example:

        with_soft_targets(splits.train, task, soft)
    """
    labels = task.packed(examples.labels, soft, classes=len(examples.class_names))
    return dataclasses.replace(examples, labels=labels, task=cast("Task", task))


def without_labels(like: Examples, inputs: Sequence[Any], task: SoftTargets, soft: Array) -> Examples:
    """Examples of which only a teacher's answers are known.

    Args:
        like: Examples of the same classes and kind.
        inputs: Files or texts.
        task: As in `with_soft_targets`.
        soft: As `SoftTargets.soft` gives them.

    Example:

        without_labels(splits.train, ["new.jpg"], task, soft)
    """
    labels = task.packed(None, soft, classes=len(like.class_names))
    return dataclasses.replace(
        like, inputs=tuple(inputs), labels=labels, task=cast("Task", task), groups=None
    )


class _MixedLoss(keras.losses.Loss):
    """The loss of `SoftTargets`."""

    def __init__(
        self,
        hard: keras.losses.Loss,
        soft: keras.losses.Loss,
        temperature: float,
        weight: float,
        class_weight: Mapping[int, float] | None,
    ) -> None:
        super().__init__(name="distillation")
        self._hard, self._soft = hard, soft
        self._temperature, self._weight, self._class_weight = temperature, weight, class_weight

    def call(self, y_true: Any, y_pred: Any) -> Any:
        count = y_pred.shape[-1]
        true, soft, known = y_true[:, :count], y_true[:, count : 2 * count], y_true[:, 2 * count]
        y_pred, known = ops.cast(y_pred, "float32"), ops.cast(known, "float32")
        share = known * (1 - self._weight)
        losses = share * self._hard.call(true, y_pred)
        losses += (1 - share) * self._temperature**2 * self._soft.call(soft, y_pred / self._temperature)
        if self._class_weight:
            weights = ops.convert_to_tensor(
                [self._class_weight.get(index, 1.0) for index in range(count)], "float32"
            )
            losses *= ops.sum((known[:, None] * true + (1 - known[:, None]) * soft) * weights, axis=-1)
        return losses


class _OnLabels(keras.metrics.Metric):
    """A metric of the task within, of the labels, and of the teacher's decision where there are none."""

    def __init__(self, metric: keras.metrics.Metric, decided: Any) -> None:
        super().__init__(name=metric.name)
        self.within, self._decided = metric, decided

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        true = ops.convert_to_tensor(y_true, "float32")
        self.within.update_state(self._decided(true), y_pred, sample_weight=sample_weight)

    def result(self) -> Any:
        return self.within.result()

    def reset_state(self) -> None:
        self.within.reset_state()
