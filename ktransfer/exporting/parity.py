"""Does an artifact, run by its own runtime, answer as the Keras model does?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ktransfer.core.task import SINGLE_LABEL, get_task
from ktransfer.errors import ExportError

if TYPE_CHECKING:
    from ktransfer.core.task import Task
    from ktransfer.core.typing import Answer, Array
    from ktransfer.exporting.serving import Examples


TOLERANCE = 1e-4  # of a probability in float32
_LARGER_BATCH = 8  # examples
_ENOUGH_FOR_ONE = 10  # examples, of which one may differ whatever the limit
_CHANGES = 0.01  # of a probability, is what a quantized artifact has to change by when its input is wrong


@dataclass(frozen=True)
class Parity:
    """The difference between an artifact's answers and the Keras model's, on the same examples.

    Args:
        max_abs_delta: Largest difference of a probability.
        mean_abs_delta: Mean difference of a probability.
        max_logit_delta: Largest difference of a log-probability, which is a logit less one constant an
            example. It shows what a saturated softmax hides.
        logit_scale: Largest absolute logit of the Keras model; the scale of `max_logit_delta`.
        label_agreement: Share of examples, 0 to 1, with the same label at both batch sizes; with several labels an
            example, the share of these that are answered alike.
        examples: How many images or texts were compared.
        batch_sizes: The batch sizes at which the artifact was run.
        wrong_input_delta: Largest difference of a probability between the artifact's answers to wrong inputs
            (red and blue swapped; tokens in reverse order under the old padding mask) and to the right ones:
            what this check would see if the input were wrong. Near zero, the comparison proves little.
        wrong_input_delta_of_model: The same of the Keras model.
        sequence_lengths: The padded lengths, in tokens, at which the artifact was run; of images none.
        accuracy: Share of the examples that the artifact labels rightly; with several labels an example, the mean of
            its F1; `None` if the truth is not known.
        accuracy_of_model: The same of the Keras model.
        compared: What the differences are of. Defaults to `"probabilities"`; of regression they are in standard
            deviations of the target, and logits are the same.
        agreeing: What answers are that agree. Defaults to `"with the same label"`.
        accuracy_title: What `accuracy` is. Defaults to `"accuracy"`.

    Example:
        >>> Parity(1e-7, 1e-8, 2e-6, 3.0, 1.0, 8, (1, 8), 0.2, 0.2).check("onnx", 1e-4)
    """

    max_abs_delta: float
    mean_abs_delta: float
    max_logit_delta: float
    logit_scale: float
    label_agreement: float
    examples: int
    batch_sizes: tuple[int, ...]
    wrong_input_delta: float
    wrong_input_delta_of_model: float
    sequence_lengths: tuple[int, ...] = ()
    accuracy: float | None = None
    accuracy_of_model: float | None = None
    compared: str = "probabilities"
    agreeing: str = "with the same label"
    accuracy_title: str = "accuracy"

    def check(self, format: str, tolerance: float) -> None:
        """Raise unless the artifact answers as the Keras model does.

        Probabilities may differ by `tolerance`, logits by `tolerance * max(1, logit_scale)`: a float32
        network of fifty layers rounds in proportion to its logits.

        Args:
            format: The artifact's format, named in the error.
            tolerance: Largest allowed difference of a probability.

        Raises:
            ExportError: A difference is past its limit or not a number, or the artifact ignores its input.
        """
        logit_tolerance = tolerance * max(1.0, self.logit_scale)
        for what, delta, limit in (
            (self.compared, self.max_abs_delta, tolerance),
            ("logits", self.max_logit_delta, logit_tolerance),
        ):
            if not delta <= limit:  # so that NaN fails
                raise ExportError(
                    f"Expected the {format} artifact to answer as the model does, {what} within {limit:.1e}, "
                    f"got {what} that differ by {delta:.1e} on {self.examples} examples. Export another "
                    "format; nothing was written."
                )
        self.check_input(format, tolerance)

    def check_labels(self, format: str, *, agreement: float, accuracy_drop: float | None = None) -> None:
        """Raise unless a quantized artifact gives the model's labels and is right as often.

        The shares are counted in whole examples. One may always differ where there are ten or more: of a
        hundred, 99.5% would be all of them, and one of them is often a near tie.

        Args:
            format: The artifact's format, named in the error.
            agreement: Smallest share of examples, 0 to 1, with the model's label.
            accuracy_drop: By how much the accuracy, 0 to 1, may be lower than the model's; not looked at if
                `None`, or if the labels are not known.

        Raises:
            ExportError: One of them is not held, an answer is not a number, or the input is ignored.
        """
        what = f"Expected the {format} artifact to answer as the model does, "
        if not np.isfinite(self.max_abs_delta):
            raise ExportError(f"{what}with numbers, got NaN or infinity. Export another format.")
        self.check_input(format, _CHANGES)
        fix = "Export another format, or change the limit in the recipe; nothing was written."
        if self._examples(1 - self.label_agreement) > self._allowed(1 - agreement):
            raise ExportError(
                f"{what}{self.agreeing} for {agreement:.1%} of the examples, got {self.label_agreement:.1%} "
                f"of {self.examples}{self._accuracies()}. {fix}"
            )
        if accuracy_drop is None or self.accuracy is None or self.accuracy_of_model is None:
            return
        if self._examples(self.accuracy_of_model - self.accuracy) > self._allowed(accuracy_drop):
            raise ExportError(
                f"{what}its {self.accuracy_title} no more than {100 * accuracy_drop:g} points lower, got "
                f"{self._accuracies().removeprefix(', ')} on {self.examples} examples. {fix}"
            )

    def _examples(self, share: float) -> int:
        return round(share * self.examples)

    def _allowed(self, share: float) -> int:
        # A share such as 0.02 of 100 is a little less than 2 in binary.
        return max(int(share * self.examples + 1e-6), int(self.examples >= _ENOUGH_FOR_ONE))

    def _accuracies(self) -> str:
        if self.accuracy is None:
            return ""
        return (
            f", {self.accuracy_title} {self.accuracy:.1%} where the model's is {self.accuracy_of_model:.1%}"
        )

    @property
    def agreement_title(self) -> str:
        """The words before `label_agreement` in a line."""
        return "labels agree" if self.compared == "probabilities" else f"answers {self.agreeing}"

    @property
    def unit(self) -> str:
        """The unit after a difference in a line: none for probabilities."""
        return "" if self.compared == "probabilities" else f" {self.compared}"

    def check_input(self, format: str, tolerance: float) -> None:
        """Raise `ExportError` if the artifact's answers stay within `tolerance` when its input is made wrong.

        Not if the model's own answers change by less than twice as much.
        """
        if self.wrong_input_delta <= tolerance < self.wrong_input_delta_of_model / 2:
            raise ExportError(
                f"Expected the {format} artifact to look at its input, got answers that change by "
                f"{self.wrong_input_delta:.1e} when the input is made wrong, where the Keras model's change "
                f"by {self.wrong_input_delta_of_model:.1e}. Export another format; nothing was written."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement as a dictionary of JSON values."""
        usual = {item.name: item.default for item in fields(self) if isinstance(item.default, str)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if usual.get(name) != value
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Parity:
        """Return the measurement that `to_dict` gave."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**fields)


def check_logits(model: Answer, examples: Examples, task: Task | None = None) -> None:
    """Raise `ExportError` unless a model answers real examples with logits: finite, and no probabilities.

    An artifact makes probabilities of them, and one of probabilities would agree with itself, and be wrong.

    Args:
        model: Callable, inputs by name to logits `(B, C)`.
        examples: `Examples`, of which the first are asked for.
        task: `Task`. Defaults to single-label classification.
    """
    task = task or get_task(SINGLE_LABEL)
    logits = model(examples.batch(np.arange(_LARGER_BATCH) % len(examples)))
    _check_finite(logits)
    if task.look_like_probabilities(logits):
        raise ExportError(
            f"Expected a model that answers with logits, of which an artifact takes the {task.activation}, "
            f"got answers that look like probabilities. Build the last layer without its {task.activation}, "
            "and copy the weights."
        )


def measure_parity(
    artifact: Answer,
    model: Answer,
    examples: Examples,
    *,
    fixed: Mapping[str, int] = MappingProxyType({}),
    labels: Array | None = None,
    task: Task | None = None,
    decision: Mapping[str, Any] | None = None,
    positions: Sequence[Array] | None = None,
) -> Parity:
    """Run an artifact and the model on the same examples and compare the answers.

    All examples are run in batches of 8 (a shorter last batch is filled up with the first examples), or of 2
    if there is one only; the first 8 are run again one by one. Texts are padded as in training, and the first
    one to the sequence length as well. An artifact of a fixed batch or sequence is run at that alone.

    Args:
        artifact: Callable, inputs by name to probabilities `(B, C)`; the artifact as its own runtime answers.
        model: Callable, the same inputs to logits `(B, C)`; the Keras model in inference mode.
        examples: Real ones, `Examples`, at least 1.
        fixed: Sizes of the axes by name of which the artifact takes but one size.
        labels: True labels of the examples' rows, as the task has them, to measure the accuracy too.
        task: `Task`. Defaults to single-label classification.
        decision: As in `Serving`. Defaults to `None`.
        positions: As in `Serving`: of each example the tokens whose answers are compared, each as a row of the task.
            Defaults to `None`, an answer an example.

    Returns:
        `Parity`; nothing is checked yet, see `Parity.check`.

    Raises:
        ExportError: The runtime cannot run the artifact, its answers have another shape, or the model's own
            answers are not finite.

    Example:
        >>> from ktransfer.image.serving import Images
        >>> images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
        >>> logits = lambda inputs: inputs["image"].mean((1, 2)) / 255
        >>> softmax = get_task("single_label").probabilities
        >>> parity = measure_parity(lambda inputs: softmax(logits(inputs)), logits, Images(images))
        >>> parity.label_agreement, parity.batch_sizes
        (1.0, (1, 4))
    """
    count, task = len(examples), task or get_task(SINGLE_LABEL)
    size = fixed.get("batch", min(_LARGER_BATCH, max(2, count)))
    single = fixed.get("batch", 1)
    first = min(_LARGER_BATCH, count)
    padded = "sequence" in fixed
    every = _batches(examples, count, size, longest=[padded])
    singles = _batches(examples, first, single, longest=[True, padded])
    wrong = [_made_wrong(inputs) for inputs in every[: -(-first // size)]]
    rounds = ((every, count), (singles, first), (wrong, first))
    logits, single_logits, wrong_logits = (
        _answers(model, _merged(each), rows, positions) for each, rows in rounds
    )
    first = len(single_logits)
    _check_finite(logits)
    sizes = tuple(sorted({single, size}))
    try:
        answers, single_answers, wrong_answers = (_answers(artifact, *each, positions) for each in rounds)
    except Exception as error:  # each runtime has its own kinds, none of them public
        raise ExportError(
            f"Expected the artifact to run at batch sizes {sizes}, got {error}. Export another format."
        ) from error
    if answers.shape != logits.shape:
        raise ExportError(
            f"Expected the artifact to answer with probabilities of shape {logits.shape}, got "
            f"{answers.shape}. Export another format."
        )

    def change(wrong: Array, right: Array) -> Array:
        return np.abs(task.compared(wrong)[0] - task.compared(right)[0])

    wrong_delta = change(wrong_answers, answers[:first])
    wrong_delta_of_model = change(task.probabilities(wrong_logits), task.probabilities(logits[:first]))
    decided, decided_by_model = (
        task.decide(each, decision) for each in (answers, task.probabilities(logits))
    )
    agree = task.agreement(decided, decided_by_model)
    singly, singly_by_model = (
        task.decide(each, decision) for each in (single_answers, task.probabilities(single_logits))
    )
    agree[:first] = np.minimum(agree[:first], task.agreement(singly, singly_by_model))
    accuracies = [
        None if labels is None else _share(task.hits(each, labels)) for each in (decided, decided_by_model)
    ]
    answers, logits = np.concatenate([answers, single_answers]), np.concatenate([logits, single_logits])
    (answers, answered_logits), (expected, expected_logits) = (
        task.compared(each) for each in (answers, task.probabilities(logits))
    )
    delta = np.abs(answers - expected)
    lengths = {array.shape[1] for inputs in every + singles for array in inputs.values() if array.ndim == 2}
    return Parity(
        max_abs_delta=float(delta.max()),
        mean_abs_delta=float(delta.mean()),
        max_logit_delta=float(np.abs(answered_logits - expected_logits).max()),
        logit_scale=float(np.abs(logits).max()),
        label_agreement=_share(agree),
        examples=count,
        batch_sizes=sizes,
        wrong_input_delta=float(wrong_delta.max()),
        wrong_input_delta_of_model=float(wrong_delta_of_model.max()),
        sequence_lengths=tuple(sorted(lengths)),
        accuracy=accuracies[0],
        accuracy_of_model=accuracies[1],
        compared=task.compared_title,
        agreeing=task.agreement_title,
        accuracy_title=task.hit_title,
    )


def _check_finite(logits: Array) -> None:
    if not np.isfinite(logits).all():
        raise ExportError(
            "Expected the model to answer real examples with finite logits, got NaN or infinity from the "
            "Keras model itself. Train it again at a lower learning rate."
        )


def _share(holds: Array) -> float:
    return float(np.mean(holds))


def _batches(examples: Examples, count: int, size: int, *, longest: Sequence[bool]) -> list[dict[str, Array]]:
    """The first `count` examples in batches of `size`, never fewer: the last is filled up from the start.

    `longest` says for each batch, its last value for all that follow, whether to pad it to the longest.
    """
    rows = np.arange(-(-count // size) * size).reshape(-1, size) % len(examples)
    return [examples.batch(row, longest=longest[min(i, len(longest) - 1)]) for i, row in enumerate(rows)]


def _merged(batches: Sequence[dict[str, Array]]) -> list[dict[str, Array]]:
    """The examples in larger batches where they have one shape, as in earlier calls of the model.

    Texts as people write them stay as they are: how they are padded depends on their batch.
    """
    merged = []
    for shapes, alike in itertools.groupby(batches, lambda batch: [a.shape[1:] for a in batch.values()]):
        group = list(alike)
        rows = len(next(iter(group[0].values())))
        each = max(1, _LARGER_BATCH // rows) if all(shapes) else 1
        for start in range(0, len(group), each):
            parts = group[start : start + each]
            merged.append({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    return merged


def _answers(
    function: Answer, batches: Sequence[dict[str, Array]], count: int, positions: Sequence[Array] | None
) -> Array:
    """The rows of the answers to the first `count` examples."""
    found = [np.asarray(function(inputs)) for inputs in batches]
    if positions is None:
        return np.concatenate(found)[:count]
    each = (answer for batch in found for answer in batch)
    return np.concatenate(
        [answer[positions[index]] for index, answer in zip(range(count), each, strict=False)]
    )


def _made_wrong(inputs: dict[str, Array]) -> dict[str, Array]:
    """Wrong inputs: red and blue swapped, tokens reversed under the old mask, or texts reversed."""
    name = next(iter(inputs))
    return {**inputs, name: np.ascontiguousarray(inputs[name][..., ::-1])}
