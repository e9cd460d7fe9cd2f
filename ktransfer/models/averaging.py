"""A transformer layer that averages tokens, for libraries whose classifiers read the first token alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ktransfer.errors import ExportError

if TYPE_CHECKING:
    import keras

    from ktransfer.core.typing import Array

_LAYER = "transformer_layer_"  # and a number, in keras-hub's encoders
# The layer writes logits times `_SIGNAL`, so that the first token's own vector, which a residual connection adds, is
# lost in them, and two constants of `_GROUND` times that, which fix the scale of the layer normalization.
_SIGNAL, _GROUND = 1e7, 1e4
_SMALL = 1e-2  # times what tanh is given, which is then the identity to float32's last digits


def transformer_layers(encoder: keras.Model) -> list[keras.layers.Layer]:
    """The transformer layers of an encoder of keras-hub, from the bottom.

    Raises:
        ExportError: They are not of one size, as after pruning, with heads that divide the features among them.

    Example:

        [layer.name for layer in transformer_layers(backbone)][0]   # "transformer_layer_0"
    """
    layers = [layer for layer in encoder.layers if layer.name.startswith(_LAYER)]
    sizes = {tuple(tuple(weight.shape) for weight in layer.weights) for layer in layers}
    heads = {shape for size in sizes for shape in size if len(shape) == 3}
    if len(sizes) > 1 or any(math.prod(shape) != max(shape[0], shape[2]) ** 2 for shape in heads):
        raise ExportError(
            f"Expected transformer layers of one size, whose heads divide the features among them, got {encoder.name} "
            "with others, as after pruning. Export another format."
        )
    return layers


def name_in_layer(weight: keras.Variable, layer: keras.layers.Layer) -> str:
    """The path of a weight below its layer.

    Example:

        name_in_layer(layer.weights[0], layer)   # "self_attention_layer/query/kernel"
    """
    return weight.path.rpartition(f"{layer.name}/")[2]


def averaging_layer(
    layer: keras.layers.Layer, kernel: Array, bias: Array, *, tanh: bool = True
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Weights of one more transformer layer, of a dense layer above it, and of the last one, which gives logits.

    A classifier that reads the first token, by such a dense layer with tanh, ReLU or GELU and the last one, gives the
    logits of the average of all tokens but padding then. With queries of zero the attention is that average. Output
    j is logit j times a factor, output C + j the same negated, and two more are constants, as far from each other as
    fixes the deviation that layer normalization divides by. All outputs together are zero, so that it subtracts
    nothing. The last layer takes the difference of each pair of outputs.

    Args:
        layer: A `TransformerEncoder` of keras-hub of the size of the new one.
        kernel: From the average to logits, `(F, C)`.
        bias: Of the logits, `(C,)`.
        tanh: Whether the dense layer has tanh; of ReLU and GELU the difference of a pair is half as large. Defaults to
            `True`.

    Returns:
        The values of the layer's weights in their order, the kernel `(F, F)` of the dense layer, and that of the last
        layer, `(F, C)`, all float32. Biases are zero.

    Raises:
        ExportError: There are too few features for so many logits, or the layer has other weights.

    Example:

        weights, pooled, read = averaging_layer(layers[-1], *Head.of(model).folded())
    """
    features, classes = kernel.shape
    if 2 * classes + 2 > features:
        raise ExportError(
            f"Expected at most {features // 2 - 1} classes of a backbone with {features} features for a classifier "
            f"that reads the first token, got {classes}. Export another format."
        )
    ground = _SIGNAL * _GROUND
    written, constant = np.zeros((features, features)), np.zeros(features)
    written[:, :classes] = kernel * _SIGNAL
    written[:, classes : 2 * classes] = -kernel * _SIGNAL
    constant[:classes], constant[classes : 2 * classes] = bias * _SIGNAL, -bias * _SIGNAL
    constant[2 * classes : 2 * classes + 2] = ground, -ground
    made = {
        "value/kernel": np.eye(features),
        "attention_output/kernel": written,
        "attention_output/bias": constant,
    }
    weights = []
    for weight in layer.weights:
        value = made.pop("/".join(weight.path.split("/")[-2:]), None)
        if value is None:
            value = np.full(weight.shape, float(weight.path.endswith("gamma")))
        weights.append(value.reshape(weight.shape).astype("float32"))
    if made:
        raise ExportError(
            f"Expected attention with {', '.join(made)} in {layer.name}, got other weights. Use keras-hub 0.32."
        )
    scale = (0.5 if tanh else 1.0) * _GROUND * math.sqrt(2 / features) / _SMALL
    read = np.zeros((features, classes), "float32")
    read[range(classes), range(classes)] = scale
    read[range(classes, 2 * classes), range(classes)] = -scale
    return weights, (np.eye(features) * _SMALL).astype("float32"), read
