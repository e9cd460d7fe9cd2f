"""TFRecord shards of `tf.train.Example`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ktransfer.data.shards.contents import BYTES, NUMBER, OTHER, TEXT
from ktransfer.data.shards.shard import Record, damaged
from ktransfer.data.shards.storage import open_file
from ktransfer.utils.extras import need_modules

_KIND = "TFRecords of tf.train.Example"
_HEADER, _FOOTER = 12, 4  # bytes: the length and its checksum; the checksum of the content
_LARGEST = 2**31  # bytes that Protocol Buffers read


class TFRecordShard:
    """A TFRecord file as a `Shard`; the place of a record is its bytes in the file.

    The checksums of lengths are checked, so that a cut or damaged file is found; those of contents are not.

    Args:
        path: Path or URL.

    Raises:
        DataError: It is none, or truncated.
        MissingExtraError: TensorFlow is not installed.
    """

    def __init__(self, path: str) -> None:
        need_modules(["tensorflow"], "TFRecord files")
        self.path = path
        self.class_names: Mapping[str, Sequence[str]] = {}
        first = next(self._contents(), None)
        if first is None:
            raise damaged(path, _KIND, "none")
        self.fields: Mapping[str, str] = {
            name: _holds(feature) for name, feature in self._features(first[1]).items()
        }

    def records(self, fields: Sequence[str], start: int = 0) -> Iterator[Record]:
        """The records from row `start` on: see `Shard`."""
        for row, (place, content) in enumerate(self._contents()):
            if row >= start:
                features = self._features(content)
                yield Record(row, place, str(row), tuple(_value(features.get(name)) for name in fields))

    def places(self, field: str, label: str) -> Iterator[tuple[tuple[int, int], str, Any]]:
        """Places and labels: see `Shard`."""
        for row, (place, content) in enumerate(self._contents()):
            features = self._features(content)
            if missing := [name for name in (field, label) if name not in features]:
                raise damaged(self.path, f"a feature {missing[0]!r} in record {row}", ", ".join(features))
            yield place, str(row), _value(features[label])

    def value(self, place: tuple[int, int], field: str) -> Any:
        """A value at a place: see `Shard`."""
        offset, size = place
        with open_file(self.path) as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) < size:
            raise damaged(self.path, f"{size:,} bytes from {offset:,} on", f"{len(content):,}")
        return _value(self._features(content).get(field))

    def _contents(self) -> Iterator[tuple[tuple[int, int], bytes]]:
        offset, row = 0, 0
        with open_file(self.path) as file:
            while header := file.read(_HEADER):
                if len(header) < _HEADER:
                    raise damaged(self.path, _KIND, f"an end within record {row}, as of a cut file")
                length, checksum = struct.unpack("<QI", header)
                if _masked_crc32c(header[:8]) != checksum or length > _LARGEST:
                    found = "no TFRecord file" if row == 0 else f"a wrong checksum at record {row}"
                    raise damaged(self.path, _KIND, found)
                content = file.read(length + _FOOTER)
                if len(content) < length + _FOOTER:
                    raise damaged(self.path, _KIND, f"an end within record {row}, as of a cut file")
                yield (offset + _HEADER, length), content[:length]
                offset += _HEADER + length + _FOOTER
                row += 1

    def _features(self, content: bytes) -> Mapping[str, Any]:
        import tensorflow as tf
        from google.protobuf.message import DecodeError

        try:
            return tf.train.Example.FromString(content).features.feature
        except DecodeError as error:
            raise damaged(self.path, _KIND, f"records of something else ({error})") from error


def _holds(feature: Any) -> str:
    kind = feature.WhichOneof("kind")
    if kind is None or len(getattr(feature, kind).value) != 1:
        return OTHER
    if kind != "bytes_list":
        return NUMBER
    try:
        feature.bytes_list.value[0].decode("utf-8")
    except UnicodeDecodeError:
        return BYTES
    return TEXT


def _value(feature: Any) -> Any:
    kind = None if feature is None else feature.WhichOneof("kind")
    values = [] if kind is None else getattr(feature, kind).value
    if len(values) != 1:
        return None
    if _holds(feature) == TEXT:
        return values[0].decode("utf-8")
    return values[0]


def _table() -> list[int]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return found


_CRC32C = _table()


def _masked_crc32c(content: bytes) -> int:
    """The checksum of TFRecord files, of the eight bytes of a length."""
    value = 0xFFFFFFFF
    for byte in content:
        value = value >> 8 ^ _CRC32C[(value ^ byte) & 0xFF]
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
