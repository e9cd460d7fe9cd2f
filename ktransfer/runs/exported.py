"""The artifacts that the manifest of a run names, validated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ktransfer.core.modality import modality_of_manifest
from ktransfer.errors import RunError
from ktransfer.exporting.artifact import Artifact
from ktransfer.runs.manifest import MANIFEST
from ktransfer.security.safe_io import inside


def exported(folder: Path, manifest: Mapping[str, Any]) -> list[Artifact]:
    """The artifacts that a manifest names.

    Args:
        folder: The run folder.
        manifest: From `read_manifest`.

    Raises:
        RunError: There is none, or what the manifest says of one is not all there or leads out of the run.

    Example:

        [artifact.format for artifact in exported(Path("runs/flowers"), manifest)]   # ["savedmodel", ...]
    """
    entries = manifest.get("artifacts", [])
    if not entries:
        raise RunError(
            f"Expected a run with artifacts, got {folder}, which has none. Write them with `ktransfer "
            f"export {folder}`, or train first."
        )
    try:
        found = [Artifact.from_dict(entry) for entry in entries]
        for artifact in found:
            inside(folder, artifact.path)
        for facts in modality_of_manifest(manifest).written_sidecars(manifest):
            inside(folder, facts["path"])
            if not isinstance(facts["sha256"], str) or not isinstance(facts["size_bytes"], int):
                raise ValueError(f"{facts!r:.80} for a file next to artifacts")
        return found
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise RunError(
            f"Expected artifacts as this ktransfer describes them in {folder / MANIFEST}, got "
            f"{type(error).__name__}: {error}. Export them again, or use the ktransfer that wrote them."
        ) from error
