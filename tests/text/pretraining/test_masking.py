from types import SimpleNamespace

import numpy as np
import pytest
import text_zoo

from ktransfer.errors import BackboneError
from ktransfer.text.pretraining.masking import WordMasking

# Of the pieces 5 to 13 "##s" continues a word.
CLS, SEP, MASK, FOX, S = 2, 3, 4, 8, 10


@pytest.fixture(scope="module")
def masking():
    return WordMasking(text_zoo.word_piece(text_zoo.models.BertTokenizer))


def words_of(ids):
    """Positions of each word, worked out by hand for WordPiece."""
    words = []
    for place in range(1, len(ids) - 1):
        if ids[place] == S and words:
            words[-1].append(place)
        else:
            words.append([place])
    return words


def test_words_are_hidden_whole_about_15_of_100(masking):
    draw = np.random.default_rng(0)
    hidden = tokens = 0
    kinds = {"mask": 0, "same": 0, "other": 0}
    for _ in range(600):
        inner = draw.choice([5, 6, 7, FOX, S, 9], draw.integers(1, 60))
        ids = np.array([CLS, *inner, SEP], np.int32)
        masked, chosen = masking.mask(ids, draw)
        taken = set(chosen.tolist())
        assert taken
        for word in words_of(ids):
            assert taken.issuperset(word) or taken.isdisjoint(word)
        outside = np.setdiff1d(np.arange(len(ids)), chosen)
        assert np.array_equal(masked[outside], ids[outside])
        hidden, tokens = hidden + len(chosen), tokens + len(inner)
        for before, after in zip(ids[chosen], masked[chosen], strict=True):
            kinds["mask" if after == MASK else "same" if after == before else "other"] += 1
    assert 0.12 < hidden / tokens < 0.20  # at least one word of a short text
    assert 0.75 < kinds["mask"] / hidden < 0.85
    assert 0.06 < kinds["other"] / hidden < 0.13
    assert kinds["same"] > 0


def test_random_tokens_are_no_special_ones(masking):
    assert set(masking.ordinary.tolist()) == set(range(5, 14)) | {1}


def test_masks_follow_from_the_random_state(masking):
    ids = np.array([CLS, *[FOX] * 40, SEP])
    first, second, other = (masking.mask(ids, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[1], other[1])


def test_pieces_of_bytes_begin_words_where_they_say_it():
    masking = WordMasking(text_zoo.byte_pair(text_zoo.models.RobertaTokenizer, text_zoo.ROBERTA))
    tokenizer = masking.tokenizer
    assert masking.begins[tokenizer.token_to_id("Ġthe")]
    assert not masking.begins[tokenizer.token_to_id("the")]


def test_a_tokenizer_without_a_mask_token_is_refused():
    with pytest.raises(BackboneError, match="mask token"):
        WordMasking(SimpleNamespace())
