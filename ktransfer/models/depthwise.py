"""Depthwise convolutions that are written as grouped ones, computed as what they are."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING

import keras
from keras import ops

from ktransfer.models.blocks import sublayers

if TYPE_CHECKING:
    from ktransfer.core.typing import Tensor


def use_depthwise(model: keras.Model) -> int:
    """Compute every grouped convolution with one input channel a group as a depthwise convolution.

    keras-hub's MobileNet and others write depthwise convolutions as `Conv2D(groups=channels)`, for which
    TensorFlow has no fast kernel on a CPU: Keras has XLA compile it, and it takes many times as long. The
    layer, its weights, its config and what a saved model holds stay as they are; only the operation that
    the layer calls is another, with the same result.

    Args:
        model: Any model; changed in place. To be called again on one that has been loaded.

    Returns:
        How many layers it applies to.

    Example:

        use_depthwise(keras_hub.models.Backbone.from_preset("mobilenet_v3_small_100_imagenet"))
    """
    layers = [layer for layer in sublayers(model) if _is_depthwise(layer)]
    for layer in layers:
        # On the instance, the one attribute that ktransfer sets on an object of Keras: keras-hub makes these
        # layers deep inside its own, so neither a subclass nor a clone of the graph reaches them, and a saved
        # model must not name a class of ours. `convolution_op` is Keras' documented place to override.
        layer.convolution_op = types.MethodType(_depthwise_op, layer)
    return len(layers)


def _is_depthwise(layer: keras.layers.Layer) -> bool:
    return (
        type(layer) is keras.layers.Conv2D
        and layer.built
        and layer.groups > 1
        and layer.kernel.shape[2] == 1  # input channels of a group
        # TensorFlow's depthwise kernels take equal strides, and dilation only at stride 1.
        and layer.strides[0] == layer.strides[1]
        and (tuple(layer.dilation_rate) == (1, 1) or tuple(layer.strides) == (1, 1))
    )


def _depthwise_op(self: keras.layers.Layer, inputs: Tensor, kernel: Tensor) -> Tensor:
    height, width, _, filters = kernel.shape
    # A group's filters lie side by side, as the multiples of a channel do in a depthwise kernel.
    kernel = ops.reshape(kernel, (height, width, self.groups, filters // self.groups))
    return ops.depthwise_conv(
        inputs,
        kernel,
        strides=self.strides[0],
        padding=self.padding,
        dilation_rate=self.dilation_rate,
        data_format=self.data_format,
    )
