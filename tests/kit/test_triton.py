"""The repository for Triton, read as Triton reads it."""

import json
import runpy
import subprocess
import sys

import onnxruntime
import pytest
from exporting import CLASSES, KIT, multi_label_model, pixels, write_manifest
from onnx_server_runs import COLOURS, image_run, text_run
from protos import parse

from ktransfer.exporting.export_model import ExportOptions, export_model

# Of Triton's model_config.proto, what is written.
_MESSAGES = {
    "Input": {"name": "string", "data_type": ("TYPE_INVALID", "TYPE_FP32", "TYPE_INT32"), "dims": ["int64"]},
    "Output": {
        "name": "string",
        "data_type": ("TYPE_INVALID", "TYPE_FP32"),
        "dims": ["int64"],
        "label_filename": "string",
    },
    "Value": {"string_value": "string"},
    "Parameter": {"key": "string", "value": "Value"},  # how a map is written
    "Batching": {"max_queue_delay_microseconds": "int64"},
    "Config": {
        "name": "string",
        "backend": "string",
        "max_batch_size": "int32",
        "input": ["Input"],
        "output": ["Output"],
        "parameters": ["Parameter"],
        "dynamic_batching": "Batching",
    },
}


def make(run, repository, *options):
    command = [sys.executable, "-I", KIT / "triton" / "make_repository.py", run, repository, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def made(run, repository, *options):
    done = make(run, repository, *options)
    assert done.returncode == 0, done.stderr
    return parse((repository / "classifier" / "config.pbtxt").read_text(), _MESSAGES, "Config")


def test_an_artifact_of_dynamic_batch_is_batched(tmp_path):
    run, repository = image_run(tmp_path / "run"), tmp_path / "repository"
    config = made(run, repository, "--max-batch", "16", "--max-delay-us", "500")
    assert (config.name, config.backend, config.max_batch_size) == ("classifier", "onnxruntime", 16)
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    (image,), (output,) = config.input, config.output
    assert (image.name, image.data_type, list(image.dims)) == ("image", 1, [8, 8, 3])
    assert (output.name, output.data_type, list(output.dims)) == ("probabilities", 1, [3])
    labels = repository / "classifier" / output.label_filename
    assert labels.read_text().splitlines() == COLOURS
    model = repository / "classifier" / "1" / "model.onnx"
    assert model.read_bytes() == (run / "artifacts" / "model.onnx").read_bytes()


@pytest.mark.parametrize("format", [1, 2])
def test_one_label_an_example_has_its_task_alone(format, tmp_path):
    config = made(image_run(tmp_path / "run", format=format), tmp_path / "repository")
    assert [(each.key, each.value.string_value) for each in config.parameters] == [("task", "single_label")]


def test_several_labels_have_the_thresholds_of_the_artifact(tmp_path):
    options = {"class_names": CLASSES, "examples": pixels(4), "task": "multi_label"}
    options |= {"decision": {"thresholds": [0.1, 0.5, 0.9]}, "options": ExportOptions(temperature=2.0)}
    artifact = export_model(multi_label_model(), tmp_path / "run" / "artifacts", "onnx", **options)
    write_manifest(tmp_path / "run", artifact, task="multi_label")
    config = made(tmp_path / "run", tmp_path / "repository")
    found = {each.key: each.value.string_value for each in config.parameters}
    assert found["task"] == "multi_label"
    # Of logits divided by 2: the square root of the odds 1/9, 1 and 9.
    assert json.loads(found["thresholds"]) == pytest.approx([0.25, 0.5, 0.75])
    path = tmp_path / "run" / artifact.path
    metadata = runpy.run_path(str(KIT / "triton" / "make_repository.py"))["onnx_metadata"](path.read_bytes())
    assert metadata == onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"task": '"ranking"'}, "Expected a task of single_label, multi_label or ordinal, got 'ranking'"),
        ({"task": '"multi_label"', "thresholds": "[0.5]"}, "Expected 3 thresholds, one a label, got 1"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(metadata, message):
    parameters = runpy.run_path(str(KIT / "triton" / "make_repository.py"))["parameters"]
    with pytest.raises(SystemExit, match=message):
        parameters(metadata, CLASSES)


def test_an_artifact_of_batch_1_is_not(tmp_path):
    config = made(image_run(tmp_path / "run", batch=1), tmp_path / "repository")
    assert (config.max_batch_size, config.HasField("dynamic_batching")) == (0, False)
    assert [list(entry.dims) for entry in (*config.input, *config.output)] == [[1, 8, 8, 3], [1, 3]]


def test_texts_have_an_input_for_each_of_the_backbones(tmp_path):
    config = made(text_run(tmp_path / "run"), tmp_path / "repository")
    inputs = [(entry.name, entry.data_type, list(entry.dims)) for entry in config.input]
    assert inputs == [("token_ids", 2, [-1]), ("padding_mask", 2, [-1])]


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda run, repository: (run / "manifest.json").unlink(), (), "has no manifest.json"),
        (lambda run, repository: (run / "artifacts/model.onnx").write_bytes(b""), (), "export it again"),
        (lambda run, repository: (repository / "classifier").mkdir(parents=True), (), "exists already"),
        (lambda run, repository: None, ("--name", "../a"), "got '../a'"),
    ],
)
def test_what_cannot_be_leaves_nothing_behind(spoil, options, message, tmp_path):
    run, repository = image_run(tmp_path / "run"), tmp_path / "repository"
    repository.mkdir()
    spoil(run, repository)
    before = sorted(tmp_path.rglob("*"))
    done = make(run, repository, *options)
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    assert sorted(tmp_path.rglob("*")) == before
