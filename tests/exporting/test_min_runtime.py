"""The least runtime of a file, and `--min-runtime`, which refuses files that need a later one."""

import json

import keras
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from exporting import CLASSES, SIZE, small_model

from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import ExportOptions, export_model
from ktransfer.exporting.onnx.min_runtime import min_runtime as onnx_min_runtime
from ktransfer.exporting.patches.dense_scales import one_scale_a_dense_layer
from ktransfer.exporting.tflite.min_runtime import check_min_runtime, min_runtime
from ktransfer.exporting.versions import version_number

IMAGES = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3)).astype("float32")


def export(folder, format, **options):
    return export_model(
        small_model(),
        folder / "artifacts",
        format,
        class_names=CLASSES,
        examples=IMAGES,
        options=ExportOptions(**options),
    )


def operators_of(path):
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    return [model.OperatorCodes(index).Version() for index in range(model.OperatorCodesLength())]


def test_a_tflite_file_has_its_least_runtime_and_an_older_one_is_refused(tmp_path):
    artifact = export(tmp_path, "tflite", min_runtime="2.9")
    path = tmp_path / artifact.path
    needs = artifact.min_runtime
    assert needs == min_runtime(path)
    assert needs["name"] == "TensorFlow Lite"
    assert needs["version"].encode() in path.read_bytes()
    assert version_number(needs["version"]) <= (2, 9)
    assert max(operators_of(path)) == max(needs["operators"].values(), default=1)
    before = path.read_bytes()
    with pytest.raises(
        ExportError, match=r"Expected operators of TensorFlow Lite 1\.0 .*, got tflite, which needs 1\."
    ):
        export(tmp_path, "tflite", min_runtime="1.0")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir() if "partial" in file.name] == []


def test_dense_layers_of_a_dynamic_file_get_operators_that_an_older_runtime_has(tmp_path):
    image = keras.Input((SIZE, SIZE, 3))
    hidden = keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(image / 255.0))
    model = keras.Model(image, keras.layers.Dense(len(CLASSES))(hidden))
    options = {"class_names": CLASSES, "examples": IMAGES}
    given = (model, tmp_path / "artifacts", "tflite-dynamic")
    newer = export_model(*given, **options)
    assert newer.min_runtime["operators"]["FULLY_CONNECTED"] == 12
    older = export_model(*given, **options, options=ExportOptions(min_runtime="2.9"))
    assert older.min_runtime["operators"]["FULLY_CONNECTED"] < 12
    assert version_number(older.min_runtime["version"]) <= (2, 9)
    assert older.parity.label_agreement == 1
    assert abs(older.size_bytes - newer.size_bytes) < 0.05 * newer.size_bytes
    with pytest.raises(ExportError, match=r"got tflite-dynamic, which needs 2\.[0-9]"):
        export_model(*given, **options, options=ExportOptions(min_runtime="1.15"))


def test_a_converter_without_the_option_is_refused():
    with pytest.raises(ExportError, match="got one of another TensorFlow"):
        one_scale_a_dense_layer(object())


@pytest.mark.parametrize("format", ["onnx", "savedmodel"])
def test_the_other_formats_have_theirs(format, tmp_path):
    artifact = export(tmp_path, format)
    if format == "savedmodel":
        import tensorflow as tf

        assert artifact.min_runtime == {"name": "TensorFlow", "version": tf.__version__}
    else:
        assert artifact.min_runtime == {
            "name": "ONNX Runtime",
            "version": "1.12",
            "opset": 17,
            "extensions": [],
        }
    assert json.loads(json.dumps(artifact.to_dict()))["min_runtime"] == artifact.min_runtime


@pytest.mark.parametrize(
    ("opset", "ir", "version"),
    [(11, 6, "1.5"), (17, 8, "1.12"), (13, 9, "1.15"), (21, 10, "1.18"), (99, 8, None)],
)
def test_onnx_runtime_follows_from_operator_set_and_format(opset, ir, version, tmp_path):
    node = onnx.helper.make_node("Own", ["x"], ["y"], domain="ai.onnx.contrib")
    value = onnx.helper.make_tensor_value_info("x", 1, [1])
    other = onnx.helper.make_tensor_value_info("y", 1, [1])
    sets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("ai.onnx.contrib", 1)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [value], [other]), opset_imports=sets, ir_version=ir
    )
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    found = onnx_min_runtime(tmp_path / "a.onnx")
    assert (found["version"], found["extensions"]) == (version, ["ai.onnx.contrib"])


@pytest.mark.parametrize("version", ["2.13.0", None])
def test_the_operators_of_later_versions_are_named(version):
    facts = {"name": "TensorFlow Lite", "version": version, "operators": {"FULLY_CONNECTED": 12}}
    with pytest.raises(ExportError, match="FULLY_CONNECTED 12") as raised:
        check_min_runtime(facts, "2.9", "tflite-dynamic")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("version", ["", "2", "2.x", "-2.9", "2.9.1.1", "٢.٩", "v2.9"])
def test_what_is_no_version_is_refused(version):
    with pytest.raises(ExportError, match="a version of TensorFlow Lite"):
        ExportOptions(min_runtime=version)


def test_it_is_for_tflite_files():
    with pytest.raises(ExportError, match="a TFLite format with --min-runtime"):
        ExportOptions(min_runtime="2.9").check(["onnx"], "image-classification")
