import pytest
from text_zoo import models, word_piece

from ktransfer.errors import DataError
from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.text.sequence_length import choose_sequence_length


@pytest.fixture(scope="module")
def bert():
    return TextPreprocessing(
        word_piece(models.BertTokenizer), ("token_ids", "segment_ids", "padding_mask"), 16, longest=64
    )


def test_the_chosen_length_is_the_95th_percentile_rounded_up_to_8(bert):
    texts = ["the " * count for count in range(1, 101)]  # 3 to 102 tokens
    choice = choose_sequence_length(TextPreprocessing(bert.tokenizer, bert.inputs, 5), texts)
    assert (choice.median, choice.percentile_95, choice.longest) == (53, 98, 102)
    assert (choice.sequence_length, choice.share_cut) == (104, 0.0)
    assert choose_sequence_length(bert, texts).sequence_length == 64
    capped = choose_sequence_length(bert, texts, most=32)
    assert (capped.sequence_length, capped.share_cut) == (32, 0.7)


def test_a_length_needs_a_text(bert):
    with pytest.raises(DataError, match="at least one text"):
        choose_sequence_length(bert, [])
