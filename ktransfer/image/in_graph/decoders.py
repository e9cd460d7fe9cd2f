"""Image files decoded inside a TensorFlow graph to the pixels that `image/decoding.py` has Pillow read.

What TensorFlow's decoders read otherwise than Pillow is read here from the bytes of the file. What cannot be
read alike is refused by name, by an assertion in the graph.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ktransfer.image.in_graph.file_bytes import Bytes, contains, either, first_of, is_one_of, last_of, walked
from ktransfer.image.in_graph.orientation import orientation_of, upright

FORMATS = "JPEG, PNG, GIF, BMP, WebP"
# What the run's own reader may read and a graph refuses, for documents and manifests.
REFUSED = (
    "every other format (TIFF, HEIC, AVIF, JPEG 2000, JPEG XL, ...)",
    "JPEG: lossless, arithmetic-coded, hierarchical",
    "PNG: cut off after its pixels, metadata in text chunks (Raw profile type exif, compressed XMP), first "
    "frame of an animation smaller than the image",
    "BMP: run-length encoded (RLE), unusual palettes or headers",
    "WebP: chunks cut off",
)
MOST_PIXELS = 178_956_970  # as in image/decoding.py
# What a message has before the reason of a refusal, and after it.
REFUSAL, ADVICE = " of the batch, ", ". Save it as an ordinary JPEG or PNG first"
_OTHERS = (  # how files of other formats begin: (place, bytes, name)
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "BigTIFF"),
    (0, b"MM\0+", "BigTIFF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyp", "HEIC, or another container of MPEG-4"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"8BPS", "Photoshop"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML or SVG"),
    (0, b"\0\0\x01\0", "icon"),
)
_APP14 = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"  # Adobe, no transform
_IDENTITY = bytes(np.repeat(np.arange(256, dtype=np.uint8), 3))  # a palette whose colours are its indices


def _chunk(name: bytes) -> int:
    return int.from_bytes(name, "big")


@tf.autograph.experimental.do_not_convert
def decoded(content: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """Return the pixels of one image file, upright, as `data.images.read_pixels` does.

    Of an animation the first frame; transparent parts are white.

    Args:
        content: The bytes of the file, a string scalar.
        place: Where it lies in its batch, an integer scalar that messages name.

    Returns:
        Float32 `(H, W, 3)`, RGB, whole numbers in 0-255.

    Raises:
        tf.errors.InvalidArgumentError: When run, of a file that is none of `FORMATS`, is one of `REFUSED`, or
            is broken; the message names it and says what to do.

    Example:
        >>> decoded(tf.constant(Path("rose.jpg").read_bytes()), 0).shape
        TensorShape([480, 640, 3])
    """
    data = Bytes.of(content)
    readers = [
        (data.begins(0, b"\xff\xd8\xff"), _jpeg),
        (data.begins(0, b"\x89PNG\r\n\x1a\n"), _png),
        (data.begins(0, b"GIF87a") | data.begins(0, b"GIF89a"), _gif),
        (data.begins(0, b"BM"), _bmp),
        (data.begins(0, b"RIFF") & data.begins(8, b"WEBP"), _webp),
    ]
    which = tf.reduce_min(
        [tf.where(begins, number, len(readers)) for number, (begins, _) in enumerate(readers)]
    )
    branches = [lambda reader=reader: reader(content, data, place) for _, reader in readers]
    image, exif, xmp = tf.switch_case(which, [*branches, lambda: _unknown(content, data, place)])
    image = upright(image, orientation_of(Bytes(exif), Bytes(xmp)))
    return tf.ensure_shape(image, (None, None, 3))


def _read(
    pixels: tf.Tensor, exif: Bytes | None = None, xmp: Bytes | None = None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The result of a reader: pixels, and the file's EXIF and XMP."""
    nothing = tf.zeros([0], tf.uint8)
    given = (nothing if each is None else each.all() for each in (exif, xmp))
    return tf.cast(pixels, tf.float32), *given


def _checked(value: Any, place: tf.Tensor, conditions: Sequence[tuple[tf.Tensor, tf.Tensor | str]]) -> Any:
    """Return `value` once all conditions hold, each given with what was received where it does not."""
    received, fine = tf.constant(""), tf.constant(True)
    for condition, message in reversed(conditions):
        received, fine = tf.where(condition, received, message), fine & condition
    message = tf.strings.join(
        [
            "Expected a file that the graph reads as the run does, got file ",
            tf.strings.as_string(place),
            REFUSAL,
            received,
            f"{ADVICE}, or give pixels to serving_default.",
        ]
    )
    with tf.control_dependencies([tf.debugging.Assert(fine, [message])]):
        return tf.nest.map_structure(tf.identity, value)


def _fits(height: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, str]:
    within = (height > 0) & (width > 0) & (height <= MOST_PIXELS) & (width <= MOST_PIXELS)
    within &= either(within, height * width, 0) <= MOST_PIXELS
    return within, f"an image without pixels, or of more than {MOST_PIXELS // 10**6} million"


def _unknown(content: tf.Tensor, data: Bytes, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    begins = [data.begins(start, mark) for start, mark, _ in _OTHERS]
    names = tf.constant([*(name for *_, name in _OTHERS), "an unknown format"])
    name = names[tf.argmax(tf.cast(tf.stack([*begins, True]), tf.int32))]
    name = tf.where(tf.equal(data.size, 0), "an empty file", name)
    received = tf.strings.join(["not one of ", FORMATS, ": ", name])
    content = _checked(content, place, [(tf.constant(False), received)])
    return _read(tf.zeros([tf.minimum(tf.strings.length(content), 1), 1, 3]))


def _on_white(colours: tf.Tensor, opacity: tf.Tensor) -> tf.Tensor:
    """Pillow's `alpha_composite` on opaque white, to the same bit; int32."""
    colours, opacity = tf.cast(colours, tf.int32), tf.cast(opacity, tf.int32)
    value = 128 * (colours * opacity + 255 * (255 - opacity) + 128)
    return (value // 256 + value) // 2**15


# --- JPEG: ITU-T T.81, annex B


def _jpeg(content: tf.Tensor, data: Bytes, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    def step(position: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, ...]:
        first, marker = data.byte(position), data.byte(position + 1)
        is_marker = tf.equal(first, 0xFF) & ~is_one_of(marker, 0x00, 0xFF)
        alone = is_one_of(marker, 0x01, *range(0xD0, 0xDA))
        length = data.number(position + 2, 2, big=True)
        following = position + either(is_marker, either(alone, 2, length + 2), 1)
        kind = either(is_marker, marker, -1)
        return kind, position + 4, length - 2, following, ~(is_marker & tf.equal(marker, 0xDA)), state

    chunks, _ = walked(2, data.size, step)
    kinds, begins = chunks[:, 0], chunks[:, 1]
    frames = tf.boolean_mask(chunks, is_one_of(kinds, *(set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC})))
    frame, precision_at = first_of(frames[:, 0], -1), first_of(frames[:, 1], data.size)
    layers = data.byte(precision_at + 5)
    adobe = tf.equal(kinds, 0xEE) & data.begins(begins, b"Adobe")
    content = _checked(
        content,
        place,
        [
            (contains(kinds, 0xDA) & (frame >= 0), "a JPEG that is cut off"),
            (tf.equal(tf.shape(frames)[0], 1), "a JPEG of several frames"),
            (is_one_of(frame, 0xC0, 0xC1, 0xC2), "a lossless, arithmetic-coded or hierarchical JPEG"),
            (tf.equal(data.byte(precision_at), 8), "a JPEG of other than 8 bits"),
            (is_one_of(layers, 1, 3, 4), "a JPEG of other than 1, 3 or 4 channels"),
            _fits(data.number(precision_at + 1, 2, True), data.number(precision_at + 3, 2, True)),
        ],
    )
    # Pillow takes CMYK as Adobe writes it with or without its marker.
    unsaid = tf.equal(layers, 4) & ~tf.reduce_any(adobe)
    marked = tf.cond(
        unsaid,
        lambda: tf.strings.join(
            [tf.strings.substr(content, 0, 2), _APP14, tf.strings.substr(content, 2, -1)]
        ),
        lambda: content,
    )
    # As exact as Pillow; the default is not.
    pixels = tf.io.decode_jpeg(marked, channels=3, dct_method="INTEGER_ACCURATE")
    xap = b"http://ns.adobe.com/xap/1.0/\0"
    app1 = tf.equal(kinds, 0xE1)
    exif = _bytes_of(data, tf.boolean_mask(chunks, app1 & data.begins(begins, b"Exif\0\0"))[:1])
    xmp = _bytes_of(data, tf.boolean_mask(chunks, app1 & data.begins(begins, xap))[-1:])
    return _read(pixels, exif, xmp)


def _bytes_of(data: Bytes, chunks: tf.Tensor) -> Bytes:
    """The contents of the only one of `chunks`, or no bytes where there is none."""
    return data.part(first_of(chunks[:, 1], data.size), first_of(chunks[:, 2], 0))


# --- PNG: W3C Portable Network Graphics (third edition)

_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_HIDDEN_KEYS = (b"exif\0", b"xmp\0", b"transparency\0", b"Raw profile type exif\0")
_XMP_KEY = b"XML:com.adobe.xmp\0"


def _png(content: tf.Tensor, data: Bytes, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    def step(position: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, ...]:
        length, kind = data.number(position, 4, True), data.number(position + 4, 4, True)
        return kind, position + 8, length, position + 12 + length, ~tf.equal(kind, _chunk(b"IEND")), state

    chunks, end = walked(8, data.size, step)
    kinds, begins = chunks[:, 0], chunks[:, 1]
    places = tf.range(tf.size(kinds, tf.int64))

    def of_kind(*names: bytes) -> tf.Tensor:
        return is_one_of(kinds, *map(_chunk, names))

    first_pixels = first_of(tf.boolean_mask(places, of_kind(b"IDAT")), tf.size(kinds, tf.int64))
    early = places < first_pixels
    width, height = data.number(16, 4, True), data.number(20, 4, True)
    depth, colour = data.byte(24), data.byte(25)
    # An animation is read up to its second frame.
    animated = tf.reduce_any(of_kind(b"acTL") & early)
    second = tf.boolean_mask(places, of_kind(b"fcTL") & ~early)
    read = ~animated | (places < first_of(second, tf.size(kinds, tf.int64)))
    frame_at = first_of(tf.boolean_mask(begins, of_kind(b"fcTL") & early), -1)
    whole_frame = tf.equal(data.number(frame_at + 4, 4, True), width)
    whole_frame &= tf.equal(data.number(frame_at + 8, 4, True), height)
    texts = read & of_kind(b"tEXt", b"zTXt", b"iTXt")
    hidden = tf.reduce_any([data.begins(begins, key) for key in _HIDDEN_KEYS], axis=0)
    has_xmp = texts & data.begins(begins, _XMP_KEY)
    plain = of_kind(b"iTXt") & data.begins(begins + len(_XMP_KEY), b"\0")
    exif = _bytes_of(data, tf.boolean_mask(chunks, read & of_kind(b"eXIf"))[-1:])
    keys = tf.boolean_mask(chunks, of_kind(b"tRNS") & early & (colour <= _RGB))[-1:]
    content = _checked(
        content,
        place,
        [
            (
                tf.equal(last_of(kinds, 0), _chunk(b"IEND"))
                & (end <= data.size)
                & contains(kinds, _chunk(b"IDAT")),
                "a PNG that is cut off",
            ),
            _fits(height, width),
            ((frame_at < 0) | whole_frame, "an animated PNG whose first frame is smaller than the image"),
            (~tf.reduce_any(texts & hidden), "a PNG with EXIF or the like in a text chunk"),
            (~tf.reduce_any(has_xmp & ~plain), "a PNG with compressed XMP"),
            (first_of(keys[:, 2], 6) >= either(tf.equal(colour, _RGB), 6, 2),
             "a PNG whose tRNS chunk is too short"),
            (~tf.reduce_any(of_kind(b"tRNS") & ~early), "a PNG whose tRNS chunk comes after its pixels"),
        ],
    )  # fmt: skip

    def deep_grey() -> tf.Tensor:
        grey = tf.io.decode_png(content, channels=1, dtype=tf.uint16)
        return tf.cast(tf.tile(tf.round(tf.cast(grey, tf.float32) / 257.0), [1, 1, 3]), tf.int32)

    def shallow() -> tf.Tensor:
        # Asked for four channels, TensorFlow makes files of fewer than eight bits nearly transparent.
        pixels = tf.cast(tf.io.decode_png(content, channels=0), tf.int32)
        channels = tf.shape(pixels)[2]
        colours = tf.cond(channels < 3, lambda: tf.tile(pixels[..., :1], [1, 1, 3]), lambda: pixels[..., :3])
        opacity = either(tf.equal(channels % 2, 0), pixels[..., -1:], 255)
        key_at = first_of(keys[:, 1], -1)
        key = data.numbers(
            key_at + either(tf.equal(colour, _RGB), tf.constant([0, 2, 4], tf.int64), 0), 2, True
        )
        # Pillow compares with the lower eight bits of the key, whatever the depth of the file.
        key = either(tf.equal(depth, 1), either(key > 0, 255, 0), key % 256)
        is_key = tf.reduce_all(tf.equal(colours, tf.cast(key, tf.int32)), axis=-1, keepdims=True)
        opacity = either((key_at >= 0) & is_key, 0, opacity)
        return _on_white(colours, opacity)

    # Of 16 bits Pillow takes the upper eight, but for grey.
    pixels = tf.cond(tf.equal(depth, 16) & tf.equal(colour, _GREY), deep_grey, shallow)
    xmp_chunk = tf.boolean_mask(chunks, has_xmp & plain)[-1:]
    xmp = _bytes_of(data, xmp_chunk)
    return _read(pixels, exif, xmp)


# --- GIF: CompuServe, Graphics Interchange Format 89a

_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL = 0x21F9


def _gif(content: tf.Tensor, data: Bytes, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    def step(position: tf.Tensor, inside: tf.Tensor) -> tuple[tf.Tensor, ...]:
        byte = data.byte(position)
        extension = tf.equal(byte, _EXTENSION)
        outside_kind = either(extension, 256 * _EXTENSION + data.byte(position + 1), byte)
        after_block = position + 1 + byte
        inside_next = either(tf.equal(byte, 0), 0, 1)
        return (
            either(inside > 0, -1, outside_kind),
            either(extension, position + 3, position + 1),
            data.byte(position + 2),
            either(inside > 0, after_block, either(extension, position + 2, position + 1)),
            (inside > 0) | ~is_one_of(byte, _IMAGE, _END),
            either(inside > 0, inside_next, either(extension, 1, 0)),
        )

    def palette_of(at: tf.Tensor, flags: tf.Tensor) -> tf.Tensor:
        """Entries as Pillow has them, of a palette that is not there grey."""
        there = (flags & 0x80) > 0
        count = either(there, tf.bitwise.left_shift(tf.constant(2, tf.int64), flags & 7), 0)
        return at + 3 * count, data.raw(at, tf.minimum(3 * count, data.size - at))

    width, height, flags = data.number(6, 2), data.number(8, 2), data.byte(10)
    start = tf.minimum(tf.constant(13, tf.int64), data.size)
    blocks_at, colours = palette_of(start, flags)
    chunks, _ = walked(blocks_at, data.size, step)
    image_at = last_of(chunks[:, 1], data.size)
    controls = tf.boolean_mask(chunks[:, 1], tf.equal(chunks[:, 0], _CONTROL))
    clear = tf.boolean_mask(controls, tf.equal(data.numbers(controls, 1, False) % 2, 1))
    transparent = tf.cond(
        tf.size(clear) > 0, lambda: data.byte(clear[-1] + 3), lambda: tf.constant(-1, tf.int64)
    )
    left, top, columns, rows = (data.number(image_at + 2 * place, 2) for place in range(4))
    own_flags = data.byte(image_at + 8)
    pixels_at, own_colours = palette_of(tf.minimum(image_at + 9, data.size), own_flags)
    colours = tf.cond((own_flags & 0x80) > 0, lambda: own_colours, lambda: colours)

    def next_block(position: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, ...]:
        size = data.byte(position)
        return -1, position, size, position + 1 + size, ~tf.equal(size, 0), state

    data_blocks, end = walked(pixels_at + 1, data.size, next_block)
    canvas_width, canvas_height = tf.maximum(width, left + columns), tf.maximum(height, top + rows)
    content, data_range = _checked(
        (content, (pixels_at, end)),
        place,
        [
            (
                tf.equal(last_of(chunks[:, 0], -1), _IMAGE)
                & tf.equal(last_of(data_blocks[:, 2], -1), 0)
                & (end <= data.size),
                "a GIF that is cut off",
            ),
            _fits(canvas_height, canvas_width),
            _fits(rows, columns),
        ],
    )

    # TensorFlow gives colours only, of an animation all frames. So the first frame is made a file of its own,
    # and its colours are its indices.
    def piece(start: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        return tf.strings.substr(content, start, length)

    pixels_at, end = data_range
    sizes = piece(image_at + 4, tf.constant(4, tf.int64))
    interlaced = tf.cond((own_flags & 0x40) > 0, lambda: b"\x40", lambda: b"\x00")
    frame = tf.strings.join(
        [
            *(b"GIF89a", sizes, b"\xf7\0\0", _IDENTITY, b"\x2c\0\0\0\0", sizes, interlaced),
            *(piece(pixels_at, end - pixels_at), b"\x3b"),
        ]
    )
    indices = tf.cast(tf.io.decode_gif(frame)[0, ..., 0], tf.int64)
    margins = [[top, canvas_height - top - rows], [left, canvas_width - left - columns]]
    indices = tf.pad(indices, margins, constant_values=tf.maximum(transparent, 0))
    image = tf.gather(_filled_up(tf.reshape(colours[: 3 * (tf.size(colours) // 3)], (-1, 3))), indices)
    opacity = either(tf.equal(indices, transparent), 0, 255)[..., None]
    return _read(_on_white(image, opacity))


def _filled_up(colours: tf.Tensor) -> tf.Tensor:
    """A palette `(N, 3)` of up to 256 colours, filled up to 256 as Pillow does; int32.

    With black; one of greys in order, or of nothing, with the greys that follow.
    """
    colours = tf.cast(colours[:256], tf.int32)
    greys = tf.tile(tf.range(256)[:, None], [1, 3])
    count = tf.shape(colours)[0]
    in_order = tf.reduce_all(tf.equal(colours, greys[:count]))
    return tf.concat([colours, either(in_order, greys, 0)[count:]], 0)


# --- BMP: Microsoft, Bitmap Storage

_BI_RGB, _BI_BITFIELDS = 0, 3
_MASKS_32 = (  # of red, green, blue, opacity: those that Pillow knows
    (0xFF0000, 0xFF00, 0xFF, 0x0),
    (0xFF000000, 0xFF0000, 0xFF00, 0x0),
    (0xFF000000, 0xFF00, 0xFF, 0x0),
    (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
    (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
    (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    (0xFF000000, 0xFF00, 0xFF, 0xFF0000),
    (0x0, 0x0, 0x0, 0x0),
)
_MASKS_24 = ((0xFF0000, 0xFF00, 0xFF),)
_MASKS_16 = ((0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F))


def _bmp(content: tf.Tensor, data: Bytes, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    header = data.number(14, 4)
    old = tf.equal(header, 12)
    flip = ~old & tf.equal(data.byte(25), 0xFF)
    width = either(old, data.number(18, 2), data.number(18, 4))
    tall = data.number(22, 4)
    height = either(old, data.number(20, 2), either(flip, 2**32 - tall, tall))
    bits = either(old, data.number(24, 2), data.number(28, 2))
    compression = either(old, _BI_RGB, data.number(30, 4))
    fields = tf.equal(compression, _BI_BITFIELDS)
    count = either(old, 0, data.number(46, 4))
    count = either(
        tf.equal(count, 0), tf.bitwise.left_shift(tf.constant(1, tf.int64), tf.minimum(bits, 32)), count
    )
    entry = either(old, 3, 4)  # bytes of a colour
    given = data.number(10, 4)
    after_header = 14 + header
    offset = given + either(tf.equal(given, after_header) & (bits <= 8), entry * count, 0)

    # Masks lie after a header of 40 bytes, and within a longer one at the same place.
    masks = [data.number(54 + 4 * number, 4) for number in range(4)]
    masks[3] = either(header >= 56, masks[3], 0)

    def one_of(known: Sequence[Any]) -> tf.Tensor:
        return tf.reduce_any(
            tf.reduce_all(tf.equal(tf.stack(masks)[: len(known[0])], tf.constant(known, tf.int64)), -1)
        )

    known_masks = (
        (tf.equal(bits, 32) & one_of(_MASKS_32))
        | (tf.equal(bits, 24) & one_of(_MASKS_24))
        | (tf.equal(bits, 16) & one_of(_MASKS_16))
    )
    stride = (width * bits + 31) // 32 * 4
    fits, too_large = _fits(height, width)
    last_row = (width * bits + 7) // 8
    complete = ~fits | (offset + stride * (height - 1) + last_row <= data.size)

    shown = tf.clip_by_value(count, 0, 256)
    entries = after_header + entry * tf.range(shown)
    palette = tf.stack([data.numbers(entries + channel, 1, False) for channel in (2, 1, 0)], -1)
    # A palette of greys in order is none to Pillow, which then reads another number of bits.
    ramp = either(tf.equal(count, 2), tf.range(shown) * 255, tf.range(shown))
    ordered = tf.reduce_all(tf.equal(palette, ramp[:, None]))
    as_bits = either(count <= 2, 1, 8)
    readable_palette = (bits > 8) | (
        (count <= 256)
        & (count > 0)
        & (~ordered | tf.equal(bits, as_bits))
        & (after_header + entry * count <= offset)
    )
    offset, stride, width, height = _checked(
        (offset, stride, width, height),
        place,
        [
            (is_one_of(header, 12, 40, 52, 56, 64, 108, 124), "a BMP of an unknown header"),
            (~is_one_of(compression, 1, 2), "a run-length encoded (RLE) BMP"),
            (is_one_of(compression, _BI_RGB, _BI_BITFIELDS), "a compressed BMP"),
            (is_one_of(bits, 1, 4, 8, 16, 24, 32), "a BMP of an unknown number of bits"),
            (~fields | known_masks, "a BMP of unusual bit fields"),
            (given > 0, "a BMP that does not say where its pixels are"),
            (readable_palette, "a BMP of an unusual palette"),
            (fits, too_large),
            (complete, "a BMP that is cut off"),
        ],
    )
    rows = data.raw(offset, tf.minimum(stride * height, data.size - offset))
    rows = tf.pad(rows, [[0, stride * height - tf.size(rows, tf.int64)]])
    rows = tf.cast(tf.reshape(rows, (height, stride)), tf.int32)

    def palette_pixels() -> tf.Tensor:
        def unpacked(each: int) -> tf.Tensor:
            """The parts of a byte of `each` bits, the highest first."""
            shifts = tf.constant([2**place for place in range(8 - each, -1, -each)])
            return tf.reshape((rows[..., None] // shifts) % 2**each, (height, -1))

        indices = tf.switch_case(
            tf.cast(either(tf.equal(bits, 1), 0, either(tf.equal(bits, 4), 1, 2)), tf.int32),
            [lambda: unpacked(1), lambda: unpacked(4), lambda: rows],
        )
        return tf.gather(_filled_up(palette), indices[:, :width])

    def words() -> tf.Tensor:
        pixels = rows[:, : 2 * width]
        pixels = pixels[:, 0::2] + 256 * pixels[:, 1::2]
        six = fields & tf.equal(masks[0], 0xF800)
        red = either(six, pixels // 2**11, (pixels // 2**10) % 32)
        green = either(six, (pixels // 32) % 64 * 255 // 63, (pixels // 32) % 32 * 255 // 31)
        return tf.stack([red * 255 // 31, green, pixels % 32 * 255 // 31], -1)

    def threes() -> tf.Tensor:
        return tf.reshape(rows[:, : 3 * width], (height, width, 3))[..., ::-1]

    def fours() -> tf.Tensor:
        pixels = tf.reshape(rows[:, : 4 * width], (height, width, 4))
        # Masks of nothing are those of blue, green, red, opacity.
        nothing = fields & tf.equal(masks[0], 0)
        usual = tf.constant(_MASKS_32[0], tf.int64)
        all_set = tf.constant((0xFF0000, 0xFF00, 0xFF, 0xFF000000), tf.int64)
        used = either(nothing, all_set, either(fields, tf.stack(masks), usual))
        ends = tf.constant((0xFF, 0xFF00, 0xFF0000, 0xFF000000), tf.int64)
        order = tf.argmax(tf.equal(used[:, None], ends), axis=1)
        ordered = tf.gather(pixels, order, axis=2)
        opacity = either(tf.equal(used[3], 0), 255, ordered[..., 3:])
        return _on_white(ordered[..., :3], opacity)

    which = either(bits <= 8, 0, either(tf.equal(bits, 16), 1, either(tf.equal(bits, 24), 2, 3)))
    pixels = tf.switch_case(tf.cast(which, tf.int32), [palette_pixels, words, threes, fours])
    pixels = tf.cond(flip, lambda: pixels, lambda: pixels[::-1])
    return _read(pixels)


# --- WebP: RFC 9649

_ANIMATION, _ALPHA = 0x02, 0x10  # of the flags in VP8X
_FRAME_HEADER = 16  # bytes


def _webp(content: tf.Tensor, data: Bytes, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    def step(position: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, ...]:
        kind, length = data.number(position, 4, True), data.number(position + 4, 4)
        return kind, position + 8, length, position + 8 + length + length % 2, tf.constant(True), state

    chunks, end = walked(12, tf.minimum(data.size, data.number(4, 4) + 8), step)
    kinds = chunks[:, 0]

    def of_kind(*names: bytes) -> tf.Tensor:
        return is_one_of(kinds, *map(_chunk, names))

    extended = tf.equal(first_of(kinds, 0), _chunk(b"VP8X"))
    flags = either(extended, data.byte(20), 0)
    animated = (flags & _ANIMATION) > 0
    frame = tf.boolean_mask(chunks, of_kind(b"ANMF"))[:1]
    frame_at, frame_end = first_of(frame[:, 1], data.size), first_of(frame[:, 1] + frame[:, 2], data.size)
    inner, _ = walked(frame_at + _FRAME_HEADER, frame_end, step)
    parts = tf.cond(animated, lambda: inner, lambda: chunks)
    pictures = tf.boolean_mask(parts, is_one_of(parts[:, 0], _chunk(b"VP8 "), _chunk(b"VP8L")))
    lossy = tf.equal(first_of(pictures[:, 0], 0), _chunk(b"VP8 "))
    picture_at, picture_length = first_of(pictures[:, 1], data.size), first_of(pictures[:, 2], 0)
    # Sizes as the picture itself has them: RFC 6386, section 9.1; RFC 9649, section 3.4.
    packed = data.number(picture_at + 1, 4)
    columns = either(lossy, data.number(picture_at + 6, 2) & 0x3FFF, (packed & 0x3FFF) + 1)
    rows = either(lossy, data.number(picture_at + 8, 2) & 0x3FFF, ((packed // 2**14) & 0x3FFF) + 1)
    left, top = 2 * data.number(frame_at, 3), 2 * data.number(frame_at + 3, 3)
    frame_width, frame_height = data.number(frame_at + 6, 3) + 1, data.number(frame_at + 9, 3) + 1
    canvas_width, canvas_height = data.number(24, 3) + 1, data.number(27, 3) + 1
    left, top = (either(animated, value, 0) for value in (left, top))
    width = either(extended, canvas_width, columns)
    height = either(extended, canvas_height, rows)
    as_declared = ~animated | (tf.equal(frame_width, columns) & tf.equal(frame_height, rows))
    inside = (left + columns <= width) & (top + rows <= height)
    covers = animated | (tf.equal(columns, width) & tf.equal(rows, height))
    content = _checked(
        content,
        place,
        [
            (
                (data.number(4, 4) + 8 <= data.size) & (end <= data.size) & (picture_length > 10),
                "a WebP that is cut off",
            ),
            (~tf.equal(tf.shape(pictures)[0], 0) & (animated | tf.equal(tf.shape(pictures)[0], 1)),
             "a WebP of no picture, or several"),
            (~tf.reduce_any(of_kind(b"ANMF")) | animated, "a WebP with frames that it does not announce"),
            (as_declared & inside & covers & (picture_at + picture_length <= data.size),
             "a WebP whose picture is of another size than it says"),
            _fits(height, width),
        ],
    )  # fmt: skip

    # Only a still picture of its own is given to TensorFlow, whose decoder of animations was seen to corrupt
    # memory (2.21).
    alphas = tf.boolean_mask(parts, tf.equal(parts[:, 0], _chunk(b"ALPH")))[:1]
    with_alpha = lossy & (tf.shape(alphas)[0] > 0)

    def piece(start: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        start = tf.clip_by_value(start, 0, data.size)
        return tf.strings.substr(content, start, tf.clip_by_value(length, 0, data.size - start))

    def whole(chunks: tf.Tensor) -> tf.Tensor:
        """The first of `chunks`, with its name, length and padding."""
        length = first_of(chunks[:, 2], 0)
        return piece(first_of(chunks[:, 1], 8) - 8, 8 + length), tf.where(tf.equal(length % 2, 1), b"\0", b"")

    extra = tf.cond(
        with_alpha,
        lambda: tf.strings.join(
            [
                b"VP8X\x0a\0\0\0\x10\0\0\0",
                _least_first(columns - 1, 3),
                _least_first(rows - 1, 3),
                *whole(alphas),
            ]
        ),
        lambda: tf.constant(b""),
    )
    still = tf.strings.join([b"WEBP", extra, *whole(pictures)])
    still = tf.strings.join([b"RIFF", _least_first(tf.cast(tf.strings.length(still), tf.int64), 4), still])
    pixels = tf.cast(tf.io.decode_webp(still, channels=0)[0], tf.int32)
    has_opacity = tf.equal(tf.shape(pixels)[2], 4)
    opacity = either(has_opacity, pixels[..., -1:], 255)
    is_transparent = either(extended, (flags & _ALPHA) > 0, has_opacity)
    margins = [[top, height - top - rows], [left, width - left - columns], [0, 0]]
    colours, opacity = tf.pad(pixels[..., :3], margins), tf.pad(opacity, margins)
    pixels = either(is_transparent, _on_white(colours, opacity), colours)
    exif = _bytes_of(data, tf.boolean_mask(chunks, of_kind(b"EXIF"))[:1])
    xmp = _bytes_of(data, tf.boolean_mask(chunks, of_kind(b"XMP "))[:1])
    return _read(pixels, exif, xmp)


def _least_first(number: int | tf.Tensor, count: int) -> tf.Tensor:
    """The bytes of a whole number, as a string."""
    table = tf.constant([bytes([value]) for value in range(256)])
    places = [256**place for place in range(count)]
    return tf.strings.reduce_join(tf.gather(table, (tf.convert_to_tensor(number) // places) % 256))
