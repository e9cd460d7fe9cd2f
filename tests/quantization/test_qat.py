import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import zoo
from ai_edge_litert.interpreter import Interpreter
from text_zoo import write_preset

from ktransfer.image.classifier import build_classifier
from ktransfer.image.decoding import Resize
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.quantization import qat as quantization_aware
from ktransfer.quantization.fake_quant import FakeQuantizedModel
from ktransfer.quantization.qat import QuantizedFit, fine_tune_quantized
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.text.augmentation import TextAugmentation
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier

RECIPE = Recipe(
    stages=(Stage(depth="all", epochs=1, learning_rate=0.02),), batch_size=16, quantization_aware=3
)


def rms(difference):
    return np.sqrt(np.mean(np.square(difference)))


def classifier():
    """Of two classes, with a depthwise convolution and a sum."""
    rng = np.random.default_rng(0)
    inputs = keras.Input((8, 8, 3))
    features = keras.layers.Conv2D(8, 3, use_bias=False, name="lower")(inputs)
    features = keras.layers.BatchNormalization(trainable=False, name="norm")(features)
    features = keras.layers.ReLU(name="relu")(features)
    features = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(features)
    features = keras.layers.ReLU(max_value=6.0, name="relu6")(features)
    other = keras.layers.Conv2D(8, 1, activation="relu", name="upper")(features)
    backbone = keras.Model(inputs, keras.layers.Add(name="sum")([features, other]), name="backbone")
    for weight in backbone.weights:
        if len(weight.shape) > 1:
            weight.assign(rng.normal(0, 0.5, weight.shape))
    return build_classifier(backbone, 2, Preprocessing(Resize(8, 8), 1 / 127.5, -1.0))


def widen(model, scale):
    """Make one channel so many times as large and divide again: float is the same, one range holds all."""
    scales = np.where(np.arange(8) == 0, scale, 1.0)
    kernel = model.get_layer("backbone").get_layer("lower").kernel
    kernel.assign(kernel * scales)
    kernel = model.get_layer("backbone").get_layer("depthwise").kernel
    kernel.assign(kernel / scales[:, None])


def task(count, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 255, (count, 8, 8, 3)).astype("float32")
    labels = rng.integers(0, 2, count)
    images[..., 1] *= np.where(labels, 1.0, 0.6)[:, None, None]
    return images, labels


def batches(images, labels):
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)


def int8_logits(model, images, calibration, folder):
    """What a file answers that is in int8 throughout."""
    spec = tf.TensorSpec((1, *images.shape[1:]), tf.float32)
    module = tf.Module()
    module.weights = [weight.value for weight in model.weights]
    module.serve = tf.function(lambda image: model(image, training=False), input_signature=[spec])
    tf.saved_model.save(module, folder, signatures=module.serve.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ({"image": image[None]} for image in calibration)
    run = Interpreter(model_content=converter.convert()).get_signature_runner("serving_default")
    return np.concatenate([next(iter(run(image=image[None]).values())) for image in images])


def test_a_rounded_model_answers_as_its_int8_file_does(tmp_path):
    model = classifier()
    widen(model, 8.0)
    images, _ = task(40)
    in_float = model.predict(images, verbose=0)
    rounded = FakeQuantizedModel(model, [images[:20]]).predict(images, verbose=0)
    int8 = int8_logits(model, images, images[:20], tmp_path)
    assert rms(in_float - int8) > 0.005
    assert rms(rounded - int8) < 0.5 * rms(in_float - int8)


def test_weights_are_rounded_by_output_channel_and_shared():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="dense")(inputs))
    model.get_layer("dense").set_weights([np.array([[127.0, 1.27], [0.6, 0.126]]), np.zeros(2)])
    rounded = FakeQuantizedModel(model, [np.array([[2.0, 2.0]])])
    assert rounded.ranges["dense"] == (0.0, pytest.approx(255.2))
    # By steps of 1 and 0.01: 127 + 1 and 1.27 + 0.13. Then by one of 255.2 / 255: 128 and 1 of them.
    step = 255.2 / 255
    np.testing.assert_allclose(rounded(np.array([[1.0, 1.0]])), [[128 * step, step]], rtol=1e-5)
    assert [id(v) for v in rounded.weights] == [id(v) for v in model.weights]


def test_the_model_itself_answers_as_before():
    model, (images, _) = classifier(), task(16)
    before = model.predict(images, verbose=0)
    rounded = FakeQuantizedModel(model, [images])
    assert rms(rounded.predict(images, verbose=0) - before) > 0
    np.testing.assert_array_equal(model(images, training=False), model.predict_on_batch(images))
    np.testing.assert_array_equal(model.predict(images, verbose=0), before)
    assert not [layer.name for layer in model.get_layer("backbone").layers if "call" in vars(layer)]


def test_what_becomes_one_with_its_convolution_is_not_rounded_before():
    ranges = FakeQuantizedModel(classifier(), [task(16)[0]]).ranges
    rounded = {"scaling", "relu", "relu6", "upper", "sum", "pooled", "feature_norm", "logits"}
    assert set(ranges) == rounded
    assert ranges["scaling"] == pytest.approx((-1.0, 1.0), abs=0.02)


@pytest.mark.spread(1)
@pytest.mark.parametrize("family", ["mobilenet", "resnet_v2", "vit"])
def test_layers_inside_layers_are_rounded(family):
    backbone = zoo.BACKBONES[family]()
    images = np.random.default_rng(0).uniform(0, 255, (2, zoo.SIZE, zoo.SIZE, 3)).astype("float32")
    model = build_classifier(backbone, 2, Preprocessing(Resize(zoo.SIZE, zoo.SIZE), 1 / 127.5, -1.0))
    rounded = FakeQuantizedModel(model, [images])
    assert len(rounded.ranges) > 8
    assert np.isfinite(list(rounded.ranges.values())).all()  # ResNet v2 pads with minus infinity
    assert np.isfinite(rounded.predict(images, verbose=0)).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["Bert", "GPT2"])
def test_a_text_classifier_is_rounded_and_trains(family, tmp_path):
    backbone, preset = write_preset(family, tmp_path)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=12)
    model = build_text_classifier(backbone, 2, preprocessing)
    texts, labels = ["the quick fox", "you you café a", "brown fox", "a café"] * 4, np.array([0, 1, 0, 1] * 4)
    data = tf.data.Dataset.from_tensor_slices((preprocessing(texts), labels)).batch(8)
    recipe = dataclasses.replace(RECIPE, augmentation=TextAugmentation(), int8_accuracy_drop=1.0)
    found = fine_tune_quantized(model, data, data, recipe, verbose=0)
    assert found.int8_after >= found.int8_before or not found.kept
    ids = preprocessing(texts)
    rounded = FakeQuantizedModel(model, [ids])
    off = rms(rounded.predict(ids, verbose=0) - model.predict(ids, verbose=0))
    assert 0 < off < 0.5


@pytest.mark.slow
def test_a_network_that_collapses_in_int8_is_mended(tmp_path):
    model, (images, labels), (others, truth) = classifier(), task(256), task(128, seed=1)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, labels, batch_size=16, epochs=8, verbose=0)
    widen(model, 400.0)

    def accuracy_of_file(name):
        logits = int8_logits(model, others, images[:20], tmp_path / name)
        return np.mean(logits.argmax(-1) == truth)

    before = accuracy_of_file("before")
    stage = Stage(depth="all", epochs=1, learning_rate=0.03)
    recipe = dataclasses.replace(RECIPE, stages=(stage,), quantization_aware=12, int8_accuracy_drop=0.1)
    found = fine_tune_quantized(model, batches(images, labels), batches(others, truth), recipe, verbose=0)
    assert found.float_before > 0.95
    assert before < 0.7
    assert accuracy_of_file("after") > before + 0.15
    assert found.int8_after > found.int8_before + 0.1
    assert found.kept


@pytest.mark.parametrize("accuracies", [(0.5, 0.9, 0.8, 0.88), (0.5, 0.9, 0.4, 0.9)])
def test_weights_that_cost_accuracy_in_float_or_rounded_are_not_kept(monkeypatch, accuracies):
    model = classifier()
    measured = iter(accuracies)  # rounded and in float, before and after
    monkeypatch.setattr(quantization_aware, "_score", lambda *rest: next(measured))
    before = model.get_weights()
    data = batches(*task(32))
    found = fine_tune_quantized(model, data, data, RECIPE, verbose=0)
    assert found == QuantizedFit(0.5, accuracies[2], 0.9, accuracies[3], kept=False)
    for mine, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    said = f"in int8 0.500 -> {accuracies[2]:.3f}, in float 0.900 -> {accuracies[3]:.3f}; kept as before"
    assert str(found) == f"accuracy {said}"


def test_a_recipe_without_stages_trains_the_head_only():
    model = classifier()
    before = [weight.numpy() for weight in model.get_layer("backbone").weights]
    data = batches(*task(64))
    recipe = dataclasses.replace(RECIPE, stages=(), int8_accuracy_drop=1.0)
    found = fine_tune_quantized(model, data, data, recipe, verbose=0)
    assert found.int8_after >= found.int8_before or not found.kept
    for weight, value in zip(model.get_layer("backbone").weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


@pytest.mark.slow  # half a minute, most of it loading
def test_it_trains_on_jax_as_well():
    script = (
        "import numpy as np; from test_qat import *; model = classifier(); "
        "data = batches(*task(64)); before = model.get_weights(); "
        "recipe = dataclasses.replace(RECIPE, int8_accuracy_drop=1.0); "
        "found = fine_tune_quantized(model, data, data, recipe, verbose=0); "
        "assert keras.backend.backend() == 'jax'; "
        "assert found.int8_after >= found.int8_before or not found.kept; "
        "moved = [np.abs(a - b).max() for a, b in zip(model.get_weights(), before)]; "
        "assert found.int8_after == found.int8_before or max(moved) > 0; print(found)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ
        | {"KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2]))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "in int8" in done.stdout
