"""What strangers wrote: read within bounds, held in its folder, fit for a terminal."""

import os

import numpy as np
import pytest

from ktransfer.cli import _fail
from ktransfer.data.examples import Examples, printable
from ktransfer.errors import DataError, RecipeError
from ktransfer.recipes.recipe import Recipe
from ktransfer.security.safe_io import inside, is_line, parse_json, read_bytes, require_contained, visible
from ktransfer.utils.files import write_text
from ktransfer.utils.terminal import shortened

# JSON.


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 100 + "]" * 100, "64 levels"),
        ("[" * 100_000, "levels"),
        (b'"\xff"', "utf-8"),
        ("1" * 5_000, "digits"),
    ],
)
def test_json_that_two_readers_may_understand_differently_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_a_recipe_nested_without_end_is_a_recipe_error():
    with pytest.raises(RecipeError, match="levels"):
        Recipe.from_json("[" * 100_000)


def test_no_more_of_a_file_is_read_than_may_be_and_of_a_pipe_nothing(tmp_path):
    (tmp_path / "long").write_bytes(b"x" * 11)
    assert read_bytes(tmp_path / "long", most=11) == b"x" * 11
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_bytes(tmp_path / "long", most=10)
    os.mkfifo(tmp_path / "pipe")
    for endless in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="no regular file"):
            read_bytes(endless)


# Paths.


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "", ".", "a\\..\\x", "a\0b", 3, "out/x"]
)
def test_a_path_out_of_its_folder_is_refused(tmp_path, path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "out").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"out of the folder|no path"):
        inside(tmp_path / "run", path)
    assert inside(tmp_path / "run", "a/b") == tmp_path / "run" / "a" / "b"


def test_a_link_that_leads_out_and_a_pipe_are_found(tmp_path):
    folder = tmp_path / "run"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "back").symlink_to(folder / "a")
    require_contained(folder)
    (folder / "a" / "history.csv").symlink_to(tmp_path / "precious")
    with pytest.raises(ValueError, match=r"'a/history.csv' is a link"):
        require_contained(folder)
    (folder / "a" / "history.csv").unlink()
    os.mkfifo(folder / "a" / "history.csv")
    with pytest.raises(ValueError, match=r"'a/history.csv' is no file"):
        require_contained(folder)


def test_a_link_in_the_place_of_a_partial_file_is_not_written_through(tmp_path):
    (tmp_path / "precious").write_text("untouched")
    (tmp_path / ".manifest.partial.json").symlink_to(tmp_path / "precious")
    write_text(tmp_path / "manifest.json", "{}")
    assert (tmp_path / "precious").read_text() == "untouched"
    assert (tmp_path / "manifest.json").read_text() == "{}"


# Terminals.


def test_nothing_that_a_terminal_obeys_is_printed(capsys):
    assert visible("a\x1b]0;x\x07\u202eb\ud800\u2028c") == "a\\x1b]0;x\\x07\\u202eb\\ud800\\u2028c"
    assert printable("a\x1b[2J.jpg") == "a\\x1b[2J.jpg"
    assert shortened("Free \x1b[31mentry") == "Free \\x1b[31mentry"
    with pytest.raises(SystemExit):
        _fail("no \x1b[2J")
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "label", ["", "a\nb", "\x1b[2J", "\x9b2J", "\ud800", "\u202erose", "a\u2028b", 3, None]
)
def test_a_label_is_one_line_of_text(label):
    assert not is_line(label)


def test_labels_in_any_script_are_labels():
    assert all(map(is_line, ["œillet", "バラ", "ورد", "👩‍🌾", "می‌خک", "a b"]))


def test_a_class_named_by_an_escape_sequence_is_refused():
    with pytest.raises(DataError, match="control characters"):
        Examples(("a.jpg",), np.array([0]), ("\x1b[2J",))


def test_a_hundred_thousand_classes_take_no_time():
    names = tuple(map(str, range(100_000)))
    assert Examples(("a.jpg",), np.array([0]), names).class_names[-1] == "99999"
