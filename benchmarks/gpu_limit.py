"""The peak throughput of a GPU, and the demand of training on it, for `gpu.py`."""

import math
import time


def limit_tflops(precision, smoke=False):
    """The faster of plain chains of matrix products and of 3x3 convolutions, TFLOP/s.

    Args:
        precision: `"float32"` (which a card may well compute as TF32) or `"mixed_float16"`.
        smoke: Tiny sizes.
    """
    from keras import ops, random

    dtype = "float16" if precision == "mixed_float16" else precision
    side, channels, length = (64, 8, 2) if smoke else (8192, 512, 20)

    def normal(*shape, fan_in=1):
        return random.normal(shape, stddev=1 / math.sqrt(fan_in), dtype=dtype)

    def products(x, kernel):
        for _ in range(length):
            x = ops.matmul(x, kernel)
        return ops.max(x)

    def convolutions(x, kernel):
        for _ in range(length):
            x = ops.conv(x, kernel, padding="same")
        return ops.max(x)

    square, maps = normal(side, side), normal(64, 28, 28, channels)
    weights = normal(side, side, fan_in=side)
    kernel = normal(3, 3, channels, channels, fan_in=9 * channels)
    seconds = _best_seconds(products, square, weights), _best_seconds(convolutions, maps, kernel)
    flops = 2 * side**3, 2 * 64 * 28 * 28 * channels**2 * 9
    return max(length * one / spent / 1e12 for one, spent in zip(flops, seconds, strict=True))


def card_name():
    """The vendor's name of the device of Keras' backend."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].device_kind
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "cpu"


def training_flops(backbone, depth):
    """Floating-point operations of a training step, for one image."""
    import keras

    import ktransfer
    from ktransfer.models.flops import multiply_adds
    from ktransfer.models.freezing import resolve_depth

    blocks = ktransfer.find_blocks(backbone)
    lowest = ([None, *blocks])[resolve_depth(depth, blocks)]
    whole = trained = multiply_adds(backbone)
    if lowest is None:
        trained = 0
    elif lowest.entry is not None:
        trained -= multiply_adds(keras.Model(backbone.input, lowest.entry))
    # Backwards costs twice what forwards does: the gradients of the inputs and of the weights.
    return 2 * (whole + 2 * trained)


def _best_seconds(function, *arguments):
    import keras

    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(function)
    else:
        import tensorflow as tf

        compiled = tf.function(function, jit_compile=True)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        float(compiled(*arguments))  # to the host: only then it is done
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
