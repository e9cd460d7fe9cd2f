"""Ordinal classification: targets, answers and measures, by values worked out by hand."""

import keras
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from ktransfer.core.task import get_task
from ktransfer.errors import DataError
from ktransfer.tasks.ordinal import TASK, kappa_of

STARS = ("1", "2", "3", "4")


def test_targets_fall_with_the_distance():
    shares = np.exp([-3.0, 0.0, -3.0, -6.0])
    np.testing.assert_allclose(TASK.targets(np.array([1]), 4)[0], shares / shares.sum(), rtol=1e-6)
    labels = np.array([0, 3, 2])
    assert TASK.labels_of(TASK.targets(labels, 4)).tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("probabilities", "middle"),
    [
        ([0.4, 0.3, 0.3, 0.0], 1),  # 0.7 is the first sum of at least one half
        ([0.5, 0.0, 0.0, 0.5], 0),
        ([0.1, 0.2, 0.0, 0.7], 3),
        ([0.25, 0.25, 0.25, 0.25], 1),
    ],
)
def test_the_answer_is_the_median(probabilities, middle):
    probabilities = np.array(probabilities)
    assert TASK.decide(probabilities) == middle
    assert TASK.decide(probabilities[None]).tolist() == [middle]
    answers = TASK.answers(probabilities, STARS, top_k=4)
    assert answers[0] == {"label": STARS[middle], "probability": probabilities[middle]}
    assert sorted(each["label"] for each in answers) == list(STARS)
    assert TASK.card(probabilities, middle, STARS)["right"]


def test_kappa_and_mean_absolute_error_are_those_of_the_books():
    # Truth 0, 0, 1, 2, answers 0, 1, 1, 0: squared distances 0, 1, 0, 4, and by chance those of
    # every pair of a truth and an answer: (2 * 2 * 0 + 2 * 2 * 1 + 2 * 1 + 0 + 2 * 4 + 2 * 1) / 4 = 4.
    truth, answers = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])
    found = TASK.evaluate(np.eye(4)[answers], truth, STARS)
    assert found.kappa == pytest.approx(1 - 5 / 4)
    assert found.mae == pytest.approx(3 / 4)
    assert found.within_one == pytest.approx(3 / 4)
    assert found.accuracy == pytest.approx(2 / 4)
    low, high = found.kappa_interval
    assert low <= found.kappa <= high
    assert found.to_dict()["mae"] == found.mae
    assert "quadratic weighted kappa -0.250" in found.line()


@pytest.mark.parametrize("seed", range(5))
def test_the_metric_of_fit_is_scikit_learns_kappa_of_medians(seed):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(60, 5)).astype("float32")
    labels = random.integers(0, 5, 60)
    medians = TASK.decide(TASK.probabilities(logits))
    metric, indices = TASK.metric(), TASK.metric(one_hot=False)
    for rows in (slice(0, 25), slice(25, 60)):
        metric.update_state(TASK.targets(labels[rows], 5), logits[rows])
        indices.update_state(labels[rows], logits[rows])
    expected = cohen_kappa_score(labels, medians, weights="quadratic")
    for each in (metric, indices):
        assert float(keras.ops.convert_to_numpy(each.result())) == pytest.approx(expected, abs=1e-5)
    confusion = np.zeros((5, 5))
    np.add.at(confusion, (labels, medians), 1)
    assert float(kappa_of(confusion)) == pytest.approx(expected)


def test_a_kappa_without_any_spread_is_nil():
    metric = TASK.metric()
    metric.update_state(TASK.targets(np.array([1, 1]), 3), np.array([[0, 9, 0], [0, 9, 0]], "float32"))
    assert float(keras.ops.convert_to_numpy(metric.result())) == 0
    assert float(kappa_of(np.diag([0, 5, 0]))) == 0


@pytest.mark.parametrize(
    "names", [("1", "2", "10"), ("0.5", "1.0"), ("-1", "0", "1"), ("1 low", "2 middle", "3 high")]
)
def test_classes_that_begin_with_a_rank_are_taken(names):
    get_task("ordinal").check_class_names(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("high", "low", "middle"), "Expected classes that begin with their rank"),
        (("1", "2", "unknown"), "Expected classes that begin with their rank"),
        (("1 low", "10 high", "2 middle"), "Expected ranks that ascend"),
        (("1 a", "1 b"), "Expected ranks that ascend"),
    ],
)
def test_classes_without_an_order_are_refused(names, message):
    with pytest.raises(DataError, match=message):
        TASK.check_class_names(names)
