"""ONNX with adapters apart: the pretrained backbone as a graph, whose optional inputs are adapters and the head."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import onnx
import tensorflow as tf

from ktransfer.errors import ExportError, listed
from ktransfer.exporting.onnx.exporter import ACTIVATIONS, CLASSES, converted
from ktransfer.exporting.onnx_adapters import ADAPTER, BACKBONE, FACTS
from ktransfer.exporting.serving import OUTPUT
from ktransfer.models.adapters import Target, adaptable_layers, pretrained_kernels
from ktransfer.models.heads import Head
from ktransfer.models.inputs import as_taken
from ktransfer.utils.files import write_json

if TYPE_CHECKING:
    from ktransfer.core.typing import Array
    from ktransfer.exporting.serving import Serving

_FORMAT = 1
_KERNEL, _BIAS = "head_kernel", "head_bias"


def write(
    serving: Serving, path: Path, *, fixed: dict[str, int], extra: Mapping[str, Any] | None = None
) -> None:
    """Write a folder with the backbone, which all runs on it share byte for byte, and what this run adds to it.

    `backbone.onnx` has the pretrained weights. Two matrices for each layer, and the head, are inputs that may be left
    out; without them there is no adapter, and one class. `adapter.onnx_adapter` has those of the run, as ONNX Runtime's
    `LoraAdapter` reads them, and `adapter.json` its labels and the SHA-256 of the backbone that they are for.

    Args:
        serving: `Serving` with adapters.
        path: The folder to write.
        fixed: Sizes of axes by name; the others may have any size.
        extra: JSON-able facts, written to `adapter.json`.

    Raises:
        ExportError: An adapted layer is a grouped or causal convolution, or the backbone cannot be had as ONNX.

    Example:

        write(serving, Path("onnx_adapters"), fixed={})
    """
    adapters = serving.adapters
    if adapters is None:
        raise ExportError(
            "Expected a run with adapters for onnx-adapters, got one without. Export another format."
        )
    targets = adaptable_layers(serving.model)
    numbers = {target.name: number for number, target in enumerate(targets)}
    if wrong := [name for name in adapters.names if name not in numbers]:
        raise ExportError(
            f"Expected no adapters on grouped or causal convolutions for onnx-adapters, got {listed(wrong)}. "
            "Export onnx, which has them merged."
        )
    kernel, bias = (
        (each / serving.temperature).astype("float32") for each in Head.of(serving.model).folded()
    )
    path.mkdir(exist_ok=True)
    with pretrained_kernels(serving.model, adapters):
        graph = _backbone(serving, fixed, targets, len(kernel))
    onnx.save(graph, path / BACKBONE)
    given = {_KERNEL: kernel, _BIAS: bias}
    for name, (a, b) in zip(adapters.names, adapters.matrices, strict=True):
        scaled = np.float32(adapters.adapter.scale) * b
        given |= dict(zip(_names(numbers[name]), (a, scaled), strict=True))
    _write_adapter(given, path / ADAPTER)
    write_json(
        path / FACTS,
        {
            "format": _FORMAT,
            "labels": serving.class_names,
            **(extra or {}),
            "adapter": adapters.adapter.to_dict(),
            "layers": {name: list(_names(numbers[name])) for name in adapters.names},
            "fingerprint": adapters.fingerprint,
            "backbone_sha256": hashlib.sha256((path / BACKBONE).read_bytes()).hexdigest(),
        },
    )


def _names(number: int) -> tuple[str, str]:
    """The inputs for both matrices of a layer."""
    return f"lora_a_{number}", f"lora_b_{number}"


def _backbone(
    serving: Serving, fixed: Mapping[str, int], targets: Sequence[Target], features: int
) -> onnx.ModelProto:
    """The graph of the model, whose kernels are the pretrained ones, with inputs for adapters and a head."""
    optional: dict[str, tuple[Array, Sequence[str | None]]] = {}
    for number, target in enumerate(targets):
        *sides, last = target.layer.kernel.shape
        # A product of zero, and no matrix of no columns, which not all of a runtime's operators take.
        a, b = np.zeros((*sides, 1), "float32"), np.zeros((1, last), "float32")
        rank = f"rank_{number}"
        optional |= dict(
            zip(_names(number), ((a, (*[None] * len(sides), rank)), (b, (rank, None))), strict=True)
        )
    optional[_KERNEL] = np.zeros((features, 1), "float32"), (None, CLASSES)
    optional[_BIAS] = np.zeros(1, "float32"), (CLASSES,)
    inputs = [tf.TensorSpec(given.shape(fixed), given.dtype, name=given.name) for given in serving.inputs]
    specs = [
        tf.TensorSpec(
            [None if axis else size for axis, size in zip(axes, value.shape, strict=True)],
            "float32",
            name=name,
        )
        for name, (value, axes) in optional.items()
    ]
    pooled = keras.Model(serving.model.input, Head.of(serving.model).features)
    own = getattr(tf.nn, serving.task.activation) if serving.task.activation else serving.task.in_graph
    activation = ACTIVATIONS.get(serving.task.activation, own)

    @tf.function(input_signature=[*inputs, *specs], autograph=False)
    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        given = dict(zip([spec.name for spec in (*inputs, *specs)], tensors, strict=True))
        taken = {
            spec.name: tf.cast(given[spec.name], tf.float32) if spec.dtype == tf.uint8 else given[spec.name]
            for spec in inputs
        }
        matrices = [tuple(given[name] for name in _names(number)) for number in range(len(targets))]
        with _computed_next_to([target.layer for target in targets], matrices):
            features = pooled(as_taken(pooled, serving.prepare(taken)), training=False)
        return {OUTPUT: activation(tf.matmul(features, given[_KERNEL]) + given[_BIAS])}

    return converted(serve, serving, dict(fixed), metadata={}, optional=optional)


@contextlib.contextmanager
def _computed_next_to(
    layers: Sequence[keras.layers.Layer], matrices: Sequence[tuple[tf.Tensor, ...]]
) -> Iterator[None]:
    """Let layers add the product with two matrices to what they compute, before their activation.

    Keras adds both to the kernel, as large as that is, which a graph would do at each call.
    """

    def adapted(layer: keras.layers.Layer, a: tf.Tensor, b: tf.Tensor) -> Any:
        plain, activation = layer.call, layer.activation

        def call(inputs: tf.Tensor, *args: Any, **options: Any) -> tf.Tensor:
            layer.activation = keras.activations.linear
            try:
                outputs = plain(inputs, *args, **options)
            finally:
                layer.activation = activation
            outputs += _product(layer, inputs, a, b)
            return outputs if activation is None else activation(outputs)

        return call

    try:
        for layer, (a, b) in zip(layers, matrices, strict=True):
            layer.call = adapted(layer, a, b)
        yield
    finally:
        for layer in layers:
            if "call" in vars(layer):
                del layer.call


def _product(layer: keras.layers.Layer, inputs: tf.Tensor, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    if isinstance(layer, keras.layers.Dense):
        return keras.ops.matmul(keras.ops.matmul(inputs, a), b)
    if isinstance(layer, keras.layers.EinsumDense):
        given, kernel, output = re.split(r",|->", layer.equation.replace(" ", ""))
        last = kernel[-1]
        rank = next(letter for letter in "rstuvwxyz" if letter not in layer.equation)
        between = output.replace(last, rank)
        low = keras.ops.einsum(f"{given},{kernel[:-1]}{rank}->{between}", inputs, a)
        return keras.ops.einsum(f"{between},{rank}{last}->{output}", low, b)
    low = keras.ops.conv(
        inputs,
        a,
        strides=layer.strides,
        padding=layer.padding,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
    )
    if layer.data_format == "channels_first":
        low = keras.ops.moveaxis(low, 1, -1)
    product = keras.ops.matmul(low, b)
    return keras.ops.moveaxis(product, -1, 1) if layer.data_format == "channels_first" else product


def _write_adapter(given: Mapping[str, Array], path: Path) -> None:
    import onnxruntime

    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(_FORMAT)
    file.set_model_version(_FORMAT)
    values = {name: np.ascontiguousarray(value, "float32") for name, value in given.items()}
    file.set_parameters(
        {name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in values.items()}
    )
    file.export_adapter(str(path))
