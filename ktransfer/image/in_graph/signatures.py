"""The signatures of a SavedModel that take image files, next to the one that takes pixels."""

import tensorflow as tf

from ktransfer.exporting.serving import OUTPUT, inlined_functions, probabilities
from ktransfer.image.file_parity import FILE, PIXEL_FILE, PIXELS
from ktransfer.image.in_graph.preprocessing import pixels_of_files
from ktransfer.image.serving import INPUT


def file_signatures(serving):
    """Return functions from image files to pixels and to probabilities, by the names of their signatures.

    Args:
        serving: `Serving` of an image classifier with its files.

    Example:
        >>> list(file_signatures(serving))  # doctest: +SKIP
        ['image_pixels', 'image_bytes']
    """
    resize = serving.preprocessing.resize

    # A function of its own, not inlined, so that both signatures share it.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, PIXEL_FILE.name)], autograph=False)
    def read_files(image_file):
        return {"pixels": pixels_of_files(image_file, resize)}

    read = read_files.get_concrete_function()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, FILE.name)], autograph=False)
    def serve_files(image_bytes):
        return {OUTPUT: probabilities(serving, {INPUT: read(image_bytes)["pixels"]})}

    with inlined_functions():
        return {PIXELS: read, FILE.name: serve_files.get_concrete_function()}
