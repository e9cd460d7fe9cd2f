"""ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransfer.exporting.opened import Opened, checked_labels
from ktransfer.security.safe_io import parse_json

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


_DTYPES = {"float": "float32", "double": "float64"}  # the others are named as in NumPy


def described(value: Any) -> dict[str, Any]:
    """An input or output of a session as a signature has it.

    Example:

        described(session.get_inputs()[0])["shape"]   # [None, 224, 224, 3]
    """
    dtype = value.type.removeprefix("tensor(").removesuffix(")")
    shape = [size if isinstance(size, int) else None for size in value.shape]
    return {"name": value.name, "shape": shape, "dtype": _DTYPES.get(dtype, dtype)}


def open_file(path: Path, threads: int | None) -> Opened:
    """Load an artifact with this runtime alone, as `open_artifact` does."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    inputs, [output] = [described(value) for value in session.get_inputs()], session.get_outputs()
    dtypes = {given["name"]: given["dtype"] for given in inputs}

    def answer(given: dict[str, Array]) -> Array:
        cast = {name: array.astype(dtypes[name], copy=False) for name, array in given.items()}
        return session.run([output.name], cast)[0]

    labels = parse_json(session.get_modelmeta().custom_metadata_map.get("labels", "[]"))
    return Opened(checked_labels(labels), {"inputs": inputs, "output": described(output)}, answer)
