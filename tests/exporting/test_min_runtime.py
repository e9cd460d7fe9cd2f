"""The least runtime of a file, and `--min-runtime`, which refuses files that need a later one."""

import json

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from exporting import CLASSES, SIZE, small_model

from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import ExportOptions, export_model
from ktransfer.exporting.onnx.min_runtime import min_runtime as onnx_min_runtime
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
