import keras
import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, f1_score

from ktransfer.core.task import get_task
from ktransfer.data.examples import Examples
from ktransfer.errors import DataError, RecipeError
from ktransfer.recipes.recipe import Recipe
from ktransfer.tasks.multi_label import fit_thresholds
from ktransfer.training.linear_probe import out_of_fold_logits, solve_head

TASK = get_task("multi_label")
NAMES = ("car", "pole", "tree")


def tagged(count=400, labels=3, seed=0):
    """Features of which each label follows linearly, with noise; the labels are of uneven size."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 8)).astype("float32")
    logits = features @ random.normal(size=(8, labels)) * 1.5 + np.linspace(-2.5, 0.5, labels)
    return features, (random.random((count, labels)) < expit(logits)).astype("uint8")


def classifier(features, labels):
    from ktransfer.models.heads import add_head

    inputs = keras.Input((features,))
    return keras.Model(inputs, add_head(inputs, labels, 0.0, 0))


# Labels.


def test_labels_are_zeros_and_ones_of_each_example_and_label():
    examples = Examples(("a.jpg", "b.jpg"), [[1, 0, 1], [0, 0, 0]], NAMES, task="multi_label")
    assert examples.counts() == {"car": 1, "pole": 0, "tree": 1}
    assert examples.label_names == ["car | tree", "(no label)"]
    assert examples.targets.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert examples.labels.dtype == np.uint8
    assert not examples.labels.flags.writeable


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], r"shape \(2, 3\).*got \(2,\)"),
        ([[1, 0], [0, 1]], r"got \(2, 2\)"),
        ([[2, 0, 0], [0, 1, 0]], "0 and 1, got 2"),
        ([[np.nan, 0, 0], [0, 1, 0]], "got nan"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        Examples(("a", "b"), labels, NAMES, kind="text", task="multi_label")


def test_a_split_has_the_share_of_every_label_on_both_sides():
    _, labels = tagged(600)
    texts = tuple(f"text {index}" for index in range(600))
    examples = Examples(texts, labels, NAMES, kind="text", task="multi_label")
    rest, held = examples.split(0.2, seed=0)
    assert len(held) == pytest.approx(120, abs=2)
    assert not set(rest.inputs) & set(held.inputs)
    expected = 0.2 * np.array(list(examples.counts().values()))
    assert list(held.counts().values()) == pytest.approx(expected.tolist(), abs=2)
    assert examples.split(0.2, seed=0)[1].inputs == held.inputs
    assert examples.split(0.2, seed=1)[1].inputs != held.inputs


def test_texts_that_are_alike_stay_on_one_side():
    labels = np.tile([[1, 0, 0], [0, 1, 1]], (30, 1))
    texts = tuple(f"text {index // 4}" for index in range(60))
    rest, held = Examples(texts, labels, NAMES, kind="text", task="multi_label").split(0.3, seed=0)
    assert not set(rest.inputs) & set(held.inputs)


def test_a_label_that_only_one_example_has_is_trained_on():
    labels = np.zeros((20, 3), int)
    labels[::2, 0], labels[7, 1], labels[1::2, 2] = 1, 1, 1
    texts = tuple(f"text {index}" for index in range(20))
    for seed in range(5):
        rest, _ = Examples(texts, labels, NAMES, kind="text", task="multi_label").split(0.3, seed=seed)
        assert rest.counts()["pole"] == 1


# The head.


def test_the_solved_head_is_a_regression_of_each_label():
    features, labels = tagged()
    model = classifier(8, 3)
    found = solve_head(model, features, labels, task="multi_label")
    assert found["folds"] == 5
    assert found["log_loss"] > 0
    kernel, bias = model.get_layer("logits").get_weights()
    mean, variance = model.get_layer("feature_norm").get_weights()
    inputs = (features - mean) / np.sqrt(variance)
    # At the minimum the gradient of the bias, which has no penalty, is zero: as many answers as labels.
    np.testing.assert_allclose(expit(inputs @ kernel + bias).mean(0), labels.mean(0), atol=2e-3)
    scores = [average_precision_score(labels[:, c], (inputs @ kernel + bias)[:, c]) for c in range(3)]
    assert min(scores) > 0.6


def test_a_label_of_one_example_does_not_make_the_head_infinite():
    features, labels = tagged()
    labels[:, 1] = 0
    labels[5, 1] = 1
    model = classifier(8, 3)
    solve_head(model, features, labels, task="multi_label")
    assert np.isfinite(model.predict(features, verbose=0)).all()


def test_what_an_example_is_told_out_of_fold_was_learned_without_it():
    random = np.random.default_rng(0)
    features = random.normal(size=(100, 50)).astype("float32")
    labels = random.integers(0, 2, (100, 3)).astype("uint8")
    held_out, fitted = out_of_fold_logits(features, labels, task="multi_label")
    right = [((each > 0) == labels).mean() for each in (held_out, fitted)]
    assert right[0] < 0.6 < right[1]


def test_class_weights_are_refused_with_what_to_do():
    with pytest.raises(RecipeError, match="Leave it out: each label has a threshold"):
        TASK.check_recipe(Recipe(stages=(), class_weight="balanced"))


def test_the_loss_is_the_mean_binary_cross_entropy():
    loss = TASK.loss(Recipe(stages=()))([[1.0, 0.0]], [[0.0, 0.0]])
    assert float(loss) == pytest.approx(np.log(2))
    focal = TASK.loss(Recipe(stages=(), loss="focal", focal_gamma=2.0))([[1.0, 0.0]], [[0.0, 0.0]])
    assert float(focal) == pytest.approx(np.log(2) / 4)  # (1 - 0.5) ** 2


def test_likelihoods_and_their_derivatives_are_those_worked_out_by_hand():
    losses, errors = TASK.likelihoods(np.array([[0.0, 100.0]]), np.array([[1.0, 0.0]]))
    assert losses.tolist() == [[pytest.approx(np.log(2)), pytest.approx(100.0)]]
    assert errors.tolist() == [[pytest.approx(-0.5), pytest.approx(1.0)]]


# Answers.


def test_labels_are_answered_from_their_thresholds_on():
    decision = {"thresholds": [0.3, 0.5, 0.8]}
    probabilities = np.array([0.4, 0.4, 0.9])
    answers = TASK.answers(probabilities, NAMES, decision, top_k=1)
    assert answers == [
        {"label": "tree", "probability": 0.9, "chosen": True},
        {"label": "car", "probability": 0.4, "chosen": True},
    ]
    assert TASK.answer_line(answers) == "tree 90.0%, car 40.0%"
    none = TASK.answers(np.array([0.2, 0.4, 0.1]), NAMES, decision, top_k=2)
    assert [each["label"] for each in none] == ["pole", "car"]
    assert TASK.answer_line(none) == "no label; the nearest is pole 40.0%"


def test_a_temperature_moves_thresholds_so_that_no_answer_changes():
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (200, 3))
    decision = {"thresholds": [0.3, 0.5, 0.8]}
    warmer = TASK.at_temperature(decision, 2.0)
    assert warmer["thresholds"][1] == pytest.approx(0.5)
    assert warmer["thresholds"][0] > 0.3
    before = TASK.decide(TASK.probabilities(logits), decision)
    np.testing.assert_array_equal(TASK.decide(TASK.probabilities(logits / 2), warmer), before)


def test_hits_are_the_f1_of_each_example():
    decided = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]])
    labels = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]])
    assert TASK.hits(decided, labels).tolist() == [pytest.approx(2 / 3), 1.0, 0.0, 1.0]
    assert TASK.agreement(decided, labels).tolist() == pytest.approx([2 / 3, 1, 2 / 3, 1])


# Thresholds and evaluation.


def test_a_threshold_lies_where_the_f1_is_best():
    probabilities = np.array([[0.1], [0.2], [0.3], [0.4]])
    assert fit_thresholds(probabilities, np.array([[0], [0], [1], [1]])) == pytest.approx(0.25)
    assert fit_thresholds(probabilities, np.array([[0], [1], [0], [1]])) == pytest.approx(0.15)


def test_a_rare_label_takes_the_threshold_of_all_labels():
    random = np.random.default_rng(0)
    probabilities = random.random((100, 3))
    labels = (probabilities > [0.3, 0.5, 2.0]).astype(int)
    labels[0, 2] = 1
    found = fit_thresholds(probabilities, labels)
    assert found[0] == pytest.approx(0.3, abs=0.03)
    assert found[1] == pytest.approx(0.5, abs=0.03)
    assert 0.3 < found[2] < 0.6


def test_a_label_that_cannot_be_told_is_not_answered_at_a_tiny_threshold():
    random = np.random.default_rng(0)
    probabilities = np.column_stack([random.random(1_000), random.random(1_000) / 100])
    labels = np.column_stack([probabilities[:, 0] > 0.5, random.random(1_000) < 0.01]).astype("uint8")
    found = fit_thresholds(probabilities, labels)
    assert found[1] == pytest.approx(0.5, abs=0.05)


def test_thresholds_are_fitted_where_probabilities_are_far_from_half():
    _, labels = tagged(500)
    probabilities = np.clip(labels * 0.1 + np.random.default_rng(0).random(labels.shape) * 0.08, 0, 1)
    evaluation = TASK.evaluate(probabilities, labels, NAMES)
    assert evaluation.macro.f1 > 0.95
    assert f1_score(labels, probabilities > 0.5, average="macro", zero_division=0) == 0


def test_the_evaluation_is_that_of_scikit_learn():
    features, labels = tagged(300)
    probabilities = expit(features[:, :3])
    fitted = {"decision": {"thresholds": [0.4, 0.5, 0.6]}, "temperature": 1.0}
    found = TASK.evaluate(probabilities, labels, NAMES, fitted=fitted)
    decided = probabilities >= [0.4, 0.5, 0.6]
    assert found.micro.f1 == pytest.approx(f1_score(labels, decided, average="micro"))
    assert found.macro.f1 == pytest.approx(f1_score(labels, decided, average="macro"))
    assert found.samples_f1 == pytest.approx(f1_score(labels, decided, average="samples", zero_division=1))
    assert found.subset_accuracy == pytest.approx((labels == decided).all(1).mean())
    expected = average_precision_score(labels, probabilities, average="macro")
    assert found.mean_average_precision == pytest.approx(expected)
    low, high = found.macro.interval
    assert low < found.macro.f1 < high
    assert found.fitted == {"temperature": 1.0, "decision": {"thresholds": [0.4, 0.5, 0.6]}}
    assert not found.cross_fitted


def test_what_is_fitted_on_the_examples_is_measured_on_the_others():
    # Chance alone: thresholds that were measured on what they are fitted on would look better than chance.
    random = np.random.default_rng(1)
    probabilities, labels = random.random((60, 3)), (random.random((60, 3)) < 0.2).astype("uint8")
    found = TASK.evaluate(probabilities, labels, NAMES)
    assert found.cross_fitted
    optimistic = f1_score(labels, probabilities >= found.thresholds, average="macro")
    assert found.macro.f1 < optimistic


def test_examples_without_any_label_can_be_evaluated():
    found = TASK.evaluate(np.full((12, 3), 0.1), np.zeros((12, 3), int), NAMES)
    assert found.macro.f1 == 0
    assert all(score.average_precision is None for score in found.per_label.values())


def test_calibration_counts_pairs_of_examples_and_labels():
    probabilities = np.full((10, 2), 0.8)
    labels = np.zeros((10, 2), int)
    labels[:6] = 1
    found = TASK.evaluate(probabilities, labels, ("a", "b"))
    [only] = found.calibration.reliability
    assert (only.count, only.confidence, only.accuracy) == (20, pytest.approx(0.8), pytest.approx(0.6))
    assert found.calibration.ece == pytest.approx(0.2)
    assert found.calibration.brier == pytest.approx(0.6 * 0.04 + 0.4 * 0.64)
    assert found.temperature > 1
