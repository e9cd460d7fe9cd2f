"""Numbers and chunks read from the bytes of a file inside a TensorFlow graph."""

from collections.abc import Callable
from typing import Any, Self

import tensorflow as tf

_PADDING = 64  # zero bytes after the end, so that reading past it gives zeros


class Bytes:
    """The bytes of a file; positions and numbers are int64, and bytes past the end are zero.

    Args:
        data: uint8 `(N,)`.

    Example:
        >>> int(Bytes(tf.constant([0, 1, 0, 2], tf.uint8)).number(0, 2, big=True))
        1
    """

    def __init__(self, data: tf.Tensor) -> None:
        self.size = tf.size(data, tf.int64)
        self._data = tf.concat([data, tf.zeros([_PADDING], tf.uint8)], 0)

    @classmethod
    def of(cls, content: tf.Tensor) -> Self:
        """Return the bytes of a string scalar."""
        return cls(tf.io.decode_raw(content, tf.uint8))

    def part(self, start: tf.Tensor, length: tf.Tensor) -> "Bytes":
        """Return `length` bytes from `start` on, or as many as there are, as `Bytes`."""
        start = self._within(start)
        return Bytes(self._data[start : start + tf.clip_by_value(length, 0, self.size - start)])

    def raw(self, start: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """Return the bytes themselves, uint8; the range must be in the file."""
        return self._data[start : start + length]

    def byte(self, start: tf.Tensor | int) -> tf.Tensor:
        """Return one byte."""
        return self.number(start, 1)

    def number(self, start: tf.Tensor | int, count: int, big: bool = False) -> tf.Tensor:
        """Return the whole number of `count` bytes, least significant byte first unless `big`."""
        if not isinstance(start, int):  # of the first bytes there are always as many
            start = self._within(start)
        places = [256**place for place in range(count)]
        digits = tf.cast(self._data[start : start + count], tf.int64)
        return tf.reduce_sum(digits * tf.constant(places[::-1] if big else places, tf.int64))

    def numbers(self, starts: tf.Tensor, count: int, big: tf.Tensor | bool) -> tf.Tensor:
        """Numbers at several places, int64 `(N,)`, where `big` is a tensor."""
        digits = self._at(starts, count)
        digits = tf.where(big, digits[:, ::-1], digits)
        return tf.reduce_sum(digits * tf.constant([256**place for place in range(count)], tf.int64), axis=1)

    def begins(self, starts: tf.Tensor | int, mark: bytes) -> tf.Tensor:
        """Return whether the bytes at `starts`, a scalar or `(N,)`, are those of `mark`."""
        starts = tf.convert_to_tensor(starts, tf.int64)
        return tf.reduce_all(tf.equal(self._at(starts, len(mark)), list(mark)), axis=-1)

    def after(self, mark: bytes) -> tf.Tensor:
        """Return the places after each `mark`, int64 `(N,)`, in their order."""
        count = tf.maximum(self.size - len(mark) + 1, 0)
        same = tf.fill([count], True)
        for place, byte in enumerate(mark):  # one after another, as there may be many places
            same &= tf.equal(self._data[place : place + count], byte)
        return tf.where(same)[:, 0] + len(mark)

    def all(self) -> tf.Tensor:
        """Return all bytes, uint8 `(N,)`."""
        return self._data[: self.size]

    def _at(self, starts: tf.Tensor, count: int) -> tf.Tensor:
        """So many bytes from each place on, int64 `(..., count)`."""
        places = self._within(starts[..., None] + tf.range(count, dtype=tf.int64))
        return tf.cast(tf.gather(self._data, places), tf.int64)

    def _within(self, places: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.cast(places, tf.int64), 0, self.size)


def walked(
    start: tf.Tensor | int,
    size: tf.Tensor,
    step: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]],
    state: tf.Tensor | int = 0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Go from chunk to chunk of a file.

    Args:
        start: Position of the first chunk.
        size: Position at which to stop.
        step: Callable, a position and the state there to `(kind, begin, length, following, more, state)`:
            what the chunk is, where its contents begin, how many bytes they have, where the next chunk is,
            whether to go on, and the state there.
        state: int64 that the first step is given. Defaults to 0.

    Returns:
        `(chunks, end)`: int64 `(N, 3)` of kind, begin and length, and the position after the last chunk.
    """

    def going_on(position: tf.Tensor, more: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return more & (position < size)

    def body(
        position: tf.Tensor, more: tf.Tensor, state: tf.Tensor, count: tf.Tensor, chunks: tf.TensorArray
    ) -> tuple[Any, ...]:
        *chunk, following, more, state = step(position, state)
        chunk = tf.stack([tf.cast(value, tf.int64) for value in chunk])
        following = tf.maximum(following, position + 1)
        return following, more, state, count + 1, chunks.write(count, chunk)

    chunks = tf.TensorArray(tf.int64, 0, dynamic_size=True, element_shape=(3,), clear_after_read=False)
    first = tf.cast(start, tf.int64), tf.constant(True), tf.cast(state, tf.int64), tf.constant(0), chunks
    end, *_, chunks = tf.while_loop(going_on, body, first)
    return tf.reshape(chunks.stack(), (-1, 3)), end


def either(condition: tf.Tensor, value: tf.Tensor | int, other: tf.Tensor | int) -> tf.Tensor:
    """Return `tf.where`, where whole numbers of Python are of the type of the other value, else int64."""
    given: tuple[Any, ...] = (value, other)
    dtype = next((each.dtype for each in given if tf.is_tensor(each)), tf.int64)
    return tf.where(condition, tf.cast(value, dtype), tf.cast(other, dtype))


def first_of(values: tf.Tensor, default: tf.Tensor | int) -> tf.Tensor:
    """Return the first of int64 `(N,)`, or `default` where there is none."""
    return tf.concat([values, [tf.cast(default, tf.int64)]], 0)[0]


def last_of(values: tf.Tensor, default: tf.Tensor | int) -> tf.Tensor:
    """Return the last of int64 `(N,)`, or `default` where there is none."""
    return tf.concat([[tf.cast(default, tf.int64)], values], 0)[-1]


def contains(values: tf.Tensor, *wanted: int) -> tf.Tensor:
    """Return whether one of int64 `values` is one of `wanted`."""
    return tf.reduce_any(is_one_of(values, *wanted))


def is_one_of(value: tf.Tensor, *wanted: int) -> tf.Tensor:
    """Return of a tensor of int64, element by element, whether it is one of `wanted`."""
    return tf.reduce_any(tf.equal(value[..., None], tf.constant(wanted, tf.int64)), axis=-1)
