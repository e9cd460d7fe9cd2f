import numpy as np
import pytest

from ktransfer.audit.findings import Item
from ktransfer.audit.label_errors import label_findings, out_of_fold_probabilities, outliers, suspects
from ktransfer.data.examples import Examples


def clusters(per_class=30, classes=3, dimensions=20, seed=0):
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    centres = 4 * random.standard_normal((classes, dimensions))
    return centres[labels] + random.standard_normal((len(labels), dimensions)), labels


def test_suspects_are_those_another_class_is_twice_as_likely_for_the_worst_first():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.95, 0.05]])
    # 0.7 / 0.3 is 2.33, 0.95 / 0.05 is 19, 0.6 / 0.4 is 1.5.
    assert suspects(probabilities, np.array([0, 1, 0, 1])) == [
        (3, pytest.approx(np.log(19), abs=1e-3)),
        (2, pytest.approx(np.log(7 / 3), abs=1e-3)),
    ]


def test_wrong_labels_among_clusters_are_the_suspects_and_say_what_they_look_like():
    features, labels = clusters()
    labels[[3, 40]] = 2, 0
    items = [Item("train", "abc"[label], f"{n}.jpg", f"{n}.jpg") for n, label in enumerate(labels)]
    found = [f for f in label_findings(items, features, np.arange(90)) if f.kind == "suspect_label"]
    assert {finding.items[0].key for finding in found} == {"3.jpg", "40.jpg"}
    assert {finding.detail.split(",")[1].split(" (")[0] for finding in found} == {
        " looks like a",
        " looks like b",
    }


def test_a_wrong_label_is_not_vouched_for_by_its_copies():
    features, labels = clusters(per_class=12)
    features = np.concatenate([features, np.repeat(features[:1], 8, axis=0)])
    labels = np.concatenate([labels, np.ones(8, int)])
    labels[0] = 1
    copies = np.r_[0, 36:44]
    groups = np.arange(44)
    groups[copies] = 0
    together = out_of_fold_probabilities(features, labels, groups)
    apart = out_of_fold_probabilities(features, labels, np.arange(44))
    assert (together[copies, 1] < 0.2).all()
    assert (apart[copies, 1] > 0.5).any()


def test_a_class_of_one_example_is_judged_by_nobody():
    features, labels = clusters(per_class=4)
    assert out_of_fold_probabilities(features[:9], labels[:9], np.arange(9)) is None


def test_an_example_far_from_all_others_is_an_outlier():
    features, _ = clusters(per_class=40)
    features[7] = 30 * np.random.default_rng(3).standard_normal(20)
    assert [index for index, _ in outliers(features)] == [7]


def test_a_target_far_from_that_of_similar_examples_is_suspect():
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 8))
    targets = 100 + 10 * features[:, 0] + random.normal(size=200)
    targets[17] += 200
    inputs = tuple(f"text {index}" for index in range(200))
    examples = Examples(inputs, targets, ("price",), kind="text", task="regression")
    items = [Item("train", name, text, text) for name, text in zip(examples.label_names, inputs, strict=True)]
    found = [
        finding
        for finding in label_findings(items, features, np.arange(200), examples=examples)
        if finding.kind == "suspect_label"
    ]
    assert found[0].items[0].input == "text 17"
    assert len(found) < 4
