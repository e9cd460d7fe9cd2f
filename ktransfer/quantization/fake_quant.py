"""Fake-quantize a model in the forward pass, so that it answers as its int8 file will."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from ktransfer.models.blocks import sublayers

if TYPE_CHECKING:
    from ktransfer.core.typing import Tensor


# Around -1e9 or minus infinity no 8 bits hold anything: what is masked stays in float, as in an int8 file.
_WIDEST = 1e8
# These only move values that are quantized already; and the softmax stays in float.
_NOT_QUANTIZED = (
    *(keras.layers.InputLayer, keras.layers.Identity, keras.layers.Reshape, keras.layers.Flatten),
    *(keras.layers.Permute, keras.layers.Dropout, keras.layers.SpatialDropout1D, keras.layers.Softmax),
    *(keras.layers.SpatialDropout2D, keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D),
    *(keras.layers.Cropping1D, keras.layers.Cropping2D, keras.layers.MaxPooling2D, keras.layers.Masking),
)


class FakeQuantizedModel(keras.Model):
    """A model that shares its variables with `model` and rounds to 8 bits what an int8 file rounds.

    Weights of two or more dimensions are quantized symmetrically by output channel, as TFLite and ONNX do; by
    channel it makes no difference whether the BatchNorm behind a convolution is folded into it before. What
    flows between layers is quantized asymmetrically, by one range for each layer, where the file has a tensor:
    behind BatchNorm and ReLU rather than between these and their convolution. Gradients pass straight through
    (Jacob et al. 2018, section 3; Krishnamoorthi 2018, section 3), and end where a range does.

    Ranges are the means over `batches` of the smallest and largest value in each, and stay.

    Args:
        model: Functional; what it is and does stays as it is.
        batches: Inputs of it, as arrays with the batch first; at least one.

    Example:

        quantized = FakeQuantizedModel(model, [images[:32], images[32:64]])
        difference = quantized.predict(images) - model.predict(images)
    """

    def __init__(self, model: keras.Model, batches: Iterable[Any]) -> None:
        super().__init__(name=f"fake_quantized_{model.name}")
        self.original = model
        self._fake_quantization = _FakeQuantization(model, batches)
        self.build(keras.tree.map_structure(lambda tensor: tensor.shape, model.input))

    def build(self, input_shape: Any) -> None:
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        with self._fake_quantization.applied():
            return self.original(inputs, training=training)

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The range of each fake-quantized layer's output, by the layer's name."""
        return {operation.name: found for operation, found in self._fake_quantization.ranges.items()}


class _FakeQuantization:
    """The fake quantization of each layer of a model; no Keras object, so that nothing is tracked twice."""

    def __init__(self, model: keras.Model, batches: Iterable[Any]) -> None:
        self._operations = _operations(model)
        batches = iter(batches)
        first = next(batches)
        self.ranges = self._measure(model, itertools.chain([first], batches), self._places(model, first))

    def applied(self) -> contextlib.AbstractContextManager[None]:
        """Round while this context is open."""

        def quantized(operation: keras.Operation, call: Callable[..., Any]) -> Callable[..., Any] | None:
            kernels, found = _kernels(operation), self.ranges.get(operation)

            def called(*args: Any, **kwargs: Any) -> Any:
                with _fake_quantized_weights(operation, kernels):
                    outputs = call(*args, **kwargs)
                return keras.quantizers.fake_quant_with_min_max_vars(outputs, *found) if found else outputs

            return called if kernels or found else None

        return _calling(self._operations, quantized)

    def _places(self, model: keras.Model, batch: Any) -> set[keras.Operation]:
        """The operations whose output an int8 file has: seen on one example, by which tensor goes where."""
        calls = []  # with the tensors themselves, so that no two have the same id

        def listening(operation: keras.Operation, call: Callable[..., Any]) -> Callable[..., Any]:
            def called(*args: Any, **kwargs: Any) -> Any:
                outputs = call(*args, **kwargs)
                calls.append((operation, _floats((args, kwargs)), outputs))
                return outputs

            return called

        with _calling(self._operations, listening):
            model(keras.tree.map_structure(lambda rows: rows[:1], batch), training=False)
        makers: dict[int, keras.Operation] = {}
        readers: dict[int, list[keras.Operation]] = defaultdict(list)
        for operation, inputs, outputs in calls:  # what is inside a layer comes before it
            read = {id(tensor) for tensor in inputs}
            if not (isinstance(operation, keras.Layer) and sublayers(operation)):
                for key in read:
                    readers[key].append(operation)
            # Of what is no layer, what has one input only moves it.
            computes = isinstance(operation, keras.Layer) or len(inputs) > 1
            if _floats([outputs]) == [outputs] and computes and id(outputs) not in read:
                makers.setdefault(id(outputs), operation)
        return {
            operation
            for key, operation in makers.items()
            if not isinstance(operation, _NOT_QUANTIZED) and not _is_fused(operation, readers[key])
        }

    def _measure(
        self, model: keras.Model, batches: Iterable[Any], places: set[keras.Operation]
    ) -> dict[keras.Operation, tuple[float, float]]:
        seen = defaultdict(list)

        def measuring(operation: keras.Operation, call: Callable[..., Any]) -> Callable[..., Any] | None:
            def called(*args: Any, **kwargs: Any) -> Any:
                outputs = call(*args, **kwargs)
                values = ops.convert_to_numpy(ops.cast(outputs, "float32"))
                seen[operation].append((values.min(), values.max()))
                return outputs

            return called if operation in places else None

        with _calling(self._operations, measuring):
            for batch in batches:
                model(batch, training=False)
        found = {operation: np.mean(ends, axis=0, dtype="float64") for operation, ends in seen.items()}
        return {
            operation: (min(float(low), 0.0), max(float(high), 0.0))
            for operation, (low, high) in found.items()
            if 0 < high - low < _WIDEST
        }


def _operations(model: keras.Model) -> list[keras.Operation]:
    """All layers, and of functional models what is computed without one."""
    layers = sublayers(model)
    graphs = [model, *(layer for layer in layers if isinstance(layer, keras.Model))]
    found = [operation for graph in graphs for operation in getattr(graph, "operations", ())]
    return list(dict.fromkeys([*layers, *found]))


@contextlib.contextmanager
def _calling(
    operations: Iterable[keras.Operation],
    replaced: Callable[[keras.Operation, Callable[..., Any]], Callable[..., Any] | None],
) -> Iterator[None]:
    """Let Keras call `replaced(operation, call)`, where that is something, instead of `operation.call`.

    On the instance, as in `use_depthwise`, and only while a model is called: keras-hub's layers call others
    deep inside, which no clone of a graph reaches.
    """
    changed = []
    try:
        for operation in operations:
            if (call := replaced(operation, operation.call)) is not None:
                operation.call = call
                changed.append(operation)
        yield
    finally:
        for operation in changed:
            del operation.call


@contextlib.contextmanager
def _fake_quantized_weights(
    layer: keras.Operation, kernels: Sequence[tuple[keras.Variable, tuple[int, ...]]]
) -> Iterator[None]:
    if not kernels:
        yield
        return
    # All of the layer's: within another such scope, as on JAX, what is not named here is seen as of before.
    values = {id(variable): ops.convert_to_tensor(variable) for variable in layer.weights}
    for variable, axes in kernels:
        values[id(variable)] = _fake_quantized(values[id(variable)], axes)
    mapping = [(variable, values[id(variable)]) for variable in layer.weights]
    with keras.StatelessScope(mapping, initialize_variables=False):
        yield


def _fake_quantized(kernel: Tensor, axes: tuple[int, ...]) -> Tensor:
    """`kernel` in 255 steps for each channel, gradients straight through."""
    step = ops.maximum(ops.max(ops.abs(kernel), axis=axes, keepdims=True), 1e-12) / 127
    return kernel + ops.stop_gradient(ops.round(kernel / step) * step - kernel)


def _kernels(layer: keras.Operation) -> list[tuple[keras.Variable, tuple[int, ...]]]:
    """The fake-quantized weights of a layer, each with the axes that share a step."""
    if not isinstance(layer, keras.Layer) or sublayers(layer):
        return []
    return [(weight, _shared_axes(layer, weight)) for weight in layer.weights if len(weight.shape) > 1]


def _shared_axes(layer: keras.layers.Layer, weight: keras.Variable) -> tuple[int, ...]:
    """All but those of the output channels."""
    rank = len(weight.shape)
    if isinstance(layer, keras.layers.Embedding):
        return tuple(range(rank))  # by a table's one step
    if isinstance(layer, keras.layers.EinsumDense):
        _, kernel, output = re.split(r",|->", layer.equation)
        return tuple(axis for axis, letter in enumerate(kernel) if letter not in output)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D)
    return tuple(range(rank - (2 if depthwise or "depthwise" in weight.name else 1)))


def _floats(tree: Any) -> list[Tensor]:
    return [
        tensor
        for tensor in keras.tree.flatten(tree)
        if ops.is_tensor(tensor) and keras.backend.is_float_dtype(tensor.dtype)
    ]


def _is_fused(operation: keras.Operation, readers: Sequence[keras.Operation]) -> bool:
    """Whether all that reads what `operation` gives becomes one with it in an int8 file."""
    followers = [reader for reader in readers if not isinstance(reader, keras.layers.Identity)]
    if not followers:
        return False
    if all(isinstance(reader, keras.layers.BatchNormalization) for reader in followers):
        return bool(_kernels(operation))
    relus = (keras.activations.relu, keras.activations.relu6)
    return all(
        isinstance(reader, keras.layers.ReLU) or getattr(reader, "activation", None) in relus
        for reader in followers
    ) and not any(map(_kernels, followers))
