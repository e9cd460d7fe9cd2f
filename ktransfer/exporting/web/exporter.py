"""A folder to host: one page that answers in a browser."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransfer.errors import ExportError
from ktransfer.exporting.onnx.exporter import write as write_onnx
from ktransfer.exporting.tflite.exporter import write as write_tflite
from ktransfer.exporting.web.packages import (
    LITERT,
    LITERT_UTILS,
    RUNTIME,
    Package,
    copy_packages,
    find_package,
    found_versions,
    wanted_versions,
)
from ktransfer.utils.files import write_json
from ktransfer.utils.kit import kit_folder

if TYPE_CHECKING:
    from ktransfer.exporting.serving import Serving

ONNX, TFLITE, FACTS = "model.onnx", "model.tflite", "facts.json"
_PAGE = ("index.html", "classifier.js")
_LOG = logging.getLogger(__name__)


def write(
    serving: Serving, path: Path, *, fixed: dict[str, int], extra: Mapping[str, Any] | None = None
) -> None:
    """Write the page, the model, what they are to know, and what they load of npm.

    Images are answered by LiteRT, which is twice as fast in a browser, where TFLite can hold the model, else by ONNX
    Runtime; texts by ONNX Runtime, which takes any length.

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
    runtimes = (LITERT, LITERT_UTILS) if LITERT in packages else (RUNTIME,)
    found = _found((*runtimes, *(each for each in packages if each not in runtimes)))
    model = TFLITE if LITERT in packages else ONNX
    try:
        if model == TFLITE:
            write_tflite(serving, path / TFLITE, fixed=fixed, extra=extra)
    except ExportError as error:
        _LOG.warning("The page has ONNX Runtime, which is slower: TFLite cannot hold the model. %s", error)
        model, found = ONNX, _found((RUNTIME,))
    if model == ONNX:
        write_onnx(serving, path / ONNX, fixed=fixed, extra=extra)
    inputs = [given.describe(fixed) for given in serving.inputs]
    described = {"model": model, "inputs": inputs, "packages": found_versions(found)}
    write_json(path / FACTS, {"labels": serving.class_names, **(extra or {}), **described, **facts})
    for name in _PAGE:
        shutil.copyfile(kit_folder() / "web" / name, path / name)
    (path / "runtime").mkdir()
    copy_packages(found, path / "runtime")


def _found(packages: Sequence[Package]) -> list[tuple[Package, Path]]:
    """Packages and their folders; a warning where one has another version than was tested."""
    found = [(package, find_package(package)) for package in packages]
    for name, version in found_versions(found).items():
        if version != wanted_versions()[name]:
            _LOG.warning(
                "The page was tested with %s %s, and gets %s.", name, wanted_versions()[name], version
            )
    return found
