"""Atomic writes of files, and reads and writes at a position, on every system."""

import contextlib
import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Where a system cannot read and write at an offset, a file has one position for all threads.
_POSITION = threading.Lock()


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path next to `path` to write to; it replaces `path` when the block succeeds.

    Its ending is that of `path`, for libraries that choose a format by it.

    Example:

        with replacing("labels.txt") as partial:
            partial.write_text("daisy")
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        partial.unlink(missing_ok=True)  # a link of this name would be written through
        yield partial
        os.replace(partial, path)
    except OSError as error:
        # The error of a full disk names no file, and the temporary name would mean nothing to the user.
        if error.errno and str(error.filename) in ("None", str(partial)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # the original error is raised above
            partial.unlink()


def cache_folder() -> Path:
    """The cache folder: `KTRANSFER_CACHE`, or `~/.cache/ktransfer`."""
    return Path(os.environ.get("KTRANSFER_CACHE") or "~/.cache/ktransfer").expanduser()


def read_at(file: io.BufferedIOBase | io.RawIOBase, buffer: Any, offset: int) -> int:
    """Fill a buffer from a place in an open file; several threads may do so at once.

    Args:
        file: Opened for reading.
        buffer: Writable bytes, such as an array.
        offset: Bytes from the beginning of the file.

    Returns:
        How many bytes were read.

    Example:

        read_at(file, row, index * row.nbytes)
    """
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [buffer], offset)
    with _POSITION:  # Windows
        file.seek(offset)
        return file.readinto(buffer) or 0


def write_at(file: io.BufferedIOBase | io.RawIOBase, buffer: Any, offset: int) -> int:
    """Write a buffer at a place in an open file; several threads may do so at once.

    Args:
        file: Opened for writing.
        buffer: Bytes, such as an array.
        offset: Bytes from the beginning of the file.

    Returns:
        How many bytes were written.

    Example:

        write_at(file, row, index * row.nbytes)
    """
    if hasattr(os, "pwrite"):
        return os.pwrite(file.fileno(), buffer, offset)
    with _POSITION:  # Windows
        file.seek(offset)
        written = file.write(buffer)
        file.flush()
        return written


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], values: Any) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    # A path that is not UTF-8 has halves of surrogate pairs; `\\udcff` is their escape in JSON as well.
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))
