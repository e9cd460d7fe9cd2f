"""Small image files of every variant that people have, to prove that a graph reads each as the run does."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
# First column, first row and the steps between pixels of each pass: PNG, third edition, section 8.1.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def image_variants(width: int, height: int) -> Iterator[tuple[str, bytes]]:
    """Yield small image files of JPEG, PNG, GIF, BMP and WebP in their variants.

    All show the same picture, of smooth colours that differ at every corner; each variant by its modes,
    depths, palettes, transparency, orientation, interlacing and animation.

    Args:
        width, height: Pixels.

    Yields:
        A name such as `"PNG palette of 4 bits, transparent, interlaced"`, and the bytes of the file.

    Example:
        >>> [name for name, _ in image_variants(32, 24)][0]
        'JPEG RGB 4:4:4'
    """
    picture = _picture(width, height)
    yield from _jpegs(picture)
    yield from _pngs(np.asarray(picture))
    yield from _gifs(picture)
    yield from _bmps(np.asarray(picture))
    yield from _webps(picture)


def exif_of(orientation: int, big: bool = False) -> bytes:
    """Return EXIF of an orientation, with an entry before it.

    Example:
        >>> exif_of(6)[:8]
        b'Exif\\x00\\x00II'
    """
    exif = Image.Exif()
    exif.endian = ">" if big else "<"
    exif[0x010F] = "a maker"
    exif[0x0112] = orientation
    return exif.tobytes()


def _picture(width: int, height: int) -> Image.Image:
    """RGBA, smooth so that JPEG keeps it."""
    y, x = np.mgrid[:height, :width].astype("float32")
    channels = [
        255 * x / width,
        255 * y / height,
        127 * (1 + np.sin(8 * x / width) * np.cos(6 * y / height)),
        np.clip(400 * (x + y) / (width + height) - 70, 0, 255),
    ]
    return Image.fromarray(np.stack(channels, -1).round().astype("uint8"))


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _jpegs(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    rgb = picture.convert("RGB")
    for name, subsampling in (("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)):
        yield f"JPEG RGB {name}", _saved(rgb, "JPEG", subsampling=subsampling)
    yield "JPEG RGB progressive", _saved(rgb, "JPEG", progressive=True)
    yield "JPEG RGB of low quality", _saved(rgb, "JPEG", quality=10)
    yield "JPEG RGB with restart markers", _saved(rgb, "JPEG", restart_marker_blocks=2)
    yield "JPEG RGB without transform", _saved(rgb, "JPEG", keep_rgb=True)
    yield "JPEG RGB with ICC profile", _saved(rgb, "JPEG", icc_profile=b"a profile" * 9000)
    yield "JPEG grey", _saved(rgb.convert("L"), "JPEG")
    cmyk = _saved(rgb.convert("CMYK"), "JPEG")
    yield "JPEG CMYK", cmyk
    marker = cmyk.index(b"\xff\xee")
    length = 2 + int.from_bytes(cmyk[marker + 2 : marker + 4], "big")
    yield "JPEG CMYK without Adobe marker", cmyk[:marker] + cmyk[marker + length :]
    yield "JPEG YCCK", cmyk[: marker + length - 1] + b"\x02" + cmyk[marker + length :]
    for orientation in range(1, 9):
        exif = exif_of(orientation, big=orientation % 2 == 0)
        yield f"JPEG EXIF orientation {orientation}", _saved(rgb, "JPEG", exif=exif)
    plain = _saved(rgb, "JPEG")
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + _XMP % 6
    xmp = b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp
    yield "JPEG XMP orientation 6", plain[:2] + xmp + plain[2:]
    second = _saved(rgb.rotate(180), "JPEG")
    yield "JPEG MPO", _saved(rgb, "MPO", save_all=True, append_images=[Image.open(io.BytesIO(second))])


def _pngs(picture: Array) -> Iterator[tuple[str, bytes]]:
    rgb = picture[..., :3]
    grey = np.asarray(Image.fromarray(rgb).convert("L"))[..., None]
    deep = (rgb.astype("uint16") << 8) | rgb[::-1]
    deep_grey = (grey.astype("uint16") << 8) | grey[::-1]
    alpha, deep_alpha = picture[..., 3:], (picture[..., 3:].astype("uint16") << 8) | grey
    # Few enough colours to stand in a palette of each depth.
    steps = rgb.astype("int64") // 86
    numbers = steps[..., :1] + 3 * steps[..., 1:2] + 9 * steps[..., 2:]
    generator = np.random.default_rng(0)
    middle = tuple(place // 2 for place in grey.shape[:2])
    for interlaced in (False, True):
        for bits in (1, 2, 4, 8, 16):
            samples = deep_grey if bits == 16 else grey >> (8 - bits)
            key = struct.pack(">H", int(samples[middle][0]))
            for transparency, name in ((b"", ""), (key, ", transparent")):
                yield (
                    f"PNG grey of {bits} bits{name}{_also(interlaced)}",
                    png_of(samples, _GREY, bits, interlaced, transparency=transparency),
                )
        for bits, samples in ((8, rgb), (16, deep)):
            key = struct.pack(">3H", *(int(value) for value in samples[middle]))
            for transparency, name in ((b"", ""), (key, ", transparent")):
                yield (
                    f"PNG RGB of {bits} bits{name}{_also(interlaced)}",
                    png_of(samples, _RGB, bits, interlaced, transparency=transparency),
                )
        for bits in (1, 2, 4, 8):
            count = min(2**bits, 27)
            palette = generator.integers(0, 256, 3 * count, np.uint8).tobytes()
            indices = numbers % count
            opacities = generator.integers(0, 256, count, np.uint8).tobytes()
            for transparency, name in (
                (b"", ""),
                (b"\xff\x00", ", one entry transparent"),
                (opacities, ", half transparent"),
            ):
                yield (
                    f"PNG palette of {bits} bits{name}{_also(interlaced)}",
                    png_of(indices, _PALETTE, bits, interlaced, palette, transparency),
                )
        for bits, colours, opacity in ((8, (grey, rgb), alpha), (16, (deep_grey, deep), deep_alpha)):
            for name, colour, samples in zip(
                ("grey and alpha", "RGBA"), (_GREY_ALPHA, _RGBA), colours, strict=True
            ):
                yield (
                    f"PNG {name} of {bits} bits{_also(interlaced)}",
                    png_of(np.concatenate([samples, opacity], -1), colour, bits, interlaced),
                )
    for orientation in range(1, 9):
        exif = exif_of(orientation, big=orientation % 2 == 0)[6:]
        yield f"PNG EXIF orientation {orientation}", png_of(rgb, _RGB, 8, before=[(b"eXIf", exif)])
    yield "PNG EXIF after the pixels", png_of(rgb, _RGB, 8, after=[(b"eXIf", exif_of(6)[6:])])
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0" + _XMP % 8
    yield "PNG XMP orientation 8", png_of(rgb, _RGB, 8, before=[(b"iTXt", xmp)])
    profile = b"a profile\0\0" + zlib.compress(b"of colours")
    about_colours = [(b"gAMA", struct.pack(">I", 100000)), (b"iCCP", profile), (b"sBIT", b"\5\6\5")]
    yield "PNG gamma and ICC profile", png_of(rgb, _RGB, 8, before=about_colours)
    frames = [Image.fromarray(rgb), Image.fromarray(rgb[::-1].copy())]
    yield "PNG animated", _saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    frames = [Image.fromarray(picture), Image.fromarray(picture[::-1].copy())]
    animated = {"save_all": True, "append_images": frames[1:], "disposal": 2}
    yield "PNG animated, RGBA", _saved(frames[0], "PNG", **animated)
    yield "PNG animated, with a picture of its own", _saved(frames[0], "PNG", default_image=True, **animated)


def _also(interlaced: bool) -> str:
    return ", interlaced" if interlaced else ""


def png_of(
    samples: Array,
    colour: int,
    bits: int,
    interlaced: bool = False,
    palette: bytes = b"",
    transparency: bytes = b"",
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """Return a PNG file of samples as they are, which Pillow cannot write in all depths.

    Args:
        samples: `(height, width, channels)`, whole numbers below 2 to the power of `bits`.
        colour: The colour type, 0 (grey), 2 (RGB), 3 (palette), 4 (grey and alpha) or 6 (RGBA).
        bits: Of a sample: 1, 2, 4, 8 or 16.
        interlaced: Whether the pixels are in seven passes. Defaults to `False`.
        palette, transparency: Contents of the chunks PLTE and tRNS; left out where empty, as by default.
        before, after: Further chunks before and after the pixels, `(name, contents)`.

    Example:
        >>> png_of(np.zeros((2, 2, 1), int), 0, 1)[1:4]
        b'PNG'
    """
    height, width, _ = np.shape(samples)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(
        b"\0" + _packed(row, bits)
        for left, top, across, down in passes
        for row in np.asarray(samples)[top::down, left::across]
        if len(row)
    )
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)),
        *before,
        *([(b"PLTE", palette)] if palette else []),
        *([(b"tRNS", transparency)] if transparency else []),
        (b"IDAT", zlib.compress(rows)),
        *after,
        (b"IEND", b""),
    ]
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(contents)) + name + contents + struct.pack(">I", zlib.crc32(name + contents))
        for name, contents in chunks
    )


def _packed(row: Array, bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    if bits == 8:
        return row.astype("uint8").tobytes()
    digits = (row.reshape(-1, 1).astype("int64") >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.astype("uint8").ravel()).tobytes()


def _gifs(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    rgb = picture.convert("RGB")
    palette = rgb.quantize(40, dither=Image.Dither.NONE)
    other = rgb.rotate(180).quantize(20, dither=Image.Dither.NONE)
    index = cast("int", palette.getpixel((picture.width // 2, picture.height // 2)))
    yield "GIF", _saved(palette, "GIF", interlace=0)
    yield "GIF interlaced", _saved(palette, "GIF", interlace=1)
    yield "GIF grey", _saved(rgb.convert("L"), "GIF")
    yield "GIF transparent", _saved(palette, "GIF", transparency=index, optimize=False)
    two = {"save_all": True, "append_images": [other]}
    yield "GIF animated", _saved(palette, "GIF", **two)
    yield (
        "GIF animated, transparent",
        _saved(palette, "GIF", transparency=index, disposal=2, optimize=False, **two),
    )
    plain = _saved(palette, "GIF", optimize=False)
    table = 3 << ((plain[10] & 7) + 1)
    screen = struct.pack("<HH", picture.width + 7, picture.height + 5)
    image = plain.index(b"\x2c", 13 + table)
    moved = struct.pack("<HH", 3, 2)
    partial = plain[:6] + screen + plain[10 : image + 1] + moved + plain[image + 5 :]
    yield "GIF of a frame smaller than its screen", partial
    control = b"!\xf9\x04\x01\0\0" + bytes([index]) + b"\0"
    start = 13 + table
    yield "GIF of a transparent frame smaller than its screen", partial[:start] + control + partial[start:]
    local = bytes([plain[image + 9] | 0x80 | (plain[10] & 7)])
    yield (
        "GIF with a palette of its frame",
        plain[:10]
        + b"\0"
        + plain[11:13]
        + plain[start : image + 9]
        + local
        + plain[13:start]
        + plain[image + 10 :],
    )
    yield (
        "GIF with two palettes",
        plain[:13]
        + plain[13:start][::-1]
        + plain[start : image + 9]
        + local
        + plain[13:start]
        + plain[image + 10 :],
    )


def bmp_of(
    pixels: Array,
    bits: int,
    *,
    palette: bytes = b"",
    compression: int = 0,
    masks: bytes = b"",
    header: int = 40,
    top_down: bool = False,
) -> bytes:
    """Return a BMP file of rows of bytes as they are.

    Args:
        pixels: Whole numbers `(height, width)`, each of `bits` bits.
        bits: Of a pixel: 1, 4, 8, 16, 24 or 32.
        palette: Its entries, blue, green and red each, and zero but for a header of 12 bytes.
        compression: 0 for none, 3 for bit fields. Defaults to 0.
        masks: Of bit fields, four bytes each.
        header: Bytes of the header: 12 (OS/2), 40, 52, 56, 64, 108 or 124. Defaults to 40.
        top_down: Whether the uppermost row comes first. Defaults to `False`.

    Example:
        >>> bmp_of(np.zeros((2, 2), int), 24)[:2]
        b'BM'
    """
    height, width = np.shape(pixels)
    rows = []
    for row in pixels if top_down else pixels[::-1]:
        if bits < 8:
            packed = _packed(np.asarray(row)[:, None], bits)
        else:
            packed = np.asarray(row).astype("<u4").view("uint8").reshape(-1, 4)[:, : bits // 8].tobytes()
        rows.append(packed + bytes(-len(packed) % 4))
    body = b"".join(rows)
    if header == 12:
        fields = struct.pack("<HHHH", width, height, 1, bits)
    else:
        colours = len(palette) // 4
        fields = struct.pack(
            "<iiHHIIiiII",
            width,
            -height if top_down else height,
            1,
            bits,
            compression,
            len(body),
            0,
            0,
            colours,
            0,
        )
        inside = masks if header > 40 else b""
        fields += inside + bytes(header - 4 - len(fields) - len(inside))
    outside = masks if header == 40 else b""
    start = 14 + header + len(outside) + len(palette)
    begin = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start)
    return begin + struct.pack("<I", header) + fields + outside + palette + body


def _bmps(picture: Array) -> Iterator[tuple[str, bytes]]:
    red, green, blue, opacity = np.moveaxis(picture.astype("int64"), -1, 0)
    steps = (red // 86) + 3 * (green // 86) + 9 * (blue // 86)
    colours = np.random.default_rng(1).integers(0, 256, (27, 3), np.uint8)
    for bits in (1, 4, 8):
        count = min(2**bits, 27)
        four = b"".join(bytes([*colour, 0]) for colour in colours[:count])
        yield f"BMP palette of {bits} bits", bmp_of(steps % count, bits, palette=four)
        three = b"".join(bytes(colour) for colour in np.resize(colours, (2**bits, 3)))
        yield f"BMP palette of {bits} bits, OS/2", bmp_of(steps % count, bits, palette=three, header=12)
    greys = b"".join(bytes([value, value, value, 0]) for value in range(256))
    yield "BMP grey", bmp_of(green, 8, palette=greys)
    yield "BMP black and white", bmp_of(green >> 7, 1, palette=b"\0\0\0\0\xff\xff\xff\0")
    full = (red << 16) | (green << 8) | blue
    yield "BMP 24 bits", bmp_of(full, 24)
    yield "BMP 24 bits, top row first", bmp_of(full, 24, top_down=True)
    yield "BMP 24 bits, OS/2", bmp_of(full, 24, header=12)
    yield "BMP 24 bits, header of 124 bytes", bmp_of(full, 24, header=124)
    yield "BMP 32 bits", bmp_of((opacity << 24) | full, 32)
    fives = ((red >> 3) << 10) | ((green >> 3) << 5) | (blue >> 3)
    sixes = ((red >> 3) << 11) | ((green >> 2) << 5) | (blue >> 3)
    yield "BMP 16 bits", bmp_of(fives, 16)
    for name, pixels, masks in (("565", sixes, (0xF800, 0x7E0, 0x1F)), ("555", fives, (0x7C00, 0x3E0, 0x1F))):
        yield (
            f"BMP 16 bits, fields {name}",
            bmp_of(pixels, 16, compression=3, masks=struct.pack("<3I", *masks)),
        )
    fields = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    yield "BMP RGBA", bmp_of((opacity << 24) | full, 32, compression=3, masks=fields, header=124)
    fields = struct.pack("<4I", 0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    pixels = (opacity << 24) | (blue << 16) | (green << 8) | red
    yield "BMP RGBA, red first", bmp_of(pixels, 32, compression=3, masks=fields, header=56)
    fields = struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF)
    yield "BMP 32 bits, fields", bmp_of(full, 32, compression=3, masks=fields)


def _webps(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    rgb = picture.convert("RGB")
    for name, image in (("RGB", rgb), ("RGBA", picture)):
        for kind, lossless in (("lossy", False), ("lossless", True)):
            yield f"WebP {name}, {kind}", _saved(image, "WEBP", lossless=lossless)
            animated = {"save_all": True, "append_images": [image.rotate(180)], "lossless": lossless}
            yield f"WebP {name}, {kind}, animated", _saved(image, "WEBP", **animated)
    for orientation in range(1, 9):
        exif = exif_of(orientation, big=orientation % 2 == 0)
        yield f"WebP EXIF orientation {orientation}", _saved(rgb, "WEBP", exif=exif)
    yield "WebP XMP orientation 3", _saved(rgb, "WEBP", xmp=_XMP % 3)
    yield (
        "WebP RGBA with ICC profile and EXIF",
        _saved(picture, "WEBP", icc_profile=b"a profile", exif=exif_of(5)),
    )
