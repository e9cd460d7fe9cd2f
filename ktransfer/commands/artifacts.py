"""The exported artifacts of a run, and the real examples to evaluate them on."""

from ktransfer.commands.splits import read_splits, readable_split
from ktransfer.data.examples import Examples
from ktransfer.errors import RunError
from ktransfer.exporting.artifact import Artifact
from ktransfer.runs.run import Run
from ktransfer.security.safe_io import inside


def artifacts(run: Run) -> list[Artifact]:
    """The artifacts that the manifest of a run names.

    Raises:
        RunError: There is none, or what the manifest says of one is not all there or leads out of the run.

    Example:

        [artifact.format for artifact in artifacts(Run.load("runs/flowers"))]   # ["savedmodel", ...]
    """
    entries = run.manifest.get("artifacts", [])
    if not entries:
        raise RunError(
            f"Expected a run with artifacts, got {run.path}, which has none. Write them with `ktransfer "
            f"export {run.path}`, or train first."
        )
    try:
        found = [Artifact.from_dict(entry) for entry in entries]
        for artifact in found:
            inside(run.path, artifact.path)
        for facts in run.modality.written_sidecars(run.manifest):
            inside(run.path, facts["path"])
            if not isinstance(facts["sha256"], str) or not isinstance(facts["size_bytes"], int):
                raise ValueError(f"{facts!r:.80} for a file next to artifacts")
        return found
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise RunError(
            f"Expected artifacts as this ktransfer describes them in {run.path / 'manifest.json'}, got "
            f"{type(error).__name__}: {error}. Export them again, or use the ktransfer that wrote them."
        ) from error


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
