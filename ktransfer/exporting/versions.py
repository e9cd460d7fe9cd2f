"""Versions of runtimes."""

from ktransfer.errors import ExportError


def version_number(text: str) -> tuple[int, ...]:
    """A version such as `2.9` as numbers.

    Raises:
        ExportError: It is none.

    Example:
        >>> version_number("2.9")
        (2, 9)
    """
    parts = text.split(".")
    if not 2 <= len(parts) <= 3 or not all(part.isascii() and part.isdecimal() for part in parts):
        raise ExportError(
            f"Expected a version of TensorFlow Lite for --min-runtime (min_runtime), got {text!r:.40}. Pass one "
            "such as 2.9."
        )
    return tuple(map(int, parts))
