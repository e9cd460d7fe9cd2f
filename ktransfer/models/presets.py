"""The presets of keras-hub: their list, and the object that a name stands for."""

from pathlib import Path
from typing import Any

from ktransfer.core.modality import modalities, modality
from ktransfer.errors import BackboneError
from ktransfer.security.keras_archive import check_preset


def list_backbones(task: str = "image", *, max_params: int | None = None) -> list[dict[str, Any]]:
    """The presets that keras-hub's registry names for a task, smallest first; needs no network.

    Args:
        task: `"image"` or `"text"`.
        max_params: Leave out what has more parameters.

    Returns:
        Dicts of `name`, `family`, `parameters` and `description`.

    Raises:
        BackboneError: The task is unknown.

    Example:

        [row["name"] for row in list_backbones(max_params=3_000_000)]
    """
    known = [each.name for each in modalities()]
    if task not in known:
        names = " or ".join(f'"{name}"' for name in known)
        raise BackboneError(f"Expected a task out of {names}, got {task!r}. Pass one of them.")
    rows = [
        {
            "name": name,
            "family": entry["metadata"]["path"],
            "parameters": entry["metadata"]["params"],
            "description": entry["metadata"]["description"],
        }
        for name, entry in modality(task).published_backbones().items()
    ]
    rows = [row for row in rows if max_params is None or row["parameters"] <= max_params]
    return sorted(rows, key=lambda row: (row["parameters"], row["name"]))


def load_part(kind: Any, preset: str, what: str, **options: Any) -> Any:
    """`from_preset`, whose failures are of many kinds: of the network, the hub's client, the files, Keras."""
    try:
        if (folder := Path(preset)).is_dir():
            check_preset(folder)
        found = kind.from_preset(preset, **options)
        if not isinstance(found, kind):  # Keras takes a configuration that names no class for a dictionary
            raise TypeError(f"a {type(found).__name__}")
        return found
    except Exception as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise BackboneError(
            f"Expected {what} in the preset {preset!r}, got {type(error).__name__}: {reason}. "
            "Check the name, the network, or the files of a local folder."
        ) from error
