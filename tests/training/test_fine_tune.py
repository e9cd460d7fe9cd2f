import dataclasses

import keras
import numpy as np
import pytest
import zoo

from ktransfer.errors import RecipeError
from ktransfer.features.extract import extract_features
from ktransfer.image.backbones import Preprocessing
from ktransfer.image.classifier import build_classifier
from ktransfer.image.decoding import Resize
from ktransfer.models.blocks import sublayers
from ktransfer.models.locate import find_backbone
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.training.fine_tune import compile_classifier, fine_tune
from ktransfer.training.linear_probe import solve_head, standardise_features

tf = pytest.importorskip("tensorflow")

COLOURS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])
STAGES = (
    Stage(depth=0, epochs=2, learning_rate=3e-2),
    Stage(depth=2, epochs=1, learning_rate=1e-3),
)
RECIPE = Recipe(stages=STAGES, head="train", batch_size=8)


def colours(count, seed, one_hot=False):
    """Images of one solid, noisy colour each; the class is which of the three channels is brightest."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = COLOURS[labels][:, None, None] + rng.normal(0, 30, (count, 1, 1, 3))
    pixels = (pixels + rng.normal(0, 10, (count, 32, 32, 3))).clip(0, 255).astype("float32")
    targets = np.eye(3, dtype="float32")[labels] if one_hot else labels.astype("int32")
    return tf.data.Dataset.from_tensor_slices((pixels, targets)).batch(8)


def classifier(backbone=None):
    return build_classifier(
        zoo.vgg() if backbone is None else backbone, 3, Preprocessing(Resize(32, 32), 1 / 127.5, -1.0)
    )


def numpy(variables):
    return [keras.ops.convert_to_numpy(v) for v in variables]


def accuracy(model, data):
    images, labels = next(iter(data.unbatch().batch(1000)))
    logits = model.predict_on_batch(images)
    return float((logits.argmax(axis=1) == np.asarray(labels)).mean())


def test_a_separable_task_is_learnt_and_holds_on_unseen_examples():
    model = classifier()
    train = colours(48, 0)
    standardise_features(model, extract_features(model, train)[0])
    history = fine_tune(model, train, colours(24, 1), RECIPE, verbose=0)
    assert accuracy(model, colours(60, 2)) > 0.9
    assert history.epoch == [0, 1, 2]
    assert history.history["stage"] == [0, 0, 1]
    np.testing.assert_allclose(history.history["learning_rate"], [3e-2, 3e-2, 1e-3], rtol=1e-6)
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(history.history)


def test_the_callers_callbacks_are_called_beside():
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["stage"]))
    fine_tune(classifier(), colours(16, 0), None, RECIPE, callbacks=[callback], verbose=0)
    assert seen == [0, 0, 1]


def test_batchnorm_keeps_its_statistics_through_fine_tuning():
    backbone = zoo.resnet()
    model = classifier(backbone)
    layers = [layer for layer in sublayers(backbone) if isinstance(layer, keras.layers.BatchNormalization)]
    before = [numpy(layer.weights) for layer in layers]
    kernel = keras.ops.convert_to_numpy(backbone.weights[0])
    stages = [Stage(depth="all", epochs=1, learning_rate=1e-3)]
    fine_tune(model, colours(16, 0), None, dataclasses.replace(RECIPE, stages=stages), verbose=0)
    assert layers
    keras.tree.map_structure(
        np.testing.assert_array_equal, before, [numpy(layer.weights) for layer in layers]
    )
    assert not np.array_equal(kernel, keras.ops.convert_to_numpy(backbone.weights[0]))


def test_a_solved_head_stays_when_fine_tuning_is_worse():
    model = classifier()
    train, validation = colours(48, 0), colours(24, 1)
    solve_head(model, *extract_features(model, train))
    before = numpy(model.weights)
    assert accuracy(model, validation) == 1.0
    stages = [Stage(depth="all", epochs=2, learning_rate=1e4)]
    recipe = Recipe(stages=stages, head="solve", optimizer="sgd", batch_size=8)
    history = fine_tune(model, train, validation, recipe, on_trouble=lambda text: None, verbose=0)
    assert min(history.history["val_accuracy"]) < 1.0
    for now, then in zip(numpy(model.weights), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_label_smoothing_needs_shares_and_works_with_them():
    recipe = dataclasses.replace(RECIPE, label_smoothing=0.1, stages=STAGES[:1])
    with pytest.raises(RecipeError, match=r"labels as indices.*label_smoothing=0"):
        fine_tune(classifier(), colours(8, 0), None, recipe, verbose=0)
    history = fine_tune(classifier(), colours(8, 0, one_hot=True), None, recipe, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_the_loss_is_taken_of_logits_and_smoothed():
    model = classifier()
    model.get_layer("logits").set_weights([np.zeros((16, 3)), np.log([0.5, 0.25, 0.25])])
    images, labels = np.zeros((1, 32, 32, 3), "float32"), np.array([[1.0, 0, 0]], "float32")
    compile_classifier(model, dataclasses.replace(RECIPE, label_smoothing=0.3), one_hot=True)
    # The target becomes (0.8, 0.1, 0.1).
    expected = -0.8 * np.log(0.5) - 0.2 * np.log(0.25)
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["loss"] == pytest.approx(
        expected, rel=1e-5
    )


def loss_of(probabilities, label, **changes):
    """The compiled loss of one example, and of none but it, whose logits are these probabilities'."""
    model = classifier()
    model.get_layer("logits").set_weights([np.zeros((16, 3)), np.log(probabilities)])
    compile_classifier(model, dataclasses.replace(RECIPE, **changes), one_hot=True)
    images = np.zeros((1, 32, 32, 3), "float32")
    return model.evaluate(images, np.eye(3, dtype="float32")[[label]], verbose=0, return_dict=True)["loss"]


def test_focal_loss_is_cross_entropy_times_a_power_of_what_is_missing():
    # (1 - p)^2 * -log(p): 0.25 * 0.693147 and 0.5625 * 1.386294.
    assert loss_of([0.5, 0.25, 0.25], 0, loss="focal") == pytest.approx(0.1732868, rel=1e-5)
    assert loss_of([0.5, 0.25, 0.25], 1, loss="focal") == pytest.approx(0.7797906, rel=1e-5)
    # 0.75 * 1.386294
    assert loss_of([0.5, 0.25, 0.25], 1, loss="focal", focal_gamma=1.0) == pytest.approx(1.0397208, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_focal_loss_with_gamma_0_is_cross_entropy(smoothing):
    focal = loss_of([0.5, 0.3, 0.2], 1, loss="focal", focal_gamma=0.0, label_smoothing=smoothing)
    plain = loss_of([0.5, 0.3, 0.2], 1, label_smoothing=smoothing)
    assert focal == pytest.approx(plain, rel=1e-5)


def test_focal_loss_and_class_weights_both_count():
    model = classifier()
    model.get_layer("logits").set_weights([np.zeros((16, 3)), np.log([0.5, 0.25, 0.25])])
    stages = [Stage(depth=0, epochs=1, learning_rate=1e-9)]
    recipe = dataclasses.replace(RECIPE, loss="focal", stages=stages)
    train = colours(1, 0, one_hot=True)  # of class 0
    history = fine_tune(model, train, None, recipe, class_weight={0: 3.0, 1: 1.0, 2: 1.0}, verbose=0)
    assert history.history["loss"] == pytest.approx([3 * 0.1732868], rel=1e-4)


def test_focal_loss_needs_shares():
    with pytest.raises(RecipeError, match=r"labels as indices.*one_hot=True"):
        compile_classifier(classifier(), dataclasses.replace(RECIPE, loss="focal"))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_weight_decay_is_on_kernels_and_not_on_biases(optimizer):
    model = classifier()
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, weight_decay=0.5)
    compile_classifier(model, recipe)
    variables = model.trainable_variables
    before = numpy(variables)
    for variable in variables:
        variable.assign(keras.ops.ones_like(variable))
    model.optimizer.apply([keras.ops.zeros_like(v) for v in variables], variables)
    assert {len(v.shape) for v in variables} == {1, 2, 4}
    for variable, shape in zip(variables, before, strict=True):
        kept = 1.0 if shape.ndim == 1 else 1 - 3e-2 * 0.5
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(variable), kept, rtol=1e-6, err_msg=variable.path
        )


def test_biases_stay_free_of_weight_decay_once_the_backbone_is_thawed():
    model = classifier()
    conv = find_backbone(model).get_layer("block1_conv1")
    conv.set_weights([np.ones(w.shape) for w in conv.weights])
    # One step of lr * wd = 0.5 halves what decays; Adam moves the rest by lr = 1e-3.
    stages = [Stage(depth="all", epochs=1, learning_rate=1e-3, lowest_rate=1.0)]
    recipe = dataclasses.replace(RECIPE, stages=stages, weight_decay=500.0)
    fine_tune(model, colours(8, 0), None, recipe, verbose=0)
    kernel, bias = conv.get_weights()
    np.testing.assert_allclose(kernel, 0.5, atol=0.01)
    np.testing.assert_allclose(bias, 1.0, atol=0.01)


def test_the_backbone_is_the_one_model_inside():
    backbone = zoo.vgg()
    assert find_backbone(classifier(backbone)) is backbone


@pytest.mark.parametrize("count", [0, 2])
def test_no_backbone_or_two_are_refused_with_what_to_do(count):
    features = images = keras.Input((8, 8, 3))
    for _ in range(count):
        inner = keras.Input((8, 8, 3))
        features = keras.Model(inner, keras.layers.Conv2D(3, 1)(inner))(features)
    with pytest.raises(RecipeError, match=rf"got {count} in two. Pass backbone=model\.get_layer"):
        find_backbone(keras.Model(images, features, name="two"))


def test_a_recipe_without_stages_has_nothing_to_fine_tune():
    with pytest.raises(RecipeError, match="recipe with stages, got"):
        fine_tune(classifier(), colours(8, 0), None, Recipe(stages=(), head="solve"), verbose=0)
