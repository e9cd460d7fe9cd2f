"""Labels with a teacher's answers: loss, gradient, metric and labels, by values worked out by hand."""

import keras
import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import expit, log_softmax, softmax

from ktransfer.core.task import get_task
from ktransfer.data.examples import Examples
from ktransfer.errors import RecipeError
from ktransfer.recipes.recipe import Recipe
from ktransfer.training.soft_targets import (
    SoftTargets,
    hard_labels,
    with_soft_targets,
    without_labels,
)

PLAIN = Recipe(stages=())
TASKS = ("single_label", "multi_label", "ordinal", "regression")
RANDOM = np.random.default_rng(0)


def regression(labels):
    return get_task("regression").fit(labels)


def case(name, weight=0.3, temperature=2.0, count=6):
    """`(task, packed labels with two that have none, logits, true labels, teacher's logits)`."""
    outputs = 1 if name == "regression" else 3
    teacher = RANDOM.normal(size=(count, outputs)) * 3
    if name in ("single_label", "ordinal"):
        labels = np.arange(count) % 3
    elif name == "multi_label":
        labels = RANDOM.integers(0, 2, (count, 3))
    else:
        labels = RANDOM.normal(5, 2, count)
    base = regression(labels) if name == "regression" else get_task(name)
    task = SoftTargets(base, temperature=temperature, weight=weight)
    soft = task.soft([base.probabilities(teacher)], [teacher])
    known = task.packed(labels[:-2], soft[:-2], classes=outputs)
    packed = np.concatenate([known, task.packed(None, soft[-2:], classes=outputs)])
    return task, packed, RANDOM.normal(size=(count, outputs)), labels, teacher


def by_hand(name, task, logits, labels, teacher, temperature, weight):
    """The loss of each example, written out."""
    if name == "single_label":
        hard = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
        target = softmax(teacher / temperature, axis=1)
        soft = -(target * log_softmax(logits / temperature, axis=1)).sum(axis=1) * temperature**2
    elif name == "ordinal":
        shares = softmax(-3.0 * np.abs(np.arange(3) - labels[:, None]), axis=1)
        hard = -(shares * log_softmax(logits, axis=1)).sum(axis=1)
        target = softmax(teacher / temperature, axis=1)
        soft = -(target * log_softmax(logits / temperature, axis=1)).sum(axis=1) * temperature**2
    elif name == "multi_label":
        hard = (np.logaddexp(0, logits) - labels * logits).mean(axis=1)
        scaled, target = logits / temperature, expit(teacher / temperature)
        soft = (np.logaddexp(0, scaled) - target * scaled).mean(axis=1) * temperature**2
    else:
        hard = (task.scale.standardized(labels) - logits[:, 0]) ** 2
        soft = (teacher[:, 0] - logits[:, 0]) ** 2
    mixed = (1 - weight) * hard + weight * soft
    mixed[-2:] = soft[-2:]  # without a label
    return mixed


@pytest.mark.parametrize("name", TASKS)
def test_the_loss_is_the_mix_written_out(name):
    task, packed, logits, labels, teacher = case(name)
    recipe = Recipe(stages=(), loss="squared_error") if name == "regression" else PLAIN
    found = task.loss(recipe).call(
        keras.ops.convert_to_tensor(packed), keras.ops.convert_to_tensor(logits.astype("float32"))
    )
    expected = by_hand(name, task, logits, labels, teacher, 2.0, 0.3)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, rtol=2e-5)


@pytest.mark.parametrize("name", TASKS)
def test_likelihoods_have_the_gradient_they_say(name):
    task, packed, logits, _, _ = case(name)

    def value(flat):
        return task.likelihoods(flat.reshape(logits.shape), packed)[0].sum()

    def gradient(flat):
        return task.likelihoods(flat.reshape(logits.shape), packed)[1].ravel()

    assert check_grad(value, gradient, logits.ravel()) < 1e-5


@pytest.mark.parametrize("name", TASKS)
def test_weights_of_examples_count_in_the_loss(name):
    task, packed, logits, _, _ = case(name)
    loss = task.loss(PLAIN if name != "regression" else Recipe(stages=(), loss="squared_error"))
    given = keras.ops.convert_to_tensor(packed), keras.ops.convert_to_tensor(logits.astype("float32"))
    weights = np.arange(len(packed), dtype="float32")
    each = keras.ops.convert_to_numpy(loss.call(*given))
    found = float(loss(*given, sample_weight=keras.ops.convert_to_tensor(weights)))
    assert found == pytest.approx(float((each * weights).sum() / len(packed)), rel=1e-5)


def test_likelihoods_and_the_loss_agree_on_single_labels():
    task, packed, logits, labels, teacher = case("single_label")
    expected = by_hand("single_label", task, logits, labels, teacher, 2.0, 0.3)
    np.testing.assert_allclose(task.likelihoods(logits, packed)[0].sum(axis=1), expected, rtol=1e-6)


def test_the_mixed_target_of_numbers_has_the_minimum_of_the_mix():
    task, packed, _, labels, teacher = case("regression", weight=0.25)
    target = task.smoothed(packed, 0.0)
    standardized = task.scale.standardized(labels)
    np.testing.assert_allclose(target[:-2, 0], 0.75 * standardized[:-2] + 0.25 * teacher[:-2, 0], rtol=1e-5)
    np.testing.assert_allclose(target[-2:], teacher[-2:], rtol=1e-5)


def test_class_weights_count_in_the_loss_by_the_label_or_the_teacher():
    task, packed, logits, _, _ = case("single_label")
    weights = {0: 1.0, 1: 10.0, 2: 100.0}
    given = keras.ops.convert_to_tensor(packed), keras.ops.convert_to_tensor(logits.astype("float32"))
    plain, weighted = (
        keras.ops.convert_to_numpy(task.loss(PLAIN, class_weight=each).call(*given))
        for each in (None, weights)
    )
    of_label = packed[:-2, :3] @ [1, 10, 100]
    of_teacher = packed[-2:, 3:6] @ [1, 10, 100]
    np.testing.assert_allclose(weighted / plain, [*of_label, *of_teacher], rtol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_labels_and_metric_are_the_true_ones_or_the_teachers_decision(name):
    task, packed, logits, labels, teacher = case(name)
    base = regression(labels) if name == "regression" else get_task(name)
    decided = base.decide(base.probabilities(teacher[-2:]))
    expected = np.concatenate([labels[:-2], decided])
    np.testing.assert_allclose(task.hard(packed), expected, rtol=1e-5)
    metric, plain = task.metric(), base.metric()
    metric.update_state(packed, logits.astype("float32"))
    plain.update_state(base.targets(expected, logits.shape[1]), logits.astype("float32"))
    assert float(metric.result()) == pytest.approx(float(plain.result()), rel=1e-5)
    metric.reset_state()
    metric.update_state(packed[:1], logits[:1].astype("float32"))
    plain.reset_state()
    plain.update_state(base.targets(expected[:1], logits.shape[1]), logits[:1].astype("float32"))
    np.testing.assert_allclose(float(metric.result()), float(plain.result()), rtol=1e-5)


def test_several_teachers_are_averaged_as_probabilities_at_the_temperature():
    task = SoftTargets(get_task("single_label"), temperature=4.0)
    one, two = np.array([[4.0, 0.0]]), np.array([[0.0, 8.0]])
    found = task.soft([np.zeros((1, 2))] * 2, [one, two])
    np.testing.assert_allclose(found, (softmax(one / 4, axis=1) + softmax(two / 4, axis=1)) / 2)


def test_examples_with_and_without_labels_can_be_joined_and_split():
    plain = Examples(("a", "b"), np.array([0, 1]), ("x", "y"), kind="text")
    task = SoftTargets(plain.task)
    train = with_soft_targets(plain, task, np.array([[0.9, 0.1], [0.4, 0.6]]))
    whole = train.joined(without_labels(train, ("c",), task, np.array([[0.2, 0.8]])))
    assert whole.counts() == {"x": 1, "y": 2}
    assert hard_labels(whole).tolist() == [0, 1, 1]
    assert hard_labels(whole.subset([2])).tolist() == [1]
    assert hard_labels(plain).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "named"),
    [({"temperature": 0}, "temperature"), ({"weight": 1.5}, "weight"), ({"weight": -1}, "weight")],
)
def test_numbers_out_of_range_are_refused(options, named):
    with pytest.raises(RecipeError, match=named):
        SoftTargets(get_task("single_label"), **options)


def test_a_task_that_answers_words_is_refused():
    with pytest.raises(RecipeError, match="one answer for an example"):
        SoftTargets(get_task("ner"))
