"""One pass over image files: undecodable files, odd ones, and the digests that identify near-duplicates."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import ExifTags, Image

from ktransfer.audit.findings import Finding, Item
from ktransfer.audit.near_duplicates import near_images
from ktransfer.data.shards.address import open_bytes, open_example
from ktransfer.data.shards.storage import is_url
from ktransfer.errors import DataError
from ktransfer.image.decoding import Resize, formats_for, load_image, unreadable_reason

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


SIDE = 32  # pixels of a thumbnail, which is 3 KiB: 60 MiB for 20,000 images
# Each thread holds one decoded image, so that more of them cost memory.
_MOST_WORKERS = 8
_THUMBNAIL = Resize(SIDE, SIDE, mode="stretch")
_FLAT = 2  # grey levels, 0-255, between the darkest and the brightest of a thumbnail
_LONG = 4  # times as long as wide, or the other way round
_SMALL = 4  # times as small as the median image, by the shorter side
# What Pillow raises on broken EXIF, which is common while the pixels are good.
_BROKEN_EXIF = (OSError, SyntaxError, ValueError, LookupError, TypeError, OverflowError, struct.error)


@dataclass(frozen=True)
class ImageFacts:
    """Facts about an image, from one pass over its file.

    Attributes:
        reason: Why it cannot be decoded, or None; then the rest is empty.
        digest: SHA-256 of its bytes.
        size: Width and height as stored, pixels.
        traits: Kinds of findings from its header, such as `"cmyk"`.
        thumbnail: uint8 `(SIDE, SIDE, 3)`, RGB, upright.
    """

    reason: str | None
    digest: bytes = b""
    size: tuple[int, int] = (0, 0)
    traits: tuple[str, ...] = ()
    thumbnail: np.ndarray | None = None


def read_facts(path: str | os.PathLike[str]) -> ImageFacts:
    """Read and decode one image in full, as training does.

    Example:
        >>> read_facts("rose.jpg").traits  # doctest: +SKIP
        ('rotated',)
    """
    try:
        with open_bytes(str(path)) as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        thumbnail = load_image(path, _THUMBNAIL)
        with Image.open(open_example(path), formats=formats_for(path)) as image:
            return ImageFacts(None, digest, image.size, _traits(image), thumbnail)
    except (DataError, OSError) as error:
        return ImageFacts(unreadable_reason(path) or str(error))


def read_all_facts(
    paths: Sequence[str], *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> list[ImageFacts]:
    """`read_facts` of each, in threads.

    Args:
        paths: Image files.
        workers: Threads; None takes one for each core, at most 8.
        progress: Called as `progress(done, total)` after each image.

    Example:
        >>> facts = read_all_facts(examples.inputs)  # doctest: +SKIP
    """
    facts = []
    with ThreadPoolExecutor(workers or min(os.cpu_count() or 1, _MOST_WORKERS)) as pool:
        for one in pool.map(read_facts, paths):
            facts.append(one)
            if progress:
                progress(len(facts), len(paths))
    return facts


def is_constant(facts: ImageFacts) -> bool:
    """Whether an image is one colour all over."""
    if facts.thumbnail is None:
        return False
    pixels = facts.thumbnail.reshape(-1, 3).astype(int)
    return int(np.ptp(pixels, axis=0).max()) <= _FLAT


def image_findings(items: Sequence[Item], facts: Sequence[ImageFacts]) -> list[Finding]:
    """Findings on single images.

    Args:
        items, facts: Of the same images in the same order.

    Example:
        >>> image_findings(items, read_all_facts([item.input for item in items]))  # doctest: +SKIP
    """
    findings = []
    traits: dict[str, list[Item]] = {}
    sides = [min(one.size) for one in facts if one.reason is None]
    median = float(np.median(sides)) if sides else 0
    for item, one in zip(items, facts, strict=True):
        if one.reason is not None:
            findings.append(Finding("unreadable", (item,), one.reason))
            continue
        for trait in one.traits:
            traits.setdefault(trait, []).append(item)
        short, long = sorted(one.size)
        if short * _SMALL < median or long > _LONG * short:
            findings.append(Finding("odd_size", (item,), f"{one.size[0]} x {one.size[1]} pixels"))
        if is_constant(one):
            findings.append(
                Finding("constant", (item,), f"{one.size[0]} x {one.size[1]} pixels of one colour")
            )
    for trait, found in traits.items():
        findings.append(Finding(trait, tuple(found), f"{len(found)} of {len(items)} images"))
    return findings


def examine_images(
    items: Sequence[Item], *, workers: int | None = None, progress: Callable[[int, int], None] | None = None
) -> tuple[list[Finding], list[Hashable | None], Sequence[int], Callable[[Sequence[int]], np.ndarray]]:
    """`Modality.examine` for images: each is read and decoded once.

    Example:
        >>> findings, *_ = examine_images(list_items(splits))  # doctest: +SKIP
    """
    facts = read_all_facts([item.input for item in items], workers=workers, progress=progress)
    # Images of one color look the same and differ only in their bytes.
    usable = [i for i, one in enumerate(facts) if one.thumbnail is not None and not is_constant(one)]

    def near(indices: Sequence[int]) -> Array:
        sides = [min(facts[index].size) for index in indices]
        # All of them were decoded.
        thumbnails = [cast("np.ndarray", facts[index].thumbnail) for index in indices]
        return near_images(np.stack(thumbnails), np.array(sides))

    return image_findings(items, facts), [one.digest or None for one in facts], usable, near


def path_below(path: str, root: str | os.PathLike[str] | None) -> str:
    """A path relative to a folder, or absolute if it is elsewhere.

    Example:
        >>> path_below("flowers/daisy/1.jpg", "flowers")
        'daisy/1.jpg'
    """
    if is_url(path):
        return path
    path = os.path.abspath(path)
    root = root and os.path.abspath(Path(root).expanduser())
    inside = root and os.path.commonpath([path, root]) == root
    return Path(os.path.relpath(path, root)).as_posix() if inside else path


def _traits(image: Image.Image) -> tuple[str, ...]:
    facts = {
        "cmyk": image.mode == "CMYK",
        "transparent": image.has_transparency_data,
        "sixteen_bit": image.mode.startswith("I"),
        "animated": getattr(image, "is_animated", False),
        "rotated": _orientation(image) in range(2, 9),
    }
    return tuple(name for name, holds in facts.items() if holds)


def _orientation(image: Image.Image) -> int | None:
    # A PNG that has none in front is decoded in full by Pillow to look for one at its end.
    if image.format == "PNG" and "exif" not in image.info:
        return None
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except _BROKEN_EXIF:
        return None
