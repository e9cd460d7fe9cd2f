"""The examples that a report shows: the worst answers, and what answers rest on."""

import functools
import math
from collections.abc import Sequence

import numpy as np

from ktransfer.evaluation.metrics import Answers
from ktransfer.runs.run import Run

_MOST_LOSSES = 24


def worst_answers(answers: Answers) -> list[dict]:
    """The answers that gave the truth least, below one half: at most 24, the worst first.

    Example:

        worst_answers(answers)[0]["truth"]   # "roses"
    """
    given = answers.probabilities[np.arange(len(answers.examples)), answers.examples.labels]
    worst = [int(i) for i in np.argsort(given, kind="stable")[:_MOST_LOSSES] if given[i] < 0.5]
    return [_card(answers, index, pictures=True) for index in worst]


def explained(run: Run, answers: Answers) -> dict:
    """Cards of wrong and of right answers with what they rest on, and the method by which that was found.

    Example:

        explained(run, answers)["method"]   # "map"
    """
    return run.modality.explained(run, answers, functools.partial(_card, answers))


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
    return {**card, **examples.modality.card(examples.inputs[index], picture=pictures)}
