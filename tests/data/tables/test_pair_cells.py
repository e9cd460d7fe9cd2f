"""Tables of pairs of texts: their columns, and what is refused."""

import csv
import gzip
import io
import json

import numpy as np
import pytest

from ktransfer.data.examples import Examples
from ktransfer.data.pairs import Pair
from ktransfer.data.tables.pair_cells import find_pair
from ktransfer.errors import DataError
from ktransfer.text.inputs import find_pairs
from ktransfer.text.sources import load_text_splits, read_texts

ROWS = [
    *(("A man eats.", "A man is eating.", "yes"), ("It rains.", "The sun is out.", "no")),
    *(("A dog barks.", "There is a dog.", "yes"), ("She sings, loudly.", "Nobody sings.", "no")),
]
PAIRS = tuple(Pair(one, other) for one, other, _ in ROWS)
NAMES = [
    *(
        ("premise", "hypothesis"),
        ("sentence1", "sentence2"),
        ("text_a", "text_b"),
        ("question1", "question2"),
    ),
    *(("Sentence A", "Sentence B"), ("text", "text_pair"), ("QUERY", "passage"), ("question", "sentence")),
]


def write(path, names, rows=ROWS):
    suffix = path.name.split(".", 1)[1]
    if suffix in ("csv", "tsv", "csv.gz"):
        text = io.StringIO()
        csv.writer(text, delimiter="\t" if suffix == "tsv" else ",").writerows([names, *rows])
        content = text.getvalue().encode()
        path.write_bytes(gzip.compress(content) if suffix == "csv.gz" else content)
    elif suffix == "jsonl":
        path.write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows))
    elif suffix == "json":
        path.write_text(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
    else:
        parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "jsonl", "json", "parquet"])
@pytest.mark.parametrize("names", NAMES)
def test_columns_that_are_called_as_pairs_are_read_as_such(names, suffix, tmp_path):
    splits, columns = read_texts(write(tmp_path / f"pairs.{suffix}", [*names, "label"]))
    assert splits.train.inputs == PAIRS
    assert splits.train.class_names == ("no", "yes")
    assert splits.train.noun == "pairs"
    assert columns.line() == f"pairs of texts {names[0]!r} and {names[1]!r}, labels 'label', guessed"
    assert columns.facts()["text_columns"] == ",".join(names)
    assert columns.facts()["text_column"] is None


@pytest.mark.parametrize("given", ["left,right", ("left", "right"), "2,3", " left , right "])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_columns_that_are_named_are_read(given, suffix, tmp_path):
    rows = [(str(index), one, other, label) for index, (one, other, label) in enumerate(ROWS)]
    path = write(tmp_path / f"pairs.{suffix}", ["id", "left", "right", "kind"], rows)
    splits, columns = read_texts(path, text_columns=given)
    assert splits.train.inputs == PAIRS
    assert columns.label == "kind"


def test_a_table_without_a_header_is_read_by_numbers(tmp_path):
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(ROWS)
    splits, _ = read_texts(tmp_path / "pairs.csv", text_columns="1,2", label_column="3")
    assert splits.train.inputs == PAIRS


def test_a_column_may_itself_have_a_comma_in_its_name(tmp_path):
    path = write(tmp_path / "pairs.csv", ["one, first", "two", "label"])
    assert read_texts(path, text_columns=("one, first", "two"))[0].train.inputs == PAIRS
    assert read_texts(path, text_columns='"one, first",two')[0].train.inputs == PAIRS


def test_other_tables_of_a_folder_are_read_by_the_same_columns(tmp_path):
    write(tmp_path / "train.csv", ["premise", "hypothesis", "label"])
    write(tmp_path / "val.csv", ["label", "hypothesis", "premise"], [row[::-1] for row in ROWS[:2]])
    splits, _ = load_text_splits(tmp_path)
    assert splits.validation.inputs == PAIRS[:2]


def test_either_text_may_be_the_group_that_stays_together(tmp_path):
    rows = [
        (f"Premise {index // 2}.", f"Claim {index}.", "no" if index % 2 else "yes") for index in range(40)
    ]
    path = write(tmp_path / "pairs.csv", ["premise", "hypothesis", "label"], rows)
    splits, _ = load_text_splits(path, group_column="premise")
    train, held_out = ({pair.first for pair in part.inputs} for part in (splits.train, splits.validation))
    assert held_out
    assert not train & held_out


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["a", "b", "label"], {"text_columns": "a,c"}, "Expected one column 'c'.*'a', 'b'.*'label'"),
        (["a", "b", "label"], {"text_columns": "a,a"}, "two different columns for --text-columns, got 'a'"),
        (["a", "b", "label"], {"text_columns": "a"}, "two different columns for --text-columns, got 'a'"),
        (["a", "b", "label"], {"text_columns": ("a", "b", "label")}, "two different columns"),
        (
            ["a", "b", "label"],
            {"text_columns": "a,label", "label_column": "label"},
            "different columns of texts",
        ),
        (
            ["a", "b", "label"],
            {"text_columns": "a,b", "text_column": "a"},
            "text_column or text_columns, got both",
        ),
        (
            ["my_1", "my_2", "kind"],
            {},
            "'my_1' and 'my_2' look like pairs of texts: pass them as --text-columns",
        ),
    ],
)
def test_wrong_columns_are_refused_by_the_names_that_there_are(names, options, message, tmp_path):
    with pytest.raises(DataError, match=f"(?s){message}"):
        read_texts(write(tmp_path / "pairs.csv", names), **options)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(("suffix", "row"), [("csv", 3), ("jsonl", 2), ("parquet", 2)])
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_side_is_refused_with_its_row(side, suffix, row, empty, tmp_path):
    rows = [list(each) for each in ROWS]
    rows[1][side] = empty
    path = write(tmp_path / f"pairs.{suffix}", ["premise", "hypothesis", "label"], rows)
    name = ("premise", "hypothesis")[side]
    with pytest.raises(DataError, match=rf"column '{name}' of .* an empty text in row {row}\b"):
        read_texts(path)


def test_names_of_files_and_numbers_are_no_texts(tmp_path):
    rows = [(f"{index}.jpg", "a text", label) for index, (_, _, label) in enumerate(ROWS)]
    with pytest.raises(DataError, match="Pass the texts as --text-columns"):
        read_texts(write(tmp_path / "pairs.csv", ["a", "b", "label"], rows), text_columns="a,b")
    assert find_pair(["text1", "text2"], [["1.5", "2"], ["3", "4"]]) is None


def test_folders_of_texts_and_entities_are_no_pairs(tmp_path):
    for name in ("yes", "no"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text("a text")
    with pytest.raises(DataError, match="Expected a table for text_columns="):
        read_texts(tmp_path, text_columns="a,b")


# Splits.


def many_pairs(count=30):
    """Pairs, each also mirrored and once more in capitals, of two classes."""
    inputs, labels = [], []
    for index in range(count):
        one, other = f"text {index}", f"claim {index}"
        inputs += [(one, other), (other, one), (one.upper(), f" {other}  ")]
        labels += [index % 2] * 3
    return Examples(inputs, np.array(labels), ("no", "yes"), kind="text")


def test_mirrored_and_repeated_pairs_stay_on_one_side():
    for seed in range(5):
        rest, held_out = many_pairs().split(0.3, seed=seed)
        sides = [
            {frozenset(" ".join(text.split()).casefold() for text in pair) for pair in part.inputs}
            for part in (rest, held_out)
        ]
        assert not sides[0] & sides[1]
        assert len(rest) + len(held_out) == 90


def test_a_swapped_pair_has_another_fingerprint():
    one = Examples([("a", "b"), ("c", "d")], np.array([0, 1]), ("x", "y"), kind="text")
    other = Examples([("b", "a"), ("c", "d")], np.array([0, 1]), ("x", "y"), kind="text")
    moved = Examples([("a b", ""), ("c", "d")], np.array([0, 1]), ("x", "y"), kind="text")
    assert len({one.fingerprint(), other.fingerprint(), moved.fingerprint()}) == 3


@pytest.mark.parametrize("inputs", [[("a", "b"), "c"], [("a", "b", "c")], [("a", 1)]])
def test_examples_that_are_no_pairs_are_refused(inputs):
    with pytest.raises(DataError, match="pair"):
        Examples(inputs, np.zeros(len(inputs), int), ("x",), kind="text")


# What is predicted.


def test_two_texts_that_follow_one_another_are_a_pair():
    assert find_pairs(["a b", "c d", "e f", "g h"]).items == (Pair("a b", "c d"), Pair("e f", "g h"))


def test_tables_with_both_columns_are_predicted(tmp_path):
    path = write(tmp_path / "new.csv", ["label", "right", "left"], [row[::-1] for row in ROWS])
    assert find_pairs([str(path)], columns=("left", "right")).items == PAIRS
    guessed = write(tmp_path / "others.csv", ["premise", "hypothesis", "label"])
    assert find_pairs([str(guessed)]).items == PAIRS
    two = write(tmp_path / "two.csv", ["right", "left"], [row[1::-1] for row in ROWS])
    assert find_pairs([str(two)], columns=("left", "right")).items == PAIRS


@pytest.mark.parametrize(
    ("given", "message"), [(["a b"], "'a b' without another"), (["a b", ""], "an empty one")]
)
def test_a_text_without_another_is_refused(given, message):
    with pytest.raises(DataError, match=message):
        find_pairs(given)
