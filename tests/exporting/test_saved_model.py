"""SavedModel, and what holds for every format: `export_model` itself."""

import hashlib
import json
import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from exporting import CLASSES, classifier, kit_answers, pixels, small_model, write_manifest
from images import FLOWERS, SHARED, draw
from zoo import BACKBONES

from ktransfer.errors import ExportError
from ktransfer.exporting import export_model as exporters
from ktransfer.exporting.artifact import fingerprint, publish
from ktransfer.exporting.export_model import FORMATS, Artifact, export_model
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.image.decoding import Resize, load_image

EXAMPLES = {"class_names": CLASSES, "examples": pixels(4)}


def contents(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.spread(1)
@pytest.mark.parametrize("name", ["efficientnet_v1", "mobilenet"])
def test_a_backbone_answers_as_its_saved_model(name, tmp_path):
    artifact = export_model(classifier(BACKBONES[name]()), tmp_path / "artifacts", "savedmodel", **EXAMPLES)
    assert (artifact.batch, artifact.parity.batch_sizes) == ("dynamic", (1, 4))
    assert artifact.parity.max_abs_delta < 1e-6


def test_a_saved_model_takes_images_gives_probabilities_and_carries_its_labels(tmp_path):
    model = small_model()
    export_model(model, tmp_path / "artifacts", "savedmodel", extra={"mode": "crop"}, **EXAMPLES)
    loaded = tf.saved_model.load(str(tmp_path / "artifacts" / "savedmodel"))
    images = pixels(5)
    answers = loaded.signatures["serving_default"](image=tf.constant(images))["probabilities"].numpy()
    np.testing.assert_allclose(answers, keras.ops.softmax(model(images, training=False)), atol=1e-6)
    assets = tmp_path / "artifacts" / "savedmodel" / "assets"
    assert (assets / "labels.txt").read_text() == "daisy\nrose\nsun flower\n"
    assert json.loads((assets / "extra.json").read_text()) == {"mode": "crop", "task": "single_label"}


def test_the_weights_are_stored_once(tmp_path):
    model = small_model()
    export_model(model, tmp_path / "artifacts", "savedmodel", **EXAMPLES)
    stored = sum(file.stat().st_size for file in (tmp_path / "artifacts/savedmodel/variables").iterdir())
    assert stored < 1.5 * 4 * model.count_params()


@pytest.mark.parametrize("format", FORMATS)
def test_exporting_leaves_the_model_as_it_was(format, tmp_path):
    model = small_model()
    before = [value.copy() for value in model.get_weights()]
    export_model(model, tmp_path / "artifacts", format, **EXAMPLES)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_artifact_is_described_so_that_a_program_can_use_it(tmp_path):
    artifact = export_model(small_model(), tmp_path / "artifacts", "savedmodel", **EXAMPLES)
    assert artifact.path == "artifacts/savedmodel"
    assert (artifact.sha256, artifact.size_bytes) == fingerprint(tmp_path / artifact.path)
    assert artifact.signature == {
        "inputs": [{"name": "image", "shape": [None, 32, 32, 3], "dtype": "float32", "range": "0-255 RGB"}],
        "output": {"name": "probabilities", "shape": [None, 3], "dtype": "float32"},
    }
    assert (tmp_path / "artifacts" / "labels.txt").read_text() == "daisy\nrose\nsun flower\n"
    assert Artifact.from_dict(json.loads(json.dumps(artifact.to_dict()))) == artifact


def test_the_hash_of_a_folder_is_that_of_its_sorted_checksums(tmp_path):
    (tmp_path / "b").write_bytes(b"2")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "c").write_bytes(b"13")
    lines = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in [("a/c", b"13"), ("b", b"2")]
    )
    assert fingerprint(tmp_path) == (hashlib.sha256(lines.encode()).hexdigest(), 3)


@pytest.mark.parametrize("format", FORMATS)
def test_an_artifact_that_answers_otherwise_is_not_left_behind(format, tmp_path):
    with pytest.raises(ExportError, match=f"Expected the {format} artifact to answer"):
        export_model(small_model(), tmp_path, format, tolerance=-1, **EXAMPLES)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_artifact_outlives_a_failed_export_and_not_a_good_one(tmp_path):
    first = export_model(small_model(), tmp_path / "artifacts", "savedmodel", **EXAMPLES)
    with pytest.raises(ExportError):
        export_model(small_model(), tmp_path / "artifacts", "savedmodel", tolerance=-1, **EXAMPLES)
    assert fingerprint(tmp_path / first.path)[0] == first.sha256
    second = export_model(small_model(), tmp_path / "artifacts", "savedmodel", **EXAMPLES)
    assert fingerprint(tmp_path / first.path)[0] == second.sha256 != first.sha256
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == {"savedmodel", "labels.txt"}


def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(exporters, "measure_parity", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_model(small_model(), tmp_path, "savedmodel", **EXAMPLES)
    assert list(tmp_path.iterdir()) == []


def test_the_old_folder_is_back_when_the_new_one_cannot_take_its_name(tmp_path):
    old = tmp_path / "savedmodel"
    old.mkdir()
    (old / "old").touch()
    with pytest.raises(FileNotFoundError):
        publish(tmp_path / "there_is_none", old)
    assert contents(tmp_path) == {"savedmodel/old"}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_mixed_precision_model_is_exported_in_float32(policy, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = small_model()
    finally:
        keras.config.set_dtype_policy(before)
    artifact = export_model(model, tmp_path / "artifacts", "tflite", **EXAMPLES)
    assert artifact.parity.max_abs_delta < 1e-6
    assert model.layers[-1].compute_dtype != "float32"  # the user's model is as it was
    rough = keras.ops.softmax(keras.ops.cast(model(pixels(4), training=False), "float32"))
    answers = open_artifact("tflite", tmp_path / artifact.path).answer({"image": pixels(1)})
    np.testing.assert_allclose(answers, rough[:1], atol=0.05)
    assert keras.config.dtype_policy() == before


@pytest.mark.slow
def test_a_mixed_precision_backbone_in_a_float32_model_is_exported_in_float32(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        backbone = BACKBONES["resnet_v1"]()
    finally:
        keras.config.set_dtype_policy(before)
    artifact = export_model(classifier(backbone), tmp_path / "artifacts", "tflite", **EXAMPLES)
    assert artifact.parity.max_abs_delta < 1e-6


def test_a_mixed_precision_model_that_cannot_be_built_again_is_refused(tmp_path):
    class Odd(keras.layers.Layer):
        def __init__(self, needed, **options):
            super().__init__(**options)

        def call(self, x):
            return x

    image = keras.Input((32, 32, 3))
    features = keras.layers.Flatten()(Odd("needed", dtype="mixed_float16")(image))
    model = keras.Model(image, keras.layers.Dense(3)(features))
    with pytest.raises(ExportError, match="got float32, mixed_float16, and it cannot be built again"):
        export_model(model, tmp_path, "savedmodel", **EXAMPLES)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"class_names": ["a", "b"]}, "3 different class names"),
        ({"class_names": ["a", "b", "c\nd"]}, "one line each"),
        ({"examples": pixels(0)}, "at least one image"),
        ({"examples": pixels(2, 16)}, r"shape \(32, 32, 3\).*\(2, 16, 16, 3\)"),
        ({"format": "coreml"}, "savedmodel, tflite, onnx.*'coreml'"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(wrong, message, tmp_path):
    arguments = {"format": "onnx", **EXAMPLES, **wrong}
    with pytest.raises(ExportError, match=message):
        export_model(small_model(), tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_fixed_image_size_is_refused(tmp_path):
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(image)))
    with pytest.raises(ExportError, match=r"got \[\(None, None, None, 3\), \(None, 3\)\]"):
        export_model(model, tmp_path, "onnx", **EXAMPLES)


def test_another_backend_is_told_the_command_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ExportError, match=r"KERAS_BACKEND=jax\..*`KERAS_BACKEND=tensorflow ktransfer export"):
        export_model(small_model(), tmp_path, "onnx", **EXAMPLES)


def test_importing_the_exporters_loads_no_framework_and_no_runtime():
    heavy = "{'tensorflow', 'keras', 'onnx', 'onnxruntime', 'tf2onnx', 'ai_edge_litert'}"
    code = f"import sys, ktransfer.exporting.export_model; sys.exit(sorted({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_kit_answers_from_a_saved_model_without_keras(tmp_path):
    model = small_model()
    image = draw(tmp_path / "image.png", size=(32, 32))
    write_manifest(tmp_path, export_model(model, tmp_path / "artifacts", "savedmodel", **EXAMPLES))
    (answer,) = kit_answers("savedmodel", tmp_path / "artifacts", image)
    pixels = keras.utils.img_to_array(keras.utils.load_img(image))[None]
    expected = np.asarray(keras.ops.softmax(model(pixels, training=False)))[0]
    assert answer["label"] == CLASSES[expected.argmax()]
    assert answer["probability"] == pytest.approx(expected.max(), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_real_resnet_answers_on_photographs_as_its_artifact_and_the_kit(format, tmp_path):
    preset = SHARED / "backbones" / "resnet50_v2_3stage_imagenet"
    if not preset.is_dir() or not FLOWERS.is_dir():
        pytest.skip("the shared data is not here")
    photographs = sorted((FLOWERS / "val").rglob("*.jpg"))[::12]
    names = sorted(folder.name for folder in (FLOWERS / "val").iterdir())
    images = np.float32([load_image(path, Resize(160, 160)) for path in photographs])
    converter = keras_hub.layers.ImageConverter.from_preset(str(preset))
    backbone = keras_hub.models.Backbone.from_preset(str(preset))
    keras.utils.set_random_seed(0)
    model = classifier(backbone, 160, len(names), scale=converter.scale, offset=converter.offset)
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 30)  # a trained head is not as undecided
    artifact = export_model(model, tmp_path / "artifacts", format, class_names=names, examples=images)
    assert artifact.parity.max_abs_delta < 1e-5
    assert artifact.parity.wrong_input_delta > 100 * artifact.parity.max_abs_delta
    write_manifest(tmp_path, artifact, size=160, labels=names)
    answers = kit_answers(format, tmp_path, *photographs)
    logits = model(images, training=False).numpy()
    certain = np.sort(logits)[:, -1] - np.sort(logits)[:, -2] > 0.2  # JPEGs are decoded a little otherwise
    labels = np.array([names[index] for index in logits.argmax(-1)])
    assert certain.sum() >= len(images) // 2
    assert [answer["label"] for answer in np.array(answers)[certain]] == list(labels[certain])
