"""`ktransfer export`: a run's model as verified artifacts."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ktransfer.commands.checks import check_temperature
from ktransfer.commands.splits import (
    EVALUATION_EXAMPLES,
    PARITY_EXAMPLES,
    Say,
    evenly,
    read_splits,
    readable_split,
)
from ktransfer.data.examples import Examples
from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import (
    FORMATS,
    Artifact,
    ExportOptions,
    check_formats,
    export_model,
    label_limits,
    warm_up,
)
from ktransfer.exporting.registry import get_format
from ktransfer.models.adapters import FILE, Adapters, read_file, with_kernels
from ktransfer.runs.manifest import artifacts_folder
from ktransfer.runs.provenance import read_arguments
from ktransfer.runs.run import Run
from ktransfer.utils.progress import Progress
from ktransfer.utils.terminal import print_line

_CALIBRATED = 100  # training examples


def export(
    run: Run,
    formats: Sequence[str] = FORMATS,
    *,
    validation: Examples | None = None,
    options: ExportOptions = ExportOptions(),  # noqa: B008  frozen
    limits: Mapping[str, float] | None = None,
    say: Say = print_line,
) -> list[Artifact]:
    """Write a run's artifacts, each proved to answer as the model does, and enter them in the manifest.

    Quantized ones are calibrated on examples that the run was trained on, and checked by their labels and
    their accuracy on those that it was validated on, within the limits of its recipe. In addition to the artifacts of
    a text classifier lies a `tokenizer.json`, proved to give the ids that it was trained on.

    Args:
        run: What `Run.load` or `train` gave.
        formats: Of `ALL_FORMATS` of `ktransfer.exporting.export_model`.
        validation: Readable examples to prove them on; `None` takes what the run was validated on.
        options: What the artifacts take and give beyond their formats.
        limits: Limits of quantized artifacts in place of the recipe's, as in `export_model`. Defaults to `None`.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.

    Returns:
        The artifacts written now.

    Raises:
        DataError: What the run was trained or validated on is wanted, and is not where it was.
        ExportError: A format cannot be written, or does not answer as the model does; or an option is for
            none of the formats.

    Example:

        ktransfer.export(Run.load("runs/flowers"), ["onnx", "onnx-int8"])
    """
    formats = check_formats(formats)
    options.check(formats, run.modality.task)
    warm_up(formats)
    quantized = [name for name in formats if get_format(name).is_quantized]
    facts = run.data
    calibrate = any(get_format(name).needs_calibration for name in quantized)
    in_graph = any(get_format(name).family.tokenizes for name in formats)
    needs_all = calibrate or in_graph
    splits = read_splits(facts, run.recipe.seed)[0] if validation is None or needs_all else None
    if validation is None and splits is not None:
        validation = readable_split(splits.require_validation(), facts)
    validation = cast("Examples", validation)  # given, or read
    found, lines = run.modality.write_sidecars(run.preprocessing, artifacts_folder(run.path), validation)
    if found:
        run.update(**found)
    for line in lines:
        say(line)
    pieces = run.preprocessing.pieces
    exact, evaluated = {"examples": list(pieces(evenly(validation, PARITY_EXAMPLES)).inputs)}, {}
    if quantized:
        chosen = pieces(evenly(validation, EVALUATION_EXAMPLES))
        evaluated = {"examples": list(chosen.inputs), "labels": run.preprocessing.row_labels(chosen)}
    if calibrate and splits is not None:
        evaluated["calibration"] = list(
            pieces(readable_split(evenly(splits.train, _CALIBRATED), facts)).inputs
        )
    shared: dict[str, Any] = {"options": options, "answered": {}}
    apart = {name for name in formats if get_format(name).family.adapters}
    adapters = pretrained_adapters(run, validation) if apart else None
    if in_graph and splits is not None:
        shared["compared"] = [
            content
            for split in (splits.train, splits.validation, splits.test)
            if split is not None
            for content in readable_split(split, facts).inputs
        ]
    return [
        _export(
            run, name, say, **shared, **evaluated | {"limits": dict(limits or label_limits(name, run.recipe))}
        )
        if name in quantized
        else _export(run, name, say, **shared, **exact | {"adapters": adapters if name in apart else None})
        for name in formats
    ]


def pretrained_adapters(run: Run, examples: Examples) -> Adapters:
    """The adapters of a run with the kernels that they were trained on, of which `model.keras` has sums.

    Args:
        run: Trained with adapters.
        examples: Readable ones, of its classes.

    Raises:
        ExportError: It has no adapters.
        BackboneError: The backbone that it was trained on is not where it was.
        RunError: It is another one by now.

    Example:

        pretrained_adapters(Run.load("runs/reviews"), validation).kernels[0].shape
    """
    path = run.path / FILE
    if not path.is_file():
        raise ExportError(
            f"Expected a run with adapters for a format that has them apart, got {run.path} without {FILE}. Train it "
            "with --adapter lora, or export another format."
        )
    given = read_arguments(run.manifest)
    options: dict[str, Any] = {
        name: given[name] for name in ("image_size", "scaling", "sequence_length", "client", "fast_depthwise")
    }
    network = run.modality.network(
        given["backbone"],
        examples,
        run.recipe,
        **options,
    )
    return with_kernels(read_file(path), network.model, str(path))


def fitted_temperature(run: Run) -> float:
    """The temperature that was fitted on what a run was validated on.

    Raises:
        RunError: None was.

    Example:

        ExportOptions(temperature=fitted_temperature(Run.load("runs/flowers")))
    """
    return check_temperature(run.manifest, run.path)


def _export(run: Run, name: str, say: Say, **options: Any) -> Artifact:
    artifact = export_model(
        run.model,
        artifacts_folder(run.path),
        name,
        class_names=run.outputs,
        preprocessing=run.preprocessing,
        task=run.task,
        decision=run.decision,
        on_progress=Progress(say, name),
        extra={"preprocessing": run.manifest["preprocessing"]},
        **options,
    )
    others = [entry for entry in run.manifest.get("artifacts", []) if entry["format"] != name]
    run.update(artifacts=[*others, artifact.to_dict()])
    parity, labels = artifact.parity, f"{artifact.parity.label_agreement:.1%}"
    if artifact.raw_parity is not None:
        labels += f" ({run.modality.raw} {artifact.raw_parity.label_agreement:.1%})"
    if artifact.files_read is not None:
        labels += f" (pixels of files within {artifact.files_read['max_pixel_delta']:g})"
    if parity.accuracy is not None:
        labels += f", {run.task.row_task.hit_title} {parity.accuracy:.1%} (the model's {parity.accuracy_of_model:.1%})"
    asked = chosen_options(artifact)
    if artifact.min_runtime is not None and artifact.min_runtime["version"]:
        asked += f", {artifact.min_runtime['name']} {artifact.min_runtime['version']} or later"
    flex = f", needs Flex for {', '.join(artifact.flex_ops)}" if artifact.flex_ops else ""
    say(
        f"{name:<15}{artifact.size_bytes / 2**20:6.1f} MiB  batch {artifact.batch}{asked}{flex}, "
        f"largest difference {parity.max_abs_delta:.1e}{parity.unit}, {parity.agreement_title} {labels} "
        f"on {parity.examples} {run.noun}  {run.path / artifact.path}"
    )
    return artifact


def chosen_options(artifact: Artifact) -> str:
    """The export options of an artifact that differ from the defaults, as the end of a line.

    Example:

        chosen_options(artifact)   # ", images in uint8, temperature 1.50"
    """
    [given, *_] = artifact.signature["inputs"]
    found = ["images in uint8"] if given["dtype"] == "uint8" else []
    if len(given["shape"]) == 4 and None in given["shape"][1:]:
        found.append("of any size")
    if artifact.temperature != 1:
        found.append(f"temperature {artifact.temperature:.2f}")
    if artifact.client is not None:
        facts = artifact.client
        found.append(f"for {facts['name']}")
        if "compared_texts" in facts:
            same = facts["compared_texts"] - facts["differing_texts"]
            found[-1] += f" (same ids of {same} of {facts['compared_texts']} texts)"
    return "".join(f", {each}" for each in found)
