"""The repository for Triton, read as Triton reads it."""

import subprocess
import sys

import pytest
from exporting import KIT
from onnx_server_runs import COLOURS, image_run, text_run
from protos import parse

# Of Triton's model_config.proto, what is written.
_MESSAGES = {
    "Input": {"name": "string", "data_type": ("TYPE_INVALID", "TYPE_FP32", "TYPE_INT32"), "dims": ["int64"]},
    "Output": {
        "name": "string",
        "data_type": ("TYPE_INVALID", "TYPE_FP32"),
        "dims": ["int64"],
        "label_filename": "string",
    },
    "Batching": {"max_queue_delay_microseconds": "int64"},
    "Config": {
        "name": "string",
        "backend": "string",
        "max_batch_size": "int32",
        "input": ["Input"],
        "output": ["Output"],
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


def test_an_artefact_of_dynamic_batch_is_batched(tmp_path):
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
    assert model.read_bytes() == (run / "artefacts" / "model.onnx").read_bytes()


def test_an_artefact_of_batch_1_is_not(tmp_path):
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
        (lambda run, repository: (run / "artefacts/model.onnx").write_bytes(b""), (), "export it again"),
        (lambda run, repository: (repository / "classifier").mkdir(parents=True), (), "exists already"),
        (lambda run, repository: None, ("--name", "../a"), "Received: '../a'"),
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
