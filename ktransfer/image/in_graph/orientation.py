"""Read the orientation from EXIF or XMP inside a TensorFlow graph, as Pillow does."""

import struct

import tensorflow as tf

from ktransfer.image.in_graph.file_bytes import Bytes, either, first_of, is_one_of

_TAG = 0x0112  # Orientation: EXIF 2.32, section 4.6.4
# TIFF 6.0, page 8, with those that Pillow takes as well, such as II and 0x002A the wrong way round.
_HEADERS = (b"MM\0*", b"II*\0", b"MM*\0", b"II\0*", b"MM\0+")
_TYPE_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8)  # bytes, by type; 0 of unknown types
_SIGNED_BYTE, _SHORTS, _LONGS, _RATIONALS, _FLOAT, _DOUBLE = (6,), (3, 8), (4, 9, 13), (5, 10), (11,), (12,)
_MOST_ENTRIES = 65535


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn an image `(H, W, 3)` by an EXIF orientation.

    EXIF 2.32, section 4.6.4: whether columns and rows change places, then which of them run backwards.
    """
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)

    def one_of(*orientations: int) -> tf.Tensor:
        return tf.reduce_any(tf.equal(orientation, orientations))

    image = tf.cond(one_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(one_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)


def orientation_of(exif: Bytes, xmp: Bytes) -> tf.Tensor:
    """Return the orientation, 1 to 8, int64; 1 where there is none.

    Args:
        exif: With or without `Exif` and two zeros in front; empty where there is none.
        xmp: The XML, which counts where EXIF has no orientation; empty where there is none.
    """
    for _ in range(2):
        start = either(exif.begins(0, b"Exif\0\0"), 6, 0)
        exif = exif.part(start, exif.size)
    valid, found, value = _in_exif(exif)
    in_exif = either(found, value, 1)
    asked = tf.equal(exif.size, 0) | (valid & ~found)
    orientation = either(asked, _in_xmp(xmp), in_exif)
    return either((orientation >= 1) & (orientation <= 8), orientation, 1)


def _in_exif(exif: Bytes) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Whether it is EXIF, whether it has an orientation, and which."""
    valid = tf.reduce_any([exif.begins(0, header) for header in _HEADERS]) & (exif.size >= 8)
    big = exif.begins(0, b"M")
    directory = exif.numbers(tf.constant([4], tf.int64), 4, big)[0]
    count = exif.numbers(directory[None], 2, big)[0]
    complete = tf.maximum(exif.size - directory - 2, 0) // 12
    entries = directory + 2 + 12 * tf.range(tf.minimum(tf.minimum(count, complete), _MOST_ENTRIES))
    tags, types = (exif.numbers(entries + place, 2, big) for place in (0, 2))
    counts, places = (exif.numbers(entries + place, 4, big) for place in (4, 8))
    sizes = counts * tf.gather(tf.constant(_TYPE_SIZES, tf.int64), either(types < len(_TYPE_SIZES), types, 0))
    # Values of more than four bytes lie elsewhere. Pillow skips those that are longer than all of EXIF, and
    # ends at the first that is cut off.
    apart = sizes > 4
    skipped = apart & (tf.cumsum(either(apart, sizes, 0)) > exif.size)
    cut = apart & ~skipped & (places + sizes > exif.size)
    read = tf.equal(tf.cumsum(tf.cast(cut, tf.int64)), 0) & ~skipped & (sizes > 0)
    here = tf.boolean_mask(tf.range(tf.size(tags, tf.int64)), read & tf.equal(tags, _TAG))
    found = valid & (tf.size(here) > 0)
    place = first_of(here, -1)
    entry = first_of(entries[place : place + 1], 0)
    kind, at = (first_of(values[place : place + 1], 0) for values in (types, places))
    value_at = either(first_of(tf.cast(apart, tf.int64)[place : place + 1], 0) > 0, at, entry + 8)[None]
    byte, short, long, double = (exif.numbers(value_at, count, big)[0] for count in (1, 2, 4, 8))
    divisor = exif.numbers(value_at + 4, 4, big)[0]
    whole = (divisor > 0) & tf.equal(long % tf.maximum(divisor, 1), 0)
    value = tf.constant(1, tf.int64)
    for kinds, given in (
        (_SIGNED_BYTE, byte),
        (_SHORTS, short),
        (_LONGS, long),
        (_RATIONALS, either(whole, long // tf.maximum(divisor, 1), 1)),
        (_FLOAT, _number_of(long, "<f", "<I")),
        (_DOUBLE, _number_of(double, "<d", "<Q")),
    ):
        value = either(is_one_of(kind, *kinds), given, value)
    return valid, found, value


def _number_of(bits: tf.Tensor, floating: str, whole: str) -> tf.Tensor:
    """The orientation that bits of IEEE 754 mean, or 1."""
    known = [struct.unpack(whole, struct.pack(floating, value))[0] for value in range(1, 9)]
    return 1 + tf.argmax(tf.equal(bits, tf.constant(known, tf.int64)), output_type=tf.int64)


def _in_xmp(xmp: Bytes) -> tf.Tensor:
    after = xmp.after(b"tiff:Orientation")
    as_attribute, as_element = xmp.begins(after, b'="'), xmp.begins(after, b">")
    digits = after + either(as_attribute, 2, 1)
    values = xmp.numbers(digits, 1, False) - ord("0")
    fits = (as_attribute | as_element) & (values >= 0) & (values <= 9)
    return first_of(tf.boolean_mask(values, fits), 1)
