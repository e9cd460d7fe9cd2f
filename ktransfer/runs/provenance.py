"""Provenance of a run: the arguments of `train`, as a command, and the machine."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from ktransfer.data.shards.storage import is_url
from ktransfer.errors import RunError
from ktransfer.exporting.export_model import FORMATS
from ktransfer.models.backbone_names import split_share
from ktransfer.utils.onednn import onednn_is_on

if TYPE_CHECKING:
    from ktransfer.core.typing import PathLike


RECIPE = "recipe.json"
# The arguments of `train` other than the recipe, their types in a manifest, and the option on the command line.
_ARGUMENTS: dict[str, tuple[Any, str | None]] = {
    "data": (str, None),
    "backbone": (str, "--backbone"),
    "validation": (str | None, "--validation"),
    "validation_fraction": (float | int, "--validation-split"),
    "test_fraction": (float | int | None, "--test-split"),
    "evaluate_test": (bool, "--no-test"),
    "data_dir": (str | None, "--data-dir"),
    "image_size": (int | list | None, "--image-size"),
    "scaling": (str | None, "--scaling"),
    "text_column": (str | None, "--text-column"),
    "text_columns": (str | None, "--text-columns"),
    "file_column": (str | None, "--file-column"),
    "label_column": (str | None, "--label-column"),
    "label_separator": (str | None, "--label-separator"),
    "task": (str | None, "--task"),
    "target_transform": (str | None, "--target-transform"),
    "group_column": (str | None, "--group-column"),
    "encoding": (str | None, "--encoding"),
    "sequence_length": (int | None, "--sequence-length"),
    "client": (str | None, "--client"),
    "random_weights": (bool, "--random-weights"),
    "fast_depthwise": (bool, "--no-fast-depthwise"),
    "skip_corrupt": (bool, "--skip-corrupt"),
    "exclude": (str | None, "--exclude"),
    "allow_leakage": (bool, "--allow-leakage"),
    "cache": (bool, "--no-cache"),
    "cache_dir": (str | None, "--cache-dir"),
    "formats": (list, "--format"),
}
# What manifests of the first runs do not have, and those were begun with.
_ADDED: dict[str, Any] = {
    **dict.fromkeys(
        (
            "text_columns",
            "file_column",
            "label_separator",
            "task",
            "target_transform",
            "group_column",
            "client",
        )
    ),
    **{"test_fraction": None, "evaluate_test": True},
}
_PATHS = ("data", "validation", "data_dir", "exclude", "cache_dir")


def arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `train` other than the recipe, as JSON values; paths are absolute.

    Args:
        given: The arguments of `train` by name; others are left out.

    Example:

        arguments({"data": "flowers", ...})["data"]   # "/home/me/flowers"
    """
    found: dict[str, Any] = _ADDED | {n: given[n] for n in _ARGUMENTS if n in given}
    found |= {name: absolute(found[name]) for name in _PATHS if found[name]}
    found["backbone"] = _named(found["backbone"])
    found["formats"] = list(found["formats"])
    return found | ({"image_size": list(given["image_size"])} if _is_pair(given["image_size"]) else {})


def read_arguments(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Read the result of `arguments` from the manifest of a run.

    Raises:
        RunError: They are not there, or of other types.
    """
    stored = manifest.get("reproduce", {}).get("arguments")
    found: dict[str, Any] = _ADDED | stored if isinstance(stored, dict) else {}
    for name, (kind, _) in _ARGUMENTS.items():
        if name not in found or not isinstance(found[name], kind):
            raise RunError(
                f"Expected what the run was begun with in its manifest, with {name}, got "
                f"{found.get(name)!r:.80}. Train again."
            )
    values = {name: found[name] for name in _ARGUMENTS}
    return values | ({"image_size": tuple(values["image_size"])} if _is_pair(values["image_size"]) else {})


def require_same(found: Mapping[str, Any], data: str | Path | None, backbone: str | None) -> None:
    """Raise `RunError` where a run is to go on with other data or another backbone than it was begun with."""
    asked = {"data": data and absolute(data), "backbone": backbone and _named(backbone)}
    for name, value in asked.items():
        if value and name in found and found[name] != value:
            raise RunError(
                f"Expected the {name} that the run was begun with, {found[name]}, got {value}. Leave it out, "
                "or choose another --out."
            )


def command(found: Mapping[str, Any], run: Path) -> str | None:
    """The command that trains the same again.

    Args:
        found: What `arguments` gave.
        run: The run folder, with its recipe in a file.

    Returns:
        A line for a shell; `None` where the images are not square, which no option says.

    Example:

        command(arguments(given), Path("runs/flowers"))   # "ktransfer train /home/me/flowers ..."
    """
    if _is_pair(found["image_size"]):
        return None
    words = ["ktransfer", "train", found["data"], "--recipe", str(run / RECIPE)]
    for name, (_, option) in _ARGUMENTS.items():
        value = found.get(name)
        if option is None or value is None or (name == "formats" and value == list(FORMATS)):
            continue
        if isinstance(value, bool):
            words += [option] * (value != option.startswith("--no-"))
        elif isinstance(value, list):
            words += [word for item in value for word in (option, item)] or ["--no-export"]
        else:
            words += [option, str(value)]
    return shlex.join([*words, "--out", "NEW"])


def machine() -> dict[str, Any]:
    """Description of the machine, as far as it can change the last bits of a result."""
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": ", ".join(keras.distribution.list_devices()),
        "onednn": onednn_is_on(),
    }


def absolute(data: str | os.PathLike[str]) -> str:
    """A path from the root; the name of a TensorFlow data set and a URL as they are."""
    as_it_is = str(data).startswith("tfds:") or is_url(str(data))
    return str(data) if as_it_is else str(Path(data).expanduser().resolve())


def _named(backbone: PathLike) -> str:
    """A preset's name or handle as it is, or the path of that name if it exists, which is then loaded."""
    name, share = split_share(backbone)
    found = absolute(name) if Path(name).exists() else name
    return found if share is None else f"{found}@{share:g}"


def _is_pair(size: Any) -> bool:
    return isinstance(size, list | tuple)
