"""Augmentation of a batch as tf.data runs it: stateless, so that one seed gives one result."""

import math

import tensorflow as tf

from ktransfer.image.augmentation import Augmentation


def augment(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Vary each image of a batch by its own draw.

    Args:
        images: uint8 or float32 `(B, H, W, 3)` in 0-255.
        labels: int32 `(B,)`, or float32 `(B, C)` shares of classes where `augmentation.mixes_labels`.
        seed: int64 `(2,)`; the same seed gives the same result.
        augmentation: What to vary and how far.

    Returns:
        `(images, labels)`, images float32 `(B, H, W, 3)` in 0-255.

    Example:
        >>> images, labels = augment(images, labels, [0, 1], Augmentation())  # doctest: +SKIP
    """
    # One seed for each kind of draw, as draws from one seed repeat themselves.
    geometry, colour, mix = tf.unstack(tf.random.split(seed, 3))
    images = tf.cast(images, tf.float32)
    images = _geometry(images, geometry, augmentation)
    images = _colour(images, colour, augmentation)
    if augmentation.mixes_labels:
        images, labels = _mix(images, labels, mix, augmentation)
    return images, labels


def _geometry(images: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """Crop, turn and flip in one bilinear resampling; outside, the image is reflected."""
    if not (augmentation.flip or augmentation.rotation or augmentation.crop != (1, 1)):
        return images
    batch, height, width = (tf.shape(images)[axis] for axis in range(3))
    area, angle, along, across, mirror = _uniform(seed, batch, 5)
    lowest, highest = augmentation.crop
    side = tf.sqrt(lowest + (highest - lowest) * area)
    turn = (2 * angle - 1) * math.radians(augmentation.rotation)
    flip = tf.where(mirror < 0.5, -1.0, 1.0) if augmentation.flip else tf.ones_like(mirror)
    # Output pixel -> input pixel, both measured from the centre of the outermost pixels.
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    a0, a1 = side * flip * tf.cos(turn), -side * tf.sin(turn)
    b0, b1 = side * flip * tf.sin(turn), side * tf.cos(turn)
    a2 = centre_x + (along - 0.5) * (1 - side) * width - a0 * centre_x - a1 * centre_y
    b2 = centre_y + (across - 0.5) * (1 - side) * height - b0 * centre_x - b1 * centre_y
    zero = tf.zeros_like(side)
    varied = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    # The op forgets the size, which a model that is built on the first batch needs.
    return tf.ensure_shape(varied, images.shape)


def _colour(images: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    strengths = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    if not any(strengths):
        return images
    draws = _uniform(seed, tf.shape(images)[0], 3)
    brightness, contrast, saturation = (
        (1 + strength * (2 * draw - 1))[:, None, None, None]
        for strength, draw in zip(strengths, draws, strict=True)
    )
    grey = tf.image.rgb_to_grayscale(images)
    mean = tf.reduce_mean(grey, axis=(1, 2, 3), keepdims=True)
    images = brightness * (mean + contrast * (grey + saturation * (images - grey) - mean))
    return tf.clip_by_value(images, 0.0, 255.0)


def _mix(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Blend each image with its neighbour, or paste a part of it: the batch is shuffled already."""
    batch, height, width = (tf.shape(images)[axis] for axis in range(3))
    mixup_seed, cutmix_seed, seed = tf.unstack(tf.random.split(seed, 3))
    across, down, choice = _uniform(seed, batch, 3)
    mixup_share = _beta(mixup_seed, batch, augmentation.mixup)
    cut_side = tf.sqrt(_beta(cutmix_seed, batch, augmentation.cutmix))
    rows = _stripe(height, cut_side, down)[:, :, None, None]
    columns = _stripe(width, cut_side, across)[:, None, :, None]
    cut_mask = rows * columns
    both = augmentation.mixup > 0 and augmentation.cutmix > 0
    cutmixed = choice < (0.5 if both else float(augmentation.cutmix > 0))
    mask = tf.where(cutmixed[:, None, None, None], cut_mask, mixup_share[:, None, None, None])
    share = tf.reduce_mean(mask, axis=(1, 2, 3))[:, None]
    images += mask * (tf.roll(images, 1, axis=0) - images)
    return tf.clip_by_value(images, 0.0, 255.0), labels + share * (tf.roll(labels, 1, axis=0) - labels)


def _stripe(length: tf.Tensor, side: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """float32 `(B, length)`: 1 on a stretch of `side * length` pixels, moved inside by `position` in 0-1."""
    pixels = tf.range(length, dtype=tf.float32)[None, :]
    length = tf.cast(length, tf.float32)
    extent = tf.round(side * length)
    start = tf.floor(position * (length - extent + 1))
    return tf.cast((pixels >= start[:, None]) & (pixels < (start + extent)[:, None]), tf.float32)


def _uniform(seed: tf.Tensor, batch: tf.Tensor, count: int) -> list[tf.Tensor]:
    return tf.unstack(tf.random.stateless_uniform((count, batch), seed=seed), num=count)


def _beta(seed: tf.Tensor, batch: tf.Tensor, alpha: float) -> tf.Tensor:
    """The neighbour's share: the smaller side of a Beta(alpha, alpha) draw; no image is lost to it."""
    if not alpha:
        return tf.zeros((batch,))
    x, y = tf.unstack(tf.random.stateless_gamma((2, batch), seed=seed, alpha=alpha), num=2)
    # Small alphas can underflow both draws to zero.
    drawn = tf.math.divide_no_nan(x, x + y)
    return tf.minimum(drawn, 1 - drawn)
