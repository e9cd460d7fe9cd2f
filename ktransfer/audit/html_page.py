"""An audit as one HTML page that holds all it shows."""

import html
import os
from collections.abc import Callable, Sequence

from ktransfer.audit.findings import KINDS, Audit, Finding, Item
from ktransfer.core.modality import Modality
from ktransfer.data.examples import printable
from ktransfer.utils.files import write_text

_MOST_FINDINGS = 40  # of each kind: a page of all kinds stays below some 10 MiB
_MOST_ITEMS = 8
_LONGEST_TEXT = 300  # characters
# No script and no remote content, also with hostile names of files or classes.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .2rem .8rem .2rem 0; text-align: left }
section { margin-top: 2rem } .finding { border-top: 1px solid #ddd; padding: .6rem 0 }
.items { display: flex; flex-wrap: wrap; gap: .6rem } figure { margin: 0; width: 13rem }
figcaption, .rest { color: #555; font-size: 12px; overflow-wrap: anywhere }
blockquote { margin: 0; background: #f5f5f5; padding: .4rem; overflow-wrap: anywhere }
.error { color: #b00020 } .warning { color: #8a5a00 } .note { color: #555 }
"""


def write_page(audit: Audit, path: str | os.PathLike[str], *, title: str) -> None:
    """Write an audit as a self-contained page, with thumbnails or texts of the worst of each kind.

    Args:
        audit: What was found.
        path: The file.
        title: What was audited.

    Example:
        >>> write_page(audit, "audit.html", title="flowers")  # doctest: +SKIP
    """
    write_text(path, page(audit, title=title))


def page(audit: Audit, *, title: str) -> str:
    """The page as HTML.

    Example:
        >>> "Nothing was found" in page(Audit("file", {"train": {"daisy": 20}}, ()), title="flowers")
        True
    """
    title = html.escape(printable(title))
    body = "".join(_section(kind, found, audit.modality) for kind in KINDS if (found := audit.of(kind)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Audit of {title}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Audit of {title}</h1>{_counts(audit)}{body or '<p>Nothing was found.</p>'}</body></html>\n"
    )


def _counts(audit: Audit) -> str:
    head = "".join(f"<th>{split}</th>" for split in audit.counts)
    labels = next(iter(audit.counts.values()), {})
    rows = "".join(
        f"<tr><td>{html.escape(label)}</td>"
        + "".join(f"<td>{counts[label]:,}</td>" for counts in audit.counts.values())
        + "</tr>"
        for label in labels
    )
    return f"<table><tr><th>class</th>{head}</tr>{rows}</table>"


def _section(kind: str, findings: Sequence[Finding], modality: Modality) -> str:
    severity, meaning = KINDS[kind]
    left = len(findings) - _MOST_FINDINGS
    rest = f'<p class="rest">and {left:,} more, in audit.json</p>' if left > 0 else ""
    show = quoted if kind == "unreadable" else modality.as_html
    shown = "".join(_finding(finding, show) for finding in findings[:_MOST_FINDINGS])
    return (
        f'<section><h2><span class="{severity}">{severity}</span> {kind.replace("_", " ")}: {meaning} '
        f"({len(findings):,})</h2>{shown}{rest}</section>"
    )


def _finding(finding: Finding, show: Callable[[str], str]) -> str:
    left = len(finding.items) - _MOST_ITEMS
    rest = f'<p class="rest">and {left:,} more, in audit.json</p>' if left > 0 else ""
    shown = "".join(_item(item, show) for item in finding.items[:_MOST_ITEMS])
    detail = html.escape(printable(finding.detail))
    return f'<div class="finding"><p>{detail}</p><div class="items">{shown}</div>{rest}</div>'


def _item(item: Item, show: Callable[[str], str]) -> str:
    place = html.escape(printable(f"{item.split}, {item.label}: {item.key}"))
    return f"<figure>{show(item.input)}<figcaption>{place}</figcaption></figure>"


def quoted(text: str) -> str:
    """A text as HTML, its first 300 characters.

    Example:
        >>> quoted("1 < 2")
        '<blockquote>1 &lt; 2</blockquote>'
    """
    shown = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} ..."
    return f"<blockquote>{html.escape(printable(shown))}</blockquote>"
