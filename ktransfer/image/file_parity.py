"""Proof that an artifact reads image files, or pixels of any size, as the run does."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import tensorflow as tf

from ktransfer.data.shards.address import open_bytes
from ktransfer.errors import ExportError
from ktransfer.exporting.parity import measure_parity
from ktransfer.exporting.serving import BATCH, Input, reference_function
from ktransfer.image.decoding import load_images, read_pixels, resize_pixels
from ktransfer.image.file_variants import image_variants
from ktransfer.image.in_graph.decoders import ADVICE, FORMATS, REFUSAL, REFUSED, decoded
from ktransfer.image.serving import INPUT, resize_of

if TYPE_CHECKING:
    from ktransfer.core.typing import Answer, Array, PathLike
    from ktransfer.exporting.parity import Parity
    from ktransfer.exporting.serving import Serving


FILE = Input("image_bytes", (BATCH,), "string", {"formats": FORMATS, "refused": list(REFUSED)})
# The same files to the pixels that the model is given, by a signature of this name.
PIXELS = "image_pixels"
PIXEL_FILE = Input("image_file", (BATCH,), "string", FILE.facts)
# Near-tie predictions may flip because of 1-level rounding differences.
LIMITS = {"agreement": 0.98, "accuracy_drop": 0.01}
PIXEL_LIMIT = 1  # grey levels
_VARIANTS_AT_ONCE = 16  # files


@dataclasses.dataclass(frozen=True)
class FilesRead:
    """The difference between pixels of image files as read by an artifact and as read by the run.

    Args:
        max_pixel_delta: Largest difference of a pixel that the model is given, in grey levels, 0 to 255.
        worst: The file or variant where that is; empty where there is no difference.
        files: How many of the examples were compared.
        refused_files: How many of the examples the graph refuses, though the run reads them.
        refused_for: Why, each reason once.
        variants: The files of own making that were compared, by name, as `image_variants` makes them.

    Example:
        >>> FilesRead(0.0, "", 12, 0, (), ("JPEG grey",)).check("savedmodel")
    """

    max_pixel_delta: float
    worst: str
    files: int
    refused_files: int
    refused_for: tuple[str, ...]
    variants: tuple[str, ...]

    def check(self, format: str) -> None:
        """Raise `ExportError` unless the pixels are the run's within a grey level."""
        if not self.max_pixel_delta <= PIXEL_LIMIT:
            raise ExportError(
                f"Expected a {format} artifact that reads image files as the run does, pixels within "
                f"{PIXEL_LIMIT} gray level, got a difference of {self.max_pixel_delta:g} in {self.worst}. "
                "Export another format; nothing was written."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement as a dictionary of JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the measurement that `to_dict` gave."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**fields)


def graph_refusal(content: bytes) -> str | None:
    """The reason why a graph refuses an image file, or `None` if it reads the file.

    Args:
        content: The bytes of the file.

    Example:
        >>> graph_refusal(b"II*\\0")  # doctest: +SKIP
        'not one of JPEG, PNG, GIF, BMP, WebP: TIFF'
    """
    try:
        _graph_reader()(tf.constant(content))
    except tf.errors.OpError as error:
        _, found, reason = str(error.message).partition(REFUSAL)
        return reason.partition(ADVICE)[0] if found else "a broken file"
    return None


@functools.cache
def _graph_reader() -> Any:
    """Traced once a process."""
    spec = tf.TensorSpec([], tf.string)
    return tf.function(
        lambda content: decoded(content, tf.constant(0)), input_signature=[spec], autograph=False
    )


def measure_file_parity(artifact: Answer, serving: Serving, labels: Array | None = None) -> Parity:
    """Compare an artifact's answers to files with the model's answers to the files as the run reads them.

    The files that the graph refuses are left out; where it refuses all, those of own making are compared.

    Args:
        artifact: Callable, `{"image_bytes": strings (B,)}` to probabilities `(B, C)`.
        serving: `Serving` of an image classifier with its files.
        labels: True classes of the files, int `(N,)`.

    Returns:
        `Parity`.
    """
    model, resize = reference_function(serving), resize_of(serving)
    places = [place for place, path in enumerate(serving.files) if graph_refusal(_read(path)) is None]
    chosen: Sequence[str | bytes] = [serving.files[place] for place in places]
    if labels is not None:
        labels = np.asarray(labels)[places]
    if not chosen:
        chosen, labels = [content for _, content in image_variants(resize.width, resize.height)], None

    def logits(inputs: dict[str, Array]) -> Array:
        return model({INPUT: load_images(map(io.BytesIO, inputs[FILE.name]), resize)})

    return measure_parity(
        artifact, logits, _Files(chosen), labels=labels, task=serving.task, decision=serving.decision
    )


def measure_pixels(artifact: Answer, serving: Serving) -> FilesRead:
    """Compare the pixels that an artifact reads from files with those that the run reads.

    Args:
        artifact: Callable, `{"image_file": strings (B,)}` to pixels `(B, height, width, 3)`.
        serving: `Serving` of an image classifier with its files.

    Returns:
        `FilesRead`, of the files and of `image_variants` of the model's own size.
    """
    resize = resize_of(serving)
    largest, worst, reasons = 0.0, "", []

    def compare(names: Sequence[str], contents: Sequence[bytes]) -> None:
        nonlocal largest, worst
        found = np.asarray(artifact({PIXEL_FILE.name: np.array(contents, object)}))
        expected = load_images(map(io.BytesIO, contents), resize)
        for name, delta in zip(names, np.abs(found - expected).max((1, 2, 3)), strict=True):
            if not delta <= largest:  # so that NaN counts
                largest, worst = float(delta), name

    for path in serving.files:
        content = _read(path)
        reason = graph_refusal(content)
        if reason is None:
            compare([Path(path).name], [content])
        else:
            reasons.append(reason)
    variants = list(image_variants(resize.width, resize.height))
    for start in range(0, len(variants), _VARIANTS_AT_ONCE):
        compare(*zip(*variants[start : start + _VARIANTS_AT_ONCE], strict=True))
    return FilesRead(
        max_pixel_delta=largest,
        worst=worst,
        files=len(serving.files) - len(reasons),
        refused_files=len(reasons),
        refused_for=tuple(sorted(set(reasons))),
        variants=tuple(name for name, _ in variants),
    )


def measure_size_parity(artifact: Answer, serving: Serving, labels: Array | None = None) -> Parity:
    """Measure the parity of an artifact that takes pixels of any size, `{"image": (1, H, W, 3)}`."""
    model, resize = reference_function(serving), resize_of(serving)

    def logits(inputs: dict[str, Array]) -> Array:
        pixels = [resize_pixels(each.astype("uint8"), resize) for each in inputs[INPUT]]
        return model({INPUT: np.stack(pixels).astype("float32")})

    # Photographs of one batch have one size, and these have not.
    return measure_parity(
        artifact,
        logits,
        _Pixels(serving.files),
        fixed={BATCH: 1},
        labels=labels,
        task=serving.task,
        decision=serving.decision,
    )


def _read(path: PathLike | bytes) -> bytes:
    """The bytes of a file, or those that are given."""
    if isinstance(path, bytes):
        return path
    with open_bytes(str(path)) as file:
        return file.read()


@dataclasses.dataclass(frozen=True)
class _Files:
    paths: Sequence[str | bytes]

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Array, *, longest: bool = False) -> dict[str, Array]:
        return {FILE.name: np.array([_read(self.paths[i]) for i in np.ravel(indices)], object)}


class _Pixels(_Files):
    def batch(self, indices: Array, *, longest: bool = False) -> dict[str, Array]:
        [index] = np.ravel(indices)
        return {INPUT: read_pixels(self.paths[index])[None].astype("float32")}
