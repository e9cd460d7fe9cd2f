"""Choose the weights of a fine-tuned classifier: on the way from those before, or averaged with a second arm's."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from scipy.optimize import minimize_scalar

from ktransfer.core.task import SINGLE_LABEL, Task, get_task
from ktransfer.errors import RecipeError, RunError
from ktransfer.training.best_weights import unique_names
from ktransfer.training.linear_probe import score
from ktransfer.utils.files import replacing

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


# Of the way from the weights before fine-tuning to those after it.
SHARES = (0.25, 0.5, 0.75, 1.0)
# Standard errors by which the log loss of the weights that are kept may lie above the lowest. Measured on three trained
# runs (500 texts of snips by two recipes, 288 drawings), each with 60 draws of a validation set of its size, points of
# test accuracy below the best share, mean and worst run: 0.2 and 0.3 with 1.0, 0.1 and 0.1 with 1.5, 0.2 and 0.3 by the
# lowest log loss; 0.8 and 1.7 by the earlier rule, which kept the head unless another was lower by half a standard
# error (on the splits themselves 2.9 and 6.3: it kept the head, which was 6.3 points below the last epoch on drawings).
# In none of the three does fine-tuning harm, so no larger number is taken.
TOLERATED_ERRORS = 1.0
# A standard error of fewer examples than these is too uncertain to show weights that fine-tuning spoiled.
LEAST_EXAMPLES = 20


@dataclass(frozen=True)
class Candidate:
    """Weights that may be kept, and what they are worth on the validation examples.

    Attributes:
        share: Of the way from the weights before fine-tuning (0) to those after it (1).
        zero_head: What counts the weights that were fine-tuned from a zero head, in [0, 1]; those on the way count the
            rest.
        log_loss: Mean cross-entropy at the best temperature, nats; summed over the labels of an example.
        accuracy: In [0, 1]; of a task with another metric (`Task.score`) that.
        temperature: By which logits are divided so that the log loss is lowest.
        gain: By how much the log loss is lower than that of the weights before.
        error: Standard error of `gain`, paired by example.
        excess: By how much the log loss lies above the lowest of the candidates.
        excess_error: Standard error of `excess`, paired by example.
    """

    share: float
    log_loss: float
    accuracy: float
    temperature: float
    gain: float = 0.0
    error: float = 0.0
    excess: float = 0.0
    excess_error: float = 0.0
    zero_head: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON, as in the manifest."""
        return dataclasses.asdict(self)


def choose_weights(
    variables: Sequence[keras.Variable],
    before: Sequence[np.ndarray],
    answer: Callable[[], np.ndarray],
    labels: np.ndarray,
    *,
    class_weight: Mapping[int, float] | None = None,
    task: str | Task = SINGLE_LABEL,
    zero_head: Sequence[np.ndarray] | None = None,
) -> tuple[Candidate, list[Candidate]]:
    """Assign the weights between those before fine-tuning and the present ones that validation favours.

    Each candidate costs one pass over the validation examples. Kept is the one farthest from the weights before among
    those whose log loss lies above the lowest by no more than one standard error of the difference (the rule of one
    standard error, Breiman et al. 1984, section 3.4.3, here toward the tuned end). So where validation cannot tell the
    candidates apart the last epoch is kept, and fine-tuning that spoiled the weights is undone as far as it is seen to.
    Fewer than 20 validation examples cannot show that, and leave the weights before. Of a task with `only_gains`, such
    as regression, the weights before are kept too where no others have a lower loss.

    With `zero_head`, the weights of a second fine-tuning, three more are candidates: these alone, their average with
    the last ones, and the average of the three candidates of the lowest log loss so far (a soup). The one of these with
    the lowest log loss is kept where that is lower than that of the weights chosen by the rule above.

    Args:
        variables: What fine-tuning changed.
        before: Their values before it.
        answer: Returns the logits `(N, classes)` of the validation examples, with the weights as they are.
        labels: As `Examples.labels`.
        class_weight: How much an example of each class index counts. Defaults to `None`, all the same.
        task: What the labels are of. Defaults to `"single_label"`.
        zero_head: Values of the variables after a fine-tuning that began with a head of zeros. Defaults to `None`.

    Returns:
        The one that is kept, and all of them, the weights before first.

    Raises:
        RecipeError: `before` is of other variables.

    Example:

        chosen, candidates = choose_weights(model.trainable_variables, before, answer, validation.labels)

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", section 3 (WiSE-FT), and "Model soups",
    section 2 (uniform soup).
    """
    after = _values(variables)
    if [value.shape for value in after] != [np.shape(value) for value in before]:
        raise RecipeError(
            f"Expected the values of {len(after)} variables before fine-tuning, got {len(before)} of other shapes. "
            "Read them from the same variables."
        )
    task, weights = get_task(task), np.ones(len(labels))
    if class_weight:
        weights = np.array([class_weight.get(int(label), 1.0) for label in labels])
    weights = weights / weights.mean()
    found: list[Candidate] = []
    losses: list[Array | None] = []

    def assign(share: float, zeros: float = 0.0) -> None:
        _assign(variables, before, after, share)
        if zero_head is not None and zeros:
            _assign(variables, _values(variables), zero_head, zeros)

    def add(share: float, zeros: float = 0.0) -> None:
        assign(share, zeros)
        candidate, each = _evaluated(task, answer(), labels, weights, share)
        found.append(dataclasses.replace(candidate, zero_head=zeros))
        losses.append(each)

    for share in (0.0, *SHARES):
        add(share)
    line = len(found)
    if zero_head is not None:
        add(1.0, 1.0)
        add(1.0, 0.5)
        add(*_soup(sorted(found, key=lambda each: each.log_loss)[:3]))
    finite = {index: each for index, each in enumerate(losses) if each is not None}
    usable = list(finite)
    lowest = min(usable, key=lambda index: found[index].log_loss, default=0)
    for index in usable:
        excess, excess_error = _difference(finite[index], finite[lowest])
        found[index] = dataclasses.replace(found[index], excess=excess, excess_error=excess_error)
        if index and usable[0] == 0:
            gain, error = _difference(finite[0], finite[index])
            found[index] = dataclasses.replace(found[index], gain=gain, error=error)
    as_good = [
        index
        for index in usable
        if index < line
        and found[index].excess <= TOLERATED_ERRORS * found[index].excess_error
        and not (task.only_gains and index and found[index].log_loss >= found[0].log_loss)
    ]
    place = max(as_good, default=0)
    place = min([place, *range(line, len(found))], key=lambda index: found[index].log_loss)
    chosen = found[place if len(labels) >= LEAST_EXAMPLES else 0]
    assign(chosen.share, chosen.zero_head)
    return chosen, found


def _soup(best: Sequence[Candidate]) -> tuple[float, float]:
    """`share` and `zero_head` of the average of candidates."""
    zeros = float(np.mean([each.zero_head for each in best]))
    ways = [1 - each.zero_head for each in best]
    share = float(np.average([each.share for each in best], weights=ways)) if any(ways) else 1.0
    return share, zeros


def assign_between(variables: Sequence[keras.Variable], before: Sequence[np.ndarray], share: float) -> None:
    """Interpolate variables between earlier values and the present ones.

    Example:

        assign_between(model.weights, before, 0.5)
    """
    _assign(variables, before, _values(variables), share)


def save_weights(path: str | os.PathLike[str], model: keras.Model) -> None:
    """Write the weights of a model to an `.npz` file, by their paths.

    Example:

        save_weights("solved.npz", model)
    """
    arrays: dict[str, Any] = {
        name: np.asarray(keras.ops.convert_to_numpy(v)) for name, v in unique_names(model.weights).items()
    }
    with replacing(path) as partial:
        np.savez(partial, **arrays)


def load_weights(
    path: str | os.PathLike[str], model: keras.Model
) -> tuple[list[keras.Variable], list[np.ndarray]]:
    """The weights of a model that differ from those of `save_weights`, with their saved values.

    Raises:
        RunError: The file is damaged, or of another model.

    Example:

        variables, before = load_weights("solved.npz", model)
    """
    changed = [
        (variable, value)
        for variable, value in zip(*read_weights(path, model), strict=True)
        if not np.array_equal(value, keras.ops.convert_to_numpy(variable))
    ]
    return [variable for variable, _ in changed], [value for _, value in changed]


def read_weights(
    path: str | os.PathLike[str], model: keras.Model
) -> tuple[list[keras.Variable], list[np.ndarray]]:
    """All weights of a model, with their values from `save_weights`.

    Raises:
        RunError: The file is damaged, or of another model.

    Example:

        variables, values = read_weights("solved.npz", model)
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
    except Exception as error:  # whatever NumPy, zipfile and zlib have for a damaged file
        raise RunError(
            f"Expected the weights before fine-tuning in {path}, got {type(error).__name__}: {error}. Train again."
        ) from error
    variables, values = [], []
    for name, variable in unique_names(model.weights).items():
        value = arrays.get(name)
        if value is None or value.shape != tuple(variable.shape):
            raise RunError(
                f"Expected the weights before fine-tuning in {path}, got none that fit {name}. Train again."
            )
        variables.append(variable)
        values.append(value)
    return variables, values


def _values(variables: Sequence[keras.Variable]) -> list[Array]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(
    variables: Sequence[keras.Variable], before: Sequence[Array], after: Sequence[Array], share: float
) -> None:
    for variable, old, new in zip(variables, before, after, strict=True):
        variable.assign(old if share == 0 else new if share == 1 else (1 - share) * old + share * new)


def _difference(losses: Array, others: Array) -> tuple[float, float]:
    """The mean difference of losses paired by example, and its standard error."""
    each = losses - others
    error = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.inf
    return float(each.mean()), float(error)


def _evaluated(
    task: Task, logits: Array, labels: Array, weights: Array, share: float
) -> tuple[Candidate, Array | None]:
    """A candidate, and the weighted log loss of each example; `None` where an answer is NaN or infinite."""
    logits = np.asarray(logits, "float64")
    if not np.isfinite(logits).all():
        return Candidate(share, float("inf"), 0.0, 1.0), None
    targets = task.targets(labels, logits.shape[1])

    def losses(log_temperature: float) -> Array:
        return task.likelihoods(logits / np.exp(log_temperature), targets)[0].sum(axis=1) * weights

    best = 0.0
    if task.tempered:
        best = minimize_scalar(lambda t: losses(t).mean(), bounds=(-3.0, 3.0), method="bounded").x
    found = score(task, logits, labels)
    return Candidate(share, float(losses(best).mean()), found, float(np.exp(best))), losses(best)
