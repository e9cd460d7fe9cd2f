"""Names of classes as tables and folders write them: one name for one label, and their order."""

import functools
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal

_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.0*)?")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
# How programs write that there is no value.
_ABSENT = {"nan", "na", "n/a", "#n/a", "<na>", "none", "null", "nil", "-", "?", "\\n"}
_LONGEST = 200  # characters; what is longer is a text, and `int` refuses thousands of digits


# Typed, since True, 1 and 1.0 are equal and have different names. Labels repeat, so few are worked out.
@functools.lru_cache(maxsize=4096, typed=True)
def label_name(value: str | int | float | Decimal) -> str:
    """The name of the class that a label in a table stands for.

    The number 1 is written `1`, `1.0` or `1.00`: pandas writes a column of whole numbers with `.0` once one
    of its rows was missing. Leading zeros stay, since codes such as `007` have them.

    Args:
        value: A cell of a table, as its format has it.

    Returns:
        The name in Unicode's form NFC, without white space around it.

    Example:
        >>> [label_name(value) for value in (1.0, "1.00", " spam ", "007", True)]
        ['1', '1', 'spam', '007', 'True']
    """
    if isinstance(value, float | Decimal) and value == value and value.as_integer_ratio()[1] == 1:
        value = int(value)
    name = unicodedata.normalize("NFC", str(value).strip())
    if isinstance(value, str) and len(name) <= _LONGEST and _WHOLE.fullmatch(name):
        return str(int(name.partition(".")[0]))
    return name


@functools.lru_cache(maxsize=4096)
def label_key(name: str) -> str:
    """The common form of two spellings of one label: `true` and `True`, `0.5` and `0.50`.

    Example:
        >>> label_key("TRUE") == label_key("True"), label_key("0.50") == label_key("0.5")
        (True, True)
    """
    if name.casefold() in ("true", "false"):
        return name.casefold()
    if len(name) <= _LONGEST and re.fullmatch(r"[+-]?(0|[1-9][0-9]*)?\.[0-9]+|" + _WHOLE.pattern, name):
        number = Decimal(name).normalize()
        return format(number if number else abs(number), "f")
    return name


def is_number(text: str) -> bool:
    """Whether a text is a number, whole or with a fraction.

    Example:
        >>> is_number("-0.5"), is_number("1e-3"), is_number("1.2.3")
        (True, True, False)
    """
    return len(text) <= _LONGEST and _NUMBER.fullmatch(text) is not None


def reads_as_missing(name: str) -> bool:
    """Whether a name is a program's notation for a missing value; it may still be the name of a class.

    Example:
        >>> reads_as_missing("NaN"), reads_as_missing("missing")
        (True, False)
    """
    return name.casefold() in _ABSENT


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """The classes sorted: by value where all are numbers, else by letter.

    Args:
        names: Names of classes, in any order.

    Returns:
        Each once.

    Example:
        >>> class_order(["10", "9", "-1"]), class_order(["10", "9", "other"])
        (('-1', '9', '10'), ('10', '9', 'other'))
    """
    by_letter = sorted(set(names))
    if all(map(is_number, by_letter)):
        return tuple(sorted(by_letter, key=Decimal))
    return tuple(by_letter)
