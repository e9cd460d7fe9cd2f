"""One image file to one array of pixels, sized as the preset's image converter sizes it."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, features

from ktransfer.data.examples import printable
from ktransfer.data.shards.address import open_example
from ktransfer.errors import DataError, RecipeError, did_you_mean

if TYPE_CHECKING:
    from ktransfer.core.typing import PathLike


# Pillow opens some fifty formats, a few through outside programs; nothing else than these is opened. A value
# is what Pillow has to be built with. MPO, of which the first image is taken, is opened by the JPEG plugin.
_READ = {
    "JPEG": ((".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo"), "jpg"),
    "PNG": ((".png", ".apng"), "zlib"),
    "BMP": ((".bmp",), None),
    "GIF": ((".gif",), None),
    "WEBP": ((".webp",), "webp"),
    "TIFF": ((".tif", ".tiff"), None),
    "JPEG2000": ((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), "jpg_2000"),
    "AVIF": ((".avif", ".avifs"), "avif"),
    "PPM": ((".ppm", ".pgm", ".pbm", ".pnm"), None),
    "ICO": ((".ico",), None),
}
# Read where the extra heic is installed. A file's first bytes say what it is, whatever its name: phones and
# messengers call HEIF files .jpg.
_HEIF = (".heic", ".heif", ".hif", ".heics")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# These formats have no signature: they are opened by their suffix only.
_BY_SUFFIX = {"TGA": (".tga", ".icb", ".vda", ".vst"), "DIB": (".dib",)}
# Formats of images, drawings and videos that are not read, so that they can be named.
_OTHERS = (
    *(".heic", ".heif", ".hif", ".heics", ".jxl", ".jxr", ".wdp", ".hdp", ".svg", ".svgz", ".psd", ".psb"),
    *(
        ".xcf",
        ".qoi",
        ".ai",
        ".eps",
        ".ps",
        ".pdf",
        ".emf",
        ".wmf",
        ".pcx",
        ".dcx",
        ".sgi",
        ".rgb",
        ".rgba",
        ".bw",
        ".ras",
    ),
    *(
        ".xbm",
        ".xpm",
        ".pfm",
        ".pam",
        ".exr",
        ".hdr",
        ".dds",
        ".icns",
        ".cur",
        ".fits",
        ".fit",
        ".dcm",
        ".dicom",
    ),
    *(
        ".nii",
        ".svs",
        ".ndpi",
        ".mrxs",
        ".czi",
        ".lif",
        ".nd2",
        ".jng",
        ".mng",
        ".flif",
        ".bpg",
        ".djvu",
        ".kra",
    ),
    *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef"),
    *(".srw", ".x3f", ".3fr", ".raw", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".npy", ".npz"),
)


def _has_heif() -> bool:
    try:
        from pi_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _supported() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`(formats, suffixes)` that the installed Pillow reads."""
    found = {
        name: suffixes for name, (suffixes, needs) in _READ.items() if needs is None or features.check(needs)
    }
    if _has_heif():
        found["HEIF"] = _HEIF
    suffixes = tuple(suffix for several in (*found.values(), *_BY_SUFFIX.values()) for suffix in several)
    return tuple(found), suffixes


_FORMATS, IMAGE_EXTENSIONS = _supported()
UNREAD_EXTENSIONS = tuple(
    suffix
    for suffix in (*(suffix for suffixes, _ in _READ.values() for suffix in suffixes), *_OTHERS)
    if suffix not in IMAGE_EXTENSIONS
)
EXTRAS = {suffix: "heic" for suffix in _HEIF if suffix not in IMAGE_EXTENSIONS}
# Modes of pixels that become RGB in one way only: not floats, whose range is not known, nor Lab.
_MODES_READ = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I")
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}
_MEDIAPIPE = "mediapipe"
_INTERPOLATIONS = (*_FILTERS, _MEDIAPIPE)
_MODES = ("crop", "pad", "stretch")
_GRID = 32  # of OpenCV's warpPerspective: places are rounded to so many a pixel
_PHOTOMETRIC = 262  # the TIFF tag that says whether 0 is black
_MOST_PIXELS = 178_956_970  # what Pillow decodes at most, unless configured otherwise
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders are known to raise on broken bytes.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    OverflowError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Resize:
    """The size a model takes, and how an image of another shape gets there.

    Args:
        height: Pixels.
        width: Pixels.
        mode: `"crop"` keeps the largest centred window of the target's shape, `"pad"` adds black bars,
            `"stretch"` distorts: keras-hub's `crop_to_aspect_ratio`, `pad_to_aspect_ratio` and neither.
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"` or `"lanczos3"`; `"mediapipe"`, as MediaPipe Tasks
            resize on a CPU, with `"stretch"` and without antialias: bilinear from the top left corner of a pixel on.
        antialias: Whether a smaller image averages the pixels it came from. Bicubic without it is Pillow's
            sharper kernel, 1.7 grey levels off keras-hub's in the mean; everything else is within 1.

    Raises:
        RecipeError: A size is not positive or a name is unknown.

    Example:
        >>> Resize(224, 224)
        Resize(height=224, width=224, mode='crop', interpolation='bilinear', antialias=True)
    """

    height: int
    width: int
    mode: str = "crop"
    interpolation: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise RecipeError(
                f"Expected an image size of at least 1 by 1 pixels, got {self.height} by {self.width}. Pass "
                "a height and a width such as 224."
            )
        for name, known in (("mode", _MODES), ("interpolation", _INTERPOLATIONS)):
            if getattr(self, name) not in known:
                raise RecipeError(
                    f"Expected {name} out of {', '.join(known)}, got {getattr(self, name)!r}. "
                    f"{did_you_mean(getattr(self, name), known)}Pass one of them."
                )
        if self.interpolation == _MEDIAPIPE and (self.mode != "stretch" or self.antialias):
            raise RecipeError(
                f"Expected mode='stretch' and antialias=False with mediapipe, got mode={self.mode!r} and "
                f"antialias={self.antialias}. Pass these."
            )
        if self.interpolation == "lanczos3" and not self.antialias:
            raise RecipeError(
                "Expected antialias with lanczos3, got antialias=False. Pass antialias=True, or bilinear."
            )


def load_image(path_or_file: PathLike | BinaryIO, resize: Resize) -> np.ndarray:
    """Decode and resize one image of a format that `IMAGE_EXTENSIONS` lists.

    The camera's orientation is applied, of an animation or of several pages the first is taken, 16-bit grey
    is scaled to 8 bits. Transparent parts come out white, the ground that cut-out pictures are made for; the
    colour stored under them is arbitrary.

    Args:
        path_or_file: A path, or a file open for binary reading that can seek.
        resize: The size to bring it to.

    Returns:
        uint8 `(height, width, 3)`, RGB.

    Raises:
        DataError: It cannot be read or decoded; the message names it and says why.

    Example:
        >>> load_image("rose.jpg", Resize(224, 224)).shape  # doctest: +SKIP
        (224, 224, 3)
    """
    return np.asarray(_resized(_read(path_or_file), resize))


def read_pixels(path_or_file: PathLike | BinaryIO) -> np.ndarray:
    """Decode an image as `load_image` does, and leave it as large as it is: uint8 `(H, W, 3)`.

    Raises:
        DataError: As `load_image` does.

    Example:
        >>> read_pixels("rose.jpg").shape  # doctest: +SKIP
        (480, 640, 3)
    """
    return np.asarray(_read(path_or_file))


def resize_pixels(pixels: np.ndarray, resize: Resize) -> np.ndarray:
    """Resize what `read_pixels` gave: uint8 `(height, width, 3)`.

    Example:
        >>> resize_pixels(np.zeros((480, 640, 3), np.uint8), Resize(160, 160)).shape
        (160, 160, 3)
    """
    return np.asarray(_resized(Image.fromarray(pixels), resize))


def _read(path_or_file: PathLike | BinaryIO) -> Image.Image:
    try:
        return _rgb(_decoded(path_or_file))
    except _BROKEN as error:
        is_path = isinstance(path_or_file, str | os.PathLike)
        name = str(path_or_file if is_path else getattr(path_or_file, "name", "The image"))
        raise DataError(
            f"Expected an image, got {printable(name)}, which cannot be decoded "
            f"({_reason(path_or_file, error)}). Remove it, or name another."
        ) from error


def load_images(paths: Iterable[PathLike | BinaryIO], resize: Resize) -> np.ndarray:
    """Load several images as a batch for a model: float32 `(N, height, width, 3)`, RGB 0-255.

    Example:
        >>> load_images(["rose.jpg"], Resize(160, 160)).shape  # doctest: +SKIP
        (1, 160, 160, 3)
    """
    return np.stack([load_image(path, resize) for path in paths]).astype("float32")


def unreadable_reason(path: str | os.PathLike[str]) -> str | None:
    """Decode `path` in full and say in a few words why that fails, or return None.

    Example:
        >>> unreadable_reason("notes.jpg")  # doctest: +SKIP
        'not an image: it starts with text'
    """
    try:
        _decoded(path)
    except _BROKEN as error:
        return _reason(path, error)
    return None


def _decoded(path_or_file: PathLike | BinaryIO) -> Image.Image:
    """The image, decoded and upright."""
    path_or_file = open_example(path_or_file)
    with Image.open(path_or_file, formats=formats_for(path_or_file)) as image:
        orientation = _orientation(image)
        image.load()
        if image.format == "TIFF":
            # Pillow turns TIFF images itself while it loads them, and then drops the tag.
            orientation = _orientation(image)
        _require_range(image)
        return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def formats_for(path_or_file: PathLike | BinaryIO) -> tuple[str, ...]:
    """The formats, as Pillow names them, that a file may be opened as.

    Example:
        >>> "TGA" in formats_for("a.tga"), "TGA" in formats_for("a.jpg")
        (True, False)
    """
    if not isinstance(path_or_file, str | os.PathLike):
        return _FORMATS
    name = os.fspath(path_or_file).lower()
    return (*_FORMATS, *(format for format, suffixes in _BY_SUFFIX.items() if name.endswith(suffixes)))


def _require_range(image: Image.Image) -> None:
    """Raise `ValueError` for pixels that become 8-bit RGB in no agreed way."""
    grey16 = image.mode.startswith("I;16")
    if image.mode not in _MODES_READ and not grey16:
        raise ValueError(f"pixels of mode {image.mode}; convert it to 8-bit RGB")
    if image.mode == "I":
        low, high = cast("tuple[int, int]", image.getextrema())
        if low < 0 or high > 65535:
            raise ValueError(f"grey levels from {low} to {high}; convert it to 8 or 16 bits")
    inverted = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0
    if (grey16 or image.mode == "I") and inverted:
        raise ValueError("16-bit grey whose 0 is white; convert it to 8 bits")


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except _BROKEN:
        # Broken metadata is common and the pixels are good.
        return None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow's own conversion does not scale; 65535 / 257 is 255.
        grey = np.clip(np.asarray(image, dtype=np.float32) / 257, 0, 255)
        image = Image.fromarray(grey.round().astype(np.uint8))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return image.convert("RGB")


def as_mediapipe(resize: Resize) -> Resize:
    """The same size, reached as MediaPipe Tasks reach it.

    Example:
        >>> as_mediapipe(Resize(224, 224)).interpolation
        'mediapipe'
    """
    return Resize(resize.height, resize.width, "stretch", _MEDIAPIPE, False)


def _warped(pixels: np.ndarray, resize: Resize) -> np.ndarray:
    """Pixels uint8 `(H, W, 3)` in another size as MediaPipe's `ImageToTensorCalculator` has OpenCV warp them.

    Exact but where a place falls halfway between two of the grid, which takes a side that is a multiple of 64.
    """

    def axis(size: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        places = np.rint(np.arange(target) * size * _GRID / target).astype(np.int64)
        first = places // _GRID
        return first, np.minimum(first + 1, size - 1), places % _GRID

    (top, bottom, down), (left, right, across) = (
        axis(size, target) for size, target in zip(pixels.shape, (resize.height, resize.width), strict=False)
    )
    across, down = across[None, :, None], down[:, None, None]

    def row(rows: np.ndarray) -> np.ndarray:
        lines = pixels[rows].astype(np.int64)
        return lines[:, left] * (_GRID - across) + lines[:, right] * across

    levels = row(top) * (_GRID - down) + row(bottom) * down
    return ((levels + _GRID**2 // 2) // _GRID**2).astype(np.uint8)


def _resized(image: Image.Image, resize: Resize) -> Image.Image:
    if resize.interpolation == _MEDIAPIPE:
        return Image.fromarray(_warped(np.asarray(image), resize))
    target, resample = (resize.width, resize.height), _FILTERS[resize.interpolation]
    width, height = image.size
    # What has the target's shape, rounded down as keras.layers.Resizing does.
    fit_width = max(int(height * resize.width / resize.height), 1)
    fit_height = max(int(width * resize.height / resize.width), 1)
    if resize.mode == "pad":
        if max(width, fit_width) * max(height, fit_height) > _MOST_PIXELS:
            raise DataError(  # the bars of 1 x 60,000 pixels made square take 10 GB
                f"Expected an image whose black bars leave it within {_MOST_PIXELS // 10**6} million pixels, "
                f"got {width} x {height} pixels. Remove it, or cut it."
            )
        image = ImageOps.expand(image, (max(fit_width - width, 0) // 2, max(fit_height - height, 0) // 2))
        width, height = image.size
    left, top = 0, 0
    if resize.mode == "crop":
        left, top = max(width - fit_width, 0) // 2, max(height - fit_height, 0) // 2
        width, height = min(width, fit_width), min(height, fit_height)
    box = (left, top, left + width, top + height)
    if resize.antialias or (width <= resize.width and height <= resize.height):
        return image.resize(target, resample, box=box)
    # Pillow's `resize` always averages when it makes smaller; its `transform` never does.
    return image.transform(target, Image.Transform.EXTENT, box, resample)


def _reason(path_or_file: PathLike | BinaryIO, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    size, start = _size_and_start(path_or_file)
    if not size:
        return "empty file"
    if isinstance(error, UnidentifiedImageError):
        if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS and EXTRAS:
            return 'a HEIF image; convert it to JPEG or PNG, or run `pip install "ktransfer[heic]"`'
        text = all(byte >= 0x20 or byte in b"\t\n\r" for byte in start)
        return (
            "not an image: it starts with text"
            if text
            else f"not a {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} image"
        )
    if "truncated" in str(error).lower():
        return f"truncated at {f'{size / 1024:.0f} KiB' if size >= 1024 else f'{size} bytes'}"
    return f"broken: {error}"


def _size_and_start(path_or_file: PathLike | BinaryIO) -> tuple[int, bytes]:
    path_or_file = open_example(path_or_file)
    if isinstance(path_or_file, str | os.PathLike):
        with open(path_or_file, "rb") as file:
            return os.fstat(file.fileno()).st_size, file.read(512)
    size = path_or_file.seek(0, os.SEEK_END)
    path_or_file.seek(0)
    return size, path_or_file.read(512)
