"""The exclusion list: which examples an audit would leave out, written, read and obeyed."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from ktransfer.audit.findings import SPLITS, Audit, list_items
from ktransfer.data.examples import Splits, printable
from ktransfer.data.folders import counted
from ktransfer.errors import DataError
from ktransfer.utils.files import replacing

# Evaluation splits stay whole, so that results stay comparable; training can spare an example.
_KEPT_FIRST = ("test", "validation", "train")
_REPEATED = ("leak", "near_leak", "duplicate", "near_duplicate")


def choose_exclusions(audit: Audit) -> dict[str, str]:
    """Choose the examples to leave out, each with its reason.

    What cannot be read goes. Of duplicates and near-duplicates one stays: the one in the test split before one
    in validation before one in training, and within a split the first. Where classes contradict each other
    it is unknown which is right, and all are excluded. Suspect labels, outliers and what is odd stay: that a person
    decides.

    Returns:
        `{key of the item: kind of the finding}`.

    Example:
        >>> choose_exclusions(Audit("file", {}, ()))
        {}
    """
    chosen: dict[str, str] = {}
    for finding in audit.of("unreadable", "contradiction"):
        chosen |= {item.key: finding.kind for item in finding.items}
    for finding in audit.of(*_REPEATED):
        left = [item for item in finding.items if item.key not in chosen]
        left.sort(key=lambda item: _KEPT_FIRST.index(item.split))
        chosen |= {item.key: finding.kind for item in left[1:]}
    return chosen


def write_exclusions(path: str | os.PathLike[str], exclusions: dict[str, str]) -> None:
    """Write an exclusion list: a line each, the kind, a tab, the key; a backslash escapes line breaks.

    Example:
        >>> write_exclusions("exclude.txt", {"train/daisy/7.jpg": "leak"})  # doctest: +SKIP
    """
    lines = ["# ktransfer: examples to leave out. Delete a line to keep its example."]
    lines += [f"{kind}\t{_escaped(key)}" for key, kind in exclusions.items()]
    with replacing(path) as partial:
        partial.write_bytes(os.fsencode("\n".join(lines) + "\n"))


def read_exclusions(path: str | os.PathLike[str]) -> dict[str, str]:
    """The inverse of `write_exclusions`.

    Raises:
        DataError: There is no such file, or a line is no entry.

    Example:
        >>> read_exclusions("exclude.txt")  # doctest: +SKIP
        {'train/daisy/7.jpg': 'leak'}
    """
    try:
        lines = os.fsdecode(Path(path).expanduser().read_bytes()).split("\n")
    except OSError as error:
        raise DataError(
            f"Expected an exclusion list that `ktransfer audit --fix` wrote, got {path} ({error.strerror}). "
            "Check the path."
        ) from error
    exclusions = {}
    for number, line in enumerate(lines, start=1):
        line = line.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        kind, tab, key = line.partition("\t")
        if not tab or not key:
            raise DataError(
                f"Expected a kind, a tab and an example in each line of {path}, got line {number}, "
                f"{printable(line[:80])!r}. Correct it, or audit again with --fix."
            )
        exclusions[_unescaped(key)] = kind
    return exclusions


def leave_out(
    splits: Splits, path: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None
) -> Splits:
    """The splits without what an exclusion list names.

    Args:
        splits: Of the data that was audited, before or after a split was held out.
        path: The list.
        root: The data's folder, as in `list_items`.

    Returns:
        `Splits`, whose `notes` say how many were left out of which split, and which entries name none of the
        examples.

    Raises:
        DataError: The list cannot be read, names nothing of this data at all, or would empty a class of the
            training split or another split as a whole.

    Example:
        >>> splits = leave_out(read_data("flowers"), "audit/exclude.txt", root="flowers")  # doctest: +SKIP
    """
    excluded = read_exclusions(path)
    items = list_items(splits, root=root)
    kept = np.array([item.key not in excluded for item in items])
    if excluded and kept.all():
        raise DataError(
            f"Expected an exclusion list for this data, got {path}, whose {len(excluded)} entries name none "
            "of its examples. Pass the list of an audit of this data."
        )
    left, at, counts = {}, 0, []
    for name in SPLITS:
        split = getattr(splits, name)
        if split is None:
            continue
        indices = np.flatnonzero(kept[at : at + len(split)])
        at += len(split)
        before, after = (
            split.task.counts(split.labels[chosen], len(split.class_names))
            for chosen in (slice(None), indices)
        )
        gone = np.flatnonzero((before > 0) & (after == 0))
        lost = split.class_names[gone[0] if len(gone) else 0]
        if (len(gone) or not len(indices)) and (name == "train" or not len(indices)):
            raise DataError(
                f"Expected {split.noun} of every class to be left in {name}, got none of {lost!r} after "
                f"{path}. Delete some of its lines, or add {split.noun}."
            )
        left[name] = split if len(indices) == len(split) else split.subset(indices)
        counts += [f"{len(split) - len(indices):,} {name}"] * (len(indices) < len(split))
    listed = printable(str(path))
    notes = [f"left out, as in {listed}: {', '.join(counts)} {splits.train.noun}"] if counts else []
    if unknown := sorted(excluded.keys() - {item.key for item in items}):
        notes.append(f"not used: {counted(unknown, 'entries')} of {listed} that name none of the examples")
    return dataclasses.replace(splits, **left, notes=(*splits.notes, *notes))


def _escaped(key: str) -> str:
    return key.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _unescaped(key: str) -> str:
    return "\\".join(piece.replace("\\n", "\n").replace("\\r", "\r") for piece in key.split("\\\\"))
