"""Pairs of texts to ids, of every family that the package reads."""

import random

import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from text_zoo import FAMILIES, NASTY, models, write_preset
from tokenizers import Tokenizer

from ktransfer.data.examples import Examples
from ktransfer.data.pairs import Pair
from ktransfer.errors import DataError, RecipeError, RunError
from ktransfer.text.augmentation import TextAugmentation
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.dataset import text_dataset
from ktransfer.text.in_graph_tokenizer import GraphTokenizer
from ktransfer.text.pair_preprocessing import PairPreprocessing, pair_preprocessing
from ktransfer.text.tokenizer_json import write_tokenizer

LENGTH = 24
WORDS = ["the", "quick", "brown", "fox", "you", "café", "cafés", "!"]


def made_pairs(count=60, seed=0):
    """Pairs of 0 to 30 words each, and the texts that trip tokenizers up on either side."""
    drawn = random.Random(seed)
    lengths = [(drawn.randint(0, 30), drawn.randint(0, 30)) for _ in range(count)]
    pairs = [Pair(*(" ".join(drawn.choices(WORDS, k=length)) for length in both)) for both in lengths]
    return [*pairs, *(Pair(text, "the fox") for text in NASTY), *(Pair("you", text) for text in NASTY)]


PAIRS = made_pairs()


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """`(name, a preset folder, preprocessing)` of each family."""
    folder = tmp_path_factory.mktemp(request.param)
    backbone, preset = write_preset(request.param, folder)
    single = load_text_preprocessing(preset, backbone, sequence_length=LENGTH)
    return request.param, preset, pair_preprocessing(single)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    backbone, preset = write_preset("Bert", tmp_path_factory.mktemp("bert"))
    return pair_preprocessing(load_text_preprocessing(preset, backbone, sequence_length=12))


def test_pairs_are_packed_as_keras_hubs_own_classifier_does(family):
    name, preset, preprocessing = family
    if name in ("Electra", "GPT2"):
        pytest.skip("keras-hub has no classifier's preprocessor for it")
    theirs = models.TextClassifierPreprocessor.from_preset(preset, sequence_length=LENGTH)
    theirs.build(None)
    pairs = PAIRS
    if isinstance(preprocessing.tokenizer, keras_hub.tokenizers.BytePairTokenizer):
        pairs = [pair for pair in pairs if "'" not in "".join(pair)]  # see `byte_pair_tokenizer`
    token_ids, segment_ids = theirs.packer(
        tuple(theirs.tokenizer([pair[side] for pair in pairs]) for side in (0, 1))
    )
    ours = preprocessing.pack(preprocessing.tokenize(pairs), LENGTH)
    np.testing.assert_array_equal(ours["token_ids"], token_ids)
    if "segment_ids" in ours:
        np.testing.assert_array_equal(ours["segment_ids"], segment_ids)
    if "padding_mask" in ours:
        lengths = np.minimum(preprocessing.count_tokens(pairs), LENGTH)
        np.testing.assert_array_equal(ours["padding_mask"].sum(axis=1), lengths)


@pytest.mark.parametrize("name", ["Electra", "GPT2"])
def test_families_without_a_classifier_have_their_end_between(name, tmp_path):
    backbone, preset = write_preset(name, tmp_path)
    preprocessing = pair_preprocessing(load_text_preprocessing(preset, backbone, sequence_length=LENGTH))
    end = preprocessing.tokenizer.end_token_id
    [row] = preprocessing.tokenize([Pair("the", "fox")])
    assert row[:, 0].tolist().count(end) == (3 if name == "GPT2" else 2)
    assert row[-1].tolist() == [end, 1]


@pytest.mark.spread(3)
def test_ids_are_those_of_a_tensorflow_graph(family):
    _, _, preprocessing = family
    graph = GraphTokenizer(preprocessing)

    @tf.function(autograph=False)
    def inputs(one, other):
        return graph.inputs(one, other)

    pairs = made_pairs(12, seed=1)[:12]  # SentencePiece may tie on the others
    in_graph = inputs(*(tf.constant([pair[side].encode() for pair in pairs]) for side in (0, 1)))
    rows = preprocessing.tokenize(pairs)
    length = LENGTH if preprocessing.fixed_length else max(map(len, rows))
    for name, expected in preprocessing.pack(rows, length).items():
        np.testing.assert_array_equal(in_graph[name], expected, name)


def test_the_longer_text_is_cut_first(family):
    _, _, preprocessing = family
    [row] = preprocessing.tokenize([Pair("the fox " * 30, "you")])
    [alone] = preprocessing.tokenize([Pair("", "you")])
    assert len(row) == LENGTH
    special = len(preprocessing.start) + len(preprocessing.separator)
    assert row[row[:, 1] == 1].tolist() == alone[special:].tolist()


@pytest.mark.spread(4)
def test_a_saved_preprocessing_packs_the_same(family, tmp_path):
    _, _, preprocessing = family
    preprocessing.save(tmp_path / "tokenizer")
    loaded = PairPreprocessing.load(tmp_path / "tokenizer")
    assert loaded.to_dict() == preprocessing.to_dict()
    for one, other in zip(loaded.tokenize(PAIRS), preprocessing.tokenize(PAIRS), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.spread(4)
def test_the_tokenizer_file_packs_both_texts_as_training(family, tmp_path):
    _, _, preprocessing = family
    found = write_tokenizer(preprocessing.as_tokenizer(), tmp_path, pair=preprocessing.to_dict()["pair"])
    assert found["pair"]["separator"] == list(preprocessing.separator)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.no_padding()
    pair = Pair("the fox", "you!")
    encoding = tokenizer.encode(*pair)
    [row] = preprocessing.tokenize([pair])
    assert [encoding.ids, encoding.type_ids] == row.T.tolist()


def test_ids_worked_out_by_hand(bert):
    # [CLS] the fox [SEP] you [SEP]
    given = bert([Pair("the fox", "you")])
    assert given["token_ids"].tolist() == [[2, 5, 8, 3, 12, 3, 0, 0]]
    assert given["segment_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 0, 0]]
    assert given["padding_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0]]
    assert bert.count_tokens([Pair("the fox", "you"), Pair("", "")]).tolist() == [6, 3]
    # Of 9 tokens that there is room for the first text has 5.
    [row] = bert.tokenize([Pair("the " * 20, "fox " * 20)])
    assert row[:, 0].tolist() == [2, *[5] * 5, 3, *[8] * 4, 3]


def test_short_pairs_come_first_in_order(bert):
    assert bert.order([Pair("a" * 9, "a"), Pair("a", "a"), Pair("", "a" * 5)]).tolist() == [1, 2, 0]


def test_a_length_without_room_for_both_is_refused(bert):
    with pytest.raises(RecipeError, match="at least 5 for pairs of texts, got 4"):
        bert.with_sequence_length(4)


@pytest.mark.parametrize("given", [["one"], [Pair("a", "b"), "one"]])
def test_a_single_text_among_pairs_is_refused(bert, given):
    with pytest.raises(DataError, match="Expected pairs of texts, got one text, 'one'"):
        bert(given)


def test_a_pair_among_single_texts_is_refused(bert):
    with pytest.raises(DataError, match="Expected single texts, got a pair"):
        bert.as_tokenizer()([Pair("a", "b")])


@pytest.mark.parametrize(
    ("field", "value"), [("separator", []), ("start", ["2"]), ("end", [True]), ("truncate", "waterfall")]
)
def test_damaged_special_tokens_are_refused(bert, tmp_path, field, value):
    import json

    bert.save(tmp_path / "tokenizer")
    path = tmp_path / "tokenizer" / "text_preprocessing.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["pair"][field] = value
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(RunError, match="tokenizer"):
        PairPreprocessing.load(tmp_path / "tokenizer")


def test_batches_of_pairs_have_segments_of_both_and_vary_both(bert):
    pairs = tuple(("the fox " * 2, "you " * (1 + index % 3)) for index in range(12))
    examples = Examples(pairs, np.arange(12) % 2, ("no", "yes"), kind="text")
    plain = text_dataset(examples, preprocessing=bert, batch_size=4, training=True)
    assert sorted(len(labels) for _, labels in plain) == [4, 4, 4]
    assert all(inputs["segment_ids"].numpy().max() == 1 for inputs, _ in plain)
    varied = text_dataset(
        examples,
        preprocessing=bert,
        batch_size=12,
        training=True,
        augmentation=TextAugmentation(typos=1.0),
    )
    [(inputs, _)] = list(varied)
    unknown = inputs["token_ids"].numpy() == 1
    segments = inputs["segment_ids"].numpy()
    assert unknown[segments == 0].any()
    assert unknown[segments == 1].any()
