"""The examples that a report shows: the worst answers, and what answers rest on."""

import math
from collections.abc import Sequence

import numpy as np

from ktransfer.data.examples import printable
from ktransfer.evaluation.explanations import choose_examples, class_maps, has_exact_map, word_effects
from ktransfer.evaluation.metrics import Answers
from ktransfer.image.thumbnails import overlaid, picture, thumbnail
from ktransfer.runs.run import Run

_MOST_LOSSES = 24
_OF_EACH = 6  # right and wrong answers that are explained
_OF_EACH_BY_COVERING = 2  # where each takes 36 more runs of the model
_LONGEST = 600  # characters


def worst_answers(answers: Answers) -> list[dict]:
    """The answers that gave the truth least, below one half: at most 24, the worst first.

    Example:

        worst_answers(answers)[0]["truth"]   # "roses"
    """
    given = answers.probabilities[np.arange(len(answers.examples)), answers.examples.labels]
    worst = [int(i) for i in np.argsort(given, kind="stable")[:_MOST_LOSSES] if given[i] < 0.5]
    return [_card(answers, index, pictures=True) for index in worst]


def explained_images(run: Run, answers: Answers) -> dict:
    """Cards of wrong and of right answers with what each place of the image adds, and the method.

    Example:

        explained_images(run, answers)["method"]   # "map"
    """
    exact = has_exact_map(run.model)
    chosen = choose_examples(
        answers.probabilities, answers.examples.labels, _OF_EACH if exact else _OF_EACH_BY_COVERING
    )
    indices = [*chosen[0], *chosen[1]]
    pixels = run.preprocessing([answers.examples.inputs[index] for index in indices])
    truth, answer = answers.examples.labels, answers.probabilities.argmax(axis=-1)
    classes = [list(dict.fromkeys([int(answer[i]), int(truth[i])])) for i in indices]
    cards = []
    for index, image, wanted, maps in zip(
        indices, pixels, classes, class_maps(run.model, pixels, classes), strict=True
    ):
        most = max(float(maps.max()), 1e-6)
        card = _card(answers, index)
        card["images"] = [("the image", picture(image))] + [
            (f"for {run.labels[label]}", overlaid(image, each, most=most))
            for label, each in zip(wanted, maps, strict=True)
        ]
        cards.append(card)
    wrong = len(chosen[0])
    return {"method": "map" if exact else "covered", "wrong": cards[:wrong], "right": cards[wrong:]}


def explained_texts(run: Run, answers: Answers) -> dict:
    """Cards of wrong and of right answers with what each word adds.

    Example:

        explained_texts(run, answers)["wrong"][0]["words"]   # [("Free ", "for", 0.8), ...]
    """
    chosen = choose_examples(answers.probabilities, answers.examples.labels, _OF_EACH)
    indices = [*chosen[0], *chosen[1]]
    # Of a long text its beginning: a page is no place for the rest.
    texts = [_beginning(answers.examples.inputs[index]) for index in indices]
    answer = answers.probabilities.argmax(axis=-1)
    found = word_effects(run.predict_probabilities, texts, [int(answer[i]) for i in indices]) if texts else []
    cards = []
    for index, pieces in zip(indices, found, strict=True):
        most = max(max(abs(effect) for _, effect in pieces), 1e-6)
        words = [
            (piece, "for" if effect >= 0 else "against", round(abs(effect) / most, 3), round(effect, 2))
            for piece, effect in pieces
        ]
        cards.append({**_card(answers, index), "words": words})
    wrong = len(chosen[0])
    return {"method": "words", "wrong": cards[:wrong], "right": cards[wrong:]}


def confusions(confusion: Sequence[Sequence[int]], names: Sequence[str], most: int = 8) -> list[dict]:
    """The most frequent mistakes: `{"truth", "answer", "count", "share"}`, the share being of the true class.

    Example:

        confusions([[8, 2], [0, 10]], ["cat", "dog"])   # [{"truth": "cat", "answer": "dog", "count": 2, ...}]
    """
    found = [
        {"truth": names[i], "answer": names[j], "count": count, "share": count / sum(row)}
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(found, key=lambda entry: -entry["count"])[:most]


def _card(answers, index, *, pictures=False):
    examples, row = answers.examples, answers.probabilities[index]
    names, label, answer = examples.class_names, int(examples.labels[index]), int(row.argmax())
    card = {
        "truth": names[label],
        "answer": names[answer],
        "right": label == answer,
        "sure": min(float(row[answer]), 0.99999),  # float32 rounds up to 1
        "loss": -math.log(max(float(row[label]), 1e-12)),
    }
    if examples.kind == "text":
        return {**card, "text": _beginning(examples.inputs[index], " ...")}
    name = "/".join(printable(examples.inputs[index]).replace("\\", "/").split("/")[-2:])
    return {**card, "name": name, "image": thumbnail(examples.inputs[index]) if pictures else ""}


def _beginning(text, end=""):
    return text if len(text) <= _LONGEST else text[:_LONGEST].rsplit(maxsplit=1)[0] + end
