"""Quantization-aware fine-tuning: train the last epochs on a fake-quantized model."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.core.task import SINGLE_LABEL, Task, get_task
from ktransfer.models.locate import find_backbone
from ktransfer.quantization.fake_quant import FakeQuantizedModel
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.training.fine_tune import compile_classifier, fine_tune, warn

if TYPE_CHECKING:
    import tensorflow as tf


_CALIBRATED = 4  # batches
_SLOWER = 0.1  # than the last stage


@dataclasses.dataclass(frozen=True)
class QuantizedFit:
    """The metric on the validation data before and after quantization-aware fine-tuning.

    Attributes:
        int8_before, int8_after: Of the fake-quantized model.
        float_before, float_after: Of the model as it is.
        kept: Whether the new weights are kept; else the model has those of before, and `*_after` is what the
            new ones had.
        metric: What is measured. Defaults to `"accuracy"`.
    """

    int8_before: float
    int8_after: float
    float_before: float
    float_after: float
    kept: bool
    metric: str = "accuracy"

    def __str__(self) -> str:
        line = (
            f"{self.metric} in int8 {self.int8_before:.3f} -> {self.int8_after:.3f}, "
            f"in float {self.float_before:.3f} -> {self.float_after:.3f}"
        )
        return line if self.kept else f"{line}; kept as before"


def fine_tune_quantized(
    model: keras.Model,
    train: Any,
    validation: Any,
    recipe: Recipe,
    *,
    backbone: keras.Model | None = None,
    class_weight: Mapping[int, float] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    examples: int | None = None,
    task: str | Task = SINGLE_LABEL,
    on_trouble: Callable[[str], None] = warn,
    verbose: int | str = 1,
) -> QuantizedFit:
    """Train `model` for `recipe.quantization_aware` more epochs so that quantizing it to int8 costs less accuracy.

    What the last stage of the recipe trains goes on to train, at a tenth of its learning rate, which falls to zero by
    a cosine; without stages the head does. The forward pass is that of a `FakeQuantizedModel`, whose ranges are
    seen on the first batches of `train`. The weights with the best accuracy on `validation`, fake-quantized, are
    kept, which may be those of before; and those of before are where the new ones, with ranges of their own,
    are worse fake-quantized, or cost more accuracy in float than `recipe.int8_accuracy_drop`.

    Args:
        model: A trained classifier from `build_classifier` or `build_text_classifier`; trained in place.
        train: As in `fine_tune`.
        validation: As in `fine_tune`, but required.
        recipe: What to do.
        backbone: As in `fine_tune`.
        class_weight: As in `fine_tune`.
        callbacks: As in `fine_tune`.
        examples: As in `fine_tune`.
        task: As in `fine_tune`.
        on_trouble: As in `fine_tune`.
        verbose: As in `fine_tune`.

    Returns:
        The accuracies before and after.

    Raises:
        RunError: One example at a time does not fit into memory.

    Example:

        fine_tune(model, train, validation, recipe)
        fine_tune_quantized(model, train, validation, dataclasses.replace(recipe, quantization_aware=2))

    Source: Jacob et al. 2018, section 3; Krishnamoorthi 2018, section 3.
    """
    task = get_task(task)
    data = train if callable(train) else lambda epoch: train
    first = itertools.islice((inputs for inputs, *_ in data(0)), _CALIBRATED)
    batches = [keras.tree.map_structure(np.asarray, batch) for batch in first]
    quantized = FakeQuantizedModel(model, batches)
    one_hot = len(validation.element_spec[1].shape) == 2
    before = [np.array(keras.ops.convert_to_numpy(weight)) for weight in model.weights]
    int8_before, float_before = (
        _score(each, validation, recipe, one_hot, task) for each in (quantized, model)
    )
    if recipe.quantization_aware:
        fine_tune(
            quantized,
            train,
            validation,
            # With a solved head `fine_tune` keeps the initial weights as a candidate.
            dataclasses.replace(recipe, stages=(_stage(recipe),), head="solve", final_weights="best"),
            backbone=find_backbone(model) if backbone is None else backbone,
            class_weight=class_weight,
            callbacks=callbacks,
            examples=examples,
            task=task,
            on_trouble=on_trouble,
            verbose=verbose,
        )
    # With ranges of the new weights, as a file has them.
    quantized = FakeQuantizedModel(model, batches)
    int8_after, float_after = (_score(each, validation, recipe, one_hot, task) for each in (quantized, model))
    kept = int8_after >= int8_before and float_after >= float_before - recipe.int8_accuracy_drop
    if not kept:
        for weight, value in zip(model.weights, before, strict=True):
            weight.assign(value)
    return QuantizedFit(int8_before, int8_after, float_before, float_after, kept, task.score_title)


def _stage(recipe: Recipe) -> Stage:
    last = recipe.stages[-1] if recipe.stages else Stage(depth=0, epochs=1, learning_rate=1e-3)
    return dataclasses.replace(
        last,
        epochs=recipe.quantization_aware,
        # A recipe's stages have one.
        learning_rate=(last.learning_rate or 1e-3) * _SLOWER,
        warmup=0.0,
        schedule="cosine",
        patience=None,
    )


def _score(
    model: keras.Model, validation: tf.data.Dataset, recipe: Recipe, one_hot: bool, task: Task
) -> float:
    compile_classifier(model, recipe, one_hot=one_hot, task=task)
    return float(model.evaluate(validation, verbose=0, return_dict=True)[task.score])
