"""The benchmarks start fast, refuse in one line and print what tables are made of; no time is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"
ON_IMAGES = (
    *("time_to_accuracy", "epoch_cost", "pipeline", "depthwise"),
    *("onnx_latency", "memory", "cold_start", "callback_overhead", "gpu"),
)
BENCHMARKS = (*ON_IMAGES, "text_accuracy")
RECORD = {
    "benchmark": "epoch_cost",
    "date": "2026-11-23",
    "settings": {"image_size": 160, "limit_tflops": 12.345},
    "machine": {
        "processor": "Abacus 3000",
        "cores": 2,
        "system": "Linux",
        "backend": "jax",
        "versions": {"jax": "0.7.0", "keras": "3.15.1"},
    },
    "rows": [
        {"stage": "head", "images": 500, "epoch_seconds": 128.62, "ratio": 2.5444, "difference": 0.00022},
        {"stage": "all", "images": 500, "epoch_seconds": 0.9004, "ratio": None, "difference": 50.51},
    ],
}
TABLE = """\
| stage | images | epoch seconds | ratio | difference |
| --- | ---: | ---: | ---: | ---: |
| head | 500 | 129 | 2.54 | 2.2e-04 |
| all | 500 | 0.900 |  | 50.5 |

2026-11-23, `benchmarks/epoch_cost.py`: image size 160, limit tflops 12.3; Abacus 3000, 2 cores, Linux, \
jax backend, jax 0.7.0, keras 3.15.1.
"""


def run(script, *arguments, flags=()):
    command = [sys.executable, *flags, FOLDER / f"{script}.py", *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True)


def write_page(folder, text, *records):
    """What `docs_tables.py` makes of a page and results, and how it ended."""
    page, results = folder / "page.md", folder / "results.jsonl"
    page.write_text(text)
    results.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = run("docs_tables", results, page)
    return page.read_text(), done


@pytest.mark.parametrize("script", [*BENCHMARKS, "run_all", "docs_tables", "export_matrix", "export_cells"])
def test_help_is_answered_without_loading_a_framework(script):
    done = run(script, "--help", flags=("-X", "importtime"))
    assert done.returncode == 0
    assert "usage:" in done.stdout
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    assert not loaded & {"tensorflow", "keras", "keras_hub", "jax", "sklearn", "numpy"}


@pytest.mark.parametrize("script", ["time_to_accuracy", "epoch_cost", "pipeline", "memory", "run_all"])
def test_data_that_is_not_there_is_named_in_one_line(script, tmp_path):
    done = run(script, tmp_path / "nothing", PRESET_PATH, "--smoke")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"got {tmp_path / 'nothing'}" in done.stderr


@pytest.mark.parametrize(
    "script",
    [
        *("time_to_accuracy", "epoch_cost", "pipeline", "depthwise", "onnx_latency"),
        "memory",
        "cold_start",
        "run_all",
    ],
)
def test_a_preset_that_is_not_there_is_named_in_one_line(script, tmp_path):
    (tmp_path / "train").mkdir()
    done = run(script, tmp_path, tmp_path, "--smoke")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"got {tmp_path} without " in done.stderr


def test_results_become_a_table_between_the_markers_and_the_prose_stays(tmp_path):
    text = "# Page\n\nBefore.\n\n<!-- epoch_cost -->\nold\n<!-- /epoch_cost -->\n\nAfter.\n"
    page, done = write_page(tmp_path, text, RECORD)
    assert done.returncode == 0
    assert page == text.replace("\nold\n", f"\n{TABLE}")


def test_a_table_without_results_and_one_written_twice_stay_as_they_are(tmp_path):
    text = "<!-- gpu -->\nNot measured.\n<!-- /gpu -->\n<!-- epoch_cost -->\n<!-- /epoch_cost -->\n"
    once, _ = write_page(tmp_path, text, RECORD)
    assert once.startswith("<!-- gpu -->\nNot measured.\n<!-- /gpu -->\n<!-- epoch_cost -->\n| stage |")
    assert write_page(tmp_path, once, RECORD)[0] == once


def test_of_two_results_of_one_benchmark_the_later_counts(tmp_path):
    text = "<!-- epoch_cost -->\n<!-- /epoch_cost -->\n"
    page, _ = write_page(tmp_path, text, RECORD | {"date": "2020-01-01"}, RECORD)
    assert "2026-11-23" in page
    assert "2020-01-01" not in page


@pytest.mark.parametrize("text", ["no markers\n", "<!-- /epoch_cost --><!-- epoch_cost -->\n"])
def test_a_page_without_a_place_for_a_table_is_refused_and_left_alone(tmp_path, text):
    page, done = write_page(tmp_path, text, RECORD)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "<!-- epoch_cost -->" in done.stderr
    assert page == text


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_docs_have_a_place_for_each_table(name):
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert 0 <= text.find(f"<!-- {name} -->") < text.find(f"<!-- /{name} -->")


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_prints_one_line_of_rows_and_the_machine(name, tmp_path, request):
    if name in ON_IMAGES:
        data = write_target_task(tmp_path / "things", train_per_class=4, validation_per_class=3)
        done = run(name, data, PRESET_PATH, "--smoke")
    else:
        request.getfixturevalue("minilm")
        request.getfixturevalue("sms_spam")
        done = run(name, "--smoke", "--short")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    record = json.loads(line)
    assert record["benchmark"] == name
    assert record["rows"]
    assert {"processor", "cores", "backend", "versions"} <= record["machine"].keys()
    page, tables = write_page(tmp_path, f"<!-- {name} -->\n<!-- /{name} -->\n", record)
    assert tables.returncode == 0
    assert page.count("\n|") >= 2 + len(record["rows"])
