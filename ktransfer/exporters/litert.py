"""TFLite: for phones and small boards, run by LiteRT; builtin operations only."""

import re

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from ktransfer.errors import ExportError
from ktransfer.exporters import saved_model
from ktransfer.exporters.serving import INPUT, OUTPUT
from ktransfer.exporters.tflite_metadata import add_metadata

NAME = "model.tflite"
BATCHES = (None, 1)


def write(model, path, *, batch=None, class_names, extra=None):
    """Write `model` as a TFLite file with its labels inside.

    By way of a SavedModel: `from_concrete_functions` on a live Keras model gave files that answered NaN.

    Args:
        model: float32 Keras model, RGB images `(None, H, W, 3)` in 0-255 to logits `(None, C)`.
        path: The file to write; a SavedModel is left beside it for the caller to remove.
        batch: The one batch size to accept; `None` for any.
        class_names: Written to `labels.txt` in the file.
        extra: JSON-able facts, written to `extra.json` in the file.

    Raises:
        ExportError: The model has an operation that TFLite lacks.

    Example:
        >>> write(model, Path("model.tflite"), class_names=["cat", "dog"])
    """
    source = path.with_name(f"savedmodel_{batch or 'dynamic'}")
    saved_model.write(model, source, batch=batch)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(source))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        content = converter.convert()
    except Exception as error:  # ConverterError is not public
        missing = sorted(set(re.findall(r"'tf\.(\w+)' op", str(error))))
        raise ExportError(
            "TFLite needs a model of its builtin operations only. Received: "
            f"{', '.join(missing) or str(error)[:200]}. Export ONNX, or choose another backbone."
        ) from error
    path.write_bytes(add_metadata(content, class_names, extra))


def load(path):
    """Return a callable from images `(B, H, W, 3)` to probabilities `(B, C)`, run by LiteRT."""
    run = Interpreter(str(path)).get_signature_runner("serving_default")
    return lambda images: run(**{INPUT: images})[OUTPUT].copy()
