"""Read `manifest.json` of a run folder as untrusted input."""

from pathlib import Path
from typing import Any

from ktransfer.core.modality import modalities, modality_of_task
from ktransfer.core.task import SINGLE_LABEL, task_names
from ktransfer.errors import RunError, listed
from ktransfer.security.safe_io import is_line, read_json, require_contained

MANIFEST = "manifest.json"
FORMAT = 2
_FIRST = 1  # its `task` says what is now `modality`, and every run is of single-label classification
_PARTIAL = ".manifest.partial.json"  # what is left where `Run.create` was killed
_OLD_ARTIFACTS = "artefacts"  # key and folder name in runs before 0.2.0
_NEEDED = {"labels": list, "preprocessing": dict, "recipe": dict, "status": str}
_MORE = {
    **dict.fromkeys(
        (
            "data",
            "backbone",
            "tokenizer",
            "head",
            "metrics",
            "versions",
            "reproduce",
            "distillation",
            "pruning",
            "shrink",
            "adapter",
        ),
        dict,
    ),
    **dict.fromkeys(("artifacts", "formats", "trouble"), list),
    **{
        "task": str,
        "modality": str,
        "metric": str,
        "fitted": dict,
        "created": str,
        "machine": dict,
        "temperature": float | int | None,
        "biases": list | None,
    },
}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a run and check the type of each field.

    Args:
        folder: The run folder.

    Raises:
        RunError: There is none, it is of a newer ktransfer, damaged, or a link in the folder leads out of it.

    Example:

        read_manifest(Path("runs/flowers"))["labels"]   # ["daisy", "rose"]
    """
    try:
        manifest = read_json(folder / MANIFEST)
    except FileNotFoundError as error:
        raise RunError(
            f"Expected a run folder, one that `ktransfer train` wrote, got {folder}, which has no "
            f"{MANIFEST}. Check the path."
        ) from error
    except (OSError, ValueError) as error:
        raise RunError(f"Expected a readable {MANIFEST} in {folder}, got {error}. Train again.") from error
    if not isinstance(manifest, dict) or manifest.get("format") not in (_FIRST, FORMAT):
        found = manifest.get("format") if isinstance(manifest, dict) else manifest
        raise RunError(
            f"Expected a manifest of format {FORMAT} in {folder}, got {found!r:.80}. Use the ktransfer that "
            "wrote it."
        )
    if _OLD_ARTIFACTS in manifest:
        manifest.setdefault("artifacts", manifest.pop(_OLD_ARTIFACTS))
    if missing := [key for key in _NEEDED if key not in manifest]:
        raise RunError(f"Expected {listed(missing)} in {folder / MANIFEST}, got a damaged run. Train again.")
    for key, kind in (_NEEDED | _MORE).items():
        if key in manifest and not isinstance(manifest[key], kind):
            raise _damaged(folder, f"{key} as {getattr(kind, '__name__', kind)}", manifest[key])
    labels = manifest["labels"]
    if wrong := [label for label in labels if not is_line(label)]:
        raise _damaged(folder, "labels of one line, without control characters,", wrong[0])
    if not labels or len(set(labels)) != len(labels):
        raise _damaged(folder, "labels, each once,", labels)
    if manifest["format"] == _FIRST:
        tasks = [each.task for each in modalities()]
        if manifest.get("task", tasks[0]) not in tasks:
            raise _damaged(folder, f"a task of {' and '.join(tasks)}", manifest["task"])
        name = modality_of_task(manifest.get("task")).name
        manifest |= {"format": FORMAT, "modality": name, "task": SINGLE_LABEL}
    for key, known in (("modality", [each.name for each in modalities()]), ("task", task_names())):
        if manifest.setdefault(key, known[0]) not in known:
            raise _damaged(folder, f"a {key} of {' and '.join(known)}", manifest[key])
    try:
        require_contained(folder)
    except ValueError as error:
        raise RunError(
            f"Expected a run folder without ways out, got {folder}, in which {error}. Remove it."
        ) from error
    return manifest


def artifacts_folder(folder: Path) -> Path:
    """The folder of a run's exported files: `artifacts`, or `artefacts` where a version before 0.2.0 made it.

    Args:
        folder: The run folder.

    Example:
        >>> artifacts_folder(Path("runs/flowers")).name
        'artifacts'
    """
    old = folder / _OLD_ARTIFACTS
    return old if old.is_dir() else folder / "artifacts"


def is_run(path: Path) -> bool:
    """Whether a run wrote the manifest there: web pages and apps have a `manifest.json` as well."""
    try:
        manifest = read_json(path / MANIFEST)
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"format", "created", "versions"} <= manifest.keys()


def check_free(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise `RunError` if a run cannot be made at a path.

    Args:
        path: The run folder to make.
        overwrite: Whether a run that is there may be replaced. Defaults to `False`.

    Raises:
        RunError: There is something there already, unless it is a run and `overwrite` is set.

    Example:

        check_free("runs/flowers")
    """
    path = Path(path)
    if not path.exists() or (path.is_dir() and {p.name for p in path.iterdir()} <= {_PARTIAL}):
        return
    if not is_run(path):
        raise RunError(
            f"Expected a free path for the run, got {path}, which holds other files. Choose another."
        )
    if not overwrite:
        raise RunError(
            f"Expected a free path for the run, got {path}, which holds a run. Choose another, pass --resume "
            "to go on with it, or --overwrite to lose it."
        )


def _damaged(folder: Path, expected: str, received: object) -> RunError:
    return RunError(f"Expected {folder / MANIFEST} to have {expected}, got {received!r:.80}. Train again.")
