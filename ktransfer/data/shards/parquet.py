"""Parquet shards, with images as the Hugging Face hub has them: a struct of `bytes` and `path`."""

from __future__ import annotations

import collections
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ktransfer.data.shards.contents import BYTES, NUMBER, OTHER, TEXT
from ktransfer.data.shards.shard import Record, damaged
from ktransfer.data.shards.storage import open_file
from ktransfer.errors import DataError
from ktransfer.utils.extras import need_modules

_AT_ONCE = 256  # rows
_MOST_KEPT = 2**28  # bytes of row groups, of all shards
_KIND = "a Parquet file"


class _Kept:
    """The columns of row groups that were read last, for values in no order."""

    def __init__(self) -> None:
        self._kept: collections.OrderedDict[tuple[str, int, str], Any] = collections.OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def column(self, shard: ParquetShard, group: int, field: str) -> Any:
        key = (shard.path, group, field)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        column = shard.read_group(group, field)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = column
                self._bytes += column.nbytes
            while self._bytes > _MOST_KEPT and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return column


_KEPT = _Kept()


class ParquetShard:
    """A Parquet file as a `Shard`; the place of a record is its row.

    Args:
        path: Path or URL.

    Raises:
        DataError: It is none, or truncated.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, path: str) -> None:
        need_modules(["pyarrow"], "Parquet files")
        import pyarrow.parquet as pq

        self.path, self._lock = path, threading.Lock()
        try:
            self._file = pq.ParquetFile(open_file(path))
            schema = self._file.schema_arrow
            self.fields: Mapping[str, str] = {field.name: _holds(field.type) for field in schema}
            self.class_names: Mapping[str, Sequence[str]] = _class_names(schema.metadata)
        except DataError:
            raise
        except Exception as error:  # a damaged file has Arrow raise errors of many kinds
            raise damaged(path, _KIND, error) from error
        self._starts = [0]
        for group in range(self._file.num_row_groups):
            self._starts.append(self._starts[-1] + self._file.metadata.row_group(group).num_rows)

    @property
    def rows(self) -> int:
        """The number of records."""
        return self._starts[-1]

    def records(self, fields: Sequence[str], start: int = 0) -> Iterator[Record]:
        """The records from row `start` on: see `Shard`."""
        self._require(fields)
        groups = [group for group in range(len(self._starts) - 1) if self._starts[group + 1] > start]
        if not groups:
            return
        row = self._starts[groups[0]]
        for columns in self._batches(groups, list(fields)):
            for values in zip(*columns, strict=True):
                if row >= start:
                    yield Record(row, (row, 0), str(row), values)
                row += 1

    def places(self, field: str, label: str) -> Iterator[tuple[tuple[int, int], str, Any]]:
        """Places and labels: see `Shard`; of the examples themselves nothing is read."""
        self._require([field, label])
        row = 0
        for [labels] in self._batches(range(len(self._starts) - 1), [label]):
            for value in labels:
                yield (row, 0), str(row), value
                row += 1

    def value(self, place: tuple[int, int], field: str) -> Any:
        """A value at a place: see `Shard`."""
        import bisect

        row = place[0]
        self._require([field])
        if not 0 <= row < self.rows:
            raise damaged(self.path, f"at least {row + 1} rows", f"{self.rows}")
        group = bisect.bisect_right(self._starts, row) - 1
        return _KEPT.column(self, group, field)[row - self._starts[group]].as_py()

    def read_group(self, group: int, field: str) -> Any:
        """A column of a row group, as Arrow has it."""
        try:
            with self._lock:
                return self._file.read_row_group(group, columns=[field]).column(field).combine_chunks()
        except Exception as error:  # as above
            raise damaged(self.path, _KIND, error) from error

    def _require(self, fields: Sequence[str]) -> None:
        if missing := [name for name in fields if name not in self.fields]:
            raise damaged(self.path, f"a field {missing[0]!r}", f"fields {', '.join(self.fields)}")

    def _batches(self, groups: Any, fields: list[str]) -> Iterator[list[list[Any]]]:
        try:
            # By name and not by place: of a struct Arrow counts each field within it as a column.
            batches = self._file.iter_batches(
                _AT_ONCE, row_groups=list(groups), columns=fields, use_threads=False
            )
            for batch in batches:
                yield [batch.column(batch.schema.get_field_index(name)).to_pylist() for name in fields]
        except Exception as error:  # as above
            raise damaged(self.path, _KIND, error) from error


def _holds(type_: Any) -> str:
    import pyarrow.types as types

    if types.is_dictionary(type_):
        type_ = type_.value_type
    if types.is_struct(type_):
        inner = {type_.field(at).name: type_.field(at).type for at in range(type_.num_fields)}
        return BYTES if "bytes" in inner and _is_binary(inner["bytes"]) else OTHER
    if _is_binary(type_):
        return BYTES
    if types.is_string(type_) or types.is_large_string(type_):
        return TEXT
    if types.is_integer(type_) or types.is_floating(type_) or types.is_boolean(type_):
        return NUMBER
    return OTHER


def _is_binary(type_: Any) -> bool:
    import pyarrow.types as types

    return types.is_binary(type_) or types.is_large_binary(type_) or types.is_fixed_size_binary(type_)


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """The names of classes that the hub's `datasets` writes into the schema."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        found = {
            name: facts["names"] for name, facts in features.items() if facts.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {
        name: names
        for name, names in found.items()
        if isinstance(names, list) and all(isinstance(each, str) for each in names)
    }
