"""Targets of tables: what is a number, and what is refused by row."""

import pytest

from ktransfer.errors import DataError
from ktransfer.text.sources import load_text_splits, read_texts


def write(path, cells, header="text,target", texts=None):
    texts = texts or [f"a house with {index} rooms" for index in range(len(cells))]
    lines = [header, *(f"{text},{cell}" for text, cell in zip(texts, cells, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_numbers_are_read_in_their_own_unit(tmp_path):
    splits, columns = read_texts(write(tmp_path / "a.csv", ["1.5", "-2e3", " 7 "]), task="regression")
    assert splits.train.labels.tolist() == [1.5, -2000.0, 7.0]
    assert splits.train.class_names == ("target",)
    assert splits.train.task.name == "regression"
    assert columns.facts()["task"] == "regression"


def test_a_column_that_is_named_is_the_target(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,rooms,price\na b,3,10.5\nc d,4,20\ne f,1,2\n", encoding="utf-8")
    splits, _ = read_texts(path, task="regression", label_column="price")
    assert splits.train.class_names == ("price",)
    again, _ = read_texts(path, task="regression", label_column="price", class_names=("price",))
    assert again.train.labels.tolist() == [10.5, 20.0, 2.0]


BAD = {
    "empty": (["1", "", "3"], r"got no value in row 3"),
    "nan": (["1", "2", "nan"], r"got no value in row 4"),
    "infinite": (["1", "-inf", "inf"], r"got an infinite value such as '-inf' in rows 3, 4"),
    "huge": (["1", "1e999", "3"], r"got an infinite value such as '1e999' in row 3"),
    "text": (["1", "cheap", "3"], r"got text such as 'cheap' in row 3"),
    "currency": (["$1", "$2", "$3"], r"got text such as '\$1' in rows 2, 3, 4"),
    "underscores": (["1_000", "2", "3"], r"got text such as '1_000' in row 2"),
    "same": (["5", "5.0", "5"], r"Expected numbers that differ .* got 5 in all 3 rows"),
    "numbering": (["11", "12", "13"], r"got numbers that count the rows, from 11 in row 2 to 13 in row 4"),
    "one row": (["5"], r"Expected at least 2 numbers .* got 1 in row 2"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_targets_are_refused_with_their_rows(tmp_path, name):
    cells, message = BAD[name]
    with pytest.raises(DataError, match=message):
        read_texts(write(tmp_path / "a.csv", cells), task="regression")


def test_true_and_lists_of_json_are_no_numbers(tmp_path):
    for cell, said in (("true", "true or false"), ("[1, 2]", "a list or an object"), ("null", "no value")):
        path = tmp_path / "a.jsonl"
        path.write_text(
            f'{{"text": "a b", "target": 1}}\n{{"text": "c d", "target": {cell}}}\n', encoding="utf-8"
        )
        with pytest.raises(DataError, match=f"got {said}"):
            read_texts(path, task="regression")


def test_rising_whole_numbers_are_pointed_out(tmp_path):
    splits, _ = read_texts(write(tmp_path / "a.csv", ["3", "10", "11", "40"]), task="regression")
    assert any("rises from row to row, 3 in row 2 to 40 in row 5, as ids do" in note for note in splits.notes)


def test_several_columns_or_a_separator_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,x,y\na b,3,10.5\nc d,4,20\n", encoding="utf-8")
    for options in ({"label_column": "x,y"}, {"label_column": "x", "label_separator": "|"}):
        with pytest.raises(DataError, match="Expected one column of numbers for task='regression'"):
            read_texts(path, task="regression", **options)


def test_class_folders_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text(f"text of {name}", encoding="utf-8")
    with pytest.raises(DataError, match="Expected a table for task='regression'"):
        read_texts(tmp_path, task="regression")


@pytest.mark.parametrize("cells", [["0.5", "1.25", "3.75", "0.5"], [str(3 * n * n) for n in range(20)]])
def test_numbers_without_a_task_are_told_to_be_regression(tmp_path, cells):
    with pytest.raises(DataError, match="--task regression"):
        read_texts(write(tmp_path / "a.csv", cells))


def test_validation_of_a_file_has_targets_that_training_lacks(tmp_path):
    write(tmp_path / "train.csv", ["1.5", "2.5", "9"])
    write(tmp_path / "val.csv", ["4.25", "4.25"], texts=["one more", "and another"])
    splits, _ = load_text_splits(tmp_path, task="regression")
    assert splits.validation.labels.tolist() == [4.25, 4.25]


def test_a_text_column_of_targets_holds_out_every_range(tmp_path):
    path = write(tmp_path / "a.csv", [str(n**2) for n in range(0, 40, 1)][::-1])
    splits, _ = load_text_splits(path, task="regression", validation_fraction=0.25)
    assert len(splits.validation) == 10
    found = sorted(int(value**0.5) // 4 for value in splits.validation.labels)
    assert found == list(range(10))
