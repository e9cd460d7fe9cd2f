"""From a trained model to verified artifacts: SavedModel, TFLite, ONNX."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransfer.core.modality import modality_of
from ktransfer.core.task import SINGLE_LABEL, get_task
from ktransfer.errors import ExportError
from ktransfer.exporting.artifact import Artifact, check_place, fingerprint, publish, staging
from ktransfer.exporting.formats import ALL_FORMATS, FORMATS, QUANTIZED, format_names
from ktransfer.exporting.options import ExportOptions
from ktransfer.exporting.parity import TOLERANCE, Parity, check_logits, measure_parity
from ktransfer.exporting.processes.converter_process import prepare
from ktransfer.exporting.processes.runtime_process import RuntimeProcess
from ktransfer.exporting.registry import get_format
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.recipes.recipe import Recipe
from ktransfer.utils.extras import need_modules
from ktransfer.utils.progress import ProgressCallback, silent

if TYPE_CHECKING:
    import keras

    from ktransfer.core.modality import FilesRead, Preprocessing
    from ktransfer.core.task import Task
    from ktransfer.core.typing import Answer, Array, PathLike
    from ktransfer.exporting.registry import FormatSpec
    from ktransfer.exporting.serving import Serving
    from ktransfer.models.adapters import Adapters


# What an artifact was written with and what was measured: sizes of fixed axes, parity, parity on raw examples, texts
# with other ids, and how it reads files.
_Proved = tuple[dict[str, int], Parity, "Parity | None", "int | None", "FilesRead | None"]

__all__ = [
    "ALL_FORMATS",
    "FORMATS",
    "QUANTIZED",
    "Artifact",
    "ExportOptions",
    "Parity",
    "check_formats",
    "export_model",
    "label_limits",
    "warm_up",
]

_LOG = logging.getLogger(__name__)


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Return the names of `formats` as `format_names` has them.

    Raises:
        ExportError: One of them is none, or the Keras backend is one that cannot export.
        MissingExtraError: A package that one of them needs is not installed.
    """
    formats = format_names(formats)
    import keras  # here, as the names of the formats are wanted without it

    if formats and keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"Expected the TensorFlow backend for exporting, got KERAS_BACKEND={keras.backend.backend()}. "
            "Use --no-export, then `KERAS_BACKEND=tensorflow ktransfer export RUN`: a run loads on any "
            "backend."
        )
    for name in formats:
        need_modules(get_format(name).family.modules, f"the format {name}")
    return formats


def export_model(
    model: keras.Model,
    folder: PathLike,
    format: str,
    *,
    class_names: Sequence[str],
    examples: Sequence[str] | Array,
    preprocessing: Preprocessing | None = None,
    tolerance: float = TOLERANCE,
    extra: Mapping[str, Any] | None = None,
    labels: Array | None = None,
    calibration: Sequence[str] | Array | None = None,
    limits: dict[str, float] | None = None,
    options: ExportOptions = ExportOptions(),  # noqa: B008  frozen
    compared: Sequence[Any] = (),
    answered: dict[bytes, Array] | None = None,
    task: str | Task = SINGLE_LABEL,
    decision: dict[str, Any] | None = None,
    adapters: Adapters | None = None,
    on_progress: ProgressCallback = silent,
) -> Artifact:
    """Write `model` in one format, prove that the file answers as the model does, and describe it.

    The artifact of an image classifier takes raw pixels (`image`, float32 RGB in 0-255); a SavedModel takes
    image files as well (`image_bytes`). That of a text classifier takes ids as `tokenizer.json` gives them,
    int32 `(batch, sequence)` by the names of the backbone's inputs; a SavedModel takes texts as well. It
    gives `probabilities` and carries its labels. TFLite takes one example at a time, as phones do.

    It is run by its own runtime before it gets its final name, at batch 1 and at another batch size, ids at
    several lengths, texts and image files raw as well; if that fails, nothing of it is left, and an artifact
    of an earlier export stays as it was. Where TFLite or ONNX cannot have dynamic axes, the sequence is fixed
    at its longest, then the batch at 1, as the artifact records.

    The quantized formats are smaller: `float16` half as large, `dynamic` and `int8` a quarter, and checked by
    labels. `tflite-int8` takes images in uint8. TFLite is converted, and both TFLite and ONNX are run, in
    subprocesses, because some models crash them.

    Args:
        model: From `build_classifier` or `build_text_classifier`, raw input to logits `(None, C)`; not
            changed. One of a mixed-precision policy is exported, and compared, as a float32 copy.
        folder: The `artifacts` folder of a run. Written there: `savedmodel/`, `model.tflite` or `model.onnx`,
            or a quantized `model_float16.tflite` and so on, and `labels.txt` next to it.
        format: One of `ALL_FORMATS`.
        class_names: C names, in the order of the logits.
        examples: Real validation examples to measure parity on: N texts, N image files, or without
            `preprocessing` pixels `(N, H, W, 3)` in 0-255; N at least 1, tens are better.
        preprocessing: `TextPreprocessing` of a text classifier, or `Preprocessing` of one of images, without
            which an artifact takes pixels of its own size alone.
        tolerance: Largest allowed difference of a probability; of a logit, in proportion to the logits. Of
            formats in float32.
        extra: JSON-able facts by name, such as the preprocessing, to be written into the artifact.
        labels: True labels of the examples' rows, as `Preprocessing.row_labels` gives them, to measure accuracy by.
        calibration: Training examples, as `examples`, that `tflite-int8` and `onnx-int8` need.
        limits: Limits for a quantized artifact, as `Parity.check_labels` takes it; `None` takes those
            of `Recipe`.
        options: `ExportOptions`.
        compared: Further examples, such as all of a run, on which a tokenizer in the graph is compared with the run's.
            Defaults to none.
        answered: A dictionary for what the model answers. The same for several formats of a model that does
            not change between them spares asking it again.
        task: What the logits are of, a `Task` or its name. Defaults to `"single_label"`.
        decision: How the task gets from probabilities to labels, such as `{"thresholds": [...]}`; written into the
            artifact. Defaults to `None`, the task's own way.
        adapters: Of a format that has them apart from the backbone: those that are merged in the model, with the
            kernels without them. Defaults to `None`.
        on_progress: Callable that receives the progress of a quantized export. Defaults to none.

    Returns:
        `Artifact`; its `path` is relative to the parent of `folder`.

    Raises:
        ExportError: The format is unknown, the model, labels or examples do not fit, the backend is not
            TensorFlow, the format cannot hold the model, or the artifact does not answer as the model does.

    Example:
        >>> options = {"class_names": ["cat", "dog"], "examples": images}
        >>> artifact = export_model(model, "run/artifacts", "onnx", **options)
        >>> artifact.path, artifact.batch
        ('artifacts/model.onnx', 'dynamic')
    """
    [format] = check_formats([format])
    spec = get_format(format)
    family, quantized = spec.family, spec.is_quantized
    folder, name = Path(folder), spec.file_name
    check_place(folder / name)
    modality = modality_of(preprocessing)
    if options.temperature != 1 and not get_task(task).tempered:
        raise ExportError(
            f"Expected no temperature for {get_task(task).title}, got {options.temperature:g}. Leave it out."
        )
    serving = modality.serving(model, class_names, examples, preprocessing)
    serving = dataclasses.replace(
        serving,
        task=get_task(task),
        decision=decision_at(task, decision, options.temperature),
        adapters=adapters,
    )
    if family.adapters and adapters is None:
        raise ExportError(
            f"Expected a run with adapters for {format}, got one without. Train it with --adapter lora, or export "
            "another format."
        )
    if spec.needs_calibration:
        if calibration is not None and len(calibration):
            calibrated = modality.serving(model, class_names, calibration, preprocessing).examples
            serving = dataclasses.replace(serving, calibration=calibrated)
        serving.check_calibration()
    serving = _as_asked(serving, spec, options)
    client = {"name": serving.client, **modality.client_facts(serving)} if serving.client else None
    if family.tokenizes:
        client = modality.in_graph_facts(serving, compared)
        if client["differing_texts"] or client["differing_difficult_texts"]:
            _LOG.warning(
                "The tokenizer of %s makes other ids of %d of %d texts, and of %d of %d difficult ones: %s.",
                format,
                client["differing_texts"],
                client["compared_texts"],
                client["differing_difficult_texts"],
                client["difficult_texts"],
                ", ".join(client["differing_kinds"]),
            )
    if answered is not None:
        serving = dataclasses.replace(serving, answered=answered)
    raw = preprocessing is not None and preprocessing.raw_in_graph
    takes_raw = raw and not quantized and family.takes_raw(options)
    reads_files = family.reads_files and bool(serving.files)
    if quantized:
        limits = limits or label_limits(format)
    from ktransfer.exporting.serving import reference_function

    reference = reference_function(serving)
    check_logits(reference, serving.examples, serving.task)
    exporter = spec.exporter()
    if options.min_runtime is not None and "min_runtime" in family.options:
        from ktransfer.exporting.tflite.min_runtime import check_min_runtime
    facts = {"task": serving.task.name} | (serving.decision or {})
    written: dict[str, Any] = {"extra": {**(extra or {}), **facts}}
    if quantized:
        written |= {"precision": spec.precision, "on_progress": on_progress}
    if "min_runtime" in family.options:
        written["min_runtime"] = options.min_runtime

    with staging(folder / f".{format}.partial") as partial:
        path = partial / name

        def write_and_prove(fixed: dict[str, int], flex: dict[str, bool]) -> _Proved:
            if quantized:
                on_progress("converting the model")
            exporter.write(serving, path, fixed=fixed, **written, **flex)
            if quantized:
                on_progress("comparing its answers with the model's")
            with _opened(spec, path) as artifact:
                parity = measure_parity(
                    artifact,
                    reference,
                    serving.examples,
                    fixed=fixed,
                    labels=labels,
                    task=serving.task.row_task,
                    decision=serving.decision,
                    positions=serving.positions,
                )
                if not quantized:
                    parity.check(format, tolerance)
                raw = modality.raw_parity(artifact, serving, format, labels) if takes_raw else (None, None)
                files_read = modality.files_read(artifact, serving) if reads_files else None
            return fixed, parity, *raw, files_read

        attempts = serving.attempts if family.converts else serving.attempts[:1]
        fixed, parity, raw_parity, differing_texts, files_read = _first_that_works(
            write_and_prove, options.attempts(attempts, format), format
        )
        if quantized:
            parity.check_labels(format, **(limits or {}))
        if raw_parity is not None:
            modality.check_raw_parity(raw_parity, format, tolerance)
        if files_read is not None:
            files_read.check(format)
            if files_read.refused_files:
                _LOG.warning(
                    "The signature image_bytes refuses %d of %d examples that the run reads: %s.",
                    files_read.refused_files,
                    files_read.refused_files + files_read.files,
                    "; ".join(files_read.refused_for),
                )
        listed = partial / "labels.txt"
        listed.write_text("".join(f"{label}\n" for label in class_names), encoding="utf-8")
        sha256, size_bytes = fingerprint(path)
        found, needs = family.operations(path), family.needs(path)
        if options.min_runtime is not None and "min_runtime" in family.options:
            check_min_runtime(needs, options.min_runtime, format)
        publish(path, folder / name)
        os.replace(listed, folder / listed.name)

    signature = _signature(serving, fixed, takes_raw and family.reads_files, family.output)
    if family.tokenizes:
        signature = _signature_of_text(signature["output"])
    return Artifact(
        format=format,
        path=f"{folder.name}/{name}",
        sha256=sha256,
        size_bytes=size_bytes,
        signature=signature,
        batch=fixed.get("batch", "dynamic"),
        parity=parity,
        sequence=modality.sequence(serving, fixed),
        raw_parity=raw_parity,
        differing_texts=differing_texts,
        files_read=None if files_read is None else files_read.to_dict(),
        limits=limits if quantized else None,
        temperature=options.temperature,
        flex_ops=found,
        client=client,
        min_runtime=needs or None,
    )


def decision_at(
    task: str | Task, decision: dict[str, Any] | None, temperature: float
) -> dict[str, Any] | None:
    """Return a decision for probabilities whose logits are divided by a temperature.

    Example:
        >>> decision_at("multi_label", {"thresholds": [0.5]}, 2.0)
        {'thresholds': [0.5]}
    """
    return get_task(task).at_temperature(decision, temperature) if decision and temperature != 1 else decision


def label_limits(format: str, recipe: Recipe = Recipe(stages=())) -> dict[str, float]:  # noqa: B008  frozen
    """Return the limits for a quantized format, as `Parity.check_labels` takes it.

    Example:
        >>> label_limits("onnx-float16")
        {'agreement': 0.995}
    """
    if get_format(format).precision == "float16":
        return {"agreement": recipe.float16_agreement}
    return {"agreement": recipe.int8_agreement, "accuracy_drop": recipe.int8_accuracy_drop}


def _opened(spec: FormatSpec, path: Path) -> contextlib.AbstractContextManager[Answer]:
    """The artifact to be called; in a subprocess, but for TensorFlow's, which is here anyhow."""
    if spec.family.in_process:
        return contextlib.nullcontext(open_artifact(spec.name, path).answer)
    return RuntimeProcess(spec.name, path)


def warm_up(formats: Iterable[str]) -> None:
    """Start what converts to these formats, so that its imports are done when it is wanted.

    Example:
        >>> warm_up(["savedmodel", "tflite"])
    """
    modules = {get_format(name).family.warm_up for name in formats}
    for module in modules:
        if module is not None:
            prepare(module)


def _as_asked(serving: Serving, spec: FormatSpec, options: ExportOptions) -> Serving:
    """The `Serving` with what its format and the options ask for."""
    from ktransfer.exporting.serving import for_client, one_at_a_time

    serving = dataclasses.replace(serving, temperature=options.temperature)
    serving = serving.modality.as_asked(
        serving,
        any_size=options.any_size and "any_size" in spec.family.options and not spec.is_quantized,
        uint8=options.uint8 or spec.uint8,
    )
    if options.client and "client" in spec.family.options:
        return for_client(serving, options.client)
    if spec.family.one_example and not options.dynamic_batch:
        serving = one_at_a_time(serving)
    return serving


def _signature(serving: Serving, fixed: dict[str, int], takes_raw: bool, output_name: str) -> dict[str, Any]:
    from ktransfer.exporting.serving import Input

    output = Input(output_name, serving.output_axes, "float32").describe(fixed)
    signature = {"inputs": [given.describe(fixed) for given in serving.inputs], "output": output}
    return serving.modality.described_signatures(serving, signature) if takes_raw else signature


def _signature_of_text(output: Mapping[str, Any]) -> dict[str, Any]:
    """One text at a time, which is what the operators of a tokenizer take."""
    return {"inputs": [{"name": "text", "shape": [1], "dtype": "string"}], "output": output}


def _first_that_works(
    attempt: Callable[[dict[str, int], dict[str, bool]], _Proved],
    attempts: Sequence[tuple[dict[str, int], dict[str, bool]]],
    format: str,
) -> _Proved:
    *preferred, last = attempts
    for (fixed, flex), (after, then_flex) in zip(preferred, attempts[1:], strict=True):
        try:
            return attempt(fixed, flex)
        except ExportError as error:
            if then_flex and not flex:
                lacking = str(error).partition(". Export ")[0]
                _LOG.warning("%s is not had of builtin operations alone; trying Flex. %s.", format, lacking)
                continue
            _LOG.warning(
                "%s does not work with a dynamic %s; trying %s. %s",
                format,
                " and ".join(axis for axis in after if axis not in fixed),
                ", ".join(f"{axis} {size}" for axis, size in after.items()),
                error,
            )
    return attempt(*last)
