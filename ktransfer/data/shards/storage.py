"""Files on a disk, or in a store that fsspec knows: `s3://`, `gs://`, `memory://` and others."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable
from typing import IO, Any

from ktransfer.data.examples import printable
from ktransfer.errors import DataError, MissingExtraError
from ktransfer.security.safe_io import visible
from ktransfer.utils.extras import need_modules

_URL = re.compile(r"[a-z][a-z0-9+.-]*://")
_PATTERN = re.compile(r"[*?\[]")
# Protocols whose package is an extra of its own: the module, and the extra.
_STORES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}


def is_url(path: str) -> bool:
    """Whether a path names a file of a store, and not of a disk.

    Example:
        >>> is_url("s3://bucket/train.parquet"), is_url("data/train.parquet")
        (True, False)
    """
    return _URL.match(path) is not None


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Args:
        url: Such as `s3://bucket/folder`.

    Returns:
        `(file system, path)`.

    Raises:
        MissingExtraError: fsspec, or the package of this store, is not installed.
        DataError: fsspec knows no such store.

    Example:
        >>> file_system("memory://data/train.parquet")[1]
        '/data/train.parquet'
    """
    protocol = url.partition("://")[0]
    need_modules(["fsspec"], f"files of {protocol}://")
    if protocol in _STORES:
        need_modules([_STORES[protocol]], f"files of {protocol}://")
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(
            f"Expected the package that reads {protocol}://, got an environment without it "
            f"({visible(str(error))}). Install it with pip."
        ) from error
    except Exception as error:  # a store has errors of its own for credentials and addresses
        raise DataError(
            f"Expected a store that fsspec knows, got {printable(url)} ({_reason(error)}). Check the address."
        ) from error


def open_file(path: str) -> IO[bytes]:
    """Open a file of a disk or a store for reading bytes; it can seek.

    Raises:
        DataError: It is not there, or may not be read; the message names it.
        MissingExtraError: A package is missing that the store needs.

    Example:
        >>> open_file("train.parquet").read(4)  # doctest: +SKIP
        b'PAR1'
    """
    if not is_url(path):
        return _asked(path, lambda: open(path, "rb"))
    files, inside = file_system(path)
    return _asked(path, lambda: files.open(inside, "rb"))


def size_of(path: str) -> int:
    """Bytes of a file.

    Raises:
        DataError, MissingExtraError: As `open_file`.

    Example:
        >>> size_of("train.parquet")  # doctest: +SKIP
        1048576
    """
    if not is_url(path):
        return _asked(path, lambda: os.path.getsize(path))
    files, inside = file_system(path)
    return int(_asked(path, lambda: files.size(inside)))


def version_of(path: str) -> str:
    """A text that changes when a file is written again: its size, and its time or what a store has for it.

    Raises:
        DataError, MissingExtraError: As `open_file`.

    Example:
        >>> version_of("train.parquet")  # doctest: +SKIP
        '1048576 1700000000000000000'
    """
    if not is_url(path):
        status = _asked(path, lambda: os.stat(path))
        return f"{status.st_size} {status.st_mtime_ns}"
    files, inside = file_system(path)
    facts = _asked(path, lambda: files.info(inside))
    marks = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created")
    mark = next((facts[name] for name in marks if facts.get(name)), "")
    return f"{facts['size']} {mark}"


def list_files(source: str) -> list[str]:
    """The files that a path names: itself, those below a folder, or those that fit a pattern with `*`; sorted.

    Args:
        source: A path or a URL.

    Returns:
        Paths or URLs that `open_file` opens.

    Raises:
        DataError: There is none, or it may not be listed.
        MissingExtraError: As `open_file`.

    Example:
        >>> list_files("memory://none/*.parquet")
        Traceback (most recent call last):
        ktransfer.errors.DataError: Expected files at memory://none/*.parquet, got none. Check the path.
    """
    if is_url(source):
        files, inside = file_system(source)

        def listed() -> list[str]:
            files.invalidate_cache()  # a store is listed anew, as a disk is
            if _PATTERN.search(inside):
                names = files.glob(inside)
            elif files.isdir(inside):
                names = files.find(inside)
            else:
                names = [inside] if files.exists(inside) else []
            return [files.unstrip_protocol(name) for name in names]

        found = _asked(source, listed)
    elif os.path.isdir(source):
        found = [
            os.path.join(root, name)
            for root, _, names in os.walk(source, onerror=_raise_listing, followlinks=True)
            for name in names
        ]
    elif _PATTERN.search(source) and not os.path.exists(source):
        found = [path for path in glob.glob(source, recursive=True) if os.path.isfile(path)]
    else:
        found = [source] if os.path.exists(source) else []
    if not found:
        raise DataError(f"Expected files at {printable(source)}, got none. Check the path.")
    return sorted(found)


def _raise_listing(error: OSError) -> None:
    raise DataError(
        f"Expected a folder that can be listed, got {printable(str(error.filename))} ({error.strerror}). "
        "Change its permissions, or remove it."
    ) from error


def _asked(path: str, ask: Callable[[], Any]) -> Any:
    """The answer of a file system, whose errors name the file."""
    try:
        return ask()
    except (MissingExtraError, DataError):
        raise
    except Exception as error:
        # Each store has errors of its own: of boto for credentials, of HTTP for permissions.
        if not isinstance(error, OSError) and not is_url(path):
            raise
        raise DataError(
            f"Expected to read {printable(path)}, got {_reason(error)}. Check the path, and who may read it."
        ) from error


def _reason(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    found = visible(" ".join(str(strerror or error).split()))[:200].rstrip(".")
    return found or type(error).__name__
