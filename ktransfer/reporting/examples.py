"""The examples that a report shows: the worst answers, and what answers rest on."""

import functools
from collections.abc import Mapping
from typing import Any

from ktransfer.evaluation.metrics import Answers
from ktransfer.runs.run import Run

_MOST_LOSSES = 24


def worst_answers(answers: Answers, decision: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The answers that gave the truth least: at most 24, the worst first.

    Example:

        worst_answers(answers)[0]["truth"]   # "roses"
    """
    examples = answers.examples
    worst = examples.task.worst(answers.probabilities, examples.labels, _MOST_LOSSES)
    return [_card(answers, decision, index, pictures=True) for index in worst]


def explained(run: Run, answers: Answers) -> dict[str, Any]:
    """Cards of wrong and of right answers with what they rest on, and the method by which that was found.

    Example:

        explained(run, answers)["method"]   # "map"
    """
    return run.modality.explained(run, answers, functools.partial(_card, answers, run.decision))


def _card(
    answers: Answers, decision: Mapping[str, Any] | None, index: int, *, pictures: bool = False
) -> dict[str, Any]:
    examples = answers.examples
    card = examples.task.card(
        answers.probabilities[index], examples.labels[index], examples.class_names, decision
    )
    return {**card, **examples.modality.card(examples.inputs[index], picture=pictures)}
