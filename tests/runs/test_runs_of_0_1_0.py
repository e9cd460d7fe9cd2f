"""A run folder that version 0.1.0 wrote (manifest format 1, of texts) does all that a run does."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ktransfer.commands.evaluate import evaluate
from ktransfer.commands.report import report
from ktransfer.commands.verify import verify
from ktransfer.core.task import get_task
from ktransfer.errors import RunError
from ktransfer.runs.manifest import artifacts_folder
from ktransfer.runs.provenance import command, read_arguments
from ktransfer.runs.run import Run

HERE = Path(__file__).parent
TEXTS = ["the quick fox 1", "you 2"]
# What 0.1.0 answered to these.
EXPECTED = [[0.9635710716247559, 0.036428965628147125], [0.2962949275970459, 0.7037050724029541]]


@pytest.fixture
def old(tmp_path):
    return Run.load(shutil.copytree(HERE / "run_of_0_1_0", tmp_path / "run"))


def test_it_answers_as_it_did(old):
    assert old.manifest["modality"] == "text"
    assert old.task is get_task("single_label")
    np.testing.assert_allclose(old.predict_probabilities(TEXTS), EXPECTED, rtol=1e-4)
    assert [answers[0]["label"] for answers in old.predict(TEXTS)] == ["animal", "other"]


def test_what_it_exported_is_verified(old):
    lines = []
    assert verify(old, answers=False, say=lines.append).ok, lines


def test_it_is_evaluated_and_reported_on_its_data(old):
    data = HERE / "animals.csv"
    found, _ = evaluate(old, data, say=lambda line: None)
    assert found.examples == 40
    page = report(old, data=data, say=lambda line: None)
    assert "accuracy" in page.read_text(encoding="utf-8")


def test_its_artifacts_keep_their_folder_under_the_new_key(old):
    assert [entry["path"] for entry in old.manifest["artifacts"]] == ["artefacts/model.onnx"]
    assert artifacts_folder(old.path) == old.path / "artefacts"
    old.update(status="exported")
    assert "artefacts" not in json.loads((old.path / "manifest.json").read_text(encoding="utf-8"))
    assert Run.load(old.path).manifest["artifacts"] == old.manifest["artifacts"]


def test_what_is_written_anew_is_of_this_version(old):
    old.update(status="trained")
    manifest = json.loads((old.path / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["format"], manifest["modality"], manifest["task"]) == (2, "text", "single_label")
    assert Run.load(old.path).labels == old.labels


def test_its_command_can_be_repeated(old):
    assert "--recipe" in command(read_arguments(old.manifest), old.path)


def test_its_data_that_is_not_there_is_named(old):
    from ktransfer.commands.train import resume
    from ktransfer.errors import DataError

    with pytest.raises((DataError, RunError), match=r"animals\.csv"):
        resume(old.path, say=lambda line: None, verbose=0)
