"""A griffe extension: the `Example:` of a docstring becomes a fenced block, which Markdown shows as code.

Without the fence Markdown reads `>>>` as quotes within quotes and plain code as a paragraph.
"""

import re
import textwrap

import griffe

_EXAMPLE = re.compile(
    r"^(?P<indent> *)Examples?:\n(?P<body>(?:(?P=indent) +\S.*\n?|[ \t]*\n)+)", re.MULTILINE
)


def fenced(docstring: str) -> str:
    """The docstring with the code of its examples between fences."""

    def replace(found):
        body = textwrap.dedent(found["body"]).strip("\n")
        if "```" in body:
            return found[0]
        body = re.sub(r" *# doctest:.*$", "", body, flags=re.MULTILINE)  # for the test that runs them
        language = "pycon" if ">>>" in body else "python"
        block = textwrap.indent(f"```{language}\n{body}\n```\n", found["indent"] + "    ")
        return f"{found['indent']}Example:\n{block}\n"

    return _EXAMPLE.sub(replace, docstring)


class FencedExamples(griffe.Extension):
    """Applies `fenced` to every docstring."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
