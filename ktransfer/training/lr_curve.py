"""The loss over a rising learning rate: smoothed, the learning rates it suggests and why, as JSON and as a picture."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ktransfer.utils.files import replacing

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


DIVERGED, NOT_FINITE = "diverged", "not finite"
# Standard errors of the smoothed loss by which it has to fall. The fall is looked for in all of the curve: where there
# is noise alone, 3 errors find one in 11 of 100 curves, 4 in 2 (normal) and 5 (lognormal).
_REQUIRED_ERRORS = 4.0
# Of the loss; a smaller fall is flat whatever its error.
_LEAST_FALL = 0.01
# As in `ktransfer/reporting/page.css`.
_INK, _MUTED, _TRAIN, _VALIDATION, _PAPER = "#1d1c1a", "#68645d", "#2f6690", "#c2571a", "#fbfaf8"
_STYLE: dict[Any, Any] = {
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _MUTED,
    "axes.facecolor": _PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "figure.facecolor": _PAPER,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "legend.fontsize": 10,
}


@dataclass(frozen=True)
class LearningRateCurve:
    """The loss of each batch while the learning rate rose, and the learning rates that it suggests.

    The smoothed loss is an exponential average without the bias of its start (Kingma and Ba 2015, section 3). A
    learning rate is suggested only where it falls by more than four standard errors, which are estimated from the
    differences of successive losses, and by more than 1 %.

    Attributes:
        rates: Learning rate of each step, ascending; float.
        losses: Loss of each step's batch before the step; float, all finite.
        smoothing: Weight of the average before, in [0, 1). Defaults to 0.9.
        stopped: Why it ended before the highest learning rate: `"diverged"`, `"not finite"`, or an empty text where
            it did not. Defaults to an empty text.

    Example:

        curve = ktransfer.find_learning_rate(model, train)
        curve.suggestion, curve.reason
        curve.save_plot("lr_find.png")
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothing: float = 0.9
    stopped: str = ""

    @functools.cached_property
    def smoothed_losses(self) -> tuple[float, ...]:
        """The smoothed loss of each step."""
        return tuple(smoothed(self.losses, self.smoothing))

    @property
    def suggestion(self) -> float | None:
        """The learning rate at which the smoothed loss falls steepest over its logarithm; `None` where it does not."""
        return None if self._steepest is None else self.rates[self._steepest]

    @property
    def lowest_loss_rate(self) -> float | None:
        """The learning rate with the lowest smoothed loss; `None` where the loss does not fall."""
        return None if self._steepest is None else self.rates[self._lowest]

    @property
    def tenth_of_lowest(self) -> float | None:
        """A tenth of `lowest_loss_rate`, the other customary choice; `None` where the loss does not fall."""
        rate = self.lowest_loss_rate
        return None if self._steepest is None or rate is None else rate / 10

    @property
    def reason(self) -> str:
        """The reason for the suggested learning rate, or for none; one line."""
        ending = {
            DIVERGED: f"diverged at {self._last:.1e}",
            NOT_FINITE: f"was NaN or infinite after {self._last:.1e}",
        }.get(self.stopped, "")
        if not self.rates:
            return "the first loss, before any step, was NaN or infinite: check the data and the weights"
        if self._steepest is not None and self._start is not None:
            shown = self.smoothed_losses
            where = f"lowest at {self.lowest_loss_rate:.1e}"
            if self._lowest == len(shown) - 1:
                ending = ending or "still falling at the highest learning rate: raise it"
            return (
                f"the smoothed loss falls steepest there, from {shown[self._start]:.3g} to {shown[self._lowest]:.3g}, "
                f"{where}{ending and f', {ending}'}"
            )
        if ending and len(self.rates) <= 2 * _settled(self.smoothing):
            return f"the loss {ending}, from the first steps on: lower the lowest learning rate"
        between = f"from {self.rates[0]:.1e} to {self._last:.1e}"
        return (
            f"the loss did not fall by more than its noise {between}"
            + (f" and {ending}" if ending else "")
            + ": "
            "there is nothing to gain, or the learning rates are of another range"
        )

    def to_dict(self) -> dict[str, Any]:
        """The measurements and the suggestions as JSON values."""
        return {
            "suggestion": self.suggestion,
            "tenth_of_lowest": self.tenth_of_lowest,
            "lowest_loss_rate": self.lowest_loss_rate,
            "reason": self.reason,
            "stopped": self.stopped,
            "smoothing": self.smoothing,
            "rates": list(self.rates),
            "losses": list(self.losses),
            "smoothed_losses": list(self.smoothed_losses),
        }

    def save_plot(self, path: str | Path) -> None:
        """Draw the curve as a PNG: both losses over the learning rate, the suggestions marked.

        Example:

            curve.save_plot("lr_find.png")
        """
        # Here, as matplotlib takes a second to load. Its own canvas: pyplot would keep the figure.
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        with matplotlib.rc_context(_STYLE):
            figure = Figure(figsize=(7.2, 4.5), layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.subplots()
            self._draw(axes)
            with replacing(path) as partial:
                figure.savefig(partial, dpi=120)

    def _draw(self, axes: Any) -> None:
        axes.set_xscale("log")
        axes.set(xlabel="learning rate", ylabel="loss")
        if self.suggestion is None:
            axes.set_title("no learning rate to suggest")
        else:
            axes.set_title(f"suggested learning rate {self.suggestion:.1e}")
        if not self.rates:
            return
        shown = self.smoothed_losses
        axes.plot(self.rates, self.losses, ".", color=_MUTED, alpha=0.45, label="each batch")
        axes.plot(self.rates, shown, color=_TRAIN, label="smoothed")
        if self._steepest is not None:
            at = self._steepest
            axes.axvline(self.rates[at], color=_VALIDATION, linewidth=1, linestyle=":")
            axes.plot(self.rates[at], shown[at], "o", color=_VALIDATION, label="steepest descent")
            axes.plot(
                self.rates[self._lowest],
                shown[self._lowest],
                "o",
                color=_VALIDATION,
                fillstyle="none",
                label="lowest loss",
            )
        # What diverged would press all else to the bottom.
        low, high = min(shown), max(shown[: self._lowest + 1])
        room = max(high - low, 0.05 * abs(high), 1e-9)
        top = max(high, max(self.losses[: self._lowest + 1])) + 0.15 * room
        axes.set_ylim(min(low, min(self.losses)) - 0.15 * room, top if self.stopped == DIVERGED else None)
        axes.legend(loc="lower left" if self._steepest is not None else "best")

    @property
    def _last(self) -> float:
        return self.rates[-1] if self.rates else math.nan

    @property
    def _lowest(self) -> int:
        return int(np.argmin(self.smoothed_losses))

    @functools.cached_property
    def _start(self) -> int | None:
        """The step before the lowest loss from which the fall is clearest, or `None` where none is."""
        shown, lowest = np.array(self.smoothed_losses), self._lowest
        if lowest == 0:
            return None
        errors = _errors(self.losses, self.smoothing, max(lowest + 1, 3 * _settled(self.smoothing)))
        falls = shown[:lowest] - shown[lowest]
        clear = falls - _REQUIRED_ERRORS * np.hypot(errors[:lowest], errors[lowest])
        start = int(np.argmax(clear))
        return start if clear[start] > 0 and falls[start] > _LEAST_FALL * abs(shown[start]) else None

    @functools.cached_property
    def _steepest(self) -> int | None:
        if not self.rates or self._start is None:
            return None
        # The first averages are of few batches, so their slope is noise.
        settled = min(_settled(self.smoothing), len(self.rates) // 10)
        first = min(max(self._start, settled), self._lowest - 1)
        slopes = np.gradient(np.array(self.smoothed_losses), np.log(self.rates))
        return first + int(np.argmin(slopes[first : self._lowest]))


def smoothed(losses: tuple[float, ...] | list[float], smoothing: float) -> list[float]:
    """The exponential average of losses up to each, without the bias of its start.

    Example:
        >>> smoothed([2.0, 2.0, 2.0], 0.9)
        [2.0, 2.0, 2.0]
    """
    shown, average, weight = [], 0.0, 0.0
    for loss in losses:
        average = smoothing * average + (1 - smoothing) * loss
        weight = smoothing * weight + (1 - smoothing)
        shown.append(average / weight)
    return shown


def has_diverged(losses: list[float], smoothing: float, times: float) -> bool:
    """Whether the smoothed loss is so many times its lowest value, and above it by more than its noise.

    The first averages, of few batches, do not count. Where the lowest value is negative, the distance counts that
    would be so many times it.

    Example:
        >>> has_diverged([1.0] * 20 + [9.0] * 10, 0.9, 4.0)
        True
    """
    settled = _settled(smoothing)
    if len(losses) <= settled:
        return False
    shown = np.array(smoothed(losses, smoothing))
    best = settled + int(np.argmin(shown[settled:])) if len(losses) > 2 * settled else int(np.argmin(shown))
    # Not by the last losses, which are what is in question.
    errors = _errors(losses, smoothing, max(best + 1, len(losses) - settled, settled))
    rise = shown[-1] - shown[best]
    noise = _REQUIRED_ERRORS * float(np.hypot(errors[best], errors[-1]))
    return bool(rise > max((times - 1) * abs(shown[best]), noise))


def _settled(smoothing: float) -> int:
    """After so many steps an average is of as many batches as it will be, about."""
    return round(1 / (1 - smoothing))


def _errors(losses: Sequence[float] | Array, smoothing: float, first: int) -> Array:
    """Standard error of the smoothed loss at each step, by the noise of the `first` losses."""
    # From differences of successive losses, which a trend hardly changes.
    differences = np.diff(losses[:first])
    deviation = differences.std() / math.sqrt(2) if len(differences) else 0.0
    left = smoothing ** np.arange(1, len(losses) + 1)
    return deviation * np.sqrt((1 - smoothing) / (1 + smoothing) * (1 + left) / (1 - left))
