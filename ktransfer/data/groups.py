"""Groups of examples that stay on one side of a split: a person, a drive, a patient."""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from ktransfer.data.label_names import label_name
from ktransfer.data.tables.file_bytes import named_rows
from ktransfer.data.tables.label_sets import is_empty
from ktransfer.errors import DataError, listed
from ktransfer.security.safe_io import visible

# The part of a name up to its first separator, with a digit in it as numbers of drives and patients have, then a
# number of its own. Camera prefixes (IMG_0001) and class prefixes (m_18) have no digit.
_NUMBERED = re.compile(r"(?P<group>[^\W_]*\d[^\W_]*)[_\-. ]+(?P<rest>.*\d.*)")
_MOSTLY = 0.9  # share of the names that look so
_LEAST = 5  # files that a group has in the middle
_NAMED = 3


def group_names(cells: Sequence[object], rows: Sequence[int | str], source: str) -> tuple[str, ...]:
    """The group of each row.

    Args:
        cells: Of the group column, as their format has them.
        rows: The row of each.
        source: The column and its file, for messages.

    Raises:
        DataError: A cell is empty, or no name or number.

    Example:
        >>> group_names([7, "8 "], [2, 3], "column 'patient' of scans.csv")
        ('7', '8')
    """
    pairs = list(zip(cells, rows, strict=True))
    empty = [row for cell, row in pairs if is_empty(cell)]
    if empty:
        raise DataError(
            f"Expected a group in every row in {source}, got none in {_where(empty)}. Give each such row a "
            "group, one of its own where it belongs to none."
        )
    wrong = [row for cell, row in pairs if isinstance(cell, list | tuple | dict | bytes)]
    if wrong:
        raise DataError(
            f"Expected names or numbers of groups in {source}, got a list or an object in {_where(wrong)}. "
            "Pass another --group-column."
        )
    return tuple(label_name(cell if isinstance(cell, int | float | str) else str(cell)) for cell in cells)


def groups_by(function: Callable[[str], str], names: Iterable[str]) -> tuple[str, ...]:
    """The group of each example by a function of its name.

    Args:
        function: From a name to the name of its group.
        names: Of files below the folder of the data, with forward slashes; of tables of texts the texts.

    Raises:
        DataError: It gives anything else than a text that is not empty.

    Example:
        >>> groups_by(lambda name: name.split("_")[0], ["0006R0_f0.jpg", "0006R0_f1.jpg", "0016E5_f0.jpg"])
        ('0006R0', '0006R0', '0016E5')
    """
    found = []
    for name in names:
        group = function(name)
        if not isinstance(group, str) or not group.strip():
            raise DataError(
                f"Expected the name of a group from group_by, got {group!r:.80} for {visible(name)[:80]!r}. "
                "Return a text for every name."
            )
        found.append(group.strip())
    return tuple(found)


def require_groups(groups: Sequence[Hashable] | None, source: str) -> None:
    """Raise `DataError` where all examples are of one group, which then cannot be split.

    Example:
        >>> require_groups(("7", "8"), "column 'patient' of scans.csv")
    """
    if groups is not None and len(set(groups)) < 2:
        raise DataError(
            f"Expected several groups in {source}, got only {groups[0]!r}, in all {len(groups):,} rows. Pass "
            "another group column, or none."
        )


def shared_groups(one: Iterable[Hashable] | None, other: Iterable[Hashable] | None) -> list[Any]:
    """The groups that two splits have in common.

    Example:
        >>> shared_groups(("7", "8"), ("8", "9"))
        ['8']
    """
    common: set[Any] = set(one or ()) & set(other or ())
    return sorted(common)


def suggest_groups(names: Sequence[str], labels: Sequence[object] | None = None) -> str | None:
    """One line where names of files look as if they had a group in front, such as a drive: `0016E5_07959.jpg`.

    Nine of ten names or more begin with a part that has a digit, followed by a number; there are several such
    parts, and half of the files or more share theirs with four others. Parts that name the classes are no
    groups.

    Args:
        names: Of files, with or without their folders.
        labels: The class of each. Defaults to `None`: they are not looked at.

    Returns:
        A warning; `None` where names do not look so.

    Example:
        >>> print(suggest_groups([f"{drive}_{frame:04}.jpg" for drive in ("0006R0", "0016E5") for frame in range(9)]))
        names look like groups of files, 2 by the part up to the first separator (0006R0, 0016E5), 9 files each on \
average; where files of a group resemble each other, split by group
    """
    matches = [_NUMBERED.fullmatch(_stem(name)) for name in names]
    found = [match["group"] if match else None for match in matches]
    counts = Counter(group for group in found if group is not None)
    total = counts.total()
    if len(counts) < 2 or total < _MOSTLY * len(names):
        return None
    if sum(count for count in counts.values() if count >= _LEAST) < total / 2:
        return None
    different = len({(match["group"], match["rest"]) for match in matches if match})
    if different < total / 2:
        return None  # the same few names in many folders
    if labels is not None:
        pairs = {(g, label) for g, label in zip(found, labels, strict=True) if g is not None}
        if len(pairs) == len(counts) == len({label for _, label in pairs}):
            return None
    shown = ", ".join(sorted(counts)[:_NAMED]) + (", ..." if len(counts) > _NAMED else "")
    return (
        f"names look like groups of files, {len(counts):,} by the part up to the first separator ({visible(shown)}), "
        f"{total / len(counts):.3g} files each on average; where files of a group resemble each other, "
        "split by group"
    )


def groups_note(train: Sequence[Hashable] | None, other: Sequence[Hashable] | None, split: str) -> str | None:
    """A line on groups of a given split that training has too; `None` where there are none.

    Example:
        >>> groups_note(("7", "8"), ("8", "8"), "validation")
        '2 of 2 rows of validation are of groups that train has too: 8'
    """
    common = shared_groups(train, other)
    if other is None or not common:
        return None
    count = sum(group in set(common) for group in other)
    return f"{count:,} of {len(other):,} rows of {split} are of groups that train has too: {listed(common)}"


def _stem(name: str) -> str:
    base = name.replace("\\", "/").rpartition("/")[2]
    return base.rpartition(".")[0] or base


def _where(rows: Sequence[int | str]) -> str:
    return named_rows(rows, "row" if isinstance(rows[0], int) else "file")
