"""Read untrusted input safely: bounded JSON, paths contained in their folder, text safe for a terminal.

What is wrong is a `ValueError` with the reason, as of `json`; the reader adds which file it was, and what
to do.
"""

import json
import os
import stat
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Any

MOST_JSON = 16 * 2**20  # bytes; a hundred thousand labels fit in
_DEEPEST = 64  # levels; what ktransfer and Keras write has some ten
# Of one text overridden in its direction by another; controls of line and terminal are of category Cc.
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def read_bytes(path: str | os.PathLike[str], *, most: int = MOST_JSON) -> bytes:
    """The content of a regular file of at most so many bytes; a pipe or device could go on for ever.

    Raises:
        ValueError: It is larger, or no regular file.
        OSError: It is not there, or cannot be read.

    Example:
        >>> read_bytes("labels.txt", most=2**20)  # doctest: +SKIP
        b'daisy'
    """
    # Opening a pipe without a writer would block.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("no regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most:,} bytes")
    return content


def parse_json(content: str | bytes) -> Any:
    """Strict JSON: each key once, at most 64 levels deep, in UTF-8.

    Raises:
        ValueError: It is anything else.

    Example:
        >>> parse_json('{"labels": ["daisy"]}')
        {'labels': ['daisy']}
    """
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    try:
        values = json.loads(text, object_pairs_hook=_each_once)
    except RecursionError as error:
        raise ValueError("too many levels") from error
    level, deeper = [values], 0
    while level:
        deeper += 1
        if deeper > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} levels")
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
    return values


def read_json(path: str | os.PathLike[str], *, most: int = MOST_JSON) -> Any:
    """`parse_json` of a file, within `read_bytes`.

    Example:
        >>> read_json("runs/flowers/manifest.json")["labels"]  # doctest: +SKIP
        ['daisy', 'rose']
    """
    return parse_json(read_bytes(path, most=most))


def inside(folder: str | os.PathLike[str], relative: str) -> Path:
    """The path of `relative` in `folder`, symbolic links followed.

    Raises:
        ValueError: It leads out of the folder, or to the folder itself, or is no path.

    Example:
        >>> inside("/runs/flowers", "artifacts/model.onnx").as_posix()
        '/runs/flowers/artifacts/model.onnx'
    """
    if not isinstance(relative, str) or not relative or "\0" in relative or "\\" in relative:
        raise ValueError(f"{relative!r} is no path with forward slashes")
    if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts:
        raise ValueError(f"{relative!r} leads out of the folder")
    path, root = Path(folder, relative), Path(folder).resolve()
    if root not in path.resolve().parents:
        raise ValueError(f"{relative!r} leads out of the folder")
    return path


def require_contained(folder: str | os.PathLike[str]) -> None:
    """Raise `ValueError` where a link in a folder leads out of it, or something is no file and no folder.

    What is written to such a link later, such as a history, would be written elsewhere.

    Example:
        >>> require_contained("runs/flowers")  # doctest: +SKIP
    """
    root = Path(folder).resolve()
    for parent, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode) and root not in path.resolve().parents:
                raise ValueError(f"{path.relative_to(root).as_posix()!r} is a link that leads out of it")
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                raise ValueError(f"{path.relative_to(root).as_posix()!r} is no file")


def is_line(text: Any) -> bool:
    """Whether it is a text of one line that a terminal, a file of lines and UTF-8 can have: a class' name.

    Example:
        >>> is_line("oxeye daisy"), is_line("\\x1b[2J"), is_line("")
        (True, False, False)
    """
    return isinstance(text, str) and bool(text) and visible(text) == text


def visible(text: str) -> str:
    """`text` on one line, with `\\x1b` and the like for what a terminal would obey.

    Example:
        >>> visible("rose\\x1b[2J")
        'rose\\\\x1b[2J'
    """
    return "".join(_escaped(character) if _obeyed(character) else character for character in text)


def _obeyed(character: str) -> bool:
    # Control, half of a surrogate pair, line and paragraph separator.
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _DIRECTIONS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key given twice")
    return values
