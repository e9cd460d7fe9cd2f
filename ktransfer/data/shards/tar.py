"""WebDataset shards: tar files whose members with one name but for the suffix are one record."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ktransfer.data.shards.contents import BYTES, TEXT
from ktransfer.data.shards.shard import Record, damaged
from ktransfer.data.shards.storage import open_file
from ktransfer.errors import DataError

_KIND = "a tar file of records"
_END = 1024  # bytes of zeros
# Members of these suffixes are texts; of all others bytes.
_TEXTS = {"txt", "text", "cls", "label", "labels", "class", "target", "category", "json", "id", "index"}


class TarShard:
    """A tar file as a `Shard`; the place of a value is its bytes in the file.

    Args:
        path: Path or URL.

    Raises:
        DataError: It is none, or truncated.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.class_names: Mapping[str, Sequence[str]] = {}
        self._require_end()
        first = next(self._samples(), None)
        if first is None:
            raise damaged(path, _KIND, "none")
        self.fields: Mapping[str, str] = {name: TEXT if name in _TEXTS else BYTES for name in first[1]}

    def records(self, fields: Sequence[str], start: int = 0) -> Iterator[Record]:
        """The records from row `start` on: see `Shard`."""
        with open_file(self.path) as file:
            for row, (key, members) in enumerate(self._samples()):
                if row < start:
                    continue
                found = [members.get(name) for name in fields]
                values = [
                    None if place is None else self._read(file, place, name)
                    for name, place in zip(fields, found, strict=True)
                ]
                yield Record(row, found[0] or (0, 0), key, tuple(values))

    def places(self, field: str, label: str) -> Iterator[tuple[tuple[int, int], str, Any]]:
        """Places and labels: see `Shard`; of the examples themselves nothing is read."""
        with open_file(self.path) as file:
            for key, members in self._samples():
                if missing := [name for name in (field, label) if name not in members]:
                    raise damaged(self.path, f"a member {key}.{missing[0]}", "none")
                yield members[field], key, self._read(file, members[label], label)

    def value(self, place: tuple[int, int], field: str) -> Any:
        """A value at a place: see `Shard`."""
        with open_file(self.path) as file:
            return self._read(file, place, field)

    def _read(self, file: Any, place: tuple[int, int], field: str) -> Any:
        offset, size = place
        file.seek(offset)
        content = file.read(size)
        if len(content) < size:
            raise damaged(self.path, f"{size:,} bytes from {offset:,} on", f"{len(content):,}")
        if field not in _TEXTS:
            return content
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return content

    def _require_end(self) -> None:
        with open_file(self.path) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _END))
            if size < _END or file.read().strip(b"\0"):
                # tarfile takes a file that ends between two members for a whole one.
                raise damaged(
                    self.path, "a tar file with its end", f"{size:,} bytes without one, as of a cut file"
                )

    def _samples(self) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
        """The key of each record, and by suffix where its members lie."""
        try:
            with open_file(self.path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
                members = (
                    (*_named(member.name), (member.offset_data, member.size))
                    for member in archive
                    if _is_kept(member)
                )
                for key, several in itertools.groupby(members, key=lambda member: member[0]):
                    yield key, {suffix: place for _, suffix, place in several}
        except DataError:
            raise
        except (tarfile.TarError, EOFError, OSError) as error:
            raise damaged(self.path, _KIND, error) from error


def _is_kept(member: tarfile.TarInfo) -> bool:
    """Whether it is a regular file with a suffix, and not hidden."""
    name = member.name.rpartition("/")[2]
    return member.isreg() and not member.issparse() and "." in name and not name.startswith(".")


def _named(name: str) -> tuple[str, str]:
    """The key and the suffix of a member: the name is parted at the first dot, as by WebDataset."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix.lower()
