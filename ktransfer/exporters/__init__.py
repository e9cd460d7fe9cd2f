"""From a trained model to verified artefacts: SavedModel, TFLite, ONNX."""

import importlib
import logging
import os
from pathlib import Path

from ktransfer.errors import ExportError
from ktransfer.exporters.artefact import Artefact, fingerprint, publish, staging
from ktransfer.exporters.parity import Parity, measure_parity

__all__ = ["FORMATS", "Artefact", "Parity", "check_formats", "export_model"]

# Each module offers NAME, BATCHES, write and load, and imports its runtime: only the one asked for is loaded.
_MODULES = {"savedmodel": "saved_model", "tflite": "litert", "onnx": "onnx"}
FORMATS = tuple(_MODULES)

_LOG = logging.getLogger(__name__)


def check_formats(formats):
    """Raise `ExportError` if one of `formats` is none, or the Keras backend is one that cannot export."""
    for format in formats:
        if format not in FORMATS:
            raise ExportError(
                f"A format is one of {', '.join(FORMATS)}. Received: {format!r}. Choose one of them."
            )
    import keras  # here, as the names of the formats are wanted without it

    if formats and keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"Exporting needs the TensorFlow backend. Received: KERAS_BACKEND={keras.backend.backend()}. "
            "Use --no-export, then `KERAS_BACKEND=tensorflow ktransfer export RUN`: a run loads on "
            "any backend."
        )


def export_model(model, folder, format, *, class_names, images, tolerance=1e-4, extra=None):
    """Write `model` in one format, prove that the file answers as the model does, and describe it.

    The artefact takes raw pixels (`image`, float32 RGB in 0-255), gives `probabilities`, and carries its
    labels. It is run by its own runtime before it gets its final name, at batch 1 and at another batch size;
    if that fails, nothing of it is left, and an artefact of an earlier export stays as it was. Where TFLite
    or ONNX cannot have a dynamic batch, the artefact is of batch 1 and says so.

    Args:
        model: Functional Keras model, float32 RGB images `(None, H, W, 3)` in 0-255 to logits `(None, C)`,
            preprocessing inside; not changed. One of a mixed-precision policy is exported, and compared, as
            a float32 copy.
        folder: The `artefacts` folder of a run. Written there: `savedmodel/`, `model.tflite` or `model.onnx`,
            and `labels.txt` beside.
        format: One of `FORMATS`.
        class_names: C names, in the order of the logits.
        images: `(N, H, W, 3)` in 0-255, real validation images to measure parity on; N at least 1, tens are
            better.
        tolerance: Largest allowed difference of a probability; of a logit, in proportion to the logits.
        extra: JSON-able facts by name, such as the preprocessing, to be written into the artefact.

    Returns:
        `Artefact`; its `path` is relative to the parent of `folder`.

    Raises:
        ExportError: The format is unknown, the model, labels or images do not fit, the backend is not
            TensorFlow, the format cannot hold the model, or the artefact does not answer as the model does.

    Example:
        >>> artefact = export_model(model, "run/artefacts", "onnx", class_names=["cat", "dog"], images=images)
        >>> artefact.path, artefact.batch
        ('artefacts/model.onnx', 'dynamic')
    """
    check_formats([format])
    from ktransfer.exporters.serving import INPUT, OUTPUT, checked_model, reference_function

    model = checked_model(model, class_names, images)
    images = images.astype("float32")
    reference = reference_function(model)
    exporter = importlib.import_module(f"{__name__}.{_MODULES[format]}")
    folder = Path(folder)

    with staging(folder / f".{format}.partial") as partial:
        path = partial / exporter.NAME

        def write_and_prove(size):
            exporter.write(model, path, batch=size, class_names=list(class_names), extra=extra)
            batch = size or "dynamic"
            parity = measure_parity(exporter.load(path), reference, images, batch=batch)
            parity.check(format, tolerance)
            return batch, parity

        batch, parity = _first_that_works(write_and_prove, exporter.BATCHES, format)
        labels = partial / "labels.txt"
        labels.write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")
        sha256, size_bytes = fingerprint(path)
        publish(path, folder / exporter.NAME)
        os.replace(labels, folder / labels.name)

    axis = None if batch == "dynamic" else batch
    return Artefact(
        format=format,
        path=f"{folder.name}/{exporter.NAME}",
        sha256=sha256,
        size_bytes=size_bytes,
        signature={
            "input": {
                "name": INPUT,
                "shape": [axis, *model.inputs[0].shape[1:]],
                "dtype": "float32",
                "range": "0-255 RGB",
            },
            "output": {"name": OUTPUT, "shape": [axis, len(class_names)], "dtype": "float32"},
        },
        batch=batch,
        parity=parity,
    )


def _first_that_works(attempt, batches, format):
    *preferred, last = batches
    for batch in preferred:
        try:
            return attempt(batch)
        except ExportError as error:
            _LOG.warning("%s cannot have a dynamic batch; trying batch %d. %s", format, last, error)
    return attempt(last)
