"""Names of splits, generated from the words, their cases, separators, prefixes and suffixes."""

import itertools

import pytest

from ktransfer.data.split_names import parse_split_name, without_shard

WORDS = {
    "train": ["train", "training", "trainval"],
    "validation": [
        *("val", "valid", "validate", "validation", "dev", "devel", "development", "eval", "evaluation"),
        *("holdout", "hold-out", "held_out"),
    ],
    "test": ["test", "testing"],
}
CASES = [str.lower, str.upper, str.title]
FORMS = [
    "{}",
    "{}_set",
    "{}-set",
    "{} set",
    "{}set",
    "{}_images",
    "{}-data",
    "data.{}",
    "{}2017",
    "{}_1",
    "{}(2)",
]


@pytest.mark.parametrize("split", WORDS)
def test_a_split_is_found_in_any_case_and_form(split):
    for word, case, form in itertools.product(WORDS[split], CASES, FORMS):
        name = form.format(case(word))
        found = parse_split_name(name)
        assert (found.split, found.rest, found.unlabelled) == (split, (), False), name


@pytest.mark.parametrize("split", WORDS)
def test_words_that_are_no_splits_are_kept_apart(split):
    for word, separator in itertools.product(WORDS[split], "_-. "):
        assert parse_split_name(f"seg{separator}{word}").split == split
        assert parse_split_name(f"seg{separator}{word}").rest == ("seg",)
        assert parse_split_name(f"{word}{separator}matched").rest == ("matched",)


def test_camel_case_is_separated():
    for name, split in (("trainSet", "train"), ("TestImages", "test"), ("ValData", "validation")):
        assert parse_split_name(name).split == split
        assert parse_split_name(name).rest == ()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "roses",
            "trainer",
            "treatment",
            "contest",
            "latest",
            "valley",
            "device",
            "evil",
            "retrain",
            "0",
            "",
        ),
        *("train_test", "train-val", "dev_or_test", "バラ", "images", "data", "testament", "medieval"),
    ],
)
def test_other_names_and_names_of_several_splits_name_none(name):
    assert parse_split_name(name).split is None


@pytest.mark.parametrize(
    "name", ["unsup", "unlabeled", "Unlabelled_data", "un-labeled", "seg_pred", "no_labels"]
)
def test_names_that_say_there_are_no_labels_are_marked(name):
    assert parse_split_name(name).unlabelled


def test_labeled_and_unlabeled_training_data_are_told_apart():
    assert parse_split_name("labeledTrainData").unlabelled is False
    assert parse_split_name("unlabeledTrainData").unlabelled is True


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("train-00000-of-00002", "train"),
        ("train-00001-of-00002-0123456789abcdef", "train"),
        ("0003", ""),
        ("train", "train"),
        ("train2017", "train2017"),
        ("fold-1", "fold-1"),
    ],
)
def test_the_number_of_a_shard_is_taken_off(stem, name):
    assert without_shard(stem) == name
