"""Does an artefact, run by its own runtime, answer as the Keras model does?"""

from dataclasses import asdict, dataclass

import numpy as np

from ktransfer.errors import ExportError

# Below this, float32 softmax has no digits left to compare (its smallest normal number is 1.2e-38).
_SMALLEST_PROBABILITY = 1e-30
_LARGER_BATCH = 8  # images; of the model as well, which bounds the memory it needs


@dataclass(frozen=True)
class Parity:
    """How far an artefact's answers are from the Keras model's, on the same images.

    Args:
        max_abs_delta: Largest difference of a probability.
        mean_abs_delta: Mean difference of a probability.
        max_logit_delta: Largest difference of a log-probability, which is a logit less one constant an
            image. It shows what a saturated softmax hides.
        logit_scale: Largest absolute logit of the Keras model; what `max_logit_delta` is to be judged by.
        label_agreement: Share of images, 0 to 1, with the same first label.
        images: How many images were compared.
        batch_sizes: The batch sizes at which the artefact was run.
        wrong_input_delta: Largest difference of a probability between the artefact's answers to the images
            with red and blue swapped, and its answers to the images: what this check would see if the input
            were wrong. Near zero, the comparison proves little.
        wrong_input_delta_of_model: The same of the Keras model.

    Example:
        >>> Parity(1e-7, 1e-8, 2e-6, 3.0, 1.0, 8, (1, 8), 0.2, 0.2).check("onnx", 1e-4)
    """

    max_abs_delta: float
    mean_abs_delta: float
    max_logit_delta: float
    logit_scale: float
    label_agreement: float
    images: int
    batch_sizes: tuple[int, ...]
    wrong_input_delta: float
    wrong_input_delta_of_model: float

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
                    f"Received: {what} that differ by {delta:.1e} on {self.images} images. "
                    "Export another format; nothing was written."
                )
        if self.wrong_input_delta <= tolerance < self.wrong_input_delta_of_model / 2:
            raise ExportError(
                f"The {format} artefact has to look at its input. Received: answers that change by "
                f"{self.wrong_input_delta:.1e} when red and blue are swapped, where the Keras model's change "
                f"by {self.wrong_input_delta_of_model:.1e}. Export another format; nothing was written."
            )

    def to_dict(self):
        """Return the measurement as a dictionary of JSON values."""
        return asdict(self) | {"batch_sizes": list(self.batch_sizes)}

    @classmethod
    def from_dict(cls, values):
        """Return the measurement that `to_dict` gave."""
        return cls(**values | {"batch_sizes": tuple(values["batch_sizes"])})


def measure_parity(artefact, model, images, *, batch="dynamic"):
    """Run an artefact and the model on the same images and compare the answers.

    All images are run in batches of 8 (a shorter last batch is filled up with the first images), or of 2
    if there is one image only; the first 8 are run again one by one. An artefact of a fixed batch is run
    at that batch alone.

    Args:
        artefact: Callable, float32 images `(B, H, W, 3)` in 0-255 to probabilities `(B, C)`; the artefact
            as its own runtime answers.
        model: Callable, the same images to logits `(B, C)`; the Keras model in inference mode.
        images: float32 `(N, H, W, 3)` in 0-255, real ones, N at least 1.
        batch: `"dynamic"`, or the one batch size that the artefact takes.

    Returns:
        `Parity`; nothing is judged yet, see `Parity.check`.

    Raises:
        ExportError: The runtime cannot run the artefact, its answers have another shape, or the model's own
            answers are not finite.

    Example:
        >>> images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
        >>> logits = lambda images: images.mean((1, 2)) / 255
        >>> parity = measure_parity(lambda images: softmax(logits(images)), logits, images)
        >>> parity.label_agreement, parity.batch_sizes
        (1.0, (1, 4))
    """
    first, swapped = images[:_LARGER_BATCH], images[:_LARGER_BATCH, ..., ::-1]
    sizes = (1, min(_LARGER_BATCH, max(2, len(images)))) if batch == "dynamic" else (batch,)
    logits = _in_batches(model, images, _LARGER_BATCH)
    if not np.isfinite(logits).all():
        raise ExportError(
            "The model has to answer real images with finite logits. Received: NaN or infinity from the "
            "Keras model itself. Train it again at a lower learning rate."
        )
    swapped_logits = _in_batches(model, swapped, _LARGER_BATCH)
    try:
        answers = _in_batches(artefact, images, sizes[-1])
        singles = _in_batches(artefact, first, sizes[0])
        swapped_answers = _in_batches(artefact, swapped, sizes[-1])
    except Exception as error:  # each runtime has its own kinds, none of them public
        raise ExportError(f"The artefact has to run at batch sizes {sizes}. Received: {error}") from error
    if answers.shape != logits.shape:
        raise ExportError(
            f"The artefact has to answer with probabilities of shape {logits.shape}. "
            f"Received: {answers.shape}. Export another format."
        )

    answers = np.concatenate([answers, singles])
    logits = np.concatenate([logits, logits[: len(first)]])
    expected = softmax(logits)
    delta = np.abs(answers - expected)
    return Parity(
        max_abs_delta=float(delta.max()),
        mean_abs_delta=float(delta.mean()),
        max_logit_delta=float(np.abs(_log(answers) - _log(expected)).max()),
        logit_scale=float(np.abs(logits).max()),
        label_agreement=float((answers.argmax(-1) == logits.argmax(-1)).mean()),
        images=len(images),
        batch_sizes=sizes,
        wrong_input_delta=float(np.abs(swapped_answers - answers[: len(first)]).max()),
        wrong_input_delta_of_model=float(np.abs(softmax(swapped_logits) - expected[: len(first)]).max()),
    )


def softmax(logits):
    """Return the probabilities `(B, C)` of logits `(B, C)`, in float64."""
    powers = np.exp(np.float64(logits) - np.max(logits, axis=-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _log(probabilities):
    return np.log(np.maximum(probabilities, _SMALLEST_PROBABILITY))


def _in_batches(function, images, size):
    """Return what `function` answers to `images` when it sees `size` of them a call, never fewer."""
    count = len(images)
    rounds = -(-count // size)
    indices = np.arange(rounds * size).reshape(rounds, size) % count
    return np.concatenate([np.asarray(function(images[i])) for i in indices])[:count]
