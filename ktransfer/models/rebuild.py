"""Build a classifier anew, layer by layer, with some layers changed or left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from ktransfer.models.locate import find_backbone

Call = Callable[..., Any]


def rebuilt(
    model: keras.Model,
    *,
    layer_of: Callable[[keras.layers.Layer], keras.layers.Layer] | None = None,
    call: Call | None = None,
    copied: bool = True,
) -> keras.Model:
    """A functional model of the same graph with layers of its own.

    Args:
        model: Functional.
        layer_of: From a layer to the one in its place. Defaults to `None`, a layer of the same configuration.
        call: `call(layer, *inputs, **options)` gives the outputs in the new graph, of the new layer; it may leave the
            layer out. Defaults to `None`, which calls it.
        copied: Whether weights are copied where they have the same shapes. Defaults to `True`.

    Returns:
        A `keras.Model` of the same name.

    Example:

        rebuilt(model, call=lambda layer, *given, **options: layer(*given, **options))
    """
    make = layer_of or (lambda layer: layer.__class__.from_config(layer.get_config()))
    pairs: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []

    made: dict[int, keras.layers.Layer] = {}  # one that is used more than once stays one

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if id(layer) not in made:
            made[id(layer)] = make(layer)
            pairs.append((layer, made[id(layer)]))
        return made[id(layer)]

    # Of a subclass, as a keras-hub backbone is, only the graph.
    plain = keras.Model(model.input, model.output, name=model.name)
    found = keras.models.clone_model(
        plain,
        clone_function=clone,
        call_function=call or (lambda layer, *given, **options: layer(*given, **options)),
    )
    if copied:
        for old, new in pairs:
            if (
                new is not old
                and isinstance(new, keras.layers.Layer)
                and new.built
                and shapes(old) == shapes(new)
            ):
                new.set_weights(old.get_weights())
                new.trainable = old.trainable
    if (longest := getattr(model, "max_sequence_length", None)) is not None:
        found.max_sequence_length = longest
    return found


def shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
    """The shapes of a layer's weights."""
    return [tuple(weight.shape) for weight in layer.weights]


def with_backbone(classifier: keras.Model, change: Callable[[keras.Model], keras.Model]) -> keras.Model:
    """A classifier with another backbone in place of its own, and the same layers around it.

    Args:
        classifier: From `build_classifier` or `build_text_classifier`.
        change: From its backbone to a backbone with the same inputs; with fewer features the weights of the head are
            new.

    Example:

        with_backbone(run.model, lambda backbone: rebuilt(backbone))
    """
    inner = find_backbone(classifier)
    new = change(inner)

    def layer_of(layer: keras.layers.Layer) -> keras.layers.Layer:
        return new if layer is inner else layer.__class__.from_config(layer.get_config())

    return rebuilt(classifier, layer_of=layer_of)
