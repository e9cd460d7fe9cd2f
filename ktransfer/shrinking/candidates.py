"""The candidates of a search for a smaller artifact, its limits, and the share to keep next."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ktransfer.errors import RecipeError
from ktransfer.evaluation.calibration import wilson_interval
from ktransfer.recipes.targets import parse_latency, parse_size

RUN, STUDENT = "run", "student"
_STEP = 2.5  # times as few units at once, at most, on the way to a ceiling
_NORMAL = 1.96  # standard deviations around a mean that hold 95 %


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of the artifact that is searched for.

    Args:
        drop: By how much the score may be lower than the run's. Defaults to `None`, any amount.
        latency_ms: Largest time of one example. Defaults to `None`, any.
        size_bytes: Largest size of the file. Defaults to `None`, any.

    Raises:
        RecipeError: The drop is not in [0, 1).

    Example:
        >>> Limits.of(size="1.5MB")
        Limits(drop=None, latency_ms=None, size_bytes=1500000)
    """

    drop: float | None = None
    latency_ms: float | None = None
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.drop is not None and not 0 <= self.drop < 1:
            raise RecipeError(
                f"Expected the allowed loss of accuracy from 0 to below 1, got {self.drop!r}. Pass such as 0.01, one "
                "point."
            )

    @classmethod
    def of(
        cls,
        *,
        drop: float | None = None,
        latency: str | float | None = None,
        size: str | float | None = None,
    ) -> Limits:
        """Limits as they are written; a drop of 0.01 where there is none of them."""
        if drop is latency is size is None:
            drop = 0.01
        return cls(
            drop=drop,
            latency_ms=None if latency is None else parse_latency(latency),
            size_bytes=None if size is None else parse_size(size),
        )

    @property
    def has_caps(self) -> bool:
        """Whether latency or size are limited."""
        return self.latency_ms is not None or self.size_bytes is not None

    def excess(self, size_bytes: float, latency_ms: float) -> float:
        """The larger of size and time in units of the largest allowed; 0 without such limits."""
        shares = [0.0]
        if self.size_bytes is not None:
            shares.append(size_bytes / self.size_bytes)
        if self.latency_ms is not None:
            shares.append(latency_ms / self.latency_ms)
        return max(shares)

    def hold_for(self, candidate: Candidate) -> bool:
        """Whether a candidate meets all of them."""
        within = self.drop is None or candidate.lost <= self.drop + 1e-9
        return within and self.excess(candidate.size_bytes, candidate.latency_ms) <= 1

    def line(self) -> str:
        """The limits in words."""
        words = []
        if self.drop is not None:
            words.append(f"at most {100 * self.drop:g} points lost")
        if self.latency_ms is not None:
            words.append(f"at most {self.latency_ms:g} ms")
        if self.size_bytes is not None:
            words.append(f"at most {self.size_bytes / 1e6:g} MB")
        return ", ".join(words)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An exported file that was measured.

    Attributes:
        network: The name of its network, as of its folder.
        start: `"run"` or `"student"`: what the network was pruned from.
        keep: Share of each group of units that was kept, 1 without pruning.
        format: As in `Artifact`.
        size_bytes: Of the file.
        score: Mean of what validation examples count as, 0 to 1: of labels the accuracy.
        interval: Of the score, with a confidence of 95 %.
        lost: The score of the run by Keras on the same examples, less this one.
        lost_error: The standard error of `lost`, by pairs of examples.
        examples: How many were answered.
        latency_ms: Of one example, the median.
        speedup: How many times faster than the run's own file of this format, by pairs; `None` where it has none.
        parameters: Of the model.
        multiply_adds: Of the backbone for one example.
    """

    network: str
    start: str
    keep: float
    format: str
    size_bytes: int
    score: float
    interval: tuple[float, float]
    lost: float
    lost_error: float
    examples: int
    latency_ms: float
    speedup: float | None = None
    parameters: int
    multiply_adds: int

    @property
    def title(self) -> str:
        """Such as `"run, 50% kept, tflite-int8"`."""
        kept = "" if self.keep == 1 else f", {self.keep:.0%} kept"
        return f"{self.start}{kept}, {self.format}"

    def line(self, score: str) -> str:
        """The measurements as a line."""
        low, high = self.interval
        faster = "" if self.speedup is None else f", {self.speedup:.2f} times the speed of the run's"
        return (
            f"{self.title}: {score} {self.score:.3f} ({low:.3f} to {high:.3f}), {100 * self.lost:+.1f} points lost, "
            f"{self.size_bytes / 1e6:.2f} MB, {self.latency_ms:.2f} ms{faster}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON."""
        return dataclasses.asdict(self) | {"interval": list(self.interval)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Candidate:
        """Read what `to_dict` gave."""
        return cls(**{**facts, "interval": tuple(facts["interval"])})


def interval_of(hits: np.ndarray) -> tuple[float, float]:
    """The interval of the mean score of examples, with a confidence of 95 %.

    Args:
        hits: `(N,)`, in [0, 1]; of 0 and 1 alone the interval is Wilson's (1927), else that of a normal distribution.

    Example:
        >>> low, high = interval_of(np.array([1.0, 1.0, 0.0, 1.0]))
        >>> round(low, 2), round(high, 2)
        (0.3, 0.95)
    """
    hits = np.asarray(hits, "float64")
    if np.isin(hits, (0.0, 1.0)).all():
        return wilson_interval(int(hits.sum()), len(hits))
    mean, error = float(hits.mean()), float(hits.std(ddof=1) / math.sqrt(len(hits))) if len(hits) > 1 else 0.0
    return mean - _NORMAL * error, mean + _NORMAL * error


def not_dominated(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that no other one beats: none is as good at no more size and latency, and better in one of them.

    Args:
        candidates: All that was measured.

    Example:

        [each.title for each in not_dominated(candidates)]
    """

    def beats(one: Candidate, other: Candidate) -> bool:
        mine = (-one.score, one.size_bytes, one.latency_ms)
        its = (-other.score, other.size_bytes, other.latency_ms)
        return mine != its and all(a <= b for a, b in zip(mine, its, strict=True))

    return [each for each in candidates if not any(beats(other, each) for other in candidates)]


def choose_candidate(candidates: Sequence[Candidate], limits: Limits) -> tuple[Candidate, bool]:
    """The candidate to keep, and whether it meets the limits.

    With a limit of the loss it is the smallest file of those that meet all limits, else the one with the best score.
    Where none meets them it is the nearest: the one that exceeds size and latency least, of equal ones the best score.

    Args:
        candidates: At least one.
        limits: What it must hold.

    Example:

        choose_candidate(candidates, Limits(drop=0.01))
    """
    fitting = [each for each in candidates if limits.hold_for(each)]
    if fitting and limits.drop is not None:
        return min(fitting, key=lambda each: (each.size_bytes, -each.score)), True
    if fitting:
        return min(fitting, key=lambda each: (-each.score, each.size_bytes)), True
    return min(
        candidates,
        key=lambda each: (max(1.0, limits.excess(each.size_bytes, each.latency_ms)), each.lost),
    ), False


def next_keep(
    tried: Mapping[float, bool], *, ceiling: float = 1.0, least: float = 0.05, resolution: float = 0.05
) -> float | None:
    """The share to keep in the next network, by halving the interval between one that holds and one that does not.

    On the way to a ceiling below 0.4 there are levels between, since pruning by more at once loses more than can be
    trained back.

    Args:
        tried: By share, whether a file of that network meets all limits.
        ceiling: The largest share whose file meets the limits of size and latency. Defaults to 1.
        least: The smallest share to try. Defaults to 0.05.
        resolution: The interval at which the search ends. Defaults to 0.05.

    Returns:
        The share; `None` where the search is over.

    Example:
        >>> next_keep({}), next_keep({0.5: True}), next_keep({0.5: True, 0.25: False})
        (0.5, 0.25, 0.375)
        >>> next_keep({}, ceiling=0.2), next_keep({0.447: False}, ceiling=0.2)
        (0.447, 0.2)
    """
    if ceiling < 1 and ceiling not in tried:
        above = min((keep for keep in tried if keep > ceiling), default=1.0)
        levels = math.ceil(math.log(above / ceiling) / math.log(_STEP))
        return ceiling if levels <= 1 else round(above * (ceiling / above) ** (1 / levels), 3)
    if ceiling < 1 and not tried[ceiling]:
        return None
    high = min((keep for keep, holds in tried.items() if holds), default=1.0)
    low = max((keep for keep, holds in tried.items() if not holds and keep < high), default=0.0)
    middle = round((low + high) / 2, 4)
    return None if high - low <= resolution or middle < least else middle
