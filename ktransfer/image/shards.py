"""Images in shards: bytes of an image file, alone or in the hub's struct."""

from __future__ import annotations

from typing import Any

from ktransfer.data.shards.address import NamedBytes
from ktransfer.data.shards.contents import BYTES, ShardContents, bytes_of
from ktransfer.image.decoding import IMAGE_EXTENSIONS

# Of tables and TFRecord files; in tar shards a field is called as the suffix of its files.
_NAMES = (
    "image",
    "img",
    "images",
    "image/encoded",
    "image_bytes",
    "jpg",
    "jpeg",
    "png",
    "photo",
    "picture",
    "pixels",
)


def image_content(value: Any, name: str) -> NamedBytes:
    """The image of a value of a shard.

    Args:
        value: Bytes, or the hub's `{"bytes": ..., "path": ...}`.
        name: For messages.

    Raises:
        ValueError: There are no bytes.

    Example:
        >>> image_content({"bytes": b"GIF89a", "path": "a.gif"}, "a").read()
        b'GIF89a'
    """
    return NamedBytes(bytes_of(value), name)


IMAGE_SHARDS = ShardContents(
    "images",
    BYTES,
    (*_NAMES, *(suffix.lstrip(".") for suffix in IMAGE_EXTENSIONS)),
    "--file-column",
    image_content,
)
