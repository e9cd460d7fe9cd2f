"""The group column of tables."""

import pytest

from ktransfer.errors import DataError
from ktransfer.text.sources import load_text_splits, read_texts


def table(path, rows, header="text,label,person"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


ROWS = [f"some words {at},{'ab'[at % 2]},p{at // 4}" for at in range(16)]


@pytest.mark.parametrize("given", ["person", "Person", "3"])
def test_a_column_of_groups_is_read_and_kept_on_one_side(tmp_path, given):
    splits, columns = load_text_splits(
        table(tmp_path / "a.csv", ROWS), group_column=given, validation_fraction=0.25
    )
    assert columns.group == columns.facts()["group_column"] == "person"
    assert columns.line() == "texts 'text', labels 'label', groups 'person', guessed"
    assert set(splits.train.groups) | set(splits.validation.groups) == {"p0", "p1", "p2", "p3"}
    assert not set(splits.train.groups) & set(splits.validation.groups)


def test_a_group_column_is_no_column_of_texts_or_labels(tmp_path):
    rows = [f"p{at // 4},some words {at},{'ab'[at % 2]}" for at in range(16)]
    splits, columns = read_texts(table(tmp_path / "a.csv", rows, "who,words,kind"), group_column="who")
    assert (columns.input, columns.label, columns.group) == ("words", "kind", "who")
    assert splits.train.groups[:5] == ("p0", "p0", "p0", "p0", "p1")
    with pytest.raises(DataError, match="to know the columns"):
        read_texts(tmp_path / "a.csv", group_column="kind", label_column="kind", text_column="words")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [f"words {at},{'ab'[at % 2]},p0" for at in range(4)],
            r"several groups in column 'person' of .*a\.csv, got .*'p0'",
        ),
        (
            [*ROWS, "x,a,", "y,b, "],
            r"a group in every row in column 'person' of .*a\.csv, got none in rows 18, 19",
        ),
    ],
)
def test_one_group_or_an_empty_cell_is_refused(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read_texts(table(tmp_path / "a.csv", rows), group_column="person")


def test_a_group_column_that_is_not_there_is_refused_in_training_and_told_elsewhere(tmp_path):
    with pytest.raises(DataError, match=r"one column 'persn'.*Did you mean person"):
        read_texts(table(tmp_path / "train.csv", ROWS), group_column="persn")
    table(tmp_path / "val.csv", ["hello,a", "there,b"], "text,label")
    table(tmp_path / "test.csv", ["hello,a,p0", "there,b,p9", "so,b,p0"])
    splits, _ = read_texts(tmp_path, group_column="person")
    assert splits.validation.groups is None
    assert splits.test.groups == ("p0", "p9", "p0")
    assert splits.notes == (
        "val.csv has no column 'person': its groups are not known",
        "2 of 3 rows of test are of groups that train has too: p0",
    )


def test_a_function_of_the_text_gives_groups_in_place_of_a_column(tmp_path):
    path = table(tmp_path / "a.csv", ROWS)
    splits, columns = load_text_splits(path, group_by=lambda text: f"g{int(text.split()[-1]) // 4}")
    assert columns.group is None
    assert set(splits.train.groups) | set(splits.validation.groups) == {"g0", "g1", "g2", "g3"}
    with pytest.raises(DataError, match="group_column or group_by, got both, group_column='person'"):
        read_texts(path, group_column="person", group_by=len)
    with pytest.raises(DataError, match=r"several groups in group_by of .*only 'x'"):
        read_texts(path, group_by=lambda text: "x")


def test_class_folders_of_texts_take_a_function_and_no_column(tmp_path):
    for name in "ab":
        for at in range(6):
            path = tmp_path / name / f"p{at // 2}-{at}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} {at}", encoding="utf-8")
    splits, _ = load_text_splits(
        tmp_path, group_by=lambda name: name.split("/")[1][:2], validation_fraction=0.3
    )
    assert not set(splits.train.groups) & set(splits.validation.groups)
    for options in ({"group_column": "who"}, {"label_separator": "|"}, {"task": "multi_label"}):
        [given] = [f"{name}={value!r}" for name, value in options.items()]
        with pytest.raises(DataError, match=r"a table for .*where folders are the classes") as error:
            read_texts(tmp_path, **options)
        assert given in str(error.value)
    notes = read_texts(tmp_path, text_column="text", label_column="label", task="single_label")[0].notes
    assert notes == ("not used: text_column='text' and label_column='label', as folders are the classes",)
