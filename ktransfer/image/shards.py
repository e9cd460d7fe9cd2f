"""Images in shards: bytes of an image file, alone or in the hub's struct."""

from __future__ import annotations

import io
from typing import Any

from ktransfer.data.shards.contents import BYTES, ShardContents
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
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            raise ValueError(f"the name of a file, {value['path']!r:.60}, and not its bytes")
        value = value.get("bytes")
    if isinstance(value, str):  # a TFRecord does not say what its bytes are
        value = value.encode("utf-8")
    if not isinstance(value, bytes) or not value:
        raise ValueError("no bytes of an image")
    return NamedBytes(value, name)


IMAGE_SHARDS = ShardContents(
    "images",
    BYTES,
    (*_NAMES, *(suffix.lstrip(".") for suffix in IMAGE_EXTENSIONS)),
    "--file-column",
    image_content,
)
