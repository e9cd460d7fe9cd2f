"""Ids of MediaPipe's tokenizer by hand, and which runs it cannot make ids for."""

import dataclasses

import keras_hub
import pytest
import tensorflow as tf
from text_zoo import FAMILIES

from ktransfer.errors import RecipeError
from ktransfer.text.client_tokenizer import (
    MOST_PIECES,
    ClientTokenizer,
    not_for_client,
    read_as,
    word_pieces,
)
from ktransfer.text.in_graph_tokenizer import GraphTokenizer
from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.text.tokenizer_json import write_tokenizer
from ktransfer.text.tokenizer_texts import NASTY_TEXTS

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "fox", "##es", "!", "cafe", "日", "é", "##é", "x"]
INPUTS = ("token_ids", "segment_ids", "padding_mask")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("The FOXES!", [4, 5, 6, 7]),
        ("café", [1]),  # keeps accents: "caf" is no piece
        ("foxé É é", [5, 11, 1, 10]),  # folds ASCII letters only
        ("日日fox", [9, 9, 5]),
        ("the\u00a0fox the\x07fox", [1, 1]),  # neither breaks a word
        ("the\tfox\nthe", [4, 5, 4]),
        ("x" + "é" * 49 + " " + "x" + "é" * 50, [12, *[11] * 49, 1]),  # 99 and 101 bytes
        ("[CLS]", [1, 1, 1]),
    ],
)
def test_ids_are_those_worked_out_by_hand(text, expected):
    assert ClientTokenizer(PIECES).ids(text, 64) == [2, *expected, 3]


def test_a_text_is_cut_to_the_length_with_both_ends():
    assert ClientTokenizer(PIECES).ids("the fox the fox", 4) == [2, 4, 5, 3]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_taken_or_refused_by_its_tokenizer_and_inputs(family, tmp_path):
    tokenizer = FAMILIES[family][0](tmp_path)
    inputs = INPUTS if family in ("Bert", "Electra") else INPUTS[::2]
    reason = not_for_client(TextPreprocessing(tokenizer, inputs, 16), rows_an_example=True)
    if family in ("Bert", "Electra"):
        assert reason == ""
    elif word_pieces(tokenizer):
        assert reason.startswith("a model of the inputs token_ids, padding_mask, where it gives")
    else:
        assert reason.startswith(f"the tokenizer {type(tokenizer).__name__}; ")


def bert(pieces=PIECES, **options):
    tokenizer = keras_hub.tokenizers.BertTokenizer(
        vocabulary=[*pieces, "[MASK]"], **{"lowercase": True, **options}
    )
    return TextPreprocessing(tokenizer, INPUTS, 16)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"lowercase": False}, "of a cased model"),
        ({"pieces": [*PIECES[1:4], *PIECES[:1], *PIECES[4:]]}, "special tokens other than"),
        ({"pieces": [*PIECES, *map(str, range(MOST_PIECES))]}, "over the 100,000 for a phone"),
        ({"pieces": [*PIECES, "a\nb"]}, "of several lines"),
    ],
)
def test_a_vocabulary_that_it_would_read_otherwise_is_refused(given, reason):
    assert reason in not_for_client(bert(**given), rows_an_example=True)
    assert not_for_client(bert(), rows_an_example=True) == ""


def test_answers_for_tokens_are_refused():
    assert not_for_client(bert()).startswith("an answer for each token")


def test_another_length_changes_nothing():
    assert not_for_client(dataclasses.replace(bert(), sequence_length=8), rows_an_example=True) == ""


# Runs that make the client's ids themselves.


@pytest.fixture(scope="module")
def of_client():
    letters = sorted({one for text in NASTY_TEXTS for one in text if one.isprintable() and not one.isspace()})
    letters = [one for one in letters if one.isascii() and not one.isupper()] + ["é", "É", "ß", "日", "漢"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{one}" for one in letters if one.isalnum())]
    return read_as("mediapipe", dataclasses.replace(bert(list(dict.fromkeys(pieces))), sequence_length=64))


def test_a_run_of_the_client_makes_its_ids(of_client):
    tokenizer = ClientTokenizer(word_pieces(of_client.tokenizer))
    texts = [text.replace("\0", " ") for text in NASTY_TEXTS]
    expected = [tokenizer.ids(text, 64) for text in texts]
    assert [ids.tolist() for ids in of_client.tokenize(texts)] == expected
    assert len({*map(tuple, expected)}) > 40  # not all unknown
    assert not_for_client(of_client, rows_an_example=True) == ""


def test_it_is_saved_with_the_run_and_in_every_file(of_client, tmp_path):
    assert of_client.to_dict()["client"] == "mediapipe"
    of_client.save(tmp_path / "tokenizer")
    loaded = TextPreprocessing.load(tmp_path / "tokenizer")
    assert loaded.to_dict() == of_client.to_dict()
    write_tokenizer(loaded, tmp_path)  # proves it on the nasty texts
    texts = [text.encode("utf-8", "replace").decode() for text in NASTY_TEXTS]
    in_graph = GraphTokenizer(of_client).inputs(tf.constant(texts))["token_ids"].numpy()
    for text, row, ids in zip(texts, in_graph, of_client.tokenize(texts), strict=True):
        assert row[: len(ids)].tolist() == ids.tolist(), repr(text)


def test_a_run_with_an_unknown_client_is_not_loaded(of_client, tmp_path):
    with pytest.raises(ValueError, match="as client"):
        TextPreprocessing._saved_fields({"client": "other"})


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({"lowercase": False}, {}, "of a cased model"),
        ({}, {"pairs": True}, "got pairs of texts"),
        ({}, {"rows_an_example": False}, "got an answer for each token"),
        ({"pieces": [*PIECES, "a\u200db"]}, {}, "got pieces with control characters"),
    ],
)
def test_what_the_client_cannot_read_is_refused_before_training(given, options, message):
    with pytest.raises(RecipeError, match=message):
        read_as("mediapipe", bert(**given), **options)
