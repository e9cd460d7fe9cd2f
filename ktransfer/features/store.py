"""Arrays on disk by key: streamed, written atomically, checked when opened, evicted past a limit."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from ktransfer.security.safe_io import read_json
from ktransfer.utils.files import read_at

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


FORMAT = 1
_META, _DATA = "meta.json", "rows.bin"
_LOCK = "writer.lock"  # held by the writer, in the folder that is not complete yet
_DTYPES = ("float32", "float16")
_STALE_SECONDS = 60


@dataclass(frozen=True)
class Entry:
    """One kept array: its key, size in bytes, when it was last used (seconds since 1970), and what it is."""

    key: str
    size_bytes: int
    used: float
    facts: dict[str, Any]


class Rows:
    """An array on disk whose rows are read as they are asked for; memory stays flat however many there are.

    Attributes:
        shape: `(N, ...)`.
        dtype: As stored.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._row_bytes = math.prod(shape[1:]) * self.dtype.itemsize
        self._file = open(path, "rb")  # noqa: SIM115  open as long as the rows are in use

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, indices: np.ndarray) -> np.ndarray:
        """float32 rows `(len(indices), ...)`."""
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        flat = rows.reshape(len(indices), -1).view(np.uint8)
        for place, index in enumerate(indices):
            # Not a memory map, whose pages would count as this process's memory.
            if read_at(self._file, flat[place], int(index) * self._row_bytes) != self._row_bytes:
                raise OSError(f"row {index} of {self._file.name} cannot be read whole")
        return rows.astype("float32", copy=False)


class FeatureStore:
    """A folder of arrays, shared between runs and processes.

    Each entry is a folder named by its key, made under another name and renamed when whole, so that a kill or
    a second writer leaves nothing half-written. Past the limit, what was unused for longest goes.

    Args:
        folder: Made when first written to.
        limit_gib: How much to keep, GiB.

    Example:

        store = FeatureStore(cache_folder() / "features")
        rows = store.open(key) or store.write(key, (500, 1024), "float32", batches, {"cut": "stack2_block5"})
    """

    def __init__(self, folder: str | os.PathLike[str], *, limit_gib: float = 20.0) -> None:
        self.folder = Path(folder)
        self.limit_bytes = int(limit_gib * 2**30)

    def open(self, key: str) -> Rows | None:
        """The array of `key`, or `None`; one that is damaged or of another version is removed."""
        path = self.folder / key
        try:
            meta = read_json(path / _META)
            shape, dtype = tuple(meta["shape"]), meta["dtype"]
            if dtype not in _DTYPES or not all(type(size) is int and size >= 0 for size in shape):
                raise ValueError("no array that is kept here")
            whole = meta["format"] == FORMAT and _checksum(path / _DATA) == meta["crc32"]
            whole = whole and (path / _DATA).stat().st_size == math.prod(shape) * np.dtype(dtype).itemsize
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            shutil.rmtree(path, ignore_errors=True)
            return None
        with contextlib.suppress(OSError):  # a folder that is only to be read
            os.utime(path / _META)
        return Rows(path / _DATA, shape, dtype)

    def write(
        self, key: str, shape: tuple[int, ...], dtype: str, batches: Iterable[Array], facts: dict[str, Any]
    ) -> Rows:
        """Keep the rows that `batches` yields and open them; as `writer`, in one go."""
        with self.writer(key, shape, dtype, facts) as append:
            for batch in batches:
                append(batch)
        return Rows(self.folder / key / _DATA, tuple(shape), dtype)

    @contextlib.contextmanager
    def writer(
        self, key: str, shape: tuple[int, ...], dtype: str, facts: dict[str, Any]
    ) -> Iterator[Callable[[np.ndarray], None]]:
        """A function that appends a batch of rows `(B, ...)`; at the end of the block they are all kept.

        Args:
            key: Of letters and digits.
            shape: `(N, ...)`; the batches have to add up to it.
            dtype: `"float32"` or `"float16"`.
            facts: JSON-able, for people who look at the cache.

        Raises:
            OSError: The disk is full, or the folder cannot be written; nothing is left behind.
            ValueError: The batches do not add up to `shape`, or do not fit into `dtype`.

        Example:

            with store.writer(key, (500, 1024), "float32", {"cut": "head"}) as append:
                for batch in batches:
                    append(batch)
        """
        partial = self.folder / f".{key}.{uuid.uuid4().hex}.partial"
        self._sweep()
        partial.mkdir(parents=True)
        crc = rows = 0
        lock = FileLock(partial / _LOCK)
        try:
            with contextlib.suppress(OSError, NotImplementedError):  # a file system without locks
                lock.acquire()  # until released, or killed
            with open(partial / _DATA, "wb") as file:

                def append(batch: Array) -> None:
                    nonlocal crc, rows
                    content = _as(np.asarray(batch), dtype)
                    if content.shape[1:] != tuple(shape[1:]):
                        raise ValueError(
                            f"Expected rows of shape {shape[1:]}, got {content.shape[1:]}. Append such rows."
                        )
                    file.write(content.data)
                    crc, rows = zlib.crc32(content.data, crc), rows + len(content)

                yield append
                if rows != shape[0]:
                    raise ValueError(f"Expected {shape[0]} rows, got {rows}. Append every row.")
            meta = {"format": FORMAT, "shape": list(shape), "dtype": dtype, "crc32": crc, "facts": facts}
            (partial / _META).write_text(json.dumps(meta), encoding="utf-8")
            # Windows renames no folder in which a file is open.
            lock.release()
            (partial / _LOCK).unlink(missing_ok=True)
            self._publish(partial, self.folder / key)
        finally:
            lock.release()
            shutil.rmtree(partial, ignore_errors=True)
        self._evict(keep=key)

    def free_bytes(self) -> int:
        """Bytes that may be written now, up to the limit, counting older entries that can be removed."""
        existing = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        return min(self.limit_bytes, shutil.disk_usage(existing).free)

    def entries(self) -> list[Entry]:
        """The cached entries, last used first."""
        found = []
        for path in self.folder.glob(f"*/{_META}"):
            if path.parent.name.startswith("."):
                continue
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                facts = dict(read_json(path)["facts"])
                size = sum(item.stat().st_size for item in path.parent.iterdir())
                found.append(Entry(path.parent.name, size, path.stat().st_mtime, facts))
        return sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> int:
        """Remove everything; returns how many bytes were freed."""
        freed = sum(entry.size_bytes for entry in self.entries())
        shutil.rmtree(self.folder, ignore_errors=True)
        return freed

    @staticmethod
    def _publish(partial: Path, target: Path) -> None:
        if not (target / _META).is_file():
            shutil.rmtree(target, ignore_errors=True)  # what is left of a damaged entry
            try:
                os.replace(partial, target)
            except OSError:
                # Another process was first, with the same rows.
                if not (target / _META).is_file():
                    raise

    def _sweep(self) -> None:
        """Remove what writers that were killed have left; those at work hold a lock."""
        for path in self.folder.glob(".*.partial"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    # `Timeout`, an `OSError`, where a writer holds it.
                    with FileLock(path / _LOCK, timeout=0):
                        pass
                    shutil.rmtree(path, ignore_errors=True)

    def _evict(self, keep: str) -> None:
        total = 0
        for entry in self.entries():
            total += entry.size_bytes
            if total > self.limit_bytes and entry.key != keep:
                shutil.rmtree(self.folder / entry.key, ignore_errors=True)
                total -= entry.size_bytes


def _as(batch: Array, dtype: str) -> Array:
    with np.errstate(over="ignore"):  # reported below
        content = np.ascontiguousarray(batch, dtype=dtype)
    if content.dtype != batch.dtype and not np.isfinite(content).all() and np.isfinite(batch).all():
        raise ValueError(f"{dtype} does not hold features as large as {np.abs(batch).max():.3g}")
    return content


def _checksum(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 22):
            crc = zlib.crc32(chunk, crc)
    return crc
