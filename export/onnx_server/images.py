"""From an encoded image to the pixels that the model takes."""

import base64
import binascii
import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import Refused, shown

# Others that Pillow reads start programs (EPS) or are rarely meant.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

# Pixels are 0-255; sharp filters for sizing overshoot at edges, never by as much as the whole range.
_LEAST, _MOST = -255, 510

Image.MAX_IMAGE_PIXELS = None  # `ImageReader` has a limit of its own, which is an error and not a warning


class ImageReader:
    """Decodes and sizes an image as in training.

    Args:
        preprocessing: The manifest's: `height` and `width` in pixels, `mode`, `interpolation`, `antialias`.
        dtype: NumPy's name of the model's input type.
        max_pixels: The largest image to decode.

    Attributes:
        kind: `"image"`, the name of the field or input that takes image files.
        limits: From an axis of a batch to the least and the most that it may be.

    Example:
        >>> read = ImageReader(manifest["preprocessing"], "float32", max_pixels=40e6)
        >>> read(Path("rose.jpg").read_bytes())["image"].shape
        (160, 160, 3)
    """

    kind = "image"
    texts = 0

    def __init__(self, preprocessing, dtype, *, max_pixels):
        self._preprocessing = preprocessing
        self._dtype = dtype
        self._max_pixels = max_pixels
        height, width = preprocessing["height"], preprocessing["width"]
        self.limits = {1: (height, height), 2: (width, width)}

    def __call__(self, encoded):
        """Return `{"image": (height, width, 3)}` of an image file's bytes; refuses what is none."""
        try:
            image = Image.open(io.BytesIO(encoded), formats=FORMATS)
            if image.width * image.height > self._max_pixels:
                raise Refused(
                    413,
                    f"Expected an image of at most {self._max_pixels:,.0f} pixels, "
                    f"got {image.width} x {image.height}. Make it smaller.",
                )
            pixels = sized(image, **self._preprocessing, max_pixels=self._max_pixels)
        except UnidentifiedImageError as error:
            raise Refused(
                400,
                f"Expected an image file ({', '.join(FORMATS)}), got {len(encoded)} bytes of none"
                f"{', which begin with ' + shown(encoded[:8]) if encoded else ''}. Send the file as it is.",
            ) from error
        except Exception as error:  # decoders raise many kinds of errors
            if isinstance(error, Refused | MemoryError):
                raise
            raise Refused(
                400, f"Expected a whole image file, got one that fails with: {error}. Send it again."
            ) from error
        return {"image": pixels.astype(self._dtype, copy=False)}

    @staticmethod
    def of_json(value):
        """Return an image file's bytes of its base64; refuses other values."""
        try:
            return base64.b64decode(value, validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise Refused(
                400,
                f"Expected an image file in base64, got {shown(value)}: {error}. "
                "Encode the file's bytes in base64, without line breaks and without `data:`.",
            ) from error

    @staticmethod
    def of_bytes(value):
        """Return an image file's bytes, which are taken as they are."""
        return value

    @staticmethod
    def check(tensors):
        """Refuse tensors `{"image": (B, height, width, 3)}` whose values cannot be pixels."""
        for name, pixels in tensors.items():
            low, high = pixels.min(axis=(1, 2, 3)), pixels.max(axis=(1, 2, 3))
            wrong = np.flatnonzero((low < _LEAST) | (high > _MOST))
            if wrong.size:
                first = wrong[0]
                raise Refused(
                    400,
                    f"Expected pixels in 0 to 255, got {low[first]:g} to {high[first]:g}. "
                    "Send RGB values as an image file has them.",
                ).at(f"{name}[{first}]")

    @staticmethod
    def collate(rows):
        """Return the model's inputs for a batch of what `__call__` gave."""
        return {"image": np.stack([row["image"] for row in rows])}


def sized(image, height, width, mode, interpolation, antialias, max_pixels=40e6, **_):
    """Return a Pillow image as float32 `(height, width, 3)`, RGB 0-255: upright, sized as in training.

    Refuses one that has more than `max_pixels` with its bars: a thin one made square can take any memory. The
    image that is passed is changed: copies of a photo of 12 million pixels take as long as sizing it.
    """
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip
        image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    if image.mode != "RGB":
        image = image.convert("RGB")

    if interpolation == "mediapipe":
        return warped(np.asarray(image), height, width)
    fit_width = max(int(image.height * width / height), 1)
    fit_height = max(int(image.width * height / width), 1)
    if mode == "pad":
        if max(image.width, fit_width) * max(image.height, fit_height) > max_pixels:
            raise Refused(
                413,
                f"Expected an image of at most {max_pixels:,.0f} pixels with its bars, "
                f"got {image.width} x {image.height}. Cut it.",
            )
        bars = max(fit_width - image.width, 0) // 2, max(fit_height - image.height, 0) // 2
        image = ImageOps.expand(image, bars)
    left, top, right, bottom = 0, 0, image.width, image.height
    if mode == "crop":
        left, top = max(right - fit_width, 0) // 2, max(bottom - fit_height, 0) // 2
        right, bottom = left + min(right, fit_width), top + min(bottom, fit_height)
    size, box = (width, height), (left, top, right, bottom)
    resample = Image.Resampling[interpolation.upper().rstrip("3")]
    if antialias or (right - left <= width and bottom - top <= height):
        image = image.resize(size, resample, box=box)
    else:  # `resize` always averages when it makes smaller, `transform` never does
        image = image.transform(size, Image.Transform.EXTENT, box, resample)
    return np.asarray(image, dtype=np.float32)


def warped(pixels, height, width):
    """Return the pixels in another size, as MediaPipe sizes them: bilinear on a grid of 32 places a pixel."""

    def axis(size, target):
        places = np.rint(np.arange(target) * size * 32 / target).astype(int)
        return places // 32, np.minimum(places // 32 + 1, size - 1), places % 32

    (top, bottom, down), (left, right, across) = axis(len(pixels), height), axis(pixels.shape[1], width)
    across, down = across[None, :, None], down[:, None, None]
    above, below = (
        pixels[rows][:, left] * (32 - across) + pixels[rows][:, right] * across for rows in (top, bottom)
    )
    return ((above * (32 - down) + below * down + 512) // 1024).astype(np.float32)
