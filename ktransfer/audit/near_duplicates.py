"""Find near-duplicates among images and among texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ktransfer.data.examples import normalised
from ktransfer.errors import DataError

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


# Photographs encoded anew at quality 10 to 90, made half or a quarter as large, or a fifth brighter differed
# from themselves in at most 6 of the 64 bits and correlated with themselves by 0.978 or more; the closest of
# 198,135 pairs of different ones differed in 12 bits, and none within 14 bits correlated by more than 0.74.
_MOST_BITS = 10
_LEAST_CORRELATION = 0.98
# In small pictures there is less to differ in: of 1,797 handwritten digits 276 are alike at 0.97, 3 at 0.99.
_SMALL = 64  # pixels of the shorter side
_LEAST_CORRELATION_OF_SMALL = 0.995
_ROWS = 256  # images compared with all others at once: 20,000 of them are 40 MiB
_PAIRS = 4096  # candidates correlated at once: 100 MiB
_SHINGLE = 5  # characters
_LEAST_JACCARD = 0.8
_PERMUTATIONS = 128


def perceptual_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """pHash (Zauner 2010, section 3.2): which low frequencies of a cosine transform are above their median.

    Args:
        thumbnails: uint8 `(N, 32, 32, 3)`.

    Returns:
        uint64 `(N,)`; images that look the same differ in few bits.

    Example:
        >>> perceptual_hashes(np.zeros((1, 32, 32, 3), "uint8")).shape
        (1,)
    """
    hashes = []
    for start in range(0, len(thumbnails), _ROWS):
        grey = thumbnails[start : start + _ROWS].astype("float32") @ np.array(
            [0.299, 0.587, 0.114], "float32"
        )
        low = dctn(grey, axes=(1, 2))[:, :8, :8].reshape(-1, 64)
        bits = low > np.median(low, axis=1, keepdims=True)
        hashes.append(np.packbits(bits, axis=1).view("uint64").ravel())
    return np.concatenate(hashes) if hashes else np.zeros(0, "uint64")


def near_images(thumbnails: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Groups of images that are nearly the same: re-encoded, resized, slightly brighter or cropped.

    All pairs are compared by perceptual hash, and those within ten bits by the correlation of their pixels.

    Args:
        thumbnails: uint8 `(N, 32, 32, 3)`, RGB.
        sides: `(N,)`, the shorter side of each image, pixels.

    Returns:
        int `(N,)`; images of a group have the same number.

    Example:
        >>> near_images(np.stack([picture, picture, other]), np.array([240, 120, 240]))  # doctest: +SKIP
        array([0, 0, 1], dtype=int32)
    """
    hashes = perceptual_hashes(thumbnails)
    groups = np.arange(len(hashes))
    least = np.where(np.asarray(sides) < _SMALL, _LEAST_CORRELATION_OF_SMALL, _LEAST_CORRELATION)
    for start in range(0, len(hashes), _ROWS):
        # Only what comes after: each pair once.
        bits = np.bitwise_count(hashes[start : start + _ROWS, None] ^ hashes[None, start:])
        rows, columns = np.nonzero(np.triu(bits <= _MOST_BITS, 1))
        for at in range(0, len(rows), _PAIRS):
            left, right = rows[at : at + _PAIRS] + start, columns[at : at + _PAIRS] + start
            apart = groups[left] != groups[right]
            left, right = left[apart], right[apart]
            alike = _correlation(thumbnails[left], thumbnails[right]) >= np.minimum(least[left], least[right])
            groups = _joined(groups, left[alike], right[alike])
    return groups


def near_texts(texts: Sequence[str]) -> np.ndarray:
    """Groups of texts of which four in five runs of five characters are the same.

    Candidates by MinHash (Broder 1997), each confirmed by the exact Jaccard similarity. Case and white space
    do not count.

    Args:
        texts: Different from each other but for few.

    Returns:
        int `(N,)`; texts of a group have the same number.

    Raises:
        DataError: The package datasketch is not installed.

    Example:
        >>> near_texts(["Call 0800 1234 to claim it now", "Call 0800 1234 to claim it now!", "Hello there"])
        array([0, 0, 1], dtype=int32)
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise DataError(
            "Expected the package datasketch to find texts that are nearly the same, got an environment "
            'without it. Run `pip install "ktransfer[audit]"`.'
        ) from error
    shingles = [_shingles(text) for text in texts]
    # Candidates below the bar are cheap, missed ones are not.
    index = MinHashLSH(threshold=_LEAST_JACCARD - 0.2, num_perm=_PERMUTATIONS)
    left, right = [], []
    hashes = MinHash.generator(([s.encode() for s in one] for one in shingles), num_perm=_PERMUTATIONS)
    for number, minhash in enumerate(hashes):
        for other in index.query(minhash):
            common = len(shingles[number] & shingles[other])
            if common >= _LEAST_JACCARD * (len(shingles[number]) + len(shingles[other]) - common):
                left.append(number)
                right.append(other)
        index.insert(number, minhash)
    return _joined(np.arange(len(texts)), np.array(left, int), np.array(right, int))


def _shingles(text: str) -> set[str]:
    text = normalised(text)
    return {text[at : at + _SHINGLE] for at in range(max(1, len(text) - _SHINGLE + 1))}


def _correlation(left: Array, right: Array) -> Array:
    """Correlation of pixels in all three channels, `(P,)`: other colors make another image."""

    def centred(images: Array) -> Array:
        values = images.reshape(len(images), -1).astype("float32")
        values -= values.mean(axis=1, keepdims=True)
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)

    return np.einsum("ij,ij->i", centred(left), centred(right))


def _joined(groups: Array, left: Array, right: Array) -> Array:
    """Groups merged by pairs, and renumbered."""
    size = len(groups)
    if not len(left):
        return groups
    first = np.unique(groups, return_index=True, return_inverse=True)
    leaders = first[1][first[2]]
    rows = np.concatenate([np.arange(size), left])
    columns = np.concatenate([leaders, right])
    return connected_components(
        coo_array((np.ones(len(rows)), (rows, columns)), (size, size)), directed=False
    )[1]
