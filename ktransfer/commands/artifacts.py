"""The exported artifacts of a run, and the real examples to evaluate them on."""

from ktransfer.commands.splits import read_splits, readable_split
from ktransfer.data.examples import Examples
from ktransfer.exporting.artifact import Artifact
from ktransfer.runs.exported import exported
from ktransfer.runs.run import Run


def artifacts(run: Run) -> list[Artifact]:
    """The artifacts that the manifest of a run names.

    Raises:
        RunError: There is none, or what the manifest says of one is not all there or leads out of the run.

    Example:

        [artifact.format for artifact in artifacts(Run.load("runs/flowers"))]   # ["savedmodel", ...]
    """
    return exported(run.path, run.manifest)


def validation_examples(run: Run) -> Examples:
    """The validation examples of a run, read from their original place.

    Raises:
        DataError: It does not, or holds what cannot be read.

    Example:

        validation_examples(Run.load("runs/flowers")).counts()
    """
    facts = run.data
    return readable_split(read_splits(facts, run.recipe.seed)[0].require_validation(), facts)


def fixed_axes(artifact: Artifact) -> dict[str, int]:
    """The axes of fixed size of an artifact, by name, for `measure_parity`.

    Example:

        fixed_axes(artifact)   # {"batch": 1}
    """
    axes = {"batch": artifact.batch, "sequence": artifact.sequence}
    return {name: size for name, size in axes.items() if isinstance(size, int)}
