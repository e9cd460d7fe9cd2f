import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
import tf2onnx
from exporting import CLASSES, classifier, kit_answers, pixels, small_model, write_manifest
from images import draw
from onnx import helper, numpy_helper
from zoo import BACKBONES

from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import export_model
from ktransfer.exporting.onnx import exporter as onnx_exporter
from ktransfer.image.decoding import Resize, load_image

EXAMPLES = {"class_names": CLASSES, "examples": pixels(4)}


def exported(model, tmp_path, **options):
    artifact = export_model(model, tmp_path / "artifacts", "onnx", **EXAMPLES, **options)
    return artifact, onnx.load(tmp_path / artifact.path)


def custom(function):
    """A classifier with `function` of the pixels in it."""

    class Custom(keras.layers.Layer):
        def call(self, x):
            return function(x)

    image = keras.Input((32, 32, 3))
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(Custom()(image))))


@pytest.mark.spread(2)
@pytest.mark.parametrize(
    "name",
    [
        "resnet_v1",
        "efficientnet_v1",
        "vit",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("swin", "mit")),
    ],
)
def test_a_backbone_answers_as_its_onnx_file_at_any_batch(name, tmp_path):
    artifact, _ = exported(classifier(BACKBONES[name]()), tmp_path)
    assert (artifact.path, artifact.batch) == ("artifacts/model.onnx", "dynamic")
    assert artifact.parity.batch_sizes == (1, 4)
    assert artifact.parity.max_abs_delta < 1e-6


def test_a_mobilenet_of_hard_swish_keeps_no_transpose_but_the_first(tmp_path):
    _, model = exported(classifier(BACKBONES["mobilenet"]()), tmp_path)
    assert [node.op_type for node in model.graph.node].count("Transpose") == 1


def test_the_graph_has_one_named_input_and_output_and_a_named_batch_axis(tmp_path):
    model = small_model()
    _, proto = exported(model, tmp_path)
    (image,), (probabilities,) = proto.graph.input, proto.graph.output
    shapes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (image, probabilities)
    ]
    assert (image.name, probabilities.name) == ("image", "probabilities")
    assert shapes == [["batch", 32, 32, 3], ["batch", 3]]
    assert [entry.version for entry in proto.opset_import if entry.domain == ""] == [17]


def test_the_file_holds_its_labels_and_the_extra_facts(tmp_path):
    artifact, _ = exported(small_model(), tmp_path, extra={"preprocessing": {"mode": "crop"}})
    session = onnxruntime.InferenceSession(tmp_path / artifact.path)
    facts = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    expected = {"labels": CLASSES, "input_range": "0-255 RGB", "preprocessing": {"mode": "crop"}}
    assert facts == expected | {"task": "single_label"}


@pytest.mark.parametrize("name", [None, pytest.param("mit", marks=pytest.mark.slow)])
def test_two_exports_of_one_model_are_equal_byte_for_byte(name, tmp_path):
    model = classifier(BACKBONES[name]()) if name else small_model()
    first, second = (exported(model, tmp_path / folder)[0] for folder in ("first", "second"))
    assert first.sha256 == second.sha256


_EXPORTS = """
import sys
from pathlib import Path
import keras
from ktransfer.exporting.export_model import export_model
from trained import trained

family, folder, layers_before = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
for _ in range(layers_before):  # Keras numbers the next ones on
    keras.Sequential([keras.layers.Conv2D(2, 3), keras.layers.Dense(2)])
run = trained(family, folder, epochs=1)
examples, labels = run.evaluated
for format in ("onnx", "onnx-float16", "onnx-int8"):
    artifact = export_model(
        run.model,
        folder / f"artifacts_{layers_before}",
        format,
        class_names=run.class_names,
        preprocessing=run.preprocessing,
        examples=examples[:20],
        labels=labels[:20],
        calibration=run.training[0][:20],
        limits={"agreement": 0.0} if "-" in format else None,
    )
    print("made", format, artifact.sha256)
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mobilenet", "vit", "Bert", "DebertaV3"])
def test_exports_of_two_processes_are_equal_byte_for_byte(family, tmp_path):
    made = []
    for seed in (0, 3):  # the first trains, the second finds the weights
        command = [sys.executable, "-c", _EXPORTS, family, str(tmp_path), str(seed)]
        paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
        environment = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": paths}
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        made.append([line for line in done.stdout.splitlines() if line.startswith("made ")])
    assert len(made[0]) == 3
    assert made[0] == made[1]


def test_a_model_that_onnx_can_have_at_batch_1_only_says_so(tmp_path, monkeypatch, caplog):
    write = onnx_exporter.write

    def no_dynamic_batch(serving, path, *, fixed, **contents):
        write(serving, path, fixed=fixed or {"batch": 2}, **contents)

    monkeypatch.setattr(onnx_exporter, "write", no_dynamic_batch)
    with caplog.at_level(logging.WARNING, "ktransfer"):
        artifact, model = exported(small_model(), tmp_path)
    assert (artifact.batch, artifact.parity.batch_sizes) == (1, (1,))
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert artifact.signature["output"]["shape"] == [1, 3]
    assert "onnx does not work with a dynamic batch" in caplog.text


def test_erfc_is_one_minus_erf(tmp_path):
    artifact, model = exported(custom(lambda x: tf.math.erfc(x / 128 - 1)), tmp_path)
    assert {"Erf", "Sub"} <= {node.op_type for node in model.graph.node}
    assert artifact.parity.max_abs_delta < 1e-6


def test_a_captured_constant_becomes_part_of_the_graph(tmp_path):
    captured = tf.constant(np.random.default_rng(1).normal(size=(32, 32, 3)).astype("float32"))
    artifact, model = exported(custom(lambda x: x / 255 * captured), tmp_path)
    assert [value.name for value in model.graph.input] == ["image"]
    assert artifact.parity.max_abs_delta < 1e-6


def test_weights_are_not_kept_for_their_shape_alone():
    weights = numpy_helper.from_array(np.zeros((3, 4), np.float32), "weights")
    axes = helper.make_tensor_value_info("x", 1, [1, 4]), helper.make_tensor_value_info("y", 1, [3, 4])
    nodes = [helper.make_node("Shape", ["weights"], ["s"]), helper.make_node("Expand", ["x", "s"], ["y"])]
    graph = helper.make_graph(nodes, "g", axes[:1], axes[1:], [weights])
    onnx_exporter._leave_out_what_is_known(graph)
    assert [node.op_type for node in graph.node] == ["Expand"]
    assert {v.name: numpy_helper.to_array(v).tolist() for v in graph.initializer} == {"s": [3, 4]}


def test_an_operation_that_onnx_lacks_is_named(tmp_path):
    with pytest.raises(ExportError, match=r"opset 17.*Erfinv"):
        exported(custom(lambda x: keras.ops.erfinv(x / 256)), tmp_path)
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_an_error_that_tf2onnx_only_logs_is_a_failure(tmp_path, monkeypatch):
    convert = tf2onnx.convert.from_function

    def logged(*arguments, **options):
        logging.getLogger("tf2onnx.tfonnx").error("No Op registered for Foo")
        return convert(*arguments, **options)

    monkeypatch.setattr(tf2onnx.convert, "from_function", logged)
    with pytest.raises(ExportError, match="No Op registered for Foo"):
        exported(small_model(), tmp_path)


def test_functions_run_eagerly_is_as_before(tmp_path):
    exported(small_model(), tmp_path)
    assert not tf.config.functions_run_eagerly()


def test_the_kit_answers_from_an_onnx_file(tmp_path):
    model = small_model()
    artifact, _ = exported(model, tmp_path)
    write_manifest(tmp_path, artifact)
    path = draw(tmp_path / "image.png", size=(48, 40))
    (answer,) = kit_answers("onnx", tmp_path, path)
    image = np.float32(load_image(path, Resize(32, 32)))[None]
    expected = np.asarray(keras.ops.softmax(model(image, training=False)))[0]
    assert answer["label"] == CLASSES[expected.argmax()]
    assert answer["probability"] == pytest.approx(expected.max(), abs=1e-5)


def ending_in(model, activation):
    return keras.Model(model.input, keras.layers.Activation(activation)(model.output))


@pytest.mark.parametrize(
    ("changed", "class_names", "message"),
    [
        (
            lambda model: ending_in(model, "softmax"),
            CLASSES,
            r"answers that look like probabilities\. Build the last",
        ),
        (lambda model: keras.Sequential([keras.layers.Flatten()]), CLASSES, r"from images .* got \[\]"),
        (lambda model: model, [0, 1, 2], r"3 different class names of one line each.* got \[0, 1, 2\]"),
        (lambda model: model, ["a", "b", "a"], r"3 different class names"),
    ],
)
def test_what_would_give_a_wrong_artifact_is_refused(changed, class_names, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        export_model(changed(small_model()), tmp_path, "onnx", class_names=class_names, examples=pixels(4))
    assert list(tmp_path.iterdir()) == []


def test_what_no_batch_size_mends_is_not_tried_at_another(tmp_path, caplog):
    model = small_model()
    model.layers[-1].bias.assign([np.nan] * len(CLASSES))
    with pytest.raises(ExportError, match="got NaN"):
        export_model(model, tmp_path, "onnx", class_names=CLASSES, examples=pixels(4))
    with pytest.raises(ExportError, match="real training examples to calibrate"):
        export_model(small_model(), tmp_path, "onnx-int8", class_names=CLASSES, examples=pixels(4))
    assert "dynamic" not in caplog.text


@pytest.mark.parametrize("format", ["savedmodel", "tflite", "onnx"])
def test_small_probabilities_of_labels_keep_their_digits(format, tmp_path):
    """ONNX Runtime's own sigmoid is off by 1 % at a logit of -13, and by all of it at -20."""
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs))
    model = keras.Model(inputs, outputs)
    kernel = np.diag([-20.0, -14.0, 14.0]) / 255
    model.layers[-1].set_weights([kernel, np.zeros(3)])
    images = np.linspace(1, 255, 16)[:, None, None, None] * np.ones((1, 8, 8, 3))
    artifact = export_model(
        model,
        tmp_path / "artifacts",
        format,
        class_names=CLASSES,
        examples=images.astype("float32"),
        task="multi_label",
        decision={"thresholds": [1e-7, 0.5, 0.5]},
    )
    assert artifact.parity.label_agreement == 1
    assert artifact.parity.max_logit_delta < 1e-4
