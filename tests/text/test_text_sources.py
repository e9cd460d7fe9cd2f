import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from ktransfer.data.examples import normalised
from ktransfer.data.tables.columns import Columns
from ktransfer.data.tables.table import read_table
from ktransfer.data.tables.table_files import read_text
from ktransfer.errors import DataError
from ktransfer.text.sources import load_text_splits

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
HAM = [f"see you at {hour}" for hour in range(10)]
SPAM = [f"win {price} now" for price in range(10)]
ROWS = [("text", "label"), *((text, "ham") for text in HAM), *((text, "spam") for text in SPAM)]


def written(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))
    return path


def table(path, rows=ROWS, separator=","):
    return written(path, "".join(separator.join(row) + "\n" for row in rows))


def whole(splits):
    pairs = []
    for part in (splits.train, splits.validation):
        pairs += zip(part.inputs, (part.class_names[label] for label in part.labels), strict=True)
    return sorted(pairs)


# The formats.


@pytest.mark.parametrize(
    ("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a", "\t"), ("a.txt", ",")]
)
@pytest.mark.parametrize("header", [True, False])
def test_delimited_tables_are_read_with_and_without_a_header(tmp_path, name, separator, header):
    rows = ROWS if header else ROWS[1:]
    splits, columns = load_text_splits(table(tmp_path / name, rows, separator))
    assert whole(splits) == sorted(ROWS[1:])
    assert splits.train.kind == "text"
    found = ("text", "label") if header else ("1", "2")
    assert columns == Columns(*found, header=header, guessed=True)


def test_json_lines_and_parquet_give_the_same_as_csv(tmp_path):
    objects = [dict(zip(ROWS[0], row, strict=True)) for row in ROWS[1:]]
    lines = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, objects)) + "\n\n")
    reference = load_text_splits(table(tmp_path / "a.csv"))[0]
    assert load_text_splits(lines)[0].train.fingerprint() == reference.train.fingerprint()
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(objects), tmp_path / "a.parquet")
    splits, columns = load_text_splits(tmp_path / "a.parquet")
    assert splits.train.fingerprint() == reference.train.fingerprint()
    assert columns == Columns("text", "label", header=True, guessed=True)


def test_without_pyarrow_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r'pip install "ktransfer\[parquet\]"'):
        load_text_splits(written(tmp_path / "a.parquet", "x"))


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=r"Parquet file, got .*a\.parquet"):
        read_table(written(tmp_path / "a.parquet", "text,label"))


def test_class_folders_of_text_files_are_read_and_other_files_passed_over(tmp_path):
    for name, texts in (("ham", HAM), ("spam", SPAM)):
        for index, text in enumerate(texts):
            written(tmp_path / name / "2024" / f"{index:02}.txt", text)
        written(tmp_path / name / "notes.md", "x")
        written(tmp_path / name / ".hidden.txt", "x")
    splits, columns = load_text_splits(tmp_path)
    assert whole(splits) == sorted(ROWS[1:])
    assert columns is None


@pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
def test_a_folder_of_parts_is_read_as_such_whether_tables_or_folders(tmp_path, validation):
    rows = [("x", "a"), ("y", "b")]
    for part, count in (("train", 3), (validation, 2), ("test", 1)):
        table(tmp_path / "tables" / f"{part}.csv", [("text", "label"), *rows * count])
        for text, name in rows:
            for copy in range(count):
                written(tmp_path / "folders" / part / name / f"{copy}.txt", text)
    table(tmp_path / "tables" / "notes.csv", [("who", "what")])
    for folder in ("tables", "folders"):
        splits, _ = load_text_splits(tmp_path / folder)
        assert [len(splits.train), len(splits.validation), len(splits.test)] == [6, 4, 2]


def test_parts_twice_or_without_train_are_refused(tmp_path):
    table(tmp_path / "val.csv")
    with pytest.raises(DataError, match=r"a train split next to val\.csv"):
        load_text_splits(tmp_path)
    table(tmp_path / "train.csv")
    table(tmp_path / "validation.tsv", separator="\t")
    with pytest.raises(DataError, match=r"one validation split.*val\.csv and validation\.tsv"):
        load_text_splits(tmp_path)


def test_a_folder_with_a_table_of_another_name_says_to_pass_the_file(tmp_path):
    table(tmp_path / "reviews.csv")
    with pytest.raises(DataError, match=r"got reviews\.csv\. Pass that file itself"):
        load_text_splits(tmp_path)
    with pytest.raises(DataError, match="got an empty folder"):
        load_text_splits(tmp_path.joinpath("empty").mkdir() or tmp_path / "empty")
    with pytest.raises(DataError, match=r"gone\.csv, got No such file"):
        load_text_splits(tmp_path / "gone.csv")


# Columns.


@pytest.mark.parametrize(
    ("rows", "text", "label"),
    [
        ([("id", "Message", "Category"), ("1", "hi", "a"), ("2", "ho", "b")], "Message", "Category"),
        ([("kind", "words"), ("a", "x"), ("b", "y"), ("a", "z"), ("b", "w")], "words", "kind"),
        ([("headline", "label"), ("x", "a"), ("y", "b")], "headline", "label"),
    ],
)
def test_columns_are_guessed_by_customary_names_or_as_the_one_that_repeats_itself(
    tmp_path, rows, text, label
):
    columns = read_table(table(tmp_path / "a.csv", rows)).columns
    assert columns == Columns(text, label, header=True, guessed=True)


def test_a_first_row_whose_label_comes_again_is_no_header_even_with_a_customary_name(tmp_path):
    rows = [("topic", "what is it"), ("order", "two of those"), ("topic", "who"), ("order", "one")]
    found = read_table(table(tmp_path / "a.csv", rows))
    assert found.columns == Columns("2", "1", header=False, guessed=True)
    assert found.rows == [1, 2, 3, 4]


def test_a_first_row_with_a_label_known_from_training_is_no_header(tmp_path):
    path = table(tmp_path / "a.csv", [("hi", "ham"), ("win", "spam"), ("won", "spam"), ("x", "spam")])
    assert read_table(path).columns.header
    assert not read_table(path, labels={"ham", "spam"}).columns.header


def test_columns_are_given_by_name_or_number(tmp_path):
    rows = [("one", "two", "three"), ("a", "x", "p"), ("b", "y", "q")]
    path = table(tmp_path / "a.csv", rows)
    found = read_table(path, input_column="three", label_column="1")
    assert (found.inputs, found.labels, found.rows) == (["p", "q"], ["a", "b"], [2, 3])
    assert found.columns == Columns("three", "one", header=True, guessed=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"to know the columns.*the columns 'one', 'two', 'three'\. Pass --text-column"),
        ({"input_column": "four"}, r"one column 'four'.*the columns 'one', 'two', 'three'"),
        ({"input_column": "one", "label_column": "one"}, "to know the columns"),
        ({"input_column": "7", "label_column": "1"}, "one column '7'"),
    ],
)
def test_columns_that_are_missing_or_unclear_are_named(tmp_path, options, message):
    rows = [("one", "two", "three"), ("a", "x", "p"), ("b", "y", "q")]
    with pytest.raises(DataError, match=message):
        read_table(table(tmp_path / "a.csv", rows), **options)


# What is wrong in the file.


def test_quoted_cells_may_hold_commas_quotes_and_lines_and_rows_are_counted_as_a_spreadsheet_does(tmp_path):
    path = written(tmp_path / "a.csv", 'text,label\n"one, ""two""\nthree",a\n\nfour,b\nfive,a\n')
    found = read_table(path)
    assert found.inputs == ['one, "two"\nthree', "four", "five"]
    assert found.rows == [2, 4, 5]


def test_in_tsv_a_quote_is_a_character(tmp_path):
    found = read_table(written(tmp_path / "a.tsv", 'label\ttext\na\t"one\nb\ttwo" "\n'))
    assert found.inputs == ['"one', 'two" "']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('text,label\none,a\n"two,b\nthree,a\n', r"row 3, a quote that is never closed\. Close it"),
        ('text,label\n"one" more,a\n', "row 2, a stray quote"),
        ("text,label\none,a\ntwo, or three,b\n", r"row 3, 3 cells where row 1 has 2\. .*comma"),
        ("text,label\none\n", "row 2, 1 cells where row 1 has 2"),
        ("text\none\n", "got one column"),
        ("\n\n", "got nothing"),
        ("text,label\n", "got no row of data"),
    ],
)
def test_a_broken_table_is_refused_and_the_row_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        load_text_splits(written(tmp_path / "a.csv", content))


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "row 2, which is no JSON"), ("[1]", "row 2, a JSON list")],
)
def test_a_broken_line_of_json_is_named(tmp_path, line, message):
    content = '{"text": "a", "label": 1}\n' + line
    with pytest.raises(DataError, match=message):
        load_text_splits(written(tmp_path / "a.jsonl", content))


def test_another_encoding_is_named_with_its_lines_and_can_be_given(tmp_path):
    rows = [("text", "label"), ("plain", "a"), ("Beyoncé", "b"), ("plain too", "a"), ("Björk", "b")]
    path = written(tmp_path / "a.csv", "".join(",".join(row) + "\n" for row in rows), "latin-1")
    with pytest.raises(
        DataError, match=r"UTF-8 in .*byte 0xE9 in lines 3, 5 \('.*Beyoncé.*--encoding latin-1"
    ):
        load_text_splits(path)
    assert read_table(path, encoding="latin-1").inputs[1::2] == ["Beyoncé", "Björk"]
    with pytest.raises(DataError, match=r"that Python knows, got 'klingon'"):
        read_table(path, encoding="klingon")


def test_byte_order_marks_of_utf8_and_utf16_are_understood(tmp_path):
    content = "text,label\né,a\nx,b\nz,b\n"
    assert read_table(written(tmp_path / "8.csv", content, "utf-8-sig")).columns.input == "text"
    assert read_table(written(tmp_path / "16.csv", content, "utf-16")).inputs == ["é", "x", "z"]
    assert read_text(written(tmp_path / "8.txt", "é", "utf-8-sig")) == "é"


def test_line_separators_inside_json_strings_do_not_end_a_row(tmp_path):
    path = written(
        tmp_path / "a.jsonl", '{"text": "one\u2028two", "label": "a"}\n{"text": "x", "label": "b"}'
    )
    assert read_table(path).inputs == ["one\u2028two", "x"]


# What is wrong in the data.


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("x", "a"), (" ", "b"), ("", "b")], "an empty text in rows 3, 4"),
        ([("x", "a"), ("y", ""), ("z", " ")], "no label in rows 3, 4"),
        ([("x", "a"), ("y", "a")], r"two classes, got only 'a'"),
        ([("x", "a"), ("y", "b" * 201)], "more than 200 characters in row 3"),
        ([("x", "a"), ("y", "b"), ("z", "b")], "two different texts of each class.*1 of class 'a'"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        load_text_splits(table(tmp_path / "a.csv", [("text", "label"), *rows]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("x", 1), (5, 2)], "a value of type int in row 2"),
        ([("x", 1), (None, 2)], "a value of type null in row 2"),
        ([("x", 1), ("\ud800", 2)], "half of a surrogate pair in row 2"),
        ([("x", 1), ("y", None), ("z", float("nan"))], "no label in rows 2, 3"),
        ([("x", 1), ("y", {"a": 2})], "an object in row 2"),
    ],
)
def test_values_of_the_wrong_type_are_named(tmp_path, rows, message):
    lines = (json.dumps({"text": text, "label": label}) for text, label in rows)
    with pytest.raises(DataError, match=message):
        load_text_splits(written(tmp_path / "a.jsonl", "\n".join(lines)))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([10, 9, -1], ("-1", "9", "10")),
        ([1.0, 2, 2], ("1", "2")),
        ([True, False, True], ("False", "True")),
        (["10", "9", "x"], ("10", "9", "x")),
    ],
)
def test_numbers_and_booleans_are_class_names_in_their_order(tmp_path, labels, names):
    lines = [json.dumps({"text": f"{label} {i}", "label": label}) for label in labels for i in range(3)]
    splits, _ = load_text_splits(written(tmp_path / "a.jsonl", "\n".join(lines)))
    assert splits.train.class_names == names


def test_a_label_that_training_lacks_is_named_with_its_rows(tmp_path):
    table(tmp_path / "train.csv")
    table(tmp_path / "val.csv", [("text", "label"), ("x", "ham"), ("y", "eggs"), ("z", "eggs")])
    with pytest.raises(DataError, match=r"out of ham, spam, got 'eggs' in rows 3, 4 of .*val\.csv"):
        load_text_splits(tmp_path)


def test_an_empty_file_of_a_class_folder_is_named(tmp_path):
    for name in ("a/1.txt", "b/1.txt"):
        written(tmp_path / name, "x")
    written(tmp_path / "b/2.txt", " \n")
    with pytest.raises(DataError, match=r"an empty text in file b/2\.txt"):
        load_text_splits(tmp_path)
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match=r"texts in .*c, got an empty folder"):
        load_text_splits(tmp_path)


def test_a_cell_of_ten_megabytes_is_read(tmp_path):
    huge = "word " * 2_000_000
    splits, _ = load_text_splits(table(tmp_path / "a.csv", [*ROWS, (huge, "ham")]))
    assert huge in splits.train.inputs + splits.validation.inputs


# Splits.


def test_a_split_holds_out_of_each_class_and_no_text_lies_on_both_sides(tmp_path):
    shouted = [(text.upper().replace(" ", "  "), label) for text, label in ROWS[1:]]
    splits, _ = load_text_splits(table(tmp_path / "a.csv", ROWS + shouted), validation_fraction=0.3, seed=1)
    assert splits.validation.counts() == {"ham": 6, "spam": 6}
    train, held_out = (
        {normalised(text) for text in part.inputs} for part in (splits.train, splits.validation)
    )
    assert not train & held_out
    again, _ = load_text_splits(tmp_path / "a.csv", validation_fraction=0.3, seed=1)
    assert again.validation.inputs == splits.validation.inputs


def test_a_given_validation_file_goes_first_and_is_read_by_the_columns_of_training(tmp_path):
    rows = [("id", "words", "kind"), *((str(i), *row) for i, row in enumerate(ROWS[1:]))]
    table(tmp_path / "data" / "train.csv", rows)
    table(tmp_path / "data" / "val.csv", rows)
    other = table(tmp_path / "other.csv", [("kind", "extra", "words"), ("ham", "", "hello")])
    splits, columns = load_text_splits(
        tmp_path / "data", text_column="words", label_column="kind", validation=other
    )
    assert (columns.input, columns.label, columns.guessed) == ("words", "kind", False)
    assert (len(splits.train), splits.validation.inputs) == (20, ("hello",))


def test_a_validation_file_without_a_header_is_known_by_its_labels(tmp_path):
    train = table(tmp_path / "train.csv", ROWS[1:])
    other = table(tmp_path / "other.csv", [("hello", "ham"), ("prize", "spam")])
    assert len(load_text_splits(train, validation=other)[0].validation) == 2


# TFDS.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data_dir with `notes` 1.0.0: train two of each class, test one of each and one unlabelled."""
    tfds = pytest.importorskip("tensorflow_datasets")
    root = tmp_path_factory.mktemp("tfds")

    class Notes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            label = tfds.features.ClassLabel(names=["no", "été"])
            features = {"title": tfds.features.Text(), "text": tfds.features.Text(), "label": label}
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("text", "label"),
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples([0, 0, 1, 1]),
                "test": self._generate_examples([1, 0, -1]),
            }

        def _generate_examples(self, labels):
            for index, label in enumerate(labels):
                yield index, {"title": f"title {index}", "text": f"né {index}", "label": label}

    builder = Notes(data_dir=str(root), file_format="tfrecord")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False, register_checksums=False)
    )
    return root


def test_a_prepared_tfds_data_set_is_read_and_unlabelled_texts_left_out(prepared):
    splits, columns = load_text_splits("tfds:notes", data_dir=prepared, validation_fraction=0.5)
    assert columns == Columns("text", "label", header=True, guessed=True)
    assert splits.train.class_names == ("no", "été")
    assert [text for text, _ in whole(splits)] == ["né 0", "né 1", "né 2", "né 3"]
    assert dict(Counter(splits.test.labels.tolist())) == {0: 1, 1: 1}


def test_several_label_columns_of_a_tfds_data_set_are_refused_by_name(prepared):
    with pytest.raises(DataError, match="a class label as features 'text' and 'label,title'"):
        load_text_splits("tfds:notes", data_dir=prepared, label_column=["label", "title"])


def test_another_feature_of_a_tfds_data_set_can_be_named_and_a_wrong_one_is_refused(prepared):
    splits, columns = load_text_splits(
        "tfds:notes", data_dir=prepared, text_column="title", validation_fraction=0.5
    )
    assert columns.input == "title"
    assert whole(splits)[0][0] == "title 0"
    with pytest.raises(DataError, match=r"features 'label' and 'label', got .*title.* in tfds:notes"):
        load_text_splits("tfds:notes", data_dir=prepared, text_column="label")


# Real data, where it is.


def test_every_message_of_sms_spam_is_read():
    path = SHARED / "sms_spam" / "SMSSpamCollection"
    if not path.is_file():
        pytest.skip("real data is not here")
    found = read_table(path)
    assert dict(Counter(found.labels)) == {"ham": 4827, "spam": 747}


def test_snips_is_read_as_a_folder_of_parts():
    if not (SHARED / "snips").is_dir():
        pytest.skip("real data is not here")
    splits, columns = load_text_splits(SHARED / "snips")
    assert (len(splits.train), len(splits.validation), len(splits.train.class_names)) == (13784, 700, 7)
    assert columns == Columns("text", "label", header=True, guessed=True)
