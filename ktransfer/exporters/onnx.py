"""ONNX: for servers, run by ONNX Runtime."""

import contextlib
import json
import logging

import numpy as np
import onnx
import onnxruntime
import tf2onnx
from onnx import helper, numpy_helper

from ktransfer.errors import ExportError
from ktransfer.exporters.serving import INPUT, OUTPUT, inlined_functions, serving_function

NAME = "model.onnx"
BATCHES = (None, 1)
_OPSET = 17  # right for every backbone tried; tf2onnx' default gave graphs that are not valid


def write(model, path, *, batch=None, class_names, extra=None):
    """Write `model` as an ONNX file with its labels inside.

    Args:
        model: float32 Keras model, RGB images `(None, H, W, 3)` in 0-255 to logits `(None, C)`.
        path: The file to write.
        batch: The one batch size to accept; `None` for any, an axis named `batch`.
        class_names: Written to the metadata as a JSON list under `labels`.
        extra: JSON-able facts by name, each written to the metadata as JSON under its name.

    Raises:
        ExportError: tf2onnx cannot convert the model, or what it gives is not a valid graph.

    Example:
        >>> write(model, Path("model.onnx"), class_names=["cat", "dog"])
        >>> onnxruntime.InferenceSession("model.onnx").get_modelmeta().custom_metadata_map["labels"]
        '["cat", "dog"]'
    """
    serve = serving_function(model, batch)
    try:
        with inlined_functions(), _errors_logged_by("tf2onnx") as errors:
            graph, _ = tf2onnx.convert.from_function(
                serve,
                serve.input_signature,
                opset=_OPSET,
                custom_op_handlers={"Erfc": (_erfc, [])},
                custom_rewriter=[_rank_one_addends],
            )
            _make_constants_of_captures(graph.graph, serve.get_concrete_function())
        if errors:  # it goes on past them, and returns a graph all the same
            raise ValueError(errors[0])
        _name_batch_axis(graph.graph, batch)
        metadata = {"labels": class_names, "input_range": "0-255 RGB", **(extra or {})}
        helper.set_model_props(graph, {name: json.dumps(value) for name, value in metadata.items()})
        onnx.checker.check_model(graph, full_check=True)
    except Exception as error:  # tf2onnx raises whatever it stumbles over
        raise ExportError(
            f"ONNX needs a model that tf2onnx can convert at opset {_OPSET}. "
            f"Received: {type(error).__name__}: {error}. Export another format, or choose another backbone."
        ) from error
    onnx.save(graph, path)


def load(path):
    """Return a callable from images `(B, H, W, 3)` to probabilities `(B, C)`, run by ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: np.ascontiguousarray(images)})[0]


def _erfc(context, node, name, args):
    """Write `Erfc`, to which TensorFlow's exact GELU traces, as `1 - Erf`: ONNX has `Erf` only."""
    shape, dtype = context.get_shape(node.output[0]), context.get_dtype(node.output[0])
    context.remove_node(name)
    one = context.make_const(f"{name}_one", np.array(1, helper.tensor_dtype_to_np_dtype(dtype)))
    erf = context.make_node("Erf", [node.input[0]], name=f"{name}_erf", shapes=[shape], dtypes=[dtype])
    inputs = [one.output[0], erf.output[0]]
    return context.make_node("Sub", inputs, outputs=node.output, name=name, shapes=[shape], dtypes=[dtype])


def _rank_one_addends(graph, nodes):
    """Give constants of rank 0 that are added to a tensor rank 1.

    tf2onnx' transpose optimizer stops at the first of them, and a network of hard-swish is left with a pair
    of transposes around every convolution.
    """
    for node in nodes:
        if node.type not in ("Add", "AddV2"):
            continue
        for index, addend in enumerate(node.inputs):
            other_shape = graph.get_shape(node.input[1 - index])
            if addend.is_const() and addend.get_tensor_value(as_list=False).ndim == 0 and other_shape:
                value = addend.get_tensor_value(as_list=False).reshape(1)
                constant = graph.make_const(f"{node.name}_addend_{index}", value)
                graph.replace_input(node, node.input[index], constant.output[0], index)
    return nodes


def _make_constants_of_captures(graph, function):
    """Turn graph inputs that are constants the function had captured into initializers; drop unused ones."""
    captures = function.captured_inputs
    placeholders = function.inputs[len(function.inputs) - len(captures) :]
    values = {inside.name: outside for inside, outside in zip(placeholders, captures, strict=True)}
    used = {name for node in graph.node for name in node.input}
    for value in [value for value in graph.input if value.name != INPUT]:
        if value.name in used:
            if value.name not in values:
                raise ValueError(f"the graph asks for an input {value.name!r} beside {INPUT!r}")
            graph.initializer.append(numpy_helper.from_array(values[value.name].numpy(), value.name))
        graph.input.remove(value)


def _name_batch_axis(graph, batch):
    for value in (*graph.input, *graph.output):
        axis = value.type.tensor_type.shape.dim[0]
        if batch is None:
            axis.dim_param = "batch"
        else:
            axis.dim_value = batch
    del graph.value_info[:]  # stale after the optimizer's passes


@contextlib.contextmanager
def _errors_logged_by(name):
    """Yield the list of the messages of level ERROR and above that the logger `name` is given meanwhile."""
    messages = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
