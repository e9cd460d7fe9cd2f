"""Cards of texts in a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ktransfer.data.pairs import Pair, sides
from ktransfer.evaluation.explanations import pieces_of_first, word_effects
from ktransfer.evaluation.metrics import Answers

if TYPE_CHECKING:
    from ktransfer.runs.run import Run


_OF_EACH = 6  # right and wrong answers that are explained
_LONGEST = 600  # characters


def text_card(text: str | Pair) -> dict[str, Any]:
    """The card of a text, or of both texts of a pair: the beginning.

    Example:
        >>> text_card("See you at six")
        {'text': 'See you at six'}
    """
    first, *others = (_beginning(each, " ...") for each in sides(text))
    return {"text": first, **({"other_text": others[0]} if others else {})}


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
    texts = [_beginnings(answers.examples.inputs[index]) for index in indices]
    first = [each[0] for each in classes]
    found = word_effects(run.predict_probabilities, texts, first, task=run.task) if texts else []
    cards = []
    for index, pieces, label in zip(indices, found, first, strict=True):
        most = max(*(abs(effect) for _, effect in pieces), 1e-6)
        words = [
            (piece, "for" if effect >= 0 else "against", round(abs(effect) / most, 3), round(effect, 2))
            for piece, effect in pieces
        ]
        card = {**card_of(index), "words": words, "explained": run.labels[label]}
        if isinstance(content := answers.examples.inputs[index], Pair):
            split = pieces_of_first(Pair(*map(_beginning, content)))
            card |= {"words": words[:split], "other_words": words[split:]}
        cards.append(card)
    return {"method": "words", "wrong": cards[: len(wrong)], "right": cards[len(wrong) :]}


def _beginnings(content: str | Pair) -> str | Pair:
    return _beginning(content) if isinstance(content, str) else Pair(*map(_beginning, content))


def _beginning(text: str, end: str = "") -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST].rsplit(maxsplit=1)[0] + end
