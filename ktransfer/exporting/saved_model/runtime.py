"""TensorFlow."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransfer.exporting.opened import Opened, label_lines, limit_tensorflow
from ktransfer.security.safe_io import read_bytes

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


def open_file(path: Path, threads: int | None) -> Opened:
    """Load an artifact with this runtime alone, as `open_artifact` does."""
    import tensorflow as tf

    limit_tensorflow(threads)
    with contextlib.suppress(ImportError):
        import tensorflow_text  # noqa: F401  has the operations of the tokenizers in a text classifier
    loaded = tf.saved_model.load(str(path))

    def described(name: str, spec: Any) -> dict[str, Any]:
        return {"name": name, "shape": spec.shape.as_list(), "dtype": spec.dtype.name}

    def signature(name: str) -> dict[str, Any]:
        function = loaded.signatures[name]
        inputs = [described(*given) for given in function.structured_input_signature[1].items()]
        [output] = [described(*given) for given in function.structured_outputs.items()]
        return {"inputs": inputs, "output": output}

    signatures = {name: signature(name) for name in loaded.signatures}
    by_inputs = {
        frozenset(given["name"] for given in described["inputs"]): name
        for name, described in signatures.items()
    }

    def answer(given: dict[str, Array]) -> Array:
        # By way of `loaded`, which keeps the weights alive; its functions alone do not.
        function = loaded.signatures[by_inputs[frozenset(given)]]
        specs = function.structured_input_signature[1]
        tensors = {name: tf.constant(array) for name, array in given.items()}
        # Of pixels in uint8 the examples are float32, as the model takes them.
        cast = {
            name: tensor if tensor.dtype == specs[name].dtype else tf.cast(tensor, specs[name].dtype)
            for name, tensor in tensors.items()
        }
        [answers] = function(**cast).values()
        return answers.numpy()

    listed = path / "assets" / "labels.txt"
    labels = label_lines(read_bytes(listed)) if listed.is_file() else []
    return Opened(labels, {**signatures.pop("serving_default"), **signatures}, answer)
