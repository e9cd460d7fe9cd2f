"""One ONNX file for one network: nodes in one order, names that are numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from onnx import TensorProto, numpy_helper

if TYPE_CHECKING:
    import onnx


def canonicalize(model: onnx.ModelProto) -> None:
    """Order and name what is in a model by its structure, so that two exports of one network are equal.

    tf2onnx numbers what it folds through all exports of a process and names nodes after Keras' objects, which
    are numbered by process too; sets decide the order of some nodes and constants.

    The order is that of a depth-first walk from the outputs along the inputs of each node, which the network
    alone determines. Inputs and outputs keep their names; other values become numbers in that order, nodes
    their operation and a number. Nodes and constants that no output needs are left out, as are doc strings
    and the shapes of values in between (`value_info`).

    Args:
        model: `onnx.ModelProto` without local functions, changed in place. Its nodes may be in any order.

    Raises:
        ValueError: A value is needed that nothing makes, or to make itself.

    Example:
        >>> canonicalize(model)  # doctest: +SKIP
        >>> [(node.name, node.input, node.output) for node in model.graph.node]  # doctest: +SKIP
        [('Conv_0', ['image', '0'], ['1']), ('Relu_1', ['1'], ['probabilities'])]
    """
    graph = model.graph
    for name in _sort(graph):
        raise ValueError(
            f"Expected an ONNX graph that makes each value it uses, got {name!r}, which nothing makes. "
            "Report this export."
        )
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    numbers = (number for number in map(str, itertools.count()) if number not in names)
    _rename(graph, names, numbers, itertools.count())
    graph.name = "graph"
    model.ClearField("doc_string")
    model.opset_import.sort(key=lambda entry: entry.domain)
    model.metadata_props.sort(key=lambda entry: entry.key)


def _sort(graph: onnx.GraphProto) -> list[str]:
    """Sort the nodes, and those of subgraphs; return the names that are used but not made, in order of use."""
    for node in graph.node:
        node.attribute.sort(key=lambda attribute: attribute.name)
    makers = {name: node for node in graph.node for name in node.output if name}
    given = {value.name for value in (*graph.input, *_constants(graph))}
    places: dict[str, int] = {}
    begun: set[str] = set()
    outside: dict[str, None] = {}
    # A stack of our own: a network may be thousands of nodes deep.
    stack = [(None, iter([value.name for value in graph.output]))]
    while stack:
        node, names = stack[-1]
        for name in names:
            if name not in makers:
                if name and name not in given:
                    outside[name] = None
                continue
            maker = makers[name]
            if _key(maker) in places:
                continue
            if _key(maker) in begun:
                raise ValueError(
                    f"Expected an ONNX graph without cycles, got one through {name!r}. Report this export."
                )
            begun.add(_key(maker))
            stack.append((maker, iter([*maker.input, *_captured(maker)])))
            break
        else:
            stack.pop()
            if node is not None:
                places[_key(node)] = len(places)
    graph.node.sort(key=lambda node: places.get(_key(node), len(places)))
    del graph.node[len(places) :]
    return list(outside)


def _rename(
    graph: onnx.GraphProto, names: dict[str, str], numbers: Iterator[str], places: Iterator[int]
) -> None:
    """Rename what is in a sorted graph.

    Args:
        graph: `onnx.GraphProto`.
        names: The new names of what it is given, by the old; those of its own values are added.
        numbers: Iterator of new names for values.
        places: Iterator of numbers for nodes.
    """

    def new(name: str) -> str:
        if name and name not in names:
            names[name] = next(numbers)
        return names.get(name, "")

    for node in graph.node:
        captured = _captured(node)
        node.name = f"{node.op_type}_{next(places)}"
        node.input[:] = [new(name) for name in node.input]
        for name in captured:
            new(name)
        node.output[:] = [new(name) for name in node.output]
        for index, subgraph in enumerate(_subgraphs(node)):
            subgraph.name = f"{node.name}_{index}"
            given = {value.name: next(numbers) for value in subgraph.input}
            _rename(subgraph, names | given, numbers, places)
        _clear_descriptions(node)
    for value in (*graph.input, *graph.output):
        value.name = new(value.name)
        value.ClearField("doc_string")
    order = {name: place for place, name in enumerate(names)}
    kinds: tuple[tuple[Any, Callable[[Any], TensorProto]], ...] = (
        (graph.initializer, lambda one: one),
        (graph.sparse_initializer, lambda one: one.values),
    )
    for stored, tensor in kinds:
        stored.sort(key=lambda one: order.get(tensor(one).name, len(order)))
        del stored[sum(tensor(one).name in names for one in stored) :]
        for one in stored:
            tensor(one).name = names[tensor(one).name]
            _store_as_bytes(tensor(one))
    del graph.value_info[:]
    graph.ClearField("doc_string")


def _clear_descriptions(node: onnx.NodeProto) -> None:
    if not node.domain:
        node.ClearField("domain")  # not set, and set to the default, are written differently
    node.ClearField("metadata_props")
    for described in (node, *node.attribute):
        described.ClearField("doc_string")
    for attribute in node.attribute:
        for tensor in [attribute.t] if attribute.HasField("t") else attribute.tensors:
            tensor.ClearField("name")
            _store_as_bytes(tensor)


def _store_as_bytes(tensor: onnx.TensorProto) -> None:
    """Write the values of a tensor as bytes, where they are numbers one by one."""
    tensor.ClearField("doc_string")
    if tensor.data_type != TensorProto.STRING and not (tensor.raw_data or tensor.external_data):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))


def _key(node: onnx.NodeProto) -> str:
    """The key of a node: the first of its outputs, which is unique in a graph."""
    return next(filter(None, node.output), "")


def _captured(node: onnx.NodeProto) -> list[str]:
    """Names of values outside them that the subgraphs of a node use, in order; sorts the subgraphs."""
    return list(dict.fromkeys(name for graph in _subgraphs(node) for name in _sort(graph)))


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _constants(graph: onnx.GraphProto) -> tuple[onnx.TensorProto, ...]:
    return (*graph.initializer, *(value.values for value in graph.sparse_initializer))
