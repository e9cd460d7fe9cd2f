"""Tensors of the TFLite files have unique names, by which OpenVINO, tf2onnx and quantizers find them."""

import json
import subprocess

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from clients import interpreter_with
from exporting import CLASSES, SIZE, pixels, small_model
from test_text_export import TEXTS, text_classifier
from test_tflite_flex import two_branches
from trained import trained

from ktransfer.core.modality import modality_of_kind
from ktransfer.core.task import get_task
from ktransfer.exporting.export_model import ExportOptions, export_model
from ktransfer.exporting.tflite.metadata import add_metadata, packed

IMAGES = np.rint(pixels(8))
GIVEN = {"class_names": CLASSES, "examples": IMAGES, "calibration": IMAGES, "limits": {"agreement": 0.5}}
OPTIONS = {
    "as it is": {},
    "any batch": {"dynamic_batch": True},
    "uint8": {"uint8": True},
    "temperature": {"temperature": 1.5},
}


def looping_model():
    """A loop, whose condition and body are subgraphs of their own."""

    class Loop(keras.layers.Layer):
        def call(self, x):
            step = lambda count, y: (count + 1, keras.ops.tanh(y))  # noqa: E731
            return keras.ops.while_loop(lambda count, y: count < 3, step, (0, x))[1]

    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, strides=2)(keras.layers.Rescaling(1 / 127.5, -1.0)(image))
    return keras.Model(image, keras.layers.Dense(len(CLASSES))(Loop()(keras.layers.Flatten()(x))))


def check_names(path, inputs):
    """Every tensor has a name of its own, and inputs and outputs that of the signature."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    names = [tensor.name.decode() for graph in model.subgraphs for tensor in graph.tensors]
    assert all(names)
    assert len({*names}) == len(names)
    assert max(map(len, {*names} - {*inputs, "probabilities"})) <= len("t") + len(str(len(names)))
    interpreter = Interpreter(str(path))
    runner = interpreter.get_signature_runner("serving_default")
    assert sorted(runner.get_input_details()) == sorted(inputs)
    assert sorted(given["name"] for given in interpreter.get_input_details()) == sorted(inputs)
    assert [given["name"] for given in interpreter.get_output_details()] == ["probabilities"]
    assert list(runner.get_output_details()) == ["probabilities"]
    return model


@pytest.mark.spread
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("format", ["tflite", "tflite-float16", "tflite-dynamic", "tflite-int8"])
def test_every_tensor_of_an_image_classifier_has_a_unique_name(format, option, tmp_path):
    if format == "tflite-int8" and option != "as it is":
        pytest.skip("int8 has one kind of input; its conversion takes seconds")
    options = ExportOptions(**OPTIONS[option])
    artifact = export_model(small_model(), tmp_path / "artifacts", format, options=options, **GIVEN)
    check_names(tmp_path / artifact.path, ["image"])


@pytest.mark.spread(1)
@pytest.mark.parametrize("format", ["tflite", "tflite-float16", "tflite-dynamic"])
def test_every_tensor_of_a_text_classifier_has_a_unique_name(format, tmp_path):
    model, preprocessing = text_classifier("Bert", tmp_path)
    given = GIVEN | {"examples": TEXTS, "preprocessing": preprocessing}
    artifact = export_model(model, tmp_path / "artifacts", format, **given)
    check_names(tmp_path / artifact.path, preprocessing.inputs)


@pytest.mark.slow
def test_every_tensor_of_a_file_with_flex_has_a_unique_name(tmp_path):
    model, options = two_branches(keras.ops.tan, keras.ops.sinh), ExportOptions(allow_flex=True)
    artifact = export_model(model, tmp_path / "artifacts", "tflite", options=options, **GIVEN)
    assert artifact.flex_ops
    check_names(tmp_path / artifact.path, ["image"])


def test_every_tensor_of_every_subgraph_has_a_unique_name(tmp_path):
    artifact = export_model(looping_model(), tmp_path / "artifacts", "tflite", **GIVEN)
    assert len(check_names(tmp_path / artifact.path, ["image"]).subgraphs) == 3


def test_an_input_called_as_an_inner_tensor_would_be_keeps_its_name():
    class Given:
        name, axes = "t1", (1, 2, 2, 3)

    class Serving:
        class_names, inputs, modality = CLASSES, [Given], modality_of_kind("file")
        task, client = get_task("single_label"), None

    tensors = [schema.TensorT(name=b"", shape=[1], buffer=0) for _ in range(4)]
    graph = schema.SubGraphT(tensors=tensors, inputs=[3], outputs=[0], operators=[])
    signature = schema.SignatureDefT(
        signatureKey=b"serving_default",
        subgraphIndex=0,
        inputs=[schema.TensorMapT(name=b"t1", tensorIndex=3)],
        outputs=[schema.TensorMapT(name=b"probabilities", tensorIndex=0)],
    )
    model = schema.ModelT(
        version=3, subgraphs=[graph], signatureDefs=[signature], buffers=[schema.BufferT()], operatorCodes=[]
    )
    named = schema.ModelT.InitFromPackedBuf(add_metadata(packed(model), Serving))
    assert [tensor.name for tensor in named.subgraphs[0].tensors] == [b"probabilities", b"t0", b"t2", b"t1"]


# Other clients than LiteRT.

_BY_OPENVINO = """
import json, sys
import numpy as np, openvino
path, given = sys.argv[1:]
# Processors with AMX would compute in bfloat16.
model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
dtypes = {name: each.element_type.to_dtype() for each in model.inputs for name in each.names}
inputs = {name: np.array(array, dtypes[name]) for name, array in json.loads(given).items()}
print(json.dumps(model(inputs)[model.output("probabilities")].tolist()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("format", ["tflite", "tflite-float16", "tflite-dynamic", "tflite-int8"])
@pytest.mark.parametrize("family", ["mobilenet", "resnet_v1", "vit", "Bert"])
def test_openvino_answers_as_litert_and_finds_inputs_by_name(family, format, tmp_path):
    python = interpreter_with("openvino")
    given = trained(family, tmp_path, epochs=1)
    (examples, labels), calibration = given.evaluated, given.training[0][:32]
    options = {"class_names": given.class_names, "examples": examples, "preprocessing": given.preprocessing}
    options |= {"calibration": calibration, "labels": labels}
    options |= {"limits": {"agreement": 0.5, "accuracy_drop": 1.0}} if "-" in format else {}
    artifact = export_model(given.model, tmp_path / "artifacts", format, **options)
    if given.preprocessing is None:
        inputs = {"image": np.rint(examples[:1])}
    else:
        length = artifact.sequence if isinstance(artifact.sequence, int) else None
        inputs = given.preprocessing.pack(given.preprocessing.tokenize(examples[:1]), length)
    run = Interpreter(str(tmp_path / artifact.path)).get_signature_runner("serving_default")
    dtypes = {name: details["dtype"] for name, details in run.get_input_details().items()}
    expected = run(**{name: array.astype(dtypes[name]) for name, array in inputs.items()})["probabilities"]
    command = [python, "-c", _BY_OPENVINO, str(tmp_path / artifact.path)]
    done = subprocess.run(
        [*command, json.dumps({name: array.tolist() for name, array in inputs.items()})],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=0.1 if "-" in format else 1e-4)
