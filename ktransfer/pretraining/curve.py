"""The curve of perplexity on texts held out, as a picture."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from ktransfer.utils.files import replacing


def draw_curve(path: str | os.PathLike[str], facts: Mapping[str, Any]) -> None:
    """Draw the perplexity of each round.

    Args:
        path: A `.png` file.
        facts: With `curve`, `kept_round` and `perplexity_before`, as `pretraining.json` has them.

    Example:

        draw_curve("pretraining.png", pretrained.facts)
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    rounds = [row["round"] + 1 for row in facts["curve"]]
    values = [math.exp(row["held_out"]) if row["held_out"] < 700 else math.inf for row in facts["curve"]]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(rounds, values, color="#1f6f8b", marker="o", markersize=4)
    kept = facts["kept_round"]
    axes.plot(rounds[kept], values[kept], color="#c8553d", marker="o", markersize=8, label="kept")
    axes.axhline(
        facts["perplexity_before"],
        color="0.6",
        linestyle="--",
        linewidth=1,
        label="before the backbone trained",
    )
    axes.set(xlabel="round", ylabel="perplexity of texts held out", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain = FuncFormatter(lambda value, _: f"{value:,.4g}")
    axes.yaxis.set_major_formatter(plain)
    low, high = min(values), max(values)
    axes.yaxis.set_minor_formatter(plain if high < 10 * low else NullFormatter())
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=144)
