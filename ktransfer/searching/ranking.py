"""The measurements of `ktransfer rank` for each candidate, in the recommended order."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """A pretrained backbone, or the lower part of one, on the task.

    Attributes:
        name: As in `train`; `NAME@0.6` is the lowest 60 % of the blocks of NAME.
        loss, loss_error: Cross-validated loss of the solved head, and its standard error.
        score, score_error: Cross-validated share that is right, and its standard error.
        behind, behind_error: By how much the loss is higher than that of the best, and the standard error of this
            difference, which is paired by example; `None` where the rows of the two are not the same.
        logme: LogME (You et al. 2021), higher is better.
        h_score: Shrinkage H-score (Ibrahim et al. 2022), higher is better; `None` where there are no classes.
        features: How many a row has.
        parameters: Of the backbone.
        blocks: Of the backbone.
        multiply_adds: Of the forward pass of one example.
        seconds: That the pass over the sample took; 0 where its features were cached.
        latency_ms: Median time of one example by format, in its own runtime.
        size_bytes: Of the exported file by format.
        trained: What a short run of it reached: `score` on validation, called `title`, `epochs`, `seconds`; `None`
            where none was made.

    Example:
        >>> Candidate("a", 0.3, 0.02, 0.9, 0.01, logme=0.5, features=8, parameters=9, blocks=2, multiply_adds=7).loss
        0.3
    """

    name: str
    loss: float
    loss_error: float
    score: float
    score_error: float
    logme: float
    features: int
    parameters: int
    blocks: int
    multiply_adds: int
    h_score: float | None = None
    behind: float | None = None
    behind_error: float | None = None
    seconds: float = 0.0
    latency_ms: dict[str, float] = dataclasses.field(default_factory=dict)
    size_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    trained: dict[str, Any] | None = None

    @property
    def as_good_as_best(self) -> bool:
        """Whether its loss is within one standard error of the best one's."""
        return self.behind is not None and self.behind <= (self.behind_error or 0.0)


@dataclass(frozen=True)
class Ranking:
    """Candidates by their cross-validated loss, the best first.

    Attributes:
        candidates: Those that could be measured.
        left_out: Why a candidate is not among them, by its name.
        examples, of: How many of how many training examples were looked at.
        loss_title, score_title: What `loss` and `score` are called.
        notes: Lines on what of the sample was not used.

    Example:
        >>> Ranking((), {}, 0, 0, "log loss", "accuracy").best is None
        True
    """

    candidates: tuple[Candidate, ...]
    left_out: dict[str, str]
    examples: int
    of: int
    loss_title: str
    score_title: str
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Candidate | None:
        """The candidate whose short run reached most; where none was trained the first one."""
        trained = [each for each in self.candidates if each.trained is not None]
        if trained:
            return max(trained, key=_trained_score)
        return self.candidates[0] if self.candidates else None

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The heading and the rows of a table, for a page and a terminal.

        Example:
            >>> Ranking((), {}, 0, 0, "log loss", "accuracy").table()[0][:2]
            ['backbone', 'log loss']
        """
        heading = [
            "backbone",
            self.loss_title,
            self.score_title,
            "LogME",
            "H-score",
            "parameters",
            "multiply-adds",
        ]
        timed = sorted({name for each in self.candidates for name in each.latency_ms})
        heading += [f"{name} ms" for name in timed] + [f"{name} MiB" for name in timed]
        trained = [each.trained for each in self.candidates if each.trained]
        heading += [f"{trained[0]['title']} of a short run"] if trained else []
        rows = []
        for each in self.candidates:
            row = [
                each.name,
                f"{each.loss:.3f} ± {each.loss_error:.3f}",
                f"{each.score:.3f}",
                f"{each.logme:.3f}",
                "" if each.h_score is None else f"{each.h_score:.1f}",
                f"{each.parameters / 1e6:.1f} M",
                f"{each.multiply_adds / 1e6:,.0f} M",
            ]
            row += [_number(each.latency_ms.get(name), ".1f") for name in timed]
            row += [_number(each.size_bytes.get(name, 0) / 2**20 or None, ".1f") for name in timed]
            if trained:
                row.append(_number((each.trained or {}).get("score"), ".3f"))
            rows.append(row)
        return heading, rows

    def to_dict(self) -> dict[str, Any]:
        """As `rank.json` has it."""
        best = None if self.best is None else self.best.name
        return {"best": best, **dataclasses.asdict(self), "notes": list(self.notes)}


def ordered(candidates: list[Candidate]) -> tuple[Candidate, ...]:
    """Candidates by their loss, the lowest first; of equal ones the cheaper first.

    Example:
        >>> ordered([])
        ()
    """
    return tuple(sorted(candidates, key=lambda each: (each.loss, each.multiply_adds, each.name)))


def _trained_score(candidate: Candidate) -> float:
    return float((candidate.trained or {}).get("score", float("-inf")))


def _number(value: float | None, format: str) -> str:
    return "" if value is None else f"{value:{format}}"
