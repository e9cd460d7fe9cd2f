"""From a trained Keras model to the one function that every format is made of."""

import contextlib

import keras
import tensorflow as tf

from ktransfer.errors import ExportError

INPUT, OUTPUT = "image", "probabilities"


def serving_function(model, batch=None):
    """Return the function that is exported: raw pixels to probabilities, in inference mode.

    Args:
        model: float32 Keras model, RGB images `(None, H, W, 3)` in 0-255 to logits `(None, C)`.
        batch: The one batch size to accept; `None` for any.

    Returns:
        `tf.function` with the fixed input `image` and the output dictionary `{"probabilities": ...}`.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
        >>> serve = serving_function(model)
        >>> serve(tf.zeros((1, 8, 8, 3)))["probabilities"].numpy().tolist()
        [[0.5, 0.5]]
    """
    shape = (batch, *model.inputs[0].shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name=INPUT)], autograph=False)
    def serve(image):
        # Without training=False, preprocessing layers were seen to leak training mode into later layers.
        return {OUTPUT: tf.nn.softmax(model(image, training=False))}

    return serve


def reference_function(model):
    """Return a callable from images `(B, H, W, 3)` to the Keras model's own logits `(B, C)`, nothing traced.

    With the functions inside inlined here too: Keras has XLA compile grouped convolutions, and a MobileNet
    then takes a second an image on a CPU instead of twenty milliseconds.
    """

    def logits(images):
        with inlined_functions():
            return model(images, training=False).numpy()

    return logits


@contextlib.contextmanager
def inlined_functions():
    """Trace or call with the functions inside a function inlined.

    Keras wraps grouped convolutions and some attention paths in a `tf.function` of its own, whose call node
    neither tf2onnx nor every TFLite conversion can take.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def checked_model(model, class_names, images):
    """Return `model` ready to be exported, in float32, after checking that it and the examples fit.

    A model of a mixed-precision policy is built again with the float32 policy and the same weights: TFLite
    never converts it as it is, ONNX sometimes.

    Args:
        model: Functional Keras model, RGB images `(None, H, W, 3)` in 0-255 to logits `(None, C)`.
        class_names: C names, one line each.
        images: `(N, H, W, 3)`, N at least 1.

    Raises:
        ExportError: The model is of another kind, the class names or images
            do not fit it, or it cannot be built again in float32.
    """
    shapes = [tuple(tensor.shape) for tensor in (*model.inputs, *model.outputs)]
    if len(shapes) != 2 or len(shapes[0]) != 4 or None in shapes[0][1:] or len(shapes[1]) != 2:
        raise ExportError(
            "Exporting takes a model from images (None, height, width, 3) to logits (None, classes). "
            f"Received: {shapes}. Build it with `build_classifier`."
        )
    if len(class_names) != shapes[1][1] or any(name.splitlines() != [name] for name in class_names):
        raise ExportError(
            f"Exporting needs {shapes[1][1]} class names of one line each, one a logit. "
            f"Received: {list(class_names)!r}. Give them in the order of the labels."
        )
    if not len(images) or images.shape[1:] != shapes[0][1:]:
        raise ExportError(
            f"Parity is measured on at least one image of shape {shapes[0][1:]}. "
            f"Received: {images.shape}. Give images as the model takes them."
        )
    return model if _policies(model) == {"float32"} else _in_float32(model)


def _policies(layer):
    """Names of the dtype policies of a model and of all layers in it."""
    return {layer.dtype_policy.name}.union(*(_policies(inner) for inner in getattr(layer, "layers", ())))


def _in_float32(model):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # for layers whose config names no policy
    try:
        clone = type(model).from_config(_with_float32_policy(model.get_config()))
        clone.set_weights(model.get_weights())
        if _policies(clone) != {"float32"}:
            raise ValueError("a layer keeps its own policy")
    except Exception as error:  # whatever a layer's own from_config raises
        raise ExportError(
            f"Exporting needs a float32 model. Received: {', '.join(sorted(_policies(model)))}, and it "
            f"cannot be built again in float32 ({error}). Train it with the float32 policy."
        ) from error
    finally:
        keras.config.set_dtype_policy(before)
    return clone


def _with_float32_policy(config):
    """Return a copy of a Keras config in which every dtype policy is float32."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return keras.dtype_policies.serialize(keras.DTypePolicy("float32"))
        return {key: _with_float32_policy(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_with_float32_policy(value) for value in config)
    return config
