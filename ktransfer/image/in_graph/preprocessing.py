"""Image files and pixels of any size inside a TensorFlow graph, as `image/decoding.py` has Pillow read them."""

import math

import tensorflow as tf

from ktransfer.errors import ExportError
from ktransfer.image.decoding import Resize
from ktransfer.image.in_graph.decoders import decoded

_FIXED_POINT = 2.0**22  # what Pillow multiplies weights by before it rounds them (libImaging/Resample.c)
_GRID = 32  # places a pixel, as in `image/decoding.py`
_NEARLY = 1e-9  # by which a sum of weighted pixels may miss a whole number


def resized(images: tf.Tensor, resize: Resize, *, exact: bool = False) -> tf.Tensor:
    """Bring pixels of any size to that of a model, as Pillow does.

    A resize is a product with a matrix of weights on either side, which every format has and computes alike;
    the resizing operations of TFLite and ONNX have no antialias.

    Args:
        images: Float32 `(B, H, W, 3)` in 0-255, of any height and width.
        resize: The size to bring them to.
        exact: Whether to compute in float64 with Pillow's fixed-point weights, to the same bit as Pillow.
            Defaults to `False`, in float32: to the same grey level but for ties.

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
            "Expected a resize that can be written into a graph, got bicubic without antialias. Export "
            "without a size of its own, and resize outside."
        )
    height, width = tf.unstack(tf.shape(images)[1:3])
    if resize.interpolation == "mediapipe":
        return _warped(images, resize, height, width)
    # As in `image/decoding.py`, rounded down.
    fit_width = tf.maximum(height * resize.width // resize.height, 1)
    fit_height = tf.maximum(width * resize.height // resize.width, 1)
    dtype = tf.float64 if exact else tf.float32
    # Without antialias Pillow weighs four pixels at once, and rounds down, unless it only enlarges.
    at_once = tf.constant(False)
    if exact and not resize.antialias and resize.interpolation == "bilinear":
        crop = resize.mode == "crop"
        used_height = tf.minimum(height, fit_height) if crop else tf.maximum(height, fit_height)
        used_width = tf.minimum(width, fit_width) if crop else tf.maximum(width, fit_width)
        if resize.mode == "stretch":
            used_height, used_width = height, width
        at_once = (used_height > resize.height) | (used_width > resize.width)
    rows = _weights(height, fit_height, resize.height, resize, dtype, at_once)
    columns = _weights(width, fit_width, resize.width, resize, dtype, at_once)
    if exact:
        bars = resize.mode == "pad"
        whole_height = tf.maximum(height, fit_height) if bars else height
        whole_width = tf.maximum(width, fit_width) if bars else width
        images = _resized_exactly(images, rows, columns, at_once, (whole_height, whole_width))
    else:
        images = tf.transpose(images, (0, 3, 1, 2))
        images = _whole(tf.matmul(images, columns, transpose_b=True))
        images = _whole(tf.matmul(rows, images))
        images = tf.transpose(images, (0, 2, 3, 1))
    return tf.ensure_shape(images, (None, resize.height, resize.width, 3))


def _warped(images: tf.Tensor, resize: Resize, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Resize as `image/decoding.py` does for MediaPipe, by weights that float32 has exactly."""

    def weights(size: tf.Tensor, target: int) -> tf.Tensor:
        places = tf.cast(tf.range(target) * size, tf.float64) * _GRID / target
        places = tf.cast(tf.round(places), tf.int32)
        first, share = places // _GRID, tf.cast(places % _GRID, tf.float32)[:, None] / _GRID
        positions = tf.range(size)
        at_first = tf.cast(tf.equal(positions, first[:, None]), tf.float32)
        at_second = tf.cast(tf.equal(positions, tf.minimum(first + 1, size - 1)[:, None]), tf.float32)
        return at_first * (1 - share) + at_second * share

    images = tf.transpose(images, (0, 3, 1, 2))
    images = tf.matmul(images, weights(width, resize.width), transpose_b=True)
    images = _whole(tf.matmul(weights(height, resize.height), images))
    images = tf.transpose(images, (0, 2, 3, 1))
    return tf.ensure_shape(images, (None, resize.height, resize.width, 3))


def _resized_exactly(
    images: tf.Tensor,
    rows: tf.Tensor,
    columns: tf.Tensor,
    at_once: tf.Tensor,
    whole: tuple[tf.Tensor, tf.Tensor],
) -> tf.Tensor:
    """Apply the weights of rows and columns in Pillow's order, and round as it does; float32.

    The weights of a resize are nearly all zero, so the products are of sparse matrices.
    """

    def product(weights: tf.Tensor, axes: tuple[int, ...], images: tf.Tensor) -> tf.Tensor:
        """Weigh the axis that `axes` moves to the front, and move it back."""
        moved = tf.transpose(images, axes)
        flat = tf.reshape(moved, (tf.shape(moved)[0], -1))
        flat = tf.sparse.sparse_dense_matmul(tf.sparse.from_dense(weights), flat)
        return tf.transpose(
            tf.reshape(flat, tf.concat([tf.shape(weights)[:1], tf.shape(moved)[1:]], 0)),
            [axes.index(axis) for axis in range(4)],
        )

    def across(images: tf.Tensor) -> tf.Tensor:
        return product(columns, (2, 0, 1, 3), images)

    def down(images: tf.Tensor) -> tf.Tensor:
        return product(rows, (1, 0, 2, 3), images)

    def between(images: tf.Tensor) -> tf.Tensor:
        return tf.where(at_once, images, _whole(images))

    # The order of Pillow 13, measured on 3,000 sizes: rows first where that takes away twice as many of them.
    (height, width), (to_height, to_width) = whole, (tf.shape(each)[0] for each in (rows, columns))
    rows_first = (height > to_height) & (2 * (width - to_width) < height - to_height)
    images = tf.cast(images, tf.float64)
    images = tf.cond(rows_first, lambda: across(between(down(images))), lambda: down(between(across(images))))
    return tf.cast(tf.where(at_once, tf.floor(images + _NEARLY), _whole(images)), tf.float32)


def _weights(
    size: tf.Tensor, fit: tf.Tensor, target: int, resize: Resize, dtype: tf.DType, at_once: tf.Tensor
) -> tf.Tensor:
    """The resize weights of `size` pixels in each of `target` pixels: `(target, size)`."""
    bar = tf.maximum(fit - size, 0) // 2 if resize.mode == "pad" else 0
    start = tf.maximum(size - fit, 0) // 2 if resize.mode == "crop" else 0
    window = tf.minimum(size, fit) if resize.mode == "crop" else size + 2 * bar
    positions = tf.range(size + 2 * bar)
    if resize.interpolation == "nearest":
        nearest = start + (2 * tf.range(target) + 1) * window // (2 * target)
        weights = tf.cast(tf.equal(positions, nearest[:, None]), dtype)
    else:
        step = tf.cast(window, dtype) / target
        centers = tf.cast(start, dtype) + (tf.cast(tf.range(target), dtype) + 0.5) * step
        positions = tf.cast(positions, dtype)
        width = tf.maximum(step, 1.0) if resize.antialias else tf.ones((), dtype)
        kernel = {"bilinear": _triangle, "bicubic": _cubic, "lanczos3": _lanczos}[resize.interpolation]
        weights = kernel(tf.abs(positions + 0.5 - centers[:, None]) / width)
        weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
        if dtype == tf.float64:
            fixed = tf.sign(weights) * tf.floor(tf.abs(weights) * _FIXED_POINT + 0.5) / _FIXED_POINT
            weights = tf.where(at_once, weights, fixed)
    return weights[:, bar : size + bar]  # bars are black


def _triangle(x: tf.Tensor) -> tf.Tensor:
    return tf.maximum(1.0 - x, 0.0)


def _cubic(x: tf.Tensor) -> tf.Tensor:
    """With a = -0.5, Pillow's choice (Keys 1981)."""
    inner = (1.5 * x - 2.5) * x * x + 1.0
    outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return tf.where(x < 1.0, inner, tf.where(x < 2.0, outer, tf.zeros_like(x)))


def _lanczos(x: tf.Tensor) -> tf.Tensor:
    return tf.where(x < 3.0, _sinc(x) * _sinc(x / 3.0), tf.zeros_like(x))


def _sinc(x: tf.Tensor) -> tf.Tensor:
    angle = tf.maximum(x, 1e-6) * math.pi
    return tf.sin(angle) / angle


def _whole(pixels: tf.Tensor) -> tf.Tensor:
    """Pillow keeps eight bits after either pass."""
    return tf.clip_by_value(tf.floor(pixels + 0.5), 0.0, 255.0)


@tf.autograph.experimental.do_not_convert
def pixels_of_files(contents: tf.Tensor, resize: Resize) -> tf.Tensor:
    """Decode image files and bring them to the size of a model, as the run does.

    Upright as the camera held them, transparent parts white, of an animation the first frame.

    Args:
        contents: The bytes of JPEG, PNG, GIF, BMP or WebP files, string `(B,)`.
        resize: The size to bring them to.

    Returns:
        Float32 `(B, height, width, 3)`, RGB in 0-255.

    Raises:
        tf.errors.InvalidArgumentError: When run, of a batch with a file that `decoded` refuses.

    Example:
        >>> pixels_of_files(tf.constant([Path("rose.jpg").read_bytes()]), Resize(160, 160)).shape  # doctest: +SKIP
        TensorShape([1, 160, 160, 3])
    """

    def pixels_of_file(given: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        content, place = given
        with tf.device("CPU:0"):  # of many small steps, and strings
            pixels = decoded(content, place)
        return resized(pixels[None], resize, exact=True)[0]

    shape = tf.TensorSpec((resize.height, resize.width, 3), tf.float32)
    return tf.map_fn(pixels_of_file, (contents, tf.range(tf.size(contents))), fn_output_signature=shape)
