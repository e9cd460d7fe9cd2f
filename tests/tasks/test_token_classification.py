import itertools

import keras
import numpy as np
import pytest

from ktransfer.core.task import get_task
from ktransfer.data.entities.words import words_of
from ktransfer.data.examples import Examples
from ktransfer.errors import DataError, RecipeError
from ktransfer.recipes.recipe import Recipe
from ktransfer.tasks.token_classification import (
    TagOfWord,
    WordAnswers,
    best_tags,
    entities_of_tags,
    marked,
    outside_offset,
    tags_of,
)
from ktransfer.text.augmentation import TextAugmentation
from ktransfer.training.linear_probe import class_weights, solve_rows

TASK = get_task("ner")
NAMES = ("LOC", "PER")
TAGS = TASK.output_names(NAMES)
PLAIN = {"augmentation": TextAugmentation()}


def objects(values):
    found = np.empty(len(values), object)
    for index, value in enumerate(values):
        found[index] = value
    return found


def random_case(seed, texts=60, sharpness=2.0):
    """Texts of words, their entities, and probabilities that follow them loosely."""
    random = np.random.default_rng(seed)
    inputs, labels, answers = [], [], []
    for _ in range(texts):
        text = " ".join("abcdefgh"[: random.integers(1, 9)] for _ in range(random.integers(1, 12)))
        words = words_of(text)
        tags, place = np.zeros(len(words), int), 0
        while place < len(words):
            if random.random() < 0.4:
                kind, length = int(random.integers(2)), int(random.integers(1, 4))
                tags[place : place + length] = 2 + 2 * kind
                tags[place] = 1 + 2 * kind
                place += length
            else:
                place += 1
        spans = tuple((words[a][0], words[b][1], kind) for a, b, kind in entities_of_tags(tags))
        logits = random.normal(size=(len(words), 5)) + sharpness * np.eye(5)[tags]
        inputs.append(text)
        labels.append(spans)
        answers.append(WordAnswers(text, words, TASK.probabilities(logits).astype("float32")))
    return tuple(inputs), objects(labels), objects(answers)


# Labels.


def test_labels_are_the_entities_of_each_text():
    examples = Examples(("Ann in Rome", "no"), [[(7, 11, 0), (0, 3, 1)], []], NAMES, kind="text", task="ner")
    assert examples.labels[0] == ((0, 3, 1), (7, 11, 0))
    assert examples.counts() == {"LOC": 1, "PER": 1}
    assert examples.label_names == ["PER 0-3 | LOC 7-11", "(no entity)"]
    assert examples.subset([1, 0]).labels[1] == examples.labels[0]
    assert len(examples.joined(examples)) == 4
    assert examples.fingerprint() == examples.subset([1, 0]).fingerprint()


@pytest.mark.parametrize("spans", [[(0, 3, 2)], [(3, 3, 0)], [(-1, 2, 0)], [(0, 3, 0), (2, 4, 1)]])
def test_spans_that_overlap_or_are_none_are_refused(spans):
    with pytest.raises(DataError, match="that do not overlap"):
        Examples(("Ann is",), [spans], NAMES, kind="text", task="ner")


def test_a_split_has_entities_of_every_type_on_both_sides():
    texts = tuple(f"text {index}" for index in range(100))
    labels = [[(0, 4, index % 2)] if index % 3 else [] for index in range(100)]
    rest, held = Examples(texts, labels, NAMES, kind="text", task="ner").split(0.2, seed=0)
    assert len(held) == pytest.approx(20, abs=2)
    assert min(rest.counts().values()) > 20
    assert min(held.counts().values()) >= 5


# Tags.


def test_tags_are_those_of_the_words_that_a_span_has_characters_of():
    words = words_of("Ann Lee, Rome")
    assert tags_of([(0, 7, 1), (9, 13, 0)], words).tolist() == [3, 4, 0, 1]
    assert tags_of([(1, 5, 1)], words).tolist() == [3, 4, 0, 0]  # whole words
    assert tags_of([(0, 2, 1), (2, 7, 0)], words).tolist() == [3, 1, 0, 0]  # the first has the word
    assert tags_of([(7, 8, 0)], []).tolist() == []


def is_valid(tags):
    return all(
        tag == 0 or tag % 2 or before in (tag, tag - 1) for before, tag in zip([0, *tags], tags, strict=False)
    )


def test_the_best_tags_are_those_of_all_valid_ones():
    random = np.random.default_rng(0)
    for _ in range(40):
        count = int(random.integers(1, 5))
        probabilities = TASK.probabilities(random.normal(0, 2, (count, 5)))
        ways = [way for way in itertools.product(range(5), repeat=count) if is_valid(way)]
        scores = [np.log(probabilities[np.arange(count), way]).sum() for way in ways]
        assert tuple(best_tags(probabilities)) == ways[int(np.argmax(scores))]


def test_decoding_gives_no_inside_without_its_beginning():
    random = np.random.default_rng(1)
    assert is_valid(best_tags(TASK.probabilities(random.normal(0, 3, (500, 5)))).tolist())
    assert best_tags(np.zeros((0, 5))).tolist() == []


def test_what_is_decoded_of_certain_tags_is_what_was_marked():
    _, labels, answers = random_case(0, sharpness=50)
    assert TASK.decide(answers).tolist() == labels.tolist()
    assert TASK.hits(TASK.decide(answers), labels).min() == 1


def test_answers_have_characters_and_the_text_of_each_entity():
    text = "met Ann  Lee, yes"
    tags = [0, 3, 4, 0, 0]
    probabilities = np.full((5, 5), 0.05)
    probabilities[np.arange(5), tags] = [0.8, 0.9, 0.7, 0.8, 0.8]
    [answer] = TASK.answers(WordAnswers(text, words_of(text), probabilities), NAMES, top_k=1)
    assert answer == {"label": "PER", "start": 4, "end": 12, "text": "Ann  Lee", "probability": 0.7}
    assert TASK.answer_line([answer]) == "PER 'Ann  Lee' (4-12) 70.0%"
    assert TASK.answer_line([]) == "no entity"


# Loss and metric.


def test_the_loss_is_the_mean_over_words_whatever_the_padding():
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 6, 5)).astype("float32")
    targets = np.zeros((2, 6, 5), "float32")
    targets[0, 1, 0] = targets[0, 3, 2] = targets[1, 1, 4] = 1
    logs = np.log(TASK.probabilities(logits))
    chosen = np.array([logs[0, 1, 0], logs[0, 3, 2], logs[1, 1, 4]])
    found = TASK.loss(Recipe(stages=()))(targets, logits)
    assert float(found) == pytest.approx(-chosen.mean(), rel=1e-5)
    longer = np.pad(targets, [(0, 0), (0, 9), (0, 0)]), np.pad(logits, [(0, 0), (0, 9), (0, 0)])
    assert float(TASK.loss(Recipe(stages=()))(*longer)) == pytest.approx(float(found), rel=1e-5)
    weighted = TASK.loss(Recipe(stages=()), class_weight={0: 0.0, 2: 3.0})(targets, logits)
    assert float(weighted) == pytest.approx(-(np.array([0, 3, 1]) * chosen).mean(), rel=1e-5)
    focal = TASK.loss(Recipe(stages=(), loss="focal", focal_gamma=2.0))(targets, logits)
    assert float(focal) == pytest.approx(-((1 - np.exp(chosen)) ** 2 * chosen).mean(), rel=1e-4)


def test_label_smoothing_leaves_tokens_without_a_target_out():
    targets = np.zeros((1, 3, 5), "float32")
    targets[0, 1, 2] = 1
    loss = TASK.loss(Recipe(stages=(), label_smoothing=0.1))(targets, np.zeros((1, 3, 5), "float32"))
    assert float(loss) == pytest.approx(np.log(5), rel=1e-5)


def test_the_metric_is_the_f1_of_tags_in_entities():
    targets = np.zeros((1, 6, 5), "float32")
    for place, tag in enumerate([0, 1, 2, 3, 0]):
        targets[0, place, tag] = 1
    logits = np.eye(5, dtype="float32")[
        [[0, 1, 1, 0, 4, 2]]
    ]  # right 1; answered 3; true 3; the last has no target
    metric = TASK.metric()
    metric.update_state(targets, logits)
    assert float(metric.result()) == pytest.approx(2 / 6)
    rows = TagOfWord().metric()
    rows.update_state(targets[0, :5], logits[0, :5])
    assert float(rows.result()) == pytest.approx(2 / 6)


def test_what_cannot_be_is_refused_with_what_to_do():
    with pytest.raises(RecipeError, match="Leave it out: words that are moved"):
        TASK.check_recipe(Recipe(stages=(), augmentation=TextAugmentation(swap=0.1)))


# The head.


def classifier(features, outputs):
    from ktransfer.models.heads import add_head

    inputs = keras.Input((None, features))
    return keras.Model(inputs, add_head(inputs, outputs, 0.0, 0))


def rows_of_words(count, outside, seed=0):
    random = np.random.default_rng(seed)
    labels = np.where(random.random(count) < outside, 0, random.integers(1, 4, count)).astype("int32")
    centers = random.normal(size=(4, 8))
    return (centers[labels] + random.normal(size=(count, 8))).astype("float32"), labels


def test_a_head_of_few_words_outside_says_the_share_of_all(monkeypatch):
    from ktransfer.tasks import token_classification

    features, labels = rows_of_words(6_000, outside=0.95)
    monkeypatch.setattr(token_classification, "_HEAD_WORDS", 900)
    model = classifier(8, 5)  # the last tag has no word
    found = solve_rows(model, features, labels, task="ner")
    assert found["rows"] == 900
    probabilities = TASK.probabilities(model.predict(features[None], verbose=0)[0])
    assert probabilities[:, 0].mean() == pytest.approx((labels == 0).mean(), abs=0.01)
    assert probabilities[:, 4].max() < 0.05
    assert (probabilities.argmax(1) == labels).mean() > 0.95


def test_balanced_weights_of_a_tag_without_words_are_finite():
    assert np.isfinite(class_weights(np.array([0, 0, 1]), 3, "balanced")).all()


# Evaluation.


def iob2(spans, words):
    return [TAGS[tag] for tag in tags_of(spans, words)]


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_seqeval_in_its_strict_mode(seed):
    seqeval = pytest.importorskip("seqeval.metrics", reason="the oracle is in the extra dev")
    from seqeval.scheme import IOB2

    _, labels, answers = random_case(seed, sharpness=1.5 + seed)
    found = TASK.evaluate(answers, labels, NAMES)
    decided = TASK.decide(answers)
    truth = [iob2(spans, each.words) for spans, each in zip(labels, answers, strict=True)]
    answered = [iob2(spans, each.words) for spans, each in zip(decided, answers, strict=True)]
    report = seqeval.classification_report(
        truth, answered, mode="strict", scheme=IOB2, output_dict=True, zero_division=0
    )
    for name, score in [*found.per_type.items(), ("micro avg", found.micro)]:
        expected = report[name]
        assert score.precision == pytest.approx(expected["precision"])
        assert score.recall == pytest.approx(expected["recall"])
        assert score.f1 == pytest.approx(expected["f1-score"])
        assert score.support == expected["support"]
    assert found.macro_f1 == pytest.approx(report["macro avg"]["f1-score"])


def test_scores_are_those_counted_by_hand():
    text = "a b c d e f"
    words = words_of(text)

    def answers(tags):
        return WordAnswers(text, words, np.eye(5, dtype="float32")[tags] * 0.9 + 0.02)

    truth = objects([((0, 3, 0), (4, 5, 1), (8, 11, 1)), ()])
    # The first is right, the second of the other type, the third one word short; one is where none is.
    given = objects([answers([1, 2, 1, 0, 3, 0]), answers([0, 0, 0, 0, 0, 3])])
    found = TASK.evaluate(given, truth, NAMES)
    assert (found.micro.precision, found.micro.recall) == (pytest.approx(1 / 4), pytest.approx(1 / 3))
    assert found.micro.f1 == pytest.approx(2 / 7)
    assert found.per_type["LOC"].precision == pytest.approx(1 / 2)
    assert found.per_type["PER"].f1 == 0
    assert [(each["truth"], each["answer"], each["kind"]) for each in found.confusions] == [
        ("PER", "LOC", "other type"),
        ("PER", "PER", "other bounds"),
        ("(none)", "PER", "no entity there"),
    ]
    low, high = found.micro.interval
    assert low <= found.micro.f1 <= high
    assert found.value == found.micro.f1
    assert found.tables("texts")[0][-1][0] == "all"


def test_the_interval_is_over_texts_and_narrows_with_their_number():
    # A sixteenth of the texts, so four times as wide, as far as so few texts say how much they differ.
    few, many = (TASK.evaluate(*random_case(0, texts)[2:0:-1], NAMES).micro for texts in (30, 480))
    width_few, width_many = (score.interval[1] - score.interval[0] for score in (few, many))
    assert 2.5 < width_few / width_many < 7


def test_texts_without_any_entity_can_be_evaluated():
    text = "nothing here"
    answers = objects(
        [WordAnswers(text, words_of(text), np.full((2, 5), 0.2, "float32") + np.eye(5)[[0, 0]])] * 3
    )
    found = TASK.evaluate(answers, objects([()] * 3), NAMES)
    assert (found.micro.f1, found.micro.support, found.macro_f1) == (0, 0, 0)


def test_the_temperature_of_other_texts_stays():
    _, labels, answers = random_case(0)
    found = TASK.evaluate(answers, labels, NAMES, fitted={"temperature": 2.0})
    assert (found.temperature, found.cross_fitted) == (2.0, False)
    assert TASK.evaluate(answers, labels, NAMES).cross_fitted


# Reports.


def test_a_text_is_marked_with_truth_and_answer():
    pieces = marked("Ann Lee in Rome", [(0, 7, 1), (11, 15, 0)], [(0, 3, 1)], NAMES)
    assert "".join(each["text"] for each in pieces) == "Ann Lee in Rome"
    assert [(each["text"], each["truth"], each["answer"]) for each in pieces if each["truth"]] == [
        ("Ann", "PER", "PER"),
        (" Lee", "PER", ""),
        ("Rome", "LOC", ""),
    ]


def test_the_worst_texts_are_those_with_wrong_entities():
    _, labels, answers = random_case(3)
    worst = TASK.worst(answers, labels, 5)
    cards = [TASK.card(answers[index], labels[index], NAMES) for index in worst]
    assert not any(card["right"] for card in cards)
    losses = [card["loss"] for card in cards]
    assert losses == sorted(losses, reverse=True)


def hidden_entities(count, share):
    """Texts of one entity and one other word; the entity's tag has `share` against O, the other word 0.9 for O."""
    words = ((0, 4), (5, 9))
    probabilities = np.array([[1 - share, share, 0.0], [0.9, 0.1, 0.0]])
    answers = objects([WordAnswers("good night", words, probabilities) for _ in range(count)])
    return answers, objects([((0, 4, 0),) for _ in range(count)])


def test_entities_that_o_hides_are_brought_out_by_its_bias():
    # log(0.6 / 0.4) = 0.41 brings the entity out, log(0.9 / 0.1) = 2.2 the other word as well.
    offset, before, after = outside_offset(*hidden_entities(60, 0.4))
    assert 0.41 < offset < 2.2
    assert (before, after) == (0.0, 1.0)
    biases, words = TASK.better_biases(*hidden_entities(60, 0.4))
    assert biases.tolist() == [-offset, 0.0, 0.0]
    assert "entity F1 0.000 -> 1.000" in words


def test_too_many_entities_are_held_back_by_its_bias():
    # log(0.6 / 0.4) = 0.41 more for O leaves out the words that are none; the entities have 0.9.
    words, probabilities = ((0, 4), (5, 9)), np.array([[0.1, 0.9, 0.0], [0.4, 0.6, 0.0]])
    answers = objects([WordAnswers("good night", words, probabilities) for _ in range(60)])
    offset, before, after = outside_offset(answers, objects([((0, 4, 0),)] * 60))
    assert -2.2 < offset < -0.41
    assert before == pytest.approx(2 / 3)
    assert after == 1.0


@pytest.mark.parametrize(("count", "share"), [(49, 0.4), (60, 0.6)])
def test_few_entities_or_nothing_to_gain_leave_the_bias(count, share):
    assert outside_offset(*hidden_entities(count, share)) is None
    assert TASK.better_biases(*hidden_entities(count, share)) is None
