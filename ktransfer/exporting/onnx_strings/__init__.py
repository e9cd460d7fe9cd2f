"""ONNX that takes texts: the tokenizer is in the graph, run by ONNX Runtime with onnxruntime-extensions."""

from pathlib import Path
from typing import Any

from ktransfer.exporting.registry import Format


def _needs(path: Path) -> dict[str, Any]:
    from ktransfer.exporting.onnx.min_runtime import min_runtime

    return min_runtime(path)


FORMAT = Format(
    name="onnx-strings",
    file="model_strings.onnx",
    exporter="ktransfer.exporting.onnx_strings.exporter",
    runtime="ktransfer.exporting.onnx_strings.runtime",
    default=False,
    program="onnx",
    one_example=True,
    takes_raw=lambda options: True,
    tokenizes=True,
    modules=("onnx", "onnxruntime", "tf2onnx", "onnxruntime_extensions"),
    needs=_needs,
)
