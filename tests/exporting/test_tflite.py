import ast
import json
import logging
import os
import zipfile

import aborting
import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from exporting import CLASSES, KIT, classifier, kit_answers, pixels, small_model, write_manifest
from images import draw
from PIL import Image
from zoo import BACKBONES

from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import ExportOptions, export_model
from ktransfer.exporting.tflite import exporter as litert
from ktransfer.image.decoding import Resize, load_image

EXAMPLES = {"class_names": CLASSES, "examples": pixels(4)}
ANY_BATCH = ExportOptions(dynamic_batch=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    model = small_model()
    artifact = export_model(model, run / "artifacts", "tflite", extra={"mode": "crop"}, **EXAMPLES)
    write_manifest(run, artifact)
    return model, artifact, run


def metadata(path):
    """The model's metadata buffer, as a table of the schema."""
    content = path.read_bytes()
    model = schema.Model.GetRootAs(content)
    entries = [model.Metadata(index) for index in range(model.MetadataLength())]
    (entry,) = [entry for entry in entries if entry.Name() == b"TFLITE_METADATA"]
    data = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    assert data[4:8] == b"M001"
    return flatbuffers.table.Table(data, flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0))


def at(table, *fields):
    """Follow fields of tables, by index in the schema; a vector gives its first element."""
    for field, is_vector in fields:
        position = table.Offset(4 + 2 * field)
        assert position, f"field {field} is not there"
        position = table.Vector(position) if is_vector else position + table.Pos
        table = flatbuffers.table.Table(table.Bytes, table.Indirect(position))
    return table


def text(table, field):
    return table.String(table.Pos + table.Offset(4 + 2 * field)).decode()


@pytest.mark.spread(1)
@pytest.mark.parametrize("name", ["resnet_v2", "vit"])
def test_a_backbone_answers_as_its_tflite_file_at_any_batch(name, tmp_path):
    model = classifier(BACKBONES[name]())
    artifact = export_model(model, tmp_path / "artifacts", "tflite", options=ANY_BATCH, **EXAMPLES)
    assert (artifact.path, artifact.batch) == ("artifacts/model.tflite", "dynamic")
    assert artifact.parity.batch_sizes == (1, 4)
    assert artifact.parity.max_abs_delta < 1e-5


def test_the_file_holds_its_labels_and_the_extra_facts(small):
    _, artifact, run = small
    with zipfile.ZipFile(run / artifact.path) as archive:
        assert archive.read("labels.txt") == b"daisy\nrose\nsun flower\n"
        assert json.loads(archive.read("extra.json")) == {"mode": "crop", "task": "single_label"}
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_metadata_tells_mobile_libraries_of_labels_and_that_nothing_is_to_be_scaled(small):
    _, artifact, run = small
    graph = at(metadata(run / artifact.path), (3, True))
    image, probabilities = at(graph, (2, True)), at(graph, (3, True))
    assert (text(image, 0), text(probabilities, 0)) == ("image", "probabilities")
    size = at(image, (3, False), (1, False), (1, False))
    assert [
        size.Get(flatbuffers.number_types.Uint32Flags, size.Pos + size.Offset(4 + 2 * i)) for i in (0, 1)
    ] == [32, 32]
    options = at(image, (4, True), (1, False))
    mean, std = (
        options.GetVectorAsNumpy(flatbuffers.number_types.Float32Flags, options.Offset(4 + 2 * field))
        for field in (0, 1)
    )
    assert (mean.tolist(), std.tolist()) == ([0.0], [1.0])
    labels = at(probabilities, (6, True))
    assert text(labels, 0) == "labels.txt"
    axis_labels = 2
    assert labels.Get(flatbuffers.number_types.Int8Flags, labels.Pos + labels.Offset(8)) == axis_labels


def test_only_builtin_operations_are_used_and_weights_lie_aligned(small):
    _, artifact, run = small
    content = (run / artifact.path).read_bytes()
    model = schema.Model.GetRootAs(content)
    codes = [model.OperatorCodes(index).BuiltinCode() for index in range(model.OperatorCodesLength())]
    assert schema.BuiltinOperator.CUSTOM not in codes
    start = np.frombuffer(content, np.uint8).ctypes.data
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    offsets = [buffer.DataAsNumpy().ctypes.data - start for buffer in buffers if buffer.DataLength()]
    assert len(offsets) > 4
    assert not np.any(np.mod(offsets, 16))


def test_a_phone_sees_one_input_of_batch_1(small):
    _, artifact, run = small
    interpreter = Interpreter(str(run / artifact.path))
    (given,), (taken,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (given["shape"].tolist(), given["dtype"]) == ([1, 32, 32, 3], np.float32)
    assert taken["shape"].tolist() == [1, 3]


def test_the_same_model_gives_the_same_bytes(small, tmp_path):
    model, artifact, _ = small
    again = export_model(model, tmp_path / "artifacts", "tflite", extra={"mode": "crop"}, **EXAMPLES)
    assert again.sha256 == artifact.sha256


def test_a_file_that_cannot_be_resized_is_written_and_said_to_be_of_batch_1(tmp_path, monkeypatch, caplog):
    write = litert.write

    def no_dynamic_batch(serving, path, *, fixed, **contents):
        write(serving, path, fixed=fixed or {"batch": 2}, **contents)

    monkeypatch.setattr(litert, "write", no_dynamic_batch)
    with caplog.at_level(logging.WARNING, "ktransfer"):
        artifact = export_model(
            small_model(), tmp_path / "artifacts", "tflite", options=ANY_BATCH, **EXAMPLES
        )
    assert (artifact.batch, artifact.parity.batch_sizes) == (1, (1,))
    assert artifact.signature["inputs"][0]["shape"] == [1, 32, 32, 3]
    assert "tflite does not work with a dynamic batch" in caplog.text


def test_an_operation_that_tflite_lacks_is_named_with_its_place(tmp_path):
    class ErfInv(keras.layers.Layer):
        def call(self, x):
            return keras.ops.erfinv(x / 256)

    image = keras.Input((32, 32, 3))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(ErfInv()(image))))
    with pytest.raises(ExportError, match=r"builtin operations only, got Erfinv in \S*erf_inv\S*\. "):
        export_model(model, tmp_path, "tflite", **EXAMPLES)
    assert list(tmp_path.iterdir()) == []


def test_the_kit_answers_a_line_an_image(small, tmp_path):
    model, _, run = small
    images = [draw(tmp_path / f"{seed}.png", seed=seed, size=(48, 40)) for seed in range(3)]
    answers = kit_answers("tflite", run, *images)
    pixels = np.float32([load_image(path, Resize(32, 32)) for path in images])
    expected = np.asarray(keras.ops.softmax(model(pixels, training=False)))
    assert [answer["label"] for answer in answers] == [CLASSES[index] for index in expected.argmax(-1)]
    np.testing.assert_allclose([answer["probability"] for answer in answers], expected.max(-1), atol=1e-5)


def kit_functions(format):
    """name -> source of each function of a kit's program."""
    source = (KIT / format / "predict.py").read_text()
    return {
        node.name: ast.unparse(node) for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)
    }


def test_the_kits_programs_differ_only_in_how_they_load_a_model_and_who_makes_ids_of_a_text():
    onnx, tflite, savedmodel = (kit_functions(format) for format in ("onnx", "tflite", "savedmodel"))
    for functions in (onnx, tflite, savedmodel):
        del functions["load_model"]
    # ONNX has files that take texts as they are.
    lines = onnx["text_reader"].splitlines()
    [at] = [index for index, line in enumerate(lines) if "== STRINGS" in line]
    onnx["text_reader"] = "\n".join(lines[:at] + lines[at + 2 :])
    assert onnx["text_reader"] == tflite["text_reader"] != savedmodel["text_reader"]
    for functions in (onnx, tflite, savedmodel):
        del functions["text_reader"]
    assert onnx.pop("pair_reader") == tflite.pop("pair_reader")  # a SavedModel takes both texts itself
    # That of SavedModel needs tokenizers for entities alone, and imports it there.
    savedmodel["entity_finder"] = savedmodel["entity_finder"].replace(
        "    from tokenizers import Tokenizer\n", ""
    )
    assert onnx == tflite == savedmodel


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("antialias", [True, False])
def test_the_kit_sees_the_pixels_that_training_saw(mode, antialias, tmp_path):
    namespace = {"__name__": "kit"}
    exec((KIT / "tflite" / "predict.py").read_text(), namespace)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    for name, size, options in [
        ("tall.jpg", (45, 80), {"exif": exif}),
        ("wide.png", (101, 50), {}),
        ("tiny.png", (9, 7), {}),
    ]:
        path = draw(tmp_path / name, size=size, **options)
        expected = load_image(path, Resize(32, 24, mode=mode, antialias=antialias))
        preprocessing = {
            "height": 32,
            "width": 24,
            "mode": mode,
            "interpolation": "bilinear",
            "antialias": antialias,
        }
        seen = namespace["read_image"](os.fspath(path), **preprocessing)
        assert seen.dtype == np.float32
        np.testing.assert_array_equal(seen, expected)


def test_the_kit_whitens_what_is_transparent_and_scales_16_bits(tmp_path):
    namespace = {"__name__": "kit"}
    exec((KIT / "onnx" / "predict.py").read_text(), namespace)
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.fromarray(np.full((8, 8), 257 * 100, np.uint16)).save(tmp_path / "deep.png")
    for name, value in (("clear.png", 255), ("deep.png", 100)):
        seen = namespace["read_image"](tmp_path / name, 8, 8, "stretch", "bilinear", True)
        assert np.unique(seen).tolist() == [value]
        np.testing.assert_array_equal(seen, load_image(tmp_path / name, Resize(8, 8, mode="stretch")))


class Roll(keras.layers.Layer):
    def call(self, features):
        return keras.ops.roll(features, 1, axis=1)


def test_a_converter_that_ends_its_process_leaves_ours_and_names_the_operation(tmp_path, monkeypatch):
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, strides=4, padding="same")(image)
    beside = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, padding="same")(x))
    x = keras.layers.Add()([beside, Roll(name="shifted")(x)])
    logits = keras.layers.Dense(len(CLASSES))(keras.layers.GlobalAveragePooling2D()(x))
    monkeypatch.setattr(litert, "convert", aborting.convert)
    with pytest.raises(ExportError, match=r"its end by SIGABRT.* It crashes at \w+ in \S*shifted\S*"):
        export_model(keras.Model(image, logits), tmp_path, "tflite", **EXAMPLES)
    assert list(tmp_path.iterdir()) == []
