"""Pairs of texts: an example of two texts whose label says something of both, such as how alike they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ktransfer.errors import DataError


class Pair(NamedTuple):
    """Two texts, in the order in which a model reads them.

    Attributes:
        first, second: The texts.

    Example:
        >>> str(Pair("A plane takes off.", "An air plane is taking off."))
        'A plane takes off. | An air plane is taking off.'
    """

    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.first} | {self.second}"


def sides(content: str | Pair) -> tuple[str, ...]:
    """The texts of an example: both of a pair, or the only one.

    Example:
        >>> sides("one"), sides(Pair("one", "two"))
        (('one',), ('one', 'two'))
    """
    return (content.first, content.second) if isinstance(content, Pair) else (content,)


def as_content(given: Any) -> Any:
    """An example as it is passed around: two texts in a tuple or a list become a `Pair`, anything else a string.

    Raises:
        DataError: There are not two texts in it.

    Example:
        >>> as_content(["one", "two"])
        Pair(first='one', second='two')
    """
    if not isinstance(given, tuple | list):
        return str(given)
    if len(given) != 2 or not all(isinstance(text, str) for text in given):
        raise DataError(f"Expected two texts for each pair, got {given!r:.80}. Pass such as ('a', 'b').")
    return Pair(*given)


def require_kind(inputs: Sequence[Any], *, pairs: bool) -> None:
    """Refuse pairs where texts are expected, and texts where pairs are.

    Raises:
        DataError: One is of the other kind; the message says how to pass it.

    Example:
        >>> require_kind([Pair("one", "two")], pairs=True)
    """
    for content in inputs:
        if isinstance(content, Pair) != pairs:
            if pairs:
                raise DataError(
                    f"Expected pairs of texts, got one text, {str(content)[:60]!r}. Pass both as ('a', 'b'), or a "
                    "table with both columns."
                )
            raise DataError(
                f"Expected single texts, got a pair, {str(content)[:60]!r}. Pass one text, or use a run that was "
                "trained on pairs."
            )
