"""Formats and modes of image files: read as they are, or named."""

import base64
import struct
import sys

import numpy as np
import pytest
from images import class_folders, draw
from PIL import ExifTags, Image, ImageOps, features

from ktransfer.errors import DataError
from ktransfer.image import decoding as images
from ktransfer.image.decoding import IMAGE_EXTENSIONS, UNREAD_EXTENSIONS, read_pixels, unreadable_reason
from ktransfer.image.sources import read_data

# What Pillow writes for each suffix, and how many grey levels it may be off.
WRITTEN = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp"), ("JPEG", 16)),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF", 0)),
    **dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), ("JPEG2000", 0)),
    **dict.fromkeys((".avif", ".avifs"), ("AVIF", 16)),
    **dict.fromkeys((".ppm", ".pnm", ".pgm", ".pbm"), ("PPM", 0)),
    **dict.fromkeys((".tga", ".icb", ".vda", ".vst"), ("TGA", 0)),
    ".mpo": ("MPO", 16),
    ".png": ("PNG", 0),
    ".apng": ("PNG", 0),
    ".bmp": ("BMP", 0),
    ".dib": ("DIB", 0),
    ".gif": ("GIF", 16),
    ".webp": ("WEBP", 24),
    ".ico": ("ICO", 0),
}


# 48 x 32 pixels, green with a red square at the top on the left, as pillow-heif wrote it.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWl4AAAAAG1pZjFoZWl4bWlhZgAAAX5tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABogABAAAAAAAAADQAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA/mlwcnAAAADeaXBjbwAAAHdodmNDAQQIAAAAnjgAAAAAHvAA/P/4+AAADwNgAAEAF0ABDAH//wQIAAADAJ44AAAD"
    "AAAeugJAYQABACpCAQEECAAAAwCeOAAAAwAAHpAEECCy3VyU1zcBDQYEAAADAGQAAAMABCBiAAEACEQBwXMYMAiQAAAAE2NvbHJu"
    "Y2x4AAEADQAGgAAAABRpc3BlAAAAAAAAAEAAAABAAAAAKGNsYXAAAAAwAAAAAQAAACAAAAAB////8AAAAAL////gAAAAAgAAABBw"
    "aXhpAAAAAAMICAgAAAAYaXBtYQAAAAAAAAABAAEFgQIDBYQAAAA8bWRhdAAAADAoAa8J4CE5NB//7JHP/7lp2X6fX7wttNNd2Qf/"
    "+avG9f8cRAb2Jf+ubPu5zt4AmB8="
)


def picture():
    y, x = np.mgrid[:32, :32]
    return Image.fromarray(np.stack([x * 7, y * 7, (x + y) * 4], -1).astype("uint8"))


@pytest.mark.parametrize("suffix", sorted({*IMAGE_EXTENSIONS} - {".heic", ".heif", ".hif", ".heics"}))
def test_every_suffix_that_is_listed_is_read_in_any_case(suffix, tmp_path):
    format, most = WRITTEN[suffix]
    for name in (f"a{suffix}", f"b{suffix.upper()}"):
        picture().save(tmp_path / name, format)
        difference = read_pixels(tmp_path / name).astype(int) - np.asarray(picture()).astype(int)
        assert np.abs(difference).max() <= most
        assert unreadable_reason(tmp_path / name) is None


def test_a_suffix_is_either_read_or_named():
    assert not set(IMAGE_EXTENSIONS) & set(UNREAD_EXTENSIONS)
    known = {*IMAGE_EXTENSIONS, *UNREAD_EXTENSIONS}
    assert known >= {
        ".jfif",
        ".tiff",
        ".heic",
        ".avif",
        ".jp2",
        ".svg",
        ".psd",
        ".cr2",
        ".dng",
        ".mp4",
        ".jxl",
    }
    assert (".avif" in IMAGE_EXTENSIONS) == features.check("avif")


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_tiff_of_every_mode_is_read(mode, compression, tmp_path):
    if compression == "jpeg" and mode not in ("L", "RGB"):
        pytest.skip("not written so")
    image = picture().convert(mode)
    image.save(tmp_path / "a.tif", compression=compression)
    found = read_pixels(tmp_path / "a.tif").astype(int)
    assert np.abs(found - np.asarray(image.convert("RGB"))).max() <= (16 if compression == "jpeg" else 1)


def tiff(levels, *, white_is_zero=False, kind=1):
    """An uncompressed TIFF of levels `(H, W)` or `(H, W, 3)`; `kind`: 1 unsigned, 2 signed, 3 float."""
    height, width, *channels = levels.shape
    samples, bits = (channels or [1])[0], levels.dtype.itemsize * 8
    photometric = 2 if samples == 3 else 1 - white_is_zero
    names = (256, 257, 258, 259, 262, 273, 277, 278, 279, 339)
    after = 8 + 2 + 12 * len(names) + 4
    extra = struct.pack(f"<{samples}H", *[bits] * samples) + struct.pack(f"<{samples}H", *[kind] * samples)
    places = (bits, kind) if samples == 1 else (after, after + 2 * samples)
    values = (
        width,
        height,
        places[0],
        1,
        photometric,
        after + len(extra),
        samples,
        height,
        levels.nbytes,
        places[1],
    )
    entries = b""
    for name, value in zip(names, values, strict=True):
        many = samples if name in (258, 339) else 1
        entries += struct.pack("<HHII", name, 3 if many > 1 or name in (258, 339) else 4, many, value)
    header = struct.pack("<2sHIH", b"II", 42, 8, len(names))
    return header + entries + struct.pack("<I", 0) + extra + levels.tobytes()


def test_sixteen_bit_tiff_is_scaled_to_eight_bits(tmp_path):
    for levels in (np.asarray(picture()), np.asarray(picture())[..., 0]):
        (tmp_path / "a.tif").write_bytes(tiff(levels.astype("<u2") * 257))
        expected = levels if levels.ndim == 3 else np.stack([levels] * 3, -1)
        assert np.array_equal(read_pixels(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(np.zeros((4, 4), "<f4"), kind=3), "pixels of mode F"),
        (tiff(np.full((4, 4), 70_000, "<u4")), "grey levels from 70000 to 70000"),
        (tiff(np.full((4, 4), -5, "<i2"), kind=2), "grey levels from -5 to -5"),
        (tiff(np.zeros((4, 4), "<u2"), white_is_zero=True), "whose 0 is white"),
    ],
)
def test_pixels_with_no_agreed_range_are_refused(content, reason, tmp_path):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_pixels(tmp_path / "a.tif")
    assert reason in unreadable_reason(tmp_path / "a.tif")


def test_lab_is_refused_when_images_are_checked(tmp_path):
    picture().convert("LAB").save(tmp_path / "a.tif")
    assert "pixels of mode LAB" in unreadable_reason(tmp_path / "a.tif")


def test_of_several_pages_the_first_is_taken(tmp_path):
    other = Image.new("RGB", (32, 32), "red")
    picture().save(tmp_path / "a.tif", save_all=True, append_images=[other])
    assert np.array_equal(read_pixels(tmp_path / "a.tif"), np.asarray(picture()))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".avif", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_of_every_format_are_turned_once(suffix, orientation, tmp_path):
    if suffix not in IMAGE_EXTENSIONS:
        pytest.skip("not read by this Pillow")
    image = picture().crop((0, 0, 24, 16))
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    image.save(tmp_path / f"a{suffix}", exif=exif, quality=95)
    found = read_pixels(tmp_path / f"a{suffix}")
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 24


@pytest.mark.parametrize("format", ["EPS", "PCX", "SGI", "XBM", "PDF"])
def test_other_formats_that_pillow_knows_are_not_opened(format, tmp_path):
    picture().convert("1" if format == "XBM" else "L").save(tmp_path / "a.jpg", format)
    assert unreadable_reason(tmp_path / "a.jpg")


def test_a_format_without_a_signature_is_opened_by_its_suffix_only(tmp_path):
    picture().save(tmp_path / "a.tga")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.tga").read_bytes())
    assert unreadable_reason(tmp_path / "a.jpg").startswith("not a JPEG, PNG, BMP")


def test_heic_is_named_where_no_reader_is_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    formats, suffixes = images._supported()
    assert "HEIF" not in formats
    assert ".heic" not in suffixes


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.jpg"])
def test_heic_is_read_or_names_the_extra_that_reads_it(tmp_path, name):
    (tmp_path / name).write_bytes(HEIC)
    if ".heic" in IMAGE_EXTENSIONS:
        pixels = read_pixels(tmp_path / name)
        assert pixels.shape == (32, 48, 3)
        assert np.abs(pixels[[4, 4, 28], [4, 44, 4]] - [[220, 30, 30], *[[0, 150, 60]] * 2]).max() <= 8
        return
    with pytest.raises(DataError, match=r'a HEIF image; .* run `pip install "ktransfer\[heic\]"`'):
        read_pixels(tmp_path / name)


def test_images_that_are_read_and_not_read_are_counted(tmp_path):
    class_folders(tmp_path, {"a": 1, "b": 1})
    draw(tmp_path / "a" / "1.jfif", format="JPEG")
    draw(tmp_path / "b" / "1.TIFF", format="TIFF")
    for name in ("1.svg", "2.CR2", "3.psd"):
        (tmp_path / "b" / name).touch()
    splits = read_data(tmp_path)
    assert splits.train.counts() == {"a": 2, "b": 2}
    [note] = splits.notes
    assert note.startswith("not used: 3 files (b/1.svg, b/2.CR2, b/3.psd) in formats that are not read")
