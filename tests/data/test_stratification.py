import numpy as np
import pytest

from ktransfer.data.examples import Examples
from ktransfer.data.stratification import connected, held_out_units, stratified_folds
from ktransfer.errors import DataError


def test_rare_labels_are_divided_first():
    counts = np.zeros((100, 2), int)
    counts[:10, 0], counts[:, 1] = 1, 1
    folds = stratified_folds(counts, np.ones(100, int), [0.2] * 5, seed=0)
    assert [counts[folds == fold].sum(0).tolist() for fold in range(5)] == [[2, 20]] * 5


def test_folds_have_the_shares_that_are_asked_for():
    counts = (np.random.default_rng(0).random((500, 6)) < [0.02, 0.1, 0.2, 0.3, 0.5, 0.9]).astype(int)
    folds = stratified_folds(counts, np.ones(500, int), [0.7, 0.2, 0.1], seed=3)
    for fold, share in enumerate((0.7, 0.2, 0.1)):
        assert (folds == fold).sum() == pytest.approx(500 * share, abs=4)
        assert counts[folds == fold].sum(0) == pytest.approx(counts.sum(0) * share, abs=2)


def test_few_units_are_held_out_by_the_best_of_all_choices():
    sizes = np.array([40, 30, 20, 10])
    held = held_out_units(sizes[:, None], sizes, 0.3, seed=0)
    assert sizes[held].sum() == 30


def test_a_label_of_one_unit_alone_is_not_held_out():
    counts = np.array([[5, 0], [5, 0], [5, 3], [5, 0]])
    for seed in range(5):
        assert not held_out_units(counts, np.full(4, 5), 0.25, seed=seed)[2]


def test_where_nothing_can_be_held_out_there_is_none():
    assert held_out_units(np.array([[1]]), np.array([1]), 0.2, seed=0) is None
    assert held_out_units(np.array([[1, 0], [0, 1]]), np.array([1, 1]), 0.5, seed=0) is None


def test_sets_are_connected_through_any_key():
    assert connected("abcd", [1, 2, 2, 3]) == [[0], [1, 2], [3]]
    assert connected("abca", [1, 2, 2, 2]) == [[0, 1, 2, 3]]
    assert connected([]) == []


def grouped(groups, labels=None, **options):
    texts = tuple(f"text {index}" for index in range(len(groups)))
    labels = np.arange(len(groups)) % 2 if labels is None else labels
    return Examples(texts, labels, ("ham", "spam"), kind="text", groups=tuple(groups), **options)


def test_a_group_stays_on_one_side():
    groups = [f"patient {index // 6}" for index in range(180)]
    rest, held = grouped(groups).split(0.2, seed=0)
    assert not set(rest.groups) & set(held.groups)
    assert len(held) == pytest.approx(36, abs=6)
    assert held.counts()["spam"] == pytest.approx(18, abs=3)


def test_groups_that_share_an_example_stay_together():
    groups = ["a", "a", "b", "b", "c", "c", "d", "d"]
    texts = ("one", "two", "two", "three", "four", "five", "six", "seven")
    examples = Examples(texts, [0, 1] * 4, ("ham", "spam"), kind="text", groups=groups)
    for seed in range(6):
        _, held = examples.split(0.5, seed=seed)
        assert ("a" in held.groups) == ("b" in held.groups)


@pytest.mark.parametrize("groups", [["one"] * 8, ["one", "two"] * 4])
def test_groups_of_which_none_can_be_held_out_are_refused(groups):
    with pytest.raises(DataError, match=r"Expected groups of which some can be held out.*got \d groups"):
        grouped(groups, labels=[0, 1] * 4).split(0.2, seed=0)


def test_a_group_for_each_example_is_needed():
    with pytest.raises(DataError, match="a group for each of 2 examples, got 1"):
        Examples(("a", "b"), [0, 1], ("ham", "spam"), kind="text", groups=("x",))


def test_subsets_and_joined_examples_keep_their_groups():
    examples = grouped(["a", "a", "b", "b"])
    assert examples.subset([3, 0]).groups == ("b", "a")
    assert examples.subset([0]).joined(examples.subset([2])).groups == ("a", "b")
