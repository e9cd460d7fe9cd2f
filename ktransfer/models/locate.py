"""Find the backbone in a model, however the model holds it, and the blocks to unfreeze."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from ktransfer.errors import BackboneError, RecipeError, did_you_mean, listed
from ktransfer.models.blocks import Block, find_blocks, sublayers


@dataclass(frozen=True)
class BackboneNames:
    """The names of a backbone in a copied or pickled callback, in place of a copy of the model.

    Attributes:
        name: Of the model or layer.
        layers: Names of its layers with weights, where it is a model whose layers are another model's own.
    """

    name: str
    layers: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Located:
    """The part of a model that is unfrozen.

    Attributes:
        name: For messages.
        root: The layer or model that holds it; `None` where it was given as a list of layers.
        layers: All its layers, those inside layers included, outer ones first.
        blocks: From the top; together they hold its weights.
        wrappers: Layers of the model around it, outer ones first.
        note: A line to print where it was not found as it was given; empty otherwise.
    """

    name: str
    root: keras.layers.Layer | None
    layers: tuple[keras.layers.Layer, ...]
    blocks: tuple[Block, ...]
    wrappers: tuple[keras.layers.Layer, ...] = ()
    note: str = ""

    @property
    def weights(self) -> list[keras.Variable]:
        return [weight for block in self.blocks for weight in block.weights]


def locate(model: keras.Model, backbone: Any) -> Located:
    """The backbone of `model` that is meant by `backbone`.

    Args:
        model: The model that is fit.
        backbone: A model or layer inside `model`, at any depth; its name; a model whose layers are layers of
            `model` (`Model(base.input, Dense(5)(base.output))`); a list of layers or of their names, from input
            to output; or a tuple of the names of the first and the last layer.

    Raises:
        BackboneError: There is no such backbone in the model, or it has no weights or no graph.

    Example:

        base = keras.applications.MobileNetV2(include_top=False, pooling="avg")
        model = keras.Model(base.input, keras.layers.Dense(5)(base.output))
        [block.name for block in locate(model, base).blocks][0]   # "Conv_1"
    """
    if not isinstance(model, keras.Model):
        raise BackboneError(
            f"Expected fit of a Keras 3 model, got one of {type(model).__module__}. "
            "Build it with `import keras` (Keras 3) instead of tf_keras or tf.keras of Keras 2."
        )
    inside = sublayers(model)
    if isinstance(backbone, BackboneNames):
        names = {layer.name for layer in inside}
        alone = backbone.name not in names and backbone.layers and names.issuperset(backbone.layers)
        backbone = list(backbone.layers) if alone else backbone.name
    if isinstance(backbone, str):
        return _at(model, _by_name(model, inside, backbone))
    if isinstance(backbone, tuple | list):
        return _from_layers(model, inside, backbone)
    if not isinstance(backbone, keras.layers.Layer):
        raise BackboneError(
            f"Expected a Keras 3 model or layer as the backbone, its name, or a list of layers, got an object of "
            f"{type(backbone).__module__}.{type(backbone).__name__}. Pass backbone=model.get_layer(...)."
        )
    if backbone is model:
        raise BackboneError(
            f"Expected a backbone inside the model, got the whole model {model.name!r}. "
            "Pass its backbone, or the list of layers to unfreeze, without the head."
        )
    if any(layer is backbone for layer in inside):
        return _at(model, backbone)
    held = set(map(id, inside))
    own = [layer for layer in sublayers(backbone) if layer.weights and not sublayers(layer, recursive=False)]
    shared = [layer for layer in own if id(layer) in held]
    if own and len(shared) == len(own):
        return _at(model, backbone)
    if shared:
        missing = next(layer for layer in own if id(layer) not in held)
        raise BackboneError(
            f"Expected all layers of the backbone in the model, got {backbone.name!r}, of which {model.name!r} has "
            f"{len(shared)} of {len(own)} layers with weights, and {missing.name!r} not. "
            "Pass backbone=[...], a list of the layers that are in the model."
        )
    named = [layer for layer in inside if layer.name == backbone.name and _alike(layer, backbone)]
    if len(named) == 1:
        found = _at(model, named[0])
        text = f"the given backbone {backbone.name!r} is another object; using the model's layer of that name"
        return replace(found, note=text)
    raise BackboneError(
        f"Expected a backbone that is part of the model, got {backbone.name!r}, of which {model.name!r} has no "
        f"layer. {_hint(model, inside)}"
    )


def _at(model: keras.Model, layer: keras.layers.Layer) -> Located:
    root = layer
    if not isinstance(layer, keras.Model) and (inner := _inner_model(layer)) is not None:
        root = inner  # such as that of a TimeDistributed
    graph = root
    if isinstance(root, keras.Sequential):
        if not root.built:
            raise _unbuilt(root)
        graph = keras.Model(root.inputs, root.outputs, name=root.name)
    if isinstance(root, keras.Model) and not root.weights and not root.built:
        raise _unbuilt(root)
    blocks = find_blocks(graph)
    layers = tuple(sublayers(root))
    wrappers = tuple(
        outer
        for outer in sublayers(model)
        if outer is not root and any(inner is root for inner in sublayers(outer))
    )
    return Located(root.name, root, layers, blocks, wrappers)


def _unbuilt(layer: keras.layers.Layer) -> BackboneError:
    return BackboneError(
        f"Expected a backbone whose weights exist, got {layer.name!r}, which is not built. "
        "Give it an Input, or call the model on a batch before fit."
    )


def _inner_model(layer: keras.layers.Layer) -> keras.Model | None:
    found = [inner for inner in sublayers(layer) if isinstance(inner, keras.Model) and inner.weights]
    outermost = [one for one in found if not any(one in sublayers(other) for other in found)]
    return outermost[0] if len(outermost) == 1 else None


def _alike(one: keras.layers.Layer, other: keras.layers.Layer) -> bool:
    shapes = [[tuple(weight.shape) for weight in layer.weights] for layer in (one, other)]
    return type(one).__name__ == type(other).__name__ and shapes[0] == shapes[1]


def _by_name(model: keras.Model, inside: Sequence[keras.layers.Layer], name: str) -> keras.layers.Layer:
    found = [layer for layer in model.layers if layer.name == name] or [
        layer for layer in inside if layer.name == name
    ]
    if len(found) > 1:
        raise BackboneError(
            f"Expected the name of one layer, got {name!r}, which {len(found)} layers inside {model.name!r} have. "
            "Pass the layer itself."
        )
    if not found:
        raise BackboneError(
            f"Expected the name of a layer of the model as the backbone, got {name!r}, and {model.name!r} has no such "
            f"layer. "
            f"{_hint(model, inside, name)}"
        )
    return found[0]


def _hint(model: keras.Model, inside: Sequence[keras.layers.Layer], name: str | None = None) -> str:
    nested = [layer.name for layer in inside if isinstance(layer, keras.Model) and layer.weights]
    names = [layer.name for layer in model.layers]
    suggestion = did_you_mean(name, [layer.name for layer in inside]) if name else ""
    if len(nested) == 1:
        return f"{suggestion}Pass backbone={nested[0]!r}."
    if nested:
        return f"{suggestion}Pass backbone= one of {listed(nested)}."
    return (
        f"{suggestion}It has the layers {listed(names)}. Pass the model whose layers these are, a list of them, "
        "or the names of the first and the last one as a tuple."
    )


def _from_layers(model: keras.Model, inside: Sequence[keras.layers.Layer], given: Sequence[Any]) -> Located:
    if not given:
        raise BackboneError(
            "Expected at least one layer as the backbone, got an empty list. Name its layers."
        )
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(name, str) for name in given):
        chosen = _span(model, inside, *given)
    else:
        chosen = [_by_name(model, inside, one) if isinstance(one, str) else one for one in given]
    held = set(map(id, inside))
    for layer in chosen:
        if not isinstance(layer, keras.layers.Layer) or id(layer) not in held:
            raise BackboneError(
                f"Expected layers of the model, got {getattr(layer, 'name', layer)!r}, which {model.name!r} does "
                "not have. Take them from model.layers."
            )
    if len(set(map(id, chosen))) < len(chosen):
        raise BackboneError("Expected each layer once, got one twice. Remove the repeated layer.")
    blocks = _blocks_of(model, inside, chosen)
    if not blocks:
        raise BackboneError(
            f"Expected a backbone with weights, got {listed(layer.name for layer in chosen)}, which have none. "
            "Call the model on a batch before fit if its weights are not made yet."
        )
    layers = tuple(inner for layer in chosen for inner in (layer, *sublayers(layer)))
    wrappers = tuple(
        outer
        for outer in inside
        if not any(outer is layer for layer in layers)
        and any(inner is layer for inner in sublayers(outer) for layer in chosen)
    )
    return Located(f"{chosen[0].name} to {chosen[-1].name}", None, layers, blocks, wrappers)


def _span(
    model: keras.Model, inside: Sequence[keras.layers.Layer], first: str, last: str
) -> list[keras.layers.Layer]:
    """The layers from `first` to `last` of the model that holds both."""
    ends = [_by_name(model, inside, name) for name in (first, last)]
    for holder in (model, *(layer for layer in inside if isinstance(layer, keras.Model))):
        order = list(holder.layers)
        start, stop = (next((i for i, layer in enumerate(order) if layer is end), None) for end in ends)
        if start is not None and stop is not None:
            if start > stop:
                raise BackboneError(
                    f"Expected the first layer before the last one, got {first!r} after {last!r}. Swap them."
                )
            return order[start : stop + 1]
    raise BackboneError(
        f"Expected the first and the last layer in one model, got {first!r} and {last!r} of different ones. "
        "Pass a list of layers."
    )


def _blocks_of(
    model: keras.Model, inside: Sequence[keras.layers.Layer], chosen: Sequence[keras.layers.Layer]
) -> tuple[Block, ...]:
    """Blocks, topmost first, of layers that are part of a graph, or given from input to output."""
    for holder in (model, *(layer for layer in inside if isinstance(layer, keras.Model))):
        operations = list(getattr(holder, "operations", None) or ())
        places = {id(operation): index for index, operation in enumerate(operations)}
        if not all(id(layer) in places for layer in chosen):
            continue
        top = max((layer for layer in chosen if layer.weights), key=lambda one: places[id(one)], default=None)
        if top is None:
            return ()
        try:
            output = top.output
        except (AttributeError, ValueError):  # used more than once
            break
        members = set(map(id, chosen))
        blocks = find_blocks(keras.Model(holder.inputs, output))
        parts = [replace(b, layers=tuple(one for one in b.layers if id(one) in members)) for b in blocks]
        kept = [
            part if len(part.layers) == len(block.layers) else replace(part, own_variables=())
            for part, block in zip(parts, blocks, strict=True)
            if part.layers
        ]
        if {id(w) for part in kept for w in part.weights} == {id(w) for one in chosen for w in one.weights}:
            return tuple(kept)
        break
    groups: list[list[Any]] = []
    for layer in chosen:
        if not layer.weights:
            continue
        if isinstance(layer, keras.Model) and getattr(layer, "operations", None):
            groups.extend([block] for block in reversed(find_blocks(layer)))
        elif groups and not any(len(weight.shape) > 1 for weight in layer.weights):
            groups[-1].append(layer)  # BatchNorm, scale or bias
        else:
            groups.append([layer])
    found: list[Block] = []
    names: dict[str, int] = {}
    for group in groups:
        first = group[0]
        layers = tuple(one for part in group for one in (part.layers if isinstance(part, Block) else (part,)))
        own = first.own_variables if isinstance(first, Block) else ()
        names[first.name] = names.get(first.name, 0) + 1
        name = first.name if names[first.name] == 1 else f"{first.name}_{names[first.name]}"
        found.append(Block(name, layers, None, own))
    return tuple(reversed(found))


def find_backbone(model: keras.Model) -> keras.Model:
    """The one functional model inside `model`.

    Raises:
        RecipeError: There is none, or more than one.

    Example:

        find_backbone(model).name
    """
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model) and layer.weights]
    if len(inner) != 1:
        raise RecipeError(
            f"Expected one functional model inside the classifier as its backbone, got {len(inner)} in "
            f"{model.name}. Pass backbone=model.get_layer(...)."
        )
    return inner[0]
