"""Scores of a frozen backbone's features on a task, without training it: cross-validated head, LogME, H-score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ktransfer.core.task import Task, get_task
from ktransfer.errors import DataError
from ktransfer.training.linear_probe import out_of_fold_logits

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


_ROUNDS = 100  # of the fixed point of LogME, which needs some 10


@dataclass(frozen=True)
class HeadScore:
    """Predictions of a solved head for held-out examples.

    Attributes:
        losses: Of each row, such as its log loss in nats: float64 `(R,)`.
        hits: How right each answer is, in [0, 1]: float64 `(R,)`.
    """

    losses: Array
    hits: Array

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.losses.mean())

    @property
    def loss_error(self) -> float:
        """Standard error of `loss`."""
        return _standard_error(self.losses)

    @property
    def score(self) -> float:
        """The mean of `hits`, such as the accuracy."""
        return float(self.hits.mean())

    @property
    def score_error(self) -> float:
        """Standard error of `score`."""
        return _standard_error(self.hits)

    def behind(self, other: HeadScore) -> tuple[float, float] | None:
        """By how much the loss is higher than another's on the same rows, and the standard error of that.

        `None` where the rows are not the same, as of tokenizers that cut texts in different places.
        """
        if len(self.losses) != len(other.losses):
            return None
        gaps = self.losses - other.losses
        return float(gaps.mean()), _standard_error(gaps)


def head_score_out_of_fold(
    features: np.ndarray, labels: np.ndarray, *, task: str | Task, seed: int = 0, classes: int
) -> HeadScore:
    """The cross-validated loss and score of a solved head.

    Args:
        features: `(R, F)`.
        labels: Of the rows, as the task has them.
        task: Of the rows.
        seed: Of the folds. Defaults to 0.
        classes: How many there are.

    Returns:
        A `HeadScore`.

    Raises:
        DataError: There are too few examples for folds, or features are NaN or infinite.

    Example:

        head_score_out_of_fold(features, labels, task="single_label", classes=5).loss
    """
    task = get_task(task)
    if not np.isfinite(features).all():
        raise DataError(
            "Expected finite features, got NaN or infinity. Check the weights of the backbone and its precision."
        )
    found = out_of_fold_logits(features, labels, task=task, seed=seed, classes=classes)
    if found is None:
        raise DataError(
            f"Expected enough examples for cross-validation, got {len(labels)}. Add examples, or raise --sample."
        )
    held_out = found[0]
    losses = task.likelihoods(held_out, task.targets(labels, classes))[0].sum(axis=1)
    hits = task.hits(task.decide(task.probabilities(held_out)), labels)
    return HeadScore(np.asarray(losses, "float64"), np.asarray(hits, "float64"))


def log_maximum_evidence(features: np.ndarray, targets: np.ndarray) -> float:
    """LogME: the log evidence of a Bayesian linear model from features to targets, for each example.

    The precisions of prior and noise are those of the highest evidence, by MacKay's fixed point; several columns of
    targets are averaged. Higher is better.

    Args:
        features: `(N, F)`.
        targets: `(N, C)`: one column a class, 0 or 1, or numbers.

    Returns:
        The mean over columns of the log evidence divided by N; minus infinity where a column has no finite one.

    Example:

        log_maximum_evidence(features, task.targets(labels, classes))

    Source: You et al. 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", algorithm 1.
    """
    left, singular, _ = np.linalg.svd(np.asarray(features, "float64"), full_matrices=False)
    targets = np.asarray(targets, "float64")
    squares = singular**2
    width = features.shape[1]
    return float(np.mean([_log_evidence(left, squares, width, column) for column in targets.T]))


def _log_evidence(left: Array, squares: Array, width: int, target: Array) -> float:
    examples = len(target)
    along = (left.T @ target) ** 2
    # What no combination of features reaches.
    outside = max(float(target @ target - along.sum()), 0.0)
    alpha = beta = 1.0
    for _ in range(_ROUNDS):
        ratio = alpha / beta
        effective = float(np.sum(squares / (squares + ratio)))
        weights = float(np.sum(squares * along / (squares + ratio) ** 2))
        residual = float(np.sum(along / (1 + squares / ratio) ** 2)) + outside
        before = alpha, beta
        alpha = effective / max(weights, 1e-12)
        beta = (examples - effective) / max(residual, 1e-12)
        if np.allclose((alpha, beta), before, rtol=1e-6, atol=0):
            break
    ratio = alpha / beta
    weights = float(np.sum(squares * along / (squares + ratio) ** 2))
    residual = float(np.sum(along / (1 + squares / ratio) ** 2)) + outside
    determinant = float(np.sum(np.log(alpha + beta * squares))) + (width - len(squares)) * np.log(alpha)
    evidence = width * np.log(alpha) + examples * np.log(beta) - determinant
    evidence -= beta * residual + alpha * weights + examples * np.log(2 * np.pi)
    return float(evidence / 2 / examples)


def shrinkage_h_score(features: np.ndarray, targets: np.ndarray) -> float:
    """The H-score with shrunk covariances: how much of the features' variance lies between classes.

    Of several labels an example it is the mean over the labels, each as two classes. Higher is better.

    Args:
        features: `(N, F)`.
        targets: 0 or 1, `(N, C)`.

    Returns:
        The trace of the inverse shrunk covariance times the shrunk covariance of the class means.

    Example:

        shrinkage_h_score(features, np.eye(5)[labels])

    Source: Ibrahim et al. 2022, "Newer is not always better", section 3, with the shrinkage of Ledoit and Wolf 2004.
    """
    from sklearn.covariance import ledoit_wolf

    centered = np.asarray(features, "float64")
    centered = centered - centered.mean(axis=0)
    covariance, shrinkage = ledoit_wolf(centered, assume_centered=True)
    inverse = np.linalg.pinv(covariance, hermitian=True)
    one_class_each = np.all(targets.sum(axis=1) == 1)
    ways = (
        [targets.argmax(axis=1)]
        if one_class_each
        else [column.astype(int) for column in np.asarray(targets).T]
    )
    scores = [(1 - shrinkage) * _between_classes(centered, inverse, classes) for classes in ways]
    return float(np.mean(scores))


def _between_classes(centered: Array, inverse: Array, classes: Array) -> float:
    """The trace of the inverse covariance times the covariance of the class means of each example."""
    total = 0.0
    for each in np.unique(classes):
        chosen = classes == each
        mean = centered[chosen].mean(axis=0)
        total += chosen.sum() * float(mean @ inverse @ mean)
    return total / max(len(classes) - 1, 1)


def _standard_error(values: Array) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
