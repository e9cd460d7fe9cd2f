"""int8 where it costs little: which layers stay in float is measured, whatever the format."""

from collections.abc import Callable, Iterable

import numpy as np

# On how many examples ranges are calibrated: those of few leave rare extremes out.
CALIBRATED = (5, 20)
_COMPARED = 40  # examples
_SMALLEST = 1e-12  # probability that is looked at


def evenly(calibration: list[dict], count: int) -> list[dict]:
    """At most so many of the examples, evenly over them and so over the classes.

    Example:
        >>> evenly([{"x": 1}, {"x": 2}, {"x": 3}], 2)
        [{'x': 1}, {'x': 3}]
    """
    chosen = np.linspace(0, len(calibration) - 1, min(len(calibration), count)).round().astype(int)
    return [calibration[index] for index in chosen]


def lowest(weights: list[int], share: float) -> int:
    """How many operations from the input up have no more than that share of all weights.

    The lowest are what is best left in float: all others pass their error on, and they have few weights, each
    of which adds three times itself to the file.

    Args:
        weights: How many weights each operation has, from the input up.
        share: 0 to 1.

    Example:
        >>> lowest([0, 10, 0, 990], 0.012)
        3
    """
    return int((np.cumsum(weights) <= share * sum(weights)).sum()) if share else 0


def closest(load: Callable, reference, candidates: Iterable, calibration: list[dict]):
    """Return the candidate whose log-probabilities of the examples are closest to those of the reference.

    Args:
        load: From a reference or candidate to a callable, inputs by name to probabilities `(1, C)`.
        reference: The model in float32.
        candidates: The same model, quantized in several ways; at least one.
        calibration: Inputs by name, each of batch 1. Forty of them are looked at.

    Example:
        >>> content = closest(load, float32, [wholly_int8, partly_int8], calibration)
    """
    compared = evenly(calibration, _COMPARED)

    def answers(model):
        run = load(model)
        return np.log(np.maximum(np.concatenate([run(inputs) for inputs in compared]), _SMALLEST))

    expected = answers(reference)

    def error(candidate):
        difference = np.square(answers(candidate) - expected).mean()
        return difference if np.isfinite(difference) else np.inf

    return min(candidates, key=error)
