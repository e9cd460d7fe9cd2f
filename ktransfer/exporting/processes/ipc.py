"""Values sent between processes as data and nothing else: unlike a pickle, no answer can run anything."""

from __future__ import annotations

import base64
import io
import json
import struct
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


_LENGTH = struct.Struct("<Q")
_LARGEST = 2**36  # bytes


def send(stream: IO[bytes], value: Any) -> None:
    """Write a message: `None`, numbers, texts, bytes, paths, arrays; lists, tuples, dictionaries of them.

    Raises:
        TypeError: There is something else in it.

    Example:
        >>> stream = io.BytesIO()
        >>> send(stream, {"image": np.zeros((1, 2))})
    """
    arrays: list[Array] = []
    text = json.dumps(_plain(value, arrays))
    buffer = io.BytesIO()
    np.savez(buffer, *arrays, text=np.frombuffer(text.encode(), np.uint8))
    stream.write(_LENGTH.pack(buffer.tell()))
    stream.write(buffer.getbuffer())
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read what `send` wrote; a tuple comes as one.

    Raises:
        EOFError: The stream ends before the message does.
        ValueError: It is no message.

    Example:
        >>> stream = io.BytesIO()
        >>> send(stream, [["cat", "dog"], np.arange(2)])
        >>> receive(io.BytesIO(stream.getvalue()))
        [['cat', 'dog'], array([0, 1])]
    """
    size = _LENGTH.unpack(_read(stream, _LENGTH.size))[0]
    if size > _LARGEST:
        raise ValueError(f"a message of {size:,} bytes")
    content = io.BytesIO(_read(stream, size))
    try:
        with np.load(content, allow_pickle=False) as parts:
            return _value(json.loads(parts["text"].tobytes()), parts)
    except Exception as error:  # whatever NumPy, zipfile and zlib have for a damaged one
        raise ValueError(f"no message: {error}") from error


def _read(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("the message is cut off")
    return content


# What JSON does not have is a list that begins with its kind; so are lists.
def _plain(value: Any, arrays: list[Array]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return ["bytes", base64.b64encode(value).decode()]
    if isinstance(value, Path):
        return ["path", str(value)]
    if isinstance(value, dict):
        return {name: _plain(item, arrays) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *(_plain(item, arrays) for item in value)]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return ["objects", list(value.shape), _plain(value.ravel().tolist(), arrays)]
    if isinstance(value, np.ndarray | np.generic):
        arrays.append(np.asarray(value))
        return ["array", len(arrays) - 1]
    raise TypeError(
        f"Expected a message of data, got {type(value).__name__}. Send numbers, text, arrays or containers of them."
    )


def _value(plain: Any, parts: Any) -> Any:
    if isinstance(plain, dict):
        return {name: _value(item, parts) for name, item in plain.items()}
    if not isinstance(plain, list):
        return plain
    kind, *items = plain
    if kind == "bytes":
        return base64.b64decode(items[0])
    if kind == "path":
        return Path(items[0])
    if kind == "array":
        return parts[f"arr_{items[0]}"]
    if kind == "objects":
        array = np.empty(items[0], object)
        array.flat[:] = _value(items[1], parts)
        return array
    values = [_value(item, parts) for item in items]
    return tuple(values) if kind == "tuple" else values
