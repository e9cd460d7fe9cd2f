"""The names of the export formats, and their spellings."""

from collections.abc import Iterable

from ktransfer.errors import ExportError, did_you_mean, letters
from ktransfer.exporting.registry import format_specs

ALL_FORMATS = tuple(format_specs())
# In float32, written unless others are asked for.
FORMATS = tuple(
    name for name, spec in format_specs().items() if spec.family.default and not spec.is_quantized
)
# In float32, written only when asked for.
FURTHER = tuple(name for name, spec in format_specs().items() if not spec.family.default)
QUANTIZED = tuple(name for name, spec in format_specs().items() if spec.is_quantized)


def format_names(formats: str | Iterable[str]) -> tuple[str, ...]:
    """Names of formats as `ALL_FORMATS` has them, each once.

    Case and separators do not count: `ONNX`, `TFLite-INT8`, `onnx_int8` and `SavedModel` are formats.

    Args:
        formats: One name, or several in any order.

    Returns:
        The names, in the order of their first use.

    Raises:
        ExportError: One is none of them; the message suggests the closest.

    Example:
        >>> format_names(["ONNX", "tflite_int8", "onnx"])
        ('onnx', 'tflite-int8')
    """
    known = {letters(name): name for name in ALL_FORMATS}
    found = []
    for given in [formats] if isinstance(formats, str) else formats:
        name = known.get(letters(str(given)))
        if name is None:
            pieces = str(given).replace(",", " ").split()
            several = len(pieces) > 1 and all(letters(piece) in known for piece in pieces)
            hint = "Name each by a --format of its own. " if several else did_you_mean(given, ALL_FORMATS)
            raise ExportError(
                f"Expected a format out of {', '.join(ALL_FORMATS)}, got {given!r}. "
                f"{hint or 'Choose one of them.'}".rstrip()
            )
        found.append(name)
    return tuple(dict.fromkeys(found))
