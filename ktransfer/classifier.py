"""Raw pixels -> scaling -> backbone -> pooling -> standardised features -> logits, in one model."""

import math
import warnings
from collections.abc import Iterable, Iterator

import keras
import numpy as np

from ktransfer.errors import BackboneError
from ktransfer.memory import is_out_of_memory
from ktransfer.preprocessing import Preprocessing


def build_classifier(
    backbone: keras.Model,
    num_classes: int,
    preprocessing: Preprocessing,
    *,
    dropout: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """Put a classification head on a backbone.

    The head standardises the pooled features (`feature_norm`, set by `ktransfer.head`), so it learns at one
    rate whatever their scale, which between two published backbones differs a thousandfold.

    Args:
        backbone: Functional, images to features: a map `(B, H, W, C)`, tokens `(B, N, C)` or `(B, C)`; of a
            backbone with several outputs the deepest is taken. Maps are averaged. Of tokens the class token
            is taken where there is one, else they are averaged.
        num_classes: At least 2.
        preprocessing: What the backbone was trained with; its scaling becomes the model's first layer.
        dropout: Share of features dropped before the last layer, in training.
        seed: Of the last layer's weights and the dropout.

    Returns:
        A functional model, float32 RGB images `(B, H, W, 3)` in 0-255 -> float32 logits `(B, num_classes)`.

    Raises:
        BackboneError: The backbone's output has another shape.

    Example:

        backbone, preprocessing = load_backbone("resnet_50_imagenet", image_size=160)
        model = build_classifier(backbone, 5, preprocessing)
    """
    resize = preprocessing.resize
    images = keras.Input((resize.height, resize.width, 3), name="image", dtype="float32")
    pixels = keras.layers.Rescaling(preprocessing.scale, preprocessing.offset, name="scaling")(images)
    # By its name a classifier is cut in two there, to be trained on kept features.
    features = keras.layers.Identity(name="features")(backbone_features(backbone, pixels))
    logits = add_head(_pool(features, resize.height * resize.width), num_classes, dropout, seed)
    return keras.Model(images, logits, name="classifier")


def add_head(features, num_classes: int, dropout: float, seed: int):
    """Pooled features `(B, C)` to logits: `feature_norm`, dropout if any, the last layer.

    Example:

        logits = add_head(pooled, 5, dropout=0.1, seed=0)
    """
    # Frozen: set once from the data, it must not follow the batches of training.
    features = keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=1e-12, trainable=False, dtype="float32", name="feature_norm"
    )(features)
    if dropout:
        features = keras.layers.Dropout(dropout, seed=seed, name="dropout")(features)
    return keras.layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        dtype="float32",
        name="logits",
    )(features)


def backbone_features(backbone: keras.Model, pixels):
    """What the backbone makes of `pixels`: its output, of several the deepest, which is named last.

    Example:

        backbone_features(backbone, keras.Input((224, 224, 3)))
    """
    outputs = backbone(keras.tree.map_structure(lambda _: pixels, backbone.input))
    if isinstance(outputs, dict):
        # The order of the backbone's own dict; what a call returns comes sorted by name.
        return outputs[list(backbone.output)[-1]]
    return outputs[-1] if isinstance(outputs, list | tuple) else outputs


def predict_in_batches(
    model: keras.Model, batches: Iterable[np.ndarray]
) -> Iterator[np.ndarray | list[np.ndarray]]:
    """What `model` answers to each batch, in inference mode.

    A batch smaller than the first is filled up and cut again: a new size would be compiled anew. Where memory
    runs out batches are run in halves from there on, and a warning says so.

    Args:
        model: Any.
        batches: Arrays `(B, ...)`, or for several inputs a dict of them; none larger than the first.

    Yields:
        `(B, ...)` for each batch, or a list of these from a model with a list of outputs.

    Example:

        logits = np.concatenate(list(predict_in_batches(model, [images[:32], images[32:]])))
    """
    size = None
    for batch in batches:
        batch = keras.tree.map_structure(np.asarray, batch)  # JAX takes no tensors of TensorFlow
        count = len(keras.tree.flatten(batch)[0])
        size = size or count
        answers = []
        while (start := sum(len(keras.tree.flatten(answer)[0]) for answer in answers)) < count:
            try:
                answers.append(_predict_part(model, batch, start, size))
            except Exception as error:
                if not is_out_of_memory(error) or size == 1:
                    raise
                size = -(-size // 2)
                warnings.warn(f"ktransfer: out of memory; batches are run in parts of {size}", stacklevel=2)
        if len(answers) == 1:
            yield answers[0]
        else:
            yield keras.tree.map_structure(lambda *parts: np.concatenate(parts), *answers)


def _predict_part(model, batch, start, size):
    """The answers to `size` examples from `start` on, or as many as there are."""
    part = keras.tree.map_structure(lambda rows: rows[start : start + size], batch)
    count = len(keras.tree.flatten(part)[0])
    if count < size:
        part = keras.tree.map_structure(
            lambda rows: np.pad(rows, [(0, size - count)] + [(0, 0)] * (rows.ndim - 1), "edge"), part
        )
    return keras.tree.map_structure(lambda rows: rows[:count], model.predict_on_batch(part))


def _pool(features, pixels):
    rank = len(features.shape)
    if rank == 4:
        return keras.layers.GlobalAveragePooling2D(dtype="float32", name="pooled")(features)
    if rank == 3 and _has_class_token(features.shape[1], pixels):
        token = keras.layers.Cropping1D((0, features.shape[1] - 1), name="class_token")(features)
        return keras.layers.Flatten(dtype="float32", name="pooled")(token)
    if rank == 3:
        return keras.layers.GlobalAveragePooling1D(dtype="float32", name="pooled")(features)
    if rank == 2:
        return keras.layers.Identity(dtype="float32", name="pooled")(features)
    raise BackboneError(
        "Features of 2, 3 or 4 dimensions, batch first, were expected from the backbone. "
        f"Received: shape {tuple(features.shape)}."
    )


def _has_class_token(tokens, pixels):
    """Patches that tile the image are squares of pixels; with one token more, no size of patch fits."""
    if tokens is None:
        return False
    side = math.isqrt(pixels // tokens)
    return side * side * tokens != pixels
