"""Find images that cannot be decoded, and leave them out."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ktransfer.data.examples import Examples, printable
from ktransfer.errors import DataError
from ktransfer.image.decoding import unreadable_reason

_NAMED = 3


@dataclass(frozen=True)
class CorruptImage:
    """An image that cannot be decoded, with the reason.

    Example:
        >>> CorruptImage("roses/IMG_0042.jpg", "truncated at 13 KiB").reason
        'truncated at 13 KiB'
    """

    path: str
    reason: str


def find_corrupt(
    examples: Examples, *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> list[CorruptImage]:
    """Decode every image in full and list those that fail.

    Args:
        examples: What to look at.
        workers: Threads; None lets Python choose by the number of cores.
        progress: Called as `progress(done, total)` after each image.

    Returns:
        The corrupt images in the order of the examples; empty when all is well.

    Example:
        >>> find_corrupt(examples)  # doctest: +SKIP
        [CorruptImage(path='roses/IMG_0042.jpg', reason='truncated at 13 KiB')]
    """
    corrupt = []
    with ThreadPoolExecutor(workers) as pool:
        reasons = pool.map(unreadable_reason, examples.inputs)
        for done, (path, reason) in enumerate(zip(examples.inputs, reasons, strict=True), start=1):
            if reason:
                corrupt.append(CorruptImage(path, reason))
            if progress:
                progress(done, len(examples))
    return corrupt


def require_readable(
    examples: Examples,
    *,
    skip_corrupt: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """The examples, when each can be decoded.

    Args:
        examples: What to look at.
        skip_corrupt: Leave unreadable images out instead of raising.
        workers: Threads, as in `find_corrupt`.
        progress: As in `find_corrupt`.

    Returns:
        The same object when nothing was left out.

    Raises:
        DataError: Images are unreadable; the message names the first few, their reasons and the count. With
            `skip_corrupt`: a class lost all of its images.

    Example:
        >>> examples = require_readable(examples, skip_corrupt=True)  # doctest: +SKIP
    """
    corrupt = find_corrupt(examples, workers=workers, progress=progress)
    if not corrupt:
        return examples
    named = ", ".join(f"{printable(c.path)} ({c.reason})" for c in corrupt[:_NAMED])
    if not skip_corrupt:
        more = f" and {len(corrupt) - _NAMED} more" if len(corrupt) > _NAMED else ""
        them = "it" if len(corrupt) == 1 else "them"
        raise DataError(
            f"Expected every image to be readable, got {named}{more} that cannot be decoded. Remove {them}, "
            "or pass --skip-corrupt to leave out unreadable files."
        )
    unreadable = {c.path for c in corrupt}
    readable = [index for index, path in enumerate(examples.inputs) if path not in unreadable]
    left = examples.task.counts(examples.labels[readable], len(examples.class_names))
    emptied = [
        name
        for name, count in zip(examples.class_names, left, strict=True)
        if examples.counts()[name] and not count
    ]
    if emptied:
        raise DataError(
            f"Expected readable images of every class, got none of {emptied[0]!r} ({named}). Add images to "
            "that class, or remove it."
        )
    return examples.subset(readable)
