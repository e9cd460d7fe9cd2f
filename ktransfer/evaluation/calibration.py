"""Measure the calibration of probabilities, and fit the temperature that corrects it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


BINS = 15  # as Guo et al. 2017 take
_COLDEST, _HOTTEST = 0.05, 20.0
# log(0) is not a number to compute with; float32 has nothing smaller.
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Bin:
    """Answers of about one confidence: how sure they were on average, and how often right.

    Attributes:
        lower, upper: Confidence, from above the first up to the second.
        count: Answers.
        confidence, accuracy: Their means.
    """

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """The calibration of probabilities: log loss, Brier score, ECE and reliability.

    Attributes:
        log_loss: Mean negative log probability of the true class (negative log likelihood), nats.
        brier: Mean squared distance of the probabilities from the truth, summed over classes, 0 to 2.
        ece: Expected calibration error: mean distance of confidence and accuracy over `reliability`.
        reliability: The bins that have answers.
    """

    log_loss: float
    brier: float
    ece: float
    reliability: tuple[Bin, ...]


def wilson_interval(right: int, total: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Confidence interval of a share of which `right` in `total` were observed (Wilson 1927).

    Unlike the textbook's normal interval it holds for small numbers and near 0 and 1.

    Args:
        right: At most `total`.
        total: With 0 nothing is known.
        z: Standard deviations; this is 95 %.

    Returns:
        `(low, high)`.

    Example:

        wilson_interval(117, 130)   # (0.836, 0.941)
    """
    if not total:
        return 0.0, 1.0
    share, unsure = right / total, z * z / total
    middle = (share + unsure / 2) / (1 + unsure)
    half = z * math.sqrt(share * (1 - share) / total + unsure / (4 * total)) / (1 + unsure)
    return max(0.0, middle - half), min(1.0, middle + half)


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> Calibration:
    """Measure how far the probabilities are from the truth.

    Args:
        probabilities: `(N, C)`, each row summing to 1.
        labels: int `(N,)`.

    Returns:
        A `Calibration`; its error by 15 bins of equal width (Guo et al. 2017, section 2).

    Example:

        calibration(np.array([[0.8, 0.2], [0.2, 0.8]]), np.array([0, 1])).ece   # 0.2
    """
    probabilities = np.asarray(probabilities, float)
    confidence, right = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    reliability = tuple(
        Bin(
            index / BINS,
            (index + 1) / BINS,
            int(inside.sum()),
            float(confidence[inside].mean()),
            float(right[inside].mean()),
        )
        for index in range(BINS)
        if (inside := place == index).any()
    )
    given = probabilities[np.arange(len(labels)), labels]
    return Calibration(
        log_loss=float(-np.log(np.maximum(given, 1e-12)).mean()),
        brier=float((np.square(probabilities).sum(axis=-1) - 2 * given + 1).mean()),
        ece=sum(b.count * abs(b.confidence - b.accuracy) for b in reliability) / len(labels),
        reliability=reliability,
    )


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The number by which to divide the logits so that the log loss is least (Guo et al. 2017, section 4.2).

    No answer changes, only how sure it is: above 1 less, below 1 more. Probabilities will do, as their
    logarithms are the logits up to a constant.

    Args:
        probabilities: `(N, C)`.
        labels: int `(N,)`.

    Returns:
        From 0.05 to 20; 1 where every answer is right, from which no doubt can be learnt.

    Example:

        fit_temperature(np.full((4, 2), [0.9, 0.1]), np.array([0, 0, 0, 1]))   # 2.0
    """
    labels = np.asarray(labels)
    if (np.argmax(probabilities, axis=-1) == labels).all():
        return 1.0
    logits = _logits(probabilities)

    def loss(log_temperature: float) -> float:
        likely = log_softmax(logits / math.exp(log_temperature), axis=-1)
        return -likely[np.arange(len(labels)), labels].mean()

    found = minimize_scalar(loss, bounds=(math.log(_COLDEST), math.log(_HOTTEST)), method="bounded")
    return float(math.exp(found.x))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities after their logits were divided by `temperature`: `(N, C)`.

    Example:

        with_temperature(np.array([[0.9, 0.1]]), 2.0)   # [[0.75, 0.25]]
    """
    return softmax(_logits(probabilities) / temperature, axis=-1)


def cross_fitted(probabilities: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Calibrated probabilities of each half by the temperature of the other half.

    What is measured of them is what a temperature does to examples that it was not fitted on.

    Args:
        probabilities: `(N, C)`.
        labels: int `(N,)`; each class is divided between the halves.
        seed: Of the halves.

    Returns:
        `(N, C)`.

    Example:

        calibration(cross_fitted(probabilities, labels), labels).ece
    """
    labels = np.asarray(labels)
    chance = np.random.default_rng(seed).random(len(labels))
    half = np.empty(len(labels), bool)
    half[np.lexsort((chance, labels))] = np.arange(len(labels)) % 2
    found = np.empty(np.shape(probabilities))
    for side in (half, ~half):
        found[side] = with_temperature(
            probabilities[side], fit_temperature(probabilities[~side], labels[~side])
        )
    return found


def _logits(probabilities: Array) -> Array:
    return np.log(np.maximum(np.asarray(probabilities, float), _TINY))
