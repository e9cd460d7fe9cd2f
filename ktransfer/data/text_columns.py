"""Which columns of a table hold the texts and the labels."""

from dataclasses import dataclass

from ktransfer.data.examples import printable
from ktransfer.errors import DataError, did_you_mean, listed

# What columns are customarily called, in any case.
_TEXT_NAMES = {"text", "sentence", "message", "utterance", "content", "review", "tweet", "sms"}
_LABEL_NAMES = {"label", "labels", "class", "category", "target", "intent", "sentiment", "topic", "y"}


@dataclass(frozen=True)
class TextColumns:
    """Which columns of a table hold the texts and the labels.

    Attributes:
        text, label: Names; in a file without a header `"1"` is the first column.
        header: Whether the first row held the names.
        guessed: Whether one of the two was not given.

    Example:
        >>> TextColumns("text", "label", header=True, guessed=True).text
        'text'
    """

    text: str
    label: str
    header: bool
    guessed: bool


def has_header(records, wanted, known, path):
    """Whether the first row of a table holds a name given or customary, or a label that never comes again."""
    first, rest = [cell.strip() for cell in records[0]], records[1:]
    if any(name in first and not name.isdecimal() for name in wanted if name is not None):
        return True
    customary = any(name.casefold() in _TEXT_NAMES | _LABEL_NAMES for name in first)
    numbers = [str(at + 1) for at in range(len(first))]
    _, label = pick_columns(first if customary else numbers, rest, wanted, path, shown=first)
    return first[label] not in known and all(record[label].strip() != first[label] for record in rest)


def pick_columns(names, records, wanted, path, shown=None):
    """Positions of the text and the label column."""
    text, label = (None if name is None else find_column(names, str(name), path, shown) for name in wanted)
    if text is None:
        text = _customary(names, _TEXT_NAMES, label)
    if label is None:
        label = _customary(names, _LABEL_NAMES, text)
    if len(names) == 2 and (text is None) != (label is None):
        text, label = (1 - label, label) if text is None else (text, 1 - text)
    elif len(names) == 2 and text is None:
        # Labels repeat themselves, texts hardly.
        different = [len({str(record[column]).strip() for record in records}) for column in (0, 1)]
        if different[0] != different[1] and min(different) <= len(records) / 2:
            label = different.index(min(different))
            text = 1 - label
    if text is None or label is None or text == label:
        raise DataError(
            f"Expected to know the columns of texts and of labels in {printable(str(path))}. "
            f"Received: the columns {listed(map(repr, shown or names))}. "
            "Pass --text-column and --label-column."
        )
    return text, label


def has_text_header(first, name):
    """Whether the first row of a table without labels holds names."""
    first = [cell.strip() for cell in first]
    return name in first or (name is None and len(first) == 1 and first[0].casefold() in _TEXT_NAMES)


def find_column(names, name, path, shown=None):
    """The position of a column by its name, or its number from 1 on; `None` by what is customary."""
    if name is None:
        name = next((name for name in names if name.casefold() in _TEXT_NAMES), "text")
    if names.count(name) == 1:
        return names.index(name)
    if name.isdecimal() and name not in names and 1 <= int(name) <= len(names):
        return int(name) - 1
    raise DataError(
        f"Expected one column {name!r} in {printable(str(path))}. "
        f"Received: the columns {listed(map(repr, shown or names))}. "
        f"{did_you_mean(name, shown or names)}Pass one of them, or its number."
    )


def _customary(names, customary, other):
    found = [at for at, name in enumerate(names) if name.casefold() in customary and at != other]
    return found[0] if len(found) == 1 else None
