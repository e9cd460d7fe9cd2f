"""Find the image files of `ktransfer predict` in files and folders."""

import os
from collections.abc import Sequence

from ktransfer.data.examples import printable
from ktransfer.data.inputs import Inputs, files_below, kinds_of, left_out
from ktransfer.errors import DataError
from ktransfer.image.decoding import IMAGE_EXTENSIONS, unreadable_reason
from ktransfer.image.sources import IMAGE_FILES


def find_images(inputs: Sequence[str], *, decode: bool = True) -> Inputs:
    """The image files that are named, and all images in the folders that are named, at any depth.

    Args:
        inputs: Paths of images and folders.
        decode: Leave out images of folders that cannot be decoded. Defaults to `True`; `False` goes by their
            names alone, which takes no time.

    Returns:
        `Inputs`: files in the order given, those of a folder sorted.

    Raises:
        DataError: A path does not exist, or a folder has no image that can be used.

    Example:
        >>> find_images(["rose.jpg", "holiday"]).notes  # doctest: +SKIP
        ('skipped    2 files in holiday (not images): notes.txt, plan.doc',)
    """
    items, notes = [], []
    for given in inputs:
        if not os.path.isdir(given):
            if not os.path.exists(given):
                raise DataError(
                    f"Expected an image file or a folder of images, got {printable(given)}, which does not "
                    "exist. Check the path."
                )
            items.append(given)
            continue
        found, others, junk = files_below(given, IMAGE_EXTENSIONS)
        unread = [path for path in others if path.lower().endswith(IMAGE_FILES.convertible)]
        others = [path for path in others if not path.lower().endswith(IMAGE_FILES.convertible)]
        fix = IMAGE_FILES.how_to_read(unread)
        reasons = {path: unreadable_reason(path) if decode else None for path in found}
        broken = [path for path, reason in reasons.items() if reason]
        notes += left_out(given, others, "not images")
        notes += left_out(given, unread, f"in formats that are not read; {fix}")
        notes += left_out(given, broken, "cannot be read as images")
        notes += left_out(given, junk, "left by other programs")
        if len(broken) == len(found):
            fix = (
                f"{fix[0].upper()}{fix[1:]}." if unread else "Pass image files, or a folder that holds some."
            )
            raise DataError(
                f"Expected images ({' '.join(IMAGE_EXTENSIONS)}) in {printable(given)}, got "
                f"{kinds_of([*unread, *others, *junk], broken)}. {fix}"
            )
        items += [path for path, reason in reasons.items() if not reason]
    return Inputs(tuple(items), tuple(notes))
