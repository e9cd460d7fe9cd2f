"""TFLite: for phones and small boards, run by LiteRT; builtin operations only, unless Flex is allowed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from ktransfer.errors import ExportError
from ktransfer.exporting.bisect import find_crashing_op
from ktransfer.exporting.patches.fourier import fourier_as_matrices
from ktransfer.exporting.patches.padding import finite_padding
from ktransfer.exporting.processes.converter_process import Ended, run_in_subprocess
from ktransfer.exporting.saved_model import exporter as saved_model
from ktransfer.exporting.serving import inlined_functions, serving_function
from ktransfer.exporting.tflite.conversion import convert
from ktransfer.exporting.tflite.metadata import add_metadata
from ktransfer.exporting.tflite.min_runtime import min_runtime_of, runs_on
from ktransfer.utils.progress import ProgressCallback, silent

if TYPE_CHECKING:
    from ktransfer.core.typing import Array
    from ktransfer.exporting.serving import Serving


def write(
    serving: Serving,
    path: Path,
    *,
    fixed: dict[str, int],
    extra: Mapping[str, Any] | None = None,
    precision: str = "float32",
    allow_flex: bool = False,
    min_runtime: str | None = None,
    on_progress: ProgressCallback = silent,
) -> None:
    """Write a TFLite file with its labels inside.

    By way of a SavedModel: `from_concrete_functions` on a live Keras model gave files that answered NaN.

    Args:
        serving: `Serving`; for `"int8"` one that can be calibrated.
        path: The file to write.
        fixed: Sizes of axes by name; the others may have any size.
        extra: JSON-able facts, written to `extra.json` in the file.
        precision, allow_flex: As in `tflite_conversion.convert`, which is run in a subprocess.
        min_runtime: The version of TensorFlow Lite that phones have: in `"dynamic"` dense layers get one scale each
            where it does not know one for each output. Defaults to `None`.
        on_progress: Callable that receives the progress. Defaults to none.

    Raises:
        ExportError: The model has an operation that TFLite lacks, or the converter ended its process, and
            with which operation.

    Example:
        >>> write(serving, Path("model.tflite"), fixed={})
    """
    padding: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if precision == "int8":
        padding = finite_padding()
    with inlined_functions(), fourier_as_matrices(), padding:
        serve = serving_function(serving, fixed).get_concrete_function()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source = Path(folder, "savedmodel")
        saved_model.save(tf.Module(), serving, source, {saved_model.SERVING: serve})
        calibration = serving.calibration_batches() if precision == "int8" else ()
        calibration = [_in_dtypes(inputs, serving) for inputs in calibration]
        doing = f"convert the model to TFLite in {precision}"
        given = (source, precision, calibration, allow_flex)
        try:
            content = run_in_subprocess(convert, *given, doing=doing, on_progress=on_progress)
            if min_runtime and precision == "dynamic" and not runs_on(min_runtime_of(content), min_runtime):
                on_progress(f"converting again, for TensorFlow Lite {min_runtime}")
                content = run_in_subprocess(convert, *given, True, doing=doing, on_progress=on_progress)
        except Ended as ended:
            if not ended.aborted or _converts(source):  # then it is quantizing that it does not
                raise
            operation = find_crashing_op(serve, serving, path.parent, _converts)
            raise ExportError(f"{ended} It crashes at {operation}.") from ended
    path.write_bytes(add_metadata(content, serving, extra))


def _converts(source: Path) -> bool:
    try:
        run_in_subprocess(convert, source, doing="convert a part of the model")
    except Ended:
        return False
    except ExportError:  # a part of a model need not be one that TFLite takes
        pass
    return True


def _in_dtypes(inputs: dict[str, Array], serving: Serving) -> dict[str, Array]:
    dtypes = {given.name: given.dtype for given in serving.inputs}
    return {name: np.rint(array).astype(dtypes[name]) for name, array in inputs.items()}
