"""An image classifier as keras-hub's own task, with its image converter."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

import keras
import keras_hub
import numpy as np

from ktransfer.errors import ExportError
from ktransfer.image.serving import INPUT, resize_of
from ktransfer.models.heads import Head
from ktransfer.models.locate import find_backbone
from ktransfer.models.predict import predict_in_batches

if TYPE_CHECKING:
    from ktransfer.exporting.serving import Serving
    from ktransfer.image.preprocessing import Preprocessing

_DENSE, _CONVOLUTION = "predictions", "classifier_conv"
# From 3 on hard SiLU, x * relu6(x + 3) / 6, is the identity.
_LINEAR_FROM = 3.0
_MARGIN = 4  # times the lowest feature seen
_BATCH = 32


def image_task(serving: Serving) -> Any:
    """The `ImageClassifier` of keras-hub that gives the logits of a classifier, its preprocessor attached.

    The standardization of the features becomes part of the last layer. MobileNet's classifier has a convolution before
    that: it becomes the identity, in the range where its activation is one.

    Raises:
        ExportError: keras-hub has no classifier of this backbone, or one with more layers before its logits, or it is
            not known how images are read.

    Example:

        image_task(serving).save_to_preset("flowers")
    """
    serving.require_files()
    backbone = find_backbone(serving.model)
    kind = _classifier_of(backbone)
    head = Head.of(serving.model)
    kernel, bias = head.folded()
    options: dict[str, Any] = {"num_classes": len(bias), "preprocessor": _preprocessor(kind, serving)}
    convolves = "num_features" in inspect.signature(kind.__init__).parameters
    if convolves:
        options["num_features"] = len(kernel)
    try:
        task = kind(backbone=backbone, **options)
    except ValueError as error:  # more layers, of a fixed size
        raise ExportError(
            f"Expected a classifier of keras-hub with one layer after pooling, got {kind.__name__} with "
            f"{' '.join(str(error).split())[:150]}. Export another format."
        ) from error
    own = {id(weight) for weight in backbone.weights}
    layers = {layer.name: layer for layer in task.layers}
    expected = [_CONVOLUTION, _DENSE] if convolves else [_DENSE]
    weights = sum(id(weight) not in own for weight in task.weights)
    dense = layers.get(_DENSE)
    if weights != 2 * len(expected) or dense is None or tuple(dense.kernel.shape) != kernel.shape:
        raise ExportError(
            f"Expected a classifier of keras-hub with one layer after pooling, got {kind.__name__}, which has others. "
            "Export another format."
        )
    if convolves:
        shift = _shift(serving, head)
        layers[_CONVOLUTION].set_weights(
            [np.eye(len(kernel), dtype="float32")[None, None], np.full(len(kernel), shift, "float32")]
        )
        bias = bias - shift * kernel.sum(axis=0)
    dense.set_weights(
        [(kernel / serving.temperature).astype("float32"), (bias / serving.temperature).astype("float32")]
    )
    return task


def _classifier_of(backbone: keras.Model) -> Any:
    kinds: list[Any] = [each for each in vars(keras_hub.models).values() if inspect.isclass(each)]
    for kind in kinds:
        if issubclass(kind, keras_hub.models.ImageClassifier) and kind.backbone_cls is type(backbone):
            return kind
    raise ExportError(
        f"Expected a backbone of which keras-hub has an ImageClassifier, got {backbone.name}, a "
        f"{type(backbone).__name__}. Export another format."
    )


def _preprocessor(kind: Any, serving: Serving) -> Any:
    resize = resize_of(serving)
    if resize.interpolation == "mediapipe":
        raise ExportError(
            "Expected a run that reads images as its backbone does for keras-hub, whose preprocessor has no other way, "
            "got one of --client mediapipe. Train without it, or export another format."
        )
    scaling = cast("Preprocessing", serving.preprocessing)
    converter = kind.preprocessor_cls.image_converter_cls(
        image_size=(resize.height, resize.width),
        scale=scaling.scale,
        offset=scaling.offset,
        crop_to_aspect_ratio=resize.mode == "crop",
        pad_to_aspect_ratio=resize.mode == "pad",
        interpolation=resize.interpolation,
        antialias=resize.antialias,
    )
    return kind.preprocessor_cls(image_converter=converter)


def _shift(serving: Serving, head: Head) -> float:
    """The number to add to features so that hard SiLU is linear at all of them; most are never negative."""
    pooled = keras.Model(serving.model.input, head.features)
    places = np.array_split(np.arange(len(serving.examples)), -(-len(serving.examples) // _BATCH))
    batches = (serving.examples.batch(each)[INPUT] for each in places)
    lowest = min(float(np.min(features)) for features in predict_in_batches(pooled, batches))
    return _LINEAR_FROM - _MARGIN * min(lowest, 0.0)
