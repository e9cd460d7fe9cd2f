"""A listing of examples in shards: 16 bytes a row, and an address for each when it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np


class ShardInputs(Sequence[Any]):
    """Addresses of examples in shards, as a sequence of strings that are made when they are asked for.

    A row is the index of its shard, and the place in it: a row number, or an offset and a length in bytes.

    Args:
        shards: `(path, field)` of each shard.
        index: int32 `(n,)`, indices into `shards`.
        first: int64 `(n,)`.
        second: uint32 `(n,)`.

    Example:
        >>> inputs = ShardInputs([("a.parquet", "image")], np.zeros(2, np.int32), np.arange(2), np.zeros(2, np.uint32))
        >>> inputs[1], len(inputs), inputs.nbytes
        ('a.parquet::1+0::image', 2, 32)
    """

    def __init__(
        self, shards: Sequence[tuple[str, str]], index: np.ndarray, first: np.ndarray, second: np.ndarray
    ) -> None:
        self.shards = tuple(shards)
        self._index = np.asarray(index, np.int32)
        self._first = np.asarray(first, np.int64)
        self._second = np.asarray(second, np.uint32)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the rows take."""
        return self._index.nbytes + self._first.nbytes + self._second.nbytes

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> ShardInputs: ...
    def __getitem__(self, at: int | slice) -> str | ShardInputs:
        if isinstance(at, slice):
            return self.chosen(np.arange(len(self))[at])
        path, field = self.shards[self._index[at]]
        return address(path, (int(self._first[at]), int(self._second[at])), field)

    def __iter__(self) -> Iterator[str]:
        return (self[at] for at in range(len(self)))

    def __add__(self, other: Iterable[Any]) -> ShardInputs | tuple[Any, ...]:
        if not isinstance(other, ShardInputs):
            return (*self, *other)
        shards = list(dict.fromkeys((*self.shards, *other.shards)))
        places = np.array([shards.index(shard) for shard in other.shards], np.int32)
        return ShardInputs(
            shards,
            np.concatenate([self._index, places[other._index]]),
            np.concatenate([self._first, other._first]),
            np.concatenate([self._second, other._second]),
        )

    def __radd__(self, other: Iterable[Any]) -> tuple[Any, ...]:
        return (*other, *self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShardInputs) and self.facts() == other.facts()

    def __hash__(self) -> int:
        return hash(tuple(self.facts()))

    def chosen(self, indices: np.ndarray) -> ShardInputs:
        """The rows at these indices, in that order."""
        return ShardInputs(self.shards, self._index[indices], self._first[indices], self._second[indices])

    def facts(self) -> list[str]:
        """The shards and a digest of the rows, in place of all addresses."""
        digest = hashlib.sha256()
        for array in (self._index, self._first, self._second):
            digest.update(np.ascontiguousarray(array).data)
        return [*(f"{path}::{field}" for path, field in self.shards), digest.hexdigest()]

    def by_shard(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """For each shard that has rows its path, the field, and the indices of the rows in their order there."""
        order = np.lexsort((self._first, self._index))
        bounds = np.searchsorted(self._index[order], np.arange(len(self.shards) + 1))
        for at, (path, field) in enumerate(self.shards):
            rows = order[bounds[at] : bounds[at + 1]]
            if len(rows):
                yield path, field, rows

    def places(self, rows: np.ndarray) -> np.ndarray:
        """The places of rows: int64 `(len(rows), 2)`."""
        return np.stack([self._first[rows], self._second[rows].astype(np.int64)], axis=1)


def address(path: str, place: tuple[int, int], field: str) -> str:
    """The address of an example in a shard, as `open_example` reads it.

    Example:
        >>> address("data/train.tar", (512, 3021), "jpg")
        'data/train.tar::512+3021::jpg'
    """
    return f"{path}::{place[0]}+{place[1]}::{field}"
