import json
import sys
import types
from pathlib import Path

import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from text_zoo import FAMILIES, NASTY, PIECES, backbone_of, models, word_piece, write_preset

from ktransfer.data.examples import Examples
from ktransfer.errors import BackboneError, RecipeError, RunError
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.preprocessing import TextPreprocessing


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """`(name, a preset folder, backbone, preprocessing)` of each family, tiny and with random weights."""
    folder = tmp_path_factory.mktemp(request.param)
    backbone, preset = write_preset(request.param, folder)
    return request.param, preset, backbone, load_text_preprocessing(preset, backbone, sequence_length=24)


@pytest.fixture(scope="module")
def bert():
    return TextPreprocessing(
        word_piece(models.BertTokenizer), ("token_ids", "segment_ids", "padding_mask"), 16, longest=64
    )


# Every family.


def test_ids_are_named_and_shaped_as_the_backbone_reads_them(family):
    _, _, backbone, preprocessing = family
    ids = preprocessing(NASTY)
    assert list(ids) == list(backbone.input)
    assert {(array.dtype, array.shape) for array in ids.values()} == {(np.dtype("int32"), (len(NASTY), 24))}
    backbone(ids, training=False)


def test_ids_equal_those_of_keras_hubs_own_preprocessor(family):
    name, preset, _, preprocessing = family
    if name in ("Electra", "GPT2"):
        pytest.skip("keras-hub has no classifier's preprocessor for it")
    theirs = models.TextClassifierPreprocessor.from_preset(preset, sequence_length=24)
    # By their own name padding in a text is padding to keras-hub, which masks by id.
    texts = [text.replace("<pad>", "") for text in NASTY]
    ours, expected = preprocessing.pack(preprocessing.tokenize(texts), 24), theirs(texts)
    assert set(ours) == set(expected)
    for key, array in ours.items():
        np.testing.assert_array_equal(array, expected[key])


@pytest.mark.spread(3)
def test_ids_equal_those_of_the_tokenizer_inside_a_tensorflow_graph(family, tmp_path):
    _, _, _, preprocessing = family
    preprocessing.save(tmp_path / "saved")
    fresh = TextPreprocessing.load(tmp_path / "saved")
    packer = fresh.packer()
    token_ids, mask = tf.function(lambda texts: packer(fresh.tokenizer(texts)))(tf.constant(NASTY))
    ids = preprocessing.pack(preprocessing.tokenize(NASTY), 24)
    np.testing.assert_array_equal(token_ids, ids["token_ids"])
    if "padding_mask" in ids:
        np.testing.assert_array_equal(mask, ids["padding_mask"])


def test_what_was_saved_gives_the_same_ids_and_settings(family, tmp_path):
    _, _, _, preprocessing = family
    for _ in range(2):  # the second time over the first
        preprocessing.save(tmp_path / "run" / "preprocessing")
    loaded = TextPreprocessing.load(tmp_path / "run" / "preprocessing")
    assert loaded.to_dict() == preprocessing.to_dict()
    assert json.loads(json.dumps(loaded.to_dict())) == loaded.to_dict()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["preprocessing"]
    for name, array in preprocessing(NASTY).items():
        np.testing.assert_array_equal(loaded(NASTY)[name], array)


def test_only_a_backbone_that_feels_padding_gets_one_length(family):
    name, _, backbone, preprocessing = family
    fixed = name in ("FNet", "RoformerV2")
    assert preprocessing.fixed_length == fixed
    text = preprocessing.tokenize(["the fox"])
    length = 24 if fixed else preprocessing.padded_length(len(text[0]))
    outputs = []
    for padded in (length, 24):
        output = backbone(preprocessing.pack(text, padded), training=False)
        outputs.append(np.asarray(output["sequence_output"] if isinstance(output, dict) else output)[:, :2])
    np.testing.assert_allclose(*outputs, atol=1e-5)


# What ids are, by hand.


def test_the_old_name_of_the_extra_inputs_warns_and_gives_them(bert, monkeypatch):
    monkeypatch.setattr("ktransfer.utils.deprecation._warned", set())
    examples = Examples(("the fox", "you"), [0, 1], ("a", "b"), kind="text")
    with pytest.warns(DeprecationWarning, match=r"Use TextPreprocessing\.extra_inputs"):
        found = bert.beside(examples, np.array([1]))
    expected = bert.extra_inputs(examples, np.array([1]))
    assert list(found) == list(expected)
    np.testing.assert_array_equal(found["token_ids"], expected["token_ids"])


def test_ids_worked_out_by_hand(bert):
    ids = bert(["The quick fox!", "cafés", ""])
    rows = [[2, 5, 6, 8, 11, 3, 0, 0], [2, 9, 10, 3, 0, 0, 0, 0], [2, 3, 0, 0, 0, 0, 0, 0]]
    assert ids["token_ids"].tolist() == rows
    assert ids["padding_mask"].sum(axis=1).tolist() == [6, 4, 2]
    assert not ids["segment_ids"].any()


def test_a_long_text_is_cut_and_keeps_its_end_token(bert):
    assert bert.with_sequence_length(5)(["the " * 9])["token_ids"].tolist() == [[2, 5, 5, 5, 3]]


def test_gpt2_masks_by_length_as_it_pads_with_the_id_of_a_real_token(tmp_path):
    tokenizer = FAMILIES["GPT2"][0](tmp_path)
    end = tokenizer.end_token_id
    ids = TextPreprocessing(tokenizer, ("token_ids", "padding_mask"), 8)(["!", "a!"])
    assert ids["token_ids"][0].tolist() == [end, 0, end, 0, 0, 0, 0, 0]
    assert ids["padding_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]]


def test_byte_pairs_do_not_reach_from_one_word_into_the_next():
    from tokenizers.pre_tokenizers import ByteLevel

    merges = ["d a", "da y", "' d", "Ġ t"]
    tokens = [*sorted(ByteLevel.alphabet()), "da", "day", "'d", "Ġt", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = models.GPT2Tokenizer(vocabulary=vocabulary, merges=merges)
    preprocessing = TextPreprocessing(tokenizer, ("token_ids", "padding_mask"), 16)
    [ids] = preprocessing.tokenize(["B'day  to"])
    assert [tokens[index] for index in ids[1:-1]] == ["B", "'d", "a", "y", "Ġ", "Ġt", "o"]
    graph = tf.function(lambda texts: tokenizer(texts))(tf.constant(["B'day  to"]))
    assert graph.to_list() == [ids[1:-1].tolist()]
    assert preprocessing.count_tokens(["B'day  to"]).tolist() == [9]


def test_no_text_gives_no_row(bert):
    assert bert([])["token_ids"].shape == (0, 8)


def test_nul_characters_halves_of_surrogates_and_ten_megabytes_are_taken(bert):
    assert bert.tokenize(["the\0fox", "the \ud800 fox"])[0].tolist() == [2, 5, 8, 3]
    assert len(bert.tokenize(["the \ud800 fox"])[0]) == 5
    assert len(bert.tokenize(["the " * 2_500_000])[0]) == 16


@pytest.mark.parametrize(
    ("tokens", "length"),
    [(1, 8), (8, 8), (9, 12), (13, 16), (17, 24), (25, 32), (33, 48), (49, 64), (65, 96), (99, 100)],
)
def test_batches_are_padded_to_powers_of_two_and_the_middles_between(bert, tokens, length):
    preprocessing = TextPreprocessing(bert.tokenizer, bert.inputs, 100)
    assert preprocessing.padded_length(tokens) == length


@pytest.mark.parametrize("length", [2, 65])
def test_a_length_that_cannot_be_is_refused(bert, length):
    with pytest.raises(RecipeError, match=rf"from 3 to the 64 tokens.*got {length}"):
        bert.with_sequence_length(length)


# Loading.


def test_a_tokenizer_with_more_ids_than_the_backbone_is_refused(tmp_path):
    models.BertTokenizer(vocabulary=PIECES).save_to_preset(str(tmp_path))
    backbone = backbone_of("Bert", 10)
    backbone.save_to_preset(str(tmp_path))
    with pytest.raises(BackboneError, match=rf"10 of them, got {len(PIECES)} in BertTokenizer"):
        load_text_preprocessing(str(tmp_path), backbone)


def test_a_preset_without_a_tokenizer_and_an_image_backbone_are_refused(tmp_path):
    backbone = backbone_of("Bert", 10)
    backbone.save_to_preset(str(tmp_path))
    with pytest.raises(BackboneError, match="Expected a tokenizer in the preset"):
        load_text_preprocessing(str(tmp_path), backbone)
    image = models.ViTBackbone((8, 8, 3), 4, 1, 2, 8, 8)
    with pytest.raises(BackboneError, match=r"text backbone with inputs token_ids.*got vi_t"):
        load_text_preprocessing(str(tmp_path), image)


def test_the_length_is_what_the_backbone_takes_until_one_is_chosen(family):
    name, preset, backbone, _ = family
    loaded = load_text_preprocessing(preset, backbone)
    assert loaded.sequence_length == (512 if name == "RoformerV2" else 64)


def hugging_face(folder, **config):
    """A BERT in Hugging Face's layout, without weights."""
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 16}
    limits = {"vocab_size": len(PIECES), "max_position_embeddings": 32, "model_type": "bert"}
    (folder / "config.json").write_text(json.dumps(sizes | limits))
    (folder / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return models.BertBackbone.from_preset(str(folder), load_weights=False)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"do_lower_case": True, "strip_accents": None}, "cafe"),
        ({"do_lower_case": True}, "cafe"),
        ({"do_lower_case": True, "strip_accents": False}, "café"),
        ({"do_lower_case": False}, "café"),
    ],
)
def test_a_hugging_face_folder_loses_accents_where_its_model_did(tmp_path, config, word):
    backbone = hugging_face(tmp_path, **config)
    loaded = load_text_preprocessing(str(tmp_path), backbone)
    assert loaded.tokenize(["café"])[0].tolist() == [2, PIECES.index(word), 3]
    assert loaded.sequence_length == 32


def test_a_hub_handle_is_asked_for_its_accents_as_well(tmp_path, monkeypatch):
    backbone = hugging_face(tmp_path, do_lower_case=True)
    hub = types.SimpleNamespace(hf_hub_download=lambda repo, name: str(tmp_path / name))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    given = []

    def from_preset(name, **options):
        given.append((name, options))
        return models.BertTokenizer(vocabulary=PIECES, **options)

    monkeypatch.setattr(keras_hub.tokenizers.Tokenizer, "from_preset", from_preset)
    load_text_preprocessing("hf://ada/bert", backbone)
    assert given == [("hf://ada/bert", {}), ("hf://ada/bert", {"strip_accents": True})]


@pytest.mark.parametrize("damage", ["missing", "json", "class", "vocabulary"])
def test_a_damaged_folder_is_refused(bert, tmp_path, damage):
    folder = tmp_path / "saved"
    bert.save(folder)
    if damage == "missing":
        folder = tmp_path / "other"
    elif damage == "vocabulary":
        (folder / "vocabulary.txt").unlink()
    else:
        path = folder / "text_preprocessing.json"
        content = path.read_text()
        path.write_text("{" if damage == "json" else content.replace("BertTokenizer", "Tokenizers"))
    with pytest.raises(RunError, match=r"tokenizer that ktransfer saved in .*got "):
        TextPreprocessing.load(folder)


# A real one, where it is.


def test_the_real_minilm_folder_gives_the_ids_of_its_own_tokenizer_file():
    folder = Path(__file__).resolve().parents[3] / "shared" / "backbones" / "minilm_l6_h384_uncased"
    if not folder.is_dir():
        pytest.skip("real data is not here")
    from tokenizers import Tokenizer

    backbone = models.BertBackbone.from_preset(str(folder), load_weights=False)
    loaded = load_text_preprocessing(str(folder), backbone)
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.no_truncation()
    theirs.no_padding()
    texts = ["Go until jurong point, crazy..", "Café, naïve coöperation!", "日本語 テキスト", "", "don't £5"]
    assert [ids.tolist() for ids in loaded.tokenize(texts)] == [e.ids for e in theirs.encode_batch(texts)]
    assert loaded.to_dict()["longest"] == 512
