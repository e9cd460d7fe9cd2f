import numpy as np
import pytest

from ktransfer.core.task import get_task
from ktransfer.training.evidence import Evidence, measure_evidence
from ktransfer.training.linear_probe import out_of_fold_logits


def blobs(count, distance, seed=0, features=8):
    """Two classes of Gaussian features whose means lie so many standard deviations apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    found = rng.normal(size=(count, features))
    found[:, 0] += labels * distance
    return found.astype("float32"), labels


def test_a_task_that_the_features_solve_has_a_small_log_loss_out_of_fold():
    easy, hard = (measure_evidence(*blobs(200, distance)) for distance in (8.0, 0.5))
    assert easy.log_loss < 0.05
    assert easy.accuracy > 0.99
    assert hard.log_loss > 0.5
    assert (easy.examples, easy.classes, easy.rarest) == (200, 2, 100)


def test_noise_is_fitted_and_not_predicted():
    found = measure_evidence(*blobs(100, 0.0, features=200))
    assert found.fitted_log_loss < found.log_loss
    assert found.log_loss == pytest.approx(np.log(2), abs=0.1)  # no better than chance


def test_taps_gain_where_lower_blocks_know_more():
    features, labels = blobs(200, 0.0)
    taps, _ = blobs(200, 3.0, seed=1)
    found = measure_evidence(features, labels, taps)
    assert found.taps_gain > 5 * found.taps_error > 0


def test_taps_that_are_noise_gain_less_than_their_error():
    features, labels = blobs(200, 2.0)
    found = measure_evidence(features, labels, np.random.default_rng(1).normal(size=(200, 30)))
    assert found.taps_gain < found.taps_error


def test_one_example_of_a_class_leaves_only_the_counts():
    features, labels = blobs(20, 3.0)
    labels[:] = 0
    labels[3] = 1
    assert measure_evidence(features, labels) == Evidence(examples=20, classes=2, rarest=1)
    assert out_of_fold_logits(features, labels) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_nan_or_infinite_leave_only_the_counts(bad):
    features, labels = blobs(20, 3.0)
    features[2, 1] = bad
    assert measure_evidence(features, labels).log_loss is None


def test_many_examples_are_compared_on_a_part_of_them():
    features, labels = blobs(5_000, 2.0)
    found = measure_evidence(features, labels)
    assert found.examples == 5_000
    assert found == measure_evidence(features, labels)  # the same part each time


def test_each_example_is_answered_by_a_head_that_has_not_seen_it():
    # Two copies of each class's example with their labels swapped in the other fold would be learned by heart.
    features, labels = blobs(60, 0.0, features=100)
    held_out, fitted = out_of_fold_logits(features, labels)
    assert held_out.shape == fitted.shape == (60, 2)
    assert (fitted.argmax(1) == labels).mean() > (held_out.argmax(1) == labels).mean()


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        ("single_label", np.repeat([0, 1], [30, 10]), -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))),
        (
            "multi_label",
            np.column_stack([np.arange(40) % 2, np.arange(40) % 4 == 0]).astype("uint8"),
            np.log(2) - (0.75 * np.log(0.75) + 0.25 * np.log(0.25)),
        ),
    ],
)
def test_the_best_constant_answer_has_the_entropy_of_the_labels(task, labels, expected):
    features = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    found = measure_evidence(features, labels, task=task)
    assert found.constant_log_loss == pytest.approx(expected, rel=1e-4)


def test_the_best_constant_answer_of_a_regression_is_the_mean():
    targets = np.random.default_rng(0).normal(3, 2, size=40)
    features = np.random.default_rng(1).normal(size=(40, 4)).astype("float32")
    task = get_task("regression").fit(targets)
    found = measure_evidence(features, targets, task=task, classes=1)
    assert found.constant_log_loss == pytest.approx(0.5, rel=1e-4)  # half the variance in units of it
