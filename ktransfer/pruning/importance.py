"""The importance of channels: by how much the loss would change without them, or by the size of their weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from ktransfer.models.blocks import sublayers
from ktransfer.pruning.dependencies import Dependencies

CRITERIA = ("taylor", "magnitude")


def taylor(
    model: keras.Model, dependencies: Dependencies, batches: Iterable[Any], loss: keras.losses.Loss
) -> dict[int, float]:
    """The square of the first-order change of the loss without each channel, the mean over batches.

    The gradients are the steps of plain gradient descent with a learning rate of 1, taken back after each batch, so
    that any backend of Keras gives them. The weights end as they began.

    Args:
        model: A classifier that holds the network of `dependencies`.
        dependencies: Of its backbone.
        batches: Of `(inputs, targets)`.
        loss: Of its logits.

    Returns:
        By the number of a channel.

    Example:

        taylor(model, dependencies, batches, keras.losses.CategoricalCrossentropy(from_logits=True))

    Source: Molchanov et al. 2019, "Importance estimation for neural network pruning", equation 8.
    """
    before = [np.array(keras.ops.convert_to_numpy(weight)) for weight in model.weights]
    trainable = [(layer, layer.trainable) for layer in (model, *sublayers(model))]
    found: dict[int, float] = {}
    try:
        # Every one, parents first: Keras passes over a value that a layer has already, and what is frozen has no
        # importance.
        for layer in (model, *sublayers(model)):
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
        model.compile(optimizer=keras.optimizers.SGD(1.0), loss=loss)
        for count, (inputs, targets, *_) in enumerate(batches, start=1):
            old = {key: layer.get_weights() for key, layer in _producers(dependencies)}
            model.train_on_batch(inputs, targets)
            change: dict[int, float] = {}
            for key, layer in _producers(dependencies):
                products = [(one - new) * one for one, new in zip(old[key], layer.get_weights(), strict=True)]
                _add(change, dependencies, key, products)
            for number, moved in change.items():
                # A running mean of the squares.
                found[number] = found.get(number, 0.0) + (moved**2 - found.get(number, 0.0)) / count
            for weight, value in zip(model.weights, before, strict=True):
                weight.assign(value)
    finally:
        for weight, value in zip(model.weights, before, strict=True):
            weight.assign(value)
        for layer, was in trainable:
            layer.trainable = was
    return found


def magnitude(dependencies: Dependencies) -> dict[int, float]:
    """The sum of the squared weights that make each channel.

    Args:
        dependencies: Of a network.

    Example:

        magnitude(dependencies)
    """
    found: dict[int, float] = {}
    for key, layer in _producers(dependencies):
        _add(found, dependencies, key, [value.astype("float64") ** 2 for value in layer.get_weights()])
    return found


def _producers(dependencies: Dependencies) -> list[tuple[int, Any]]:
    return [(key, dependencies.layers[key]) for key, slices in dependencies.slices.items() if slices.produced]


def _add(found: dict[int, float], dependencies: Dependencies, key: int, values: list[np.ndarray]) -> None:
    """Add to the root of each channel the sum of its part of a layer's values."""
    for place, axis, channels in dependencies.slices[key].produced:
        others = tuple(each for each in range(values[place].ndim) if each != axis)
        for number, value in zip(channels.tolist(), values[place].sum(axis=others).tolist(), strict=True):
            root = dependencies.root(number)
            found[root] = found.get(root, 0.0) + value
