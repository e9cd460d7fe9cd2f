"""ONNX Runtime with onnxruntime-extensions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ktransfer.exporting.opened import Opened, checked_labels
from ktransfer.security.safe_io import parse_json

if TYPE_CHECKING:
    import onnxruntime

    from ktransfer.core.typing import Array

OUTPUT, IDS, TEXT = "probabilities", "token_ids", "text"


def open_file(path: Path, threads: int | None) -> Opened:
    """Load an artifact with this runtime alone, as `open_artifact` does.

    It answers ids as well, by the network alone, so that it can be compared as files that take ids are. Of a file
    that is a tokenizer alone it answers the ids of texts.
    """
    session = with_extensions(str(path), threads)
    given_out = {value.name: value for value in session.get_outputs()}
    wanted = OUTPUT if OUTPUT in given_out else IDS
    parts: dict[str, Any] = {}

    def of_text(text: Any) -> Array:
        given = text if isinstance(text, str) else bytes(text).decode("utf-8", "replace")
        return session.run([wanted], {TEXT: np.array([given], object)})[0]

    def answer(given: dict[str, Array]) -> Array:
        if TEXT in given:
            return np.concatenate([of_text(text) for text in given[TEXT]])
        if not parts:
            parts["network"] = with_extensions(_network(path), threads)
        return parts["network"].run([OUTPUT], {name: ids.astype(np.int32) for name, ids in given.items()})[0]

    sizes = [size if isinstance(size, int) else None for size in given_out[wanted].shape or ()]
    labels = parse_json(session.get_modelmeta().custom_metadata_map.get("labels", "[]"))
    signature = {
        "inputs": [{"name": TEXT, "shape": [1], "dtype": "string"}],
        "output": {"name": OUTPUT, "shape": sizes, "dtype": "float32"},
    }
    return Opened(checked_labels(labels), signature, answer)


def with_extensions(model: str | bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime that has the operators of onnxruntime-extensions.

    Example:

        with_extensions("run/artifacts/model_strings.onnx").get_inputs()[0].name   # "text"
    """
    import onnxruntime
    import onnxruntime_extensions

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _network(path: Path) -> bytes:
    """The part of the file that takes ids."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(path)
    made = [each for each in model.graph.node if each.name.startswith("tokenizer_")]
    ids = [name for each in made for name in each.output if not name.startswith("tokenizer_")]
    for each in made:
        model.graph.node.remove(each)
    del model.graph.input[:]
    model.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.INT32, [1, None]) for name in ids
    )
    return model.SerializeToString()
