"""Weights that a quantized TFLite file keeps in float, in half the space."""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_SMALLEST = 256  # weights; of fewer the operation costs more than they save


def convert_weights_to_float16(content: bytes) -> bytes:
    """Return a TFLite file with its float32 weights in float16, made float32 again as the file is loaded.

    What an int8 file leaves in float is a third of what its precision costs in space; the converter halves
    float weights in files that are wholly in float only.

    Args:
        content: Bytes of a TFLite file.

    Example:
        >>> content = convert_weights_to_float16(Path("run/artifacts/model.tflite").read_bytes())
    """
    model = schema.ModelT.InitFromPackedBuf(content)
    for graph in model.subgraphs:
        made = [
            _from_half(model, graph, index)
            for index, tensor in enumerate(list(graph.tensors))
            if tensor.type == schema.TensorType.FLOAT32 and _weights(model, tensor) >= _SMALLEST
        ]
        graph.operators = [*made, *graph.operators]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _weights(model: Any, tensor: Any) -> int:
    data = model.buffers[tensor.buffer].data
    return 0 if data is None else len(data) // 4


def _from_half(model: Any, graph: Any, index: int) -> Any:
    """Keep the tensor's values in a tensor of half precision; the operation that makes the old one of it."""
    tensor = graph.tensors[index]
    values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), "<f4").astype("<f2")
    if sum(other.buffer == tensor.buffer for each in model.subgraphs for other in each.tensors) == 1:
        model.buffers[tensor.buffer].data = None
    model.buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
    half = schema.TensorT(
        name=b"", shape=tensor.shape, type=schema.TensorType.FLOAT16, buffer=len(model.buffers) - 1
    )
    graph.tensors.append(half)
    tensor.buffer = 0  # empty, as of all that is computed
    return schema.OperatorT(opcodeIndex=_dequantize(model), inputs=[len(graph.tensors) - 1], outputs=[index])


def _dequantize(model: Any) -> int:
    """The index of the operation among those of the file."""
    code = schema.BuiltinOperator.DEQUANTIZE
    for place, known in enumerate(model.operatorCodes):
        if max(known.builtinCode, known.deprecatedBuiltinCode) == code and known.version >= 3:
            return place
    # Version 3 takes float16.
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=3))
    return len(model.operatorCodes) - 1
