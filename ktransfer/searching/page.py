"""Pages of a ranking and of a search, as HTML that holds all it shows."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ktransfer import reporting
from ktransfer.reporting.plots import drawn
from ktransfer.searching.ranking import Candidate, Ranking
from ktransfer.security.safe_io import visible

# No script, and nothing from elsewhere, whatever a file or a class is called.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, about: str, sections: Sequence[tuple[str, str]]) -> str:
    """A page with a heading and sections.

    Args:
        title: Plain text.
        about: A line under it, plain text.
        sections: Heading, plain text, and content, HTML; those without content are left out.

    Example:
        >>> "<h2>Result</h2>" in document("Ranking", "of backbones", [("Result", "<p>none</p>")])
        True
    """
    style = (Path(reporting.__path__[0]) / "page.css").read_text(encoding="utf-8")
    body = "".join(f"<section><h2>{text(name)}</h2>{inner}</section>" for name, inner in sections if inner)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<title>{text(title)}</title><link rel="icon" href="data:,"><style>{style}</style></head><body>'
        f'<header><h1>{text(title)}</h1><p class="quiet">{text(about)}</p></header>'
        f"<main>{body}</main></body></html>\n"
    )


def table(heading: Sequence[str], rows: Iterable[Sequence[object]], label: str) -> str:
    """A table whose first column is text and whose others are numbers to the right.

    Args:
        heading: Plain text of each column.
        rows: Plain values of each row.
        label: What the table holds, for screen readers.

    Example:
        >>> table(["name", "loss"], [["a", "0.3"]], "candidates").count("<td")
        2
    """
    first, *others = map(text, heading)
    head = f"<tr><th>{first}</th>" + "".join(f'<th class="right">{each}</th>' for each in others) + "</tr>"
    body = "".join(
        f"<tr><td>{text(name)}</td>"
        + "".join(f'<td class="right">{text(each)}</td>' for each in values)
        + "</tr>"
        for name, *values in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">'
        f"<table><thead>{head}</thead><tbody>{body}</tbody></table></div>"
    )


def text(value: object) -> str:
    """A value as text of a page, control characters shown.

    Example:
        >>> text("<a>")
        '&lt;a&gt;'
    """
    return html.escape(visible(str(value)))


def figures(plots: Iterable[str]) -> str:
    """Plots next to each other."""
    return '<div class="plots">' + "".join(f"<figure>{plot}</figure>" for plot in plots) + "</div>"


def rank_page(ranking: Ranking, *, title: str) -> str:
    """A ranking as a page: the table, its plots, and what the columns are.

    Args:
        ranking: What was measured.
        title: What it is of, such as the name of the data.

    Example:
        >>> "Nothing could be measured" in rank_page(
        ...     Ranking((), {}, 0, 0, "log loss", "accuracy"), title="flowers"
        ... )
        True
    """
    about = f"{ranking.examples:,} of {ranking.of:,} training examples, features of the frozen backbones"
    if not ranking.candidates:
        return document(f"Ranking for {title}", about, [("Result", "<p>Nothing could be measured.</p>")])
    heading, rows = ranking.table()
    best = ranking.best.name if ranking.best else ""
    tied = [each.name for each in ranking.candidates[1:] if each.as_good_as_best]
    result = f"<p>Best: <b>{text(best)}</b>.</p>"
    if tied:
        result += f'<p class="note">Within one standard error of the first: {text(", ".join(tied))}.</p>'
    result += table(heading, rows, "Candidates")
    left_out = "".join(f"<li>{text(name)}: {text(why)}</li>" for name, why in ranking.left_out.items())
    return document(
        f"Ranking for {title}",
        about,
        [
            ("Result", result),
            ("Plots", figures(_rank_plots(ranking))),
            ("Left out", left_out and f"<ul>{left_out}</ul>"),
            ("Notes", "".join(f"<p>{text(note)}</p>" for note in ranking.notes)),
            ("Columns", _COLUMNS),
        ],
    )


_COLUMNS = """<p>The order is that of the loss of a solved head on examples left out of it (cross-validation);
± is its standard error. LogME (You et al. 2021) and the H-score with shrunk covariances (Ibrahim et al. 2022), of
which higher is better, do not change the order: published comparisons of such scores contradict each other.
Fine-tuning can change the order of backbones whose losses are close, so the first ones are trained for a short
time.</p>"""


def _rank_plots(ranking: Ranking) -> list[str]:
    candidates = ranking.candidates

    def losses(axes: Any, colors: Mapping[str, str]) -> None:
        places = range(len(candidates), 0, -1)
        axes.errorbar(
            [each.loss for each in candidates],
            list(places),
            xerr=[each.loss_error for each in candidates],
            fmt="o",
            color=colors["train"],
            ecolor=colors["muted"],
        )
        axes.set_yticks(list(places), [_short(each.name) for each in candidates])
        axes.set_xlabel(f"{ranking.loss_title}, one standard error")

    def costs(axes: Any, colors: Mapping[str, str]) -> None:
        _scatter(axes, candidates, ranking, colors)

    height = 1.2 + 0.32 * len(candidates)
    return [
        drawn(losses, f"cross-validated {ranking.loss_title}", size=(5.6, max(2.6, height))),
        drawn(costs, "cost of one example", size=(4.8, 3.2)),
    ]


def _scatter(axes: Any, candidates: Sequence[Candidate], ranking: Ranking, colors: Mapping[str, str]) -> None:
    axes.plot(
        [each.multiply_adds for each in candidates],
        [each.loss for each in candidates],
        "o",
        color=colors["train"],
    )
    for place, each in enumerate(candidates, 1):
        axes.annotate(
            str(place),
            (each.multiply_adds, each.loss),
            xytext=(5, 3),
            textcoords="offset points",
            color=colors["muted"],
            fontsize=9,
        )
    axes.set_xscale("log")
    axes.set(xlabel="multiply-adds", ylabel=ranking.loss_title)


def _short(name: str) -> str:
    """The end of a path, and at most so much of a name as a plot has room for."""
    name = name.rstrip("/").replace("\\", "/").rpartition("/")[2]
    return name if len(name) <= 34 else f"{name[:31]}..."


def search_page(found: Mapping[str, Any], *, title: str) -> str:
    """A search as a page: its winner and how good that is, its plots, and all trials.

    Args:
        found: As `search.json` has it.
        title: What was searched for, such as the name of the data.

    Example:

        search_page(read_json("search/search.json"), title="flowers")
    """
    trials = found["trial_list"]
    complete = [each for each in trials if each["state"] == "complete"]
    counts = ", ".join(
        f"{sum(each['state'] == state for each in trials)} {state}"
        for state in ("complete", "pruned", "failed", "fail", "left", "running", "waiting")
        if any(each["state"] == state for each in trials)
    )
    names = list(found["space"])
    rows = [
        [
            each["trial"],
            each["state"],
            _cell(each["loss"], ".4f"),
            _cell(each.get("score"), ".3f"),
            _cell(each.get("seconds"), ".0f"),
            *(_value(each["values"].get(name)) for name in names),
        ]
        for each in sorted(
            trials, key=lambda each: (each["loss"] is None, each["loss"] or 0.0, each["trial"])
        )
    ]
    heading = ["trial", "state", found["loss_title"], found["metric"], "seconds", *names]
    failed = "".join(
        f"<li>trial {each['trial']}: {text(each['error'])}</li>" for each in trials if each.get("error")
    )
    return document(
        f"Search for {title}",
        f"{len(trials)} trial{'s' * (len(trials) != 1)}: {counts}; {found['sampler']} and {found['pruner']}",
        [
            ("Result", _search_result(found)),
            ("Plots", figures(_search_plots(found, complete))),
            ("Trials", table(heading, rows, "Trials")),
            ("Failed", failed and f"<ul>{failed}</ul>"),
        ],
    )


def _search_result(found: Mapping[str, Any]) -> str:
    best = found["best"]
    chosen = next(each for each in found["trial_list"] if each["trial"] == best["trial"])
    values = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(_value(value))}</dd></div>"
        for name, value in chosen["values"].items()
    )
    metric = text(found["metric"])
    outer = (
        f'<div class="number first"><b>{best["test"]:.3f}</b><span>{metric} on {best["test_examples"]:,} test '
        f"examples, {text(best['outer'])}: no trial saw them</span></div>"
        if best["test"] is not None
        else ""
    )
    return (
        f'<div class="numbers">{outer}<div class="number"><b>{best["validation"]:.3f}</b><span>{metric} on '
        f"{best['validation_examples']:,} validation examples, by which the recipe was chosen: optimistic, the more "
        f"so the more trials there were</span></div></div>"
        f"<p>Trial {best['trial']}, trained again with its recipe in <code>{text(best['run'])}</code>:</p>"
        f'<dl class="reasons">{values}</dl>'
    )


def _search_plots(found: Mapping[str, Any], complete: Sequence[Mapping[str, Any]]) -> list[str]:
    loss, metric = found["loss_title"], found["metric"]

    def history(axes: Any, colors: Mapping[str, str]) -> None:
        ordered = sorted(complete, key=lambda each: each["trial"])
        numbers, losses = [each["trial"] for each in ordered], [each["loss"] for each in ordered]
        axes.plot(numbers, losses, "o", color=colors["muted"], label="complete")
        axes.step(
            numbers,
            list(itertools.accumulate(losses, min)),
            where="post",
            color=colors["train"],
            label="best",
        )
        if pruned := [each["trial"] for each in found["trial_list"] if each["state"] == "pruned"]:
            axes.plot(pruned, [max(losses)] * len(pruned), "|", color=colors["muted"], label="pruned")
        axes.set(xlabel="trial", ylabel=loss)
        axes.legend()

    def importances(axes: Any, colors: Mapping[str, str]) -> None:
        ranked = sorted(found["importances"].items(), key=lambda each: each[1])
        axes.barh([name for name, _ in ranked], [value for _, value in ranked], color=colors["train"])
        axes.set_xlabel("share of the variance of the loss")

    def parallel(axes: Any, colors: Mapping[str, str]) -> None:
        _parallel(axes, colors, complete, list(found["space"]), loss)

    def depths(axes: Any, colors: Mapping[str, str]) -> None:
        seconds = [each["seconds"] for each in complete]
        sizes = [20 + 180 * each / max(seconds) for each in seconds]
        shares = [each["depth_share"] for each in complete]
        axes.scatter(shares, [each["score"] for each in complete], s=sizes, color=colors["train"], alpha=0.5)
        axes.set(xlabel="share of blocks that train; area: seconds", ylabel=metric)

    plots = [drawn(history, "history", size=(5.2, 3.2))]
    if found["importances"]:
        plots.append(drawn(importances, "importances", size=(4.8, 3.2)))
    if len(complete) > 1:
        plots.append(drawn(parallel, "parallel coordinates", size=(7.2, 3.6)))
    plots.append(drawn(depths, f"depth, {metric} and time", size=(4.8, 3.2)))
    for key, unit in (("latency_ms", "ms"), ("size_bytes", "MiB")):
        for format in sorted({name for each in complete for name in each.get(key, {})}):
            plots.append(_front(complete, metric, key, format, unit))
    return plots


def _front(complete: Sequence[Mapping[str, Any]], metric: str, key: str, format: str, unit: str) -> str:
    """The metric against a cost of the exported file, and the trials that no other beats in both."""
    scale = 2**20 if unit == "MiB" else 1
    points = [
        (each[key][format] / scale, each["score"], each["trial"])
        for each in complete
        if format in each.get(key, {})
    ]

    def draw(axes: Any, colors: Mapping[str, str]) -> None:
        front = pareto_front([(cost, score) for cost, score, _ in points])
        axes.plot(
            [cost for cost, *_ in points], [score for _, score, _ in points], "o", color=colors["muted"]
        )
        chosen = sorted(points[place] for place in front)
        axes.step(
            [each[0] for each in chosen],
            [each[1] for each in chosen],
            "o-",
            where="post",
            color=colors["validation"],
        )
        for cost, score, trial in chosen:
            axes.annotate(str(trial), (cost, score), xytext=(5, 3), textcoords="offset points", fontsize=9)
        axes.set(xlabel=f"{format}, {unit}", ylabel=metric)

    return drawn(draw, f"Pareto front of {metric} and {format} {unit}", size=(4.8, 3.2))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The places of the points of which no other has at most the cost and at least the score.

    Args:
        points: Cost and score of each.

    Example:
        >>> pareto_front([(1.0, 0.8), (2.0, 0.9), (3.0, 0.85)])
        [0, 1]
    """
    return [
        place
        for place, (cost, score) in enumerate(points)
        if not any(
            other_cost <= cost and other >= score and (other_cost, other) != (cost, score)
            for other_cost, other in points
        )
    ]


def _parallel(
    axes: Any, colors: Mapping[str, str], complete: Sequence[Mapping[str, Any]], names: list[str], loss: str
) -> None:
    """A line a trial over its parameters, each scaled to its own range; the best third in color."""
    columns = []
    for name in names:
        values = [each["values"].get(name) for each in complete]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            low, high = min(values), max(values)
            is_log = low > 0 and high / low > 30
            scaled = [math.log(value) if is_log else value for value in values]
        else:
            kinds = sorted({_value(value) for value in values})
            scaled = [float(kinds.index(_value(value))) for value in values]
        low, high = min(scaled), max(scaled)
        columns.append([(value - low) / ((high - low) or 1.0) for value in scaled])
    order = sorted(range(len(complete)), key=lambda place: -complete[place]["loss"])
    for rank, place in enumerate(order):
        best = rank >= len(order) * 2 / 3
        axes.plot(
            range(len(names)),
            [column[place] for column in columns],
            color=colors["validation" if best else "muted"],
            alpha=0.9 if best else 0.35,
            linewidth=1.4,
        )
    axes.set_xticks(range(len(names)), names, rotation=25, ha="right")
    axes.set_yticks([0, 1], ["lowest", "highest"])
    axes.set_title(f"parallel coordinates: the third with the lowest {loss} in color")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return _short(str(value))


def _cell(value: float | None, format: str) -> str:
    return "" if value is None else f"{value:{format}}"
