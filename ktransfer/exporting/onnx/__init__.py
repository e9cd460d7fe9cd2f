"""ONNX: for servers, run by ONNX Runtime."""

from pathlib import Path
from typing import Any

from ktransfer.exporting.registry import Format


def _needs(path: Path) -> dict[str, Any]:
    from ktransfer.exporting.onnx.min_runtime import min_runtime

    return min_runtime(path)


FORMAT = Format(
    name="onnx",
    file="model.onnx",
    exporter="ktransfer.exporting.onnx.exporter",
    runtime="ktransfer.exporting.onnx.runtime",
    precisions=("float32", "float16", "int8"),
    options=frozenset({"any_size"}),
    takes_raw=lambda options: options.any_size,
    concurrent=True,
    modules=("onnx", "onnxruntime", "tf2onnx"),
    calibrated=frozenset({"int8"}),
    needs=_needs,
)
