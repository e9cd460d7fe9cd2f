"""Count the multiplications of a model from its graph alone."""

import math

import keras

from ktransfer.models.blocks import sublayers


def multiply_adds(
    model: keras.Model, inputs: keras.KerasTensor | list[keras.KerasTensor] | None = None
) -> int:
    """Multiplications in one forward pass of one example, about.

    Each kernel is counted once for each position of its layer's output, which is exact for convolutions and
    Dense layers and close for transformer layers, where attention between positions is left out. Embeddings
    are looked up and count nothing.

    Args:
        model: Functional; a model inside it counts with the input shape that it was made with.
        inputs: Tensors, symbolic ones will do, of the inputs' real shapes; `None` takes the model's own, and
            256 where a side is unknown.

    Example:

        multiply_adds(keras.applications.ResNet50(weights=None))   # about 3.9e9
    """
    given = [
        keras.KerasTensor([1, *(side or 256 for side in tensor.shape[1:])], dtype=tensor.dtype)
        for tensor in keras.tree.flatten(model.inputs if inputs is None else inputs)
    ]
    weighted = [operation for operation in model.operations if getattr(operation, "weights", None)]
    inner = [operation for operation in weighted if isinstance(operation, keras.Model)]
    layers = [operation for operation in weighted if operation not in inner]
    if not layers:
        return sum(map(multiply_adds, inner))
    outputs = keras.Function(model.inputs, [keras.tree.flatten(layer.output)[0] for layer in layers])
    return sum(map(multiply_adds, inner)) + sum(
        math.prod(output.shape[1:-1]) * _kernel_sizes(layer)
        for layer, output in zip(layers, outputs.compute_output_spec(given), strict=True)
    )


def _kernel_sizes(layer: keras.layers.Layer) -> int:
    tables = {
        id(weight)
        for inner in (layer, *sublayers(layer))
        if isinstance(inner, keras.layers.Embedding)
        for weight in inner.weights
    }
    return sum(math.prod(w.shape) for w in layer.weights if len(w.shape) > 1 and id(w) not in tables)
