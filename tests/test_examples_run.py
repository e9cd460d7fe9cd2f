import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, **environment):
    return subprocess.run(
        [sys.executable, EXAMPLES / name],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_one_line_callback_learns_in_three_stages(backend):
    output = run("progressive_unfreezing.py", KERAS_BACKEND=backend)
    assert f"backend {backend}" in output
    rows = [line.split() for line in output.splitlines()[-9:]]
    assert [row[1] for row in rows] == list("000111222")
    assert float(rows[-1][-1]) > 0.6  # chance is 0.17


def test_the_whole_way_as_python():
    output = run("train_evaluate_export.py")
    assert "artefacts/model.onnx" in output
    assert "validation: accuracy" in output


def test_an_example_is_short_enough_to_be_read():
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert all(length <= 80 for length in lengths.values()), lengths
