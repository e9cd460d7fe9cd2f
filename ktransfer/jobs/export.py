"""`ktransfer export`: a run's model as verified artefacts."""

from collections.abc import Sequence

from ktransfer.data.examples import Examples
from ktransfer.data.task import TEXTS
from ktransfer.exporters import FORMATS, Artefact, check_formats, export_model, label_limits
from ktransfer.exporters.tokenizer_json import write_tokenizer
from ktransfer.jobs.parts import (
    JUDGED_EXAMPLES,
    PARITY_EXAMPLES,
    TOKENIZED_TEXTS,
    Say,
    evenly,
    read_splits,
    readable_part,
)
from ktransfer.run import Run

_CALIBRATED = 100  # training examples


def export(
    run: Run, formats: Sequence[str] = FORMATS, *, validation: Examples | None = None, say: Say = print
) -> list[Artefact]:
    """Write a run's artefacts, each proved to answer as the model does, and enter them in the manifest.

    Quantized ones are calibrated on examples that the run was trained on, and judged by their labels and
    their accuracy on those that it was validated on, within the limits of its recipe. Beside the artefacts of
    a text classifier lies a `tokenizer.json`, proved to give the ids that it was trained on.

    Args:
        run: What `Run.load` or `train` gave.
        formats: Of `ALL_FORMATS` of `ktransfer.exporters`.
        validation: Readable examples to prove them on; `None` takes what the run was validated on.
        say: Where lines for a person go.

    Returns:
        The artefacts written now.

    Raises:
        DataError: What the run was trained or validated on is wanted, and is not where it was.
        ExportError: A format cannot be written, or does not answer as the model does.

    Example:

        ktransfer.export(Run.load("runs/flowers"), ["onnx", "onnx-int8"])
    """
    check_formats(formats)
    quantized = [name for name in formats if name not in FORMATS]
    facts, splits = run.manifest["data"], None
    calibrate = any(name.endswith("int8") for name in quantized)
    if validation is None or calibrate:
        splits = read_splits(facts, run.recipe.seed)[0]
    if validation is None:
        validation = readable_part(splits.validation, facts)
    if run.task == TEXTS:
        texts = evenly(validation, TOKENIZED_TEXTS).inputs
        found = write_tokenizer(run.preprocessing, run.path / "artefacts", texts=texts)
        run.update(tokenizer={**found, "path": f"artefacts/{found['path']}"})
        tied = f", {found['tied_texts']} of them as probable" if found["tied_texts"] else ""
        path = run.path / run.manifest["tokenizer"]["path"]
        say(f"tokenizer  ids agree on {found['compared_texts']} texts{tied}  {path}")
    exact, judged = {"examples": _as_model_takes(run, evenly(validation, PARITY_EXAMPLES))}, {}
    if quantized:
        chosen = evenly(validation, JUDGED_EXAMPLES)
        judged = {"examples": _as_model_takes(run, chosen), "labels": chosen.labels}
    if calibrate:
        train = readable_part(evenly(splits.train, _CALIBRATED), facts)
        judged["calibration"] = _as_model_takes(run, train)
    return [
        _export(run, name, say, **judged | {"limits": label_limits(name, run.recipe)})
        if name in quantized
        else _export(run, name, say, **exact)
        for name in formats
    ]


def _export(run, name, say, **options):
    artefact = export_model(
        run.model,
        run.path / "artefacts",
        name,
        class_names=run.labels,
        preprocessing=run.preprocessing if run.task == TEXTS else None,
        extra={"preprocessing": run.manifest["preprocessing"]},
        **options,
    )
    others = [entry for entry in run.manifest.get("artefacts", []) if entry["format"] != name]
    run.update(artefacts=[*others, artefact.to_dict()])
    parity, accuracy = artefact.parity, ""
    if parity.accuracy is not None:
        accuracy = f", accuracy {parity.accuracy:.1%} (the model's {parity.accuracy_of_model:.1%})"
    say(
        f"{name:<15}{artefact.size_bytes / 2**20:6.1f} MiB  batch {artefact.batch}, "
        f"largest difference {parity.max_abs_delta:.1e}, labels agree {parity.label_agreement:.1%}{accuracy} "
        f"on {parity.examples} {'texts' if run.task == TEXTS else 'images'}  {run.path / artefact.path}"
    )
    return artefact


def _as_model_takes(run, examples):
    return list(examples.inputs) if run.task == TEXTS else run.preprocessing(examples.inputs)
