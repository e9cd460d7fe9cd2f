"""The source of every format: named inputs, examples to verify it on, and the exported function."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from ktransfer.core.modality import Modality, Preprocessing, modality_of
from ktransfer.core.task import SINGLE_LABEL, Task, get_task
from ktransfer.errors import ExportError
from ktransfer.models.inputs import as_taken
from ktransfer.security.safe_io import is_line

if TYPE_CHECKING:
    from ktransfer.core.typing import Answer, Array
    from ktransfer.models.adapters import Adapters


OUTPUT = "probabilities"
BATCH, SEQUENCE, HEIGHT, WIDTH = "batch", "sequence", "height", "width"


@dataclass(frozen=True)
class Input:
    """One input of an artifact.

    Args:
        name: As a program gives it.
        axes: For each axis its size, or the name of one that may have any size, such as `BATCH`.
        dtype: `"float32"`, `"uint8"`, `"int32"` or `"string"`.
        facts: What else a program has to know, for the signature.

    Example:
        >>> Input("token_ids", (BATCH, SEQUENCE), "int32").shape({SEQUENCE: 64})
        (None, 64)
    """

    name: str
    axes: tuple[int | str, ...]
    dtype: str
    facts: dict[str, Any] = field(default_factory=dict)

    def shape(self, fixed: Mapping[str, int]) -> tuple[int | None, ...]:
        """Return the sizes of the axes, those in `fixed` by name as given there; `None` for any size."""
        return tuple(fixed.get(axis) if isinstance(axis, str) else axis for axis in self.axes)

    def describe(self, fixed: Mapping[str, int]) -> dict[str, Any]:
        """Return the input's entry in an artifact's signature."""
        return {"name": self.name, "shape": list(self.shape(fixed)), "dtype": self.dtype, **self.facts}


class Examples(Protocol):
    """Real examples, as inputs of the model."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, *, longest: bool = False) -> dict[str, np.ndarray]:
        """The inputs by name; `longest` pads sequences to the longest the artifact will see."""


@dataclass(frozen=True)
class Serving:
    """A model that fits its labels, inputs and examples, as `serve_images` and `serve_texts` make it.

    Args:
        model: Functional Keras model of float32, one tensor or a dictionary of tensors to logits `(None, C)`, of tokens
            `(None, None, C)`.
        class_names: C names of outputs.
        inputs: What an artifact of ids or pixels takes.
        examples: To measure parity on.
        attempts: Which axes a converter is asked to fix, to which sizes, in the order to try.
        preprocessing: How examples are read; `None` of an image classifier that is given pixels alone.
        calibration: Training examples, to show an int8 artifact what flows between its layers.
        files: The image files that the examples are, where they are known.
        prepare: What becomes of the named inputs before the model, in the graph.
        task: What the probabilities are of. Defaults to single-label classification.
        decision: How the task gets from probabilities to labels; `None` takes the task's own way.
        temperature: What logits are divided by before they become probabilities (Guo et al. 2017).
        answered: What the model has answered so far, before the temperature, by a hash of what it was given.
        positions: Of each example the tokens whose answers count, int `(rows,)`; `None` where an example has one.
        client: The client library that the artifact's metadata is for, such as `"mediapipe"`. Defaults to `None`.
        not_for_client: Why that library cannot answer as the run does; empty where it can.
        word_pieces: The vocabulary of a text classifier by id, for a client that makes the ids itself.
        adapters: Those that are merged in the model, with the kernels without them; `None` where there are none, or
            the format takes the model as it is.
    """

    model: keras.Model
    class_names: list[str]
    inputs: tuple[Input, ...]
    examples: Examples
    attempts: tuple[dict[str, int], ...]
    preprocessing: Preprocessing | None = None
    calibration: Examples | None = None
    files: Sequence[str] = ()
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = lambda inputs: inputs
    task: Task = field(default_factory=lambda: get_task(SINGLE_LABEL))
    decision: dict[str, Any] | None = None
    temperature: float = 1.0
    answered: dict[bytes, np.ndarray] = field(default_factory=dict)
    positions: Sequence[np.ndarray] | None = None
    client: str | None = None
    not_for_client: str = ""
    word_pieces: Sequence[str] = ()
    adapters: Adapters | None = None

    @property
    def modality(self) -> Modality:
        """The modality of the examples."""
        return modality_of(self.preprocessing)

    @property
    def output_axes(self) -> tuple[int | str, ...]:
        """The axes of the probabilities, as `Input.axes`."""
        return self.task.output_axes(self.inputs[0].axes, len(self.class_names))

    def require_files(self) -> None:
        """Raise `ExportError` unless it is known which image files the examples are, and how they are read."""
        if not self.files:
            raise ExportError(
                "Expected an image classifier, its preprocessing and image files, got neither how it resizes, nor "
                "files to prove it on. Give both, or export pixels of one size."
            )

    def check_calibration(self) -> None:
        """Raise `ExportError` if there is nothing to calibrate on."""
        if not self.calibration:
            raise ExportError(
                "Expected real training examples to calibrate an int8 artifact, got none. Give some as "
                "`calibration`; a hundred are enough."
            )

    def calibration_batches(self) -> list[dict[str, Array]]:
        """Return the inputs by name of each example to calibrate on, alone and padded to the longest."""
        examples = self.calibration
        return [examples.batch(np.array([i]), longest=True) for i in range(len(examples))] if examples else []


def for_client(serving: Serving, client: str) -> Serving:
    """Return the `Serving` for a client library: one example at a time, and every axis of one size.

    Raises:
        ExportError: The library cannot answer as the run does.

    Example:
        >>> for_client(serving, "mediapipe").client
        'mediapipe'
    """
    refused = serving.not_for_client
    if not refused and not serving.task.tempered:
        refused = f"{serving.task.title}, which has no labels"
    if refused:
        raise ExportError(
            f"Expected a model that {client} reads as the run does with --client (client), got {refused}. Leave it out."
        )
    return dataclasses.replace(one_at_a_time(serving), attempts=serving.attempts[-1:], client=client)


def one_at_a_time(serving: Serving) -> Serving:
    """Return the `Serving` of which the batch is 1, whatever else may have any size."""
    attempts = dict.fromkeys(tuple(sorted({**fixed, BATCH: 1}.items())) for fixed in serving.attempts)
    return dataclasses.replace(serving, attempts=tuple(map(dict, attempts)))


def serving_function(
    serving: Serving, fixed: Mapping[str, int], *, activation: Callable[[tf.Tensor], tf.Tensor] | None = None
) -> Any:
    """Return the function that is exported: raw inputs to probabilities, in inference mode.

    Args:
        serving: `Serving`.
        fixed: Sizes of axes by name; the others may have any size.
        activation: Callable from logits to probabilities, where a converter or its runtime needs the task's own written
            in other operations. Defaults to `None`.

    Returns:
        `tf.function` of the named inputs, in their order, to the dictionary `{"probabilities": ...}`.

    Example:
        >>> from ktransfer.image.serving import serve_images
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
        >>> serve = serving_function(serve_images(model, ["a", "b"], np.zeros((1, 8, 8, 3))), {})
        >>> serve(tf.zeros((1, 8, 8, 3)))["probabilities"].numpy().tolist()
        [[0.5, 0.5]]
    """
    names = [given.name for given in serving.inputs]
    specs = [tf.TensorSpec(given.shape(fixed), given.dtype, name=given.name) for given in serving.inputs]

    @tf.function(input_signature=specs, autograph=False)
    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        floats = [tf.cast(each, tf.float32) if each.dtype == tf.uint8 else each for each in tensors]
        inputs = serving.prepare(dict(zip(names, floats, strict=True)))
        return {OUTPUT: probabilities(serving, inputs, activation=activation)}

    return serve


def probabilities(
    serving: Serving,
    inputs: Mapping[str, tf.Tensor],
    *,
    activation: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tf.Tensor:
    """Return the probabilities `(B, C)` of the model's inputs by name; to be called in a `tf.function`.

    Args:
        serving: `Serving`.
        inputs: By name.
        activation: As in `serving_function`. Defaults to `None`.
    """
    # Without training=False, preprocessing layers were seen to leak training mode into later layers.
    logits = serving.model(as_taken(serving.model, inputs), training=False)
    if serving.temperature != 1.0:
        logits /= serving.temperature
    own = getattr(tf.nn, serving.task.activation) if serving.task.activation else serving.task.in_graph
    return (activation or own)(logits)


def reference_function(serving: Serving) -> Answer:
    """Return a callable from the model's inputs by name to its own logits `(B, C)`, nothing traced.

    They are divided by the temperature, if there is one. What it was given before it does not compute again.

    With the functions inside inlined here too: Keras has XLA compile grouped convolutions, and a MobileNet
    then takes a second an image on a CPU instead of twenty milliseconds.
    """

    def logits(inputs: dict[str, Array]) -> Array:
        digest = hashlib.sha256()
        for name, array in sorted(inputs.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        key = digest.digest()
        if key not in serving.answered:
            with inlined_functions():
                answer = serving.model(as_taken(serving.model, inputs), training=False)
            serving.answered[key] = answer.numpy()
        return serving.answered[key] / np.float32(serving.temperature)

    return logits


@contextlib.contextmanager
def inlined_functions() -> Iterator[None]:
    """Trace or call with the functions inside a function inlined.

    Keras wraps grouped convolutions and some attention paths in a `tf.function` of its own, whose call node
    neither tf2onnx nor every TFLite conversion can take.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def check_class_names(class_names: Sequence[str], classes: int) -> None:
    """Raise `ExportError` unless there are `classes` different names of one line each."""
    if len(set(class_names)) != classes or not all(map(is_line, class_names)):
        raise ExportError(
            f"Expected {classes} different class names of one line each, one a logit, got "
            f"{list(class_names)!r}. Give them in the order of the labels."
        )
