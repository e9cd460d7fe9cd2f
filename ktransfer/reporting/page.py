"""The report as one HTML page that holds all it shows."""

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

_FOLDER = Path(__file__).parent


def render(values: dict[str, Any]) -> str:
    """Fill the page.

    Whatever a file, a class or a text is called, it is shown as text: the template escapes everything, there
    is no script, and the page forbids its browser to run or load any.

    Args:
        values: What `page.html` and the template of the task name; SVG as `markupsafe.Markup`.

    Returns:
        HTML.

    Example:

        render(contents(run, splits, answers))
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    style = Markup((_FOLDER / "page.css").read_text(encoding="utf-8"))
    return environment.get_template(values["task"].template).render(values, style=style)


def percent(share: float) -> str:
    """A share in percent; less than all is never rounded up to 100 %.

    Example:
        >>> percent(0.9), percent(0.9951), percent(0.999999), percent(1.0)
        ('90.0 %', '99.51 %', '99.99 %', '100 %')
    """
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    digits = 1 if 0.01 <= share < 0.995 else 2
    return f"{min(100 * share, 99.99):.{digits}f} %"
