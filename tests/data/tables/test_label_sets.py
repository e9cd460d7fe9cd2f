"""Several labels a row: how cells are split, and what makes them lists."""

import numpy as np
import pytest

from ktransfer.data.tables.label_sets import (
    LIST,
    alike_names,
    are_vectors,
    find_separator,
    hot_value,
    is_empty,
    label_matrix,
    split_cell,
)


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["joy|anger", "joy", "anger|fear", "fear"], "|"),
        (["a|b", "c|d", "e|f", "a|b"], "|"),
        (["joy | anger", "joy", "", None, "anger"], "|"),
        (["joy, anger", "joy", "anger", "anger, joy"], ","),
        (["joy;anger", "joy", "anger", "anger;joy"], ";"),
        (["joy/anger", "anger/fear", "joy/fear", "joy/anger/fear"], "/"),
        (["['joy', 'anger']", "['joy']", "['anger']", "[]"], LIST),
        (['["joy"]', '["anger", "joy"]', '["fear"]'], LIST),
        (["{joy,anger}", "{joy}", "{fear}"], LIST),
        ([["joy"], [], None], LIST),
        ([("joy", "anger"), "joy"], LIST),
        # Names of classes.
        (["Sports, leisure", "Books, film", "Food"], None),
        (["books|fiction", "books|travel", "toys|games"], None),
        (["Sci/Tech", "World", "Sci", "Tech"], None),
        (["[spam]", "ham", "eggs"], None),
        (["ham", "spam"], None),
        ([1, 2, None], None),
        (["", None, float("nan")], None),
        ([], None),
    ],
)
def test_the_separator_is_what_the_pieces_of_lists_have_between_them(cells, separator):
    assert find_separator(cells) == separator


@pytest.mark.parametrize(
    ("cell", "separator", "labels"),
    [
        ("joy|anger", "|", ["joy", "anger"]),
        (" joy ||anger| ", "|", ["joy", "", "anger", ""]),
        ("joy joy", " ", ["joy", "joy"]),
        ("a::b", "::", ["a", "b"]),
        ("joy|anger", None, ["joy|anger"]),
        ('["a, b", "c|d", "e\\"f"]', LIST, ["a, b", "c|d", 'e"f']),
        ("['a, b', \"it's\"]", LIST, ["a, b", "it's"]),
        (r"['it\'s', 'b']", LIST, ["it's", "b"]),
        ("['joy' 'anger'\n 'fear']", LIST, ["joy", "anger", "fear"]),  # as NumPy prints it
        ("[1 2 13]", LIST, ["1", "2", "13"]),
        ("[1, 2.0, true]", LIST, ["1", "2", "True"]),
        ('{joy,"or, so"}', LIST, ["joy", "or, so"]),  # as Postgres writes it
        ("[joy, anger]", LIST, ["joy", "anger"]),
        ("['joy',]", LIST, ["joy"]),
        ("[]", LIST, []),
        ("{}", LIST, []),
        ("joy", LIST, ["joy"]),
        (["joy", 3, 2.0, True], LIST, ["joy", "3", "2", "True"]),
        (3, "|", ["3"]),
        ("", "|", []),
        (None, LIST, []),
        (float("nan"), "|", []),
        ("é", "|", ["é"]),
    ],
)
def test_a_cell_is_split_as_whoever_wrote_it_meant(cell, separator, labels):
    assert split_cell(cell, separator) == labels


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ('{"joy": 1}', "an object"),
        ("{'joy': 1}", "an object"),
        ("{joy: 1}", "an object"),
        ('["joy", null]', "a missing value in a list"),
        ('["joy", ["anger"]]', "a list in a list"),
        ('[{"name": "joy"}]', "an object"),
        ("['joy]", "brackets that hold no list"),
        (["joy", None], "a missing value in a list"),
        ([float("nan")], "a missing value in a list"),
        ([["joy"]], "a list in a list"),
        ({"joy": 1}, "an object"),
        (b"joy", "a value of type bytes"),
        ("[" * 5000 + "]" * 5000, "brackets that hold no list"),
    ],
)
def test_what_is_no_list_of_labels_is_refused_with_the_reason(cell, reason):
    with pytest.raises(ValueError, match=reason):
        split_cell(cell, LIST)


def test_a_long_cell_is_split_in_no_time():
    assert len(split_cell("[" + "'a' " * 50_000 + "]", LIST)) == 50_000
    with pytest.raises(ValueError, match="brackets"):
        split_cell("['" + "a " * 50_000 + "]", LIST)


def test_ones_and_zeros_are_those_of_every_writer():
    cells = ["0", "1", "0.0", "1.0", " 1", "TRUE", "false", 0, 1.0, True]
    assert [hot_value(cell) for cell in cells] == [0, 1, 0, 1, 1, 1, 0, 0, 1, 1]
    assert [hot_value(cell) for cell in ("", "2", "yes", 0.5, -1, None, "nan", float("nan"))] == [None] * 8


def test_lists_of_ones_and_zeros_of_one_length_are_vectors():
    assert are_vectors([["0", "1", "0"], ["1", "1", "0"]])
    assert not are_vectors([["0", "1", "0"], ["1"]])
    assert not are_vectors([["0"], ["1"]])
    assert not are_vectors([["0", "2"], ["1", "0"]])


def test_a_matrix_has_a_column_for_each_name_and_rows_of_zeros_for_no_label():
    matrix = label_matrix([("b", "a"), (), ("c",)], ("a", "b", "c"))
    assert matrix.dtype == np.uint8
    assert matrix.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_empty_cells_are_told_from_names_of_what_is_missing():
    assert all(map(is_empty, ("", " \t", None, float("nan"), [], ())))
    assert not any(map(is_empty, ("nan", "None", 0, ["x"], False)))


def test_names_that_differ_in_case_or_spaces_only_are_found_together():
    assert alike_names(["Joy", "joy", "JOY", "fear  of", "fear of", "x"]) == [
        ("JOY", "Joy", "joy"),
        ("fear  of", "fear of"),
    ]
