"""Resolve the name of a preset to an object of keras-hub."""

from pathlib import Path

from ktransfer.errors import BackboneError
from ktransfer.security.keras_archive import check_preset


def load_part(kind, preset, what, **options):
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
            f"{what.capitalize()} was expected in the preset {preset!r}. Received: {type(error).__name__}: "
            f"{reason}. Check the name, the network, or the files of a local folder."
        ) from error
