"""One shard: its fields, its records in order, and one value of a record by its place."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ktransfer.data.examples import printable
from ktransfer.data.shards.contents import ShardContents
from ktransfer.data.shards.storage import is_url, list_files
from ktransfer.errors import DataError
from ktransfer.security.safe_io import visible

_TFRECORD = re.compile(r"\.(tfrecords?|tfrec)(-\d{5,}-of-\d{5,})?$", re.IGNORECASE)
_FOLDERS = 8  # that may hold shards, such as data/ or one for each split
_PARQUET, _TAR = (".parquet", ".pq"), (".tar",)
_PACKED = re.compile(
    r"\.(tar\.(gz|bz2|xz|zst)|tgz|tbz2?|txz|(tfrecords?|tfrec)(-\d{5,}-of-\d{5,})?\.(gz|zlib))$", re.I
)


@dataclass(frozen=True)
class Record:
    """One record of a shard.

    Args:
        row: Its number in the shard, from 0 on.
        place: Where `Shard.value` finds it: the row, or the bytes of the file.
        key: Its name: of tar shards that of its members, else the row as text.
        values: Of the fields that were asked for; `None` where it lacks one.
    """

    row: int
    place: tuple[int, int]
    key: str
    values: tuple[Any, ...]


class Shard(Protocol):
    """A file of many examples.

    Attributes:
        path: Path or URL.
        fields: What each field holds, by name: `"bytes"`, `"text"`, `"number"` or `"other"`. Of files without a
            schema it is that of the first record.
        class_names: By field the names of classes that its numbers stand for, where the file has them.
    """

    @property
    def path(self) -> str: ...
    @property
    def fields(self) -> Mapping[str, str]: ...
    @property
    def class_names(self) -> Mapping[str, Sequence[str]]: ...

    def records(self, fields: Sequence[str], start: int = 0) -> Iterator[Record]:
        """The records from row `start` on, with the values of some fields.

        Raises:
            DataError: The file is truncated or damaged.
        """

    def places(self, field: str, label: str) -> Iterator[tuple[tuple[int, int], str, Any]]:
        """For each record the place of a field's value, its key, and the value of another, small field.

        Raises:
            DataError: The file is truncated or damaged, or a record lacks one of the fields.
        """

    def value(self, place: tuple[int, int], field: str) -> Any:
        """The value of a field at a place.

        Raises:
            DataError: The file has changed or is damaged.
        """


def is_shard(path: str) -> bool:
    """Whether a file is a shard, by its name.

    Example:
        >>> [is_shard(name) for name in ("a.parquet", "a.tfrecord-00000-of-00010", "a.tar", "a.csv")]
        [True, True, True, False]
    """
    return path.lower().endswith((*_PARQUET, *_TAR)) or _TFRECORD.search(path) is not None


def find_shards(data: str | os.PathLike[str]) -> list[str] | None:
    """The shards that data names: a file, a pattern, a URL, or a folder of them, at its top or below.

    Args:
        data: Path, pattern or URL.

    Returns:
        Sorted paths; `None` where data is none of these, or a folder with other examples in it.

    Raises:
        DataError: A URL or a pattern names no file, or a shard is packed as a whole.
        MissingExtraError: The package of a store is missing.

    Example:
        >>> find_shards("reviews.csv")
    """
    text = os.fspath(data)
    if is_url(text):
        found = [path for path in list_files(text) if is_shard(path) or packed(path)]
    elif (path := os.path.expanduser(text)) and os.path.isdir(path):
        # By names alone: a folder of millions of images is not walked for it.
        top = [os.path.join(path, name) for name in _names(path)]
        inner = [folder for folder in top if os.path.isdir(folder)]
        found = [each for each in top if is_shard(each) or packed(each)]
        if not found and len(inner) <= _FOLDERS:
            below = [os.path.join(folder, name) for folder in inner for name in _names(folder)]
            found = [each for each in below if is_shard(each) or packed(each)]
            found = found if len(found) == len(below) else []
    elif os.path.exists(path):
        found = [path] if is_shard(path) or packed(path) else []
    else:
        found = [each for each in list_files(path) if is_shard(each)] if "*" in path else []
    for each in found:
        refuse_packed(each)
    if not found and is_url(text):
        raise DataError(
            f"Expected shards as .parquet, .tfrecord or .tar at {printable(text)}, got none. Copy other files to this "
            "machine."
        )
    return sorted(found) or None


def _names(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith((".", "_"))]
    except OSError:  # the reader of the data reports it
        return []


def packed(path: str) -> bool:
    """Whether it is a shard that is packed as a whole.

    Example:
        >>> packed("a.tar.gz"), packed("a.csv.gz")
        (True, False)
    """
    return _PACKED.search(path) is not None


def refuse_packed(path: str) -> None:
    """Raise `DataError` for a shard that is packed as a whole, so that no record can be found in it."""
    if found := _PACKED.search(path):
        raise DataError(
            f"Expected a shard whose records can be read one by one, got {printable(path)}, packed as "
            f"{found[0]}. Unpack it: images and Parquet columns are packed already."
        )


@functools.lru_cache(maxsize=64)
def open_shard(path: str) -> Shard:
    """The shard of a file; of the same file the same one.

    Raises:
        DataError: It cannot be read, or is of no such kind.
        MissingExtraError: A package is missing that it needs.

    Example:
        >>> open_shard("train-00000-of-00004.parquet").fields  # doctest: +SKIP
        {'image': 'bytes', 'label': 'number'}
    """
    from ktransfer.data.shards.parquet import ParquetShard
    from ktransfer.data.shards.tar import TarShard
    from ktransfer.data.shards.tfrecord import TFRecordShard

    refuse_packed(path)
    if path.lower().endswith(_PARQUET):
        return ParquetShard(path)
    if path.lower().endswith(_TAR):
        return TarShard(path)
    if _TFRECORD.search(path):
        return TFRecordShard(path)
    raise DataError(
        f"Expected a shard as .parquet, .tfrecord or .tar, got {printable(path)}. Pass another file."
    )


def damaged(path: str, kind: str, error: object) -> DataError:
    """The error for a shard that cannot be read to its end."""
    reason = visible(" ".join(str(error).split()))[:200].rstrip(".") or type(error).__name__
    return DataError(f"Expected {kind} in {printable(path)}, got {reason}. Copy or write that shard again.")


def example_of(record: Record, contents: ShardContents) -> Any:
    """The example of a record whose values are those of the content's fields.

    Raises:
        ValueError: It is none; the message has the reason.
    """
    if any(value is None for value in record.values):
        raise ValueError("no value")
    found = [contents.as_content(value, record.key) for value in record.values]
    return found[0] if contents.width == 1 else tuple(found)
