import keras
import numpy as np
import pytest
import zoo

from ktransfer.errors import RecipeError
from ktransfer.image.classifier import build_classifier
from ktransfer.image.decoding import Resize
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.models.heads import Head, add_head


def test_the_layers_of_a_head_are_found_in_a_classifier():
    model = build_classifier(zoo.vgg(), 3, Preprocessing(Resize(32, 32), 1 / 255, 0.0))
    head = Head.of(model)
    assert head.pooling.name == "pooled"
    assert head.features.shape[-1] == head.weights[0].shape[0]
    assert head.weights[0].shape[1] == 3


def test_scaling_and_weights_are_those_that_were_set():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, add_head(inputs, 2, dropout=0.5, seed=0))
    head = Head.of(model)
    head.set_scaling(np.full(4, 2.0, "float32"), np.full(4, 4.0, "float32"))
    head.set_weights(np.ones((4, 2)), np.array([0.0, 1.0]))
    np.testing.assert_allclose(head.scaling, [[2.0] * 4, [4.0] * 4])
    # (4 - 2) / 2 for each of four features.
    assert model.predict(np.full((1, 4), 4.0), verbose=0).tolist() == [[4.0, 5.0]]
    assert head.pooling is None
    assert Head.of(model).features.shape == (None, 4)


def test_a_model_without_a_head_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(RecipeError, match="without feature_norm"):
        Head.of(model)
