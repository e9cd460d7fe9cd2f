"""Duplicates and near-duplicates: within a split, across splits (leakage), across classes (contradiction)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ktransfer.audit.findings import Finding, Item
from ktransfer.data.examples import normalised
from ktransfer.data.pairs import sides
from ktransfer.errors import listed

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


def duplicate_findings(
    items: Sequence[Item], contents: Sequence[Hashable | None], groups: np.ndarray
) -> list[Finding]:
    """Report examples that occur more than once.

    Args:
        items: The examples.
        contents: A key for each that is equal exactly when the content is; None where there is none.
        groups: int `(N,)`; what has the same number is nearly the same.

    Returns:
        `mirrored` for pairs of the same two texts whose label depends on their order;
        `leak` or `duplicate` for each content that is there more than once, across splits or in one;
        `near_leak` or `near_duplicate` for each group of different contents; and `contradiction` for each
        group, or content, that several classes have.

    Example:
        >>> duplicate_findings(items, [b"1", b"1", b"2"], np.array([0, 0, 1]))  # doctest: +SKIP
    """
    findings = []
    for members in _by_group(contents, groups):
        same: dict[Hashable, list[Item]] = {}
        for index in members:
            same.setdefault(contents[index], []).append(items[index])
        for copies in same.values():
            if len(copies) > 1:
                findings.append(_finding("leak", "duplicate", copies, "the same"))
        together = [items[index] for index in members]
        if len(same) > 1:
            findings.append(_finding("near_leak", "near_duplicate", together, "nearly the same"))
        labels = sorted({item.label for item in together})
        if len(labels) > 1 and len(same) == 1 and _is_mirrored(together):
            detail = f"labelled {listed(labels)}; well where the order of the texts matters, as of entailment"
            findings.append(Finding("mirrored", tuple(together), detail))
        elif len(labels) > 1:
            how = "nearly the same" if len(same) > 1 else "the same"
            detail = f"{how}, and labelled {listed(labels)}"
            findings.append(Finding("contradiction", tuple(together), detail))
    return findings


def _is_mirrored(items: Sequence[Item]) -> bool:
    """Whether pairs of the same two texts differ in label by their order alone."""
    labels: dict[tuple[str, ...], set[str]] = {}
    for item in items:
        texts = sides(item.input)
        if len(texts) != 2:
            return False
        labels.setdefault(tuple(map(normalised, texts)), set()).add(item.label)
    return len(labels) > 1 and all(len(found) == 1 for found in labels.values())


def _by_group(contents: Sequence[Hashable | None], groups: Array) -> list[list[int]]:
    """Indices of each group of more than one, equal contents in one group."""
    leader: dict[Hashable, int] = {}
    members: dict[int, list[int]] = {}
    for index, content in enumerate(contents):
        if content is not None:
            members.setdefault(leader.setdefault(content, int(groups[index])), []).append(index)
    return [found for found in members.values() if len(found) > 1]


def _finding(across: str, within: str, items: Sequence[Item], how: str) -> Finding:
    names = list(dict.fromkeys(item.split for item in items))
    if len(names) > 1:
        return Finding(across, tuple(items), f"{how} in {' and '.join(names)}")
    return Finding(within, tuple(items), f"{how} {len(items)} times in {names[0]}")
