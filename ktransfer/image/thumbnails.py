"""Images as they stand in a page: thumbnails, and what a model looked at laid over them."""

import base64
import io

import numpy as np
from PIL import Image

from ktransfer.errors import DataError
from ktransfer.image.decoding import Resize, load_image

_SIDE = 160  # pixels
_THUMBNAIL, _AUDITED = Resize(_SIDE, _SIDE, mode="pad"), Resize(120, 120, mode="pad")


def thumbnail(path: str) -> str:
    """An image file as a `data:` address of 160 x 160 pixels; empty where it cannot be read.

    Example:

        thumbnail("rose.jpg")[:22]   # "data:image/jpeg;base64"
    """
    try:
        return picture(load_image(path, _THUMBNAIL))
    except DataError:
        return ""


def audit_picture(path: str) -> str:
    """An image file as an HTML element of 120 x 120 pixels; empty where it cannot be read.

    Example:

        audit_picture("rose.jpg")[:4]   # "<img"
    """
    try:
        pixels = load_image(path, _AUDITED)
    except DataError:
        return ""
    return f'<img alt="" width="{_AUDITED.width}" src="{_address(Image.fromarray(pixels), quality=80)}">'


def picture(pixels: np.ndarray) -> str:
    """Pixels `(H, W, 3)` in 0-255 as a `data:` address, at most 160 pixels wide and high."""
    image = Image.fromarray(np.clip(np.asarray(pixels), 0, 255).astype("uint8"))
    image.thumbnail((_SIDE, _SIDE))
    return _address(image, quality=85)


def overlaid(pixels: np.ndarray, class_map: np.ndarray, *, most: float) -> str:
    """An image in grey, lit where it speaks for a class.

    Args:
        pixels: `(H, W, 3)` in 0-255.
        class_map: `(rows, columns)`; only what is above zero is shown.
        most: The value that is shown brightest, positive.

    Returns:
        A `data:` address.

    Example:

        overlaid(pixels, maps[0], most=float(maps.max()))
    """
    from matplotlib import colormaps

    pixels = np.clip(np.asarray(pixels, "float32"), 0, 255)
    heat = Image.fromarray(np.maximum(class_map, 0).astype("float32") / most)
    heat = np.clip(np.asarray(heat.resize(pixels.shape[1::-1], Image.Resampling.BICUBIC)), 0, 1)[..., None]
    grey = pixels.mean(axis=-1, keepdims=True) * 0.75
    color = colormaps["inferno"](0.25 + 0.7 * heat[..., 0])[..., :3] * 255
    return picture(grey * (1 - 0.75 * heat) + color * 0.75 * heat)


def _address(image: Image.Image, *, quality: int) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
