import keras
import numpy as np
import pytest

from ktransfer.errors import RecipeError, RunError
from ktransfer.training.candidates import LEAST_EXAMPLES, choose_weights, load_weights, save_weights


def variable(value):
    return keras.Variable(np.asarray(value, "float32"))


def choose(before, after, signs, **options):
    """Candidates of a model of one weight `w` that gives the logits `(0, w * sign)` for class 1."""
    weight = variable(after)
    labels = np.ones(len(signs), int)

    def answer():
        value = float(keras.ops.convert_to_numpy(weight))
        return np.stack([np.zeros(len(signs)), value * np.asarray(signs, float)], axis=1)

    chosen, found = choose_weights([weight], [np.float32(before)], answer, labels, **options)
    return chosen, found, float(keras.ops.convert_to_numpy(weight))


def test_weights_that_answer_better_are_kept():
    chosen, found, weight = choose(before=-1.0, after=1.0, signs=[*[1.0] * 30, 0.9])
    assert chosen.share > 0
    assert weight > 0
    assert [candidate.share for candidate in found] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_weights_that_answer_clearly_worse_are_not():
    chosen, found, weight = choose(before=1.0, after=-1.0, signs=[*[1.0] * 30, 0.9])
    assert chosen == found[0]
    assert weight == 1.0


def choose_among(answers, labels, **options):
    """What is chosen where the candidates from before to after give these logits, and the weight, from 1 to 2."""
    answers, weight = iter(answers), variable(2.0)
    chosen, found = choose_weights([weight], [np.float32(1.0)], lambda: next(answers), labels, **options)
    return chosen, found, float(keras.ops.convert_to_numpy(weight))


def mixed(wrong, right=30):
    """Logits of examples of class 0: so many are answered wrong, the others right, by 2."""
    return np.array([*[[0.0, 2.0]] * wrong, *[[2.0, 0.0]] * right])


# Wrong of 40: with 0, 25, 50, 75 and 100 % of the way from 1 to 2; with a zero head's 10, its average with 2, a soup.
TWO_ARMS = {
    "zero head": ([10, 10, 10, 10, 10, 2, 5, 5], (1.0, 1.0), 10.0),
    "average": ([10, 10, 10, 10, 10, 8, 2, 5], (1.0, 0.5), 6.0),
    # The best three: the zero head, 25 % and 50 %. (10 + 1.25 + 1.5) / 3 = 4.25.
    "soup": ([10, 4, 5, 9, 9, 3, 8, 1], (0.375, 1 / 3), 4.25),
    "neither": ([10, 10, 10, 10, 4, 5, 5, 5], (1.0, 0.0), 2.0),
    "as good": ([10, 10, 10, 10, 4, 4, 4, 4], (1.0, 0.0), 2.0),
}


@pytest.mark.parametrize("case", TWO_ARMS)
def test_of_a_second_arm_the_candidate_of_the_lowest_loss_is_kept(case):
    wrong, (share, zeros), value = TWO_ARMS[case]
    answers = [mixed(count, 40 - count) for count in wrong]
    chosen, found, weight = choose_among(answers, np.zeros(40, int), zero_head=[np.float32(10.0)])
    assert (chosen.share, chosen.zero_head) == pytest.approx((share, zeros))
    assert weight == pytest.approx(value)
    assert len(found) == 8


def test_a_second_arm_that_is_not_finite_is_not_kept():
    bad = np.full((40, 2), np.nan)
    answers = [*[mixed(10)] * 4, mixed(5, 35), bad, bad, bad]
    chosen, _, weight = choose_among(answers, np.zeros(40, int), zero_head=[np.float32(np.nan)])
    assert chosen.zero_head == 0
    assert weight == 2.0


def test_fewer_than_twenty_examples_keep_the_weights_before_whatever_a_second_arm_answers():
    answers = [*[mixed(5, 5)] * 5, *[mixed(0, 10)] * 3]
    chosen, found, weight = choose_among(answers, np.zeros(10, int), zero_head=[np.float32(10.0)])
    assert chosen == found[0]
    assert weight == 1.0


def test_a_loss_within_its_standard_error_keeps_the_last_epoch():
    # The last epoch answers one of 40 wrong that others have right, and another one the other way round.
    others, last = mixed(10), mixed(10)
    last[[0, 39]] = last[[39, 0]]
    last[39] *= 1.2
    chosen, found, weight = choose_among([*[others] * 4, last], np.zeros(40, int))
    assert 0 < found[-1].excess < found[-1].excess_error
    assert found[-1].gain == pytest.approx(-found[-1].excess)
    assert chosen.share == 1
    assert weight == 2.0


def test_a_last_epoch_clearly_worse_than_half_way_is_not_kept():
    # Errors of 10, 8, 2, 2 and 9 in 40.
    answers = [mixed(wrong, 40 - wrong) for wrong in (10, 8, 2, 2, 9)]
    chosen, found, weight = choose_among(answers, np.zeros(40, int))
    assert found[-1].gain > 0  # it is better than before
    assert chosen.share == 0.75
    assert weight == 1.75


def test_the_excess_over_the_lowest_is_paired_by_example():
    # Half way 1 of 40 is wrong, after it 3: at their best temperatures the losses are entropies of these shares.
    answers = [mixed(10), *[mixed(1, 39)] * 3, mixed(3, 37)]
    _, found, _ = choose_among(answers, np.zeros(40, int))
    entropies = [-(p * np.log(p) + (1 - p) * np.log(1 - p)) for p in (1 / 40, 3 / 40)]
    assert found[1].excess == 0
    assert found[-1].excess == pytest.approx(entropies[1] - entropies[0], abs=1e-3)
    # Loss by example after it, minus half way: one wrong in both, two wrong after it, the others right.
    p, q = 1 / 40, 3 / 40
    each = [np.log(p / q), *[np.log((1 - p) / q)] * 2, *[np.log((1 - p) / (1 - q))] * 37]
    assert found[-1].excess_error == pytest.approx(np.std(each, ddof=1) / np.sqrt(40), abs=1e-3)


def test_a_head_that_answers_nan_is_not_kept_where_others_do_not():
    answers = [np.full((30, 2), np.nan), *[mixed(1, 29)] * 4]
    chosen, found, _ = choose_among(answers, np.zeros(30, int))
    assert chosen.share == 1
    assert found[-1].gain == 0


def test_few_validation_examples_keep_the_weights_before():
    for count, share in ((LEAST_EXAMPLES - 1, 0), (LEAST_EXAMPLES, 1)):
        chosen, _, _ = choose_among([mixed(5, count - 5), *[mixed(1, count - 1)] * 4], np.zeros(count, int))
        assert chosen.share == share


def test_the_log_loss_is_that_at_the_best_temperature():
    # Of four examples three are right: the best logit is log 3, and the loss the entropy of (3/4, 1/4).
    logits = np.array([[0.0, 7.0]] * 4)
    chosen, found = choose_weights([], [], lambda: logits, np.array([1, 1, 1, 0]))
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert found[0].log_loss == pytest.approx(entropy, abs=1e-4)
    assert found[0].temperature == pytest.approx(7 / np.log(3), rel=1e-2)
    assert found[0].accuracy == 0.75
    assert chosen.share == 0  # nothing changed


def test_class_weights_count():
    # Class 1 is answered better after, class 0 worse.
    def answers():
        yield np.array([[1.0, 0.0]] * 4)
        while True:
            yield np.array([[1.0, 0.0], [1.0, 0.0], [0.9, 0.0], [0.0, 1.0]])

    given = answers()
    _, plain = choose_weights([], [], lambda: next(given), np.array([0, 0, 0, 1]))
    given = answers()
    _, weighted = choose_weights([], [], lambda: next(given), np.array([0, 0, 0, 1]), class_weight={1: 3.0})
    assert weighted[1].gain > plain[1].gain > 0


def test_answers_that_are_nan_are_never_kept():
    answers = iter([np.zeros((3, 2)), *[np.full((3, 2), np.nan)] * 4])
    chosen, found = choose_weights([], [], lambda: next(answers), np.array([0, 1, 1]))
    assert chosen.share == 0
    assert found[1].log_loss == np.inf


def test_one_validation_example_keeps_the_weights_before():
    answers = iter([np.zeros((1, 2)), *[np.array([[0.0, 9.0]])] * 4])
    chosen, _ = choose_weights([], [], lambda: next(answers), np.array([1]))
    assert chosen.share == 0


def test_values_of_other_variables_are_refused():
    with pytest.raises(RecipeError, match="values of 1 variables"):
        choose_weights([variable([1.0, 2.0])], [np.zeros(3)], lambda: None, np.array([0]))


def small_model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(2)])


def test_saved_weights_give_those_that_changed(tmp_path):
    model = small_model()
    save_weights(tmp_path / "solved.npz", model)
    old = np.array(model.layers[0].get_weights()[0])
    model.layers[0].set_weights([old + 1, np.zeros(2)])
    variables, before = load_weights(tmp_path / "solved.npz", model)
    assert variables == [model.layers[0].kernel]
    np.testing.assert_array_equal(before[0], old)


def test_saved_weights_of_another_model_are_refused(tmp_path):
    save_weights(tmp_path / "solved.npz", small_model())
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    with pytest.raises(RunError, match="none that fit"):
        load_weights(tmp_path / "solved.npz", other)


def test_damaged_weights_are_refused(tmp_path):
    path = tmp_path / "solved.npz"
    save_weights(path, small_model())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RunError, match="got BadZipFile"):
        load_weights(path, small_model())
