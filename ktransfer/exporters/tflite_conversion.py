"""A SavedModel to the bytes of a TFLite file, in float32 or smaller."""

import itertools
import re

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from ktransfer.errors import ExportError
from ktransfer.exporters.half_weights import halve_weights
from ktransfer.exporters.mixed_precision import CALIBRATED, closest, evenly, lowest

_SHARES = (0.0, 0.003, 0.012)  # of all weights, that the lowest layers keep in float
# Where in the graph an operation lies, and its name.
_LACKING = re.compile(r"""fused\["\w+:", "([^"@]+)@[^\n]*'tf\.(\w+)' op is neither""")
# 256 steps are few for a probability, and none are left for scores beside the -2e38 that masks them.
_IN_FLOAT = ("SOFTMAX", "SELECT", "SELECT_V2")
# What normalises and adds up has no weights to speak of, and wide ranges that eight bits hold badly.
_ELEMENTWISE = ("ADD", "MUL", "SUB")


def convert(source, precision="float32", calibration=()):
    """Return the bytes of a TFLite file of builtin operations only.

    In int8 weights are quantized by channel. Which of the lowest layers stay in float, whether sums and
    scalings do, and on how many examples ranges are calibrated, is what is measured to answer the calibration
    examples closest to float32. Softmax and masks stay in float always.

    Args:
        source: The folder of a SavedModel with the signature `serving_default`.
        precision: `"float32"`; `"float16"`, weights in half the space; `"dynamic"`, weights in int8, what
            flows between layers in float32; `"int8"`, both in int8.
        calibration: For `"int8"` inputs by name, each of batch 1, which show what flows between layers.

    Raises:
        ExportError: The model has an operation that TFLite lacks, or cannot be quantized.

    Example:
        >>> content = convert("savedmodel", "dynamic")
    """
    try:
        if precision == "int8":
            candidates = (
                halve_weights(candidate)
                for count in CALIBRATED
                for candidate in _quantized(_converter(source), evenly(calibration, count))
            )
            return closest(_load, _converter(source).convert(), candidates, calibration)
        converter = _converter(source)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()
    except Exception as error:  # ConverterError is not public
        # A phone runs TensorFlow's operations by the Flex delegate, which no runtime for Python has any
        # more: a file with them could not be proved.
        missing = dict.fromkeys(f"{op} in {place}" for place, op in _LACKING.findall(str(error)))
        raise ExportError(
            "TFLite needs a model of its builtin operations only. Received: "
            f"{', '.join(missing) or str(error)[:200]}. Export ONNX, or choose another backbone."
        ) from error


def _converter(source):
    converter = tf.lite.TFLiteConverter.from_saved_model(str(source))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _quantized(converter, calibration):
    """The model in int8, calibrated once, with these and those layers left in float."""
    converter.target_spec.supported_ops.append(tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: iter(calibration)
    # It leaves layers out, which the converter cannot.
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=lambda: iter(calibration[:1])
    )
    layers, masked = _layers(debugger.calibrated_model)
    counts = sorted({lowest([weights for _, weights in layers], share) for share in _SHARES})
    for count, operations in itertools.product(counts, ((), _ELEMENTWISE)):
        debugger.options = tf.lite.experimental.QuantizationDebugOptions(
            denylisted_nodes=[*(name for name, _ in layers[:count]), *masked],
            denylisted_ops=[*_IN_FLOAT, *operations],
        )
        yield debugger.get_nondebug_quantized_model()


def _layers(content):
    """For each operation, from the input up, the name of what it gives and how many weights it has.

    Also the names of what is masked: it would be given the range of the mask, which itself is in float.
    """
    model = schema.ModelT.InitFromPackedBuf(content)
    tensors, operations = model.subgraphs[0].tensors, model.subgraphs[0].operators
    masks = {schema.BuiltinOperator.SELECT, schema.BuiltinOperator.SELECT_V2}
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]

    def weights(index):
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


def _load(content):
    run = Interpreter(model_content=content).get_signature_runner("serving_default")
    return lambda inputs: next(iter(run(**inputs).values())).copy()
