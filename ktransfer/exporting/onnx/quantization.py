"""An ONNX file made smaller: float16, or int8."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from ktransfer.exporting.onnx.canonical import canonicalize
from ktransfer.exporting.processes.converter_process import report
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.quantization.layer_sensitivity import CALIBRATED, choices, closest, error_against, evenly

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


_KEPT_IN_FLOAT = {"Softmax"}  # 256 steps are few for a probability
# Normalization and addition have few weights, and wide ranges that eight bits represent badly.
_ELEMENTWISE = {"Add", "Mul", "Sub"}


def make_smaller(
    source: Path, path: Path, precision: str, calibration: Sequence[dict[str, Array]] = ()
) -> None:
    """Write an ONNX file again with smaller weights; its metadata, inputs and outputs stay as they are.

    In int8 a network of convolutions is quantized statically, weights by channel, in `QuantizeLinear` and
    `DequantizeLinear` pairs: a dynamic convolution would become `ConvInteger`, ten times as slow. What stays
    in float is measured as for TFLite. A network without has its weights in uint8, and what flows between
    layers is quantized by what a batch is seen to need: texts of any length differ too much for a fixed
    range.

    Args:
        source: The float32 file, `pathlib.Path`.
        path: The file to write.
        precision: `"float16"` or `"int8"`.
        calibration: For `"int8"` inputs by name, each of batch 1.

    Example:
        >>> make_smaller(Path("model.onnx"), Path("model_float16.onnx"), "float16")
    """
    model = onnx.load(source)
    if precision == "float16":
        smaller = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    elif any(node.op_type == "Conv" for node in model.graph.node):
        smaller = _static(source, calibration)
    else:
        smaller = _dynamic(source)
    onnx.helper.set_model_props(smaller, {entry.key: entry.value for entry in model.metadata_props})
    canonicalize(smaller)  # the casts of float16 come last, which no valid graph has
    for node in smaller.graph.node:
        node.ClearField("name")  # for a small network names are a noticeable part of the size
    onnx.checker.check_model(smaller, full_check=True)
    onnx.save(smaller, path)


def _dynamic(source: Path) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        prepared, path = _prepared(source, Path(folder)), Path(folder, "dynamic.onnx")
        operations = ["MatMul", "Gemm", "Gather"]
        # Signed weights saturate on processors without VNNI.
        quantize_dynamic(prepared, path, operations, per_channel=True, weight_type=QuantType.QUInt8)
        return onnx.load(path)


def _prepared(source: Path, folder: Path) -> Path:
    """The model with its constants folded: a weight that is reshaped first is not seen to be one."""
    prepared = Path(folder, "prepared.onnx")
    # sympy, which the symbolic pass would need, is no dependency; the shapes are known without.
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    return prepared


def _static(source: Path, calibration: Sequence[dict[str, Array]]) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        prepared = _prepared(source, Path(folder))
        error = error_against(lambda path: open_artifact("onnx", path).answer, source, calibration)
        candidates = partial(_quantized, prepared, Path(folder), calibration, error)
        return onnx.load(closest(error, candidates, on_progress=report))


def _quantized(
    prepared: Path,
    folder: Path,
    calibration: Sequence[dict[str, Array]],
    error: Callable[[Any], float],
    share: float,
) -> Iterator[Path]:
    """Paths of the model in int8, calibrated on more and less, with these and those operations in float."""
    graph = onnx.load(prepared).graph
    names = [node.name for node in graph.node]
    sizes = {value.name: onnx.numpy_helper.to_array(value).size for value in graph.initializer}
    weights = [sum(sizes.get(name, 0) for name in node.input) for node in graph.node]
    every = {node.op_type for node in graph.node} - _KEPT_IN_FLOAT
    numbers = itertools.count()

    def quantized(count: int, kept: Iterable[int] = (), operations: Iterable[str] = every) -> Path:
        quantize_static(
            prepared,
            path := folder / f"{share}_{next(numbers)}.onnx",
            _Reader(evenly(calibration, count)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=sorted(operations),
            nodes_to_exclude=[names[index] for index in kept],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Seven bits: on processors without VNNI the sum of two products of eight bits saturates (AVX2: labels of a
            # small network agreed on 90 % instead of all). A file has to answer alike wherever it is served.
            reduce_range=True,
            calibration_cache_path=folder / f"ranges_of_{count}.json",
        )
        return path

    def alone(indices: Sequence[int]) -> float:
        path = quantized(CALIBRATED[0], set(range(len(names))) - set(indices))
        found = error(path)
        path.unlink()
        return found

    # ONNX Runtime's optimizer spoils a depthwise convolution alone in float between quantized ones (an
    # error of 1.4 instead of 0.2) unless the activation before it is in float too.
    kept = choices(alone, weights, share, neighbors=(-1, 1), on_progress=report)
    # The first of each count is of all kinds of operations: its ranges, which are kept, serve the others.
    for count, indices, operations in itertools.product(CALIBRATED, kept, (every, every - _ELEMENTWISE)):
        yield quantized(count, indices, operations)


class _Reader(CalibrationDataReader):
    def __init__(self, calibration: Sequence[dict[str, Array]]) -> None:
        self._inputs = iter(calibration)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._inputs, None)
