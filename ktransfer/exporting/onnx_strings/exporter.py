"""ONNX that takes a text: the tokenizer's operators, then the network."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper

from ktransfer.exporting.onnx.exporter import write as write_onnx

if TYPE_CHECKING:
    from ktransfer.exporting.serving import Serving

DOMAIN = "ai.onnx.contrib"  # of onnxruntime-extensions


def write(
    serving: Serving, path: Path, *, fixed: dict[str, int], extra: Mapping[str, Any] | None = None
) -> None:
    """Write an ONNX file that takes one text, with its labels inside.

    Args:
        serving: `Serving` of texts.
        path: The file to write.
        fixed: Sizes of axes by name; the batch is 1.
        extra: JSON-able facts, as in the ONNX exporter.

    Raises:
        ExportError: The network cannot be had as ONNX, or the tokenizer not by operators.

    Example:

        write(serving, Path("model_strings.onnx"), fixed={"batch": 1})
    """
    tokenizer = onnx.load_from_string(serving.modality.tokenizer_graph(serving, fixed))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        write_onnx(serving, Path(folder, "model.onnx"), fixed=fixed, extra=extra)
        network = onnx.load(Path(folder, "model.onnx"))
    graph = helper.make_graph(
        [*tokenizer.graph.node, *network.graph.node],
        network.graph.name,
        list(tokenizer.graph.input),
        list(network.graph.output),
        [*tokenizer.graph.initializer, *network.graph.initializer],
    )
    opsets = [*network.opset_import, helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=network.ir_version)
    model.metadata_props.extend(network.metadata_props)
    onnx.save(model, path)
