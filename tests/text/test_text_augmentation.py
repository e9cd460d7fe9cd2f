import dataclasses

import numpy as np
import pytest

from ktransfer.errors import RecipeError
from ktransfer.image.augmentation import Augmentation
from ktransfer.text.augmentation import TextAugmentation, augment_text

WORDS = [f"{letter}{letter}{letter}" for letter in "abcdefghijklmnopqrst"]
TEXT = " ".join(WORDS)


def varied(text=TEXT, seed=0, **values):
    return augment_text(text, np.random.default_rng(seed), TextAugmentation(**values))


def edits(one, other):
    """Insertions, deletions, substitutions and transpositions of neighbours between two words."""
    table = np.add.outer(np.arange(len(one) + 1), np.arange(len(other) + 1))
    for i, x in enumerate(one, start=1):
        for j, y in enumerate(other, start=1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (x != y))
            if i > 1 and j > 1 and x == other[j - 2] and y == one[i - 2]:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return table[-1, -1]


@pytest.mark.parametrize("values", [{"swap": -0.1}, {"deletion": 1.1}, {"typos": float("nan")}])
def test_a_share_outside_0_to_1_is_refused_and_named(values):
    with pytest.raises(RecipeError, match=f"Expected {next(iter(values))}.*got "):
        TextAugmentation(**values)


def test_it_survives_json_and_unknown_keys_are_named():
    augmentation = TextAugmentation(swap=0.1, typos=0.2)
    assert TextAugmentation.from_dict(augmentation.to_dict()) == augmentation
    with pytest.raises(RecipeError, match=r"swap, deletion, typos.*'synonyms'"):
        TextAugmentation.from_dict({"synonyms": 0.1})


def test_by_default_nothing_changes_not_even_the_white_space():
    assert not TextAugmentation().is_on
    assert TextAugmentation(swap=0.1).is_on
    assert varied("  two\n spaces ") == "  two\n spaces "


def test_labels_stay_whole():
    assert not TextAugmentation(swap=1.0, deletion=1.0, typos=1.0).mixes_labels


@pytest.mark.parametrize(
    "change",
    [{}, {"flip": True}, {"crop": (0.9, 1)}, {"rotation": 1}, {"contrast": 0.1}, {"mixup": 0.2}],
)
def test_an_augmentation_of_images_is_on_when_anything_varies(change):
    augmentation = dataclasses.replace(Augmentation.none(), **change)
    assert augmentation.is_on == bool(change)


def test_swaps_keep_the_words_and_move_the_stated_share_of_them():
    moved = []
    for seed in range(200):
        words = varied(seed=seed, swap=0.2).split()
        assert sorted(words) == WORDS
        moved.append(sum(x != y for x, y in zip(words, WORDS, strict=True)))
    # Two swaps of two words each; now and then both meet the same word.
    assert set(moved) <= {0, 3, 4}
    assert 3.7 < np.mean(moved) <= 4


def test_deletion_leaves_out_the_stated_share_and_keeps_the_order():
    kept = []
    for seed in range(300):
        words = varied(seed=seed, deletion=0.25).split()
        assert words == [word for word in WORDS if word in words]
        kept.append(len(words))
    assert 14.5 < np.mean(kept) < 15.5


def test_deletion_never_leaves_nothing():
    assert {len(varied("one two three", seed=seed, deletion=1.0).split()) for seed in range(20)} == {1}


def test_typos_change_the_stated_share_of_words_by_one_slip_each():
    slips = []
    for seed in range(200):
        words = varied(seed=seed, typos=0.1).split()
        distances = [edits(x, y) for x, y in zip(words, WORDS, strict=True)]
        assert max(distances) <= 1
        slips.append(sum(distances))
    # Two words each; letters in the wrong order change nothing in "aaa".
    assert 1.2 < np.mean(slips) < 2


def test_a_wrong_key_is_one_that_touches_the_right_one_and_keeps_its_case():
    assert {varied("g", seed=seed, typos=1.0) for seed in range(300)} - {"g"} == (
        set("fhtyvb") | {f"g{key}" for key in "fhtyvb"}
    )
    assert {varied("P", seed=seed, typos=1.0) for seed in range(300)} == {"O", "L", "PO", "PL"}


def test_slips_of_two_letters_are_the_four_kinds():
    found = {varied("ab", seed=seed, typos=1.0) for seed in range(500)}
    assert {"ba", "a", "b", "sb", "av"} <= found
    assert all(edits("ab", word) == 1 for word in found)


def test_a_short_text_gets_its_share_over_many_draws():
    changed = sum(varied("hello you", seed=seed, typos=0.1) != "hello you" for seed in range(1000))
    assert 140 < changed < 240


@pytest.mark.parametrize("text", ["", "  ", "日本語のテキスト", "👩‍👩‍👧‍👦", "123 !?"])
def test_texts_without_latin_words_are_left_alone(text):
    assert varied(text, swap=0.0, deletion=0.0, typos=1.0).split() == text.split()
    assert varied(text, deletion=1.0, swap=1.0) != "" or not text.strip()


def test_one_seed_gives_one_result_and_another_seed_another():
    values = {"swap": 0.2, "deletion": 0.2, "typos": 0.2}
    assert varied(seed=5, **values) == varied(seed=5, **values)
    assert len({varied(seed=seed, **values) for seed in range(10)}) == 10
