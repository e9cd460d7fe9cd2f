"""The signatures of a SavedModel that take image files, next to the one that takes pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ktransfer.exporting.serving import OUTPUT, inlined_functions, probabilities
from ktransfer.image.file_parity import FILE, PIXEL_FILE, PIXELS
from ktransfer.image.in_graph.preprocessing import pixels_of_files
from ktransfer.image.serving import INPUT, resize_of

if TYPE_CHECKING:
    from ktransfer.exporting.serving import Serving


def file_signatures(serving: Serving) -> dict[str, Any]:
    """Return functions from image files to pixels and to probabilities, by the names of their signatures.

    Args:
        serving: `Serving` of an image classifier with its files.

    Example:
        >>> list(file_signatures(serving))  # doctest: +SKIP
        ['image_pixels', 'image_bytes']
    """
    resize = resize_of(serving)

    # A function of its own, not inlined, so that both signatures share it.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, PIXEL_FILE.name)], autograph=False)
    def read_files(image_file: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"pixels": pixels_of_files(image_file, resize)}

    read = read_files.get_concrete_function()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, FILE.name)], autograph=False)
    def serve_files(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {OUTPUT: probabilities(serving, {INPUT: read(image_bytes)["pixels"]})}

    with inlined_functions():
        return {PIXELS: read, FILE.name: serve_files.get_concrete_function()}
