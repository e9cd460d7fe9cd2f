import errno
import os

import pytest

from ktransfer.utils.files import read_at, replacing, write_at, write_json, write_text


def write_and_raise(path, error):
    with replacing(path) as partial:
        partial.write_text("half")
        raise error


def test_a_file_appears_only_when_all_of_it_is_written(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert partial.parent == tmp_path
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_partial_file_ends_as_the_final_one(tmp_path):
    with replacing(tmp_path / "net.weights.h5") as partial:
        assert partial.suffix == ".h5"
        partial.touch()


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_and_raise(path, OSError("disk full"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(tmp_path / "labels.txt", KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_a_replace_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "labels.txt"
    path.write_text("old")

    def refuse(source, target):
        raise PermissionError("in use")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_utf8_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "a.json", {"label": "Gänseblümchen"})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "label": "Gänseblümchen"\n}\n'.encode()


def test_values_that_are_not_json_leave_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"size": object()})
    assert (tmp_path / "a.json").read_text() == "1\n"


def test_a_full_disk_names_the_file_and_not_the_temporary_one(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left") as caught:
        write_and_raise(tmp_path / "labels.txt", full)
    assert caught.value.filename == str(tmp_path / "labels.txt")
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "removed" / "labels.txt", "new")
    assert caught.value.filename == str(tmp_path / "removed" / "labels.txt")


@pytest.mark.parametrize("hidden", [(), ("preadv", "pwrite")])
def test_places_of_a_file_are_read_and_written_on_every_system(hidden, tmp_path, monkeypatch):
    for name in hidden:  # Windows has neither
        monkeypatch.delattr(os, name)
    with open(tmp_path / "rows", "w+b") as file:
        assert write_at(file, b"rose", 4) == 4
        assert write_at(file, b"lily", 0) == 4
        buffer = bytearray(4)
        assert read_at(file, buffer, 4) == 4
        assert bytes(buffer) == b"rose"
        assert read_at(file, buffer, 6) == 2
