"""TFLite: for phones and small boards, run by LiteRT."""

from pathlib import Path
from typing import Any

from ktransfer.exporting.registry import Format


def _flex_ops(path: Path) -> tuple[str, ...]:
    from ktransfer.exporting.tflite.flex import flex_ops

    return flex_ops(path)


def _needs(path: Path) -> dict[str, Any]:
    from ktransfer.exporting.tflite.min_runtime import min_runtime

    return min_runtime(path)


FORMAT = Format(
    name="tflite",
    file="model.tflite",
    exporter="ktransfer.exporting.tflite.exporter",
    runtime="ktransfer.exporting.tflite.runtime",
    precisions=("float32", "float16", "dynamic", "int8"),
    one_example=True,
    options=frozenset({"dynamic_batch", "allow_flex", "client", "min_runtime"}),
    uint8=frozenset({"int8"}),
    calibrated=frozenset({"int8"}),
    modules=("ai_edge_litert",),
    warm_up="ktransfer.exporting.tflite.conversion",
    operations=_flex_ops,
    needs=_needs,
)
