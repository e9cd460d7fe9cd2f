"""The oldest ONNX Runtime that has the operator set of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

# The ONNX Runtime that came with each operator set of ONNX, and with each version of the format itself:
# https://onnxruntime.ai/docs/reference/compatibility.html#onnx-opset-support
_OF_OPSET = {
    13: "1.5",
    14: "1.7",
    15: "1.9",
    16: "1.11",
    17: "1.12",
    18: "1.14",
    19: "1.15",
    20: "1.17",
    21: "1.18",
}
_OF_FORMAT = {7: "1.5", 8: "1.9", 9: "1.15", 10: "1.18"}
_OWN = ("", "ai.onnx", "ai.onnx.ml")


def min_runtime(path: Path) -> dict[str, Any]:
    """The least ONNX Runtime of a file, by its operator set and the version of its format.

    Args:
        path: The file.

    Returns:
        `name`; `version`, `None` of newer sets than are known here; `opset`; `extensions`, other domains.

    Example:

        min_runtime(Path("model.onnx"))   # {"name": "ONNX Runtime", "version": "1.12", "opset": 17, "extensions": []}
    """
    model = onnx.load(str(path), load_external_data=False)
    sets = {entry.domain: entry.version for entry in model.opset_import}
    opset = next(sets[name] for name in ("", "ai.onnx") if name in sets)
    known = [_OF_OPSET.get(max(opset, 13)), _OF_FORMAT.get(max(model.ir_version, 7))]
    versions = (
        [] if None in known else sorted((str(one) for one in known), key=lambda one: int(one.split(".")[1]))
    )
    used = {node.domain for node in model.graph.node} - {*_OWN}
    return {
        "name": "ONNX Runtime",
        "version": versions[-1] if versions else None,
        "opset": opset,
        "extensions": sorted(used),
    }
