"""Does an artefact, run by its own runtime, answer as the Keras model does?"""

from dataclasses import asdict, dataclass

import numpy as np

from ktransfer.errors import ExportError

# Below this, float32 softmax has no digits left to compare (its smallest normal number is 1.2e-38).
_SMALLEST_PROBABILITY = 1e-30
_LARGER_BATCH = 8  # examples


@dataclass(frozen=True)
class Parity:
    """How far an artefact's answers are from the Keras model's, on the same images or texts.

    Args:
        max_abs_delta: Largest difference of a probability.
        mean_abs_delta: Mean difference of a probability.
        max_logit_delta: Largest difference of a log-probability, which is a logit less one constant an
            example. It shows what a saturated softmax hides.
        logit_scale: Largest absolute logit of the Keras model; what `max_logit_delta` is to be judged by.
        label_agreement: Share of examples, 0 to 1, with the same first label.
        examples: How many images or texts were compared.
        batch_sizes: The batch sizes at which the artefact was run.
        wrong_input_delta: Largest difference of a probability between the artefact's answers to wrong inputs
            (red and blue swapped; tokens in reverse order under the old padding mask) and to the right ones:
            what this check would see if the input were wrong. Near zero, the comparison proves little.
        wrong_input_delta_of_model: The same of the Keras model.
        sequence_lengths: The padded lengths, in tokens, at which the artefact was run; of images none.

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

    def check(self, format, tolerance):
        """Raise unless the artefact answers as the Keras model does.

        Probabilities may differ by `tolerance`, logits by `tolerance * max(1, logit_scale)`: a float32
        network of fifty layers rounds in proportion to its logits.

        Args:
            format: The artefact's format, named in the error.
            tolerance: Largest allowed difference of a probability.

        Raises:
            ExportError: A difference is past its limit or not a number, or the artefact ignores its input.
        """
        logit_tolerance = tolerance * max(1.0, self.logit_scale)
        for what, delta, limit in (
            ("probabilities", self.max_abs_delta, tolerance),
            ("logits", self.max_logit_delta, logit_tolerance),
        ):
            if not delta <= limit:  # so that NaN fails
                raise ExportError(
                    f"The {format} artefact has to answer as the model does, {what} within {limit:.1e}. "
                    f"Received: {what} that differ by {delta:.1e} on {self.examples} examples. "
                    "Export another format; nothing was written."
                )
        if self.wrong_input_delta <= tolerance < self.wrong_input_delta_of_model / 2:
            raise ExportError(
                f"The {format} artefact has to look at its input. Received: answers that change by "
                f"{self.wrong_input_delta:.1e} when the input is made wrong, where the Keras model's change "
                f"by {self.wrong_input_delta_of_model:.1e}. Export another format; nothing was written."
            )

    def to_dict(self):
        """Return the measurement as a dictionary of JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values):
        """Return the measurement that `to_dict` gave."""
        return cls(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        )


def measure_parity(artefact, model, examples, *, fixed=()):
    """Run an artefact and the model on the same examples and compare the answers.

    All examples are run in batches of 8 (a shorter last batch is filled up with the first examples), or of 2
    if there is one only; the first 8 are run again one by one. Texts are padded as in training, and the first
    one to the sequence length as well. An artefact of a fixed batch or sequence is run at that alone.

    Args:
        artefact: Callable, inputs by name to probabilities `(B, C)`; the artefact as its own runtime answers.
        model: Callable, the same inputs to logits `(B, C)`; the Keras model in inference mode.
        examples: Real ones, `Examples`, at least 1.
        fixed: Sizes of the axes by name of which the artefact takes but one size.

    Returns:
        `Parity`; nothing is judged yet, see `Parity.check`.

    Raises:
        ExportError: The runtime cannot run the artefact, its answers have another shape, or the model's own
            answers are not finite.

    Example:
        >>> images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
        >>> logits = lambda inputs: inputs["image"].mean((1, 2)) / 255
        >>> parity = measure_parity(lambda inputs: softmax(logits(inputs)), logits, Images(images))
        >>> parity.label_agreement, parity.batch_sizes
        (1.0, (1, 4))
    """
    fixed, count = dict(fixed), len(examples)
    size = fixed.get("batch", min(_LARGER_BATCH, max(2, count)))
    single = fixed.get("batch", 1)
    first = min(_LARGER_BATCH, count)
    padded = "sequence" in fixed
    every = _batches(examples, count, size, longest=[padded])
    singles = _batches(examples, first, single, longest=[True, padded])
    wrong = [_made_wrong(inputs) for inputs in every[: -(-first // size)]]
    rounds = ((every, count), (singles, first), (wrong, first))
    logits, single_logits, wrong_logits = (_answers(model, *batches) for batches in rounds)
    if not np.isfinite(logits).all():
        raise ExportError(
            "The model has to answer real examples with finite logits. Received: NaN or infinity from the "
            "Keras model itself. Train it again at a lower learning rate."
        )
    sizes = tuple(sorted({single, size}))
    try:
        answers, single_answers, wrong_answers = (_answers(artefact, *batches) for batches in rounds)
    except Exception as error:  # each runtime has its own kinds, none of them public
        raise ExportError(f"The artefact has to run at batch sizes {sizes}. Received: {error}") from error
    if answers.shape != logits.shape:
        raise ExportError(
            f"The artefact has to answer with probabilities of shape {logits.shape}. "
            f"Received: {answers.shape}. Export another format."
        )

    wrong_delta = np.abs(wrong_answers - answers[:first])
    wrong_delta_of_model = np.abs(softmax(wrong_logits) - softmax(logits[:first]))
    answers, logits = np.concatenate([answers, single_answers]), np.concatenate([logits, single_logits])
    expected = softmax(logits)
    delta = np.abs(answers - expected)
    lengths = {array.shape[1] for inputs in every + singles for array in inputs.values() if array.ndim == 2}
    return Parity(
        max_abs_delta=float(delta.max()),
        mean_abs_delta=float(delta.mean()),
        max_logit_delta=float(np.abs(_log(answers) - _log(expected)).max()),
        logit_scale=float(np.abs(logits).max()),
        label_agreement=float((answers.argmax(-1) == logits.argmax(-1)).mean()),
        examples=count,
        batch_sizes=sizes,
        wrong_input_delta=float(wrong_delta.max()),
        wrong_input_delta_of_model=float(wrong_delta_of_model.max()),
        sequence_lengths=tuple(sorted(lengths)),
    )


def softmax(logits):
    """Return the probabilities `(B, C)` of logits `(B, C)`, in float64."""
    powers = np.exp(np.float64(logits) - np.max(logits, axis=-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _log(probabilities):
    return np.log(np.maximum(probabilities, _SMALLEST_PROBABILITY))


def _batches(examples, count, size, *, longest):
    """The first `count` examples in batches of `size`, never fewer: the last is filled up from the start.

    `longest` says for each batch, its last value for all that follow, whether to pad it to the longest.
    """
    rows = np.arange(-(-count // size) * size).reshape(-1, size) % len(examples)
    return [examples.batch(row, longest=longest[min(i, len(longest) - 1)]) for i, row in enumerate(rows)]


def _answers(function, batches, count):
    return np.concatenate([np.asarray(function(inputs)) for inputs in batches])[:count]


def _made_wrong(inputs):
    """The same with red and blue swapped, tokens in reverse order under the old mask, or texts reversed."""
    name = next(iter(inputs))
    return {**inputs, name: np.ascontiguousarray(inputs[name][..., ::-1])}
