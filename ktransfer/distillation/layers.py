"""A student made of some of the teacher's own layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ktransfer.errors import BackboneError, RecipeError, listed
from ktransfer.models.blocks import sublayers
from ktransfer.models.locate import find_backbone
from ktransfer.models.network import Network
from ktransfer.models.rebuild import rebuilt, with_backbone
from ktransfer.runs.run import Run


def of_own_layers(teacher: Run, count: int, say: Callable[[str], None]) -> Network:
    """The network of a run with fewer of its transformer layers, the weights of those kept.

    Args:
        teacher: Trained.
        count: How many to keep, the first and the last among them.
        say: Callable that receives progress messages.

    Raises:
        BackboneError: The backbone has no row of like layers.
        RecipeError: It has not so many.

    Example:

        of_own_layers(Run.load("runs/minilm"), 3, print)

    Source: Sanh et al. 2019, "DistilBERT", section 3.
    """
    model = teacher.model
    inner = find_backbone(model)
    names = like_layers(inner)
    if not names:
        raise BackboneError(
            f"Expected a backbone with a row of like transformer layers for --layers, got {inner.name}, whose layers "
            "differ. Pass --backbone with a smaller one, or prune this one."
        )
    if not 1 <= count < len(names):
        raise RecipeError(
            f"Expected from 1 to {len(names) - 1} layers of the {len(names)} of {inner.name}, got {count}. Pass "
            f"such as {max(1, len(names) // 2)}."
        )
    kept = [names[index] for index in np.linspace(0, len(names) - 1, count).round().astype(int)]
    left_out = set(names) - set(kept)
    say(f"layers     {listed(kept)}, {count} of the {len(names)} of the teacher")

    def call(layer: keras.layers.Layer, *inputs: Any, **options: Any) -> Any:
        return inputs[0] if layer.name in left_out else layer(*inputs, **options)

    student = with_backbone(model, lambda backbone: rebuilt(backbone, call=call))
    preprocessing = teacher.preprocessing
    facts = {
        name: value
        for name, value in teacher.manifest.get("backbone", {}).items()
        if name not in ("name", "layer", "parameters")
    }
    return Network(
        student, preprocessing, facts | {"layers_kept": kept}, teacher.modality.reads(preprocessing.to_dict())
    )


def like_layers(backbone: keras.Model) -> list[str]:
    """The names of the layers of the longest row of like layers, each of which has layers within.

    They have the same class and configuration, but for the name and what trains, and give what they take, so that
    one may be left out.

    Example:

        like_layers(keras_hub.models.BertBackbone.from_preset("bert_tiny_en_uncased"))
    """
    rows: dict[str, list[str]] = {}
    for layer in backbone.layers:
        if not sublayers(layer) or not layer.weights or isinstance(layer, keras.Model):
            continue
        if not _used_once(layer):
            continue
        # Which layers were trained is no difference.
        config = {
            name: value for name, value in layer.get_config().items() if name not in ("name", "trainable")
        }
        given, output = keras.tree.flatten(layer.input)[0], layer.output
        if isinstance(output, keras.KerasTensor) and given.shape == output.shape:
            rows.setdefault(f"{type(layer).__name__} {config}", []).append(layer.name)
    longest = max(rows.values(), key=len, default=[])
    return longest if len(longest) > 1 else []


def _used_once(layer: keras.layers.Layer) -> bool:
    try:
        return layer.output is not None
    except (AttributeError, ValueError):  # Keras raises where it is used more than once
        return False
