"""Find the blocks of a backbone in its graph: the units of unfreezing, learning rates and cached features."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from ktransfer.errors import BackboneError


@dataclass(frozen=True, eq=False)
class Block:
    """A piece of a backbone between two of its cut points; the unit that is unfrozen and has a learning rate.

    Attributes:
        name: What the names of its layers share, e.g. `"stack1_block0"`.
        layers: Its layers that hold weights, in the order in which data passes them.
        entry: The symbolic tensor through which everything that the block sees has passed, so that what lies
            below can be computed once and kept; `None` for the lowest block, for one inside a layer, and
            where a second tensor, such as DeBERTa's relative embeddings, goes into every block.
        own_variables: Weights that belong to a layer around the block rather than to one of `layers`.
    """

    name: str
    layers: tuple[keras.layers.Layer, ...]
    entry: Any = None
    own_variables: tuple[keras.Variable, ...] = ()

    @property
    def weights(self) -> list[keras.Variable]:
        return [w for layer in self.layers for w in layer.weights] + list(self.own_variables)


def sublayers(layer: keras.layers.Layer, *, recursive: bool = True) -> list[keras.layers.Layer]:
    """The layers held by `layer`, those inside layers included.

    Keras has a public list of sublayers for models (`Model.layers`) and none for other layers, where
    keras-hub keeps whole encoders; this is the one place that asks Keras' own walk.
    """
    return list(layer._flatten_layers(recursive=recursive, include_self=False))


def find_blocks(backbone: keras.Model) -> tuple[Block, ...]:
    """Take a functional backbone apart at the tensors through which every path passes, topmost block first.

    Such a tensor is an articulation point of the graph (Hopcroft and Tarjan 1973); inputs that ride along,
    such as a padding mask, do not count. A layer that is itself a stack of alike layers, as keras-hub's
    vision transformers are, is taken apart into these. What lies above the first of the layers that are used
    more than once, as in ALBERT, is one block: they cannot be unfrozen in one place and not in another.

    Args:
        backbone: A functional `keras.Model`; any keras-hub backbone, or one of `keras.applications`.

    Returns:
        The blocks from the output down; together they hold every weight of the backbone once.

    Raises:
        BackboneError: `backbone` is not functional, or has no weights.

    Example:

        backbone = keras_hub.models.Backbone.from_preset("resnet_50_imagenet")
        [block.name for block in ktransfer.find_blocks(backbone)][:2]   # ['stack3_block2', 'stack3_block1']
    """
    blocks = []
    for entry, layers in _pieces(backbone):
        blocks.extend(_split(layers, entry))
    if not blocks:
        raise BackboneError(
            f"Expected a backbone with weights, got {backbone.name}, which has none. Pass another."
        )
    return tuple(reversed(_distinct_names(blocks)))


def _pieces(backbone: keras.Model) -> list[tuple[keras.KerasTensor | None, list[keras.layers.Layer]]]:
    """(entry tensor, layers with weights) between the cuts that are kept, from the input up."""
    segments = _segments(backbone)
    sizes = _sizes(backbone, [segment.entry for segment in segments[1:]])
    pieces, below = [(None, list(segments[0].layers))], math.inf
    for index, segment in enumerate(segments[1:]):
        above = sizes[min(index + 1, len(sizes) - 1)]
        # Within a plain chain a cut pays where it is no wider than the next one and the last one kept: not
        # between the expansion and the projection of an inverted residual, nor between the convolutions
        # before a pooling. A fork that is wider than both is the squeeze-and-excite inside such a block.
        widest = max(below, above) if segment.forks else min(below, above)
        boundary = segment.edge or sizes[index] <= widest
        # BatchNorm, scale or bias alone is no block: it belongs to the convolution before it.
        if boundary and any(map(_has_kernel, segment.layers)) and any(map(_has_kernel, pieces[-1][1])):
            pieces.append((segment.entry if segment.alone else None, list(segment.layers)))
            below = sizes[index]
        else:
            pieces[-1][1].extend(segment.layers)
    return [(entry, layers) for entry, layers in pieces if layers]


@dataclass(eq=False)
class _Segment:
    entry: Any  # the tensor it starts from
    layers: list[keras.layers.Layer]  # those with weights
    forks: bool = False  # its entry is read in more than one place: a residual or branched block starts
    edge: bool = False  # its entry leaves or enters a composite layer, which its author took for a block
    alone: bool = True  # nothing else that depends on weights rides along with its entry


def _segments(backbone: keras.Model) -> list[_Segment]:
    """The segments between all articulation points of the graph, from the input up."""
    if not isinstance(backbone, keras.Model) or not getattr(backbone, "operations", None):
        raise BackboneError(
            "Expected a functional Keras model as the backbone, its blocks are read from its graph, got "
            f"{type(backbone).__name__}. Rebuild it with `keras.Model(inputs, outputs)`."
        )
    operations = [op for op in backbone.operations if not isinstance(op, keras.layers.InputLayer)]
    readers: dict[int, list[keras.Operation]] = {}
    for operation in operations:
        for tensor in keras.tree.flatten(operation.input):
            readers.setdefault(id(tensor), []).append(operation)
    known = {id(tensor) for tensor in keras.tree.flatten(backbone.inputs)}
    unread = {key: len(operations) for key, operations in readers.items()}
    live: dict[int, keras.KerasTensor] = {}  # tensors that depend on weights and are still to be read
    segments = [_Segment(None, [])]
    repeated = _repeated(backbone, operations, known)
    # In topological order, so that all that leads to an articulation point comes before it, and it is the one
    # tensor alive when it has been made.
    for index, operation in enumerate(operations):
        if operation in repeated:  # what is known of its inputs and outputs is its first use only
            segments[-1].layers.extend(op for op in operations[index:] if getattr(op, "weights", None))
            break
        inputs, outputs = (keras.tree.flatten(tree) for tree in (operation.input, operation.output))
        rides = bool(outputs) and all(_rides_along(readers.get(id(tensor), ())) for tensor in outputs)
        weights = getattr(operation, "weights", None)
        if weights:
            # What every block reads belongs below all of them.
            segments[-2 if rides and len(segments) > 1 else -1].layers.append(operation)
        if weights or any(id(tensor) in live for tensor in inputs):
            live.update((id(tensor), tensor) for tensor in outputs if id(tensor) in readers)
        for tensor in inputs:
            unread[id(tensor)] -= 1
            if not unread[id(tensor)]:
                live.pop(id(tensor), None)
        passing = [tensor for key, tensor in live.items() if not _rides_along(readers[key])]
        if len(passing) == 1 and id(passing[0]) in map(id, outputs):
            (entry,) = passing
            following = readers[id(entry)]
            edge = any(map(_is_composite, (operation, *following)))
            segments.append(_Segment(entry, [], len(following) > 1, edge, alone=len(live) == 1))
    return segments


def _rides_along(readers: Sequence[keras.Operation]) -> bool:
    """Whether a tensor goes into one composite layer after another, as DeBERTa's relative embeddings do."""
    return len(readers) > 1 and all(map(_is_composite, readers))


def _repeated(
    backbone: keras.Model, operations: Sequence[keras.Operation], inputs: set[int]
) -> set[keras.Operation]:
    """The layers that the graph uses more than once."""
    made = inputs.union(*({id(t) for t in keras.tree.flatten(op.output)} for op in operations))
    if all(id(tensor) in made for op in operations for tensor in keras.tree.flatten(op.input)):
        return set()
    uses: Counter[keras.Operation] = Counter()

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        uses[layer] += 1
        return layer(*args, **kwargs)

    # The one public way to walk a graph use by use; nothing is copied.
    keras.models.clone_model(backbone, clone_function=lambda layer: layer, call_function=call)
    return {layer for layer, count in uses.items() if count > 1}


def _is_composite(operation: keras.Operation) -> bool:
    return isinstance(operation, keras.layers.Layer) and any(inner.weights for inner in sublayers(operation))


def _sizes(backbone: keras.Model, tensors: list[keras.KerasTensor]) -> list[int]:
    """Elements of each tensor for one example, unknown sides of the input taken as 256."""
    if not tensors:
        return []
    given = keras.tree.map_structure(
        lambda t: keras.KerasTensor([1] + [side or 256 for side in t.shape[1:]], dtype=t.dtype),
        backbone.inputs,
    )
    outputs = keras.Function(backbone.inputs, tensors).compute_output_spec(given)
    return [math.prod(tensor.shape[1:]) for tensor in outputs]


def _has_kernel(layer: keras.layers.Layer) -> bool:
    return any(len(weight.shape) > 1 for weight in layer.weights)


def _split(layers: list[keras.layers.Layer], entry: keras.KerasTensor | None) -> list[Block]:
    """A layer that stacks alike layers gives a block for each of these; anything else is one block."""
    kernels = [layer for layer in layers if _has_kernel(layer)]
    children = [c for c in sublayers(kernels[0], recursive=False) if c.weights] if len(kernels) == 1 else []
    stacked = [type(child) for child in children if sum(map(_has_kernel, _leaves(child))) > 1]
    if not any(stacked.count(kind) > 1 for kind in stacked):
        return [Block(_shared_name(layers), tuple(layers), entry)]
    groups: list[list[keras.layers.Layer]] = [[]]
    for layer in [inner for outer in layers for inner in (children if outer is kernels[0] else [outer])]:
        if _has_kernel(layer) and any(map(_has_kernel, groups[-1])):
            groups.append([])
        groups[-1].append(layer)
    blocks = [block for group in groups for block in _split(group, None)]
    held = {id(weight) for child in children for weight in child.weights}
    own = tuple(weight for weight in kernels[0].weights if id(weight) not in held)
    blocks[0] = replace(blocks[0], entry=entry, own_variables=blocks[0].own_variables + own)
    return blocks


def _leaves(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    return [inner for inner in sublayers(layer) if not sublayers(inner, recursive=False)]


def _shared_name(layers: list[keras.layers.Layer]) -> str:
    names = [layer.name for layer in layers if _has_kernel(layer)] or [layers[0].name]
    # By characters, though the function is from os.path.
    shared = os.path.commonprefix(names)  # noqa: RUF071
    # "block1_conv1" and "block1_conv2" share "block1", not "block1_conv".
    return names[0] if shared == names[0] else shared.rpartition("_")[0] or names[0]


def _distinct_names(blocks: list[Block]) -> list[Block]:
    seen: dict[str, int] = {}
    distinct = []
    for block in blocks:
        name = block.name or block.layers[0].name
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            name = f"{name}_{seen[name]}"
        distinct.append(replace(block, name=name))
    return distinct
