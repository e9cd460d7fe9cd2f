"""`ktransfer export`: a run's model as verified artefacts."""

from collections.abc import Sequence

from ktransfer.data.checks import require_readable
from ktransfer.data.task import TEXTS
from ktransfer.exporters import FORMATS, Artefact, export_model
from ktransfer.exporters.tokenizer_json import write_tokenizer
from ktransfer.jobs.parts import Say, parity_inputs, read_splits
from ktransfer.run import Run


def export(
    run: Run, formats: Sequence[str] = FORMATS, *, inputs: Sequence[str] | None = None, say: Say = print
) -> list[Artefact]:
    """Write a run's artefacts, each proved to answer as the model does, and enter them in the manifest.

    Beside those of a text classifier lies a `tokenizer.json`, proved to give the ids that it was trained on.

    Args:
        run: What `Run.load` or `train` gave.
        formats: Of `FORMATS`.
        inputs: Image files or texts to prove it on; `None` takes some that the run was validated on.
        say: Where lines for a person go.

    Returns:
        The artefacts written now.

    Raises:
        ExportError: A format cannot be written, or does not answer as the model does.

    Example:

        ktransfer.export(Run.load("runs/flowers"), ["onnx"])
    """
    if inputs is None:
        facts = run.manifest["data"]
        validation = read_splits(facts, run.recipe.seed)[0].validation
        if run.task != TEXTS:
            validation = require_readable(validation, skip_corrupt=facts["skip_corrupt"])
        inputs = parity_inputs(validation)
    folder, options = run.path / "artefacts", {"examples": inputs, "preprocessing": run.preprocessing}
    if run.task == TEXTS:
        facts = write_tokenizer(run.preprocessing, folder, texts=inputs)
        run.update(tokenizer={**facts, "path": f"{folder.name}/{facts['path']}"})
        tied = f", {facts['tied_texts']} of them as probable" if facts["tied_texts"] else ""
        say(f"tokenizer  ids agree on {facts['compared_texts']} texts{tied}  {folder / facts['path']}")
    else:
        options = {"examples": run.preprocessing(inputs)}
    written = []
    for name in formats:
        artefact = export_model(
            run.model,
            folder,
            name,
            class_names=run.labels,
            extra={"preprocessing": run.manifest["preprocessing"]},
            **options,
        )
        others = [entry for entry in run.manifest.get("artefacts", []) if entry["format"] != name]
        run.update(artefacts=[*others, artefact.to_dict()])
        written.append(artefact)
        parity = artefact.parity
        say(
            f"{name:<11}{artefact.size_bytes / 2**20:6.1f} MiB  batch {artefact.batch}, "
            f"largest difference {parity.max_abs_delta:.1e}, labels agree {parity.label_agreement:.1%} "
            f"on {parity.examples} {'texts' if run.task == TEXTS else 'images'}  {run.path / artefact.path}"
        )
    return written
