"""Proof that an artefact reads image files, or pixels of any size, as the run does."""

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

from ktransfer.data.images import load_images, read_pixels, resize_pixels
from ktransfer.exporters.image_serving import INPUT
from ktransfer.exporters.parity import measure_parity
from ktransfer.exporters.serving import BATCH, Input, reference_function

FILE = Input("image_bytes", (BATCH,), "string", {"formats": "JPEG, PNG, GIF, BMP"})
# Resized to the same grey level but for ties, a picture that the model finds a toss-up may fall otherwise.
LIMITS = {"agreement": 0.98, "accuracy_drop": 0.01}

_STARTS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM")  # what TensorFlow decodes; WebP it does not


def decodable(paths):
    """Those of the files at `paths` that a graph can decode, told by how they begin."""
    found = []
    for path in paths:
        with open(path, "rb") as file:
            if file.read(4).startswith(_STARTS):
                found.append(path)
    return found


def measure_file_parity(artefact, serving, labels=None):
    """Compare what an artefact makes of files with what the model makes of them as the run reads them.

    Args:
        artefact: Callable, `{"image_bytes": strings (B,)}` to probabilities `(B, C)`.
        serving: `Serving` of an image classifier with its files. Where a graph can decode none of them, as of
            TIFF images only, their pixels are written as PNG.
        labels: True classes of the files, int `(N,)`.

    Returns:
        `Parity`.
    """
    model, resize = reference_function(serving), serving.preprocessing.resize
    chosen = decodable(serving.files) or list(serving.files)
    if labels is not None:
        places = {path: place for place, path in enumerate(serving.files)}
        labels = np.asarray(labels)[[places[path] for path in chosen]]

    def logits(inputs):
        return model({INPUT: load_images(map(io.BytesIO, inputs[FILE.name]), resize)})

    return measure_parity(artefact, logits, _Files(chosen), labels=labels)


def measure_size_parity(artefact, serving, labels=None):
    """The same of an artefact that takes pixels of any size, `{"image": (1, H, W, 3)}`."""
    model, resize = reference_function(serving), serving.preprocessing.resize

    def logits(inputs):
        pixels = [resize_pixels(each.astype("uint8"), resize) for each in inputs[INPUT]]
        return model({INPUT: np.stack(pixels).astype("float32")})

    # Photographs of one batch have one size, and these have not.
    return measure_parity(artefact, logits, _Pixels(serving.files), fixed={BATCH: 1}, labels=labels)


@dataclasses.dataclass(frozen=True)
class _Files:
    paths: list

    def __len__(self):
        return len(self.paths)

    def batch(self, indices, *, longest=False):
        return {FILE.name: np.array([_content(self.paths[i]) for i in np.ravel(indices)], object)}


def _content(path):
    """The bytes of a file, or its pixels as PNG where a graph cannot decode it."""
    content = Path(path).read_bytes()
    if content.startswith(_STARTS):
        return content
    file = io.BytesIO()
    Image.fromarray(read_pixels(path)).save(file, "PNG")
    return file.getvalue()


class _Pixels(_Files):
    def batch(self, indices, *, longest=False):
        [index] = np.ravel(indices)
        return {INPUT: read_pixels(self.paths[index])[None].astype("float32")}
