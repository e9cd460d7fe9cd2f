"""ONNX with adapters apart: one backbone in memory, and an adapter of a few hundred KB for each run."""

from pathlib import Path
from typing import Any

from ktransfer.exporting.registry import Format

BACKBONE, ADAPTER, FACTS = "backbone.onnx", "adapter.onnx_adapter", "adapter.json"


def _needs(path: Path) -> dict[str, Any]:
    from ktransfer.exporting.onnx.min_runtime import min_runtime

    return min_runtime(path / BACKBONE) | {"version": "1.20"}  # the first with `LoraAdapter`


FORMAT = Format(
    name="onnx-adapters",
    file="onnx_adapters",
    exporter="ktransfer.exporting.onnx_adapters.exporter",
    runtime="ktransfer.exporting.onnx_adapters.runtime",
    default=False,
    program="",
    concurrent=True,
    modules=("onnx", "onnxruntime", "tf2onnx"),
    adapters=True,
    needs=_needs,
)
