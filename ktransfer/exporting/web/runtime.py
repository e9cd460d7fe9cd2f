"""LiteRT or ONNX Runtime, on the model of a page; the page itself is run by a browser alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ktransfer.errors import ExportError
from ktransfer.exporting.onnx.runtime import open_file as open_onnx
from ktransfer.exporting.opened import Opened, checked_labels
from ktransfer.exporting.tflite.runtime import open_file as open_tflite
from ktransfer.exporting.web.exporter import FACTS, ONNX, TFLITE
from ktransfer.security.safe_io import read_json


def open_file(path: Path, threads: int | None) -> Opened:
    """Load an artifact with this runtime alone, as `open_artifact` does."""
    with_litert = (path / TFLITE).exists()
    opened = open_tflite(path / TFLITE, threads) if with_litert else open_onnx(path / ONNX, threads)
    labels = checked_labels(read_json(path / FACTS)["labels"])
    if labels != opened.labels:
        raise ExportError(f"Expected the labels of the model in {path / FACTS}, got others. Export it again.")
    return dataclasses.replace(opened, labels=labels)
