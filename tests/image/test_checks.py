import threading

import pytest
from images import class_folders, draw
from PIL import Image

from ktransfer.errors import DataError
from ktransfer.image import decoding as reading
from ktransfer.image.checks import CorruptImage, find_corrupt, require_readable
from ktransfer.image.sources import read_data


def broken(tmp_path, name, content):
    """Two classes of good images and `a/name` with `content`; returns the examples and the path."""
    class_folders(tmp_path, {"a": 2, "b": 2})
    path = tmp_path / "a" / name
    path.write_bytes(content)
    return read_data(tmp_path).train, str(path)


def half(tmp_path, name, size=(200, 200)):
    content = draw(tmp_path / name, size=size)
    with open(content, "rb") as file:
        whole = file.read()
    return whole[: len(whole) // 2]


# Which formats there are depends on how Pillow was built.
NO_FORMAT = f"not a {', '.join(reading._FORMATS[:-1])} or {reading._FORMATS[-1]} image"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<html>\n404 Not Found</html>", "not an image: it starts with text"),
        ("später".encode(), "not an image: it starts with text"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image: it starts with text"),
        (b"\x00\x01\x02\x03" * 9, NO_FORMAT),
        (b"no control characters, but then\x00" * 2, NO_FORMAT),
        (b"II*\x00\x08\x00\x00\x00", NO_FORMAT),
    ],
)
def test_what_is_no_image_says_what_it_is(tmp_path, content, reason):
    examples, path = broken(tmp_path, "x.jpg", content)
    assert find_corrupt(examples) == [CorruptImage(path, reason)]


@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "gif"])
def test_a_truncated_image_says_where_it_ends(tmp_path, extension):
    content = half(tmp_path, f"whole.{extension}")
    examples, path = broken(tmp_path / "data", f"x.{extension}", content)
    size = f"{len(content) / 1024:.0f} KiB" if len(content) >= 1024 else f"{len(content)} bytes"
    assert find_corrupt(examples) == [CorruptImage(path, f"truncated at {size}")]


def test_a_truncated_webp_is_found(tmp_path):
    examples, path = broken(tmp_path / "data", "x.webp", half(tmp_path, "whole.webp"))
    assert [c.path for c in find_corrupt(examples)] == [path]


def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path, monkeypatch):
    class_folders(tmp_path, {"a": 1, "b": 1})
    large = draw(tmp_path / "b" / "large.png", size=(2001, 1000))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    assert find_corrupt(read_data(tmp_path).train) == [CorruptImage(large, "more than 2 million pixels")]


def test_a_file_that_vanished_is_reported(tmp_path):
    examples, path = broken(tmp_path, "x.jpg", b"")
    (tmp_path / "a" / "x.jpg").unlink()
    assert find_corrupt(examples) == [CorruptImage(path, "no such file or directory")]


def test_progress_counts_every_image_on_the_callers_thread(tmp_path):
    examples, _ = broken(tmp_path, "x.jpg", b"")
    calls = []
    find_corrupt(
        examples, workers=2, progress=lambda *args: calls.append((*args, threading.current_thread()))
    )
    assert calls == [(done, 5, threading.main_thread()) for done in range(1, 6)]


def test_readable_examples_come_back_as_they_are(tmp_path):
    examples = read_data(class_folders(tmp_path, {"a": 1, "b": 1})).train
    assert require_readable(examples) is examples


def test_a_truncated_jpeg_is_named_in_the_error(tmp_path):
    examples, path = broken(tmp_path / "data", "x.jpg", half(tmp_path, "whole.jpg", size=(900, 900)))
    with pytest.raises(DataError, match="pass --skip-corrupt") as caught:
        require_readable(examples)
    assert f"{path} (truncated at " in str(caught.value)


def test_of_many_corrupt_images_three_are_named_and_the_rest_counted(tmp_path):
    class_folders(tmp_path, {"a": 1, "b": 1})
    for index in range(5):
        (tmp_path / "a" / f"x{index}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"x0\.png.*x1\.png.*x2\.png \(empty file\) and 2 more that"):
        require_readable(read_data(tmp_path).train)


def test_skipping_leaves_out_the_unreadable_and_no_more(tmp_path):
    examples, path = broken(tmp_path, "x.jpg", b"")
    kept = require_readable(examples, skip_corrupt=True)
    assert kept.inputs == tuple(p for p in examples.inputs if p != path)
    assert kept.labels.tolist() == [0, 0, 1, 1]


def test_skipping_may_not_empty_a_class(tmp_path):
    class_folders(tmp_path, {"a": 2, "b": 1})
    (tmp_path / "b" / "000.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of 'b'"):
        require_readable(read_data(tmp_path).train, skip_corrupt=True)


def test_broken_metadata_is_no_reason_to_refuse_good_pixels(tmp_path):
    class_folders(tmp_path, {"a": 1, "b": 1})
    draw(tmp_path / "a" / "x.png", exif=b"Exif\0\0garbage!garbage")
    draw(tmp_path / "a" / "y.webp", exif=b"Exif\0\0II*\0")
    assert find_corrupt(read_data(tmp_path).train) == []


def test_a_format_that_is_not_taken_is_refused_under_a_name_that_is(tmp_path):
    class_folders(tmp_path, {"a": 1, "b": 1})
    path = draw(tmp_path / "a" / "x.jpg", format="PCX")
    assert find_corrupt(read_data(tmp_path).train) == [CorruptImage(path, NO_FORMAT)]
