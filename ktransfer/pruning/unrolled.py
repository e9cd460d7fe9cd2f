"""A backbone whose layers of layers are written out into the graph, so that every dependency is seen."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ktransfer.errors import BackboneError
from ktransfer.models.blocks import sublayers
from ktransfer.models.rebuild import rebuilt

_LEVELS = 8  # of layers within layers
_TOLERANCE = 1e-4


def unrolled(backbone: keras.Model) -> keras.Model:
    """The same network with the layers inside its layers in the graph itself, as far as they can be written there.

    A layer with weights of its own apart from those of its layers, or whose computation depends on values that a graph
    does not know, stays as it is. What is written out is compared with the original.

    Args:
        backbone: Functional; its layers are used, and those within others renamed. Pass a copy.

    Returns:
        A functional model of the same name with the same inputs and outputs; where what is written out does not run,
        since a layer took a length that is not known for a constant, the backbone as it is.

    Raises:
        BackboneError: The network that was written out answers differently.

    Example:

        unrolled(keras_hub.models.BertBackbone.from_preset("bert_tiny_en_uncased"))
    """
    found, kept = backbone, set[int]()
    for _ in range(_LEVELS):
        inside = [
            layer
            for layer in _layers(found)
            if (is_composite(layer) or _does_nothing(layer)) and id(layer) not in kept
        ]
        if not inside:
            break
        wanted = {id(layer) for layer in inside}

        def call(layer: Any, *inputs: Any, wanted: set[int] = wanted, **options: Any) -> Any:
            if _does_nothing(layer) and len(inputs) == 1:
                return inputs[0]  # some of keras-hub's cannot be saved
            if id(layer) in wanted:
                try:
                    # Names within layers repeat from one layer to the next.
                    for inner in sublayers(layer, recursive=False):
                        if not inner.name.startswith(f"{layer.name}_"):
                            inner.name = f"{layer.name}_{inner.name}"
                    output = layer.call(*inputs, **options)
                    if _same_shapes(output, layer.compute_output_spec(*inputs, **options)):
                        return output
                except Exception:  # noqa: BLE001  whatever a layer raises that needs values, not shapes
                    pass
                kept.add(id(layer))
            return layer(*inputs, **options)

        found = rebuilt(found, layer_of=lambda layer: layer, call=call, copied=False)
    return found if _runs(found) and _require_same(backbone, found) else backbone


def is_composite(layer: Any) -> bool:
    """Whether a layer holds others and can be written out: all its weights are theirs.

    Example:
        >>> is_composite(keras.layers.Dense(2))
        False
    """
    if not isinstance(layer, keras.layers.Layer) or isinstance(
        layer, keras.layers.MultiHeadAttention | keras.Model
    ):
        return False
    inner = sublayers(layer)
    theirs = {id(weight) for each in inner for weight in each.weights}
    return bool(theirs) and all(id(weight) in theirs for weight in layer.weights)


def _does_nothing(layer: Any) -> bool:
    return type(layer).__name__ == "Identity" and not layer.weights


def _runs(model: keras.Model) -> bool:
    try:
        model(random_inputs(model), training=False)
    except Exception:  # noqa: BLE001  whatever an operation raises that was given no shape
        return False
    return True


def _layers(model: keras.Model) -> list[Any]:
    return list(model.layers)


def _same_shapes(output: Any, expected: Any) -> bool:
    one, other = keras.tree.flatten(output), keras.tree.flatten(expected)
    return [tuple(each.shape) for each in one] == [tuple(each.shape) for each in other]


def random_inputs(
    model: keras.Model, *, seed: int = 0, batch: int = 2, size: int = 64, length: int = 8
) -> Any:
    """Inputs of the shapes that a model takes: pixels in 0-1, or small ids with some padding.

    Args:
        model: Functional.
        seed: Of the draws. Defaults to 0.
        batch: Examples. Defaults to 2.
        size: Pixels where the model does not fix them. Defaults to 64.
        length: Tokens where the model does not fix them. Defaults to 8.

    Example:

        model.predict_on_batch(random_inputs(model))
    """
    random = np.random.default_rng(seed)

    def drawn(tensor: Any) -> Any:
        shape = [batch, *tensor.shape[1:]]
        free = size if len(shape) == 4 else length
        shape = [free if axis is None else axis for axis in shape]
        if not keras.backend.is_int_dtype(tensor.dtype):
            return random.random(shape, "float32")
        if "mask" in tensor.name:
            return np.ones(shape, tensor.dtype)
        return random.integers(0, 2 if "segment" in tensor.name else 5, shape).astype(tensor.dtype)

    return keras.tree.map_structure(drawn, model.input)


def _require_same(model: keras.Model, other: keras.Model) -> bool:
    given = random_inputs(model)
    pairs = zip(*(keras.tree.flatten(each(given, training=False)) for each in (model, other)), strict=True)
    for one, two in pairs:
        one, two = (keras.ops.convert_to_numpy(each) for each in (one, two))
        most = np.abs(one - two).max() / max(1.0, float(np.abs(one).max()))
        if not most < _TOLERANCE:
            raise BackboneError(
                f"Expected the layers of {model.name} to answer alike when they are written out, got a difference of "
                f"{most:.2g}. This backbone cannot be pruned; distill it instead."
            )
    return True
