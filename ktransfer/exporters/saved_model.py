"""SavedModel: for TensorFlow Serving and for whoever has TensorFlow but no Keras."""

import json
import tempfile
from pathlib import Path

import tensorflow as tf

from ktransfer.exporters.serving import INPUT, OUTPUT, inlined_functions, serving_function

NAME = "savedmodel"
BATCHES = (None,)


def write(model, path, *, batch=None, class_names=None, extra=None):
    """Write `model` as a SavedModel folder.

    A plain `tf.Module` that tracks the variables: `ExportArchive` stores the weights twice.

    Args:
        model: float32 Keras model, RGB images `(None, H, W, 3)` in 0-255 to logits `(None, C)`.
        path: The folder to write.
        batch: The one batch size to accept; `None` for any.
        class_names: Written to `assets/labels.txt`, a line each.
        extra: JSON-able facts, written to `assets/extra.json`.

    Example:
        >>> write(model, Path("savedmodel"), class_names=["cat", "dog"])
        >>> tf.saved_model.load("savedmodel").signatures["serving_default"](image=images)["probabilities"]
    """
    module = tf.Module()
    module.model_variables = [variable.value for variable in model.weights]
    with inlined_functions():
        serve = serving_function(model, batch).get_concrete_function()
    with tempfile.TemporaryDirectory(dir=path.parent) as assets:
        if class_names is not None:
            module.labels = _asset(Path(assets, "labels.txt"), "".join(f"{name}\n" for name in class_names))
        if extra is not None:
            module.extra = _asset(Path(assets, "extra.json"), json.dumps(extra))
        tf.saved_model.save(module, str(path), signatures={"serving_default": serve})


def load(path):
    """Return a callable from images `(B, H, W, 3)` to probabilities `(B, C)`, run by TensorFlow alone."""
    loaded = tf.saved_model.load(str(path))

    def answer(images):
        # By way of `loaded`, which keeps the weights alive; its functions alone do not.
        return loaded.signatures["serving_default"](**{INPUT: tf.constant(images)})[OUTPUT].numpy()

    return answer


def _asset(path, text):
    path.write_text(text, encoding="utf-8")
    return tf.saved_model.Asset(str(path))
