"""Measure which layers to keep in float for int8 models, in any format."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ktransfer.utils.progress import ProgressCallback, silent

if TYPE_CHECKING:
    from ktransfer.core.typing import Answer, Array


_Candidate = TypeVar("_Candidate")

# On how many examples ranges are calibrated: those of few leave rare extremes out.
CALIBRATED = (20, 5)
# Of all weights, that may stay in float; the next where the answers are off by a factor of two.
_SHARES = (0.012, 0.1, 0.25)
_COLLAPSED = np.log(2) ** 2
_MEASURED = 40  # parts of a network, each of which is converted and run once
_COMPARED = 40  # examples
_SMALLEST = 1e-12  # probability that is looked at


def evenly(calibration: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """At most so many of the examples, evenly over them and so over the classes.

    Example:
        >>> evenly([{"x": 1}, {"x": 2}, {"x": 3}], 2)
        [{'x': 1}, {'x': 3}]
    """
    chosen = np.linspace(0, len(calibration) - 1, min(len(calibration), count)).round().astype(int)
    return [calibration[index] for index in chosen]


def choices(
    error: Callable[[Sequence[int]], float],
    weights: Sequence[int],
    share: float,
    *,
    neighbors: Sequence[int] = (1,),
    on_progress: ProgressCallback = silent,
) -> list[tuple[int, ...]]:
    """Candidates for operations that stay in float: none, the lowest, or those that lose most in int8.

    The lowest, as all others pass their error on. What an operation costs is measured with it alone in int8,
    and with it those without weights right after: to leave one out of a network in int8 says little, as
    errors cancel. What operations cost alone adds up to about what they cost together.

    Args:
        error: From operations to the error of the answers when these alone are in int8.
        weights: How many weights each operation has, from the input up.
        share: Of all weights, that may stay in float: each takes two or four bytes there instead of one.
        neighbors: Offsets of the operations without weights that go with one: 1 after it, -1 before it.
        on_progress: Callable that receives the progress of the measurement. Defaults to none.

    Returns:
        Indices of operations, one to three choices.

    Example:
        >>> choices(lambda indices: 1.0 * (2 in indices), [8, 0, 5, 990], 0.012)
        [(), (0, 1), (2,)]
    """
    room = share * sum(weights)
    lowest = tuple(range(int((np.cumsum(weights) <= room).sum())))
    light = [index for index, count in enumerate(weights) if 0 < count <= room]
    parts = [_with_neighbors(part, weights, neighbors) for part in _split(light, _MEASURED)]
    errors: list[float] = []
    for part in parts:
        on_progress("measuring what each layer loses in int8", len(errors) + 1, len(parts))
        errors.append(error(part))
    worst = []
    for index in np.argsort(errors)[::-1]:
        size = sum(weights[operation] for operation in parts[index])
        if errors[index] > 0 and size <= room:
            worst += parts[index]
            room -= size
    return list(dict.fromkeys([(), lowest, tuple(sorted(set(worst)))]))


def _with_neighbors(part: Sequence[int], weights: Sequence[int], steps: Sequence[int]) -> list[int]:
    """Operations, and those without weights that lie directly next to each; they cost no space."""
    found = set(part)
    for index, step in itertools.product(part, steps):
        neighbor = index + step
        while 0 <= neighbor < len(weights) and not weights[neighbor]:
            found.add(neighbor)
            neighbor += step
    return sorted(found)


def _split(items: Sequence[int], count: int) -> list[Sequence[int]]:
    """The items in order, in at most so many parts of about one length."""
    edges = np.linspace(0, len(items), min(len(items), count) + 1).round().astype(int)
    return [items[start:end] for start, end in itertools.pairwise(edges)]


def error_against(
    load: Callable[[Any], Answer], reference: Any, calibration: Sequence[dict[str, Any]]
) -> Callable[[Any], float]:
    """A function from a candidate to how far its log-probabilities lie from those of the reference.

    Args:
        load: From a reference or candidate to a callable, inputs by name to probabilities `(1, C)`.
        reference: The model in float32.
        calibration: Inputs by name, each of batch 1. Forty of them are looked at.

    Returns:
        From a candidate to a mean squared difference; infinity if an answer is NaN or infinite.

    Example:
        >>> error = error_against(load, float32, calibration)  # doctest: +SKIP
        >>> error(wholly_int8), error(partly_int8)  # doctest: +SKIP
        (0.2158, 0.0679)
    """
    compared = evenly(calibration, _COMPARED)

    def answers(model: Any) -> Array:
        run = load(model)
        return np.log(np.maximum(np.concatenate([run(inputs) for inputs in compared]), _SMALLEST))

    expected = answers(reference)

    def error(candidate: Any) -> float:
        difference = np.square(answers(candidate) - expected).mean()
        return float(difference) if np.isfinite(difference) else np.inf

    return error


def closest(
    error: Callable[[_Candidate], float],
    candidates: Callable[[float], Iterable[_Candidate]],
    *,
    on_progress: ProgressCallback = silent,
) -> _Candidate:
    """The candidate of the smallest error, with more in float only where int8 collapses without.

    Args:
        error: What `error_against` gave.
        candidates: From the share of the weights that may stay in float to models in int8.
        on_progress: Callable that receives the number of compared candidates. Defaults to none.

    Example:
        >>> content = closest(error, lambda share: quantized(choices(alone, weights, share)))  # doctest: +SKIP
    """
    for share in _SHARES:
        best = min(_counted(candidates(share), share, on_progress), key=error)
        if error(best) <= _COLLAPSED:
            break
    return best


def _counted(
    candidates: Iterable[_Candidate], share: float, on_progress: ProgressCallback
) -> Iterator[_Candidate]:
    for done, candidate in enumerate(candidates, start=1):
        on_progress(f"comparing int8 models with up to {share:.1%} of the weights in float", done, None)
        yield candidate
