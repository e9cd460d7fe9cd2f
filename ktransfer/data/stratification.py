"""Divide examples into folds so that each fold has its share of every label, with groups that stay together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


# Up to so many units all ways of holding some of them out are compared: 2 ** 12 of them.
_FEW_UNITS = 12


def stratified_folds(
    counts: np.ndarray, sizes: np.ndarray, shares: Sequence[float], *, seed: int
) -> np.ndarray:
    """Assign units to folds by iterative stratification.

    The label with the fewest examples left is divided first, its largest units first, each to the fold that lacks most
    of that label. For units of one example this is the algorithm of Sechidis et al. 2011, section 3, "On the
    stratification of multi-label data".

    Args:
        counts: How many examples of each label each unit has: int `(units, labels)`.
        sizes: Examples of each unit: int `(units,)`.
        shares: The share of all examples that each fold is to have; they add up to 1.
        seed: Any non-negative integer.

    Returns:
        The fold of each unit: int `(units,)`.

    Example:
        >>> folds = stratified_folds(np.eye(2, dtype=int).repeat(2, axis=0), np.ones(4, int), [0.5, 0.5], seed=0)
        >>> sorted(folds[:2].tolist()), sorted(folds[2:].tolist())
        ([0, 1], [0, 1])
    """
    counts, sizes = np.asarray(counts), np.asarray(sizes)
    random = np.random.default_rng(seed)
    rank = random.permutation(len(sizes))  # among units that are alike
    parts = np.asarray(shares, float)
    wanted, room = np.outer(parts, counts.sum(axis=0)), parts * sizes.sum()
    left, open_ = counts.sum(axis=0), np.ones(len(sizes), bool)
    fold = np.zeros(len(sizes), int)

    def assign(units: Array, lacking: Callable[[], Array]) -> None:
        for unit in units:
            lacks = lacking()
            best = np.flatnonzero(lacks >= lacks.max() - 1e-9)
            best = best[room[best] >= room[best].max() - 1e-9]
            chosen = best[0] if len(best) == 1 else random.choice(best)
            fold[unit] = chosen
            wanted[chosen] -= counts[unit]
            room[chosen] -= sizes[unit]
            left[:] -= counts[unit]
            open_[unit] = False

    while (left > 0).any():
        label = int(np.argmin(np.where(left > 0, left, np.iinfo(left.dtype).max)))
        units = np.flatnonzero(open_ & (counts[:, label] > 0))
        units = units[np.lexsort((rank[units], -counts[units, label]))]
        assign(units, functools.partial(_column, wanted, label))
    rest = np.flatnonzero(open_)  # examples without any label
    assign(rest[np.lexsort((rank[rest], -sizes[rest]))], lambda: room)
    return fold


def held_out_units(counts: np.ndarray, sizes: np.ndarray, fraction: float, *, seed: int) -> np.ndarray | None:
    """Choose units to hold out, about a fraction of all examples and of every label.

    Every label that has an example keeps one in the rest. Of at most 12 units the best choice of all is found.

    Args:
        counts, sizes: As in `stratified_folds`.
        fraction: Between 0 and 1.
        seed: Any non-negative integer.

    Returns:
        Whether each unit is held out: bool `(units,)`; `None` where no choice leaves the rest an example of every
        label and holds anything out.

    Example:
        >>> sizes = np.array([8, 1, 2, 9])
        >>> held_out_units(sizes[:, None], sizes, 0.1, seed=0).tolist()
        [False, False, True, False]
    """
    counts, sizes = np.asarray(counts), np.asarray(sizes)
    if len(sizes) <= _FEW_UNITS:
        return _best_of_all(counts, sizes, fraction, seed)
    held = stratified_folds(counts, sizes, [1 - fraction, fraction], seed=seed) == 1
    present = counts.sum(axis=0) > 0
    # Back to the rest, smallest first, whatever a label has only there.
    for unit in np.flatnonzero(held)[np.argsort(sizes[held], kind="stable")]:
        lost = present & (counts[~held].sum(axis=0) == 0)
        if not lost.any():
            break
        if counts[unit, lost].any():
            held[unit] = False
    return held if held.any() else None


def _column(matrix: Array, at: int) -> Array:
    return matrix[:, at]


def _best_of_all(counts: Array, sizes: Array, fraction: float, seed: int) -> Array | None:
    units = len(sizes)
    ways = (np.arange(1, 2**units - 1)[:, None] >> np.arange(units)) & 1
    if not len(ways):
        return None
    total = counts.sum(axis=0)
    held = ways @ counts
    allowed = ((held < total) | (total == 0)).all(axis=1)
    if not allowed.any():
        return None
    shares = np.concatenate([held / np.maximum(total, 1), (ways @ sizes / sizes.sum())[:, None]], axis=1)
    used = np.append(total > 0, True)
    cost = ((shares[:, used] - fraction) ** 2).mean(axis=1) + (ways @ sizes / sizes.sum() - fraction) ** 2
    cost[~allowed] = np.inf
    best = np.flatnonzero(cost <= cost.min() + 1e-12)
    return ways[np.random.default_rng(seed).choice(best)].astype(bool)


def connected(*keys: Iterable[Hashable]) -> list[list[int]]:
    """Sets of examples that share a key of any kind, directly or through others.

    Args:
        *keys: For each kind a key of each example.

    Returns:
        Indices of the examples of each set, in the order of their first example.

    Example:
        >>> connected(["a", "b", "c", "a"], [1, 1, 2, 3])
        [[0, 1, 3], [2]]
    """
    parent: list[int] = []

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for kind in keys:
        first: dict[Hashable, int] = {}
        for index, key in enumerate(kind):
            if index == len(parent):
                parent.append(index)
            one, other = root(first.setdefault(key, index)), root(index)
            parent[max(one, other)] = min(one, other)
    sets: dict[int, list[int]] = {}
    for index in range(len(parent)):
        sets.setdefault(root(index), []).append(index)
    return list(sets.values())
