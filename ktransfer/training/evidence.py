"""Estimate the gain of fine-tuning in advance, from the training examples alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ktransfer.core.task import SINGLE_LABEL, Task, get_task
from ktransfer.training.linear_probe import out_of_fold_logits

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


# More examples than these change a comparison of log losses by less than it matters.
_COMPARED_EXAMPLES = 2_000


@dataclass(frozen=True)
class Evidence:
    """Facts about a frozen backbone's features of one task, by cross-validation of the solved head.

    Attributes:
        examples: Training examples.
        classes: How many there are.
        rarest: Examples of the rarest class.
        log_loss: Of the head, on examples that it was not fitted on; nats, summed over the labels of an example.
            `None` where a class has too few examples for folds.
        accuracy: The share that is right of each answer, by `Task.hits`, in [0, 1].
        fitted_log_loss, fitted_accuracy: Of the head on the examples that it is fitted on.
        taps_gain: By how much the log loss falls where the head sees the outputs of all blocks; `None` where
            these were not measured.
        taps_error: Standard error of that difference, which is paired by example.
        constant_log_loss: Of the best answer that is the same for every example.
    """

    examples: int
    classes: int
    rarest: int
    log_loss: float | None = None
    accuracy: float | None = None
    fitted_log_loss: float | None = None
    fitted_accuracy: float | None = None
    taps_gain: float | None = None
    taps_error: float | None = None
    constant_log_loss: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON, as in the manifest."""
        return dataclasses.asdict(self)


def measure_evidence(
    features: np.ndarray,
    labels: np.ndarray,
    taps: np.ndarray | None = None,
    *,
    class_weight: str | Mapping[int, float] | None = None,
    label_smoothing: float = 0.0,
    task: str | Task = SINGLE_LABEL,
    seed: int = 0,
    classes: int | None = None,
) -> Evidence:
    """Measure the evidence of a frozen backbone's features on a task, and whether lower blocks add to it.

    Of more than 2,000 examples so many are taken, each class by its share.

    Args:
        features: Pooled features `(N, F)`, from `extract_features`.
        labels: As in `solve_head`.
        taps: Outputs of the other blocks, averaged over each image, `(N, G)`; `None` where there are none.
        class_weight, label_smoothing, task, seed: As in `solve_head`.
        classes: How many there are. Defaults to `None`, as many as the labels show.

    Returns:
        The `Evidence`.

    Example:

        measure_evidence(features, labels).log_loss

    Source: the comparison with lower layers is that of Evci et al. 2022, "Head2Toe", sections 2 and 3.
    """
    task = get_task(task)
    classes = classes or (int(labels.max()) + 1 if labels.ndim == 1 else labels.shape[1])
    counts = task.counts(labels, classes)
    facts: dict[str, Any] = {"examples": len(labels), "classes": len(counts), "rarest": int(counts.min())}
    usable = [array for array in (features, taps) if array is not None]
    if (task.every_class and counts.min() < 2) or not all(np.isfinite(array).all() for array in usable):
        return Evidence(**facts)
    enough = not task.every_class or counts.min() * _COMPARED_EXAMPLES >= 2 * len(labels)
    if len(labels) > _COMPARED_EXAMPLES and enough:
        chosen = task.sample(labels, _COMPARED_EXAMPLES, seed=seed)
        features, labels = features[chosen], labels[chosen]
        taps = None if taps is None else taps[chosen]
    options: dict[str, Any] = {
        "class_weight": class_weight,
        "label_smoothing": label_smoothing,
        "task": task,
        "seed": seed,
        "classes": classes,
    }
    found = out_of_fold_logits(features, labels, **options)
    if found is None:
        return Evidence(**facts)
    held_out, fitted = found
    losses = _log_losses(task, held_out, labels)
    facts |= {
        "log_loss": float(losses.mean()),
        "accuracy": _accuracy(task, held_out, labels),
        "fitted_log_loss": float(_log_losses(task, fitted, labels).mean()),
        "fitted_accuracy": _accuracy(task, fitted, labels),
        "constant_log_loss": _constant_log_loss(task, task.targets(labels, held_out.shape[1])),
    }
    if taps is not None:
        # One scale for each source, so that none counts for more by the size of its numbers.
        together = np.concatenate([_scaled(taps), _scaled(features)], axis=1)
        # There are folds, as there were for the features alone.
        with_taps, _ = cast("tuple[Array, Array]", out_of_fold_logits(together, labels, **options))
        gains = losses - _log_losses(task, with_taps, labels)
        facts |= {
            "taps_gain": float(gains.mean()),
            "taps_error": float(gains.std(ddof=1) / np.sqrt(len(gains))),
        }
    return Evidence(**facts)


def _scaled(features: Array) -> Array:
    return features / (np.sqrt(features.var(axis=0, dtype="float64").mean()) + 1e-12)


def _log_losses(task: Task, logits: Array, labels: Array) -> Array:
    return task.likelihoods(logits, task.targets(labels, logits.shape[1]))[0].sum(axis=1)


def _constant_log_loss(task: Task, targets: Array) -> float:
    from scipy.optimize import minimize

    def mean_loss(logits: Array) -> tuple[float, Array]:
        losses, slopes = task.likelihoods(np.broadcast_to(logits, targets.shape), targets)
        return float(losses.sum(axis=1).mean()), slopes.mean(axis=0)

    return float(minimize(mean_loss, np.zeros(targets.shape[1]), jac=True, method="L-BFGS-B").fun)


def _accuracy(task: Task, logits: Array, labels: Array) -> float:
    return float(task.hits(task.decide(task.probabilities(logits)), labels).mean())
