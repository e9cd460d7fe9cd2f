"""Explain answers by the contribution of each place of an image and each word of a text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from ktransfer.core.task import SINGLE_LABEL, Task, get_task
from ktransfer.data.pairs import Pair, sides
from ktransfer.models.heads import Head
from ktransfer.models.predict import predict_in_batches

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


# Pieces that a text is taken apart into at most, and rows and columns of patches that cover an image.
PIECES, PATCHES = 32, 6
_BATCH = 16


def has_exact_map(model: keras.Model) -> bool:
    """Whether the head of a classifier averages the places of an image, so that each one's part is known.

    Example:

        has_exact_map(run.model)
    """
    return _grid(model) is not None


def class_maps(
    model: keras.Model,
    pixels: np.ndarray,
    classes: Sequence[Sequence[int]],
    *,
    task: str | Task = SINGLE_LABEL,
) -> list[np.ndarray]:
    """The contribution of each place of an image to the logit of a class.

    Where the head is an average over places and one linear layer it is a class activation map (Zhou et al.
    2016, section 2), which for such a head is Grad-CAM (Selvaraju et al. 2017, section 3.1) up to a constant:
    here each place is measured from the average training image, as the head does, and the mean over all
    places is the logit without its bias. Else, as of a class token, it is what covering a patch with the
    image's mean colour takes from the log odds of the class (Zeiler and Fergus 2014, section 4.2).

    Args:
        model: From `build_classifier`.
        pixels: float32 `(N, H, W, 3)` in 0-255.
        classes: For each image the classes to explain.
        task: What the logits are of. Defaults to `"single_label"`.

    Returns:
        For each image float32 `(its classes, rows, columns)`.

    Example:

        class_maps(run.model, run.preprocessing(["rose.jpg"]), [[2]])[0].shape   # (1, 5, 5)
    """
    if has_exact_map(model):
        return _activation_maps(model, pixels, classes)
    task = get_task(task)
    return [_occluded(model, image, wanted, task) for image, wanted in zip(pixels, classes, strict=True)]


def word_effects(
    predict: Callable[[list[Any]], np.ndarray],
    texts: Sequence[str | Pair],
    classes: Sequence[int],
    *,
    task: str | Task = SINGLE_LABEL,
) -> list[list[tuple[str, float]]]:
    """The contribution of each word to the log odds of a class, by leaving it out.

    So it is measured on the model itself, whatever its pooling (Zeiler and Fergus 2014 of patches, Li et al.
    2016 of words). A text of more words than 32 is taken apart into as many runs of words; of a pair each side is.

    Args:
        predict: Texts to probabilities `(N, C)`.
        texts: At least one each.
        classes: For each text the class to explain.
        task: What the probabilities are of. Defaults to `"single_label"`.

    Returns:
        For each text its pieces, which joined are the text, and the effect of each; of a pair those of the first text
        and then those of the second.

    Example:

        word_effects(run.predict_probabilities, ["Free entry!"], [1])   # [[("Free ", 2.1), ("entry!", 0.9)]]
    """
    pieces, variants = [], []
    for text in texts:
        of_sides = [_pieces(side) for side in sides(text)]
        pieces.append([part for parts in of_sides for part in parts])
        variants.append(text)
        for side, parts in enumerate(of_sides):
            for i in range(len(parts)):
                shorter = "".join(parts[:i] + parts[i + 1 :])
                variants.append(_replaced(text, side, shorter))
    owners = np.repeat(classes, [len(parts) + 1 for parts in pieces]).tolist()
    odds = iter(get_task(task).log_odds(predict(variants), owners).tolist())
    found = []
    for parts in pieces:
        whole = next(odds)
        found.append([(part, whole - next(odds)) for part in parts])
    return found


def pieces_of_first(pair: Pair) -> int:
    """The number of pieces of a pair's first text in the result of `word_effects`."""
    return len(_pieces(pair.first))


def _replaced(content: str | Pair, side: int, text: str) -> str | Pair:
    if isinstance(content, str):
        return text
    return Pair(text, content.second) if side == 0 else Pair(content.first, text)


def log_odds(probabilities: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """`log(p / (1 - p))` of one class in each row, where `p` may be so close to 1 that `1 - p` is lost.

    Example:

        log_odds(np.array([[0.75, 0.25]]), [0])   # [1.0986]
    """
    others = np.array(probabilities, float)
    rows = np.arange(len(others))
    chosen = others[rows, classes]
    others[rows, classes] = 0
    return np.log(np.maximum(chosen, 1e-30)) - np.log(np.maximum(others.sum(axis=-1), 1e-30))


def choose_examples(
    probabilities: np.ndarray, labels: np.ndarray, most: int, *, answers: np.ndarray | None = None
) -> tuple[list[int], list[int]]:
    """Choose the answers to explain: the surest wrong ones, and the surest right one of each class.

    Args:
        probabilities: `(N, C)`.
        labels: int `(N,)`.
        most: Of each kind.
        answers: int `(N,)`. Defaults to `None`, the most probable classes.

    Returns:
        Indices of wrong and of right answers.

    Example:

        wrong, right = choose_examples(probabilities, labels, 6)
    """
    if answers is None:
        answers = probabilities.argmax(axis=-1)
    sure = probabilities[np.arange(len(answers)), answers]
    by_confidence = np.argsort(-sure, kind="stable")
    wrong = [int(i) for i in by_confidence if answers[i] != labels[i]]
    right: list[tuple[int, int, int]] = []
    ranks: dict[int, int] = {}
    for index in (int(i) for i in by_confidence if answers[i] == labels[i]):
        label = int(labels[index])
        ranks[label] = ranks.get(label, -1) + 1
        right.append((ranks[label], len(right), index))
    return wrong[:most], [index for _, _, index in sorted(right)[:most]]


def _grid(model: keras.Model) -> tuple[int, int] | None:
    """Rows and columns of the places that the head averages; None where it does something else."""
    pooled = Head.of(model).pooling
    if pooled is None:
        return None
    shape = pooled.input.shape
    if isinstance(pooled, keras.layers.GlobalAveragePooling2D):
        return shape[1:3]
    if isinstance(pooled, keras.layers.GlobalAveragePooling1D) and shape[1]:
        height, width = model.input.shape[1:3]
        side = math.isqrt(height * width // shape[1])
        rows, columns = height // side, width // side
        return (rows, columns) if rows * columns == shape[1] else None
    return None


def _activation_maps(model: keras.Model, pixels: Array, classes: Sequence[Sequence[int]]) -> list[Array]:
    head = Head.of(model)
    norm, logits = head.norm, head.logits
    mean, variance, kernel = (
        ops.convert_to_numpy(value) for value in (norm.moving_mean, norm.moving_variance, logits.kernel)
    )
    weights = kernel / np.sqrt(variance + norm.epsilon)[:, None]
    grid = _grid(model)
    if head.pooling is None or grid is None:
        raise ValueError("the head averages no places")
    below = keras.Model(model.input, head.pooling.input)
    batches = (pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH))
    features = np.concatenate([np.asarray(rows, "float32") for rows in predict_in_batches(below, batches)])
    features = features.reshape(len(pixels), *grid, -1)
    return [
        np.moveaxis((image - mean) @ weights[:, list(wanted)], -1, 0)
        for image, wanted in zip(features, classes, strict=True)
    ]


def _occluded(model: keras.Model, image: Array, classes: Sequence[int], task: Task) -> Array:
    variants = [image]
    for rows in np.array_split(np.arange(image.shape[0]), PATCHES):
        for columns in np.array_split(np.arange(image.shape[1]), PATCHES):
            covered = image.copy()
            covered[np.ix_(rows, columns)] = image.mean(axis=(0, 1))
            variants.append(covered)
    batches = (np.stack(variants[start : start + _BATCH]) for start in range(0, len(variants), _BATCH))
    logits = np.concatenate([np.asarray(rows, float) for rows in predict_in_batches(model, batches)])
    probabilities = task.probabilities(logits)
    odds = np.stack([task.log_odds(probabilities, [wanted] * len(logits)) for wanted in classes])
    return (odds[:, :1] - odds[:, 1:]).reshape(len(classes), PATCHES, PATCHES).astype("float32")


def _pieces(text: str) -> list[str]:
    """Words with the white space after them, or runs of them; of characters where there are no spaces."""
    starts = [i for i, c in enumerate(text) if not c.isspace() and (i == 0 or text[i - 1].isspace())]
    if len(starts) < 3 and len(text) > 20:
        starts = list(range(len(text)))
    if len(starts) < 2:
        return [text]
    bounds = [0, *(run[0] for run in np.array_split(starts[1:], min(len(starts), PIECES) - 1)), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(bounds)]
