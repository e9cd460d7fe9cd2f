"""Every family in every format: which cells work, and why the others cannot."""

import importlib
import json
import re
import shutil
import sys

import pytest
from test_benchmarks import FOLDER
from trained import trained

from ktransfer.exporting.export_model import FORMATS, QUANTIZED

MEASURED = (*FORMATS, *QUANTIZED)  # a page and a preset are no formats of their own
sys.path.append(str(FOLDER))
matrix, page, cells = (importlib.import_module(f"export_{name}") for name in ("matrix", "page", "cells"))
# (family, format) -> what the refusal of a cell that the format cannot hold says; every other cell works.
REFUSED = {}


def check(family, cell):
    """A cell works, or is refused where that is expected and for that reason."""
    reason = REFUSED.get((family, cell["format"]))
    assert cell["outcome"] == ("refused" if reason else "works"), cell.get("reason")
    assert reason is None or re.search(reason, cell["reason"])


def test_the_rows_are_the_families_of_the_zoos_and_the_columns_all_formats():
    zoo, text_zoo = importlib.import_module("zoo"), importlib.import_module("text_zoo")
    assert set(matrix.IMAGES.values()) | {"hgnetv2"} == set(zoo.BACKBONES)
    assert set(matrix.TEXTS.values()) == set(text_zoo.FAMILIES)
    assert set(page.FORMATS) == set(MEASURED)


@pytest.mark.parametrize("family", matrix.FAMILIES)
def test_what_was_measured_last_is_what_is_expected(family):
    measured = matrix.read_cells(matrix.RESULTS)
    for format in MEASURED:
        check(family, measured[family, format])


def test_the_page_is_what_was_measured(tmp_path):
    written = shutil.copy(matrix.PAGE, tmp_path / "export.md")
    matrix.write_page(written, matrix.read_cells(matrix.RESULTS), matrix.TASKS)
    assert written.read_text(encoding="utf-8") == matrix.PAGE.read_text(encoding="utf-8")


# Cells that no other test has.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "format"),
    [
        ("CSPNet, ResNeXt", "onnx"),
        pytest.param("HGNetV2", "tflite", marks=pytest.mark.slow),
        pytest.param("DeBERTa-v3", "onnx", marks=pytest.mark.slow),
    ],
)
def test_a_cell_works(family, format, tmp_path):
    given = trained(matrix.FAMILIES[family], tmp_path, epochs=1)
    check(family, {"format": format} | cells.cell(given, format, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("family", matrix.FAMILIES)
def test_a_family_is_had_in_every_format_or_refused_with_the_reason(family):
    found = list(matrix.cells_of(family, MEASURED))
    assert [cell["format"] for cell in found] == list(MEASURED)
    for cell in found:
        check(family, cell)


# How the matrix is run and shown.


CELL = {
    "outcome": "works",
    "size_bytes": 2048,
    "batch": "dynamic",
    "sequence": None,
    "max_abs_delta": 2e-7,
    "label_agreement": 0.99,
    "latency_ms": 0.125,
    "date": "2026-11-23",
    "machine": {"processor": "Abacus", "cores": 2, "system": "Linux", "versions": {"onnx": "1.20"}},
}


def test_a_converter_that_ends_its_process_costs_its_own_cell_only(tmp_path, monkeypatch):
    (tmp_path / "export_cells.py").write_text(
        "import json, os, sys\n"
        "for format in sys.argv[3:]:\n"
        "    if format == 'onnx':\n"
        "        print('tried onnx', file=sys.stderr, flush=True)\n"
        "        os.abort()\n"
        "    print(json.dumps({'format': format, 'outcome': 'works'}), flush=True)\n"
    )
    monkeypatch.setattr(matrix, "HERE", tmp_path)
    found = list(matrix.cells_of("BERT", ["tflite", "onnx", "onnx-int8"]))
    assert [(cell["format"], cell["outcome"]) for cell in found] == [
        ("tflite", "works"),
        ("onnx", "failed"),
        ("onnx-int8", "works"),
    ]
    assert "status -6: tried onnx" in found[1]["reason"]


def test_a_cell_shows_size_time_and_parity_and_what_alone_is_fixed():
    made = {
        ("ViT", "onnx"): CELL,
        ("MiT", "onnx"): CELL | {"batch": 1},
        ("ViT", "onnx-int8"): CELL | {"size_bytes": 512, "max_abs_delta": 0.031},
        ("ViT", "tflite"): CELL | {"batch": 1},
        ("MiT", "tflite"): CELL | {"outcome": "refused", "reason": "x"},
    }
    lines = page.matrix_table(["ViT", "MiT"], made).splitlines()
    columns = dict(
        zip(page.FORMATS, zip(*(line.split(" | ")[1:] for line in lines[2:4]), strict=True), strict=True)
    )
    assert columns["onnx"] == ("2 KiB<br>0.12 ms<br>2e-07", "2 KiB<br>0.12 ms<br>2e-07<br>batch 1")
    assert columns["onnx-int8"][0].rstrip(" |") == "0.25 ×<br>0.12 ms<br>99% ± 0.03"
    assert lines[-1] == "2026-11-23; Abacus, 2 cores, Linux; onnx 1.20."
    assert columns["tflite"] == ("2 KiB<br>0.12 ms<br>2e-07", "**refused**")


def test_of_a_refusal_what_was_received_is_shown():
    reason = "Expected a model of TFLite's builtin operations only, got Foo, Bar. Export ONNX, or choose."
    made = {("MiT", "tflite"): {"outcome": "refused", "reason": reason}}
    assert page.refused_table(made).splitlines()[2] == "| MiT | `tflite` | Foo, Bar |"
    assert page.refused_table({("MiT", "tflite"): CELL}) == "Nothing.\n"


def test_cells_are_kept_in_the_order_of_the_table_the_last_of_each(tmp_path):
    path = tmp_path / "cells.jsonl"
    cell = {"family": "BERT", "format": "onnx", "outcome": "works"}
    path.write_text(
        "".join(json.dumps(cell | {"outcome": outcome}) + "\n" for outcome in ("failed", "works"))
    )
    first = cell | {"family": "MobileNet"}
    matrix.write_cells(path, matrix.read_cells(path) | {("MobileNet", "onnx"): first})
    assert list(matrix.read_cells(path).values()) == [first, cell]


def test_a_file_that_holds_no_fewer_bits_or_slow_convolutions_is_a_failure(monkeypatch, tmp_path):
    monkeypatch.setattr(cells, "_inside_onnx", lambda path: ({"Conv"}, [(32, 900), (8, 100)]))
    assert cells.wrong_inside("onnx-int8", tmp_path) == "only 10% of the weights are of fewer bits"
    assert cells.wrong_inside("onnx", tmp_path) is None
    monkeypatch.setattr(cells, "_inside_onnx", lambda path: ({"ConvInteger"}, [(8, 100)]))
    assert "ten times as slow" in cells.wrong_inside("onnx-int8", tmp_path)
