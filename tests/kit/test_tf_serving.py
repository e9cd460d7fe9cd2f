"""The configuration and the client for TensorFlow Serving, against a real SavedModel."""

import base64
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from exporting import CLASSES, KIT, SIZE, between, multi_label_model, small_model, write_manifest
from images import draw
from protos import parse

from ktransfer.core.task import get_task
from ktransfer.exporting.export_model import ExportOptions, export_model
from ktransfer.image.decoding import Resize, load_image
from ktransfer.image.preprocessing import Preprocessing

FOLDER = KIT / "tf_serving"
_VALUE = {"Value": {"value": "int64"}}
_ALONE = """
import runpy, sys
sys.modules.update(dict.fromkeys(("keras", "keras_hub", "ktransfer", "tensorflow", "numpy", "PIL")))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


PREPROCESSING = Preprocessing(Resize(SIZE, SIZE), 1.0, 0.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with a real SavedModel, and the model that it was made of."""
    folder, model = tmp_path_factory.mktemp("run"), small_model()
    files = [str(draw(folder / f"{place}.png", size=(48, 30 + place))) for place in range(4)]
    options = {"class_names": CLASSES, "examples": files, "preprocessing": PREPROCESSING}
    write_manifest(folder, export_model(model, folder / "artifacts", "savedmodel", **options))
    return folder, model


@contextmanager
def tensorflow_serving(path):
    """The part of its REST interface that the client uses, over the SavedModel itself."""
    loaded = tf.saved_model.load(str(path))

    class Predict(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/models/classifier:predict":
                self.send_error(404, "no such model")
                return
            signature = loaded.signatures[request["signature_name"]]
            (name,) = signature.structured_input_signature[1]
            values = [instance[name] for instance in request["instances"]]
            if name.endswith("_bytes"):
                values = [base64.b64decode(value["b64"]) for value in values]
            (answers,) = signature(**{name: tf.constant(values)}).values()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"predictions": answers.numpy().tolist()}).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Predict)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/models"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(*arguments):
    command = [sys.executable, "-I", "-c", _ALONE, FOLDER / "client.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_client_answers_as_the_model_with_python_alone(run, tmp_path):
    folder, model = run
    path = draw(tmp_path / "image.png", size=(48, 40))
    with tensorflow_serving(folder / "artifacts" / "savedmodel") as url:
        done = ask(folder, path, "--url", f"{url}/classifier")
        missing = ask(folder, path, "--url", f"{url}/other")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    image = np.float32(load_image(path, Resize(SIZE, SIZE)))[None]
    expected = np.asarray(keras.ops.softmax(model(image, training=False)))[0]
    assert answer["label"] == CLASSES[expected.argmax()]
    assert answer["probability"] == pytest.approx(expected.max(), abs=0.01)
    assert "refused the request: 404" in missing.stderr


def test_a_manifest_of_format_1_is_read(run, tmp_path):
    folder, _ = run
    write_manifest(tmp_path, format=1)
    path = draw(tmp_path / "image.png", size=(48, 40))
    with tensorflow_serving(folder / "artifacts" / "savedmodel") as url:
        before, now = (ask(each, path, "--url", f"{url}/classifier") for each in (tmp_path, folder))
    assert (before.returncode, before.stdout) == (0, now.stdout), before.stderr


def test_several_labels_are_those_that_the_model_decides_on(tmp_path):
    """At a temperature, by which the thresholds of the SavedModel differ from those of the run."""
    model, task = multi_label_model(), get_task("multi_label")
    files = [str(draw(tmp_path / f"{seed}.png", seed=seed, size=(48, 30 + seed))) for seed in range(6)]
    images = np.float32([load_image(path, Resize(SIZE, SIZE)) for path in files])
    probabilities = task.probabilities(model.predict(images, verbose=0))
    decision = {"thresholds": between(probabilities)}
    options = {"class_names": CLASSES, "examples": files, "preprocessing": PREPROCESSING}
    options |= {"task": "multi_label", "decision": decision, "options": ExportOptions(temperature=1.5)}
    artifact = export_model(model, tmp_path / "artifacts", "savedmodel", **options)
    write_manifest(tmp_path, artifact, task="multi_label")
    path = tmp_path / artifact.path
    with tensorflow_serving(path) as url:
        done = ask(tmp_path, *files, "--url", f"{url}/classifier")
    assert done.returncode == 0, done.stderr
    answers, decided = (
        [json.loads(line) for line in done.stdout.splitlines()],
        task.decide(probabilities, decision),
    )
    for answer, row, found in zip(answers, probabilities, decided, strict=True):
        expected = task.answers(row, CLASSES, decision, top_k=5)
        for key in ("label", "chosen"):
            assert [each[key] for each in answer["predictions"]] == [each[key] for each in expected]
        names = [each["label"] for each in expected if each["chosen"]]
        assert [each["label"] for each in answer["labels"]] == names
        assert len(names) == found.sum()
    assert done.stderr.count("no label; the nearest is ") == (~decided.any(axis=1)).sum() > 0
    (path / "assets" / "extra.json").unlink()
    lacking = ask(tmp_path, files[0])
    assert (lacking.returncode, "which holds the thresholds" in lacking.stderr) == (1, True)


def test_a_server_that_is_not_there_is_said(run, tmp_path):
    done = ask(run[0], draw(tmp_path / "image.png"), "--url", "http://127.0.0.1:9/v1/models/classifier")
    assert (done.returncode, "cannot be reached" in done.stderr) == (1, True)


def test_the_names_in_the_readme_are_those_of_the_saved_model(run):
    loaded = tf.saved_model.load(str(run[0] / "artifacts" / "savedmodel"))
    readme = (FOLDER / "README.md").read_text()
    for name, given in (("serving_default", "image"), ("image_bytes", "image_bytes")):
        signature = loaded.signatures[name]
        assert list(signature.structured_input_signature[1]) == [given]
        assert list(signature.structured_outputs) == ["probabilities"]
        assert name in readme
        assert f"`{given}`" in readme
    assert "`probabilities`" in readme


def test_the_configurations_are_what_tensorflow_serving_reads_and_fit_together():
    models = {
        "Model": {"name": "string", "base_path": "string", "model_platform": "string"},
        "Models": {"config": ["Model"]},
        "Root": {"model_config_list": "Models"},
    }
    (model,) = parse((FOLDER / "models.config").read_text(), models, "Root").model_config_list.config
    fields = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    messages = {**_VALUE, "Root": dict.fromkeys(fields, "Value")}
    batching = parse((FOLDER / "batching.config").read_text(), messages, "Root")
    assert all(getattr(batching, field).value > 0 for field in fields)
    messages = {
        "Prometheus": {"enable": "bool", "path": "string"},
        "Root": {"prometheus_config": "Prometheus"},
    }
    assert parse((FOLDER / "monitoring.config").read_text(), messages, "Root").prometheus_config.enable

    service = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"][model.name]
    mounts = dict(volume.removesuffix(":ro").rsplit(":", 1)[::-1] for volume in service["volumes"])
    assert mounts[f"{model.base_path}/1"].endswith("/artifacts/savedmodel")
    files = [option.partition("=")[2] for option in service["command"] if "=" in option]
    assert len(files) == 3
    assert all((FOLDER / mounts[file]).is_file() for file in files)
