"""Presets of keras-hub, loaded by its own `from_preset`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ktransfer.core.task import get_task
from ktransfer.errors import ExportError
from ktransfer.exporting.keras_hub.exporter import FACTS, LABELS
from ktransfer.exporting.opened import Opened, label_lines, limit_tensorflow
from ktransfer.exporting.serving import inlined_functions
from ktransfer.security.keras_archive import check_preset
from ktransfer.security.safe_io import read_bytes, read_json

if TYPE_CHECKING:
    from ktransfer.core.typing import Array

# Where `task.json` may say which class of task it is; nothing else is loaded.
_TASKS = ("ImageClassifier", "TextClassifier")


def open_file(path: Path, threads: int | None) -> Opened:
    """Load an artifact with this runtime alone, as `open_artifact` does."""
    import keras
    import keras_hub

    if keras.backend.backend() == "tensorflow":
        limit_tensorflow(threads)
    try:
        check_preset(path)
        name = read_json(path / "task.json")["class_name"]
        facts = read_json(path / FACTS)
        activation = get_task(facts["task"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"Expected a preset folder of keras-hub in {path}, got {error}. Export it again."
        ) from error
    kind = next((each for each in _TASKS if str(name).endswith(each)), None)
    if kind is None:
        raise ExportError(
            f"Expected a task of {' or '.join(_TASKS)} in {path}, got {name!r:.80}. Export it again."
        )
    try:
        task = getattr(keras_hub.models, kind).from_preset(str(path))
    except ValueError as error:  # keras-hub saves the classifier of some families without its last layer
        raise ExportError(
            f"Expected a classifier of keras-hub that loads from its own preset folder, got {name} with "
            f"{' '.join(str(error).split())[:150]}. Export another format."
        ) from error
    described = [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "dtype": keras.backend.standardize_dtype(tensor.dtype),
        }
        for tensor in task.inputs
    ]
    described = _as_read(described, task.preprocessor)
    output = {"name": "logits", "shape": list(task.output.shape), "dtype": "float32"}

    def answer(given: dict[str, Array]) -> Array:
        if given.keys() & {"token_ids"}:  # as the model takes them; all else by way of the preprocessor
            logits = task(given, training=False)
        else:
            # Inlined: a grouped convolution of keras-hub takes a second an image on a CPU when XLA compiles it.
            with inlined_functions():
                logits = task(task.preprocessor(_as_people_have_them(given)), training=False)
        return activation.probabilities(np.asarray(keras.ops.convert_to_numpy(logits), np.float32))

    return Opened(label_lines(read_bytes(path / LABELS)), {"inputs": described, "output": output}, answer)


def _as_read(inputs: list[dict[str, Any]], preprocessor: Any) -> list[dict[str, Any]]:
    """Images of the size that the preprocessor makes, whatever size the network would take."""
    size = getattr(getattr(preprocessor, "image_converter", None), "image_size", None)
    return [each | {"name": "image", "shape": [None, *size, 3]} for each in inputs] if size else inputs


def _as_people_have_them(given: dict[str, Array]) -> Any:
    """Images, or texts, of pairs both in a tuple, as the preprocessor takes them."""
    arrays = [
        array.astype(str) if array.dtype.kind in "OS" and not isinstance(array.flat[0], bytes) else array
        for array in given.values()
    ]
    texts = [
        np.array([each.decode("utf-8") if isinstance(each, bytes) else each for each in array])
        if array.dtype.kind in "OSU"
        else array
        for array in arrays
    ]
    return texts[0] if len(texts) == 1 else tuple(texts)
