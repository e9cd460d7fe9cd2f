"""Pages of a ranking and of a search, as HTML that holds all it shows."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ktransfer import reporting
from ktransfer.reporting.plots import drawn
from ktransfer.search.ranking import Candidate, Ranking
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
