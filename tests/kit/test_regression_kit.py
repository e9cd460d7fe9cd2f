"""What the programs of the kit answer of a regression."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from onnx_server.decision import measured, read_decision, read_interval
from onnx_server.openapi import numbers

from ktransfer.tasks.regression import Regression, TargetScale

KIT = Path(__file__).parents[2] / "export"
PLAIN = {"coverage": 0.9, "width": 2.0, "transform": None}
LOG = {"coverage": 0.8, "width": float(np.log(2)), "transform": "log"}


@pytest.mark.parametrize("program", ["onnx", "onnx_server", "savedmodel", "tflite"])
@pytest.mark.parametrize(("interval", "bounds"), [(PLAIN, [98.0, 102.0]), (LOG, [50.0, 200.0]), (None, None)])
def test_every_program_answers_as_the_package_does(program, interval, bounds):
    answer = measured
    if program != "onnx_server":
        answer = runpy.run_path(str(KIT / program / "predict.py"))["measured"]
    found = answer(np.array([100.0]), ["price"], interval)
    [expected] = Regression(TargetScale()).answers(
        np.array([100.0]), ["price"], {"interval": interval}, top_k=1
    )
    assert found.keys() == expected.keys()
    assert found["value"] == 100.0
    if bounds:
        assert found["interval"] == pytest.approx(bounds)
        assert found["interval"] == pytest.approx(expected["interval"])


def test_the_server_reads_task_and_interval_of_a_file():
    metadata = {"task": '"regression"', "interval": '{"coverage": 0.9, "width": 2.0, "transform": null}'}
    assert read_decision(metadata, ["price"]) == ("regression", None)
    assert read_interval(metadata) == PLAIN
    assert read_interval({}) is None
    assert numbers()["application/json"]["required"] == ["results"]
