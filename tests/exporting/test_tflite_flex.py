"""TFLite files with operations of TensorFlow itself: written where they are allowed, and proved."""

import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from exporting import CLASSES, KIT, SIZE, pixels, write_manifest
from flatbuffers import flexbuffers
from images import draw

from ktransfer import cli
from ktransfer.commands.train import train
from ktransfer.data.modality import IMAGES
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import ExportError
from ktransfer.exporting.artifact import Artifact
from ktransfer.exporting.export_model import ExportOptions, export_model
from ktransfer.exporting.parity import TOLERANCE, measure_parity
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.exporting.serving import reference_function
from ktransfer.exporting.tflite.flex import flex_ops, in_pieces
from ktransfer.exporting.tflite.metadata import packed
from ktransfer.image.serving import serve_images
from ktransfer.recipes.recipe import Recipe

GIVEN = {"class_names": CLASSES, "examples": pixels(4)}


def two_branches(left, right, size=SIZE, classes=3):
    """An operation in each of two branches, with others before, between and after them."""
    keras.utils.set_random_seed(0)
    image = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(8, 3, strides=2)(keras.layers.Rescaling(1 / 255)(image))
    one = keras.layers.Conv2D(16, 3)(left(keras.ops.tanh(x)))
    other = right(keras.layers.Conv2D(16, 3)(x))
    x = keras.layers.Flatten()(keras.layers.Add()([one, other]))
    return keras.Model(image, keras.layers.Dense(classes)(x))


def export(model, run, format="tflite", **options):
    return export_model(model, run / "artifacts", format, options=ExportOptions(**options), **GIVEN)


def answers_of_keras(model, images):
    return keras.ops.convert_to_numpy(keras.ops.softmax(model(images, training=False)))


@pytest.fixture(scope="module")
def model():
    return two_branches(keras.ops.tan, keras.ops.sinh)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """Of any batch: the artifact and its run."""
    run = tmp_path_factory.mktemp("run")
    artifact = export(model, run, dynamic_batch=True, allow_flex=True)
    write_manifest(run, artifact)
    return artifact, run


def test_a_model_that_needs_flex_is_refused_with_what_and_where_and_how_to_allow_it(model, tmp_path):
    with pytest.raises(ExportError, match=r"got .* pass --allow-flex") as refused:
        export(model, tmp_path)
    assert re.findall(r"(\w+) in \S+?/(\w+)[,.]", str(refused.value)) in (
        [("Sinh", "Sinh"), ("Tan", "Tan")],
        [("Tan", "Tan"), ("Sinh", "Sinh")],
    )
    assert not list(tmp_path.rglob("*.tflite"))


def test_with_flex_in_two_branches_a_file_answers_as_the_model_at_any_batch(model, exported):
    artifact, run = exported
    assert (artifact.batch, artifact.parity.batch_sizes) == ("dynamic", (1, 4))
    assert artifact.flex_ops == ("Sinh", "Tan")
    opened = open_artifact("tflite", run / artifact.path)
    assert opened.labels == CLASSES
    for count in (3, 1, 4):
        images = pixels(count)
        np.testing.assert_allclose(
            opened.answer({"image": images}), answers_of_keras(model, images), atol=1e-5
        )


def test_a_roll_needs_flex_at_any_batch_and_none_at_one(tmp_path, caplog):
    rolled = two_branches(*2 * [lambda x: keras.ops.roll(x, 1, 2)])
    artifact = export(rolled, tmp_path, allow_flex=True)
    assert (artifact.batch, artifact.flex_ops) == (1, ())
    assert flex_ops(tmp_path / artifact.path) == ()
    artifact = export(rolled, tmp_path, allow_flex=True, dynamic_batch=True)
    assert (artifact.batch, artifact.flex_ops) == ("dynamic", ("Roll",))
    assert artifact.parity.max_abs_delta < 1e-5
    assert "trying Flex" in caplog.text


def test_a_file_without_flex_is_opened_without_tensorflow(tmp_path, monkeypatch):
    artifact = export(two_branches(keras.ops.relu, keras.ops.relu), tmp_path)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert open_artifact("tflite", tmp_path / artifact.path).answer({"image": pixels(1)}).shape == (1, 3)


def test_flex_without_tensorflow_is_refused(exported, monkeypatch):
    artifact, run = exported
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ExportError, match="Expected TensorFlow for a TFLite file"):
        in_pieces(run / artifact.path)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["tflite-float16", "tflite-dynamic"])
def test_a_smaller_file_may_have_flex_too(model, format, tmp_path):
    artifact = export(model, tmp_path, format, allow_flex=True)
    assert artifact.flex_ops == ("Sinh", "Tan")
    assert artifact.parity.label_agreement == 1


def test_int8_with_flex_is_refused_and_what_else_there_is_named(model, tmp_path):
    with pytest.raises(ExportError, match=r"tflite-dynamic with --allow-flex .* int8 cannot be calibrated"):
        export_model(
            model,
            tmp_path,
            "tflite-int8",
            calibration=pixels(2),
            options=ExportOptions(allow_flex=True),
            **GIVEN,
        )


def flexed(name, **attributes):
    """What a file holds of an operation of TensorFlow."""
    node = tf.compat.v1.NodeDef(name=name, op=name)
    for attribute, type in attributes.items():
        node.attr[attribute].type = type
    builder = flexbuffers.Builder()
    with builder.Vector():
        builder.String(name)
        builder.String(node.SerializeToString().decode())
    return np.frombuffer(builder.Finish(), np.uint8)


def other_weights(model, _):
    largest = max((each for each in model.buffers if each.data is not None), key=lambda each: len(each.data))
    largest.data = np.frombuffer((largest.data.view("<f4") * 1.5).tobytes(), np.uint8)


def swapped(_, operations):
    one, other = operations
    one.customOptions, other.customOptions = other.customOptions, one.customOptions


def read_elsewhere(_, operations):
    operations[1].inputs = operations[0].inputs


def shuffled(_, operations):
    operations[0].customOptions = flexed("RandomShuffle", T=tf.float32.as_datatype_enum)


def unheard_of(_, operations):
    operations[0].customOptions = flexed("NoSuch")


def with_variable(model, _):
    model.subgraphs[0].tensors[-1].isVariable = True


def in_a_branch(model, _):
    model.subgraphs.append(model.subgraphs[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_weights, "to answer as the model does"),
        (swapped, "to answer as the model does"),
        (read_elsewhere, "to run at batch sizes"),
        (shuffled, "RandomShuffle, which has an effect or a state"),
        (unheard_of, "NoSuch"),
        (with_variable, "got variables next to it"),
        (in_a_branch, "got one in a branch or loop"),
    ],
)
def test_a_file_that_is_damaged_between_its_pieces_is_refused(model, exported, tmp_path, change, message):
    artifact, run = exported
    changed = schema.ModelT.InitFromPackedBuf((run / artifact.path).read_bytes())
    change(changed, [each for each in changed.subgraphs[0].operators if each.customOptions is not None])
    (tmp_path / "model.tflite").write_bytes(packed(changed))
    with pytest.raises(ExportError, match=message):
        prove(tmp_path / "model.tflite", model)


def prove(path, model):
    serving = serve_images(model, CLASSES, pixels(4))
    answer = open_artifact("tflite", path).answer
    measure_parity(answer, reference_function(serving), serving.examples).check("tflite", TOLERANCE)


def test_the_kit_says_what_an_app_needs_for_it(exported, tmp_path):
    _, run = exported
    image = draw(tmp_path / "image.png")
    command = [sys.executable, KIT / "tflite" / "predict.py", run, image]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "(Sinh, Tan)" in line
    assert "tensorflow-lite-select-tf-ops" in line
    assert "TensorFlowLiteSelectTfOps" in line


def test_an_artifact_of_before_there_was_flex_still_loads(exported):
    artifact, _ = exported
    described = json.loads(json.dumps(artifact.to_dict()))
    assert Artifact.from_dict(described) == artifact
    del described["flex_ops"]
    assert Artifact.from_dict(described).flex_ops == ()
    with pytest.raises(ValueError, match="flex_ops"):
        Artifact.from_dict(described | {"flex_ops": [1]})


def test_flex_is_for_tflite():
    with pytest.raises(ExportError, match=r"a TFLite format .*with --allow-flex \(allow_flex\)"):
        ExportOptions(allow_flex=True).check(["onnx"], IMAGES)


@pytest.mark.slow
def test_verbs_say_that_a_file_needs_flex_find_another_and_do_not_time_it(tmp_path, capsys, monkeypatch):
    def say(*arguments):
        monkeypatch.setattr(sys, "argv", ["ktransfer", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr().out

    data = write_target_task(tmp_path / "things", train_per_class=4, validation_per_class=2)
    quiet = {"verbose": 0, "say": lambda line: None}
    run = train(data, PRESET_PATH, tmp_path / "run", formats=[], recipe=Recipe(stages=()), **quiet)
    size = run.manifest["preprocessing"]["height"]
    model = two_branches(keras.ops.tan, keras.ops.sinh, size, len(run.labels))
    model.save(run.path / "model.keras")

    code, out = say("export", run.path, "--format", "tflite", "--allow-flex")
    assert (code, "needs Flex for Sinh, Tan" in out) == (0, True)
    code, out = say("verify", run.path)
    assert (code, "needs Flex for Sinh, Tan" in out) == (0, True)
    code, out = say("benchmark", run.path, "--rounds", 1)
    assert code == 0
    assert "model.tflite is left out: it needs Flex for Sinh, Tan" in out
    measured = json.loads((run.path / "benchmark.json").read_text(encoding="utf-8"))
    assert [row["format"] for row in measured["measured"]] == ["keras"]
    (run.path / "artifacts" / "model.tflite").write_bytes(b"another")
    assert say("verify", run.path)[0] == 1
