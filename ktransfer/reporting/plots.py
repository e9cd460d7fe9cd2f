"""Plots as SVG that takes the colours and the type of the page it stands in."""

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ktransfer.evaluation.calibration import Bin
from ktransfer.reporting.history import Trained, learning_rates

# Drawn in these, which nothing else has, and then named as the page's own colours are.
_INK, _MUTED, _TRAIN, _VALIDATION = "#010101", "#010102", "#010103", "#010104"
_NAMES = {_INK: "--ink", _MUTED: "--muted", _TRAIN: "--train", _VALIDATION: "--validation"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, for search, for screen readers and for the page's font
    "text.parse_math": False,  # a class may be called "$1"
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "lines.linewidth": 2,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 10,
}


def curve(
    rows: Sequence[dict[str, float]],
    stages: Sequence[Trained],
    name: str,
    *,
    start: float | None = None,
) -> str:
    """A metric of training and validation over the epochs, stages marked.

    Args:
        rows: From `read_history`.
        stages: From `trained_stages`.
        name: Of the metric, as in the history.
        start: Its value on validation before the first epoch, where it is known.

    Returns:
        An `<svg>`.

    Example:

        curve(rows, stages, "accuracy", start=0.89)
    """

    def draw(axes: Any) -> None:
        _mark(axes, stages)
        for key, label, color in ((name, "training", _TRAIN), (f"val_{name}", "validation", _VALIDATION)):
            points = [(epoch + 1, row[key]) for epoch, row in enumerate(rows) if key in row]
            if key.startswith("val_") and start is not None:
                points.insert(0, (0, start))
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", color=color, label=label)
        axes.set_xlim(left=-0.1)
        axes.margins(y=0.15)
        axes.legend()

    return _figure(draw, name.replace("_", " "))


def rates(rows: Sequence[dict[str, float]], stages: Sequence[Trained], blocks: int, *, steps: int) -> str:
    """The learning rate of the head and of every block that trains, as planned, and as it was logged.

    Args:
        rows: From `read_history`.
        stages: From `trained_stages`.
        blocks: Of the backbone.
        steps: In an epoch.

    Returns:
        An `<svg>`.

    Example:

        rates(rows, stages, blocks=17, steps=16)
    """

    def draw(axes: Any) -> None:
        _mark(axes, stages)
        for number, trained in enumerate(stages):
            times, groups = learning_rates(trained, blocks, steps=steps)
            for group, values in reversed(groups.items()):
                label = {1: "top block", len(groups) - 1: "lowest block", 0: "head"}.get(group)
                style = {"color": _TRAIN} if group == 0 else {"color": _VALIDATION, "linewidth": 1.2}
                fade = 1 if group in (0, 1) else 1 - 0.7 * group / max(len(groups) - 1, 1)
                axes.plot(times, values, alpha=fade, label=None if number else label, **style)
        logged = [
            (i + 1, row["learning_rate"]) for i, row in enumerate(rows) if row.get("learning_rate", 0) > 0
        ]
        if logged:
            axes.plot(*zip(*logged, strict=True), "o", color=_TRAIN, label="head, logged", fillstyle="none")
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
        axes.set_ylim(bottom=0)
        axes.legend()

    return _figure(draw, "learning rate")


def drawn(draw: Callable[[Any, Mapping[str, str]], None], title: str, *, size: tuple[float, float]) -> str:
    """A plot that somebody else draws, in the colors of the page.

    Args:
        draw: Is given the axes of matplotlib, and colors by name: `ink`, `muted`, `train`, `validation`.
        title: Of the plot.
        size: Width and height, inches.

    Returns:
        An `<svg>`.

    Example:

        drawn(lambda axes, colors: axes.plot([0, 1], color=colors["train"]), "loss", size=(4.8, 3.2))
    """
    colors = {"ink": _INK, "muted": _MUTED, "train": _TRAIN, "validation": _VALIDATION}
    return _figure(lambda axes: draw(axes, colors), title, size=size, epochs=False)


def reliability(bins: Sequence[Bin], title: str) -> str:
    """Confidence against accuracy: on the diagonal probabilities mean what they say.

    Args:
        bins: Of a `Calibration`.
        title: What is shown.

    Returns:
        An `<svg>`.

    Example:

        reliability(evaluation.reliability, "as trained")
    """

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=1, linestyle=":")
        lower, width = [b.lower for b in bins], [b.upper - b.lower for b in bins]
        weight = np.array([b.count for b in bins]) / max((b.count for b in bins), default=1)
        bars = axes.bar(lower, [b.accuracy for b in bins], width, align="edge", color=_TRAIN)
        for bar, share in zip(bars, weight, strict=True):
            bar.set_alpha(0.2 + 0.6 * float(share))
        axes.plot([b.confidence for b in bins], [b.accuracy for b in bins], "o", color=_VALIDATION)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy", aspect="equal")

    return _figure(draw, title, size=(4.2, 4.2), epochs=False)


def _figure(
    draw: Callable[[Any], None], title: str, *, size: tuple[float, float] = (4.8, 3.2), epochs: bool = True
) -> str:
    # Here, as matplotlib takes a second to load. Its own canvas: pyplot would keep the figure.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter, MaxNLocator

    # The salt makes the same plot the same text, and ids of different plots on one page different.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.set_title(title)
        draw(axes)
        for axis in (axes.xaxis, axes.yaxis):
            if (
                axis.get_scale() == "log"
            ):  # the default writes TeX, which stays as it is without `text.parse_math`
                axis.set_major_formatter(LogFormatter())
                axis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
        if epochs:
            axes.set_xlabel("epochs")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _inlined(file.getvalue(), title)


def _inlined(svg: str, title: str) -> str:
    """Only the element, with the page's colours, a name, and no ids but those that it refers to."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r" font-family: [^;]*;", "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    for color, name in _NAMES.items():
        svg = svg.replace(color, f"var({name})")
    _, width, height, rest = re.split(r'<svg [^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>', svg, maxsplit=1)
    return f'<svg role="img" aria-label="{html.escape(title)}" viewBox="0 0 {width} {height}">{rest}'


def _mark(axes: Any, stages: Sequence[Trained]) -> None:
    """A line where a stage starts, with its number and how many blocks train."""
    for trained in stages:
        if trained.start:
            axes.axvline(trained.start, color=_MUTED, linewidth=1, linestyle=":")
        axes.annotate(
            f"stage {trained.index}",
            (trained.start, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -2),
            textcoords="offset points",
            va="top",
            fontsize=9,
            color=_MUTED,
        )
