"""What an audit says of pairs of texts."""

import json

import numpy as np

from ktransfer.audit.audit_splits import audit_splits
from ktransfer.audit.html_page import write_page
from ktransfer.data.examples import Examples, Splits

CLEAN = [(f"premise number {index}", f"another claim {3 * index}") for index in range(20)]


def audited(extra=(), validation=(), near=False):
    """Clean pairs of two classes with some more, `(first, second, label)`."""

    def examples(pairs):
        inputs, labels = zip(*(((one, other), label) for one, other, label in pairs), strict=True)
        return Examples(inputs, np.array(labels), ("no", "yes"), kind="text")

    train = [(one, other, index % 2) for index, (one, other) in enumerate(CLEAN)]
    held_out = [(f"validated {index}", f"held out {5 * index}", index % 2) for index in range(4)]
    splits = Splits(examples([*train, *extra]), examples([*held_out, *validation]))
    return audit_splits(splits, near=near)


def kinds(found):
    return [finding.kind for finding in found.findings]


def test_different_pairs_have_nothing_wrong_with_them():
    assert kinds(audited()) == []


def test_mirrored_pairs_with_another_label_are_told_from_contradictions():
    one, other = CLEAN[0]
    mirrored = audited([(other, one, 1)])
    assert kinds(mirrored) == ["duplicate", "mirrored"]
    assert "labelled no, yes" in mirrored.of("mirrored")[0].detail
    assert kinds(audited([(one.upper(), other, 1)])) == ["contradiction", "duplicate"]
    assert kinds(audited([(other, one, 1), (one, other, 1)])) == ["contradiction", "duplicate"]
    assert kinds(audited([(other, one, 0)])) == ["duplicate"]


def test_a_pair_of_training_in_validation_is_a_leak_in_either_order():
    one, other = CLEAN[0]
    for pair in ((one, other), (other, one)):
        found = audited(validation=[(*pair, 0)])
        assert kinds(found) == ["leak"]
        assert found.is_severe


def test_sides_that_are_the_same_or_empty_are_named():
    found = audited([("the same", "The  same", 1), ("something", " ", 0)])
    assert kinds(found) == ["empty_side", "same_sides"]
    assert found.of("same_sides")[0].detail.endswith("labelled yes 1 times")
    assert [finding.severity for finding in found.findings] == ["warning", "note"]


def test_pairs_are_written_with_both_texts(tmp_path):
    one, other = CLEAN[0]
    found = audited(validation=[(other, one, 0)])
    [finding] = json.loads(json.dumps(found.to_dict()))["findings"]
    assert [item["text"] for item in finding["items"]] == [[one, other], [other, one]]
    write_page(found, tmp_path / "audit.html", title="pairs.csv")
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert page.count(f"<blockquote>{one}</blockquote>") == 2
