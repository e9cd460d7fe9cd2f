"""Errors that a user can fix, and the lists of names in their messages. Bugs raise as bugs."""

import difflib
from collections.abc import Iterable

_LONGEST = 1500  # characters of a message
_END = 500  # of these, how many are kept of its end, which says how to fix it
_LISTED = 400  # characters of a list of names
_NAME = 80  # characters of one name in a list
_SEARCHED = 20_000  # names that are compared with a mistyped one
_SUGGESTED = 3  # names


class KTransferError(Exception):
    """Base class of errors that a user can fix; the command line prints one in one line and exits with 2.

    Args:
        message: One line. One of more than 1,500 characters, such as of another library, is shortened in its
            middle, and says by how many.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(bounded(str(message)))


class DataError(KTransferError):
    """The examples cannot be used as they are: missing, unreadable, one class only, ..."""


class RecipeError(KTransferError):
    """A recipe or a stage asks for something that cannot be, by itself or on this backbone."""


class BackboneError(KTransferError):
    """A backbone cannot be found, loaded, or taken apart."""


class RunError(KTransferError):
    """A run folder exists already, is incomplete, or does not fit what is asked of it."""


class ExportError(KTransferError):
    """An artifact could not be written, or does not answer as the trained model does."""


class MissingExtraError(KTransferError, ImportError):
    """A package is not installed that an extra of ktransfer brings; the message has the command that installs it."""


def bounded(text: str) -> str:
    """`text`, or where it has more than 1,500 characters, its beginning and its end.

    Example:
        >>> bounded("a" * 10_000)[995:1040]
        'aaaaa ... (8,500 characters left out) ... aaa'
    """
    if len(text) <= _LONGEST:
        return text
    left_out = len(text) - _LONGEST
    return f"{text[: _LONGEST - _END]} ... ({left_out:,} characters left out) ... {text[-_END:]}"


def listed(names: Iterable[object]) -> str:
    """Names with commas between them, in at most some 400 characters, and how many were left out.

    Args:
        names: Classes, layers, columns or files, in the order to list them in. One of more than 80 characters
            is shortened.

    Example:
        >>> listed(range(1000))[-29:]
        ' 99, 100, 101, ... (898 more)'
        >>> listed(["daisy", "rose"])
        'daisy, rose'
    """
    names = list(names)
    shown: list[str] = []
    length = 0
    for name in names:
        text = str(name)
        text = text if len(text) <= _NAME else f"{text[: _NAME - 3]}..."
        length += len(text) + 2
        if shown and length > _LISTED:
            break
        shown.append(text)
    left_out = len(names) - len(shown)
    return ", ".join(shown) + (f", ... ({left_out:,} more)" if left_out else "")


def did_you_mean(name: object, names: Iterable[object]) -> str:
    """A question that suggests the names closest to a mistyped one, with a space after it; or nothing.

    Case, spaces and separators do not count. Where nothing is close, a name that holds all of `name` is.

    Args:
        name: What was given.
        names: What it may be.

    Example:
        >>> did_you_mean("tflit-int8", ["tflite-int8", "onnx"])
        'Did you mean tflite-int8? '
        >>> did_you_mean("daisy", ["rose"])
        ''
    """
    given = letters(str(name)[:_NAME])
    known: dict[str, object] = {}
    for each in list(names)[:_SEARCHED]:
        known.setdefault(letters(str(each)), each)
    keys = [given] if given in known else []
    keys += difflib.get_close_matches(given, known, n=_SUGGESTED, cutoff=0.7)
    if not keys and len(given) > 2:
        keys = [key for key in known if given in key]
    near = [
        str(known[key]) for key in list(dict.fromkeys(keys))[:_SUGGESTED] if len(str(known[key])) <= _NAME
    ]
    return f"Did you mean {' or '.join(near)}? " if near else ""


def letters(name: str) -> str:
    """A name without case, spaces and separators, by which two spellings of it are compared.

    Example:
        >>> letters("TFLite_INT8")
        'tfliteint8'
    """
    return "".join(character for character in name.casefold() if character.isalnum())
