"""Words of texts to tokens and back: exact for every kind of tokenizer, windows of long texts, targets of tokens."""

import itertools

import numpy as np
import pytest
from text_zoo import FAMILIES, NASTY, backbone_of

from ktransfer.core.task import get_task
from ktransfer.data.entities.words import words_of
from ktransfer.data.examples import Examples
from ktransfer.tasks.token_classification import TASK, tags_of
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.text.token_preprocessing import TokenPreprocessing, WindowMerger, preprocessing_of
from ktransfer.text.tokenizer_json import load_tokenizer, write_tokenizer
from ktransfer.text.tokenizer_texts import NASTY_TEXTS

# One for each kind of tokenizer; XLM-RoBERTa moves ids, GPT-2 has no start of its own.
KINDS = ("Bert", "Roberta", "GPT2", "XLMRoberta", "Albert")
TEXTS = (*NASTY_TEXTS, *NASTY)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """`(model, preprocessing)` of a kind, made once."""
    made = {}

    def find(kind, sequence_length=64):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            tokenizer = FAMILIES[kind][0](folder)
            backbone = backbone_of(kind, tokenizer.vocabulary_size())
            inputs = tuple(backbone.input)
            plain = TextPreprocessing(tokenizer, inputs, 64, longest=64)
            made[kind] = backbone, plain
        backbone, plain = made[kind]
        found = preprocessing_of(TASK, plain).with_sequence_length(sequence_length)
        return build_text_classifier(backbone, 5, found, per_token=True), found

    return find


def spans_in(text, seed):
    """Entities that begin and end with words, some next to each other."""
    random, words = np.random.default_rng(seed), words_of(text)
    found, at = [], 0
    while at < len(words):
        last = min(at + int(random.integers(0, 3)), len(words) - 1)
        if random.random() < 0.6:
            found.append((words[at][0], words[last][1], int(random.integers(2))))
        at = last + 1
    return tuple(found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_span_that_goes_in_comes_out_with_the_same_characters(zoo, kind):
    """By way of targets of tokens, in windows, for every nasty text and each of its words."""
    _, preprocessing = zoo(kind)
    texts = [text for text in TEXTS if text.strip()]
    labels = [spans_in(text, seed) for seed, text in enumerate(texts)]
    examples = Examples(tuple(texts), labels, ("LOC", "PER"), kind="text", task="ner")
    pieces = preprocessing.pieces(examples)
    targets = preprocessing.targets(pieces)
    assert sum(map(len, pieces.labels)) == sum(map(len, labels))
    found = iter(range(len(pieces)))
    for text, spans, tokenized in zip(texts, labels, preprocessing.tokenized(texts), strict=True):
        tags = []
        while len(tags) < len(tokenized.words):
            index = next(found)
            [rows] = preprocessing.rows(targets[index][None], pieces, [index])
            assert (rows.sum(axis=1) == 1).all()  # every word has a token of its own
            tags += rows.argmax(axis=1).tolist()
        assert tags == tags_of(spans, tokenized.words).tolist()
        answers = np.empty(1, object)
        answers[0] = type("Answers", (), {"words": tokenized.words, "probabilities": np.eye(5)[tags]})
        assert TASK.decide(answers)[0] == spans
        assert [text[s:e] for s, e, _ in TASK.decide(answers)[0]] == [text[s:e] for s, e, _ in spans]


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_has_tokens_and_they_are_its_own_wherever_it_stands(zoo, kind):
    _, preprocessing = zoo(kind)
    for text, each in zip(TEXTS, preprocessing.tokenized(TEXTS), strict=True):
        assert all(1 <= len(ids) <= 32 for ids in each.ids)
        for (start, end), ids in zip(each.words, each.ids, strict=True):
            [alone] = preprocessing.tokenized([text[start:end]])
            assert np.concatenate(alone.ids).tolist() == ids.tolist()


def test_word_pieces_are_those_of_the_text_as_a_whole(minilm):
    """For BERT's tokenizer nothing changes by going word by word."""
    from ktransfer.text.backbones import load_text_backbone

    name = str(minilm)
    plain = load_text_preprocessing(name, load_text_backbone(name, load_weights=False), sequence_length=512)
    text = "U.N. official Ekeus's heading for Baghdad, on 24/12 (naïve?) in O'Hare: http://t.co/Ab1"
    [ids] = plain.tokenize([text])
    assert preprocessing_of(TASK, plain).tokenize([text])[0].tolist() == ids.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_json_gives_the_ids_of_words(zoo, kind, tmp_path):
    _, preprocessing = zoo(kind)
    words = preprocessing.encoded(TEXTS)
    facts = write_tokenizer(preprocessing.as_tokenizer(), tmp_path, texts=words)
    assert facts["tied_texts"] == 0
    tokenizer, [nothing] = load_tokenizer(tmp_path / "tokenizer.json"), preprocessing.tokenized(["?"])
    tokenizer.no_truncation()
    for text, each in zip(TEXTS, preprocessing.tokenized(TEXTS), strict=True):
        for (start, end), ids in zip(each.words, each.ids, strict=True):
            word = (preprocessing.word_prefix + text[start:end]).encode("utf-8", "replace").decode()
            encoded = tokenizer.encode(word, add_special_tokens=False).ids or nothing.ids[0].tolist()
            assert encoded[:32] == ids.tolist()


# Windows.


def long_text(words=200):
    return " ".join(f"the fox{'' if index % 3 else 's'}" for index in range(words // 2))


def test_windows_cover_every_word_and_overlap_by_half(zoo):
    _, preprocessing = zoo("Bert", 16)
    [tokenized] = preprocessing.tokenized([long_text()])
    windows = preprocessing.windows(tokenized)
    assert windows[0][0] == 0
    assert windows[-1][1] == len(tokenized.words)
    lengths = np.array([len(ids) for ids in tokenized.ids])
    for (first, last), (then, _) in itertools.pairwise(windows):
        assert first < then < last
        assert lengths[first:last].sum() <= 14
        assert 4 <= lengths[then:last].sum() <= 8
    assert preprocessing.windows(preprocessing.tokenized([""])[0]) == [(0, 0)]


def test_a_word_is_answered_by_the_window_with_more_context(zoo):
    _, preprocessing = zoo("Bert", 12)
    [tokenized] = preprocessing.tokenized(["a b c d e f g h i j k l m n o"])
    merger = WindowMerger(tokenized, 1)
    windows = preprocessing.windows(tokenized)
    assert windows == [(0, 10), (5, 15)]
    for number, (first, last) in enumerate(windows):
        merger.add(first, last, np.full((last - first, 1), number, "float32"))
    # The text begins and ends where it does: the first words lack nothing on their left.
    assert merger.probabilities[:, 0].tolist() == [0] * 8 + [1] * 7


def test_a_long_text_is_answered_as_a_whole(zoo):
    model, preprocessing = zoo("Bert", 16)
    texts = [long_text(60), "the fox", ""]
    found = preprocessing.probabilities(model, texts, 5, TASK, batch_size=3)
    for text, each in zip(texts, found, strict=True):
        assert each.words == words_of(text)
        assert each.probabilities.shape == (len(each.words), 5)
        np.testing.assert_allclose(each.probabilities.sum(axis=1), 1, atol=1e-5)
    [short] = preprocessing.probabilities(model, ["the fox"], 5, TASK)
    np.testing.assert_allclose(found[1].probabilities, short.probabilities, atol=1e-5)


def test_no_word_of_a_long_text_is_lost_in_training(zoo):
    _, preprocessing = zoo("Bert", 16)
    text = long_text(80)
    words = words_of(text)
    spans = tuple((words[at][0], words[at + 2][1], at % 2) for at in range(0, 76, 7))
    examples = Examples((text, "the fox"), [spans, ((0, 3, 0),)], ("LOC", "PER"), kind="text", task="ner")
    pieces = preprocessing.pieces(examples)
    assert " ".join(pieces.inputs[:-1]) == text
    assert (preprocessing.count_tokens(pieces.inputs) <= 16).all()
    assert len(preprocessing.row_labels(pieces)) == len(words) + 2
    # No entity is cut in two: each fits a window.
    assert [kind for spans in pieces.labels for *_, kind in spans] == [kind for *_, kind in spans] + [0]
    assert preprocessing.pieces(pieces) is pieces


def test_an_entity_longer_than_a_window_goes_on_in_the_next(zoo):
    _, preprocessing = zoo("Bert", 8)
    text = "the fox " * 8
    examples = Examples((text,), [((0, 63, 1),)], ("LOC", "PER"), kind="text", task="ner")
    pieces = preprocessing.pieces(examples)
    assert len(pieces) > 1
    assert all(
        spans == ((0, len(text), 1),) for spans, text in zip(pieces.labels, pieces.inputs, strict=True)
    )


# Targets and batches.


def test_targets_are_at_the_first_token_of_each_word(zoo):
    _, preprocessing = zoo("Bert")
    examples = Examples(("foxs café!",), [((0, 4, 1),)], ("LOC", "PER"), kind="text", task="ner")
    [tokenized] = preprocessing.tokenized(examples.inputs)
    assert [len(ids) for ids in tokenized.ids] == [2, 1, 1]
    [targets] = preprocessing.targets(examples)
    assert targets.argmax(axis=1)[[1, 3, 4]].tolist() == [3, 0, 0]
    assert targets.sum(axis=1).tolist() == [0, 1, 0, 1, 1, 0]


def test_a_batch_has_targets_as_long_as_its_ids(zoo):
    _, preprocessing = zoo("Bert")
    texts = ("the fox", "the quick brown fox " * 5, "you")
    examples = Examples(texts, [((4, 7, 1),), (), ()], ("LOC", "PER"), kind="text", task="ner")
    for training in (False, True):
        batches = preprocessing.dataset(examples, batch_size=2, one_hot=True, training=training)
        for ids, targets in batches:
            assert targets.shape == (*ids["token_ids"].shape, 5)


def test_a_preprocessing_of_words_says_so_and_is_loaded_as_one(zoo, tmp_path):
    _, preprocessing = zoo("Roberta")
    preprocessing.save(tmp_path / "tokenizer")
    loaded = preprocessing_of(TASK, TextPreprocessing.load(tmp_path / "tokenizer"))
    assert isinstance(loaded, TokenPreprocessing)
    assert loaded.to_dict() == preprocessing.to_dict()
    assert loaded.to_dict()["words"] == {
        "rule": "unicode-1",
        "prefix": " ",
        "nothing": "?",
        "tokens": 32,
        "overlap": 0.5,
    }
    assert preprocessing_of(get_task("single_label"), loaded) is loaded


def test_words_beyond_the_bound_are_tokenized_and_not_kept(zoo, monkeypatch):
    from ktransfer.text import token_preprocessing

    _, preprocessing = zoo("Bert")
    texts = ["the quick fox", "brown you dog"]
    expected = [ids.tolist() for ids in preprocessing.tokenize(texts)]
    monkeypatch.setattr(token_preprocessing, "_MOST_KNOWN", 3)
    fresh = preprocessing.with_sequence_length(63)
    assert [[ids.tolist() for ids in fresh.tokenize([text])] for text in texts] == [[row] for row in expected]
    assert len(fresh._known) == 3
