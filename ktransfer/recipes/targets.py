"""Targets for the size and the latency of an exported file, as they are written on the command line."""

import re

from ktransfer.errors import RecipeError

_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "": 1.0}
_BYTES = {
    **{"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30},
}


def parse_latency(text: str | float) -> float:
    """Milliseconds of a latency such as `"5ms"`, `"0.01s"` or `"800us"`; a number alone is of milliseconds.

    Raises:
        RecipeError: It is none, or not above 0.

    Example:
        >>> parse_latency("0.5 ms"), parse_latency("0.01s")
        (0.5, 10.0)
    """
    found = _quantity(text, _MILLISECONDS)
    if found is None:
        raise RecipeError(f"Expected a latency such as 5ms, 0.01s or 800us, got {text!r}. Pass one above 0.")
    return found


def parse_size(text: str | float) -> int:
    """Bytes of a size such as `"1.5MB"` (1,500,000), `"800kB"` or `"1MiB"`; a number alone is of bytes.

    Raises:
        RecipeError: It is none, or less than a byte.

    Example:
        >>> parse_size("1.5MB"), parse_size("1 MiB")
        (1500000, 1048576)
    """
    found = _quantity(text, _BYTES)
    if found is None or found < 1:
        raise RecipeError(f"Expected a size such as 1.5MB, 800kB or 1MiB, got {text!r}. Pass one above 0.")
    return int(found)


def _quantity(text: str | float, units: dict[str, float] | dict[str, int]) -> float | None:
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", str(text).lower())
    if found is None or found[2] not in units:
        return None
    value = float(found[1]) * units[found[2]]
    return value if 0 < value < float("inf") else None
