"""Several labels a row: lists in a cell, or one column of 0 and 1 a label."""

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from ktransfer.data.label_names import label_name

SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label", "multi_label", "regression"
# The separator of cells that are lists, as JSON or Python writes them, or in JSON lines and Parquet as values.
LIST = "list"
_SEPARATORS = "|;,/"
_MOSTLY = 0.5  # share of the cells that makes brackets those of lists

_BRACKETED = re.compile(r"\[.*\]|\{.*\}", re.DOTALL)
_ITEM = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^,'"\[\]{}]+))\s*(,|\Z)?""", re.DOTALL)
_NUMPY_NUMBERS = re.compile(r"[\d.]+(\s+[\d.]+)+\s*")
_SCALARS = str | int | float | Decimal
_HOT = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


def is_empty(cell: object) -> bool:
    """Whether a cell holds no label: nothing, white space, or NaN as pandas writes it.

    A cell that reads `nan` is not empty; it may be the name of a class.

    Example:
        >>> is_empty(" "), is_empty(float("nan")), is_empty([]), is_empty("nan")
        (True, True, True, False)
    """
    if isinstance(cell, float):
        return math.isnan(cell)
    if isinstance(cell, list | tuple):
        return not cell
    return cell is None or (isinstance(cell, str) and not cell.strip())


def find_separator(cells: Collection[object]) -> str | None:
    """Find the separator of labels in cells that are lists.

    Cells are lists where they are so by their type; where half of them or more have brackets; or by a separator
    all of whose pieces come again, alone or in other lists: a comma in a name does not make any.

    Args:
        cells: Of a column of labels. Empty ones do not count.

    Returns:
        One of `|`, `;`, `,` and `/`; `"list"` for lists with brackets and lists by type; `None` where cells are
        one label each.

    Example:
        >>> find_separator(["joy|anger", "joy", "fear|anger"]), find_separator(['["joy"]', '["joy", "fear"]'])
        ('|', 'list')
        >>> find_separator(["Sports, leisure", "Food"]) is None
        True
    """
    if any(isinstance(cell, list | tuple) for cell in cells):
        return LIST
    counts = Counter(cell.strip() for cell in cells if isinstance(cell, str) and cell.strip())
    if not counts:
        return None
    bracketed = sum(count for cell, count in counts.items() if _BRACKETED.fullmatch(cell))
    if bracketed >= _MOSTLY * counts.total():
        return LIST
    for separator in _SEPARATORS:
        pieces = {cell: [piece.strip() for piece in cell.split(separator)] for cell in counts}
        several = {cell: parts for cell, parts in pieces.items() if len(parts) > 1 and all(parts)}
        met = Counter(piece for parts in pieces.values() for piece in set(parts))
        lists = [cell for cell, parts in several.items() if all(met[piece] > 1 for piece in parts)]
        if separator == "/" and len(lists) < 3:
            continue
        if separator == "|" and len(several) > 1 and not _are_paths(several.values(), pieces):
            return separator
        if lists:
            return separator
    return None


def _are_paths(several: Iterable[Sequence[str]], pieces: Mapping[str, Sequence[str]]) -> bool:
    """Whether pieces are levels, as in `books|fiction`: each stands at one of them only."""
    levels: dict[str, set[int]] = {}
    for parts in pieces.values():
        for level, piece in enumerate(parts):
            levels.setdefault(piece, set()).add(level)
    firsts = Counter(parts[0] for parts in several)
    return all(len(found) == 1 for found in levels.values()) and max(firsts.values()) > 1


def split_cell(cell: object, separator: str | None) -> list[str]:
    """The labels of a cell, in its order, without white space around them; empty and repeated ones too.

    Args:
        cell: As its format has it.
        separator: What stands between labels; `"list"` for a list as JSON, Python, NumPy or Postgres writes it,
            where a cell without brackets is one label; `None` for a cell that is one label.

    Raises:
        ValueError: It is no label and no list of such, with the reason.

    Example:
        >>> split_cell("joy | anger", "|"), split_cell("['joy' 'anger']", "list"), split_cell("", "|")
        (['joy', 'anger'], ['joy', 'anger'], [])
    """
    if is_empty(cell):
        return []
    if isinstance(cell, str) and separator == LIST and _BRACKETED.fullmatch(cell.strip()):
        cell = _parse_list(cell.strip())
    elif isinstance(cell, str) and separator not in (None, LIST):
        cell = cell.split(separator)
    if not isinstance(cell, list | tuple):
        cell = [cell]
    for item in cell:
        if not isinstance(item, _SCALARS) or (isinstance(item, float) and math.isnan(item)):
            raise ValueError(_called(item))
    return [label_name(item) for item in cell]


def _called(item: object) -> str:
    if item is None or isinstance(item, float):
        return "a missing value in a list"
    if isinstance(item, list | tuple):
        return "a list in a list"
    return "an object" if isinstance(item, dict) else f"a value of type {type(item).__name__}"


def _parse_list(text: str) -> list[Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        # An empty object is an empty list to Postgres.
        return value if isinstance(value, list) else [value] if value else []
    inner, items, at = text[1:-1].strip(), [], 0
    while at < len(inner):
        item = _ITEM.match(inner, at)
        # NumPy leaves out the commas between items in quotes.
        if item is None or (item[4] is None and item[3] is not None):
            raise ValueError("brackets that hold no list as JSON or Python writes it")
        if item[3] is not None and text[0] == "{" and ":" in item[3]:
            raise ValueError("an object")
        quoted = item[1] if item[1] is not None else item[2]
        if quoted is not None:
            items.append(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        else:
            items += item[3].split() if _NUMPY_NUMBERS.fullmatch(item[3]) else [item[3]]
        at = item.end()
    return items


def hot_value(cell: object) -> int | None:
    """0 or 1 as a column of a label has it, or None for anything else.

    Example:
        >>> [hot_value(cell) for cell in ("0", "1.0", True, "yes", 2)]
        [0, 1, 1, None, None]
    """
    if isinstance(cell, str):
        return _HOT.get(cell.strip().lower())
    if isinstance(cell, int | float | Decimal) and cell in (0, 1):
        return int(cell)
    return None


def are_vectors(lists: Sequence[Sequence[str]]) -> bool:
    """Whether lists are 0 and 1 at the place of each label, which then has no name.

    Example:
        >>> are_vectors([["0", "1", "0"], ["1", "1", "0"]]), are_vectors([["0", "1"], ["1"]])
        (True, False)
    """
    lengths = {len(found) for found in lists}
    values = {value.casefold() for found in lists for value in found}
    return len(lengths) == 1 and min(lengths) > 1 and values <= _HOT.keys()


def label_matrix(sets: Sequence[Iterable[str]], names: Sequence[str]) -> np.ndarray:
    """The labels of each row as a matrix.

    Args:
        sets: The labels of each row, each one of `names`.
        names: The labels in the order of the columns.

    Returns:
        uint8 `(rows, labels)` of 0 and 1.

    Example:
        >>> label_matrix([["joy"], [], ["joy", "fear"]], ["fear", "joy"]).tolist()
        [[0, 1], [0, 0], [1, 1]]
    """
    import numpy as np

    places = {name: place for place, name in enumerate(names)}
    matrix = np.zeros((len(sets), len(names)), np.uint8)
    for row, found in enumerate(sets):
        for name in found:
            matrix[row, places[name]] = 1
    return matrix


def alike_names(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ in case or spaces only.

    Example:
        >>> alike_names(["joy", "Joy", "fear"])
        [('Joy', 'joy')]
    """
    alike: dict[str, set[str]] = {}
    for name in names:
        alike.setdefault(" ".join(name.split()).casefold(), set()).add(name)
    return [tuple(sorted(found)) for found in alike.values() if len(found) > 1]
