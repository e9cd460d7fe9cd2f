"""SavedModel: for TensorFlow Serving and for whoever has TensorFlow but no Keras."""

import json
import tempfile
from pathlib import Path

import tensorflow as tf

from ktransfer.data.modality import TEXTS
from ktransfer.exporting.serving import OUTPUT, inlined_functions, probabilities, serving_function
from ktransfer.image.file_parity import FILE, PIXEL_FILE, PIXELS
from ktransfer.image.in_graph.preprocessing import pixels_of_files
from ktransfer.image.serving import INPUT
from ktransfer.text.in_graph_tokenizer import SPEC, GraphTokenizer

NAME = "savedmodel"
CONVERTS = False
SERVING, IDS = "serving_default", "ids"


def write(serving, path, *, fixed, extra=None):
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
        >>> tf.saved_model.load("savedmodel").signatures["serving_default"](image=images)["probabilities"]
    """
    module = tf.Module()
    with inlined_functions():
        serve = serving_function(serving, fixed).get_concrete_function()
    signatures = {SERVING: serve}
    if serving.files:
        resize = serving.preprocessing.resize

        # A function of its own, not inlined, so that both signatures share it.
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, PIXEL_FILE.name)], autograph=False)
        def read_files(image_file):
            return {"pixels": pixels_of_files(image_file, resize)}

        read = read_files.get_concrete_function()

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, FILE.name)], autograph=False)
        def serve_files(image_bytes):
            return {OUTPUT: probabilities(serving, {INPUT: read(image_bytes)["pixels"]})}

        signatures[PIXELS] = read
        with inlined_functions():
            signatures[FILE.name] = serve_files.get_concrete_function()
    elif serving.preprocessing is not None and serving.preprocessing.task == TEXTS:
        graph = GraphTokenizer(serving.preprocessing)
        module.tokenizer = graph.tokenizer

        # Not inlined: keras-hub's byte pairs need AutoGraph in a function of their own.
        @tf.function(input_signature=[SPEC], autograph=False)
        def serve_text(text):
            return serve(**graph.inputs(text))

        signatures = {SERVING: serve_text, IDS: serve}
    with tempfile.TemporaryDirectory(dir=path.parent) as assets:
        labels = "".join(f"{name}\n" for name in serving.class_names)
        module.labels = _asset(Path(assets, "labels.txt"), labels)
        if extra is not None:
            module.extra = _asset(Path(assets, "extra.json"), json.dumps(extra))
        save(module, serving, path, signatures)


def save(module, serving, path, signatures):
    """Save functions of `serving.model` and all that `module` holds.

    A plain `tf.Module` that tracks the variables: `ExportArchive` stores the weights twice.
    """
    module.model_variables = [variable.value for variable in serving.model.weights]
    tf.saved_model.save(module, str(path), signatures=signatures)


def _asset(path, text):
    path.write_text(text, encoding="utf-8")
    return tf.saved_model.Asset(str(path))
