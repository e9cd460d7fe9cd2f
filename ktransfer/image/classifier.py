"""Raw pixels -> scaling -> backbone -> pooling -> standardised features -> logits, in one model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import keras

from ktransfer.errors import BackboneError
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.models.heads import POOLED, add_head

if TYPE_CHECKING:
    from ktransfer.core.typing import Tensor


def build_classifier(
    backbone: keras.Model,
    num_classes: int,
    preprocessing: Preprocessing,
    *,
    dropout: float = 0.0,
    seed: int = 0,
) -> keras.Model:
    """Put a classification head on a backbone.

    The head standardises the pooled features (`feature_norm`, set by `ktransfer.training.linear_probe`), so
    it learns at one learning rate for any scale, which between two published backbones differs a thousandfold.

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
    # By its name a classifier is cut in two there, to be trained on cached features.
    features = keras.layers.Identity(name="features")(backbone_features(backbone, pixels))
    logits = add_head(_pool(features, resize.height * resize.width), num_classes, dropout, seed)
    return keras.Model(images, logits, name="classifier")


def backbone_features(backbone: keras.Model, pixels: Tensor) -> Tensor:
    """The backbone's output for `pixels`; of several outputs the deepest, which is named last.

    Example:

        backbone_features(backbone, keras.Input((224, 224, 3)))
    """
    outputs = backbone(keras.tree.map_structure(lambda _: pixels, backbone.input))
    if isinstance(outputs, dict):
        # The order of the backbone's own dict; what a call returns comes sorted by name.
        return outputs[list(backbone.output)[-1]]
    return outputs[-1] if isinstance(outputs, list | tuple) else outputs


def _pool(features: keras.KerasTensor, pixels: int) -> keras.KerasTensor:
    rank = len(features.shape)
    if rank == 4:
        return keras.layers.GlobalAveragePooling2D(dtype="float32", name=POOLED)(features)
    if rank == 3 and _has_class_token(features.shape[1], pixels):
        token = keras.layers.Cropping1D((0, features.shape[1] - 1), name="class_token")(features)
        return keras.layers.Flatten(dtype="float32", name=POOLED)(token)
    if rank == 3:
        return keras.layers.GlobalAveragePooling1D(dtype="float32", name=POOLED)(features)
    if rank == 2:
        return keras.layers.Identity(dtype="float32", name=POOLED)(features)
    raise BackboneError(
        "Expected features of 2, 3 or 4 dimensions, batch first, from the backbone, got shape "
        f"{tuple(features.shape)}. Choose another backbone."
    )


def _has_class_token(tokens: int, pixels: int) -> bool:
    """Patches that tile the image are squares of pixels; with one token more, no size of patch fits."""
    if tokens is None:
        return False
    side = math.isqrt(pixels // tokens)
    return side * side * tokens != pixels
