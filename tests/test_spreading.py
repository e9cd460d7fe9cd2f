"""Which cases of a table of tests the default suite keeps."""

import itertools
from types import SimpleNamespace

import pytest
from spreading import covering, evenly, mark_the_rest_slow, named


def test_each_value_of_each_parameter_is_kept_once_at_least():
    rows = [
        {"name": n, "rule": r, "on": o} for n, r, o in itertools.product("abcde", range(3), (True, False))
    ]
    kept = covering(rows)
    assert {row["name"] for place, row in enumerate(rows) if place in kept} == set("abcde")
    assert {row["rule"] for place, row in enumerate(rows) if place in kept} == {0, 1, 2}
    assert {row["on"] for place, row in enumerate(rows) if place in kept} == {True, False}
    assert len(kept) == 5  # the longest parameter's values, and no more
    assert covering(rows) == kept


def test_a_table_of_one_parameter_is_kept_whole():
    assert covering([{"name": name} for name in "abc"]) == {0, 1, 2}


def test_cases_at_even_distances_have_both_ends():
    assert evenly(9, 3) == {0, 4, 8}
    assert evenly(9, 1) == {0}
    assert evenly(2, 5) == {0, 1}


def test_cases_are_kept_by_a_part_of_their_name():
    assert named(["onnx", "onnx-int8", "tflite-int8", "onnxruntime"], ("onnx",)) == {0, 1}


class Case:
    """As much of a collected test as is asked for."""

    def __init__(self, name, marks=(), /, **params):
        self.nodeid, self.marks = f"test_a.py::{name}", [mark.mark for mark in marks]
        self.callspec = SimpleNamespace(params=params, id="-".join(map(str, params.values())))

    def get_closest_marker(self, name):
        return next((mark for mark in self.marks if mark.name == name), None)

    def add_marker(self, mark):
        self.marks.append(mark.mark)


def kept(cases):
    mark_the_rest_slow(cases)
    return [case.callspec.id for case in cases if not case.get_closest_marker("slow")]


def test_of_each_test_alone_the_rest_is_slow():
    spread, slow = pytest.mark.spread, pytest.mark.slow
    table = [Case(f"test_b[{n}-{x}]", [spread()], n=n, x=x) for n, x in itertools.product(range(4), "ab")]
    row = [Case(f"test_c[{n}]", [spread(1), *([slow] if n == 0 else [])], n=n) for n in range(3)]
    names = [Case(f"test_d[{name}]", [spread("onnx")], name=name) for name in ("tflite", "onnx", "onnx-int8")]
    other = [Case(f"test_e[{n}]", n=n) for n in range(2)]
    assert kept([*table, *row, *names, *other]) == [
        "0-a",
        "1-b",
        "2-a",
        "3-a",
        "1",
        "onnx",
        "onnx-int8",
        "0",
        "1",
    ]
