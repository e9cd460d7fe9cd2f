"""Cards of images in a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from ktransfer.data.examples import printable
from ktransfer.evaluation.explanations import class_maps, has_exact_map
from ktransfer.evaluation.metrics import Answers
from ktransfer.image.thumbnails import overlaid, picture, thumbnail

if TYPE_CHECKING:
    from ktransfer.core.typing import Array
    from ktransfer.runs.run import Run


_OF_EACH = 6  # right and wrong answers that are explained
_OF_EACH_BY_COVERING = 2  # where each takes 36 more runs of the model


def image_card(path: str, *, picture: bool) -> dict[str, Any]:
    """The card of an image: the end of its path, and optionally a thumbnail.

    Example:
        >>> image_card("flowers/daisy/1.jpg", picture=False)
        {'name': 'daisy/1.jpg', 'image': ''}
    """
    name = "/".join(printable(path).replace("\\", "/").split("/")[-2:])
    return {"name": name, "image": thumbnail(path) if picture else ""}


def explained_images(run: Run, answers: Answers, card_of: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """Cards of wrong and of right answers with what each place of the image adds, and the method.

    Args:
        run: A `Run`.
        answers: What it answered.
        card_of: Callable from the index of an answer to a card of it.

    Example:

        explained_images(run, answers, card_of)["method"]   # "map"
    """
    exact = has_exact_map(run.model)
    most = _OF_EACH if exact else _OF_EACH_BY_COVERING
    labels = answers.examples.labels
    wrong, right, classes = run.task.explained(answers.probabilities, labels, run.decision, most)
    indices = [*wrong, *right]
    if not indices:
        return {"method": "map" if exact else "covered", "wrong": [], "right": []}
    pixels = cast("Array", run.preprocessing([answers.examples.inputs[index] for index in indices]))
    cards = []
    for index, image, wanted, maps in zip(
        indices, pixels, classes, class_maps(run.model, pixels, classes, task=run.task), strict=True
    ):
        largest = max(float(maps.max()), 1e-6)
        card = card_of(index)
        card["images"] = [("the image", picture(image))] + [
            (f"for {run.labels[label]}", overlaid(image, each, most=largest))
            for label, each in zip(wanted, maps, strict=True)
        ]
        cards.append(card)
    method = "map" if exact else "covered"
    return {"method": method, "wrong": cards[: len(wrong)], "right": cards[len(wrong) :]}
