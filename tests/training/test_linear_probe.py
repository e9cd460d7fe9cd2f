import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from ktransfer.errors import DataError
from ktransfer.features.extract import extract_features
from ktransfer.image.backbones import Preprocessing
from ktransfer.image.classifier import build_classifier
from ktransfer.image.decoding import Resize
from ktransfer.training import linear_probe as head
from ktransfer.training.linear_probe import class_weights, head_score, solve_head, standardise_features


def classifier(features, classes):
    """The smallest classifier with so many pooled features."""
    images = keras.Input((4, 4, 3))
    backbone = keras.Model(images, keras.layers.Conv2D(features, 1)(images))
    return build_classifier(backbone, classes, Preprocessing(Resize(4, 4), 1 / 255, 0.0))


def task(examples, features, classes, noise=2.0):
    """Features whose scales differ, labels that they tell with some errors."""
    rng = np.random.default_rng(0)
    labels = np.arange(examples) % classes
    centres = rng.normal(size=(classes, features))
    inputs = centres[labels] + noise * rng.normal(size=(examples, features))
    return (inputs * rng.uniform(1, 3, features) + 10).astype("float32"), labels


def predict(model, features):
    normed = model.get_layer("feature_norm")(features, training=False)
    return keras.ops.convert_to_numpy(keras.ops.softmax(model.get_layer("logits")(normed)))


def standardised(features):
    features = features.astype("float64")
    return (features - features.mean(axis=0)) / features.std(axis=0)


def reference(features, labels, strength, **options):
    solver = LogisticRegression(C=1 / (strength * len(labels)), tol=1e-6, max_iter=5_000, **options)
    return solver.fit(features, labels)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize(("examples", "features"), [(200, 12), (30, 80)])
def test_the_head_is_the_logistic_regression_that_scikit_learn_finds(examples, features, classes):
    """Also with fewer examples than features, where it is solved in the span of the examples."""
    # Hard to tell apart: probabilities near 0 and 1 would hide a wrong head.
    inputs, labels = task(examples, features, classes, noise=8.0)
    model = classifier(features, classes)
    found = solve_head(model, inputs, labels)
    # Of two classes scikit-learn penalises the one difference, which is half of both kernels' squares.
    strength = found["l2"] / 2 if classes == 2 else found["l2"]
    expected = reference(standardised(inputs), labels, strength).predict_log_proba(standardised(inputs))
    np.testing.assert_allclose(np.log(predict(model, inputs)), expected, atol=0.01)


def test_class_weights_count_as_scikit_learn_counts_them():
    inputs, labels = task(200, 12, 3, noise=8.0)
    keep = np.flatnonzero((labels > 0) | (np.arange(200) < 60))
    inputs, labels = inputs[keep], labels[keep]
    for choice in ("balanced", {0: 3.0, 2: 0.5}):
        model = classifier(12, 3)
        found = solve_head(model, inputs, labels, class_weight=choice)
        expected = reference(standardised(inputs), labels, found["l2"], class_weight=choice)
        np.testing.assert_allclose(
            np.log(predict(model, inputs)), expected.predict_log_proba(standardised(inputs)), atol=0.01
        )


def test_balanced_classes_weigh_the_same():
    np.testing.assert_allclose(class_weights(np.array([0, 0, 0, 1]), 2, "balanced"), [4 / 6, 4 / 2])
    np.testing.assert_allclose(class_weights(np.array([0, 1]), 3, {1: 2.0}), [1, 2, 1])


def test_the_heads_accuracy_is_that_of_the_models_answers():
    inputs, labels = task(90, 6, 3, noise=8.0)
    model = classifier(6, 3)
    solve_head(model, inputs, labels)
    expected = (predict(model, inputs).argmax(axis=1) == labels).mean()
    assert 0.3 < expected < 1
    assert head_score(model, inputs, labels) == pytest.approx(expected)


def test_label_smoothing_gives_the_minimum_of_the_smoothed_loss():
    inputs, labels = task(90, 6, 3, noise=4.0)
    model = classifier(6, 3)
    found = solve_head(model, inputs, labels, label_smoothing=0.2)
    # At the minimum each bias' gradient is nought: the mean answer is the mean smoothed target.
    np.testing.assert_allclose(predict(model, inputs).mean(axis=0), [1 / 3] * 3, atol=1e-4)
    targets = np.eye(3)[labels] * 0.8 + 0.2 / 3
    features = standardised(inputs)
    kernel = keras.ops.convert_to_numpy(model.get_layer("logits").kernel)
    gradient = features.T @ (predict(model, inputs) - targets) / len(labels) + found["l2"] * kernel
    np.testing.assert_allclose(gradient, 0, atol=1e-4)


def test_the_solved_head_generalises_to_new_examples_as_the_reference_does():
    inputs, labels = task(60, 100, 3, noise=8.0)
    unseen = inputs + np.random.default_rng(1).normal(size=inputs.shape).astype("float32")
    model = classifier(100, 3)
    found = solve_head(model, inputs, labels)
    solver = reference(standardised(inputs), labels, found["l2"])
    expected = solver.predict_log_proba((unseen - inputs.mean(axis=0)) / inputs.std(axis=0))
    np.testing.assert_allclose(np.log(predict(model, unseen)), expected, atol=0.01)


@pytest.mark.parametrize("factor", [0.0145, 14.0])
@pytest.mark.parametrize("features", [8, 60])
def test_the_scale_of_the_features_does_not_matter(factor, features):
    inputs, labels = task(45, features, 3)
    model = classifier(features, 3)
    plain = solve_head(model, inputs, labels)
    expected = predict(model, inputs)
    scaled = solve_head(model, inputs * factor, labels)
    assert scaled["l2"] == plain["l2"]
    np.testing.assert_allclose(predict(model, inputs * factor), expected, atol=2e-3)


@pytest.mark.parametrize("noise", [2.0, 5.0])
def test_the_strength_is_the_one_with_the_lowest_cross_validated_loss(noise):
    inputs, labels = task(150, 12, 3, noise)
    found = solve_head(classifier(12, 3), inputs, labels, seed=4)
    features = standardised(inputs)
    losses = {}
    for strength in np.logspace(-4, 0, 9):
        folds = StratifiedKFold(5, shuffle=True, random_state=4).split(features, labels)
        losses[float(strength)] = np.mean(
            [
                log_loss(
                    labels[held],
                    reference(features[rest], labels[rest], strength).predict_proba(features[held]),
                )
                for rest, held in folds
            ]
        )
    best = min(losses, key=losses.get)
    assert 1e-4 < best < 1
    assert found["l2"] == pytest.approx(best)
    assert found["log_loss"] == pytest.approx(losses[best], rel=1e-3)
    assert found["folds"] == 5


def test_the_smallest_class_limits_the_folds():
    inputs, labels = task(40, 6, 2)
    keep = np.sort(np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:3]]))
    assert solve_head(classifier(6, 2), inputs[keep], labels[keep])["folds"] == 3


def test_a_large_task_is_searched_on_a_part_and_solved_on_all_of_it(monkeypatch):
    monkeypatch.setattr(head, "_SEARCH_EXAMPLES", 60)
    inputs, labels = task(300, 8, 3)
    model = classifier(8, 3)
    found = solve_head(model, inputs, labels)
    expected = reference(standardised(inputs), labels, found["l2"]).predict_proba(standardised(inputs))
    np.testing.assert_allclose(predict(model, inputs), expected, atol=2e-3)
    monkeypatch.setattr(head, "_SEARCH_EXAMPLES", 5_000)
    assert solve_head(model, inputs, labels)["log_loss"] != found["log_loss"]


def test_the_same_seed_solves_the_same_head():
    inputs, labels = task(30, 50, 3)
    models = [classifier(50, 3) for _ in range(2)]
    assert solve_head(models[0], inputs, labels) == solve_head(models[1], inputs, labels)
    for ours, theirs in zip(*(m.get_layer("logits").get_weights() for m in models), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_variance_counts_for_less_than_a_hundredth_of_the_mean_one():
    model = classifier(3, 2)
    standardise_features(model, np.array([[1, 5, 0], [5, 5, 2]], "float32"))
    mean, variance = model.get_layer("feature_norm").get_weights()
    np.testing.assert_allclose(mean, [3, 5, 1])
    np.testing.assert_allclose(variance, [4, 0.01 * (4 + 0 + 1) / 3, 1], rtol=1e-6)


def test_a_feature_that_hardly_moved_in_training_does_not_decide_when_it_moves():
    inputs, labels = task(90, 6, 3, noise=1.0)
    inputs[:, 0] = 5 + 1e-4 * labels  # tells the class, within rounding
    model = classifier(6, 3)
    solve_head(model, inputs, labels)
    moved = inputs.copy()
    moved[:, 0] += 0.5
    np.testing.assert_allclose(predict(model, moved), predict(model, inputs), atol=0.05)


def test_features_that_are_all_constant_stay_finite():
    model = classifier(4, 2)
    solve_head(model, np.full((10, 4), 3, "float32"), np.arange(10) % 2)
    np.testing.assert_allclose(predict(model, np.full((1, 4), 3, "float32")), [[0.5, 0.5]], atol=1e-3)


def test_a_class_without_examples_is_refused_with_the_counts():
    inputs, labels = task(20, 6, 2)
    with pytest.raises(DataError, match=r"an example of every class, got \[10, 10, 0\]"):
        solve_head(classifier(6, 3), inputs, labels)


def test_one_example_of_each_class_is_enough():
    model = classifier(6, 3)
    inputs = np.eye(3, 6, dtype="float32")
    assert solve_head(model, inputs, np.arange(3)) == {"l2": 1e-2, "log_loss": None, "folds": 0}
    np.testing.assert_array_equal(predict(model, inputs).argmax(axis=1), [0, 1, 2])


@pytest.mark.parametrize("one_hot", [False, True])
def test_features_come_in_the_order_of_the_data_with_their_labels(one_hot):
    tf = pytest.importorskip("tensorflow")
    model = classifier(5, 3)
    images = np.random.default_rng(0).uniform(0, 255, (7, 4, 4, 3)).astype("float32")
    labels = np.array([0, 1, 2, 2, 1, 0, 1])
    targets = np.eye(3, dtype="float32")[labels] if one_hot else labels
    features, found = extract_features(model, tf.data.Dataset.from_tensor_slices((images, targets)).batch(3))
    np.testing.assert_array_equal(found, labels)
    kernel, bias = (keras.ops.convert_to_numpy(w) for w in model.layers[2].weights)
    expected = (images / 255).mean(axis=(1, 2)) @ kernel[0, 0] + bias
    np.testing.assert_allclose(features, expected, atol=1e-5)
