"""Which columns of a table hold the texts and the labels."""

import re
from collections import Counter
from dataclasses import dataclass, field

from ktransfer.data.examples import printable
from ktransfer.data.label_names import is_number, label_key, label_name
from ktransfer.data.tables.column_contents import columns_remark
from ktransfer.errors import DataError, did_you_mean, listed

# What columns are customarily called, in any case.
_TEXT_NAMES = {"text", "sentence", "message", "utterance", "content", "review", "tweet", "sms"}
_LABEL_NAMES = {"label", "labels", "class", "category", "target", "intent", "sentiment", "topic", "y"}
# What numbers the rows, as pandas and spreadsheets call it; it holds neither texts nor labels.
_INDEX = re.compile(r"|unnamed: \d+|index|idx|id|row|row_?id|level_0", re.IGNORECASE)


@dataclass(frozen=True)
class TextColumns:
    """Which columns of a table hold the texts and the labels.

    Attributes:
        text, label: Names; in a file without a header `"1"` is the first column.
        header: Whether the first row held the names.
        guessed: Whether one of the two was not given.
        others: The columns that are neither, named as these two are.

    Example:
        >>> TextColumns("text", "label", header=True, guessed=True).text
        'text'
    """

    text: str
    label: str
    header: bool
    guessed: bool
    others: tuple[str, ...] = field(default=(), repr=False, compare=False)


def is_customary(name: str) -> bool:
    """Whether a column of texts or of labels is customarily called so.

    Example:
        >>> is_customary(" Label"), is_customary("kind")
        (True, False)
    """
    return name.strip().casefold() in _TEXT_NAMES | _LABEL_NAMES


def has_header(records, wanted, known, path):
    """Whether the first row of a table holds a name given or customary, or a label that never comes again."""
    first, rest = [cell.strip() for cell in records[0]], records[1:]
    alike = [cell.casefold() for cell in first]
    if any(name.strip().casefold() in alike and not name.isdecimal() for name in wanted if name is not None):
        return True
    numbers = [str(at + 1) for at in range(len(first))]
    names = first if any(map(is_customary, first)) else numbers
    _, label = pick_columns(names, rest, wanted, path, shown=first)
    labels = [label_name(record[label]) for record in rest]
    if is_number(first[label]) and labels and all(map(is_number, labels)):
        return False  # a number among numbers is no name
    found = label_key(label_name(first[label]))
    return found not in set(map(label_key, known)) and all(label_key(name) != found for name in labels)


def pick_columns(names, records, wanted, path, shown=None):
    """Positions of the text and the label column."""
    text, label = (
        None if name is None else find_column(names, str(name), path, shown, records) for name in wanted
    )
    if text is None:
        text = _customary(names, _TEXT_NAMES, label)
    if label is None:
        label = _customary(names, _LABEL_NAMES, text)
    if text is None or label is None:
        columns = [at for at in range(len(names)) if at in (text, label) or not _is_index(names, records, at)]
        if len(columns) == 2 and (text is None) != (label is None):
            (other,) = set(columns) - {text, label}
            text, label = (other, label) if text is None else (text, other)
        elif len(columns) == 2 and text is None:
            # Labels repeat themselves, texts hardly.
            different = [len({str(record[column]).strip() for record in records}) for column in columns]
            if different[0] != different[1] and min(different) <= (len(records) + 1) / 2:
                at = different.index(min(different))
                text, label = columns[1 - at], columns[at]
    if text is None or label is None or text == label:
        raise DataError(
            f"Expected to know the columns of texts and of labels in {printable(str(path))}. "
            f"Received: the columns {listed(map(repr, shown or names))}. "
            f"{columns_remark(shown or names, records)}Pass --text-column and --label-column."
        )
    return text, label


def has_text_header(first, name):
    """Whether the first row of a table without labels holds names."""
    first = [cell.strip().casefold() for cell in first]
    if name is None:
        return len(first) == 1 and first[0] in _TEXT_NAMES
    return name.strip().casefold() in first and not name.isdecimal()


def find_column(names, name, path, shown=None, records=()):
    """The position of a column by its name, or its number from 1 on; `None` by what is customary."""
    if name is None:
        name = next((name for name in names if name.casefold() in _TEXT_NAMES), "text")
    if names.count(name) == 1:
        return names.index(name)
    alike = [at for at, other in enumerate(names) if other.strip().casefold() == name.strip().casefold()]
    if len(alike) == 1:
        return alike[0]
    if name.isdecimal() and name not in names and 1 <= int(name) <= len(names):
        return int(name) - 1
    raise DataError(
        f"Expected one column {name!r} in {printable(str(path))}. "
        f"Received: the columns {listed(map(repr, shown or names))}. "
        f"{columns_remark(shown or names, records)}"
        f"{did_you_mean(name, shown or names)}Pass one of them, or its number."
    )


def references(names):
    """What finds each column again: its name, or its number where others are called so too.

    Example:
        >>> references(["text", "text", "", "label"])
        ['1', '2', '3', 'label']
    """
    counts = Counter(names)
    return [name if name and counts[name] == 1 else str(at) for at, name in enumerate(names, start=1)]


def _is_index(names, records, at):
    """Whether a column only numbers the rows, or is empty."""
    values = [str(record[at]).strip() for record in records]
    if not any(values):
        return not names[at] or names[at].isdecimal()
    if not all(value.removesuffix(".0").isdecimal() for value in values):
        return False
    numbers = [int(value.removesuffix(".0")) for value in values]
    if _INDEX.fullmatch(names[at]):
        return len(set(numbers)) == len(numbers)
    return len(numbers) > 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _customary(names, customary, other):
    found = [at for at, name in enumerate(names) if name.strip().casefold() in customary and at != other]
    return found[0] if len(found) == 1 else None
