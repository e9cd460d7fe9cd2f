"""`ktransfer export`: a run's model as verified artefacts."""

from collections.abc import Sequence

import numpy as np

from ktransfer.data.checks import require_readable
from ktransfer.exporters import FORMATS, Artefact, export_model
from ktransfer.jobs.parts import Say, list_splits, parity_images
from ktransfer.run import Run


def export(
    run: Run, formats: Sequence[str] = FORMATS, *, images: np.ndarray | None = None, say: Say = print
) -> list[Artefact]:
    """Write a run's artefacts, each proved to answer as the model does, and enter them in the manifest.

    Args:
        run: What `Run.load` or `train` gave.
        formats: Of `FORMATS`.
        images: float32 `(N, H, W, 3)` in 0-255 to prove it on; `None` takes validation images of the run.
        say: Where lines for a person go.

    Returns:
        The artefacts written now.

    Raises:
        ExportError: A format cannot be written, or does not answer as the model does.

    Example:

        ktransfer.export(Run.load("runs/flowers"), ["onnx"])
    """
    if images is None:
        facts = run.manifest["data"]
        validation = list_splits(facts, run.recipe.seed).validation
        validation = require_readable(validation, skip_corrupt=facts["skip_corrupt"])
        images = parity_images(validation, run)
    written = []
    for name in formats:
        artefact = export_model(
            run.model,
            run.path / "artefacts",
            name,
            class_names=run.labels,
            images=images,
            extra={"preprocessing": run.manifest["preprocessing"]},
        )
        others = [entry for entry in run.manifest.get("artefacts", []) if entry["format"] != name]
        run.update(artefacts=[*others, artefact.to_dict()])
        written.append(artefact)
        parity = artefact.parity
        say(
            f"{name:<11}{artefact.size_bytes / 2**20:6.1f} MiB  batch {artefact.batch}, "
            f"largest difference {parity.max_abs_delta:.1e}, labels agree {parity.label_agreement:.1%} "
            f"on {parity.images} images  {run.path / artefact.path}"
        )
    return written
