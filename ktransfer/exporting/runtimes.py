"""An artifact as its own runtime sees it: the labels it carries, what it takes and gives, what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ktransfer.errors import ExportError
from ktransfer.exporting.opened import Opened, limit_tensorflow
from ktransfer.exporting.registry import format_specs, get_format
from ktransfer.utils.extras import need_modules

if TYPE_CHECKING:
    from ktransfer.core.typing import Array, PathLike


KERAS = "keras"


def open_artifact(format: str, path: PathLike, *, threads: int | None = None) -> Opened:
    """Load an artifact by nothing but its own runtime, or a run's model by Keras.

    No more is imported than that runtime needs: ONNX Runtime and LiteRT are there within a second.

    Args:
        format: As in `Artifact`, or `KERAS`.
        path: The file or folder; of `KERAS` the run folder.
        threads: How many an operation may use; `None` leaves it to the runtime. Those of TensorFlow are the
            process', and set before it has done anything.

    Returns:
        `Opened`. Keras answers with logits, by `predict_on_batch`; all others with probabilities.

    Raises:
        ExportError: The format is none that is known here. What else a runtime raises is its own.
        MissingExtraError: A package that it needs is not installed.

    Example:
        >>> open_artifact("onnx", "run/artifacts/model.onnx").labels
        ['cat', 'dog']
    """
    if format == KERAS:
        return _open_keras(Path(path), threads)
    if format not in format_specs():
        raise ExportError(
            f"Expected a format of {', '.join(format_specs())}, got {format!r}. Use the ktransfer that wrote "
            "it."
        )
    family = get_format(format).family
    need_modules(family.modules, f"the format {family.name}")
    return get_format(format).runtime().open_file(Path(path), threads)


def _open_keras(path: Path, threads: int | None) -> Opened:
    import keras

    if keras.backend.backend() == "tensorflow":
        limit_tensorflow(threads)
    from ktransfer.models.inputs import as_taken
    from ktransfer.runs.run import Run

    run = Run.load(path)
    model = run.model

    def answer(given: dict[str, Array]) -> Array:
        return model.predict_on_batch(as_taken(model, given))

    return Opened(list(run.outputs), {}, answer)
