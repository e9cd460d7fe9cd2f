"""Augmentation of training texts: words swapped, words left out, typing errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ktransfer.data.pairs import Pair
from ktransfer.errors import RecipeError, did_you_mean, listed

if TYPE_CHECKING:  # a recipe holds a TextAugmentation, and is read without NumPy
    import numpy as np

_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


@dataclass(frozen=True)
class TextAugmentation:
    """Random changes to training texts, independent for each text and epoch; all off by default.

    Each number is the alpha of EDA (Wei and Zou 2019, section 2), the share of a text's words that are
    changed; 0.05 to 0.1 is what they recommend. Words are what stands between white space, so that scripts
    written without spaces are left alone.

    Args:
        swap: Share of the words that change places with another, 0 to 1.
        deletion: Probability that a word is left out, 0 to 1; one word always stays.
        typos: Share of the words with one slip on a QWERTY keyboard, 0 to 1: a neighbouring key instead or as
            well, a letter left out, or two letters in the wrong order. Only Latin letters are touched.

    Raises:
        RecipeError: A value is out of its range.

    Example:
        >>> TextAugmentation(deletion=0.1).is_on
        True
    """

    swap: float = 0.0
    deletion: float = 0.0
    typos: float = 0.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value <= 1:
                raise RecipeError(
                    f"Expected {name} as a share of the words, 0 to 1, got {value}. Pass such as 0.1."
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TextAugmentation:
        """The inverse of `to_dict`; what is left out takes its default.

        Raises:
            RecipeError: A key is unknown or a value is out of its range.

        Example:
            >>> TextAugmentation.from_dict({"swap": 0.1}).swap
            0.1
        """
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise RecipeError(
                f"Expected text augmentation keys out of {listed(names)}, got {unknown[0]!r}. "
                f"{did_you_mean(unknown[0], names)}Remove it."
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON holds it.

        Example:
            >>> TextAugmentation().to_dict()["typos"]
            0.0
        """
        return dataclasses.asdict(self)

    @classmethod
    def none(cls) -> TextAugmentation:
        """The augmentation that changes nothing.

        Example:
            >>> TextAugmentation.none().is_on
            False
        """
        return cls()

    @property
    def is_on(self) -> bool:
        """Whether anything is varied."""
        return any(dataclasses.astuple(self))

    @property
    def mixes_labels(self) -> bool:
        """Whether labels become shares of classes: a varied text keeps its own."""
        return False


def augment_text(text: str, random: np.random.Generator, augmentation: TextAugmentation) -> str:
    """Vary one text.

    Args:
        text: Any text.
        random: What is drawn from; the same state gives the same result.
        augmentation: What to vary and how far.

    Returns:
        The varied text, its words separated by single spaces; `text` itself where nothing is to be varied.

    Example:
        >>> augment_text("one two", np.random.default_rng(0), TextAugmentation(swap=1.0))
        'two one'
    """
    words = text.split()
    if not words or not augmentation.is_on:
        return text
    for _ in range(_count(len(words), augmentation.swap / 2, random) if len(words) > 1 else 0):
        one, other = random.choice(len(words), size=2, replace=False)
        words[one], words[other] = words[other], words[one]
    if augmentation.deletion:
        stays = random.random(len(words)) >= augmentation.deletion
        stays[random.integers(len(words))] |= not stays.any()
        words = [word for word, kept in zip(words, stays, strict=True) if kept]
    slips = _count(len(words), augmentation.typos, random)
    for index in random.choice(len(words), size=slips, replace=False).tolist():
        words[index] = _mistype(words[index], random)
    return " ".join(words)


def augmented(content: str | Pair, random: np.random.Generator, augmentation: TextAugmentation) -> str | Pair:
    """Vary a text, or both texts of a pair.

    Example:
        >>> augmented("one two", np.random.default_rng(0), TextAugmentation(swap=1.0))
        'two one'
    """
    if isinstance(content, str):
        return augment_text(content, random, augmentation)
    return Pair(*(augment_text(text, random, augmentation) for text in content))


def _count(length: int, share: float, random: np.random.Generator) -> int:
    """`share * length`, rounded up with the probability of its fraction, so that short texts get their share."""
    return int(share * length + random.random())


def _neighbours() -> dict[str, list[str]]:
    """{key: the keys that touch it}; each row of keys lies half a key to the right of the one above."""
    places = {key: (row, x + row / 2) for row, keys in enumerate(_KEYBOARD) for x, key in enumerate(keys)}
    return {
        key: [k for k, (r, v) in places.items() if k != key and abs(r - row) <= 1 and abs(v - x) <= 1]
        for key, (row, x) in places.items()
    }


_NEIGHBOURS = _neighbours()


def _mistype(word: str, random: np.random.Generator) -> str:
    letters = [index for index, letter in enumerate(word) if letter.lower() in _NEIGHBOURS]
    if not letters:
        return word
    at = letters[random.integers(len(letters))]
    before, letter, after = word[:at], word[at], word[at + 1 :]
    near = _NEIGHBOURS[letter.lower()]
    key = near[random.integers(len(near))]
    key = key.upper() if letter.isupper() else key
    slips = [before + key + after, before + letter + key + after]
    if len(word) > 1:
        slips.append(before + after)
    if after:
        slips.append(before + after[0] + letter + after[1:])
    return slips[random.integers(len(slips))]
