"""Convert a model of any dtype policy to float32."""

from typing import Any

import keras

from ktransfer.errors import ExportError, listed


def in_float32(model: keras.Model) -> keras.Model:
    """Return `model`, or where its policy is another one, a copy of it in float32 with the same weights.

    TFLite never converts a mixed-precision model as it is, ONNX sometimes.

    Raises:
        ExportError: It cannot be built again.

    Example:
        >>> in_float32(model).compute_dtype
        'float32'
    """
    if _policies(model) == {"float32"}:
        return model
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # for layers whose config names no policy
    try:
        clone = type(model).from_config(_with_float32_policy(model.get_config()))
        clone.set_weights(model.get_weights())
        if _policies(clone) != {"float32"}:
            raise ValueError("a layer keeps its own policy")
    except Exception as error:  # whatever a layer's own from_config raises
        raise ExportError(
            f"Expected a float32 model to export, got {listed(sorted(_policies(model)))}, and it cannot be "
            f"built again in float32 ({error}). Train it with the float32 policy."
        ) from error
    finally:
        keras.config.set_dtype_policy(before)
    return clone


def _policies(layer: keras.layers.Layer) -> set[str]:
    """Names of the dtype policies of a model and of all layers in it."""
    return {layer.dtype_policy.name}.union(*(_policies(inner) for inner in getattr(layer, "layers", ())))


def _with_float32_policy(config: Any) -> Any:
    """Return a copy of a Keras config in which every dtype policy is float32."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return keras.dtype_policies.serialize(keras.DTypePolicy("float32"))
        return {key: _with_float32_policy(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_with_float32_policy(value) for value in config)
    return config
