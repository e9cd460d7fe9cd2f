"""SavedModel: for TensorFlow Serving and programs with TensorFlow but without Keras."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ktransfer.exporting.serving import inlined_functions, serving_function

if TYPE_CHECKING:
    from ktransfer.exporting.serving import Serving


SERVING = "serving_default"


def write(
    serving: Serving, path: Path, *, fixed: dict[str, int], extra: Mapping[str, Any] | None = None
) -> None:
    """Write a SavedModel folder with its labels inside.

    Of an image classifier the signature `serving_default` takes pixels, and where it is known how image files
    are read, `image_bytes` takes files and `image_pixels` gives the pixels that the model sees of them. Of a
    text classifier `serving_default` takes texts, and `ids` what the tokenizer makes of them.

    Args:
        serving: `Serving`.
        path: The folder to write.
        fixed: Sizes of axes by name; the others may have any size.
        extra: JSON-able facts, written to `assets/extra.json`.

    Example:
        >>> write(serving, Path("savedmodel"), fixed={})
        >>> serve = tf.saved_model.load("savedmodel").signatures["serving_default"]
        >>> serve(image=tf.constant(images))["probabilities"].shape
        TensorShape([8, 2])
    """
    module = tf.Module()
    with inlined_functions():
        serve = serving_function(serving, fixed).get_concrete_function()
    signatures = {SERVING: serve}
    if serving.preprocessing is not None and serving.preprocessing.raw_in_graph:
        signatures = serving.modality.saved_model_signatures(serving, serve, default=SERVING, module=module)
    with tempfile.TemporaryDirectory(dir=path.parent) as assets:
        labels = "".join(f"{name}\n" for name in serving.class_names)
        module.labels = _asset(Path(assets, "labels.txt"), labels)
        if extra is not None:
            module.extra = _asset(Path(assets, "extra.json"), json.dumps(extra))
        save(module, serving, path, signatures)


def save(module: tf.Module, serving: Serving, path: Path, signatures: dict[str, Any]) -> None:
    """Save functions of `serving.model` and all that `module` holds.

    A plain `tf.Module` that tracks the variables: `ExportArchive` stores the weights twice.
    """
    module.model_variables = [variable.value for variable in serving.model.weights]
    tf.saved_model.save(module, str(path), signatures=signatures)


def _asset(path: Path, text: str) -> Any:
    path.write_text(text, encoding="utf-8")
    return tf.saved_model.Asset(str(path))
