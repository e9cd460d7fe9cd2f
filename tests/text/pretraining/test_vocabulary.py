import keras
import numpy as np
import pytest
import text_zoo
from text_zoo import write_preset

from ktransfer.commands.pretrain import pretrain
from ktransfer.errors import BackboneError, RecipeError
from ktransfer.text.backbones import load_text_backbone, load_text_preprocessing
from ktransfer.text.pretraining.vocabulary import add_tokens, choose_tokens

# "foxs" and "yous" are cut in two by the vocabulary, "quick" is whole.
TEXTS = ["the Foxs"] * 9 + ["yous quick"] * 6 + ["cafés"] * 2


@pytest.fixture
def tokenizer():
    return text_zoo.word_piece(text_zoo.models.BertTokenizer)


def test_words_that_are_cut_are_chosen_by_their_number_of_texts(tokenizer):
    assert choose_tokens(TEXTS, tokenizer, 10) == ["foxs", "yous"]
    assert choose_tokens(TEXTS, tokenizer, 1) == ["foxs"]
    assert choose_tokens(["日本日本"] * 9, tokenizer, 5) == []


def test_new_tokens_begin_as_the_mean_of_their_pieces(tokenizer):
    backbone = text_zoo.backbone_of("Bert", tokenizer.vocabulary_size())
    before = keras.ops.convert_to_numpy(backbone.token_embedding.embeddings)
    larger, extended = add_tokens(backbone, tokenizer, ["foxs"])
    after = keras.ops.convert_to_numpy(larger.token_embedding.embeddings)
    assert np.array_equal(after[: len(before)], before)
    fox, s = tokenizer.token_to_id("fox"), tokenizer.token_to_id("##s")
    np.testing.assert_allclose(after[len(before)], (before[fox] + before[s]) / 2, rtol=1e-6)
    assert np.asarray(extended(["the foxs"])[0]).tolist() == [5, len(before)]
    inputs = {key: np.ones((1, 4), "int32") for key in backbone.input}
    old, new = (model(inputs)["sequence_output"] for model in (backbone, larger))
    assert np.array_equal(old, new)


@pytest.mark.parametrize("count", [0, -1, 100_001])
def test_numbers_of_tokens_that_cannot_be_are_refused(tokenizer, count):
    with pytest.raises(RecipeError, match="tokens to add"):
        choose_tokens(TEXTS, tokenizer, count)


def test_other_tokenizers_are_refused():
    with pytest.raises(BackboneError, match="Expected a WordPiece tokenizer"):
        choose_tokens(TEXTS, text_zoo.byte_pair(text_zoo.models.GPT2Tokenizer, after=["<|endoftext|>"]), 5)


@pytest.mark.slow
def test_pretraining_saves_the_new_tokens(tmp_path):
    preset = write_preset("Bert", tmp_path)[1]
    path, lines = tmp_path / "texts.txt", []
    path.write_text("".join(f"the foxs {'!' * index}\n" for index in range(30)))
    pretrain(path, preset, tmp_path / "out", add_tokens=3, epochs=1, verbose=0, say=lines.append)
    assert "tokens     1 added of 3, as many as are in five texts and are cut, such as foxs" in lines
    backbone = load_text_backbone(str(tmp_path / "out"))
    preprocessing = load_text_preprocessing(str(tmp_path / "out"), backbone)
    assert preprocessing.tokenizer.get_vocabulary()[-1] == "foxs"
    assert preprocessing.tokenize(["foxs"])[0].tolist() == [2, 14, 3]
