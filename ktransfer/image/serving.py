"""An image classifier, made ready for export."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ktransfer.errors import ExportError
from ktransfer.exporting.precision import in_float32
from ktransfer.exporting.serving import BATCH, HEIGHT, WIDTH, Input, Serving, check_class_names
from ktransfer.image.in_graph.preprocessing import resized

if TYPE_CHECKING:
    import keras

    from ktransfer.core.modality import Preprocessing
    from ktransfer.core.typing import Array
    from ktransfer.image.decoding import Resize
    from ktransfer.image.preprocessing import Preprocessing as ImagePreprocessing


INPUT = "image"
_OF_PAGE = ("nearest", "bilinear", "bicubic", "lanczos3")  # interpolations of export/web/classifier.js


def serve_images(
    model: keras.Model,
    class_names: Sequence[str],
    images: Sequence[str] | Array,
    preprocessing: Preprocessing | None = None,
) -> Serving:
    """Return the `Serving` of an image classifier, after checking that its arguments are consistent.

    Args:
        model: Functional Keras model, RGB images `(None, H, W, 3)` in 0-255 to logits `(None, C)`.
        class_names: C names, one line each.
        images: `(N, H, W, 3)`, N at least 1; with `preprocessing` paths of N files.
        preprocessing: `Preprocessing` that the model was trained with.

    Raises:
        ExportError: The model is of another kind, the class names or images do not fit it, or it cannot be
            built again in float32.
        DataError: A file cannot be read as an image.

    Example:
        >>> serve_images(model, ["cat", "dog"], np.zeros((1, 32, 32, 3))).inputs[0].axes
        ('batch', 32, 32, 3)
    """
    tensors = (*getattr(model, "inputs", ()), *getattr(model, "outputs", ()))  # of one not built, none
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(shapes) != 2 or len(shapes[0]) != 4 or None in shapes[0][1:] or len(shapes[1]) != 2:
        raise ExportError(
            "Expected a model from images (None, height, width, 3) to logits (None, classes), or a text "
            f"classifier with its preprocessing, got {shapes}. Build it with `build_classifier` or "
            "`build_text_classifier`."
        )
    check_class_names(class_names, shapes[1][1])
    files: Sequence[str] = ()
    pixels = images
    if preprocessing is not None and len(images):
        files = list(images)
        pixels = cast("Array", preprocessing(files))
    size, received = shapes[0][1:], np.shape(pixels)
    if not len(pixels) or received[1:] != size:
        raise ExportError(
            f"Expected at least one image of shape {size} to measure parity on, got {received}. Give images "
            "as the model takes them."
        )
    return Serving(
        model=in_float32(model),
        class_names=list(class_names),
        inputs=(Input(INPUT, (BATCH, *size), "float32", {"range": "0-255 RGB"}),),
        examples=Images(np.asarray(pixels)),
        attempts=({}, {BATCH: 1}),
        preprocessing=preprocessing,
        files=files,
        not_for_client=_not_for_client(cast("ImagePreprocessing | None", preprocessing)),
    )


def _not_for_client(preprocessing: ImagePreprocessing | None) -> str:
    """Reason why MediaPipe would size images otherwise; empty where it does as the run, or is given pixels alone."""
    if preprocessing is None or preprocessing.resize.interpolation == "mediapipe":
        return ""
    resize = preprocessing.resize
    return (
        f"images of which it sizes the whole otherwise than {resize.mode} and {resize.interpolation} do; only a run "
        "that was trained with --client is read alike"
    )


def in_uint8(serving: Serving) -> Serving:
    """Return the `Serving` that takes its images in uint8, the others unchanged.

    Cast to float first thing, and not by way of a quantized input, whose steps would be those of the darkest
    and the brightest pixel that calibration happened to see.
    """
    inputs = [
        dataclasses.replace(given, dtype="uint8") if len(given.axes) == 4 else given
        for given in serving.inputs
    ]
    return dataclasses.replace(serving, inputs=tuple(inputs))


def of_any_size(serving: Serving) -> Serving:
    """Return the `Serving` that takes images of any height and width, and resizes them as the run does.

    Raises:
        ExportError: How the run resizes is not known, or cannot be written into a graph.
    """
    serving.require_files()
    [given] = serving.inputs
    resize = resize_of(serving)

    def prepare(inputs: dict[str, Any]) -> dict[str, Any]:
        return {INPUT: resized(inputs[INPUT], resize)}

    given = dataclasses.replace(given, axes=(BATCH, HEIGHT, WIDTH, 3))
    return dataclasses.replace(serving, inputs=(given,), prepare=prepare)


def resize_of(serving: Serving) -> Resize:
    """The resize of an image classifier whose files are known.

    Example:
        >>> resize_of(serving).height  # doctest: +SKIP
        160
    """
    return cast("ImagePreprocessing", serving.preprocessing).resize


def web_facts(serving: Serving) -> dict[str, Any]:
    """Facts by which a page in a browser resizes.

    Raises:
        ExportError: It is not known how the run does, or the page has no such way.

    Example:
        >>> web_facts(serving)["resize"]["height"]  # doctest: +SKIP
        160
    """
    serving.require_files()
    resize = resize_of(serving)
    sharp = resize.interpolation == "bicubic" and not resize.antialias
    if resize.interpolation not in _OF_PAGE or sharp:
        raise ExportError(
            f"Expected a resize that the page can do, got {resize.interpolation}{' without antialias' * sharp}. Train "
            "with bilinear, or export onnx and resize in Python."
        )
    return {"resize": dataclasses.asdict(resize)}


class Images:
    """`(N, H, W, 3)` in 0-255, as `Examples`."""

    def __init__(self, images: Array) -> None:
        self._images = np.asarray(images, "float32")

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, indices: Array, *, longest: bool = False) -> dict[str, Array]:
        return {INPUT: self._images[indices]}
