"""What `predict` finds in folders of images and of texts, and what it says of the rest."""

import os

import pytest
from PIL import Image

from ktransfer.errors import DataError
from ktransfer.image.decoding import IMAGE_EXTENSIONS
from ktransfer.image.inputs import find_images
from ktransfer.text.inputs import find_texts


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    for name in ("b.png", "a.JPG", "deep/er/c.webp", ".hidden.png", "__MACOSX/d.png", "._b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)
    (folder / "notes.txt").write_text("notes")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "Thumbs.db").write_bytes(b"")
    (folder / "drawing.SVG").write_text("<svg/>")
    (folder / "~$report.png").write_bytes(b"")
    (folder / "$RECYCLE.BIN").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "$RECYCLE.BIN" / "old.png")
    return folder


def names(found, folder):
    return [os.path.relpath(path, folder) for path in found.items]


def test_images_of_a_folder_are_found_at_any_depth(images):
    found = find_images([str(images)])
    assert names(found, images) == ["a.JPG", "b.png", os.path.join("deep", "er", "c.webp")]


def test_what_is_left_out_of_a_folder_is_counted_and_named(images):
    others, unread, broken, junk = find_images([str(images)]).notes
    assert others == f"skipped    1 file in {images} (not images): notes.txt"
    assert "1 file in" in unread
    assert "(in formats that are not read; convert them to JPEG or PNG): drawing.SVG" in unread
    assert "(cannot be read as images): broken.png" in broken
    assert "6 files" in junk
    assert junk.endswith("(left by other programs): $RECYCLE.BIN, ._b.png, .hidden.png and 3 more")


def test_a_folder_of_images_that_an_extra_reads_names_the_extra(tmp_path):
    if ".heic" in IMAGE_EXTENSIONS:
        pytest.skip("the extra is installed")
    (tmp_path / "1.HEIC").write_bytes(b"")
    with pytest.raises(DataError, match=r'1 \.heic\. Convert .*`pip install "ktransfer\[heic\]"` for \.heic'):
        find_images([str(tmp_path)])


def test_files_and_folders_keep_their_order(images):
    found = find_images([str(images / "b.png"), str(images / "deep"), str(images / "a.JPG")])
    assert names(found, images) == ["b.png", os.path.join("deep", "er", "c.webp"), "a.JPG"]


def test_a_link_that_loops_is_followed_once(images):
    os.symlink(images, images / "deep" / "again")
    assert len(find_images([str(images)]).items) == 3


@pytest.mark.parametrize(
    ("make", "received"),
    [
        (lambda folder: None, "an empty folder"),
        (lambda folder: (folder / "a.pdf").write_bytes(b""), "1 .pdf"),
        (lambda folder: (folder / "a.png").write_bytes(b""), "1 that cannot be read, such as .*a.png"),
        (lambda folder: folder.rmdir(), "does not exist"),
    ],
)
def test_a_folder_without_images_is_refused(tmp_path, make, received):
    folder = tmp_path / "images"
    folder.mkdir()
    make(folder)
    with pytest.raises(DataError, match=received):
        find_images([str(folder)])


def test_texts_of_a_folder_come_from_tables_and_text_files(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nthe fox,x\nyou,y\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.txt").write_text("a whole text")
    (tmp_path / "c.pdf").write_bytes(b"")
    found = find_texts([str(tmp_path), "some words"], column="text")
    assert found.items == ("the fox", "you", "a whole text", "some words")
    assert "c.pdf" in found.notes[0]
    assert "3 texts in 2 files" in found.notes[1]


def test_a_folder_without_texts_is_refused(tmp_path):
    with pytest.raises(DataError, match="an empty folder"):
        find_texts([str(tmp_path)])


@pytest.mark.parametrize("name", ["new.txt", "NEW.TXT", "a/new.csv", "new.jsonl.gz", "texts/"])
def test_the_name_of_a_file_that_is_not_there_is_no_text(name):
    with pytest.raises(DataError, match=r"does not exist|No such file"):
        find_texts([name])


WORDS = (
    "words",
    "see new.txt",
    "new.txt ",
    "and/or",
    "a/b",
    "x" * 10_000,
    "null\0byte",
    "Ends in .csv?",
    "3.5",
)


@pytest.mark.parametrize("text", WORDS)
def test_words_are_texts(text):
    assert find_texts([text]).items == (text,)
