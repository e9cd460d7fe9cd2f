"""Names of classes that may not be meant as such: ratings, amounts, missing values, one name in two spellings."""

import re
from collections.abc import Iterator

from ktransfer.data.examples import Splits
from ktransfer.data.label_names import is_number

_MANY_NUMBERS = 20  # classes that are numbers; so many may be a quantity
_RATINGS = [tuple(map(str, range(1, most + 1))) for most in (5, 10)]
_AMOUNT = re.compile(
    r"[-+]?\d+([.,]\d+)* ?(%|[$€£¥]|/ ?\d+|stars?)|[$€£¥] ?[-+]?\d+([.,]\d+)*", re.IGNORECASE
)


def doubtful_names(splits: Splits) -> Iterator[str]:
    """A line on each kind of names of classes that may not be meant as such.

    Args:
        splits: Those of the training split are looked at.

    Example:
        >>> from ktransfer.data.examples import Examples
        >>> train = Examples(("a", "b"), [0, 1], ("spam", "Spam"), kind="text")
        >>> list(doubtful_names(Splits(train)))
        ["the classes 'spam' and 'Spam' differ only in case or spaces"]
    """
    counts = splits.train.counts()
    first, last = next(iter(counts)), next(reversed(counts))
    if tuple(counts) in _RATINGS:
        yield (
            f"classes {first} to {last} look like ratings; each is a class of its own here, and {last} for "
            f"{first} counts as any other mistake; --task regression predicts the number"
        )
    elif len(counts) > _MANY_NUMBERS and all(map(is_number, counts)):
        yield (
            f"the {len(counts)} classes are all numbers, {first} to {last}; a classifier does not learn the "
            "order of scores or amounts; --task regression predicts the number"
        )
    elif all(map(_AMOUNT.fullmatch, counts)):
        yield (
            f"the {len(counts)} classes look like amounts or ratings, {first!r} to {last!r}; a classifier does "
            "not learn their order"
        )
    for name in filter(splits.train.modality.reads_as_missing, counts):
        size = f"of {counts[name]:,} examples"
        yield f"{name!r} is read as the name of a class, {size}, not as a missing label"
    alike: dict[str, list[str]] = {}
    for name in counts:
        alike.setdefault(" ".join(name.split()).casefold(), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            yield f"the classes {' and '.join(map(repr, names))} differ only in case or spaces"
