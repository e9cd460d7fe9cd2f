"""The oldest TensorFlow Lite that has the operators of a file, each in its version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from ktransfer.errors import ExportError
from ktransfer.exporting.versions import version_number

_KEY = "min_runtime_version"  # of the file's metadata, which the converter writes
_NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}


def min_runtime(path: Path) -> dict[str, Any]:
    """The least runtime of a file, as its converter wrote it, and the operators of later versions.

    Args:
        path: The file.

    Returns:
        `name`; `version`, `None` where the converter knew none; `operators`, the versions of those above 1.

    Example:

        min_runtime(Path("model.tflite"))   # {"name": "TensorFlow Lite", "version": "1.15.0", "operators": {}}
    """
    return min_runtime_of(path.read_bytes())


def min_runtime_of(content: bytes) -> dict[str, Any]:
    """`min_runtime` of the bytes of a file.

    Example:

        min_runtime_of(Path("model.tflite").read_bytes())["version"]   # "1.15.0"
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    version = ""
    for entry in model.metadata or []:
        if entry.name == _KEY.encode():
            data = model.buffers[entry.buffer].data
            version = "" if data is None else bytes(data).rstrip(b"\0").decode("ascii", "replace")
    operators: dict[str, int] = {}
    for code in model.operatorCodes:
        name = _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if code.version > 1:
            operators[name] = max(code.version, operators.get(name, 0))
    return {
        "name": "TensorFlow Lite",
        "version": version or None,
        "operators": dict(sorted(operators.items())),
    }


def runs_on(facts: Mapping[str, Any], wanted: str) -> bool:
    """Whether a runtime of the version `wanted` has the operators of a file, by what `min_runtime` returned.

    Example:
        >>> runs_on({"name": "TensorFlow Lite", "version": "1.15.0", "operators": {}}, "2.9")
        True
    """
    version = facts["version"]
    return version is not None and version_number(version) <= version_number(wanted)


def check_min_runtime(facts: Mapping[str, Any], wanted: str, format: str) -> None:
    """Raise `ExportError` unless a runtime of this version has the operators of a file.

    Args:
        facts: What `min_runtime` returned.
        wanted: The version that phones have, such as `"2.9"`.
        format: The name of the file's format, for the error.

    Example:

        check_min_runtime({"name": "TensorFlow Lite", "version": "1.15.0", "operators": {}}, "2.9", "tflite")
    """
    version = facts["version"]
    if runs_on(facts, wanted):
        return
    later = (
        ", ".join(f"{name} {number}" for name, number in facts["operators"].items()) or "none above version 1"
    )
    raise ExportError(
        f"Expected operators of TensorFlow Lite {wanted} with --min-runtime (min_runtime), got {format}, which needs "
        f"{version or 'a version that its converter does not know'}; in later versions it has {later}. Export another "
        "format, such as tflite or tflite-float16."
    )
