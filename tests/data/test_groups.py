"""Groups of examples, and names of files that suggest some."""

import os
from pathlib import Path

import pytest

from ktransfer.data.groups import (
    group_names,
    groups_by,
    groups_note,
    require_groups,
    shared_groups,
    suggest_groups,
)
from ktransfer.errors import DataError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def test_groups_are_names_or_numbers_and_never_empty():
    assert group_names([7, "7.0", " a ", True], [1, 2, 3, 4], "x") == ("7", "7", "a", "True")
    with pytest.raises(
        DataError, match=r"a group in every row in column 'who' of a\.csv, got none in rows 3, 4"
    ):
        group_names(["a", "", None], [2, 3, 4], "column 'who' of a.csv")
    with pytest.raises(DataError, match="a list or an object in row 2"):
        group_names([["a"], "b"], [2, 3], "x")


def test_a_function_gives_a_group_for_every_name():
    assert groups_by(lambda name: name[0], ["a1", "a2", "b1"]) == ("a", "a", "b")
    for wrong in (None, "", 3):
        with pytest.raises(DataError, match=r"name of a group from group_by, got .* for 'a1'"):
            groups_by(lambda name, wrong=wrong: wrong, ["a1"])


def test_one_group_only_is_refused():
    require_groups(None, "x")
    require_groups(("a", "b"), "x")
    with pytest.raises(DataError, match=r"several groups in x, got only 'a', in all 2 rows"):
        require_groups(("a", "a"), "x")


def test_groups_on_both_sides_are_told():
    assert shared_groups(("a", "b", "c"), ("c", "b", "d")) == ["b", "c"]
    assert groups_note(("a",), ("b",), "test") is None
    assert groups_note(None, ("b",), "test") is None
    assert groups_note(("a", "b"), ("b", "c", "b"), "test") == (
        "2 of 3 rows of test are of groups that train has too: b"
    )


def many(form, groups, files=9):
    return [form.format(group=group, at=at) for group in groups for at in range(files)]


@pytest.mark.parametrize(
    "names",
    [
        many("{group}_{at:06}.jpg", ["0001TP", "0006R0"]),
        many("train/{group}_f{at:05}.png", ["Seq05VD", "0016E5"]),
        many("patient{group}-scan-{at}.png", range(12)),
        many("subj{group:02} {at}.jpg", range(5)),
        many("{group}_{at}.jpg", [20240130, 20240131]),
        many("a\\b\\{group}_{at}.jpg", ["p1", "p2"]),
    ],
)
def test_a_number_of_a_drive_or_a_patient_in_front_suggests_groups(names):
    line = suggest_groups(names)
    assert line.startswith("names look like groups of files, ")
    assert "split by group" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "names",
    [
        many("image{at}.jpg", ["x"], 50),
        many("IMG_{at:04}.jpg", ["x"], 50),
        many("m_{at}.jpg", ["x"], 50),
        many("{group}_b37313a3{at}_n.jpg", range(10**9, 10**9 + 60), 1),
        many("{group}_1.jpg", range(50), 1),
        many("p1_{at}.jpg", ["x"], 50),  # one group
        many("{group}_left.jpg", ["p1", "p2"], 1),
        many("{group}/1_0{at}.jpg", range(50), 1),  # the same name in every folder
        many("{group}_{at}.jpg", ["p1", "p2"], 3),
        [*many("{group}_{at}.jpg", ["p1", "p2"], 5), *many("x{at}.jpg", ["x"], 30)],
        [],
    ],
)
def test_names_of_their_own_suggest_none(names):
    assert suggest_groups(names) is None


def test_a_part_that_names_the_class_is_no_group():
    names = many("{group}_{at}.jpg", range(10))
    assert suggest_groups(names, [name[0] for name in names]) is None
    assert suggest_groups(names, [int(name[0]) % 2 for name in names])
    assert suggest_groups(names)


@pytest.mark.parametrize(
    ("data", "suggests"), [("camvid_tags", True), ("flowers", False), ("brain_mri", False), ("houses", False)]
)
def test_real_names_suggest_groups_where_there_are_some(data, suggests):
    if not (SHARED / data).is_dir():
        pytest.skip("real data is not here")
    for part in ("", "train", "val", "test"):
        names = [
            os.path.join(folder, name)
            for folder, _, files in os.walk(SHARED / data / part)
            for name in files
            if name.endswith((".jpg", ".png"))
        ]
        expected = suggests and part != "val"  # of one drive
        assert (suggest_groups(names) is not None) == expected
