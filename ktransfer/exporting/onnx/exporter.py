"""ONNX: for servers, run by ONNX Runtime."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from onnx import helper, numpy_helper

from ktransfer.errors import ExportError, listed
from ktransfer.exporting.onnx.canonical import canonicalize
from ktransfer.exporting.onnx.quantization import make_smaller
from ktransfer.exporting.patches.fourier import fourier_as_matrices
from ktransfer.exporting.processes.converter_process import run_in_subprocess
from ktransfer.exporting.serving import OUTPUT, inlined_functions, serving_function
from ktransfer.utils.progress import ProgressCallback, silent

if TYPE_CHECKING:
    from ktransfer.core.typing import Array
    from ktransfer.exporting.serving import Serving

CLASSES = "classes"  # the name of an axis
_OPSET = 17  # right for every backbone tried; tf2onnx' default gave graphs that are not valid


def _sigmoid(logits: tf.Tensor) -> tf.Tensor:
    """In operations that ONNX Runtime computes to the last digits; its own is off by 1 % at -13, 100 % at -20."""
    return tf.math.reciprocal(1.0 + tf.exp(-logits))


ACTIVATIONS = {"sigmoid": _sigmoid}


def write(
    serving: Serving,
    path: Path,
    *,
    fixed: dict[str, int],
    extra: Mapping[str, Any] | None = None,
    precision: str = "float32",
    on_progress: ProgressCallback = silent,
) -> None:
    """Write an ONNX file with its labels inside.

    Args:
        serving: `Serving`.
        path: The file to write.
        fixed: Sizes of axes by name; the others may have any size, and have their names in the file.
        extra: JSON-able facts by name, each written to the metadata as JSON under its name, next to the class
            names as a list under `labels`.
        precision: `"float32"`, or as in `make_smaller`, which is then run in a subprocess.
        on_progress: Callable that receives the progress of quantization. Defaults to none.

    Raises:
        ExportError: tf2onnx cannot convert the model, what it gives is not a valid graph, or making it
            smaller ended the process.

    Example:
        >>> import onnxruntime
        >>> write(serving, Path("model.onnx"), fixed={})
        >>> onnxruntime.InferenceSession("model.onnx").get_modelmeta().custom_metadata_map["labels"]
        '["cat", "dog"]'
    """
    serve = serving_function(serving, fixed, activation=ACTIVATIONS.get(serving.task.activation))
    facts = {f"input_{name}": fact for given in serving.inputs for name, fact in given.facts.items()}
    graph = converted(
        serve, serving, fixed, metadata={"labels": serving.class_names, **facts, **(extra or {})}
    )
    if precision == "float32":
        onnx.save(graph, path)
        return
    calibration = serving.calibration_batches() if precision == "int8" else ()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder, "model.onnx")
        onnx.save(graph, source)
        doing = f"make the ONNX model {precision}"
        run_in_subprocess(
            make_smaller, source, path, precision, calibration, doing=doing, on_progress=on_progress
        )


def converted(
    serve: Any,
    serving: Serving,
    fixed: dict[str, int],
    *,
    metadata: Mapping[str, Any],
    optional: Mapping[str, tuple[Array, Sequence[str | None]]] = MappingProxyType({}),
) -> onnx.ModelProto:
    """The ONNX graph of a function, the same at each export.

    Args:
        serve: `tf.function` with an input signature: the inputs of `serving`, then those of `optional`.
        serving: `Serving`.
        fixed: As in `write`.
        metadata: JSON-able facts by name.
        optional: Inputs that may be left out, by name: the value that they then have, and the names of their axes,
            `None` for one of a fixed size. Defaults to none.

    Raises:
        ExportError: As in `write`.

    Example:

        onnx.save(converted(serving_function(serving, {}), serving, {}, metadata={}), "model.onnx")
    """
    try:
        with inlined_functions(), fourier_as_matrices(), _errors_logged_by("tf2onnx") as errors:
            graph, _ = tf2onnx.convert.from_function(
                serve,
                serve.input_signature,
                opset=_OPSET,
                custom_op_handlers={"Erfc": (_erfc, [])},
                custom_rewriter=[_rank_one_addends, _transposes_of_one],
            )
            _make_constants_of_captures(graph.graph, serving, serve.get_concrete_function(), optional)
        if errors:  # it continues after errors and returns a graph
            raise ValueError(errors[0])
        _pad_in_the_pools(graph.graph)
        _leave_out_what_is_known(graph.graph)
        _name_axes(graph.graph, serving, fixed, {name: axes for name, (_, axes) in optional.items()})
        for name, (value, _) in optional.items():
            graph.graph.initializer.append(numpy_helper.from_array(value, name))
        helper.set_model_props(graph, {name: json.dumps(value) for name, value in metadata.items()})
        canonicalize(graph)
        onnx.checker.check_model(graph, full_check=True)
    except Exception as error:  # tf2onnx raises many kinds of errors
        raise ExportError(
            f"Expected a model that tf2onnx can convert at opset {_OPSET}, got {type(error).__name__}: "
            f"{error}. Export another format, or choose another backbone."
        ) from error
    return graph


def _erfc(context: Any, node: Any, name: str, args: Any) -> Any:
    """Write `Erfc`, to which TensorFlow's exact GELU traces, as `1 - Erf`: ONNX has `Erf` only."""
    shape, dtype = context.get_shape(node.output[0]), context.get_dtype(node.output[0])
    context.remove_node(name)
    one = context.make_const(f"{name}_one", np.array(1, helper.tensor_dtype_to_np_dtype(dtype)))
    erf = context.make_node("Erf", [node.input[0]], name=f"{name}_erf", shapes=[shape], dtypes=[dtype])
    inputs = [one.output[0], erf.output[0]]
    return context.make_node("Sub", inputs, outputs=node.output, name=name, shapes=[shape], dtypes=[dtype])


def _rank_one_addends(graph: Any, nodes: list[Any]) -> list[Any]:
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


def _transposes_of_one(graph: Any, nodes: list[Any]) -> list[Any]:
    """Reshape at once to what a transpose after it, of nothing but an axis of size 1, would give.

    tf2onnx makes a reshape of the transpose, in which 0 stands for a size of its input, and then gives it the
    input of the reshape before: MiT's attention of one head answered a batch of 1 alone.
    """
    for node in nodes:
        if node.type != "Transpose" or len(node.inputs) < 2 or not node.inputs[1].is_const():
            continue
        reshape, order = node.inputs[0], node.inputs[1].get_tensor_value()
        if reshape.type != "Reshape" or reshape.inputs[1].type != "Pack":
            continue
        sizes = reshape.inputs[1]
        ones = {i for i, size in enumerate(sizes.inputs) if size.is_const() and size.get_tensor_value() == 1}
        moved = [axis for axis in order if axis not in ones]
        if moved != sorted(moved):
            continue
        known = {"shapes": node.output_shapes, "dtypes": node.output_dtypes}
        as_tensorflow = {"skip_conversion": False}
        sizes = graph.make_node(
            "Pack",
            [sizes.input[axis] for axis in order],
            attr={"axis": 0},
            dtypes=sizes.output_dtypes,
            **as_tensorflow,
        )
        inputs = [reshape.input[0], sizes.output[0]]
        graph.remove_node(node.name)
        graph.make_node("Reshape", inputs, outputs=node.output, name=node.name, **known, **as_tensorflow)
    return graph.get_nodes()


def _pad_in_the_pools(graph: onnx.GraphProto) -> None:
    """Let a max-pool pad by itself, which ONNX defines as with minus infinity, in the place of such a pad.

    The same, and no calibration sees a range without end: keras-hub's ResNet v2 and CSPNet pad so.
    """
    constants = {value.name: value for value in graph.initializer}
    pads = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "Pad" and len(node.input) == 3 and constants.keys() >= {*node.input[1:]}
    }
    for pool in [node for node in graph.node if node.op_type == "MaxPool" and node.input[0] in pads]:
        pad = pads[pool.input[0]]
        sizes, value = (numpy_helper.to_array(constants[name]) for name in pad.input[1:])
        readers = sum(pad.output[0] in node.input for node in graph.node)
        if not np.isneginf(value) or readers > 1 or any(sizes[:2]) or any(sizes[4:6]):
            continue
        for attribute in [one for one in pool.attribute if one.name in ("pads", "auto_pad")]:
            pool.attribute.remove(attribute)
        pool.attribute.append(helper.make_attribute("pads", [*sizes[2:4].tolist(), *sizes[6:8].tolist()]))
        pool.input[0] = pad.input[0]
        graph.node.remove(pad)


def _leave_out_what_is_known(graph: onnx.GraphProto) -> None:
    """Write the shapes of constants as constants, and leave out the constants that nothing else reads.

    tf2onnx keeps a second copy of the weights of each attention for nothing but its shape. It also gives the
    products of two a `beta` for a third that is not there, and ONNX Runtime then leaves them unquantized.
    """
    sizes = {value.name: value.dims for value in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Shape" and node.input[0] in sizes]:
        shape = np.array(sizes[node.input[0]], np.int64)
        graph.initializer.append(numpy_helper.from_array(shape, node.output[0]))
        graph.node.remove(node)
    for node in graph.node:
        if node.op_type == "Gemm" and len(node.input) == 2:
            for attribute in [one for one in node.attribute if one.name == "beta"]:
                node.attribute.remove(attribute)
    used = {name for node in graph.node for name in node.input}
    for value in [value for value in graph.initializer if value.name not in used]:
        graph.initializer.remove(value)


def _make_constants_of_captures(
    graph: onnx.GraphProto, serving: Serving, function: Any, optional: Collection[str]
) -> None:
    """Turn graph inputs that are constants the function had captured into initializers; drop unused ones."""
    captures = function.captured_inputs
    placeholders = function.inputs[len(function.inputs) - len(captures) :]
    values = {inside.name: outside for inside, outside in zip(placeholders, captures, strict=True)}
    used = {name for node in graph.node for name in node.input}
    names = {given.name for given in serving.inputs} | {*optional}
    for value in [value for value in graph.input if value.name not in names]:
        if value.name in used:
            if value.name not in values:
                raise ValueError(f"the graph has an input {value.name!r} in addition to {listed(names)}")
            graph.initializer.append(numpy_helper.from_array(values[value.name].numpy(), value.name))
        graph.input.remove(value)


def _name_axes(
    graph: onnx.GraphProto,
    serving: Serving,
    fixed: dict[str, int],
    optional: Mapping[str, Sequence[str | None]],
) -> None:
    axes: dict[str, Sequence[int | str | None]] = {given.name: given.axes for given in serving.inputs}
    axes |= optional
    if optional:  # the number of classes is that of a matrix
        axes[OUTPUT] = (*serving.output_axes[:-1], CLASSES)
    else:
        axes[OUTPUT] = serving.output_axes
    for value in (*graph.input, *graph.output):
        for axis, given in zip(value.type.tensor_type.shape.dim, axes[value.name], strict=True):
            if given in fixed:
                axis.dim_value = fixed[given]
            elif isinstance(given, str):
                axis.dim_param = given


class _Collector(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())


@contextlib.contextmanager
def _errors_logged_by(name: str) -> Iterator[list[str]]:
    """Yield the list of the messages of level ERROR and above that the logger `name` is given meanwhile."""
    messages: list[str] = []
    handler = _Collector(messages)
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
