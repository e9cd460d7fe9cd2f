import math

import numpy as np
import pytest
from PIL import Image

from ktransfer.evaluation.metrics import ClassScore, evaluate

NAMES = ("cat", "dog", "emu", "fox")
# Truth and answers: no emu was shown, and no fox was answered.
LABELS = np.array([0, 0, 0, 1, 1, 3])
PROBABILITIES = np.array(
    [
        [0.5, 0.3, 0.1, 0.1],
        [0.8, 0.1, 0.1, 0.0],
        [0.2, 0.6, 0.1, 0.1],
        [0.1, 0.7, 0.1, 0.1],
        [0.1, 0.2, 0.6, 0.1],
        [0.4, 0.2, 0.2, 0.2],
    ]
)


@pytest.fixture(scope="module")
def result():
    return evaluate(PROBABILITIES, LABELS, NAMES)


def test_the_confusion_matrix_counts_truth_by_row(result):
    assert result.confusion == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_the_scores_of_each_class_are_those_worked_out_by_hand(result):
    # cat: 2 of 3 answers right, 2 of 3 found. dog: 1 of 2, 1 of 2.
    assert list(result.per_class) == list(NAMES)
    assert result.per_class["cat"] == ClassScore(
        pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), 3
    )
    assert result.per_class["dog"] == ClassScore(0.5, 0.5, 0.5, 2)


def test_a_class_without_examples_and_one_never_answered_score_zero(result):
    assert result.per_class["emu"] == ClassScore(0.0, 0.0, 0.0, 0)
    assert result.per_class["fox"] == ClassScore(0.0, 0.0, 0.0, 1)


def test_the_macro_scores_leave_out_the_class_without_examples(result):
    mean = pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert result.macro == ClassScore(mean, mean, mean, 6)


def test_accuracy_and_log_loss_are_those_worked_out_by_hand(result):
    assert (result.examples, result.accuracy) == (6, 0.5)
    likelihood = 0.5 * 0.8 * 0.2 * 0.7 * 0.2 * 0.2
    assert result.log_loss == pytest.approx(-math.log(likelihood) / 6)


def test_the_interval_is_that_of_three_right_of_six(result):
    assert result.accuracy_interval == pytest.approx((0.1876, 0.8124), abs=1e-4)


def test_a_certain_wrong_answer_costs_much_and_not_for_ever():
    result = evaluate(np.array([[1.0, 0.0]]), np.array([1]), ["cat", "dog"])
    assert result.log_loss == pytest.approx(-math.log(1e-12))


def test_an_evaluation_becomes_plain_values(result):
    values = result.to_dict()
    assert values["per_class"]["dog"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert values["confusion"][0] == [2, 1, 0, 0]


@pytest.mark.parametrize("classes", [4, 40])
def test_the_confusion_matrix_is_drawn_as_a_png(tmp_path, classes):
    labels = np.arange(classes)
    result = evaluate(np.eye(classes), labels, [f"class {i}" for i in labels])
    result.save_confusion(tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.format == "PNG"
        assert min(image.size) >= 400
        dark_blue = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
        assert ((dark_blue - [8, 48, 107]).__abs__().sum(axis=1) < 10).any()
    assert [path.name for path in tmp_path.iterdir()] == ["confusion.png"]
