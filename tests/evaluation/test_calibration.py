import math

import numpy as np
import pytest

from ktransfer.evaluation.calibration import (
    Bin,
    calibration,
    cross_fitted,
    fit_temperature,
    wilson_interval,
    with_temperature,
)
from ktransfer.evaluation.metrics import evaluate


def drawn(count, temperature, seed=0, classes=3):
    """Probabilities whose logits were multiplied by `temperature`, and labels drawn from the true ones."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, classes)) * 2
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(classes, p=row) for row in truth])
    return with_temperature(truth, 1 / temperature), labels


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    # Wilson 1927 by hand: (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n), z2 = 3.8415.
    [(5, 10, 0.2366, 0.7634), (117, 130, 0.8364, 0.9407), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_interval_of_a_share_is_wilsons(right, total, low, high):
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=1e-4)


def test_bins_error_and_distance_are_those_worked_out_by_hand():
    probabilities = np.array([[0.8, 0.2], [0.79, 0.21], [0.45, 0.55], [0.5, 0.5]])
    found = calibration(probabilities, np.array([0, 1, 1, 1]))
    # 15 bins: 0.8 and 0.79 lie in (11/15, 12/15], 0.55 in (8/15, 9/15], 0.5 in (7/15, 8/15].
    assert [(b.lower, b.upper, b.count) for b in found.reliability] == [
        (pytest.approx(7 / 15), pytest.approx(8 / 15), 1),
        (pytest.approx(8 / 15), pytest.approx(9 / 15), 1),
        (pytest.approx(11 / 15), pytest.approx(12 / 15), 2),
    ]
    assert found.reliability[-1] == Bin(11 / 15, 12 / 15, 2, pytest.approx(0.795), 0.5)
    assert found.ece == pytest.approx((0.5 + 0.45 + 2 * 0.295) / 4)
    assert found.brier == pytest.approx(2 * (0.2**2 + 0.79**2 + 0.45**2 + 0.5**2) / 4)
    assert found.log_loss == pytest.approx(-math.log(0.8 * 0.21 * 0.55 * 0.5) / 4)


def test_probabilities_that_are_as_often_right_as_they_say_have_no_error():
    assert calibration(np.full((4, 2), [0.75, 0.25]), np.array([0, 0, 0, 1])).ece == 0


def test_three_right_of_four_at_nine_tenths_are_cooled_to_three_quarters():
    probabilities = np.full((4, 2), [0.9, 0.1])
    temperature = fit_temperature(probabilities, np.array([0, 0, 0, 1]))
    assert temperature == pytest.approx(2.0, abs=1e-3)  # log(9) / log(3)
    assert with_temperature(probabilities, temperature)[0] == pytest.approx([0.75, 0.25], abs=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_logits_were_spoilt_by_is_found_again(temperature):
    probabilities, labels = drawn(4000, temperature)
    assert fit_temperature(probabilities, labels) == pytest.approx(temperature, rel=0.1)


def test_from_answers_that_are_all_right_no_temperature_is_made_up():
    assert fit_temperature(np.array([[0.6, 0.4], [0.4, 0.6]]), np.array([0, 1])) == 1.0


def test_certainties_of_zero_and_one_have_a_finite_temperature():
    probabilities = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], "float32")
    temperature = fit_temperature(probabilities, np.array([0, 0, 1]))
    assert np.isfinite(with_temperature(probabilities, temperature)).all()
    assert temperature > 2


def test_a_temperature_changes_no_answer():
    probabilities, _ = drawn(200, 1.0)
    for temperature in (0.1, 5.0):
        after = with_temperature(probabilities, temperature)
        assert (after.argmax(axis=1) == probabilities.argmax(axis=1)).all()
        assert after.sum(axis=1) == pytest.approx(1)


def test_a_half_is_judged_by_the_temperature_of_the_other_half_only():
    probabilities, labels = drawn(60, 3.0)
    found = cross_fitted(probabilities, labels, seed=1)
    # One temperature in all would give one ratio of log odds.
    odds = np.log(found[:, 0] / found[:, 1]) / np.log(probabilities[:, 0] / probabilities[:, 1])
    used = np.unique(np.round(1 / odds, 6))
    assert len(used) == 2
    for temperature in used:
        half = np.isclose(1 / odds, temperature)
        assert fit_temperature(probabilities[~half], labels[~half]) == pytest.approx(temperature, rel=1e-3)
        assert abs(np.bincount(labels[half]) - np.bincount(labels[~half])).max() <= 1


def test_scaling_mends_probabilities_that_are_too_sure():
    probabilities, labels = drawn(2000, 4.0)
    result = evaluate(probabilities, labels, ["a", "b", "c"])
    assert result.calibrated.cross_fitted
    assert result.calibrated.temperature == pytest.approx(4.0, rel=0.1)
    assert result.calibrated.ece < 0.05 < result.ece
    assert result.calibrated.log_loss < result.log_loss
    assert result.calibrated.brier < result.brier


def test_a_temperature_of_other_examples_is_applied_as_it_is():
    probabilities, labels = drawn(200, 1.0)
    result = evaluate(probabilities, labels, ["a", "b", "c"], temperature=2.0)
    assert not result.calibrated.cross_fitted
    assert result.calibrated.temperature == 2.0
    assert result.calibrated.log_loss == calibration(with_temperature(probabilities, 2.0), labels).log_loss


def test_one_example_can_be_judged():
    result = evaluate(np.array([[0.3, 0.7]]), np.array([0]), ["a", "b"])
    assert result.examples == 1
    assert np.isfinite(result.calibrated.log_loss)
