"""Examples by their address in a shard, read as if each were a file."""

from __future__ import annotations

import io
import os
import re
from typing import Any

from ktransfer.data.shards.contents import bytes_of
from ktransfer.data.shards.shard import is_shard, open_shard
from ktransfer.errors import DataError

_ADDRESS = re.compile(r"(?P<path>.+)::(?P<first>\d+)\+(?P<second>\d+)::(?P<field>.+)", re.DOTALL)


class NamedBytes(io.BytesIO):
    """The bytes of an image file, with a name for messages.

    Args:
        content: The bytes.
        name: For messages.

    Example:
        >>> NamedBytes(b"GIF89a", "train.parquet row 3").name
        'train.parquet row 3'
    """

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def parsed(text: str) -> tuple[str, tuple[int, int], str] | None:
    """The shard, place and field of an address; `None` of what is none, such as a path.

    Example:
        >>> parsed("a.tar::512+3021::jpg"), parsed("a.jpg")
        (('a.tar', (512, 3021), 'jpg'), None)
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or not is_shard(found["path"]):
        return None
    return found["path"], (int(found["first"]), int(found["second"])), found["field"]


def open_example(path_or_file: Any) -> Any:
    """A file of the example at an address; anything else as it is, such as a path.

    Raises:
        DataError: The shard cannot be read, or has no bytes there.

    Example:
        >>> open_example("rose.jpg")
        'rose.jpg'
    """
    if not isinstance(path_or_file, str | os.PathLike):
        return path_or_file
    text = os.fspath(path_or_file)
    found = parsed(text) if isinstance(text, str) else None
    if found is None:
        return path_or_file
    path, place, field = found
    try:
        return NamedBytes(bytes_of(open_shard(path).value(place, field)), text)
    except ValueError as reason:
        raise DataError(f"Expected bytes at {text}, got {reason}. Write that shard again.") from reason


def open_bytes(path: str) -> io.BufferedReader | io.BytesIO:
    """A file or the example at an address, opened for reading bytes.

    Raises:
        DataError: As `open_example`.
        OSError: The file cannot be read.

    Example:
        >>> open_bytes("train.tar::512+3021::jpg").read(2)  # doctest: +SKIP
        b'\\xff\\xd8'
    """
    found = open_example(path)
    if isinstance(found, NamedBytes):
        return found
    return open(found, "rb")


def name_of(path: str) -> str:
    """The last part of a path or an address: its name wherever the folder lies.

    Example:
        >>> name_of("data/rose.jpg"), name_of("data/a.tar::512+30::jpg")
        ('rose.jpg', 'a.tar::512+30::jpg')
    """
    found = parsed(path)
    if found is None:
        return os.path.basename(path)
    return os.path.basename(found[0]) + path[len(found[0]) :]
