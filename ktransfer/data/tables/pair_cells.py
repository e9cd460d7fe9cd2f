"""Two columns of texts: what they are customarily called, and whether their cells are texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ktransfer.data.label_names import is_number
from ktransfer.data.pairs import Pair
from ktransfer.data.tables.column_contents import require_texts
from ktransfer.data.tables.columns import InputKind, split_references
from ktransfer.data.tables.text_cells import check_texts

# Without case, spaces, hyphens and underscores.
_NAMED = (
    ("premise", "hypothesis"),
    ("text", "textpair"),
    ("text", "pairtext"),
    ("question", "sentence"),
    ("query", "passage"),
    ("query", "document"),
    ("claim", "evidence"),
)
_STEMS = ("sentence", "text", "question", "sent", "paragraph", "title", "review", "headline", "phrase")
_ENDS = (("1", "2"), ("a", "b"), ("0", "1"), ("one", "two"))
_PAIRS = (*_NAMED, *((f"{stem}{one}", f"{stem}{two}") for stem in _STEMS for one, two in _ENDS))
_LABELS = (
    *("is_duplicate", "duplicate", "gold_label", "score", "similarity", "similarity_score"),
    *("relatedness_score", "entailment", "entailment_judgment", "relation", "rating"),
)
_MOSTLY = 0.9  # share of the cells that have to be texts


def find_pair(names: Sequence[str], records: Sequence[Sequence[Any]]) -> tuple[int, int] | None:
    """Find two columns of texts in a table that are customarily called as the sides of pairs.

    Args:
        names: Of the columns.
        records: The cells of each row.

    Returns:
        Positions from 0 on; `None` where there are none, or several such pairs.

    Example:
        >>> find_pair(["id", "premise", "hypothesis", "label"], [["1", "It rains.", "It is wet.", "yes"]])
        (1, 2)
    """
    places: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        places.setdefault(re.sub(r"[\s_-]+", "", name).casefold(), []).append(at)
    found = [
        (places[one][0], places[two][0])
        for one, two in _PAIRS
        if len(places.get(one, ())) == 1 == len(places.get(two, ()))
    ]
    found = [pair for pair in dict.fromkeys(found) if all(_holds_texts(records, at) for at in pair)]
    return found[0] if len(found) == 1 else None


def _holds_texts(records: Sequence[Sequence[Any]], at: int) -> bool:
    cells = [record[at] for record in records if record[at] not in (None, "")]
    texts = [cell for cell in cells if isinstance(cell, str) and not is_number(cell.strip())]
    return bool(cells) and len(texts) >= _MOSTLY * len(cells)


def read_pair_cells(
    cells: Sequence[Sequence[object]], rows: Sequence[int | str], source: str, folder: Path | None = None
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """The pairs of two columns.

    Args:
        cells: Of each row both, as their format has them.
        rows: The row of each.
        source: The columns and their file, for messages: `"column 'a,b' of pairs.csv"`.
        folder: Not used: texts lie in no folder.

    Returns:
        `(pairs, names)`: what a pair is called to a person.

    Raises:
        DataError: A side is empty or no text, or a column holds names of files or numbers.

    Example:
        >>> read_pair_cells([("one", "two")], [2], "column 'a,b' of pairs.csv")[0]
        (Pair(first='one', second='two'),)
    """
    columns = []
    for side in (0, 1):
        named = _column_source(source, side)
        texts = check_texts([cell[side] for cell in cells], rows, named, flag="--text-columns")
        require_texts(texts, rows, named, flag="--text-columns")
        columns.append(texts)
    pairs = tuple(Pair(*both) for both in zip(*columns, strict=True))
    return pairs, tuple(map(str, pairs))


def _column_source(source: str, side: int) -> str:
    """The same of one of both columns."""
    found = re.fullmatch(r"column '(.*)' of (.*)", source, re.DOTALL)
    names = split_references(found[1]) if found else []
    return f"column {names[side]!r} of {found[2]}" if found and len(names) == 2 else source


PAIR_CELLS = InputKind(
    "pairs of texts", "text_columns", (), read_pair_cells, width=2, find=find_pair, label_names=_LABELS
)
