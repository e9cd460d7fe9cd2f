"""Files written whole or not at all."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike):
    """Yield a temporary path beside `path` to write to; it takes the place of `path` when all went well.

    Its ending is that of `path`, for libraries that choose a format by it.

    Example:

        with replacing("labels.txt") as partial:
            partial.write_text("daisy")
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        partial.unlink(missing_ok=True)  # a link of this name would be written through
        yield partial
        os.replace(partial, path)
    except OSError as error:
        # A full disk names no file, and nobody knows the temporary one.
        if error.errno and str(error.filename) in ("None", str(partial)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # what went wrong is said above
            partial.unlink()


def cache_folder() -> Path:
    """Where what can be made again is kept: `KTRANSFER_CACHE`, or `~/.cache/ktransfer`."""
    return Path(os.environ.get("KTRANSFER_CACHE") or "~/.cache/ktransfer").expanduser()


def write_text(path: str | os.PathLike, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, values: Any) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    # A path that is not UTF-8 has halves of surrogate pairs; `\\udcff` is their escape in JSON as well.
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))
