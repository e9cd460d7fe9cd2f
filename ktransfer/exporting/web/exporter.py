"""A folder to host: one page that answers in a browser."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransfer.errors import ExportError
from ktransfer.exporting.onnx.exporter import write as write_onnx
from ktransfer.exporting.web.packages import (
    RUNTIME,
    find_package,
    found_versions,
    wanted_versions,
)
from ktransfer.utils.files import write_json
from ktransfer.utils.kit import kit_folder

if TYPE_CHECKING:
    from ktransfer.exporting.serving import Serving

MODEL, FACTS = "model.onnx", "facts.json"
_PAGE = ("index.html", "classifier.js")
_LOG = logging.getLogger(__name__)


def write(
    serving: Serving, path: Path, *, fixed: dict[str, int], extra: Mapping[str, Any] | None = None
) -> None:
    """Write the page, the model, what they are to know, and what they load of npm.

    Args:
        serving: `Serving`.
        path: The folder to write.
        fixed: Sizes of axes by name; the others may have any size.
        extra: JSON-able facts, written to `facts.json` and into the model.

    Raises:
        ExportError: The page has no way to read or answer such examples, a package of npm is not there, or the model
            cannot be had as ONNX.

    Example:

        write(serving, Path("web"), fixed={})
        sorted(each.name for each in Path("web").iterdir())   # ["classifier.js", "facts.json", "index.html", ...]
    """
    if serving.task.per_token:
        raise ExportError(
            f"Expected a task that the page answers, got {serving.task.title}. Export onnx, and use the server of "
            "export/onnx_server."
        )
    shutil.rmtree(path, ignore_errors=True)  # of an attempt with other axes
    path.mkdir()
    facts, packages = serving.modality.web_facts(serving, path)
    found = [(package, find_package(package)) for package in (RUNTIME, *packages)]
    versions = found_versions(found)
    for name, version in versions.items():
        if version != wanted_versions()[name]:
            _LOG.warning(
                "The page was tested with %s %s, and gets %s.", name, wanted_versions()[name], version
            )
    write_onnx(serving, path / MODEL, fixed=fixed, extra=extra)
    inputs = [given.describe(fixed) for given in serving.inputs]
    described = {"labels": serving.class_names, **(extra or {}), "inputs": inputs, "packages": versions}
    write_json(path / FACTS, described | facts)
    for name in _PAGE:
        shutil.copyfile(kit_folder() / "web" / name, path / name)
    (path / "runtime").mkdir()
    for package, folder in found:
        for file in package.files:
            shutil.copyfile(folder / file, path / "runtime" / Path(file).name)
