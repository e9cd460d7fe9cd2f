"""Labels of tables of texts: what is read as which task, what is noted and what is refused."""

import csv
import io
import json
from pathlib import Path

import pytest

from ktransfer.errors import DataError
from ktransfer.text.sources import load_text_splits, read_texts

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def table(path, rows, header=("text", "label")):
    file = io.StringIO(newline="")
    csv.writer(file).writerows([header, *rows] if header else rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(file.getvalue(), encoding="utf-8", newline="")
    return path


def column(path, labels, name="label"):
    return table(path, [(f"some words {at}", label) for at, label in enumerate(labels)], ("text", name))


def lines(path, labels):
    rows = [json.dumps({"text": f"words {at}", "label": label}) for at, label in enumerate(labels)]
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def sets_of(examples):
    return [{examples.class_names[at] for at in row.nonzero()[0]} for row in examples.labels]


LISTS = {
    "|": ["joy|anger", "joy", "anger|fear", "fear"],
    ";": ["joy; anger", "joy", "anger ;fear", "fear"],
    ",": ["joy, anger", "joy", "anger,fear", "fear"],
    "/": ["joy/anger", "joy/fear", "anger/fear", "fear/anger"],
    "list": ["['joy', 'anger']", "['joy']", '["anger", "fear"]', "['fear']"],
}
SETS = [{"joy", "anger"}, {"joy"}, {"anger", "fear"}, {"fear"}]


@pytest.mark.parametrize("separator", LISTS)
def test_lists_in_cells_are_multi_label_and_the_separator_is_told(tmp_path, separator):
    splits, columns = read_texts(column(tmp_path / "a.csv", LISTS[separator]))
    assert splits.train.task.name == "multi_label"
    assert splits.train.class_names == ("anger", "fear", "joy")
    if separator != "/":
        assert sets_of(splits.train) == SETS
    assert (columns.task, columns.separator) == ("multi_label", separator)
    how = "lists" if separator == "list" else f"lists separated by {separator!r}"
    assert splits.notes == (
        f'labels are {how}: multi-label with 3 labels (task="single_label" takes each cell as one class)',
    )


@pytest.mark.parametrize("separator", LISTS)
def test_the_facts_of_columns_read_the_same_again_and_say_nothing(tmp_path, separator):
    path = column(tmp_path / "a.csv", LISTS[separator])
    splits, columns = read_texts(path)
    again, _ = read_texts(path, **columns.facts())
    assert again.train.fingerprint() == splits.train.fingerprint()
    assert again.notes == ()


def test_lists_by_type_are_labels_of_json_and_parquet(tmp_path):
    values = [["joy", "anger"], ["joy"], [], ["fear", "anger"], None, "joy"]
    splits, columns = read_texts(lines(tmp_path / "a.jsonl", values))
    sets = [{"joy", "anger"}, {"joy"}, set(), {"fear", "anger"}, set(), {"joy"}]
    assert sets_of(splits.train) == sets
    assert columns.facts()["label_separator"] == "list"
    assert splits.notes[1] == "rows without any label: 2 of 6 in train"
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    data = {"text": [f"words {at}" for at in range(5)], "label": values[:5]}
    parquet.write_table(pyarrow.table(data), tmp_path / "a.parquet")
    assert sets_of(read_texts(tmp_path / "a.parquet")[0].train) == sets[:5]


def test_lists_of_one_label_each_are_classes_unless_sets_are_asked_for(tmp_path):
    for path in (
        lines(tmp_path / "a.jsonl", [["joy"], ["fear"], ["joy"]]),
        column(tmp_path / "a.csv", ["['joy']", "['fear']", "['joy']"]),
    ):
        splits, columns = read_texts(path)
        assert splits.train.counts() == {"fear": 1, "joy": 2}
        assert splits.train.task.name == columns.task == "single_label"
        assert splits.notes[0].startswith("labels are lists of one label each: single-label")
        assert read_texts(path, **columns.facts())[0].train.class_names == ("fear", "joy")
        assert read_texts(path, task="multi_label")[0].train.labels.tolist() == [[0, 1], [1, 0], [0, 1]]


def test_single_label_takes_each_cell_as_one_class(tmp_path):
    splits, columns = read_texts(column(tmp_path / "a.csv", LISTS["|"]), task="single_label")
    assert splits.train.class_names == ("anger|fear", "fear", "joy", "joy|anger")
    assert (columns.task, columns.separator, splits.notes) == ("single_label", None, ())
    with pytest.raises(
        DataError, match=r"one label a row .*a list of no label or several in row 1\. Keep one"
    ):
        read_texts(lines(tmp_path / "a.jsonl", [["joy", "fear"], ["joy"]]), task="single_label")


def test_multi_label_may_have_one_label_a_row_and_a_given_separator_is_taken(tmp_path):
    splits, _ = read_texts(column(tmp_path / "a.csv", ["joy", "", "fear"]), task="multi_label")
    assert sets_of(splits.train) == [{"joy"}, set(), {"fear"}]
    assert splits.notes[0] == "no separator of labels was found: every row has one label at most"
    spaced = column(tmp_path / "b.csv", ["joy fear", "", "fear  anger"])
    assert sets_of(read_texts(spaced, label_separator=" ")[0].train) == [
        {"joy", "fear"},
        set(),
        {"fear", "anger"},
    ]
    numbers = column(tmp_path / "c.csv", ["2,27", "2", "27", "3,2"])
    assert sets_of(read_texts(numbers, label_separator=",")[0].train)[0] == {"2", "27"}
    assert sets_of(read_texts(numbers, task="multi_label")[0].train)[3] == {"2", "3"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "ranking"}, r"the task 'single_label', 'multi_label' or 'regression', got 'ranking'"),
        ({"task": "single_label", "label_separator": "|"}, r"task='multi_label' with label_separator='\|'"),
        ({"label_separator": ""}, "the text between two labels as label_separator, got ''"),
        ({"label_separator": 3}, "the text between two labels as label_separator, got 3"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        read_texts(column(tmp_path / "a.csv", LISTS["|"]), **options)


# One column a label.

HOT = [("a", "1", "1", "0"), ("b", "0", "1", "0"), ("c", "0", "0", "0"), ("d", "0", "0", "1")]


@pytest.mark.parametrize("header", [("text", "joy", "anger", "fear"), ("words", "joy", "anger", "fear")])
def test_columns_of_ones_and_zeros_next_to_texts_are_labels(tmp_path, header):
    splits, columns = read_texts(table(tmp_path / "a.csv", HOT, header))
    assert splits.train.class_names == ("anger", "fear", "joy")
    assert sets_of(splits.train) == [{"joy", "anger"}, {"anger"}, set(), {"fear"}]
    assert columns.facts() == {
        "text_column": header[0],
        "label_column": "joy,anger,fear",
        "group_column": None,
        "label_separator": None,
        "task": "multi_label",
    }
    assert columns.line() == f"texts {header[0]!r}, labels in 3 columns 'joy', 'anger', 'fear', guessed"
    assert splits.notes == (
        "the 3 label columns hold 0 and 1: multi-label with 3 labels",
        "rows without any label: 1 of 4 in train",
    )
    again, _ = read_texts(tmp_path / "a.csv", **columns.facts())
    assert again.train.fingerprint() == splits.train.fingerprint()


def test_ids_splits_and_groups_are_no_labels(tmp_path):
    header = ("id", "comment", "joy", "anger", "split", "person")
    rows = [
        (f"{at:05x}f", f"words {at}", at % 2, at // 2 % 2, ("train", "test")[at > 5], at % 3)
        for at in range(8)
    ]
    splits, columns = read_texts(table(tmp_path / "a.csv", rows, header), group_column="person")
    assert (columns.input, columns.label, len(splits.train), len(splits.test)) == (
        "comment",
        "joy,anger",
        6,
        2,
    )


def test_one_1_in_every_row_is_a_class_unless_sets_are_asked_for(tmp_path):
    rows = [(f"words {at}", *(int(at % 3 == label) for label in range(3))) for at in range(9)]
    path = table(tmp_path / "a.csv", rows, ("text", "joy", "anger", "fear"))
    splits, columns = read_texts(path)
    assert splits.train.counts() == {"anger": 3, "fear": 3, "joy": 3}
    assert splits.notes == (
        'the 3 label columns have one 1 in every row: single-label (task="multi_label" takes them as sets)',
    )
    assert columns.task == "single_label"
    assert read_texts(path, **columns.facts())[0].train.labels.tolist() == splits.train.labels.tolist()
    assert read_texts(path, task="multi_label")[0].train.labels.shape == (9, 3)
    with pytest.raises(
        DataError, match=r"one 1 in the label columns of every row .*none or several in rows 2, 4"
    ):
        read_texts(table(tmp_path / "b.csv", HOT, ("text", "joy", "anger", "fear")), task="single_label")


def test_label_columns_are_given_by_names_numbers_or_as_a_sequence(tmp_path):
    header = ("title", "text", "joy", "anger, or so", "fear")
    path = table(tmp_path / "a.csv", [("x", *row) for row in HOT], header)
    for given in ('joy,"anger, or so"', '3, "4"', ["joy", "anger, or so"], (3, 4)):
        splits, columns = read_texts(path, label_column=given)
        assert splits.train.class_names == ("anger, or so", "joy")
        assert columns.label == 'joy,"anger, or so"'
    assert read_texts(path, **columns.facts())[0].train.class_names == ("anger, or so", "joy")
    for given, message in (
        ("joy,sadness", r"one column 'sadness'.*'joy', 'anger, or so', 'fear'"),
        ("joy,3", "each label column once, got '3' twice"),
        ("joy,title", r"0 or 1 in column 'title' of .*a\.csv, got 'x' in rows 2, 3, 4 and 1 more"),
    ):
        with pytest.raises(DataError, match=message):
            read_texts(path, label_column=given)
    with pytest.raises(DataError, match=r"one label column for label_separator='\|', got 2 columns"):
        read_texts(path, label_column="joy,fear", label_separator="|")


def test_label_columns_need_names_and_ones_or_zeros(tmp_path):
    bare = table(tmp_path / "a.csv", HOT, None)
    with pytest.raises(DataError, match="to know the columns of texts and of labels"):
        read_texts(bare)
    with pytest.raises(DataError, match=r"a header with a name for each label column .*Write the names"):
        read_texts(bare, text_column="1", label_column="2,3")
    rows = [("a", "1", "0"), ("b", "", "1"), ("c", "-1", "1")]
    with pytest.raises(DataError, match=r"0 or 1 in column 'joy' .*got '' in rows 3, 4"):
        read_texts(table(tmp_path / "b.csv", rows, ("text", "joy", "fear")), label_column="joy,fear")


def test_a_test_table_whose_label_columns_are_hidden_is_told(tmp_path):
    header = ("text", "joy", "anger", "fear")
    table(tmp_path / "train.csv", HOT, header)
    table(tmp_path / "test.csv", [("x", "-1", "-1", "-1"), ("y", "-1", "-1", "-1")], header)
    splits, _ = read_texts(tmp_path)
    assert splits.test is None
    assert "not used: test.csv, whose texts have no labels" in splits.notes


def test_a_label_column_without_a_1_in_training_is_told_and_refused_later(tmp_path):
    header = ("text", "joy", "anger", "fear")
    table(tmp_path / "train.csv", [row for row in HOT if row[3] == "0"] * 2, header)
    splits, columns = read_texts(tmp_path / "train.csv")
    assert splits.train.class_names == ("anger", "joy")
    assert "not used: label columns without any 1 in training, 'fear'" in splits.notes
    assert columns.label == "joy,anger,fear"
    table(tmp_path / "val.csv", HOT, header)
    with pytest.raises(DataError, match=r"out of anger, joy, got 'fear' in row 5 of the 3 label columns"):
        read_texts(tmp_path)


# Bad input.


def test_a_label_column_of_only_empty_cells_is_refused(tmp_path):
    for task in ("multi_label", None):
        with pytest.raises(DataError, match=r"got (only empty cells, 3|no label in rows 2, 3, 4)"):
            read_texts(column(tmp_path / "a.csv", ["", " ", ""]), task=task)
    with pytest.raises(DataError, match="only empty cells, 2 of them"):
        read_texts(lines(tmp_path / "a.jsonl", [[], []]))
    train = column(tmp_path / "d" / "train.csv", LISTS["|"])
    column(tmp_path / "d" / "val.csv", ["", ""])
    with pytest.raises(DataError, match=r"column 'label' of .*val\.csv, got only empty cells"):
        read_texts(tmp_path / "d")
    column(tmp_path / "e" / "test.csv", ["", ""])
    column(tmp_path / "e" / "train.csv", LISTS["|"])
    splits, _ = read_texts(tmp_path / "e")
    assert splits.test is None
    assert "not used: test.csv, whose texts have no labels" in splits.notes
    assert train.exists()


def test_a_label_that_never_occurs_in_training_is_refused_with_its_rows(tmp_path):
    column(tmp_path / "train.csv", LISTS["|"])
    column(tmp_path / "val.csv", ["joy", "joy|eggs", "eggs"])
    with pytest.raises(
        DataError,
        match=r"out of anger, fear, joy, got 'eggs' in rows 3, 4 of column 'label' of .*val\.csv",
    ):
        read_texts(tmp_path)
    names = ["anger", "eggs", "fear", "joy"]
    splits, _ = read_texts(tmp_path, class_names=names)
    assert splits.validation.counts() == {"anger": 0, "eggs": 2, "fear": 0, "joy": 2}
    with pytest.raises(DataError, match=r"out of anger, joy, got 'fear' in rows 4, 5"):
        read_texts(tmp_path / "train.csv", class_names=["anger", "joy"])


def test_validation_is_read_by_the_separator_of_training(tmp_path):
    column(tmp_path / "train.csv", LISTS["|"])
    column(tmp_path / "val.csv", ["joy", "fear"])
    column(tmp_path / "test.csv", ["anger|joy", ""])
    splits, _ = read_texts(tmp_path)
    assert sets_of(splits.validation) == [{"joy"}, {"fear"}]
    assert sets_of(splits.test) == [{"anger", "joy"}, set()]
    assert "rows without any label: 1 of 2 in test" in splits.notes
    other = column(tmp_path / "more" / "b.csv", ["joy|fear"], "kind")
    with pytest.raises(DataError, match="one column 'label'"):
        load_text_splits(tmp_path, validation=other)
    given, _ = load_text_splits(tmp_path, validation=column(tmp_path / "c.csv", ["joy|fear"]))
    assert sets_of(given.validation) == [{"joy", "fear"}]


def test_thousands_of_labels_are_told(tmp_path):
    labels = [f"tag{at}|tag{at + 1}|common" for at in range(1200)] * 2
    splits, _ = read_texts(column(tmp_path / "a.csv", labels))
    assert len(splits.train.class_names) == 1202
    assert splits.notes[-1] == (
        "1,202 labels, 1,201 of them in fewer than 10 rows, such as common, tag0, tag1; labels of so few rows are "
        "hardly learned"
    )


def test_labels_are_trimmed_and_names_that_differ_in_case_or_spaces_are_told(tmp_path):
    labels = ["joy | Joy", " joy", "fear|joy ", "fear  of|fear of|joy", "fear", "fear  of", "fear of", "Joy"]
    splits, _ = read_texts(column(tmp_path / "a.csv", labels))
    assert splits.train.class_names == ("Joy", "fear", "fear  of", "fear of", "joy")
    assert splits.notes[1:] == (
        "the labels 'Joy' (2 rows) and 'joy' (4 rows) differ only in case or spaces; write one label in one way",
        "the labels 'fear  of' (2 rows) and 'fear of' (2 rows) differ only in case or spaces; write one label in "
        "one way",
    )


def test_labels_given_twice_and_empty_pieces_count_once_or_not_and_are_told(tmp_path):
    splits, _ = read_texts(column(tmp_path / "a.csv", ["joy|joy", "fear||joy", "fear|", "joy|fear"]))
    assert sets_of(splits.train) == [{"joy"}, {"joy", "fear"}, {"fear"}, {"joy", "fear"}]
    twice, between, _ = splits.notes
    assert twice.startswith("row 2 of ")
    assert twice.endswith("a.csv name a label more than once, which counts once")
    assert between.startswith("rows 3, 4 of ")


def test_spellings_of_one_label_are_one_label(tmp_path):
    splits, _ = read_texts(lines(tmp_path / "a.jsonl", [[1, True], [1.0], ["1", "true"], [2]]))
    assert splits.train.class_names == ("1", "2", "True")
    assert sets_of(splits.train) == [{"1", "True"}, {"1"}, {"1", "True"}, {"2"}]


def test_a_separator_within_a_quoted_label_does_not_split_it(tmp_path):
    splits, _ = read_texts(column(tmp_path / "a.csv", ['["a, b", "c"]', '["c"]', '["a, b"]']))
    assert splits.train.class_names == ("a, b", "c")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (['["joy", 3]', '[{"joy": 1}]', '["joy", null]'], "an object in rows 3, 4"),
        (["[0, 1, 0]", "[1, 1, 0]"], "lists of 3 zeros and ones, which name no labels"),
        (["0|1|0", "1|1|0"], "lists of 3 zeros and ones, which name no labels"),
        (["joy|" + "x" * 201, "joy", "x" * 201], r"a label of more than 200 characters in rows 2, 4"),
        (["joy|a\x1bb", "joy", "a\x1bb"], r"a line break or a control character in rows 2, 4"),
        (["1|nan", "1", "nan", "2"], r"'nan' among numbers, which is no label, in rows 2, 4"),
        (["joy|joy", "joy", "", "joy|"], "at least two classes, got only 'joy'"),
        (["['2024-01-30', '2024-01-31']"] * 4, "got dates"),
        (["['O', 'B-person']", "['B-loc', 'O']"] * 4, "got tags of single words"),
        (["['a/1.jpg', 'b/2.jpg']"] * 4, "got names of files"),
        (["[0.5, 0.25]", "[0.75]"] * 4, "got numbers with a fraction"),
        ([f"['user_{at}', 'user_{at}x']" for at in range(9)], "got ids or texts that hardly repeat"),
    ],
)
def test_lists_of_what_is_no_label_are_refused(tmp_path, labels, message):
    with pytest.raises(DataError, match=message):
        read_texts(column(tmp_path / "a.csv", labels))


def test_known_classes_are_not_taken_for_lists(tmp_path):
    path = column(tmp_path / "a.csv", ["rock, pop", "rock", "pop", "rock, pop"])
    assert read_texts(path)[0].train.task.name == "multi_label"
    splits, _ = read_texts(path, class_names=["rock, pop", "rock", "pop"])
    assert splits.train.labels.tolist() == [0, 1, 2, 0]


def test_a_first_row_of_known_labels_is_no_header_of_a_table_of_lists(tmp_path):
    labels = [
        "joy|anger",
        "fear|anger",
        "joy",
        "joy",
        "fear|joy",
        "joy",
        "joy",
        "joy",
    ]  # the first does not come again
    rows = [(f"some words {at}", label) for at, label in enumerate(labels)]
    splits, columns = read_texts(table(tmp_path / "a.csv", rows, None))
    assert (columns.input, columns.label, columns.header, len(splits.train)) == ("1", "2", False, 8)
    rows[0] = ("some words 0", "")
    empty, _ = read_texts(table(tmp_path / "c.csv", rows, None), task="multi_label")
    assert len(empty.train) == 8
    other = table(tmp_path / "b.csv", [("hello", "anger|joy"), ("prize", "fear")], None)
    given, _ = load_text_splits(tmp_path / "a.csv", validation=other)
    assert sets_of(given.validation) == [{"anger", "joy"}, {"fear"}]


def test_shards_are_one_table_of_lists(tmp_path):
    column(tmp_path / "train-00000-of-00002.csv", ["joy", "fear"])
    column(tmp_path / "train-00001-of-00002.csv", ["joy|fear", "", "anger|fear"])
    splits, _ = read_texts(tmp_path)
    assert sets_of(splits.train) == [{"joy"}, {"fear"}, {"joy", "fear"}, set(), {"anger", "fear"}]


def test_goemotions_is_multi_label():
    if not (SHARED / "goemotions").is_dir():
        pytest.skip("real data is not here")
    splits, columns = read_texts(SHARED / "goemotions")
    parts = (splits.train, splits.validation, splits.test)
    assert [part.labels.shape for part in parts] == [(12000, 28), (5426, 28), (5427, 28)]
    assert [int(part.labels.sum(1).min()) for part in parts] == [1, 1, 1]
    raw = (SHARED / "goemotions" / "train.csv").read_text(encoding="utf-8")
    assert (
        sum(len(row[1].split("|")) for row in list(csv.reader(io.StringIO(raw)))[1:])
        == splits.train.labels.sum()
    )
    assert splits.train.counts()["admiration"] == 1177
    assert columns.line() == "texts 'text', labels 'labels' separated by '|', guessed"
    assert "separated by '|': multi-label with 28 labels (task=\"single_label\"" in splits.notes[1]
