"""One scale for all weights of a dense layer in int8, which older TensorFlow Lite knows."""

from typing import Any

from ktransfer.errors import ExportError

# TensorFlow 2.21 gives a dense layer a scale for each output, FULLY_CONNECTED of version 12, which TensorFlow Lite has
# since 2.17; with one scale it is of version 9, which 2.3 has. The converter has no public option for it.
_OPTION = "_experimental_disable_per_channel_quantization_for_dense_layers"


def one_scale_a_dense_layer(converter: Any) -> None:
    """Have a converter of TensorFlow Lite quantize each dense layer by one scale.

    Args:
        converter: `tf.lite.TFLiteConverter`; convolutions keep a scale for each channel.

    Raises:
        ExportError: This TensorFlow's converter has no such option.

    Example:

        one_scale_a_dense_layer(converter)
    """
    if not hasattr(converter, _OPTION):
        raise ExportError(
            f"Expected a converter with {_OPTION} for --min-runtime (min_runtime), got one of another TensorFlow. Use "
            "TensorFlow 2.21, or export tflite or tflite-float16."
        )
    setattr(converter, _OPTION, True)
