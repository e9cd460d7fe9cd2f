"""What a graph makes of image files, held against what Pillow makes of them."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ktransfer.data.images import Resize, load_image
from ktransfer.errors import ExportError
from ktransfer.exporters.graph_images import pixels_of_files, resized


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


def both(contents, resize):
    """The pixels of files as the graph has them, and as Pillow does."""
    in_graph = tf.function(lambda contents: pixels_of_files(contents, resize))(tf.constant(contents))
    return in_graph.numpy(), np.stack([load_image(io.BytesIO(each), resize) for each in contents], dtype="f4")


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos3"])
def test_pixels_of_any_size_come_out_as_pillows(mode, interpolation):
    sizes = [(61, 43), (30, 90), (15, 25), (9, 7)]
    contents = [file_of(photograph(*size), "PNG") for size in sizes]
    in_graph, pillows = both(contents, Resize(16, 24, mode, interpolation))
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
