"""Bisect a graph to find the operation that crashes the converter."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ktransfer.exporting.saved_model import exporter as saved_model
from ktransfer.exporting.serving import OUTPUT

if TYPE_CHECKING:
    from ktransfer.exporting.serving import Serving


def find_crashing_op(serve: Any, serving: Serving, folder: Path, converts: Callable[[Path], bool]) -> str:
    """Find the operation with which a converter ends its process, by halves: of a thousand in ten tries.

    Args:
        serve: The `tf.function` of `serving_function`, made concrete, which crashes the converter.
        serving: Its `Serving`.
        folder: Where to write, and remove, parts of it.
        converts: Callable that takes the folder of a SavedModel and returns whether its conversion succeeds.

    Returns:
        `"Roll in classifier/odd_layer/Roll"`; of several the one that comes first.

    Example:
        >>> find_crashing_op(serve, serving, Path("run"), converts)  # doctest: +SKIP
        'Roll in classifier/odd_layer/Roll'
    """
    [output] = serve.structured_outputs.values()
    candidates = _computed(output.op)
    while len(candidates) > 1:
        middle = candidates[(len(candidates) - 1) // 2]
        with tempfile.TemporaryDirectory(dir=folder) as part:
            path = Path(part, "savedmodel")
            saved_model.save(tf.Module(), serving, path, {saved_model.SERVING: _up_to(serve, middle)})
            converted = converts(path)
        inside = _computed(middle)
        candidates = [each for each in candidates if (each in inside) != converted]
    [found] = candidates
    return f"{found.type} in {found.name}"


def _needed(operation: tf.Operation) -> set[tf.Operation]:
    """All operations that one needs, itself among them."""
    found, waiting = set(), [operation]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += [*(tensor.op for tensor in each.inputs), *each.control_inputs]
    return found


def _computed(operation: tf.Operation) -> list[tf.Operation]:
    """The operations that compute something, in their order."""
    kept, needed = {"Placeholder", "Const", "ReadVariableOp", "NoOp"}, _needed(operation)
    return [each for each in operation.graph.get_operations() if each in needed and each.type not in kept]


def _up_to(serve: Any, operation: tf.Operation) -> Any:
    """The function that gives what this operation gives."""
    names = {each.name for each in _needed(operation)}
    definition = serve.graph.as_graph_def()
    nodes = [node for node in definition.node if node.name in names]
    del definition.node[:]
    definition.node.extend(nodes)
    captured = serve.inputs[len(serve.inputs) - len(serve.captured_inputs) :]
    specs = serve.structured_input_signature[0] or tuple(serve.structured_input_signature[1].values())

    @tf.function(input_signature=specs, autograph=False)
    def part(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        values = [*tensors, *map(tf.identity, serve.captured_inputs)]
        given = zip(serve.inputs[: len(specs)] + captured, values, strict=True)
        known = {tensor.name: value for tensor, value in given if tensor.op.name in names}
        [value] = tf.graph_util.import_graph_def(definition, known, [operation.outputs[0].name])
        return {OUTPUT: value}

    return part.get_concrete_function()
