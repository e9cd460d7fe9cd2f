"""Regression: its scale, ridge, intervals and measures, by values worked out by hand."""

import dataclasses
import json

import numpy as np
import pytest

from ktransfer.core.task import get_task
from ktransfer.errors import DataError, RecipeError, RunError
from ktransfer.recipes.recipe import Recipe
from ktransfer.tasks.regression import (
    TASK,
    Interval,
    Regression,
    TargetScale,
    conformal_width,
)
from ktransfer.training.linear_probe import out_of_fold_logits

DECISION = {"interval": {"coverage": 0.9, "width": 2.0, "transform": None}}


def test_logits_of_a_fitted_task_have_mean_0_and_deviation_1():
    labels = np.array([10.0, 20.0, 30.0])
    task = TASK.fit(labels)
    assert task.scale == TargetScale(20.0, pytest.approx(8.16496580927726), None)
    np.testing.assert_allclose(task.targets(labels, 1)[:, 0], [-1.2247449, 0, 1.2247449], rtol=1e-6)
    np.testing.assert_allclose(task.probabilities(task.targets(labels, 1))[:, 0], labels, rtol=1e-6)
    np.testing.assert_allclose(task.labels_of(task.targets(labels, 1)), labels, rtol=1e-6)
    assert task.labels_of(labels).tolist() == labels.tolist()


def test_a_logarithm_is_undone_in_answers():
    labels = np.array([1.0, np.e**2])
    task = TASK.fit(labels, transform="log")
    assert task.scale == TargetScale(1.0, 1.0, "log")
    assert task.targets(labels, 1).tolist() == [[-1.0], [1.0]]
    np.testing.assert_allclose(task.probabilities(np.array([[0.0]])), [[np.e]])


def test_the_graph_answers_as_numpy_does():
    logits = np.array([[-1.5], [0.0], [2.0]], "float32")
    for scale in (TargetScale(1e5, 2e5), TargetScale(12.0, 0.7, "log")):
        task = Regression(scale)
        np.testing.assert_allclose(np.asarray(task.in_graph(logits)), task.probabilities(logits), rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "transform", "message"),
    [
        ([3.0, 3.0, 3.0], None, "Expected targets that differ, got 3 3 times"),
        ([7.0], None, "Expected targets that differ"),
        ([1.0, 0.0, -2.0], "log", "Expected targets above 0 for their logarithm, got -2 and 2 of 3"),
        ([1.0, 2.0], "sqrt", "Expected the target transform 'log' or none"),
    ],
)
def test_targets_that_teach_nothing_are_refused(labels, transform, message):
    with pytest.raises(DataError, match=message):
        TASK.fit(np.array(labels), transform=transform)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([1.0, float("nan")], 1, "Expected finite numbers, got nan for example 1"),
        ([float("inf"), 1.0], 1, "Expected finite numbers, got inf for example 0"),
        (["a", "b"], 1, "Expected a number for each example"),
        ([1.0], 1, "Expected 2 numbers, one an example"),
        ([1.0, 2.0], 2, "Expected the name of one target for regression, got 2"),
    ],
)
def test_labels_that_are_no_numbers_are_refused(labels, classes, message):
    with pytest.raises(DataError, match=message):
        TASK.check_labels(labels, examples=2, classes=classes)


def test_a_transform_is_refused_for_classes():
    for name in ("single_label", "multi_label", "ner"):
        with pytest.raises(DataError, match='Expected task="regression" with target_transform'):
            get_task(name).fit(np.array([0, 1]), transform="log")


def test_a_scale_goes_through_json_and_damage_is_refused():
    task = TASK.fit(np.array([1.0, 2.0, 9.0]), transform="log")
    assert TASK.with_facts(json.loads(json.dumps(task.facts()))) == task
    assert TASK.with_facts(None) == TASK
    for facts in (
        {"mean": float("nan")},
        {"deviation": 0},
        {"transform": "exec"},
        {"mean": "1"},
        {"other": 1},
    ):
        with pytest.raises(RunError, match="Expected mean, deviation and transform of the target"):
            TASK.with_facts(facts)


def test_a_skewed_positive_target_is_pointed_out_once():
    skewed = np.exp(np.random.default_rng(0).normal(12, 1, 500))
    [line] = TASK.fit(skewed).hints(skewed)
    assert "--target-transform log" in line
    assert TASK.fit(skewed, transform="log").hints(skewed) == []
    assert TASK.fit(-skewed).hints(-skewed) == []
    normal = np.random.default_rng(0).normal(50, 5, 500)
    assert TASK.fit(normal).hints(normal) == []


def test_a_target_that_hardly_varies_is_pointed_out():
    times = 1.7e9 + np.arange(50.0)
    assert any("seven digits" in line for line in TASK.fit(times).hints(times))


def test_every_range_of_the_target_is_held_out():
    labels = np.arange(100.0)[np.random.default_rng(3).permutation(100)]
    held, lacking = TASK.hold_out(labels, [[i] for i in range(100)], 0.2, seed=0)
    assert lacking is None
    # One of each five neighbors.
    assert sorted((labels[held] // 5).astype(int).tolist()) == list(range(20))
    assert held == TASK.hold_out(labels, [[i] for i in range(100)], 0.2, seed=0)[0]
    assert TASK.hold_out(labels[:1], [[0]], 0.2, seed=0) == ([], 0)


def test_folds_are_stratified_and_a_partition():
    labels = np.random.default_rng(0).normal(size=53)
    folds = TASK.folds(labels, seed=1)
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(53))
    ranks = labels.argsort().argsort()
    for rest, held in folds:
        assert set(rest) & set(held) == set()
        assert len(np.unique(ranks[held] // 5)) == len(held)
    assert TASK.folds(labels[:3], seed=0) is None


def test_ridge_is_what_scikit_learn_solves():
    from sklearn.linear_model import Ridge

    random = np.random.default_rng(0)
    features = random.normal(size=(60, 5)).astype("float32")
    labels = 3 + features @ np.array([1.0, -2, 0, 0.5, 0]) + random.normal(size=60)
    task = TASK.fit(labels)
    _, fitted = out_of_fold_logits(features, labels, task=task, classes=1)
    inputs = (features - features.mean(0)) / features.std(0)
    targets = task.targets(labels, 1)[:, 0]
    # The strength is for each example, and some strength of the grid gives these very answers.
    differences = [
        np.abs(Ridge(alpha=60 * strength).fit(inputs, targets).predict(inputs) - fitted[:, 0]).max()
        for strength in np.logspace(-4, 4, 33)
    ]
    assert min(differences) < 1e-4


def test_ridge_with_more_features_than_examples_finds_the_signal():
    random = np.random.default_rng(0)
    features = random.normal(size=(80, 300)).astype("float32")
    features[:, 0] *= 30
    labels = features[:, 0] + random.normal(size=80)
    held_out, _ = out_of_fold_logits(features, labels, task=TASK.fit(labels), classes=1)
    assert np.corrcoef(held_out[:, 0], labels)[0, 1] > 0.3
    noise = random.normal(size=80)
    held_out, _ = out_of_fold_logits(features, noise, task=TASK.fit(noise), classes=1)
    assert np.abs(held_out).max() < 1  # strong regularization: about the mean


def test_likelihoods_are_half_squared_errors():
    losses, slopes = TASK.likelihoods(np.array([[1.0], [3.0]]), np.array([[0.0], [5.0]]))
    assert losses.tolist() == [[0.5], [2.0]]
    assert slopes.tolist() == [[1.0], [-2.0]]


def test_conformal_width_by_hand():
    assert conformal_width(np.arange(1.0, 10.0), 0.9) == 9.0  # (9 + 1) * 0.9 is the 9th of 9
    assert conformal_width(np.arange(1.0, 9.0), 0.9) is None
    assert conformal_width(np.arange(1.0, 100.0), 0.9) == 90.0
    assert conformal_width(np.arange(1.0, 20.0)[::-1], 0.5) == 10.0


def test_intervals_hold_the_promised_share_of_new_examples():
    random = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        width = conformal_width(np.abs(random.standard_t(3, 99)), 0.9)
        shares.append((np.abs(random.standard_t(3, 500)) <= width).mean())
    assert np.mean(shares) == pytest.approx(0.9, abs=0.01)


def test_intervals_of_logarithms_are_factors():
    low, high = Interval(0.9, np.log(2), "log").around(np.array([100.0]))
    np.testing.assert_allclose([low[0], high[0]], [50, 200])
    assert Interval.of({"interval": None}) is None
    assert Interval.of(None) is None


def test_measures_by_hand():
    truth, answers = np.array([1.0, 2.0, 3.0, 6.0]), np.array([[1.0], [3.0], [2.0], [8.0]])
    found = TASK.evaluate(answers, truth, ["price"], fitted={"decision": {"interval": None}})
    assert found.mae.value == 1.0
    assert found.rmse.value == pytest.approx(np.sqrt(6 / 4))
    assert found.r2.value == pytest.approx(1 - 6 / 14)
    assert found.spearman.value == pytest.approx(0.8)
    assert found.log_error.value == pytest.approx((np.log(1.5) * 2 + np.log(8 / 6)) / 4)
    assert found.baseline == pytest.approx((1.5 + 0.5 + 0.5 + 3.5) / 4)
    assert found.interval is None
    assert found.coverage is None
    low, high = found.mae.interval
    assert 0 <= low <= 1.0 <= high <= 2.0
    json.dumps(found.to_dict())


def test_the_interval_of_an_evaluation_is_cross_fitted_or_that_of_the_run():
    random = np.random.default_rng(0)
    truth = random.normal(100, 10, 300)
    answers = (truth + random.normal(0, 2, 300))[:, None]
    own = TASK.evaluate(answers, truth, ["price"])
    assert own.cross_fitted
    assert own.coverage == pytest.approx(0.9, abs=0.03)
    assert own.interval.width == pytest.approx(2 * 1.645, rel=0.2)
    given = TASK.evaluate(answers, truth, ["price"], fitted=own.fitted)
    assert not given.cross_fitted
    assert given.mean_width == pytest.approx(2 * own.interval.width)
    assert "90% prediction intervals hold the truth of" in given.line()
    few = TASK.evaluate(answers[:8], truth[:8], ["price"])
    assert few.interval is None
    assert few.fitted["decision"] == {"interval": None}
    some = TASK.evaluate(answers[:10], truth[:10], ["price"])
    assert some.interval.width > 0
    assert some.coverage is None  # four fifths of ten are too few
    assert "too few examples to measure the coverage" in some.line()


def test_answers_that_are_all_the_same_have_measures():
    found = TASK.evaluate(np.full((20, 1), 5.0), np.arange(20.0), ["price"])
    assert found.spearman.value == 0
    assert found.log_error is None  # a truth is 0
    assert np.isfinite(found.r2.value)


def test_answers_have_the_interval_where_there_is_one():
    [answer] = TASK.answers(np.array([10.0]), ["price"], DECISION, top_k=5)
    assert answer == {"label": "price", "value": 10.0, "interval": [8.0, 12.0], "coverage": 0.9}
    assert TASK.answer_line([answer]) == "price 10 (90% interval 8 to 12)"
    [answer] = TASK.answers(np.array([10.0]), ["price"], None, top_k=5)
    assert answer == {"label": "price", "value": 10.0}


def test_agreement_and_hits_are_in_deviations():
    task = Regression(TargetScale(0.0, 100.0))
    assert task.agreement(np.array([0.0, 0.0]), np.array([24.9, 25.1])).tolist() == [1.0, 0.0]
    assert task.hits(np.array([50.0, 0.0]), np.array([0.0, 0.0])).tolist() == [0.5, 1.0]
    np.testing.assert_allclose(task.compared(np.array([[250.0]]))[0], [[2.5]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "focal"}, 'Expected the loss "squared_error" or "huber" for regression, got \'focal\''),
        ({"class_weight": "balanced"}, "Expected no class_weight for regression"),
        ({"label_smoothing": 0.1}, "Expected no label_smoothing for regression"),
        ({"quantization_aware": 1}, "Expected no quantization_aware for regression"),
    ],
)
def test_what_a_recipe_asks_of_classes_is_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        TASK.check_recipe(Recipe(stages=(), **changes))


def test_a_loss_of_numbers_is_refused_for_classes():
    for name in ("single_label", "multi_label", "ner"):
        with pytest.raises(RecipeError, match='Expected the loss "cross_entropy" or "focal"'):
            get_task(name).check_recipe(Recipe(stages=(), loss="huber"))


def test_the_default_loss_becomes_huber_and_another_stays():
    recipe = Recipe(stages=())
    assert TASK.adapted(recipe).loss == "huber"
    assert TASK.adapted(dataclasses.replace(recipe, loss="squared_error")).loss == "squared_error"
    assert get_task("single_label").adapted(recipe) == recipe
    # Half the square up to one deviation, then linear.
    loss = TASK.loss(TASK.adapted(recipe))
    assert float(loss(np.array([[0.0]]), np.array([[0.5]]))) == pytest.approx(0.125)
    assert float(loss(np.array([[0.0]]), np.array([[3.0]]))) == pytest.approx(2.5)


def test_the_worst_answers_are_outside_of_a_deviation():
    task = Regression(TargetScale(0.0, 1.0))
    answers, labels = np.array([[0.0], [0.0], [0.0]]), np.array([0.5, 3.0, -2.0])
    assert task.worst(answers, labels, 5) == [1, 2]
    card = task.card(answers[1], 3.0, ["price"], DECISION)
    assert card["right"] is False
    assert card["verdict"] == "true 3, answered 0, 3.0 standard deviations apart"
