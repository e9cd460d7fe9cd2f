"""Scores of frozen features, against values worked out by hand and the exact evidence."""

import numpy as np
import pytest

from ktransfer.core.task import get_task
from ktransfer.errors import DataError
from ktransfer.searching.transferability import (
    HeadScore,
    head_score_out_of_fold,
    log_maximum_evidence,
    shrinkage_h_score,
)


def normal(values, covariance):
    """The log density of a normal distribution with mean 0."""
    sign, determinant = np.linalg.slogdet(2 * np.pi * covariance)
    assert sign == 1
    return -(determinant + values @ np.linalg.solve(covariance, values)) / 2


@pytest.mark.parametrize(("examples", "width"), [(40, 3), (12, 30), (25, 25)])
def test_logme_is_the_highest_exact_evidence(examples, width):
    random = np.random.default_rng(0)
    features = random.normal(size=(examples, width))
    target = features[:, 0] + 0.5 * random.normal(size=examples)
    found = log_maximum_evidence(features, target[:, None])
    # y ~ N(0, 1 / beta + F F' / alpha), the precisions by a fine search.
    grid = np.logspace(-2, 3, 60)
    exact = max(
        normal(target, np.eye(examples) / beta + features @ features.T / alpha)
        for alpha in grid
        for beta in grid
    )
    assert found == pytest.approx(exact / examples, abs=2e-3)
    assert found >= exact / examples - 1e-6 or examples <= width  # a grid only comes close


def test_logme_is_the_mean_over_columns():
    random = np.random.default_rng(1)
    features, targets = random.normal(size=(30, 4)), random.normal(size=(30, 2))
    apart = [log_maximum_evidence(features, targets[:, [each]]) for each in range(2)]
    assert log_maximum_evidence(features, targets) == pytest.approx(np.mean(apart))


def test_h_score_without_shrinkage_by_hand():
    """One feature has no covariance to shrink: between-class variance over variance, by N - 1 and by N."""
    features = np.array([[0.0], [2.0], [4.0], [6.0]])
    targets = np.eye(2)[[0, 0, 1, 1]]
    # Means 1 and 5 about 3, so sum 16 over N - 1 = 3; variance (9 + 1 + 1 + 9) / 4 = 5.
    assert shrinkage_h_score(features, targets) == pytest.approx(16 / 3 / 5)


def test_h_score_shrinks_as_its_paper_says():
    from sklearn.covariance import LedoitWolf

    random = np.random.default_rng(2)
    labels = random.integers(0, 3, 60)
    features = random.normal(size=(60, 5)) + np.eye(5)[labels]
    centered = features - features.mean(axis=0)
    fitted = LedoitWolf().fit(centered)
    means = np.stack([centered[labels == label].mean(axis=0) for label in labels])
    between = (1 - fitted.shrinkage_) * np.cov(means, rowvar=False)
    expected = np.trace(np.linalg.pinv(fitted.covariance_) @ between)
    assert shrinkage_h_score(features, np.eye(3)[labels]) == pytest.approx(expected)


def test_h_score_of_several_labels_is_the_mean_of_each():
    random = np.random.default_rng(3)
    features, targets = random.normal(size=(50, 4)), random.integers(0, 2, (50, 3)).astype(float)
    apart = [shrinkage_h_score(features, np.eye(2)[column.astype(int)]) for column in targets.T]
    assert shrinkage_h_score(features, targets) == pytest.approx(np.mean(apart))


@pytest.mark.parametrize("score", [log_maximum_evidence, shrinkage_h_score])
def test_features_that_tell_classes_apart_score_higher(score):
    random = np.random.default_rng(4)
    labels = np.repeat([0, 1], 40)
    noise = random.normal(size=(80, 6))
    telling = noise.copy()
    telling[:, 0] += 4 * labels
    assert score(telling, np.eye(2)[labels]) > score(noise, np.eye(2)[labels])


def test_a_head_is_scored_on_what_it_was_not_solved_on():
    random = np.random.default_rng(5)
    labels = np.repeat([0, 1], 50)
    noise = random.normal(size=(100, 200))  # more features than examples: fitted, any labels are right
    found = head_score_out_of_fold(noise, labels, task="single_label", classes=2)
    assert 0.3 < found.score < 0.7
    assert found.losses.shape == (100,)
    assert found.score_error == pytest.approx(0.05, abs=0.005)


def test_the_gap_to_another_is_paired():
    one, other = (
        HeadScore(np.array([1.0, 2.0, 3.0]), np.ones(3)),
        HeadScore(np.array([0.5, 1.5, 2.5]), np.ones(3)),
    )
    assert one.behind(other) == pytest.approx((0.5, 0.0))
    assert one.behind(HeadScore(np.ones(2), np.ones(2))) is None


@pytest.mark.parametrize(
    ("features", "labels", "said"),
    [
        (np.full((4, 2), np.nan), [0, 0, 1, 1], "NaN or infinity"),
        (np.zeros((3, 2)), [0, 0, 1], "cross-validation"),
    ],
)
def test_what_cannot_be_scored_is_refused(features, labels, said):
    with pytest.raises(DataError, match=said):
        head_score_out_of_fold(features, np.array(labels), task=get_task("single_label"), classes=2)
