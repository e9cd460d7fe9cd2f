"""ONNX Runtime with an adapter."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ktransfer.errors import ExportError
from ktransfer.exporting.onnx_adapters import ADAPTER, BACKBONE, FACTS
from ktransfer.exporting.opened import Opened, checked_labels
from ktransfer.security.safe_io import read_json

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


def open_file(path: Path, threads: int | None) -> Opened:
    """Load an artifact with this runtime alone, as `open_artifact` does."""
    import onnxruntime

    from ktransfer.exporting.onnx.runtime import described

    try:
        facts = read_json(path / FACTS)
        labels, sha256 = checked_labels(facts["labels"]), facts["backbone_sha256"]
        with (path / BACKBONE).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"Expected a folder of the format onnx-adapters in {path}, got {error}. Export it again."
        ) from error
    if found != sha256:
        raise ExportError(
            f"Expected the backbone {sha256[:12]} for the adapter in {path}, got {found[:12]}. Export it again."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # of each optional input it warns that it is no constant
    session = onnxruntime.InferenceSession(str(path / BACKBONE), options, providers=["CPUExecutionProvider"])
    adapter, with_adapter = onnxruntime.LoraAdapter(), onnxruntime.RunOptions()
    adapter.Load(str(path / ADAPTER))
    with_adapter.add_active_adapter(adapter)
    held = (adapter, with_adapter)  # the options do not keep the adapter alive
    inputs, [output] = [described(value) for value in session.get_inputs()], session.get_outputs()
    dtypes = {given["name"]: given["dtype"] for given in inputs}

    def answer(given: dict[str, Array]) -> Array:
        cast = {name: array.astype(dtypes[name], copy=False) for name, array in given.items()}
        return session.run([output.name], cast, held[1])[0]

    signature = described(output)
    signature["shape"][-1] = len(labels)
    return Opened(labels, {"inputs": inputs, "output": signature}, answer)
