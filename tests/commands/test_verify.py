"""What `verify` finds in a run that is whole, and in one of which something was changed."""

import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest
from exporting import pixels
from text_zoo import write_preset

from ktransfer import cli
from ktransfer.commands.export import export
from ktransfer.commands.train import train
from ktransfer.commands.verify import verify
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import ExportError, RunError
from ktransfer.exporting.artifact import fingerprint
from ktransfer.exporting.processes import runtime_process as own_process
from ktransfer.exporting.processes.runtime_process import RuntimeProcess
from ktransfer.recipes.recipe import Recipe
from ktransfer.runs.run import Run
from ktransfer.text.augmentation import TextAugmentation

QUIET = {"verbose": 0, "say": lambda line: None}
# tests/reporting has the reports of runs.
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_target_task(
        tmp_path_factory.mktemp("d") / "things", train_per_class=4, validation_per_class=2
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory, data):
    """Without a SavedModel, for which TensorFlow would be loaded anew each time."""
    out = tmp_path_factory.mktemp("r") / "run"
    return train(data, PRESET_PATH, out, recipe=Recipe(stages=()), formats=["tflite", "onnx"], **QUIET)


@pytest.fixture
def run(exported, tmp_path):
    """A copy to be changed."""
    return Run.load(shutil.copytree(exported.path, tmp_path / "run"))


@pytest.fixture(scope="module")
def on_texts(tmp_path_factory):
    rows = [f"{'the fox' if i % 2 else 'you brown'} {i},{'animal' if i % 2 else 'other'}" for i in range(40)]
    folder = tmp_path_factory.mktemp("texts")
    (folder / "data.csv").write_text("\n".join(["text,label", *rows]))
    _, preset = write_preset("Bert", tmp_path_factory.mktemp("bert"))
    recipe = Recipe(stages=(), augmentation=TextAugmentation())
    return train(folder / "data.csv", preset, folder / "run", recipe=recipe, formats=["onnx"], **QUIET)


def found(run, **options):
    """The problems of each file, and the lines for a person."""
    lines = []
    verification = verify(run, say=lines.append, **options)
    return {checked.name: checked.problems for checked in verification.checked}, lines, verification


def entry(run, format):
    return next(entry for entry in run.manifest["artifacts"] if entry["format"] == format)


def signed_anew(run, path, entry):
    """What somebody does who changes a file and its entry with it."""
    entry["sha256"], entry["size_bytes"] = fingerprint(run.path / path)
    run.update()


@pytest.mark.parametrize("added", [(), pytest.param(("savedmodel",), marks=pytest.mark.slow)])
def test_what_was_just_exported_is_well(run, added):
    if added:
        export(run, added, say=lambda line: None)
    problems, lines, verification = found(run := Run.load(run.path))
    assert verification.ok
    assert problems == dict.fromkeys((*added, "tflite", "onnx", "labels.txt"), ())
    measured = lines[: 2 + len(added)]
    assert all("ok       largest difference" in line and "on 12 images" in line for line in measured)
    [of_onnx] = [each for each in verification.checked if each.name == "onnx"]
    assert of_onnx.parity.max_abs_delta == pytest.approx(
        entry(run, "onnx")["parity"]["max_abs_delta"], abs=1e-6
    )


def test_a_flipped_byte_is_found_and_named(run):
    path = run.path / "artifacts" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    problems, lines, verification = found(run, answers=False)
    assert not verification.ok
    assert problems["tflite"] == problems["labels.txt"] == ()
    expected = entry(run, "onnx")["sha256"]
    assert problems["onnx"] == (
        f"sha256 is {fingerprint(path)[0][:12]}..., {expected[:12]}... was exported; it was not run",
    )
    assert any(line.startswith("onnx           DIFFERS  sha256") for line in lines)


def test_a_missing_artifact_and_missing_labels_are_found(run):
    (run.path / "artifacts" / "model.tflite").unlink()
    (run.path / "artifacts" / "labels.txt").unlink()
    problems = found(run, answers=False)[0]
    assert problems == {"onnx": (), "tflite": ("it is not there",), "labels.txt": ("it is not there",)}


def test_labels_in_another_order_are_found_in_every_file(run):
    run.update(labels=run.manifest["labels"][::-1])
    problems = found(run, answers=False)[0]
    for name in ("tflite", "onnx"):
        assert problems[name][0].startswith("its labels are boat, fish, key")
    assert "it has boat, fish, key" in problems["labels.txt"][0]


def test_other_inputs_and_outputs_than_the_signature_has_are_found(run):
    entry(run, "onnx")["signature"]["inputs"][0]["shape"] = [1, 64, 64, 3]
    entry(run, "tflite")["signature"]["output"]["dtype"] = "uint8"
    problems = found(run, answers=False)[0]
    assert "{'image': 'float32 [1, 64, 64, 3]'}" in problems["onnx"][0]
    assert "{'probabilities': 'uint8 [1, 6]'}" in problems["tflite"][0]


def test_the_artifact_of_another_model_is_found_by_its_answers(run):
    weights = run.model.get_layer("logits").get_weights()
    run.model.get_layer("logits").set_weights([weights[0][:, ::-1], weights[1]])
    run.save_model(run.model)
    problems, lines, _ = found(Run.load(run.path))
    for name in ("tflite", "onnx"):
        assert problems[name][0].startswith("its answers differ from the model's by up to")
    assert "labels agree" in lines[0]


def test_a_quantized_artifact_is_judged_by_its_labels_and_one_in_float32_by_its_answers(run):
    """Of the same model, but a little surer of itself."""
    run.model.get_layer("logits").set_weights([1.1 * w for w in run.model.get_layer("logits").get_weights()])
    run.save_model(run.model)
    entry(run, "onnx")["limits"] = {"agreement": 0.98, "accuracy_drop": 0.01}
    run.update()
    problems, lines, verification = found(Run.load(run.path))
    assert "labels agree 100.0%" in problems["tflite"][0]
    assert problems["onnx"] == ()
    assert verification.checked[1].parity.max_abs_delta > 1e-3
    assert "accuracy" in lines[1]


def test_a_file_that_its_runtime_cannot_load_leaves_the_others_checked(run):
    path = "artifacts/model.onnx"
    (run.path / path).write_bytes(b"nothing that a runtime knows")
    signed_anew(run, path, entry(run, "onnx"))
    problems = found(run)[0]
    assert "Expected the onnx artifact to run by its own runtime, got exit status 1" in problems["onnx"][0]
    assert problems["tflite"] == ()


def test_without_the_data_all_but_answers_is_checked_and_that_is_not_well(run, tmp_path):
    run.manifest["data"]["source"] = str(tmp_path / "moved")
    run.update()
    problems, lines, verification = found(run)
    assert not any(problems.values())
    assert not verification.ok
    assert "moved" in verification.not_compared
    assert lines[-1].startswith("answers        not compared: ")
    assert verify(run, answers=False, say=lambda line: None).ok


def test_what_lies_beside_the_artifacts_and_is_not_in_the_manifest_is_named(run):
    (run.path / "artifacts" / "model_old.onnx").write_bytes(b"")
    _, lines, verification = found(run, answers=False)
    assert verification.unknown == ("artifacts/model_old.onnx",)
    assert verification.ok
    assert lines[-1].startswith("warning        ")


@pytest.mark.parametrize(
    ("artifacts", "message"),
    [([], "ktransfer export"), ([{"format": "onnx"}], "artifacts as this ktransfer describes them")],
)
def test_a_run_without_artifacts_that_can_be_read_is_an_error(run, artifacts, message):
    run.update(artifacts=artifacts)
    with pytest.raises(RunError, match=message):
        verify(run)


def test_the_tokenizer_of_a_run_on_texts_is_checked_as_well(on_texts, tmp_path):
    problems, _, verification = found(Run.load(on_texts.path))
    assert verification.ok
    assert problems == {"onnx": (), "tokenizer.json": (), "labels.txt": ()}
    shutil.copytree(on_texts.path, tmp_path / "run")
    run = Run.load(tmp_path / "run")
    path = run.path / "artifacts" / "tokenizer.json"
    values = json.loads(path.read_text())
    vocabulary = values["model"]["vocab"]
    vocabulary["fox"], vocabulary["you"] = vocabulary["you"], vocabulary["fox"]
    path.write_text(json.dumps(values))
    problems = found(run)[0]
    assert problems["onnx"] == ()
    assert "sha256" in problems["tokenizer.json"][0]
    signed_anew(run, run.manifest["tokenizer"]["path"], run.manifest["tokenizer"])
    problems = found(run)[0]
    assert "the ids of keras-hub's BertTokenizer" in problems["tokenizer.json"][0]


def test_a_runtime_that_is_aborted_says_so_and_nothing_else_ends(exported):
    path = exported.path / "artifacts" / "model.onnx"
    with RuntimeProcess("onnx", path, threads=1) as artifact:
        assert artifact.labels == list(exported.labels)
        image = pixels(2, size=64)
        np.testing.assert_allclose(artifact({"image": image}).sum(-1), 1, atol=1e-5)
        assert min(artifact.seconds({"image": image}, 3)) > 0
        os.kill(artifact._process.pid, signal.SIGABRT)
        with pytest.raises(ExportError, match="got SIGABRT"):
            artifact({"image": image})


def test_a_runtime_that_hangs_is_ended_and_said_so(exported, monkeypatch):
    with RuntimeProcess("onnx", exported.path / "artifacts" / "model.onnx") as artifact:
        os.kill(artifact._process.pid, signal.SIGSTOP)
        monkeypatch.setattr(own_process, "_LONGEST", 0.2)
        with pytest.raises(ExportError, match=r"onnx artifact .* got no answer within 0\.2 seconds"):
            artifact({"image": pixels(2, size=64)})


def test_a_library_of_the_same_name_in_the_working_folder_is_not_run(exported, tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('not the library')")
    monkeypatch.chdir(tmp_path)
    with RuntimeProcess("onnx", exported.path / "artifacts" / "model.onnx") as artifact:
        assert artifact.signature["output"]["dtype"] == "float32"


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["ktransfer", *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0, *capsys.readouterr()


def test_the_exit_status_is_0_when_all_is_well_1_when_not_and_2_without_a_run(monkeypatch, capsys, run):
    status, out, _ = command(monkeypatch, capsys, "verify", run.path, "--no-answers")
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        [name, "ok"] for name in ("tflite", "onnx", "labels.txt")
    ]
    (run.path / "artifacts" / "model.tflite").unlink()
    status, out, err = command(monkeypatch, capsys, "verify", run.path, "--no-answers", "--json")
    values = json.loads(out)
    assert status == 1
    assert values["ok"] is False
    assert values["checked"][0]["problems"] == ["it is not there"]
    assert "DIFFERS" in err
    status, _, err = command(monkeypatch, capsys, "verify", run.path / "artifacts")
    assert status == 2
    assert len(err.splitlines()) == 1
