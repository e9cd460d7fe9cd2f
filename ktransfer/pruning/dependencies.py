"""Find the channels of a graph that stand or fall together, by following each one through every layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from ktransfer.models.rebuild import rebuilt

# Each channel of the output is that channel of the input alone, or of all inputs.
_PER_CHANNEL = frozenset(
    {
        *(
            "Activation",
            "ReLU",
            "LeakyReLU",
            "ELU",
            "Dropout",
            "SpatialDropout2D",
            "GaussianNoise",
            "Identity",
        ),
        *("MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D"),
        *(
            "GlobalAveragePooling1D",
            "ZeroPadding2D",
            "ZeroPadding1D",
            "Cropping2D",
            "UpSampling2D",
            "DropPath",
        ),
        *(
            "StochasticDepth",
            "Relu",
            "Relu6",
            "Sigmoid",
            "Silu",
            "Swish",
            "Gelu",
            "Tanh",
            "Elu",
            "HardSigmoid",
        ),
        *("HardSilu", "HardSwish", "Erf", "Negative", "Square", "Sqrt", "Cast", "Abs", "Clip", "Rescaling"),
        *("Mish", "Softplus", "Selu", "LeakyRelu", "Exp", "QuickGELU"),
    }
)
_MERGES = frozenset(("Add", "Multiply", "Subtract", "Average", "Maximum", "Minimum", "Divide", "TrueDivide"))
_POOLS = frozenset(("Mean", "Max", "Sum"))
# Softmax mixes channels; every other activation by name does not.
_MIXING = ("softmax", "log_softmax", "glu")
LEAST = 2  # channels of a group that has something to give


@dataclass
class Slices:
    """The parts of a layer that belong to channels.

    Attributes:
        axes: For a weight by its place, and an axis of it, the channel of each position.
        sizes: For a field of the layer's configuration the channels that it counts; the last axis of a shape too.
        produced: Weights whose rows or columns make a channel: `(place, axis)`, whose importance is the channel's.
    """

    axes: list[tuple[int, int, np.ndarray]] = field(default_factory=list)
    sizes: dict[str, np.ndarray] = field(default_factory=dict)
    produced: list[tuple[int, int, np.ndarray]] = field(default_factory=list)


class Dependencies:
    """The channels of a functional model, and which of them go together.

    Each output channel of a convolution or dense layer, and each head, has a number. Numbers are united where channels
    meet: added, multiplied, or at one place of each group of a grouped convolution. What goes into something that mixes
    channels in a way that cannot be taken apart, such as a LayerNorm, a reshape or an unknown layer, is fixed.

    Args:
        model: Functional, with its layers written out (`unrolled`).
        fix_outputs: Whether the outputs of the model keep their channels. Defaults to `True`.

    Attributes:
        slices: By layer, what of it belongs to which channels.
        fixed_by: Why channels are fixed: the class of the layer and how many tensors.
        groups: For each name of a group its units; each unit is the numbers that are removed together.

    Example:

        Dependencies(unrolled(backbone)).groups
    """

    def __init__(self, model: keras.Model, *, fix_outputs: bool = True) -> None:
        self.slices: dict[int, Slices] = {}
        self.layers: dict[int, Any] = {}
        self.fixed_by: dict[str, int] = {}
        self._parents: list[int] = []
        self._fixed: set[int] = set()
        self._names: dict[int, str] = {}
        self._tensors: dict[int, np.ndarray] = {}
        self._alive: list[Any] = []

        def call(layer: Any, *inputs: Any, **options: Any) -> Any:
            output = layer(*inputs, **options)
            self._follow(layer, inputs, options, output)
            return output

        found = rebuilt(model, layer_of=lambda layer: layer, call=call, copied=False)
        self.outputs = [self._of(tensor) for tensor in keras.tree.flatten(found.output)]
        if fix_outputs:
            for channels in self.outputs:
                self._fix(channels, "output")
        self.groups = self._grouped()

    # Union and find.

    def root(self, number: int) -> int:
        """The number that stands for all that go with this one."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def _new(self, count: int, name: str) -> np.ndarray:
        start = len(self._parents)
        self._parents += range(start, start + count)
        for number in range(start, start + count):
            self._names[number] = name
        return np.arange(start, start + count)

    def _unite(self, one: np.ndarray, other: np.ndarray) -> None:
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            a, b = self.root(a), self.root(b)
            if a != b:
                low, high = min(a, b), max(a, b)
                self._parents[high] = low
                if high in self._fixed:
                    self._fixed.add(low)

    def _fix(self, channels: np.ndarray, why: str) -> None:
        if not len(channels):
            return
        self.fixed_by[why] = self.fixed_by.get(why, 0) + 1
        self._fixed |= {self.root(number) for number in channels.tolist()}

    def is_fixed(self, number: int) -> bool:
        """Whether this channel stays."""
        return self.root(number) in self._fixed

    # The graph.

    def _of(self, tensor: Any) -> np.ndarray:
        """The channels of a tensor, its last axis."""
        if id(tensor) not in self._tensors:
            count = tensor.shape[-1] if len(tensor.shape) > 1 and tensor.shape[-1] else 0
            channels = self._new(count, "input")
            self._fixed |= set(channels.tolist())
            self._set(tensor, channels)
        return self._tensors[id(tensor)]

    def _set(self, tensor: Any, channels: np.ndarray) -> None:
        self._tensors[id(tensor)] = channels
        self._alive.append(tensor)  # or another one would have its id

    def _follow(self, layer: Any, inputs: Any, options: Mapping[str, Any], output: Any) -> None:
        given = [
            each
            for each in keras.tree.flatten((inputs, dict(options)))
            if isinstance(each, keras.KerasTensor)
        ]
        self.layers[id(layer)] = layer
        name = type(layer).__name__
        rules: dict[str, Callable[..., bool]] = {
            **dict.fromkeys(("Conv2D", "Conv1D", "Dense"), self._linear),
            "DepthwiseConv2D": self._depthwise,
            "SeparableConv2D": self._separable,
            "BatchNormalization": self._batch_norm,
            "MultiHeadAttention": self._attention,
            "Concatenate": self._concatenate,
            **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), self._reshape),
            **dict.fromkeys(_MERGES, self._merge),
            **dict.fromkeys(_PER_CHANNEL, self._pass),
            **dict.fromkeys(_POOLS, self._pool),
            "Pad": self._pad,
        }
        if name == "InputLayer" or not given:
            return
        rule = rules.get(name)
        if rule is None and isinstance(layer, keras.layers.MultiHeadAttention):
            rule = self._attention
        if rule is None or not rule(layer, given, output):
            self._stop(layer, given, output)

    def _stop(self, layer: Any, given: list[Any], output: Any) -> None:
        """Fix what goes into something that cannot be followed, and what comes out of it."""
        for tensor in given:
            self._fix(self._of(tensor), type(layer).__name__)
        for tensor in keras.tree.flatten(output):
            self._of(tensor)
        self._feed_forward(layer)

    def _feed_forward(self, layer: Any) -> None:
        """The hidden units of a transformer layer that stays in one piece, whose configuration says how many."""
        weights = getattr(layer, "weights", [])
        into, out = (
            [
                place
                for place, weight in enumerate(weights)
                if weight.path.split("/")[-2:-1] in ([f"feedforward_{name}"], [name])
            ]
            for name in ("intermediate_dense", "output_dense")
        )
        if not 1 <= len(into) <= 2 or not 1 <= len(out) <= 2 or self._slices(layer).sizes:
            return
        count, config = weights[into[0]].shape[-1], layer.get_config()
        size = next(
            (name for name in ("intermediate_dim", "intermediate_size") if config.get(name) == count), None
        )
        if size is None:
            return
        units, slices = self._new(count, layer.name), self._slices(layer)
        slices.axes += [(place, len(weights[place].shape) - 1, units) for place in into]
        slices.axes += [(place, 0, units) for place in out if len(weights[place].shape) > 1]
        slices.produced += slices.axes[:1]
        slices.sizes[size] = units

    def _slices(self, layer: Any) -> Slices:
        return self.slices.setdefault(id(layer), Slices())

    def _again(self, layer: Any, channels: np.ndarray, place: int, axis: int) -> bool:
        """Whether a layer that is used more than once has its channels already; they are united then."""
        for known, at, before in self._slices(layer).axes:
            if (known, at) == (place, axis):
                self._unite(before, channels)
                return True
        return False

    def _linear(self, layer: Any, given: list[Any], output: Any) -> bool:
        if _mixes(layer) or getattr(layer, "data_format", "channels_last") != "channels_last":
            return False
        taken, slices = self._of(given[0]), self._slices(layer)
        kernel = layer.kernel
        place, last = _place(layer, kernel), len(kernel.shape) - 1
        size = "units" if type(layer).__name__ == "Dense" else "filters"
        if kernel.shape[-1] is None or len(given) != 1:
            return False
        if size in slices.sizes:  # used more than once
            self._unite_inputs(layer, taken)
            self._set(output, slices.sizes[size])
            return True
        groups = getattr(layer, "groups", 1)
        made = self._new(kernel.shape[-1], layer.name)
        if groups == len(taken) == len(made) and groups > 1:
            # Depthwise: each channel for itself.
            self._unite(taken, made)
            slices.sizes["groups"] = made
        elif groups > 1:
            # One place of every group goes with that place of the others.
            for channels in (taken, made):
                first, *others = channels.reshape(groups, -1)
                for other in others:
                    self._unite(first, other)
            slices.axes.append((place, last - 1, taken.reshape(groups, -1)[0]))
        else:
            slices.axes.append((place, last - 1, taken))
        slices.axes.append((place, last, made))
        slices.produced.append((place, last, made))
        if layer.use_bias:
            slices.axes.append((_place(layer, layer.bias), 0, made))
        slices.sizes[size] = made
        self._set(output, made)
        return True

    def _unite_inputs(self, layer: Any, taken: np.ndarray) -> None:
        last = len(layer.kernel.shape) - 2
        for place, axis, before in self._slices(layer).axes:
            if place == _place(layer, layer.kernel) and axis == last and len(before) == len(taken):
                self._unite(before, taken)
                return
        self._fix(taken, f"{type(layer).__name__} used more than once")

    def _depthwise(self, layer: Any, given: list[Any], output: Any) -> bool:
        if layer.depth_multiplier != 1 or layer.data_format != "channels_last":
            return False
        taken, slices = self._of(given[0]), self._slices(layer)
        kernel = layer.kernel if hasattr(layer, "kernel") else layer.depthwise_kernel
        place = _place(layer, kernel)
        if not self._again(layer, taken, place, 2):
            slices.axes.append((place, 2, taken))
            slices.produced.append((place, 2, taken))
            if layer.use_bias:
                slices.axes.append((_place(layer, layer.bias), 0, taken))
        self._set(output, taken)
        return not _mixes(layer)

    def _separable(self, layer: Any, given: list[Any], output: Any) -> bool:
        if layer.depth_multiplier != 1 or layer.data_format != "channels_last" or _mixes(layer):
            return False
        slices = self._slices(layer)
        if "filters" in slices.sizes:
            return False
        taken, made = self._of(given[0]), self._new(layer.pointwise_kernel.shape[-1], layer.name)
        depthwise, pointwise = (
            _place(layer, each) for each in (layer.depthwise_kernel, layer.pointwise_kernel)
        )
        slices.axes += [(depthwise, 2, taken), (pointwise, 2, taken), (pointwise, 3, made)]
        slices.produced.append((pointwise, 3, made))
        if layer.use_bias:
            slices.axes.append((_place(layer, layer.bias), 0, made))
        slices.sizes["filters"] = made
        self._set(output, made)
        return True

    def _batch_norm(self, layer: Any, given: list[Any], output: Any) -> bool:
        rank = len(given[0].shape)
        axis = layer.axis[0] if isinstance(layer.axis, list | tuple) else layer.axis
        if axis not in (-1, rank - 1):
            return False
        taken, slices = self._of(given[0]), self._slices(layer)
        if not self._again(layer, taken, 0, 0):
            slices.axes += [(place, 0, taken) for place in range(len(layer.weights))]
        self._set(output, taken)
        return True

    def _attention(self, layer: Any, given: list[Any], output: Any) -> bool:
        """Heads are units of their own; what attention reads and gives is fixed."""
        if isinstance(output, keras.KerasTensor) and not self._slices(layer).sizes:
            config = layer.get_config()
            heads = self._new(config["num_heads"], layer.name)
            slices = self._slices(layer)
            for place, weight in enumerate(layer.weights):
                # Query, key and value are (features, heads, size) with biases (heads, size); the output is
                # (heads, size, features), and its bias has no heads.
                shape, owner = tuple(weight.shape), weight.path.split("/")[-2]
                axis = {3: 0 if "output" in owner else 1, 2: 0}.get(len(shape))
                if axis is not None and shape[axis] == len(heads):
                    slices.axes.append((place, axis, heads))
                    if len(shape) == 3:
                        slices.produced.append((place, axis, heads))
            slices.sizes["num_heads"] = heads
            if {"query", "value", "key"} - {weight.path.split("/")[-2] for weight in layer.weights}:
                self._fix(heads, type(layer).__name__)
        return False

    def _concatenate(self, layer: Any, given: list[Any], output: Any) -> bool:
        rank = len(output.shape)
        axis = layer.axis
        if axis in (-1, rank - 1):
            self._set(output, np.concatenate([self._of(tensor) for tensor in given]))
            return True
        return self._merge(layer, given, output)

    def _merge(self, layer: Any, given: list[Any], output: Any) -> bool:
        count = output.shape[-1]
        if len(output.shape) < 2 or any(
            len(tensor.shape) > 1 and tensor.shape[-1] not in (1, count) for tensor in given
        ):
            return False
        if len(given) == 1 and _has_array(layer, count):
            return False
        wide = [self._of(tensor) for tensor in given if len(tensor.shape) > 1 and tensor.shape[-1] == count]
        if not wide:
            return False
        for other in wide[1:]:
            self._unite(wide[0], other)
        self._set(output, wide[0])
        return True

    def _pass(self, layer: Any, given: list[Any], output: Any) -> bool:
        if len(given) != 1 or _mixes(layer) or not isinstance(output, keras.KerasTensor):
            return False
        if output.shape[-1] != given[0].shape[-1]:
            return False
        if getattr(layer, "data_format", "channels_last") != "channels_last" or not _is_scalar(layer):
            return False
        self._set(output, self._of(given[0]))
        return True

    def _pool(self, layer: Any, given: list[Any], output: Any) -> bool:
        axes, rank = layer.axis, len(given[0].shape)
        axes = (axes,) if isinstance(axes, int) else axes
        if axes is None or any(axis % rank == rank - 1 for axis in axes) or len(given) != 1:
            return False
        return self._pass(layer, given, output)

    def _pad(self, layer: Any, given: list[Any], output: Any) -> bool:
        return len(given[0].shape) == len(output.shape) and self._pass(layer, given, output)

    def _reshape(self, layer: Any, given: list[Any], output: Any) -> bool:
        before, after = given[0].shape, output.shape
        if len(given) != 1 or len(before) < 2 or len(after) < 2 or before[-1] != after[-1]:
            return False
        # Only where the places in front of the channels are few enough to know that they are not mixed with them.
        if any(axis != 1 for axis in (*before[1:-1], *after[1:-1])):
            return False
        channels = self._of(given[0])
        for size in ("target_shape", "newshape"):
            if getattr(layer, size, None) is not None:
                self._slices(layer).sizes[size] = channels
        self._set(output, channels)
        return True

    def _grouped(self) -> dict[str, list[list[int]]]:
        """The units that can be removed, by the layers that make them."""
        made = {
            int(number)
            for slices in self.slices.values()
            for size in slices.sizes.values()
            for number in size
        }
        units: dict[int, list[int]] = {}
        for number in sorted(made):
            if not self.is_fixed(number):
                units.setdefault(self.root(number), []).append(number)
        groups: dict[str, list[list[int]]] = {}
        for numbers in units.values():
            # Units with the same makers are alike, and compete with each other.
            name = ", ".join(sorted({self._names[number] for number in numbers}))
            groups.setdefault(name, []).append(numbers)
        return {name: found for name, found in groups.items() if len(found) >= LEAST}


def _place(layer: Any, weight: Any) -> int:
    return next(place for place, each in enumerate(layer.weights) if each is weight)


def _mixes(layer: Any) -> bool:
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", "") in _MIXING


def _is_scalar(layer: Any) -> bool:
    """Whether a `Rescaling` has one scale for all channels; other layers have none."""
    return all(np.ndim(getattr(layer, name, 0.0)) == 0 for name in ("scale", "offset"))


def _has_array(layer: Any, count: int) -> bool:
    """Whether an operation of one tensor has an array among its arguments, such as a mask of channels."""
    return any(
        np.ndim(value) > 0 and np.shape(value)[-1] == count
        for value in vars(layer).values()
        if isinstance(value, np.ndarray)
    )
