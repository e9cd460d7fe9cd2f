"""The bytes of many files: which are equal, and a digest of each."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ktransfer.data.examples import printable
from ktransfer.data.shards.address import open_bytes
from ktransfer.data.shards.listing import ShardInputs
from ktransfer.errors import DataError


def content_keys(paths: Sequence[str]) -> list[Any]:
    """A key for each file that is equal exactly when the bytes are; reads only files of equal size.

    Raises:
        DataError: A file cannot be read.

    Example:
        >>> one, other = content_keys(["rose.jpg", "copy of rose.jpg"])  # doctest: +SKIP
    """
    if isinstance(paths, ShardInputs):
        return digests(paths)
    sizes = _each(os.path.getsize, paths)
    shared = {size for size, count in Counter(sizes).items() if count > 1}
    found = iter(digests([p for p, size in zip(paths, sizes, strict=True) if size in shared]))
    return [(size, next(found)) if size in shared else size for size in sizes]


def digests(paths: Sequence[str]) -> list[bytes]:
    """The SHA-256 of each file.

    Raises:
        DataError: A file cannot be read.

    Example:
        >>> digests(["rose.jpg"])[0].hex()  # doctest: +SKIP
        '9f2c1d07...'
    """
    if not isinstance(paths, ShardInputs):
        return _each(_digest, paths)
    found = [b""] * len(paths)
    for _, _, rows in paths.by_shard():  # in the order of the file
        for row in rows.tolist():
            found[row] = _digest(paths[row])
    return found


def _digest(path: str) -> bytes:
    with open_bytes(path) as file:
        return hashlib.file_digest(file, "sha256").digest()


_Found = TypeVar("_Found")


def _each(function: Callable[[str], _Found], paths: Sequence[str]) -> list[_Found]:
    def guarded(path: str) -> _Found:
        try:
            return function(path)
        except OSError as error:
            raise DataError(
                f"Expected to read every example, got {printable(path)} ({error.strerror}). Remove it, or "
                "fix its permissions."
            ) from error

    with ThreadPoolExecutor() as pool:
        return list(pool.map(guarded, paths))
