import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from ktransfer.evaluation.explanations import (
    PATCHES,
    PIECES,
    choose_examples,
    class_maps,
    has_exact_map,
    log_odds,
    word_effects,
)
from ktransfer.image.classifier import build_classifier
from ktransfer.image.decoding import Resize
from ktransfer.image.preprocessing import Preprocessing

SIZE = 32  # pixels
PREPROCESSING = Preprocessing(Resize(SIZE, SIZE), 1 / 255, 0.0)


def classifier(*layers):
    """On a backbone of these layers, its features standardised by uneven statistics."""
    inputs = keras.Input((SIZE, SIZE, 3))
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    model = build_classifier(keras.Model(inputs, outputs), 3, PREPROCESSING)
    norm = model.get_layer("feature_norm")
    random = np.random.default_rng(0)
    norm.moving_mean.assign(random.normal(size=norm.moving_mean.shape))
    norm.moving_variance.assign(random.uniform(0.5, 2, norm.moving_variance.shape))
    model.get_layer("logits").bias.assign([0.5, -0.5, 0.1])
    return model


def convolutional():
    return classifier(keras.layers.Conv2D(8, 8, strides=8, activation="relu"))


def images(count=3):
    return np.random.default_rng(1).uniform(0, 255, (count, SIZE, SIZE, 3)).astype("float32")


def test_the_places_of_a_map_average_to_the_logit_without_its_bias():
    model, pixels = convolutional(), images()
    maps = class_maps(model, pixels, [[0, 1, 2]] * 3)
    logits = model.predict_on_batch(pixels)
    bias = model.get_layer("logits").bias.numpy()
    assert maps[0].shape == (3, 4, 4)
    np.testing.assert_allclose([each.mean(axis=(1, 2)) for each in maps], logits - bias, atol=1e-4)


def test_a_map_is_grad_cam_up_to_a_constant():
    """By the definition of Selvaraju et al. 2017, equations 1 and 2 before the ReLU, and real gradients."""
    model, pixels = convolutional(), images(1)
    features = keras.Model(model.input, model.get_layer("pooled").input)(pixels)
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = model.get_layer("pooled")(features)
        logit = model.get_layer("logits")(model.get_layer("feature_norm")(outputs, training=False))[:, 1]
    weights = tape.gradient(logit, features).numpy().mean(axis=(1, 2)) * 16
    grad_cam = (features.numpy() * weights[:, None, None]).sum(axis=-1)[0]
    difference = class_maps(model, pixels, [[1]])[0][0] - grad_cam
    assert np.ptp(grad_cam) > 0.1
    np.testing.assert_allclose(difference, difference.mean(), atol=1e-4)


def test_averaged_tokens_have_a_map_as_well():
    model = classifier(keras.layers.Conv2D(8, 8, strides=8), keras.layers.Reshape((16, 8)))
    assert has_exact_map(model)
    maps = class_maps(model, images(), [[2]] * 3)
    expected = model.predict_on_batch(images())[:, 2] - 0.1
    assert maps[0].shape == (1, 4, 4)
    np.testing.assert_allclose([each.mean() for each in maps], expected, atol=1e-4)


def test_features_without_places_are_explained_by_covering_patches():
    corner = SIZE - SIZE // PATCHES
    model = classifier(keras.layers.Cropping2D(((0, corner), (0, corner))), keras.layers.Flatten())
    logits = model.get_layer("logits")
    logits.kernel.assign(np.tile([1.0, 0.0, 0.0], (logits.kernel.shape[0], 1)))
    pixels = np.zeros((1, SIZE, SIZE, 3), "float32")
    pixels[0, :5, :5] = 255  # only these does the model read
    assert not has_exact_map(model)
    (found,) = class_maps(model, pixels, [[0, 1]])
    assert found.shape == (2, PATCHES, PATCHES)
    assert found[0, 0, 0] > 1
    assert found[1, 0, 0] < -1
    assert np.abs(found[:, 1:]).max() < 1e-4


def test_a_class_token_is_no_average_of_places():
    tokens = [keras.layers.Conv2D(8, 8, strides=8), keras.layers.Reshape((16, 8))]
    assert not has_exact_map(classifier(*tokens, keras.layers.ZeroPadding1D((1, 0))))


def spam(texts):
    """Odds of the second class: 2, by "free" 8 times as much, by "mum" a quarter."""
    odds = np.array([2 * 8.0 ** t.count("free") * 0.25 ** t.count("mum") for t in texts])
    return np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)


def test_a_word_has_the_effect_that_leaving_it_out_takes_away():
    (found,) = word_effects(spam, ["free tea, mum"], [1])
    assert [piece for piece, _ in found] == ["free ", "tea, ", "mum"]
    assert [effect for _, effect in found] == pytest.approx([math.log(8), 0, -math.log(4)])


def test_effects_are_those_on_the_class_that_is_asked_for():
    found = word_effects(spam, ["free tea for all", "mum"], [0, 0])
    assert found[0][0] == ("free ", pytest.approx(-math.log(8)))
    assert found[1] == [("mum", pytest.approx(math.log(4)))]


@pytest.mark.parametrize(
    "text",
    [
        "one two three\n four  ",
        "word " * 500,
        "無料でお茶をどうぞ、今すぐ電話してください。お早めに",
        " a",
        "ab c",
    ],
)
def test_pieces_are_few_and_joined_are_the_text(text):
    (found,) = word_effects(spam, [text], [0])
    assert "".join(piece for piece, _ in found) == text
    assert 1 <= len(found) <= PIECES


def test_a_text_without_spaces_is_taken_apart_by_characters():
    (found,) = word_effects(spam, ["無料でお茶をどうぞ、今すぐ電話してください。お早めに"], [0])
    assert len(found) > 10


def test_log_odds_hold_where_a_probability_is_all_but_one():
    probabilities = np.array([[1.0, 1e-12], [0.25, 0.75]], "float32")
    assert log_odds(probabilities, [0, 1]) == pytest.approx([math.log(1e12), math.log(3)])


def test_the_surest_mistakes_and_the_surest_right_answer_of_each_class_are_chosen():
    sure = [0.6, 0.9, 0.7, 0.8, 0.99, 0.95]
    answers, labels = [0, 1, 1, 0, 1, 1], np.array([0, 0, 0, 0, 1, 1])
    probabilities = np.array(
        [[p, 1 - p] if a == 0 else [1 - p, p] for p, a in zip(sure, answers, strict=True)]
    )
    assert choose_examples(probabilities, labels, 3) == ([1, 2], [4, 3, 5])
