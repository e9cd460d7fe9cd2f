"""What a run has exported, and the real examples to judge it on."""

from ktransfer.data.examples import Examples
from ktransfer.errors import RunError
from ktransfer.exporters.artefact import Artefact
from ktransfer.jobs.parts import read_splits, readable_part
from ktransfer.run import Run


def artefacts(run: Run) -> list[Artefact]:
    """The artefacts that the manifest of a run names.

    Raises:
        RunError: There is none, or what the manifest says of one is not all there.

    Example:

        [artefact.format for artefact in artefacts(Run.load("runs/flowers"))]   # ["savedmodel", ...]
    """
    entries = run.manifest.get("artefacts", [])
    if not entries:
        raise RunError(
            f"A run with artefacts was expected. Received: {run.path}, which has none. "
            f"Write them with `ktransfer export {run.path}`, or train first."
        )
    try:
        return [Artefact.from_dict(entry) for entry in entries]
    except (TypeError, AttributeError) as error:
        raise RunError(
            f"Artefacts as this ktransfer describes them were expected in {run.path / 'manifest.json'}. "
            f"Received: {error}. Export them again, or use the ktransfer that wrote them."
        ) from error


def validation_examples(run: Run) -> Examples:
    """What a run was validated on, where it still lies where it lay.

    Raises:
        DataError: It does not, or holds what cannot be read.

    Example:

        validation_examples(Run.load("runs/flowers")).counts()
    """
    facts = run.manifest["data"]
    return readable_part(read_splits(facts, run.recipe.seed)[0].validation, facts)


def fixed_axes(artefact: Artefact) -> dict[str, int]:
    """The axes of which an artefact takes but one size, by name, as `measure_parity` wants them.

    Example:

        fixed_axes(artefact)   # {"batch": 1}
    """
    axes = {"batch": artefact.batch, "sequence": artefact.sequence}
    return {name: size for name, size in axes.items() if isinstance(size, int)}
