import importlib
import json
import os
import zipfile

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from exporting import CLASSES, SIZE, kit_answers, pixels, write_manifest
from images import draw
from zoo import BACKBONES

from ktransfer.errors import ExportError
from ktransfer.exporting.artifact import fingerprint
from ktransfer.exporting.export_model import QUANTIZED, Artifact, export_model
from ktransfer.exporting.onnx import exporter as onnx_exporter
from ktransfer.exporting.patches.padding import finite_padding
from ktransfer.exporting.processes.converter_process import run_in_subprocess
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.exporting.tflite.metadata import _AlignedBuilder
from ktransfer.image.decoding import Resize, load_image

IMAGES = np.rint(pixels(40))


def answers(model, images=IMAGES):
    return np.asarray(keras.ops.softmax(model(images, training=False)))


@pytest.fixture(scope="module")
def model():
    """One whose answers hang on wide ranges of pixels, as a trained one's do."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    x = keras.layers.Conv2D(64, 5, strides=2, activation="relu")(x)
    x = keras.layers.Conv2D(64, 3, strides=2, activation="relu")(x)
    x = keras.layers.Flatten()(keras.layers.BatchNormalization()(x))
    model = keras.Model(image, keras.layers.Dense(len(CLASSES))(x))
    model(IMAGES, training=True)
    return model


def options_of(model):
    options = {"class_names": CLASSES, "examples": IMAGES, "calibration": IMAGES}
    return options | {"labels": answers(model).argmax(-1), "extra": {"mode": "crop"}}


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """format -> artifact, and their run folder."""
    run = tmp_path_factory.mktemp("run")
    made = {
        name: export_model(model, run / "artifacts", name, **options_of(model))
        for name in ("tflite", "onnx", *QUANTIZED)
    }
    write_manifest(run, *made.values())
    return made, run


@pytest.mark.parametrize("format", QUANTIZED)
def test_a_quantized_file_is_smaller_and_described_and_carries_its_labels(format, exported):
    made, run = exported
    artifact, family = made[format], format.partition("-")[0]
    suffix = format.partition("-")[2]
    assert artifact.path == f"artifacts/model_{suffix}.{family}"
    assert (artifact.sha256, artifact.size_bytes) == fingerprint(run / artifact.path)
    assert artifact.size_bytes < (0.6 if suffix == "float16" else 0.4) * made[family].size_bytes
    assert artifact.batch == (1 if family == "tflite" else "dynamic")
    assert Artifact.from_dict(json.loads(json.dumps(artifact.to_dict()))) == artifact
    opened = open_artifact(format, run / artifact.path)
    assert opened.labels == CLASSES
    [given] = artifact.signature["inputs"]
    [found] = opened.signature["inputs"]
    assert (given["dtype"], given["shape"]) == (found["dtype"], found["shape"])
    assert given["dtype"] == ("uint8" if format == "tflite-int8" else "float32")


@pytest.mark.parametrize("format", QUANTIZED)
def test_a_quantized_file_is_judged_by_its_labels_and_its_accuracy(format, exported, model):
    artifact = exported[0][format]
    limits = {"agreement": 0.995} if "16" in format else {"agreement": 0.98, "accuracy_drop": 0.01}
    assert artifact.limits == limits
    assert artifact.parity.accuracy_of_model == 1.0
    assert artifact.parity.accuracy >= 39 / 40
    answer = open_artifact(format, exported[1] / artifact.path).answer
    found = np.concatenate([answer({"image": image[None]}) for image in IMAGES])
    agree = (found.argmax(-1) == answers(model).argmax(-1)).mean()
    assert artifact.parity.label_agreement == pytest.approx(agree, abs=1 / 40)
    assert np.abs(found - answers(model)).max() < 0.1


@pytest.mark.parametrize("format", ["tflite-int8", "onnx-int8"])
def test_the_kit_answers_from_a_quantized_file(format, exported, model, tmp_path):
    path = draw(tmp_path / "image.png", size=(48, 40))
    (answer,) = kit_answers(format.partition("-")[0], exported[1], path, "--format", format)
    expected = answers(model, np.float32(load_image(path, Resize(SIZE, SIZE)))[None])[0]
    assert answer["probability"] == pytest.approx(expected[CLASSES.index(answer["label"])], abs=0.1)


def test_int8_convolutions_in_onnx_are_static_and_quantized_by_channel(exported):
    made, run = exported
    graph = onnx.load(run / made["onnx-int8"].path).graph
    operations = {node.op_type for node in graph.node}
    assert "QuantizeLinear" in operations
    assert not {"ConvInteger", "DynamicQuantizeLinear"} & operations
    makers = {node.output[0]: node for node in graph.node}
    scales = {value.name: value.dims for value in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    assert [list(scales[makers[node.input[1]].input[1]]) for node in convolutions] == [[64], [64]]


def test_int8_weights_in_onnx_saturate_on_no_processor(exported):
    made, run = exported
    graph = onnx.load(run / made["onnx-int8"].path).graph
    values = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    products = [node for node in graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    weights = [values[makers[node.input[1]].input[0]] for node in products]
    assert len(weights) == 3
    assert all(weight.dtype == np.int8 and np.abs(weight.astype(int)).max() <= 64 for weight in weights)


@pytest.mark.parametrize("format", ["onnx-float16", "onnx-int8"])
def test_a_smaller_onnx_file_is_a_valid_graph_without_long_names(format, exported):
    made, run = exported
    loaded = onnx.load(run / made[format].path)
    onnx.checker.check_model(loaded, full_check=True)
    inside = {name for node in loaded.graph.node for name in (node.name, *node.input, *node.output)}
    assert max(map(len, inside - {"image", "probabilities"})) <= 3
    assert not loaded.graph.value_info


@pytest.mark.parametrize("format", ["onnx-float16", "onnx-int8"])
def test_a_smaller_onnx_file_is_the_same_byte_for_byte_when_made_again(format, exported, model, tmp_path):
    again = export_model(model, tmp_path / "artifacts", format, **options_of(model))
    assert again.sha256 == exported[0][format].sha256


def test_equal_vectors_are_written_once():
    builder = _AlignedBuilder(64)
    first = builder.CreateNumpyVector(np.zeros(8, np.int64))
    assert builder.CreateNumpyVector(np.zeros(8, np.int64)) == first
    others = [builder.CreateNumpyVector(np.zeros(4, np.int64)), builder.CreateNumpyVector(np.zeros(8))]
    assert len({first, *others}) == 3


def test_an_int8_file_has_one_vector_of_zero_points_for_all_layers_of_a_width(exported):
    made, run = exported
    loaded = schema.Model.GetRootAs((run / made["tflite-int8"].path).read_bytes())
    graph = loaded.Subgraphs(0)
    quantized = [graph.Tensors(index).Quantization() for index in range(graph.TensorsLength())]
    places = [q.ZeroPointAsNumpy().ctypes.data for q in quantized if q and q.ZeroPointLength() == 64]
    assert len(places) >= 3
    assert len(set(places)) == 1


def test_extra_facts_are_in_a_quantized_file(exported):
    made, run = exported
    with zipfile.ZipFile(run / made["tflite-dynamic"].path) as archive:
        assert json.loads(archive.read("extra.json")) == {"mode": "crop", "task": "single_label"}
    properties = onnx.load(run / made["onnx-int8"].path).metadata_props
    assert json.loads({entry.key: entry.value for entry in properties}["mode"]) == "crop"


# What cannot be trusted is refused.


@pytest.mark.parametrize(("format", "calibration"), [("tflite-int8", None), ("onnx-int8", IMAGES[:0])])
def test_int8_without_training_examples_is_refused(format, calibration, model, tmp_path):
    with pytest.raises(ExportError, match=r"real training examples to calibrate .*, got none"):
        export_model(model, tmp_path, format, class_names=CLASSES, examples=IMAGES, calibration=calibration)
    assert list(tmp_path.iterdir()) == []


def test_an_int8_file_that_was_calibrated_on_nothing_like_the_examples_is_refused(model, tmp_path):
    labels = answers(model).argmax(-1)
    options = {"class_names": CLASSES, "examples": IMAGES, "labels": labels, "calibration": 0 * IMAGES[:4]}
    with pytest.raises(ExportError, match=r"98\.0% of the examples, got .* accuracy .* 100\.0%"):
        export_model(model, tmp_path, "onnx-int8", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_converter_that_aborts_is_an_error_and_leaves_nothing(model, tmp_path, monkeypatch):
    def aborting(*_, doing, **options):
        return run_in_subprocess(os.abort, doing=doing)

    monkeypatch.setattr(onnx_exporter, "run_in_subprocess", aborting)
    with pytest.raises(ExportError, match=r"make the ONNX model float16, got its end by SIGABRT"):
        export_model(model, tmp_path, "onnx-float16", class_names=CLASSES, examples=IMAGES)
    assert list(tmp_path.iterdir()) == []


# The pad of minus infinity.


@pytest.mark.parametrize("size", [7, 8])
def test_a_pad_that_repeats_the_edge_gives_a_max_pool_the_same(size):
    x = tf.constant(np.random.default_rng(0).normal(-5, 1, (2, size, size, 3)).astype("float32"))
    around = [[0, 0], [1, 1], [1, 1], [0, 0]]
    pad = tf.pad
    expected = tf.nn.max_pool2d(tf.pad(x, around, constant_values=float("-inf")), 3, 2, "VALID")
    with finite_padding():
        padded = tf.pad(x, around, constant_values=float("-inf"))
        zeros = tf.pad(x, around)
    assert np.isfinite(padded).all()
    np.testing.assert_array_equal(tf.nn.max_pool2d(padded, 3, 2, "VALID"), expected)
    assert zeros[0, 0, 0, 0] == 0
    assert tf.pad is pad


@pytest.mark.slow
def test_a_resnet_v2_pads_in_its_max_pool_in_onnx(tmp_path):
    image = keras.Input((32, 32, 3))
    features = BACKBONES["resnet_v2"]()(keras.layers.Rescaling(1 / 127.5, -1.0)(image))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(features)))
    options = {"class_names": CLASSES, "examples": IMAGES[:10], "calibration": IMAGES[:10]}
    export_model(model, tmp_path / "artifacts", "onnx", **options)
    nodes = onnx.load(tmp_path / "artifacts" / "model.onnx").graph.node
    (pool,) = [node for node in nodes if node.op_type == "MaxPool"]
    assert [list(one.ints) for one in pool.attribute if one.name == "pads"] == [[1, 1, 1, 1]]
    assert "Pad" not in {node.op_type for node in nodes}
    for format in ("onnx-int8", "tflite-int8"):  # random weights: the labels are draws
        artifact = export_model(model, tmp_path / "artifacts", format, limits={"agreement": 0.0}, **options)
        assert artifact.parity.max_logit_delta < 0.2


def test_what_a_mask_hides_does_not_take_the_steps_of_what_it_shows(tmp_path):
    class Masked(keras.layers.Layer):
        def call(self, scores):
            return keras.ops.softmax(keras.ops.where(np.arange(8) < 6, scores, -2e38))

    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 5, strides=4, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    scores = keras.layers.Dense(8, kernel_initializer="orthogonal")(keras.layers.Flatten()(x))
    last = keras.layers.Dense(len(CLASSES), kernel_initializer=keras.initializers.Orthogonal(4))
    model = keras.Model(image, last(Masked()(scores)))
    options = {
        "class_names": CLASSES,
        "examples": IMAGES,
        "calibration": IMAGES,
        "limits": {"agreement": 0.0},
    }
    parity = export_model(model, tmp_path / "artifacts", "tflite-int8", **options).parity
    assert parity.wrong_input_delta > parity.wrong_input_delta_of_model / 2 > 0


def test_the_command_line_offers_the_quantized_formats():
    assert importlib.import_module("ktransfer.cli.options").QUANTIZED == QUANTIZED
