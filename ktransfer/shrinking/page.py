"""The page of a search for a smaller artifact: what was tried, and the Pareto front of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ktransfer.reporting.plots import drawn
from ktransfer.searching.page import document, figures, pareto_front, table, text
from ktransfer.shrinking.candidates import RUN, Candidate, not_dominated
from ktransfer.utils.files import replacing

_NOTES = """<p>All files answered the same validation examples, and were timed in turn in one run on one machine, one
example at a time. The lost points are those of the run's Keras model on the same examples, with the standard error of
the mean difference by example. The search chooses by these examples, so the score of the file that it keeps is
optimistic, the more so the more was tried; no test example was read for it. A file is on the front if no other is as
good at no more size and time. The speed-up is over the run's own file of the same format.</p>"""


def shrink_page(found: Mapping[str, Any], *, title: str) -> str:
    """A search as a page.

    Args:
        found: As `shrink.json` has it.
        title: What was made smaller, such as the name of the run.

    Example:

        shrink_page(read_json("runs/small/shrink.json"), title="flowers")
    """
    candidates = [Candidate.from_dict(each) for each in found["candidates"]]
    front = not_dominated(candidates)
    chosen = Candidate.from_dict(found["chosen"])
    score = found["score"]
    rows = [
        [
            each.title.replace(" ", "\u00a0"),  # in one line
            "yes" if each in front else "",
            f"{each.score:.3f} ({each.interval[0]:.3f} to {each.interval[1]:.3f})",
            f"{100 * each.lost:+.1f} ± {100 * each.lost_error:.1f}",
            f"{each.size_bytes / 1e6:.2f}",
            f"{each.latency_ms:.2f}",
            "" if each.speedup is None else f"{each.speedup:.2f}",
            f"{each.parameters:,}",
            f"{each.multiply_adds / 1e6:,.1f}",
        ]
        for each in sorted(candidates, key=lambda each: (each.size_bytes, -each.score))
    ]
    heading = [
        "file",
        "on the front",
        f"{score} (95 % interval)",
        "points lost",
        "MB",
        "ms",
        "speed-up",
        "parameters",
        "multiply-adds, M",
    ]
    left_out = "".join(f"<li>{text(name)}: {text(why)}</li>" for name, why in found["left_out"].items())
    plots = [
        drawn(plot_front(candidates, chosen, score, "size"), f"{score} and size", size=(5.4, 3.6)),
        drawn(plot_front(candidates, chosen, score, "latency"), f"{score} and latency", size=(5.4, 3.6)),
    ]
    return document(
        f"Smaller files of {title}",
        f"{len(candidates)} files of {len({each.network for each in candidates})} networks, on "
        f"{chosen.examples:,} validation examples; {found['threads']} thread{'s' * (found['threads'] != 1)}, "
        f"{found['machine'].get('processor', '')}",
        [
            ("Result", _result(found, chosen, candidates)),
            ("Pareto front", figures(plots)),
            ("All that was tried", table(heading, rows, "Files")),
            ("Left out", left_out and f"<ul>{left_out}</ul>"),
            ("Notes", _NOTES),
        ],
    )


def _result(found: Mapping[str, Any], chosen: Candidate, candidates: Sequence[Candidate]) -> str:
    low, high = chosen.interval
    own = next((each for each in candidates if each.start == RUN and each.keep == 1), None)
    numbers = [
        (f"{chosen.score:.3f}", f"{found['score']}, {low:.3f} to {high:.3f} with 95 % confidence"),
        (f"{100 * chosen.lost:+.1f}", f"points lost of {found['base']:.3f}, ± {100 * chosen.lost_error:.1f}"),
        (f"{chosen.size_bytes / 1e6:.2f} MB", chosen.format),
        (f"{chosen.latency_ms:.2f} ms", "one example"),
    ]
    if chosen.speedup is not None:
        numbers.append((f"{chosen.speedup:.2f}", "times the speed of the run's own file of this format"))
    boxes = "".join(
        f'<div class="number{" first" * (place == 0)}"><b>{text(value)}</b><span>{text(words)}</span></div>'
        for place, (value, words) in enumerate(numbers)
    )
    verdict = (
        f"<p>Kept: <b>{text(chosen.title)}</b>; asked for {text(found['limits_line'])}.</p>"
        if found["reached"]
        else f'<p class="note">No file meets the limits, {text(found["limits_line"])}. Kept as the nearest: '
        f"<b>{text(chosen.title)}</b>.</p>"
    )
    compared = (
        ""
        if own is None
        else f"<p>The run itself as {text(own.format)}: {own.size_bytes / 1e6:.2f} MB, {own.latency_ms:.2f} ms.</p>"
    )
    return f'{verdict}<div class="numbers">{boxes}</div>{compared}'


def plot_front(
    candidates: Sequence[Candidate], chosen: Candidate, score: str, cost: str
) -> Callable[[Any, Mapping[str, str]], None]:
    """A function that draws the score of all candidates against a cost, with the front as a line.

    Args:
        candidates: All that was measured.
        chosen: Marked by a ring.
        score: Its name.
        cost: `"size"` or `"latency"`.

    Example:

        drawn(plot_front(candidates, chosen, "accuracy", "size"), "accuracy and size", size=(5, 3))
    """

    def of(each: Candidate) -> float:
        return each.size_bytes / 1e6 if cost == "size" else each.latency_ms

    several = len({each.start for each in candidates}) > 1

    def draw(axes: Any, colors: Mapping[str, str]) -> None:
        for format, marker in zip(
            dict.fromkeys(each.format for each in candidates), "osD^vP*X" * 4, strict=False
        ):
            own = [each for each in candidates if each.format == format]
            axes.errorbar(
                [of(each) for each in own],
                [each.score for each in own],
                yerr=[
                    [max(0.0, each.score - each.interval[0]) for each in own],
                    [max(0.0, each.interval[1] - each.score) for each in own],
                ],
                fmt=marker,
                color=colors["train"],
                ecolor=colors["muted"],
                elinewidth=1,
                label=format,
                markersize=6,
            )
        places = pareto_front([(of(each), each.score) for each in candidates])
        front = sorted((of(candidates[place]), candidates[place].score) for place in places)
        axes.step(
            [each[0] for each in front],
            [each[1] for each in front],
            where="post",
            color=colors["validation"],
            linewidth=1.5,
            label="front",
        )
        axes.plot(
            [of(chosen)],
            [chosen.score],
            "o",
            fillstyle="none",
            markersize=14,
            color=colors["validation"],
            label="kept",
        )
        for each in candidates:
            start = each.start if each.keep == 1 or several else ""
            kept = "" if each.keep == 1 else f"{each.keep:.0%}"
            axes.annotate(
                f"{start} {kept}".strip(),
                (of(each), each.score),
                xytext=(6, 5),
                textcoords="offset points",
                color=colors["muted"],
                fontsize=8,
            )
        axes.set_xlim(0, 1.15 * max(map(of, candidates)))
        axes.set(xlabel="MB" if cost == "size" else "ms, one example", ylabel=score)
        axes.legend(loc="lower right")

    return draw


def save_front(path: str | Path, candidates: Sequence[Candidate], chosen: Candidate, score: str) -> None:
    """Draw both fronts as a PNG.

    Args:
        path: Of the file.
        candidates, chosen, score: As in `plot_front`.

    Example:

        save_front("front.png", candidates, chosen, "accuracy")
    """
    # Its own canvas: pyplot would keep the figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colors = {"ink": "#1a1a1a", "muted": "#707070", "train": "#2563a8", "validation": "#c2570c"}
    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, cost in zip(figure.subplots(1, 2), ("size", "latency"), strict=True):
        plot_front(candidates, chosen, score, cost)(axes, colors)
        axes.set_title(f"{score} and {cost}", loc="left")
    with replacing(path) as partial:
        figure.savefig(partial, dpi=120)
