"""TFLite: for phones and small boards, run by LiteRT; builtin operations only."""

import re
import tempfile
from pathlib import Path

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from ktransfer.errors import ExportError
from ktransfer.exporters import saved_model
from ktransfer.exporters.fourier import fourier_as_matrices
from ktransfer.exporters.serving import OUTPUT, inlined_functions, serving_function
from ktransfer.exporters.tflite_metadata import add_metadata

NAME = "model.tflite"
CONVERTS = True


def write(serving, path, *, fixed, extra=None):
    """Write a TFLite file with its labels inside.

    By way of a SavedModel: `from_concrete_functions` on a live Keras model gave files that answered NaN.

    Args:
        serving: `Serving`.
        path: The file to write.
        fixed: Sizes of axes by name; the others may have any size.
        extra: JSON-able facts, written to `extra.json` in the file.

    Raises:
        ExportError: The model has an operation that TFLite lacks.

    Example:
        >>> write(serving, Path("model.tflite"), fixed={})
    """
    with inlined_functions(), fourier_as_matrices():
        serve = serving_function(serving, fixed).get_concrete_function()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder, saved_model.NAME)
        saved_model.save(tf.Module(), serving, source, {saved_model.SERVING: serve})
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
    path.write_bytes(add_metadata(content, serving, extra))


def load(path):
    """Return a callable from pixels or ids by name to probabilities `(B, C)`, run by LiteRT."""
    run = Interpreter(str(path)).get_signature_runner("serving_default")
    return lambda inputs: run(**inputs)[OUTPUT].copy()
