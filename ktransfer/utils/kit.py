"""The deployment kit: the small programs of `export/`, which need no ktransfer."""

from collections.abc import Iterator
from pathlib import Path

from ktransfer.errors import ExportError

_PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel it lies in the package, in a checkout next to it.
_PLACES = (_PACKAGE / "kit", _PACKAGE.parent / "export")
_LEFT_OUT = {"__pycache__", "node_modules"}


def kit_folder() -> Path:
    """The folder of the deployment kit.

    Raises:
        ExportError: It is not installed.

    Example:
        >>> (kit_folder() / "onnx" / "predict.py").is_file()
        True
    """
    for place in _PLACES:
        if (place / "README.md").is_file():
            return place
    raise ExportError(
        f"Expected the programs of the deployment kit in {' or '.join(map(str, _PLACES))}, got neither. Install "
        "ktransfer again from its wheel."
    )


def program_folder(name: str) -> Path | None:
    """The folder of a program of the kit; `None` where it has none of the name.

    Args:
        name: Of a family of formats, such as `"onnx"`.

    Raises:
        ExportError: The kit is not installed.

    Example:
        >>> program_folder("onnx").name
        'onnx'
    """
    folder = kit_folder() / name
    return folder if folder.is_dir() else None


def kit_files(folder: Path) -> Iterator[Path]:
    """The files of a program of the kit, sorted, without what running and testing it has left there.

    Args:
        folder: From `program_folder`.

    Example:
        >>> [path.name for path in kit_files(program_folder("savedmodel"))]
        ['README.md', 'entities.py', 'predict.py', 'requirements.txt']
    """
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not _LEFT_OUT & {*relative.parts} and not path.name.startswith("."):
            yield path
