"""Cards of texts in a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ktransfer.evaluation.explanations import word_effects
from ktransfer.evaluation.metrics import Answers

if TYPE_CHECKING:
    from ktransfer.runs.run import Run


_OF_EACH = 6  # right and wrong answers that are explained
_LONGEST = 600  # characters


def text_card(text: str) -> dict[str, Any]:
    """The card of a text: its beginning.

    Example:
        >>> text_card("See you at six")
        {'text': 'See you at six'}
    """
    return {"text": _beginning(text, " ...")}


def explained_texts(run: Run, answers: Answers, card_of: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """Cards of wrong and of right answers with what each word adds.

    Args:
        run: A `Run`.
        answers: What it answered.
        card_of: Callable from the index of an answer to a card of it.

    Example:

        explained_texts(run, answers, card_of)["wrong"][0]["words"]   # [("Free ", "for", 0.8), ...]
    """
    labels = answers.examples.labels
    wrong, right, classes = run.task.explained(answers.probabilities, labels, run.decision, _OF_EACH)
    indices = [*wrong, *right]
    # Of a long text its beginning: a page is no place for the rest.
    texts = [_beginning(answers.examples.inputs[index]) for index in indices]
    first = [each[0] for each in classes]
    found = word_effects(run.predict_probabilities, texts, first, task=run.task) if texts else []
    cards = []
    for index, pieces, label in zip(indices, found, first, strict=True):
        most = max(max(abs(effect) for _, effect in pieces), 1e-6)
        words = [
            (piece, "for" if effect >= 0 else "against", round(abs(effect) / most, 3), round(effect, 2))
            for piece, effect in pieces
        ]
        cards.append({**card_of(index), "words": words, "explained": run.labels[label]})
    return {"method": "words", "wrong": cards[: len(wrong)], "right": cards[len(wrong) :]}


def _beginning(text: str, end: str = "") -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST].rsplit(maxsplit=1)[0] + end
