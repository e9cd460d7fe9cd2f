"""Find the input files of `ktransfer predict` below folders, with notes on skipped ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ktransfer.data.examples import printable
from ktransfer.data.junk import junk_name
from ktransfer.errors import DataError, listed

if TYPE_CHECKING:
    from ktransfer.core.typing import PathLike


_NAMED = 3  # files


@dataclass(frozen=True)
class Inputs:
    """The inputs to predict, and the files that were skipped.

    Args:
        items: Paths of images, texts, or pairs of texts.
        notes: A line for each kind of file that was left out, with how many and the first names.

    Example:
        >>> find_images(["holiday"]).items  # doctest: +SKIP
        ('holiday/beach.jpg', 'holiday/day 2/boat.png')
    """

    items: tuple[Any, ...]
    notes: tuple[str, ...] = ()


def files_below(folder: str, suffixes: tuple[str, ...]) -> tuple[list[str], list[str], list[str]]:
    """Paths of the files below a folder: those with these suffixes, the others, and what is never data.

    What is never data (see `junk_name`) are files and whole folders that systems and programs leave.

    Raises:
        DataError: A folder cannot be listed.

    Example:
        >>> files_below("holiday", (".jpg",))  # doctest: +SKIP
        (['holiday/beach.jpg'], ['holiday/notes.txt'], ['holiday/Thumbs.db'])
    """
    found: list[str] = []
    others: list[str] = []
    junk: list[str] = []
    for path, is_junk in _files(folder):
        used = path.lower().endswith(suffixes)
        (junk if is_junk else found if used else others).append(path)
    return found, others, junk


def _files(folder: PathLike) -> Iterator[tuple[str, bool]]:
    """Every file below a folder, sorted, and whether it is never data; of such folders their own path."""
    seen = set()
    try:
        for root, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
            status = os.stat(root)
            if (status.st_dev, status.st_ino) in seen:  # a link that loops
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            skipped = {name for name in folders if junk_name(name, is_folder=True)}
            folders[:] = sorted(set(folders) - skipped)
            for name in sorted([*files, *skipped]):
                is_junk = name in skipped or junk_name(name, is_folder=False) is not None
                yield os.path.join(root, name), is_junk
    except OSError as error:
        raise DataError(
            f"Expected a folder that can be listed, got {printable(str(error.filename))} ({error.strerror}). "
            "Change its permissions, or remove it."
        ) from error


def _raise(error: OSError) -> NoReturn:
    raise error


def left_out(folder: str, paths: Sequence[str], which: str) -> list[str]:
    """A line on files of a folder that are left out, with the first of them; none where there are none.

    Example:
        >>> left_out("holiday", ["holiday/notes.txt"], "not images")
        ['skipped    1 file in holiday (not images): notes.txt']
    """
    if not paths:
        return []
    names = listed(printable(os.path.relpath(path, folder)) for path in paths[:_NAMED])
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    files = "file" if len(paths) == 1 else "files"
    return [f"skipped    {len(paths):,} {files} in {printable(folder)} ({which}): {names}{more}"]


def kinds_of(others: Sequence[str], broken: Sequence[str]) -> str:
    """A description of kinds of files; `broken` are of the right kind.

    Example:
        >>> kinds_of(["notes.txt", "plan.pdf"], ())
        '1 .txt, 1 .pdf'
    """
    counts = Counter(Path(path).suffix.lower() or "no suffix" for path in others)
    found = [f"{count:,} {kind}" for kind, count in counts.most_common(5)]
    if broken:
        first = printable(os.path.basename(broken[0]))
        found.append(f"{len(broken):,} that cannot be read, such as {first}")
    return listed(found) or "an empty folder"
