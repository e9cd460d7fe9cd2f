"""Image files and pixels of any size inside a TensorFlow graph, as `data/images.py` has Pillow read them."""

import math

import tensorflow as tf

from ktransfer.data.images import Resize
from ktransfer.errors import ExportError

_HEADER = 2**17  # bytes of a file among which its orientation is looked for
_ORIENTATION = 0x0112  # the tag, in EXIF


def resized(images, resize: Resize):
    """Bring pixels of any size to that of a model, as Pillow does: to the same grey level but for ties.

    A resize is a product with a matrix of weights on either side, which every format has and computes alike;
    the resizing operations of TFLite and ONNX have no antialias.

    Args:
        images: Float32 `(B, H, W, 3)` in 0-255, of any height and width.
        resize: The size to bring them to.

    Returns:
        Float32 `(B, height, width, 3)`, whole numbers in 0-255.

    Raises:
        ExportError: Of this interpolation Pillow makes something that is no such product.

    Example:
        >>> resized(tf.zeros((1, 480, 640, 3)), Resize(160, 160)).shape
        TensorShape([1, 160, 160, 3])
    """
    if resize.interpolation == "bicubic" and not resize.antialias:
        raise ExportError(
            "A resize that can be written into a graph was expected. Received: bicubic without antialias. "
            "Export without a size of its own, and resize outside."
        )
    height, width = tf.unstack(tf.shape(images)[1:3])
    # As in `data/images.py`, rounded down.
    fit_width = tf.maximum(height * resize.width // resize.height, 1)
    fit_height = tf.maximum(width * resize.height // resize.width, 1)
    rows = _weights(height, fit_height, resize.height, resize)
    columns = _weights(width, fit_width, resize.width, resize)
    images = tf.transpose(images, (0, 3, 1, 2))
    images = _whole(tf.matmul(images, columns, transpose_b=True))
    images = _whole(tf.matmul(rows, images))
    images = tf.transpose(images, (0, 2, 3, 1))
    return tf.ensure_shape(images, (None, resize.height, resize.width, 3))


def _weights(size, fit, target, resize):
    """What each of `target` pixels takes from each of `size`: float32 `(target, size)`."""
    bar = tf.maximum(fit - size, 0) // 2 if resize.mode == "pad" else 0
    start = tf.maximum(size - fit, 0) // 2 if resize.mode == "crop" else 0
    window = tf.minimum(size, fit) if resize.mode == "crop" else size + 2 * bar
    positions = tf.range(size + 2 * bar)
    if resize.interpolation == "nearest":
        nearest = start + (2 * tf.range(target) + 1) * window // (2 * target)
        weights = tf.cast(tf.equal(positions, nearest[:, None]), tf.float32)
    else:
        step = tf.cast(window, tf.float32) / target
        centers = tf.cast(start, tf.float32) + (tf.range(target, dtype=tf.float32) + 0.5) * step
        positions = tf.cast(positions, tf.float32)
        width = tf.maximum(step, 1.0) if resize.antialias else 1.0
        kernel = {"bilinear": _triangle, "bicubic": _cubic, "lanczos3": _lanczos}[resize.interpolation]
        weights = kernel(tf.abs(positions + 0.5 - centers[:, None]) / width)
        weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    return weights[:, bar : size + bar]  # bars are black


def _triangle(x):
    return tf.maximum(1.0 - x, 0.0)


def _cubic(x):
    """With a = -0.5, Pillow's choice (Keys 1981)."""
    inner = (1.5 * x - 2.5) * x * x + 1.0
    outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return tf.where(x < 1.0, inner, tf.where(x < 2.0, outer, 0.0))


def _lanczos(x):
    return tf.where(x < 3.0, _sinc(x) * _sinc(x / 3.0), 0.0)


def _sinc(x):
    angle = tf.maximum(x, 1e-6) * math.pi
    return tf.sin(angle) / angle


def _whole(pixels):
    """Pillow keeps eight bits after either pass."""
    return tf.clip_by_value(tf.floor(pixels + 0.5), 0.0, 255.0)


def pixels_of_files(contents, resize: Resize):
    """Decode image files and bring them to the size of a model.

    Upright as the camera held them, transparent parts white, of an animation the first frame.

    Args:
        contents: The bytes of JPEG, PNG, GIF or BMP files, string `(B,)`.
        resize: The size to bring them to.

    Returns:
        Float32 `(B, height, width, 3)`, RGB in 0-255.

    Example:
        >>> pixels_of_files(tf.constant([Path("rose.jpg").read_bytes()]), Resize(160, 160)).shape
        TensorShape([1, 160, 160, 3])
    """

    def pixels_of_file(content):
        return resized(_upright(_decoded(content), _orientation(content))[None], resize)[0]

    shape = tf.TensorSpec((resize.height, resize.width, 3), tf.float32)
    return tf.map_fn(pixels_of_file, contents, fn_output_signature=shape)


def _decoded(content):
    def png():
        # Asked for four channels, TensorFlow makes files of fewer than eight bits nearly transparent.
        pixels = tf.cast(tf.io.decode_png(content, channels=0), tf.float32)
        channels = tf.shape(pixels)[2]
        colours = tf.cond(channels < 3, lambda: tf.tile(pixels[..., :1], (1, 1, 3)), lambda: pixels[..., :3])
        opacity = tf.where(channels % 2 == 0, pixels[..., -1:] / 255.0, 1.0)
        return tf.floor(colours * opacity + 255.0 * (1.0 - opacity) + 0.5)

    def other():
        image = tf.io.decode_image(content, channels=3, expand_animations=False)
        return tf.ensure_shape(tf.cast(image, tf.float32), (None, None, 3))

    def jpeg():  # as exact as Pillow; the default is not
        return tf.cast(tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"), tf.float32)

    start = tf.strings.substr(content, 0, 4)
    return tf.case(
        [
            (tf.equal(start, b"\x89PNG"), png),
            (tf.equal(tf.strings.substr(content, 0, 2), b"\xff\xd8"), jpeg),
        ],
        default=other,
    )


def _upright(image, orientation):
    """EXIF 2.32, section 4.6.4: whether columns and rows change places, then which of them run backwards."""
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)

    def one_of(*orientations):
        return tf.reduce_any(tf.equal(orientation, orientations))

    image = tf.cond(one_of(2, 3, 6, 7), lambda: tf.reverse(image, [1]), lambda: image)
    return tf.cond(one_of(3, 4, 7, 8), lambda: tf.reverse(image, [0]), lambda: image)


def _orientation(content):
    """How the camera was held, 1 to 8, from the first directory of EXIF; 1 where nothing is said."""
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 0, _HEADER), tf.uint8), tf.int32)
    start = tf.minimum(_after(header, b"Exif\0\0"), _after(header, b"eXIf"))  # of JPEG; of PNG
    header = tf.concat([header, tf.zeros([16], tf.int32)], 0)
    last = tf.size(header) - 1

    def byte(places):
        return tf.gather(header, tf.clip_by_value(places, 0, last))

    motorola = tf.equal(byte(start), ord("M"))  # the most significant byte comes first

    def short(places):
        first, second = byte(places), byte(places + 1)
        return tf.where(motorola, first * 256 + second, second * 256 + first)

    directory = start + tf.where(motorola, short(start + 6), short(start + 4))
    entries = directory + 2 + 12 * tf.range(tf.minimum(short(directory), 512))
    found = tf.boolean_mask(short(entries + 8), tf.equal(short(entries), _ORIENTATION))
    orientation = tf.concat([found, [1]], 0)[0]
    return tf.where((orientation >= 1) & (orientation <= 8) & (start < last), orientation, 1)


def _after(header, mark):
    """Where `mark` ends first; past the end where it is not."""
    count = tf.size(header) - len(mark)
    here = tf.fill([tf.maximum(count, 0)], True)
    for place, byte in enumerate(mark):
        here &= tf.equal(header[place : place + tf.maximum(count, 0)], byte)
    places = tf.concat([tf.where(here)[:, 0], [tf.cast(tf.size(header), tf.int64) + 64]], 0)
    return tf.cast(places[0], tf.int32) + len(mark)
