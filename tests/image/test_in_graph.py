"""What a graph makes of image files, held against what Pillow makes of them."""

import functools
import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ktransfer.errors import ExportError
from ktransfer.image.decoding import Resize, load_image, read_pixels, resize_pixels
from ktransfer.image.file_parity import graph_refusal
from ktransfer.image.file_variants import bmp_of, image_variants, png_of
from ktransfer.image.in_graph.decoders import decoded
from ktransfer.image.in_graph.preprocessing import pixels_of_files, resized


def photograph(width=61, height=43, mode="RGB"):
    """Smooth, so that JPEG keeps it, and different at every turn."""
    y, x = np.mgrid[:height, :width].astype("float32")
    channels = [255 * x / width, 255 * y / height, 127 * (1 + np.sin(x / 5) * np.cos(y / 7))]
    if mode == "RGBA":
        channels.append(255 * (x + y) / (width + height))
    return Image.fromarray(np.stack(channels, -1).round().astype("uint8"), mode)


def file_of(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@functools.cache
def reader():
    spec = [tf.TensorSpec([], tf.string)]
    return tf.function(
        lambda content: decoded(content, tf.constant(0)), input_signature=spec, autograph=False
    )


def read(content):
    """The pixels of a file as the graph has them, in its own size."""
    return reader()(tf.constant(content)).numpy()


def both(contents, resize, *, exact=True):
    """The pixels of files as the graph has them, and as Pillow does."""
    in_graph = [resized(read(each)[None], resize, exact=exact)[0] for each in contents]
    return np.stack(in_graph), np.stack(
        [load_image(io.BytesIO(each), resize) for each in contents], dtype="f4"
    )


@pytest.mark.spread
@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos3"])
def test_pixels_of_any_size_come_out_as_pillows(mode, interpolation):
    sizes = [(61, 43), (30, 90), (15, 25), (9, 7)]
    contents = [file_of(photograph(*size), "PNG") for size in sizes]
    in_graph, pillows = both(contents, Resize(16, 24, mode, interpolation), exact=False)
    # At a tie Pillow's fixed point may round the other way, in either pass, and enlarging makes many.
    assert np.abs(in_graph - pillows).max() <= 2
    assert (in_graph != pillows).mean() < 0.05


def test_without_antialias_pixels_are_left_out_as_pillow_does():
    resize = Resize(16, 24, "stretch", "bilinear", antialias=False)
    in_graph, pillows = both([file_of(photograph(), "PNG")], resize)
    assert np.abs(in_graph - pillows).max() <= 1


def test_bicubic_without_antialias_is_refused():
    with pytest.raises(ExportError, match="bicubic without antialias"):
        resized(tf.zeros((1, 8, 8, 3)), Resize(4, 4, "crop", "bicubic", antialias=False))


def test_pixels_of_the_models_own_size_are_not_changed():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3)).astype("float32")
    for interpolation in ("nearest", "bilinear", "bicubic", "lanczos3"):
        np.testing.assert_array_equal(resized(pixels, Resize(16, 24, "crop", interpolation)), pixels)


@pytest.mark.spread
@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
@pytest.mark.parametrize(
    ("interpolation", "antialias"),
    [("nearest", True), ("bilinear", True), ("bilinear", False), ("bicubic", True), ("lanczos3", True)],
)
def test_an_exact_resize_is_that_of_pillow_to_the_bit(mode, interpolation, antialias):
    resize = Resize(16, 24, mode, interpolation, antialias)
    spec = [tf.TensorSpec((1, None, None, 3), tf.float32)]
    in_graph = tf.function(
        lambda pixels: resized(pixels, resize, exact=True), input_signature=spec, autograph=False
    )
    generator = np.random.default_rng(0)
    for width, height in [(61, 43), (30, 90), (15, 25), (9, 7), (23, 17), (200, 16), (24, 99), (1, 50)]:
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        delta = in_graph(pixels[None].astype("float32"))[0] - resize_pixels(pixels, resize)
        # Four pixels weighed at once may miss a whole number, which Pillow then rounds down.
        assert np.abs(delta).max() <= (0 if antialias else 1)


def test_every_variant_of_image_files_has_the_pixels_of_the_run():
    deltas = {}
    for size in [(61, 43), (7, 3)]:
        for name, content in image_variants(*size):
            expected, found = read_pixels(io.BytesIO(content)), read(content)
            assert found.shape == expected.shape, name
            deltas[name, size] = np.abs(found - expected).max()
    assert len(deltas) > 280
    assert {each: delta for each, delta in deltas.items() if delta > 0} == {}


def test_the_files_of_public_bug_reports_have_the_pixels_of_the_run(image_cases):
    paths = sorted(image_cases.iterdir())
    assert paths
    for path in paths:
        np.testing.assert_array_equal(read(path.read_bytes()), read_pixels(path), str(path))


@pytest.mark.parametrize("form", ["BMP", "PNG"])
@pytest.mark.parametrize("count", [2, 100])
def test_indices_past_the_end_of_a_palette_are_black_as_in_pillow(form, count):
    generator = np.random.default_rng(0)
    indices = generator.integers(0, 200, (20, 30))
    colours = generator.integers(0, 256, (count, 3), np.uint8)
    if form == "PNG":
        content = png_of(indices[..., None], 3, 8, palette=colours.tobytes())
    else:
        content = bmp_of(indices, 8, palette=np.pad(colours, [(0, 0), (0, 1)]).tobytes())
    np.testing.assert_array_equal(read(content), read_pixels(io.BytesIO(content)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_of_any_exif_type_counts_as_in_pillow(order):
    values = {
        **dict.fromkeys((1, 6, 7), bytes([6, 0, 0, 0])),
        **dict.fromkeys((3, 8), struct.pack(f"{order}HH", 6, 0)),
        **dict.fromkeys((4, 9, 13), struct.pack(f"{order}I", 6)),
        2: b"6\0\0\0",
        11: struct.pack(f"{order}f", 6),
    }
    for kind in range(17):
        entry = struct.pack(f"{order}HHI", 0x0112, kind, 1) + values.get(kind, struct.pack(f"{order}I", 26))
        apart = struct.pack(f"{order}d", 6) if kind == 12 else struct.pack(f"{order}II", 6, 1)
        header = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, 1)
        exif = b"Exif\0\0" + header + entry + bytes(4) + apart
        content = file_of(photograph(), "JPEG", exif=exif)
        np.testing.assert_array_equal(read(content), read_pixels(io.BytesIO(content)), str(kind))


def rle_bmp():
    content = bytearray(bmp_of(np.zeros((4, 4), int), 8, palette=bytes(range(64))))
    content[30] = 1
    return bytes(content)


def lossless_jpeg():
    content = file_of(photograph(), "JPEG")
    return content.replace(b"\xff\xc0", b"\xff\xc3", 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: b"", "an empty file"),
        (lambda: b"some text", "an unknown format"),
        (lambda: file_of(photograph(), "TIFF"), "not one of JPEG, PNG, GIF, BMP, WebP: TIFF"),
        (lambda: b"\0\0\0\x1cftypavif" + bytes(40), "AVIF"),
        (lambda: b"\0\0\0\x1cftypheic" + bytes(40), "HEIC"),
        (lambda: file_of(photograph(), "ICO"), "icon"),
        (rle_bmp, "run-length encoded"),
        (lossless_jpeg, "lossless"),
        (
            lambda: png_of(np.zeros((2, 2, 1), int), 0, 8, before=[(b"tEXt", b"Raw profile type exif\0\n")]),
            "EXIF or the like in a text chunk",
        ),
    ],
)
def test_what_the_graph_cannot_read_as_the_run_is_refused_by_name(content, reason):
    assert reason in graph_refusal(content())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_a_file_that_is_cut_off_is_refused(format):
    content = file_of(photograph(), format)
    for length in (3, 14, 30, len(content) // 3, len(content) // 2, len(content) - 20):
        assert graph_refusal(content[:length]) is not None, length
    assert graph_refusal(content) is None


def test_a_refusal_names_the_place_in_the_batch_and_what_to_do():
    contents = tf.constant([file_of(photograph(), "PNG"), file_of(photograph(), "TIFF")])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"file 1 of the batch, .* TIFF\. Save it as"):
        tf.function(lambda contents: pixels_of_files(contents, Resize(8, 8)))(contents)


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_photograph_comes_out_upright(byte_order, format):
    resize, contents = Resize(24, 24, "stretch"), []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif.endian = byte_order
        exif[0x010F] = "a maker"  # an entry before it
        exif[0x0112] = orientation
        contents.append(file_of(photograph(), format, exif=exif))
    in_graph, pillows = both(contents, resize)
    assert np.abs(in_graph - pillows).max() <= 2
    # Else the test would pass without turning.
    assert np.abs(in_graph[1:] - in_graph[0]).max((1, 2, 3)).min() > 50


def test_an_orientation_that_there_is_not_changes_nothing():
    contents = []
    for orientation in (0, 9, 4000):
        exif = Image.Exif()
        exif[0x0112] = orientation
        contents.append(file_of(photograph(), "JPEG", exif=exif))
    in_graph, pillows = both(contents, Resize(24, 24))
    assert np.abs(in_graph - pillows).max() <= 2


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's
def test_broken_exif_changes_nothing():
    exif, content, contents = Image.Exif(), file_of(photograph(), "JPEG"), []
    exif[0x0112] = 6
    for cut in (6, 8, 12, 14, 16, 20):
        broken = exif.tobytes()[:cut]
        marked = b"\xff\xe1" + (len(broken) + 2).to_bytes(2, "big") + broken
        contents.append(content[:2] + marked + content[2:])
    in_graph, pillows = both(contents, Resize(24, 24))
    assert np.abs(in_graph - pillows).max() <= 2


def test_files_of_other_modes_and_formats_come_out_as_pillows():
    grey, palette, bits = (photograph().convert(mode) for mode in ("L", "P", "1"))
    transparent = {"transparency": palette.getpixel((30, 20))}
    contents = [
        *(file_of(image, "PNG") for image in (grey, palette, bits, photograph(mode="RGBA"))),
        file_of(palette, "PNG", **transparent),
        file_of(grey, "JPEG"),
        file_of(palette, "GIF"),
        file_of(photograph(), "BMP"),
    ]
    in_graph, pillows = both(contents, Resize(20, 20))
    assert np.abs(in_graph - pillows).max() <= 1
