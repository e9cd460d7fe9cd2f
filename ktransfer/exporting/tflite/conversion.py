"""A SavedModel to the bytes of a TFLite file, in float32 or smaller."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from ktransfer.errors import ExportError, listed
from ktransfer.exporting.patches.dense_scales import one_scale_a_dense_layer
from ktransfer.exporting.processes.converter_process import report
from ktransfer.exporting.tflite.float16_weights import convert_weights_to_float16
from ktransfer.quantization.layer_sensitivity import CALIBRATED, choices, closest, error_against, evenly

if TYPE_CHECKING:
    from ktransfer.core.typing import Answer, Array


# Where in the graph an operation lies, and its name.
_LACKING = re.compile(r"""fused\["\w+:", "([^"@]+)@[^\n]*'tf\.(\w+)' op is neither""")
# 256 steps are few for a probability, and none are left for scores next to the -2e38 that masks them.
_IN_FLOAT = ("SOFTMAX", "SELECT", "SELECT_V2")
# Normalization and addition have few weights, and wide ranges that eight bits represent badly.
_ELEMENTWISE = ("ADD", "MUL", "SUB")


def convert(
    source: Path,
    precision: str = "float32",
    calibration: Sequence[dict[str, Array]] = (),
    allow_flex: bool = False,
    one_scale: bool = False,
) -> bytes:
    """Return the bytes of a TFLite file.

    In int8 weights are quantized by channel. Which layers stay in float, the lowest or those that cost most,
    whether sums and scalings do, and on how many examples ranges are calibrated, is what is measured to
    answer the calibration examples closest to float32. Softmax and masks stay in float always.

    Args:
        source: The folder of a SavedModel with the signature `serving_default`.
        precision: `"float32"`; `"float16"`, weights in half the space; `"dynamic"`, weights in int8, what
            flows between layers in float32; `"int8"`, both in int8.
        calibration: For `"int8"` inputs by name, each of batch 1, which show what flows between layers.
        allow_flex: Operations that TFLite lacks stay as TensorFlow has them, not with `"int8"`; else there
            are builtin ones only.
        one_scale: With `"dynamic"`, all weights of a dense layer have one scale, which older runtimes know.

    Raises:
        ExportError: The model has an operation that TFLite lacks, or cannot be quantized.

    Example:
        >>> content = convert("savedmodel", "dynamic")
    """
    try:
        if precision == "int8":
            report("converting to float32, to compare with")
            error = error_against(_load, _converter(source).convert(), calibration)
            return closest(error, partial(_quantized, source, calibration, error), on_progress=report)
        converter = _converter(source)
        if allow_flex:
            converter.target_spec.supported_ops.append(tf.lite.OpsSet.SELECT_TF_OPS)
        if one_scale:
            one_scale_a_dense_layer(converter)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()
    except Exception as error:  # ConverterError is not public
        missing = dict.fromkeys(f"{op} in {place}" for place, op in _LACKING.findall(str(error)))
        fix = "Export ONNX, or choose another backbone"
        if missing and precision == "int8":  # no interpreter for Python runs them
            fix += (
                ", or tflite-dynamic with --allow-flex (allow_flex=True): int8 cannot be calibrated with it"
            )
        elif missing and not allow_flex:
            fix += ", or pass --allow-flex (allow_flex=True) to have them in the file as TensorFlow's own"
        others = " and of those of its Flex delegate" if allow_flex else ""
        raise ExportError(
            f"Expected a model of TFLite's builtin operations{others} only, got "
            f"{listed(missing) or str(error)[:200]}. {fix}."
        ) from error


def _converter(source: Path) -> Any:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(source))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _quantized(
    source: Path, calibration: Sequence[dict[str, Array]], error: Callable[[bytes], float], share: float
) -> Iterator[bytes]:
    """The model in int8, calibrated on more and less, with these and those layers left in float."""
    kept = None
    for count in CALIBRATED:
        report(f"calibrating on {min(count, len(calibration))} training examples")
        debugger = _debugger(_converter(source), evenly(calibration, count))
        layers, masked = _layers(debugger.calibrated_model)
        names = [name for name, _ in layers]

        def quantized(
            indices: Iterable[int],
            operations: Sequence[str] = (),
            debugger: Any = debugger,
            names: Sequence[str] = names,
            masked: Sequence[str] = masked,
        ) -> bytes:
            # Not by a new `options`, which would convert twice.
            debugger.options.denylisted_nodes = [*(names[index] for index in indices), *masked]
            debugger.options.denylisted_ops = [*_IN_FLOAT, *operations]
            return debugger.get_nondebug_quantized_model()

        def alone(
            indices: Iterable[int], quantized: Callable[..., bytes] = quantized, names: Sequence[str] = names
        ) -> float:
            return error(quantized(set(range(len(names))) - set(indices)))

        kept = kept or choices(alone, [weights for _, weights in layers], share, on_progress=report)
        for indices, operations in itertools.product(kept, ((), _ELEMENTWISE)):
            yield convert_weights_to_float16(quantized(indices, operations))


def _debugger(converter: Any, calibration: Sequence[dict[str, Array]]) -> Any:
    """A debugger that leaves layers out, which the converter cannot do."""
    converter.target_spec.supported_ops.append(tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: iter(calibration)
    return tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=lambda: iter(calibration[:1])
    )


def _layers(content: bytes) -> tuple[list[tuple[str, int]], list[str]]:
    """For each operation, from the input up, the name of what it gives and how many weights it has.

    Also the names of what is masked: it would be given the range of the mask, which itself is in float.
    """
    model = schema.ModelT.InitFromPackedBuf(content)
    tensors, operations = model.subgraphs[0].tensors, model.subgraphs[0].operators
    masks = {schema.BuiltinOperator.SELECT, schema.BuiltinOperator.SELECT_V2}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]

    def weights(index: int) -> int:
        tensor = tensors[index]
        if index < 0 or tensor.shape is None or model.buffers[tensor.buffer].data is None:
            return 0
        return int(np.prod(tensor.shape))

    layers = [
        (tensors[operation.outputs[0]].name.decode(), sum(map(weights, operation.inputs)))
        for operation in operations
    ]
    masked = [
        tensors[index].name.decode()
        for operation in operations
        if codes[operation.opcodeIndex] in masks
        for index in operation.inputs
    ]
    return layers, masked


def _load(content: bytes) -> Answer:
    run = Interpreter(model_content=content).get_signature_runner("serving_default")
    return lambda inputs: next(iter(run(**inputs).values())).copy()
