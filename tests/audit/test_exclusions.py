import numpy as np
import pytest

from ktransfer.audit.exclusions import choose_exclusions, leave_out, read_exclusions, write_exclusions
from ktransfer.audit.findings import Audit, Finding, Item, list_items
from ktransfer.data.examples import Examples, Splits
from ktransfer.errors import DataError


def item(key, label="a"):
    return Item(key.split("/")[0], label, key, key)


def chosen(*findings):
    return choose_exclusions(Audit("file", {}, findings))


def of(kind, *keys):
    return Finding(kind, tuple(map(item, keys)), "")


def splits(tmp_path):
    train = [str(tmp_path / f"train/{name}.png") for name in ("a0", "a1", "b0")]
    validation = Examples((str(tmp_path / "val/a9.png"),), [0], ("a", "b"))
    return Splits(Examples(train, [0, 0, 1], ("a", "b")), validation)


def test_of_a_leak_the_one_to_judge_by_stays_and_test_stays_before_validation():
    assert chosen(of("leak", "train/1", "validation/2")) == {"train/1": "leak"}
    assert set(chosen(of("near_leak", "train/1", "validation/2", "test/3"))) == {"train/1", "validation/2"}


def test_of_duplicates_in_a_part_the_first_stays():
    assert chosen(of("duplicate", "train/1", "train/2", "train/3")) == {
        "train/2": "duplicate",
        "train/3": "duplicate",
    }


def test_of_copies_and_a_near_copy_one_stays_in_all():
    found = chosen(
        of("leak", "train/1", "validation/2"), of("near_leak", "train/1", "train/3", "validation/2")
    )
    assert set(found) == {"train/1", "train/3"}


def test_what_cannot_be_read_and_what_contradicts_itself_goes_and_suspects_stay():
    found = chosen(
        of("unreadable", "train/1"),
        of("contradiction", "train/2", "validation/3"),
        of("suspect_label", "train/4"),
        of("outlier", "train/5"),
        of("constant", "train/6"),
    )
    assert found == {
        "train/1": "unreadable",
        "train/2": "contradiction",
        "validation/3": "contradiction",
    }


@pytest.mark.parametrize(
    "key", ["a b.png", "tab\there", "line\nbreak\\n.png", "not\udcffutf8.png", "ü\u2028.png"]
)
def test_a_list_is_read_as_it_was_written_whatever_files_are_called(tmp_path, key):
    write_exclusions(tmp_path / "exclude.txt", {key: "leak", "b": "duplicate"})
    assert read_exclusions(tmp_path / "exclude.txt") == {key: "leak", "b": "duplicate"}


def test_what_is_listed_is_left_out_and_no_more(tmp_path):
    write_exclusions(tmp_path / "exclude.txt", {"train/a0.png": "leak", "train/gone.png": "unreadable"})
    before = splits(tmp_path)
    after = leave_out(before, tmp_path / "exclude.txt", root=tmp_path)
    assert after.train.inputs == before.train.inputs[1:]
    assert after.train.labels.tolist() == [0, 1]
    assert after.validation is before.validation
    path = tmp_path / "exclude.txt"
    assert after.notes == (
        f"left out, as in {path}: 1 train images",
        f"not used: 1 entry (train/gone.png) of {path} that name none of the examples",
    )


def test_copies_of_a_text_are_left_out_one_by_one(tmp_path):
    part = Examples(["hi", "hi", "bye", "hi"], np.array([0, 0, 1, 0]), ("a", "b"), kind="text")
    second = list_items(Splits(part))[1].key
    write_exclusions(tmp_path / "exclude.txt", {second: "duplicate"})
    assert leave_out(Splits(part), tmp_path / "exclude.txt").train.inputs == ("hi", "bye", "hi")


def test_a_list_of_other_data_is_refused(tmp_path):
    write_exclusions(tmp_path / "exclude.txt", {"x.png": "leak"})
    with pytest.raises(DataError, match="name none of its examples"):
        leave_out(splits(tmp_path), tmp_path / "exclude.txt", root=tmp_path)


def test_a_list_may_not_empty_a_class_of_training(tmp_path):
    write_exclusions(tmp_path / "exclude.txt", {"train/b0.png": "unreadable"})
    with pytest.raises(DataError, match="none of 'b'"):
        leave_out(splits(tmp_path), tmp_path / "exclude.txt", root=tmp_path)


def test_a_line_that_is_no_entry_is_named(tmp_path):
    (tmp_path / "exclude.txt").write_text("# why\n\nleak\ta.png\nb.png\n")
    with pytest.raises(DataError, match=r"line 4, 'b\.png'"):
        read_exclusions(tmp_path / "exclude.txt")


def test_a_list_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="audit --fix"):
        read_exclusions(tmp_path / "exclude.txt")
