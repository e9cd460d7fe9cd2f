"""OpenVINO reads the ONNX and TFLite files, and ONNX Runtime in Node the ONNX file: with the labels of the model."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from clients import interpreter_with

import ktransfer
from ktransfer.utils.files import write_text

pytestmark = pytest.mark.slow
EXAMPLES = 60

# Each answers to one example at a time: an `.npz` of arrays by input, in the order of the examples.
_BY_OPENVINO = """
import sys
import numpy as np
import openvino
model, given, found = sys.argv[1:]
# Its own choice is bfloat16 where a processor has it: of 60 photographs one got another label.
compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
names = {name: place for place, port in enumerate(compiled.inputs) for name in port.names}
answers = []
for example in np.load(given, allow_pickle=True)["examples"]:
    by_place = {names.get(name, names.get(f"serving_default_{name}:0")): array for name, array in example.items()}
    answers.append(compiled(by_place)[0])
np.save(found, np.concatenate(answers))
"""
_BY_NODE = """
const {readFileSync} = require('fs'), ort = require('onnxruntime-node');
const [model, given] = process.argv.slice(1);
(async () => {
  const session = await ort.InferenceSession.create(model);
  for (const example of JSON.parse(readFileSync(given))) {
    const inputs = {};
    for (const [name, {dtype, shape, values}] of Object.entries(example)) {
      const kind = dtype === 'int32' ? Int32Array : Float32Array;
      inputs[name] = new ort.Tensor(dtype, kind.from(values), shape);
    }
    console.log(JSON.stringify(Array.from((await session.run(inputs)).probabilities.data)));
  }
})();
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory, flowers, mobilenet_preset):
    """A run on photographs, inputs of some of them, and the probabilities of the Keras model."""
    folder = tmp_path_factory.mktemp("images")
    options = {"epochs": 0, "preset": "fast", "formats": ["onnx", "tflite"], "verbose": 0}
    run = ktransfer.train(flowers, str(mobilenet_preset), folder / "run", **options)
    files = list(map(str, sorted((flowers / "val").rglob("*.jpg"))))[::2][:EXAMPLES]
    pixels = [run.preprocessing([file]) for file in files]
    return run, [{"image": each} for each in pixels], run.predict_probabilities(files)


@pytest.fixture(scope="module")
def texts(tmp_path_factory, sms_spam, minilm):
    """The same of a run on messages."""
    folder = tmp_path_factory.mktemp("texts")
    rows = [line.split("\t", 1) for line in sms_spam.read_text(encoding="utf-8").splitlines()[:400]]
    quoted = (f'{label},"{text.replace(chr(34), chr(34) * 2)}"' for label, text in rows)
    write_text(folder / "messages.csv", "\n".join(["label,text", *quoted]))
    options = {"epochs": 0, "preset": "fast", "formats": ["onnx", "tflite"], "verbose": 0}
    run = ktransfer.train(folder / "messages.csv", str(minilm), folder / "run", **options)
    messages = [text for _, text in rows[-EXAMPLES:]]
    given = [run.preprocessing([message]) for message in messages]
    return run, given, run.predict_probabilities(messages)


def padded(given, artifact):
    """The ids of an example at the one length that an artifact takes, if it takes one."""
    length = artifact["sequence"]
    if not isinstance(length, int):
        return given
    return {name: np.pad(array, ((0, 0), (0, length - array.shape[1]))) for name, array in given.items()}


def artifact_of(run, format):
    [found] = [entry for entry in run.manifest["artifacts"] if entry["format"] == format]
    return found


def check(found, expected):
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize("kind", ["images", "texts"])
@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_openvino_gives_the_labels_of_the_model(kind, format, request, tmp_path):
    python = interpreter_with("openvino")
    run, examples, expected = request.getfixturevalue(kind)
    artifact = artifact_of(run, format)
    given = np.array([padded(each, artifact) for each in examples], object)
    np.savez(tmp_path / "given.npz", examples=given)
    command = [
        python,
        "-c",
        _BY_OPENVINO,
        run.path / artifact["path"],
        tmp_path / "given.npz",
        tmp_path / "found.npy",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check(np.load(tmp_path / "found.npy"), expected)


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_onnxruntime_in_node_gives_the_labels_of_the_model(kind, request, tmp_path):
    if shutil.which("node") is None:
        pytest.skip("node is not here")
    find = ["node", "-e", "require('onnxruntime-node')"]
    if subprocess.run(find, capture_output=True, check=False).returncode:
        pytest.skip("onnxruntime-node is not here: npm install it, and name its node_modules in NODE_PATH")
    run, examples, expected = request.getfixturevalue(kind)
    described = [
        {
            name: {"dtype": str(array.dtype), "shape": array.shape, "values": array.ravel().tolist()}
            for name, array in example.items()
        }
        for example in examples
    ]
    (tmp_path / "given.json").write_text(json.dumps(described))
    model = run.path / artifact_of(run, "onnx")["path"]
    done = subprocess.run(
        ["node", "-e", _BY_NODE, str(model), str(tmp_path / "given.json")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    check(np.array([json.loads(line) for line in done.stdout.splitlines()]), expected)
