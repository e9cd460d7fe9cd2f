"""LiteRT."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ktransfer.exporting.opened import Opened, label_lines
from ktransfer.security.safe_io import MOST_JSON

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


def open_file(path: Path, threads: int | None) -> Opened:
    """Load an artifact with this runtime alone, as `open_artifact` does."""
    from ai_edge_litert.interpreter import Interpreter

    from ktransfer.exporting.tflite.flex import flex_ops, in_pieces

    run = Interpreter(str(path), num_threads=threads).get_signature_runner()
    takes, gives = run.get_input_details(), run.get_output_details()
    if flex_ops(path):  # LiteRT knows what they take and give, but cannot run them
        run = in_pieces(path, threads=threads)

    def described(name: str, details: Mapping[str, Any]) -> dict[str, Any]:
        shape = [None if size < 0 else int(size) for size in details["shape_signature"]]
        return {"name": name, "shape": shape, "dtype": np.dtype(details["dtype"]).name}

    [(output, details)] = gives.items()

    def answer(given: dict[str, Array]) -> Array:
        answers = run(**{name: _quantized(array, takes[name]) for name, array in given.items()})
        return _dequantized(answers[output], details)

    labels = []
    if zipfile.is_zipfile(path):
        with (
            zipfile.ZipFile(path) as archive,
            contextlib.suppress(KeyError),
            archive.open("labels.txt") as file,
        ):
            labels = label_lines(file.read(MOST_JSON + 1))
    inputs = [described(name, details) for name, details in takes.items()]
    return Opened(labels, {"inputs": inputs, "output": described(output, details)}, answer)


def _quantized(array: Array, details: Mapping[str, Any]) -> Array:
    """Numbers as a tensor takes them; whole ones, such as ids, are never scaled."""
    dtype, (scale, zero) = np.dtype(details["dtype"]), details["quantization"]
    if dtype.kind not in "iu" or array.dtype.kind in "iu":
        return array.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array / (scale or 1) + zero), limits.min, limits.max).astype(dtype)


def _dequantized(array: Array, details: Mapping[str, Any]) -> Array:
    scale, zero = details["quantization"]
    return array.copy() if array.dtype.kind == "f" else np.float32(scale) * (array.astype("float32") - zero)
