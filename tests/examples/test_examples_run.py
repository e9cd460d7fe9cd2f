import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from text_zoo import write_preset


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *arguments, **environment):
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow)])
def test_the_one_line_callback_learns_in_three_stages(backend):
    output = run("progressive_unfreezing.py", KERAS_BACKEND=backend)
    assert f"backend {backend}" in output
    rows = [line.split() for line in output.splitlines()[-9:]]
    assert [row[1] for row in rows] == list("000111222")
    assert float(rows[-1][-1]) > 0.6  # chance is 0.17


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "stages"),
    [
        ("kaggle_unnested.py", ["none"], None),
        slow("keras_io_efficientnet.py", ["none"], "stages [0, 0, 1]"),
        slow("siamese.py", [], "stages [0, 0, 1, 1, 2, 2]"),
        slow("keras_hub_raw_strings.py", [], "stages [0, 0, 1, 1, 2, 2]"),
    ],
)
def test_scripts_in_the_shapes_of_others_run(name, arguments, stages):
    output = run(name, *arguments)
    if stages:
        assert stages in output
    else:
        assert "stage 2: " in output
        assert "best.keras:" in output


@pytest.mark.slow
def test_the_whole_way_as_python():
    output = run("train_evaluate_export.py")
    assert "artifacts/model.onnx" in output
    assert "validation: accuracy" in output


@pytest.mark.slow
def test_texts_are_answered_alike_with_and_without_keras(tmp_path):
    _, preset = write_preset("Bert", tmp_path)
    table = tmp_path / "texts.csv"
    rows = [f"{'the fox' if i % 2 else 'you brown'} {'quick ' * (i % 5)}{i},{'ab'[i % 2]}" for i in range(30)]
    table.write_text("\n".join(["text,label", *rows]))
    output = run("classify_texts.py", table, preset)
    answers = [ast.literal_eval(line[6:]) for line in output.splitlines()[-2:]]
    assert answers[0]["label"] == answers[1]["label"]
    assert answers[0]["probability"] == pytest.approx(answers[1]["probability"], abs=1e-4)


def test_an_example_is_short_enough_to_be_read():
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert all(length <= 80 for length in lengths.values()), lengths
    shapes = ("kaggle_unnested.py", "keras_io_efficientnet.py", "siamese.py", "keras_hub_raw_strings.py")
    assert all(lengths[name] < 60 for name in shapes), lengths
