"""Measure the costs of a classifier before training: multiply-adds, latency and size of exported files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.commands.artifacts import fixed_axes, validation_examples
from ktransfer.commands.benchmark import pieces
from ktransfer.commands.splits import Say
from ktransfer.errors import KTransferError, MissingExtraError, RunError
from ktransfer.exporting.export_model import export_model
from ktransfer.exporting.processes.runtime_process import RuntimeProcess
from ktransfer.exporting.registry import get_format
from ktransfer.models.flops import multiply_adds
from ktransfer.models.locate import find_backbone
from ktransfer.utils.extras import need_modules

if TYPE_CHECKING:
    from ktransfer.core.modality import Preprocessing
    from ktransfer.data.examples import Examples
    from ktransfer.exporting.artifact import Artifact
    from ktransfer.runs.run import Run


TIMED_FORMATS = ("tflite", "onnx")
_TIMES, _WARM_UP = 20, 3  # answers to one example
_PROVED = 4  # examples that an exported file is proved on
_CALIBRATED = 20  # examples whose ranges a quantized file has that is only timed


def timed_formats(say: Say) -> tuple[str, ...]:
    """The formats whose runtime is installed; logs a line for each of the others.

    Example:

        timed_formats(print)   # ("tflite", "onnx")
    """
    if keras.backend.backend() != "tensorflow":
        say(f"note       no latency: Keras runs on {keras.backend.backend()}, which cannot export")
        return ()
    found = []
    for name in TIMED_FORMATS:
        try:
            need_modules(get_format(name).family.modules, f"the latency of {name}")
        except MissingExtraError as error:
            say(f"note       no latency of {name}: {error}")
        else:
            found.append(name)
    return tuple(found)


def measure_costs(
    model: keras.Model,
    preprocessing: Preprocessing,
    examples: Examples,
    formats: Sequence[str],
    say: Say,
    *,
    name: str,
) -> dict[str, Any]:
    """Export a classifier, trained or not, and time one example in the runtime of each format.

    Args:
        model: From `Modality.network`.
        preprocessing: How it reads examples.
        examples: Of which the one of the middle length is timed.
        formats: From `timed_formats`.
        say: Receives a line where a format cannot be measured.
        name: Of the backbone, for that line.

    Returns:
        `latency_ms`, the median by format, and `size_bytes` of the file by format.

    Example:

        measure_costs(network.model, network.preprocessing, validation, ("onnx",), print, name="resnet")
    """
    latency: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for format in formats:
        try:
            latency[format], sizes[format] = _latency(model, preprocessing, examples, format)
        except KTransferError as error:
            say(f"note       no latency of {name} as {format}: {error}")
    return {"latency_ms": latency, "size_bytes": sizes}


def _latency(
    model: keras.Model, preprocessing: Preprocessing, examples: Examples, format: str
) -> tuple[float, int]:
    """The median time of one example in milliseconds, and the size of the file in bytes."""
    return measure_export(model, preprocessing, examples, format)


def measure_export(
    model: keras.Model,
    preprocessing: Preprocessing,
    examples: Examples,
    format: str,
    *,
    threads: int | None = None,
    calibration: Examples | None = None,
) -> tuple[float, int]:
    """Export a classifier, trained or not, and time one example in the runtime of the format.

    Args:
        model: From `Modality.network`, or a smaller one.
        preprocessing: How it reads examples.
        examples: Of which the one of the middle length is timed.
        format: Of `ALL_FORMATS`. What a quantized file answers is not checked.
        threads: As in `open_artifact`. Defaults to `None`, the runtime's choice.
        calibration: Training examples for the formats that need them. Defaults to `None`, `examples`.

    Returns:
        The median time in milliseconds, and the size of the file in bytes.

    Raises:
        ExportError: The format cannot hold the model.
        RunError: The file needs Flex.

    Example:

        measure_export(network.model, network.preprocessing, validation, "tflite", threads=1)   # (3.1, 9_000_000)
    """
    examples = preprocessing.pieces(examples)
    order = preprocessing.order(examples.inputs)
    inputs = [examples.inputs[index] for index in order[len(order) // 2 :][:_PROVED]]
    given: dict[str, Any] = {"examples": inputs}
    if get_format(format).is_quantized:
        given |= {"limits": {"agreement": 0.0}}
    if get_format(format).needs_calibration:
        chosen = preprocessing.pieces(examples if calibration is None else calibration)
        given |= {"calibration": list(chosen.evenly(_CALIBRATED).inputs)}
    with tempfile.TemporaryDirectory() as folder:
        artifact = export_model(
            model,
            Path(folder) / "artifacts",
            format,
            class_names=examples.task.output_names(examples.class_names),
            preprocessing=preprocessing,
            task=examples.task,
            **given,
        )
        if artifact.flex_ops:
            raise RunError(
                f"Expected a file that runs without Flex, got {', '.join(artifact.flex_ops)}. Time it on a phone."
            )
        asked = examples.modality.by_name(preprocessing(inputs[:1]))
        pad = preprocessing.to_dict().get("pad_token_id")
        one = next(pieces(asked, fixed=fixed_axes(artifact), pad_token_id=pad))
        with RuntimeProcess(format, Path(folder) / artifact.path, threads=threads) as process:
            process.seconds(one, _WARM_UP)
            return float(np.median(process.seconds(one, _TIMES))) * 1e3, artifact.size_bytes


def artifact_latency(run: Run, artifact: Artifact, *, threads: int | None = None) -> float:
    """The median time of one validation example in the runtime of an exported file, in milliseconds.

    Args:
        run: Its run.
        artifact: Of it.
        threads: As in `open_artifact`. Defaults to `None`, the runtime's choice.

    Example:

        artifact_latency(run, artifacts(run)[0], threads=1)   # 3.1
    """
    examples = run.preprocessing.pieces(validation_examples(run))
    order = run.preprocessing.order(examples.inputs)
    asked = run.modality.by_name(run.preprocessing([examples.inputs[order[len(order) // 2]]]))
    pad = run.preprocessing.to_dict().get("pad_token_id")
    one = next(pieces(asked, fixed=fixed_axes(artifact), pad_token_id=pad))
    with RuntimeProcess(artifact.format, run.path / artifact.path, threads=threads) as process:
        process.seconds(one, _WARM_UP)
        return float(np.median(process.seconds(one, _TIMES))) * 1e3


def backbone_multiply_adds(model: keras.Model, preprocessing: Preprocessing) -> int:
    """Multiply-adds of a classifier's backbone for one example, for texts at the truncated length.

    Example:

        backbone_multiply_adds(network.model, network.preprocessing)
    """
    backbone, length = find_backbone(model), preprocessing.sequence_length or 256
    given = [
        keras.KerasTensor([1, *(side or length for side in tensor.shape[1:])], dtype=tensor.dtype)
        for tensor in keras.tree.flatten(model.input)
    ]
    inputs = keras.tree.flatten(backbone.input)
    # The same pixels go into every input of a backbone for images.
    return multiply_adds(backbone, given if len(given) == len(inputs) else given * len(inputs))
