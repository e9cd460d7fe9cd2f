"""The examples of a batch prediction: shards, tables, and files in folders, in blocks of bounded size."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ktransfer.data.examples import printable
from ktransfer.data.junk import junk_name
from ktransfer.data.shards.contents import content_fields
from ktransfer.data.shards.shard import example_of, is_shard, open_shard, refuse_packed
from ktransfer.data.shards.storage import is_url, list_files, version_of
from ktransfer.data.tables.file_bytes import table_suffix
from ktransfer.errors import DataError

if TYPE_CHECKING:
    from ktransfer.core.modality import Modality


BLOCK_ROWS, BLOCK_BYTES = 4096, 2**26  # of examples that are in memory at once


@dataclass(frozen=True)
class Row:
    """One example of a source.

    Args:
        number: Its place in the source, from 0 on.
        source: The file.
        row: Its row in the file, from 0 on.
        key: The name that a shard has for it; else the row.
        content: What a preprocessing takes; `None` where it is none.
        error: Why it is none. Defaults to `None`.
    """

    number: int
    source: str
    row: int
    key: str
    content: Any
    error: str | None = None


@dataclass(frozen=True)
class Columns:
    """The columns of examples.

    Args:
        asked: Names that were given; none guesses.
        trained: Names in the training data, which are taken where a file has them.
        pairs: Whether an example is a pair of texts.
        encoding: Of tables and text files.
    """

    asked: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    pairs: bool = False
    encoding: str | None = None

    def for_find(self) -> Any:
        """The option `column` of `find_inputs`."""
        names = self.asked or self.trained
        return list(names) if self.pairs else (names[0] if names else None)


class ShardSource:
    """The rows of one shard."""

    def __init__(self, path: str, modality: Modality, columns: Columns) -> None:
        self.name, self._modality, self._columns = path, modality, columns

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields that hold the examples; a shard without them is refused."""
        shard = open_shard(self.name)
        contents = self._modality.shard_contents(pairs=self._columns.pairs)
        asked = self._columns.asked
        if not asked and set(self._columns.trained) <= shard.fields.keys():
            asked = self._columns.trained
        return content_fields(shard.fields, contents, asked, printable(self.name))

    @property
    def version(self) -> str:
        return version_of(self.name)

    def check(self) -> None:
        """Raise `DataError` unless it can be read and has such examples."""
        _ = self.fields

    def rows(self, start: int) -> Iterator[Row]:
        contents = self._modality.shard_contents(pairs=self._columns.pairs)
        for record in open_shard(self.name).records(self.fields, start):
            content, error = None, None
            try:
                content = example_of(record, contents)
            except ValueError as reason:
                error = f"Expected {contents.noun}, got {reason}."
            yield Row(record.row, self.name, record.row, record.key, content, error)


class FileSource:
    """The rows of tables, or of files that are one example each."""

    def __init__(self, files: Sequence[str], modality: Modality, columns: Columns) -> None:
        self.name, self.files = files[0], files
        self._modality, self._columns = modality, columns

    @property
    def version(self) -> str:
        # Of a million files not each can be asked for; where they were changed the answers are of what was read.
        names = hashlib.sha256("\0".join(self.files).encode("utf-8", "surrogateescape")).hexdigest()
        return f"{len(self.files)} files {names}" if len(self.files) > 1 else version_of(self.name)

    def check(self) -> None:
        """Nothing is read before it is answered."""

    def rows(self, start: int) -> Iterator[Row]:
        single = all(not table_suffix(path) for path in self.files)
        # One file is one example, so that those before `start` need not be read.
        files = self.files[start:] if single else self.files
        numbers = itertools.count(start if single else 0)
        for path in files:
            for row, item in enumerate(self._items(path)):
                number = next(numbers)
                if number >= start:
                    content, error = item if isinstance(item, _Unread) else (item, None)
                    yield Row(number, path, row, str(row), content, error)

    def _items(self, path: str) -> Iterable[Any]:
        options = {"encoding": self._columns.encoding, "column": self._columns.for_find()}
        try:
            return self._modality.find_inputs([path], **options).items
        except DataError as error:
            if table_suffix(path):
                raise
            return [_Unread((None, str(error)))]


class _Unread(tuple[None, str]):
    """A file that cannot be read, with the reason."""


Source = ShardSource | FileSource


def find_sources(
    inputs: Sequence[str], modality: Modality, columns: Columns
) -> tuple[list[Source], list[str]]:
    """The sources of examples in files, folders, patterns and URLs, in the order given.

    Args:
        inputs: Paths and URLs of shards, tables, files of one example, and folders of these.
        modality: Of the run.
        columns: Where the examples stand.

    Returns:
        `(sources, notes)`: a line on what is not used.

    Raises:
        DataError: There is nothing to predict, or a shard is packed.

    Example:
        >>> find_sources(["new/*.parquet"], modality, Columns())[0]  # doctest: +SKIP
        [<ShardSource>, <ShardSource>]
    """
    sources: list[Source] = []
    notes: list[str] = []
    for given in inputs:
        found, skipped, single = 0, 0, []
        for path in list_files(given):
            name = path.replace("\\", "/").rpartition("/")[2]
            inside = path != given
            refuse_packed(path)
            if inside and junk_name(name, is_folder=False):
                skipped += 1
            elif is_shard(path):
                sources.append(ShardSource(path, modality, columns))
                found += 1
            elif is_url(path):
                if not inside:
                    raise DataError(
                        f"Expected shards as .parquet, .tfrecord or .tar in a store, got {printable(path)}. Copy it "
                        "to this machine, or write it as Parquet."
                    )
                skipped += 1
            elif table_suffix(path) and _takes_tables(modality):
                sources.append(FileSource([path], modality, columns))
                found += 1
            elif not inside or path.lower().endswith(modality.suffixes):
                single.append(path)
            else:
                skipped += 1
        if single:
            sources.append(FileSource(single, modality, columns))
        if not found and not single:
            raise DataError(
                f"Expected shards, or {modality.noun}, at {printable(given)}, got {skipped:,} other files. Pass "
                "another path."
            )
        if skipped:
            notes.append(
                f"skipped    {skipped:,} files in {printable(given)}: neither shards nor {modality.noun}"
            )
    return sources, notes


def _takes_tables(modality: Modality) -> bool:
    return any(table_suffix(f"a{suffix}") for suffix in modality.suffixes)


def blocks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """The rows in blocks of at most `BLOCK_ROWS`, or of `BLOCK_BYTES` where they are large.

    Example:
        >>> [len(block) for block in blocks(Row(at, "a", at, str(at), "text") for at in range(5000))]
        [4096, 904]
    """
    block: list[Row] = []
    size = 0
    for row in rows:
        block.append(row)
        content = row.content
        size += len(content.getbuffer()) if hasattr(content, "getbuffer") else sys.getsizeof(content)
        if len(block) == BLOCK_ROWS or size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block
