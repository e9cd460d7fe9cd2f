"""A TFLite file with operations of TensorFlow itself ("Flex"), run in pieces.

A phone runs them by the Flex delegate, which no interpreter for Python has any more. Here TensorFlow runs
each of them as the file describes it, by the kernels that the delegate has too; LiteRT runs what lies between
them, as models of their own.
"""

from __future__ import annotations

import copy
import mmap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers

from ktransfer.errors import ExportError
from ktransfer.exporting.tflite.metadata import packed

if TYPE_CHECKING:
    import tensorflow as tf

    from ktransfer.core.typing import Array, PathLike


_PREFIX = b"Flex"
_HANDLES = (schema.TensorType.RESOURCE, schema.TensorType.VARIANT)


def flex_ops(path: PathLike) -> tuple[str, ...]:
    """Return the names of the TensorFlow operations that a TFLite file has, sorted; of most files none.

    Example:
        >>> flex_ops("run/artifacts/model.tflite")
        ()
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        model = schema.Model.GetRootAs(content)
        codes = [model.OperatorCodes(index).CustomCode() for index in range(model.OperatorCodesLength())]
    return tuple(sorted(code.removeprefix(_PREFIX).decode() for code in codes if _is_flex(code)))


def in_pieces(path: PathLike, *, threads: int | None = None) -> Callable[..., dict[str, Array]]:
    """Return a callable as the signature runner of LiteRT is: inputs by name to outputs by name.

    Args:
        path: A TFLite file of one signature. Axes of any size are resized piece by piece.
        threads: How many LiteRT may use for an operation.

    Raises:
        ExportError: TensorFlow is not installed, or one of its operations cannot be run by itself: it has an
            effect or a state, calls functions, or lies in a branch or loop.

    Example:
        >>> in_pieces("run/artifacts/model.tflite")(image=images)["probabilities"]  # doctest: +SKIP
    """
    model, whole = schema.ModelT.InitFromPackedBuf(Path(path).read_bytes()), Interpreter(str(path))
    flex = {index for index, code in enumerate(model.operatorCodes) if _is_flex(code.customCode)}
    _check(model, flex)
    [signature], graph = model.signatureDefs, model.subgraphs[0]
    dtypes = {each["index"]: each["dtype"] for each in whole.get_tensor_details()}
    computed = {*graph.inputs, *_made(graph.operators)}
    # Weights of half precision: LiteRT wants to find them in the model where they are used.
    widened = {
        operation.outputs[0]: operation
        for operation in graph.operators
        if operation.opcodeIndex not in flex and not computed & {*operation.inputs}
    }
    pieces, wanted = [], set(graph.outputs)
    for operations in reversed(_groups(graph.operators, flex)):
        if operations[0].opcodeIndex in flex:
            [operation] = operations
            given, results = [index for index in operation.inputs if index in computed], [*operation.outputs]
            constants = {index: whole.get_tensor(index) for index in _read(operations) - computed}
            piece = _by_tensorflow(operation, constants, dtypes)
        else:
            if not (results := sorted(_made(operations) & wanted)):
                continue
            weights = widened.keys() & _read(operations) - _made(operations)
            operations = [*(widened[index] for index in sorted(weights)), *operations]
            given = sorted(_read(operations) & computed - _made(operations))
            piece = _by_litert(model, operations, given, results, threads)
        pieces.append((given, results, piece))
        wanted |= set(given)
    pieces.reverse()

    def run(**inputs: Array) -> dict[str, Array]:
        values = {tensor.tensorIndex: inputs[tensor.name.decode()] for tensor in signature.inputs}
        for given, results, piece in pieces:
            values.update(zip(results, piece([values[index] for index in given]), strict=True))
        return {tensor.name.decode(): values[tensor.tensorIndex] for tensor in signature.outputs}

    return run


def _is_flex(custom_code: bytes | None) -> bool:
    return (custom_code or b"").startswith(_PREFIX)


def _read(operations: Iterable[Any]) -> set[int]:
    return {index for operation in operations for index in operation.inputs if index >= 0}


def _made(operations: Iterable[Any]) -> set[int]:
    return {index for operation in operations for index in operation.outputs}


def _check(model: Any, flex: Collection[int]) -> None:
    graph, *others = model.subgraphs
    if any(operation.opcodeIndex in flex for other in others for operation in other.operators):
        raise _not_in_pieces("one in a branch or loop")
    if any(tensor.type in _HANDLES or tensor.isVariable for tensor in graph.tensors):
        raise _not_in_pieces("variables next to it")


def _not_in_pieces(received: str) -> ExportError:
    return ExportError(
        "Expected a TensorFlow operation in a TFLite file to run by itself, so that its answers can be "
        f"checked, got {received}. Export ONNX, or choose another backbone."
    )


def _groups(operations: Iterable[Any], flex: set[int]) -> list[list[Any]]:
    """The operations in their order: each of TensorFlow alone, those between them together."""
    groups: list[list[Any]] = []
    for operation in operations:
        if not groups or {operation.opcodeIndex, groups[-1][-1].opcodeIndex} & flex:
            groups.append([])
        groups[-1].append(operation)
    return groups


def _by_litert(
    model: Any, operations: list[Any], given: list[int], results: list[int], threads: int | None
) -> Callable[[Sequence[Array]], list[Array]]:
    """The callable of a piece: a model of the same tensors, but other operations, inputs and outputs."""
    graph, *others = model.subgraphs
    graph = copy.copy(graph)
    graph.operators, graph.inputs, graph.outputs = operations, given, results
    read = [graph.tensors[index] for index in _read(operations)]
    used = {tensor.buffer for tensor in [*read, *(each for other in others for each in other.tensors)]}
    piece = copy.copy(model)
    piece.buffers = [
        buffer if place in used else schema.BufferT() for place, buffer in enumerate(model.buffers)
    ]
    piece.subgraphs, piece.signatureDefs, piece.metadata = [graph, *others], None, None
    interpreter = Interpreter(model_content=packed(piece), num_threads=threads)

    def run(arrays: Sequence[Array]) -> list[Array]:
        for index, array in zip(given, arrays, strict=True):
            interpreter.resize_tensor_input(index, array.shape)
        interpreter.allocate_tensors()
        for index, array in zip(given, arrays, strict=True):
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in results]

    return run


def _by_tensorflow(
    operation: Any, constants: Mapping[int, Array], dtypes: Mapping[int, Any]
) -> Callable[[Sequence[Array]], list[Array]]:
    """The callable of an operation of TensorFlow, from the NodeDef in the file; on the CPU, as on a phone."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ExportError(
            "Expected TensorFlow for a TFLite file with operations of TensorFlow, got no library "
            "tensorflow. Install it."
        ) from error
    # The operation's name, then the NodeDef, which names none of the file's tensors.
    _, content = flexbuffers.GetRoot(bytes(operation.customOptions)).AsVector
    graph = tf.compat.v1.GraphDef()
    node = graph.node.add()
    node.ParseFromString(content.AsStringBytes)
    node.name, node.device, node.input[:] = "op", "/CPU:0", [f"in{index}" for index in operation.inputs]
    graph.versions.producer = tf.version.GRAPH_DEF_VERSION

    def build(*tensors: tf.Tensor) -> Any:
        places = [index for index in operation.inputs if index not in constants]
        values = {**dict(zip(places, tensors, strict=True)), **constants}
        return tf.graph_util.import_graph_def(
            graph,
            input_map={f"in{index}": tf.convert_to_tensor(value) for index, value in values.items()},
            return_elements=[f"op:{place}" for place in range(len(operation.outputs))],
        )

    specs = [tf.TensorSpec(None, dtypes[index]) for index in operation.inputs if index not in constants]
    try:
        function = tf.function(build, autograph=False).get_concrete_function(*specs)
    except (ValueError, tf.errors.OpError) as error:
        raise _not_in_pieces(f"{node.op}, {str(error).splitlines()[0][:200]}") from error
    if any(each.op_def.is_stateful for each in function.graph.get_operations()):
        raise _not_in_pieces(f"{node.op}, which has an effect or a state")
    return lambda arrays: [each.numpy() for each in function(*map(tf.constant, arrays))]
