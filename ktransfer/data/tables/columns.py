"""Find the columns of examples, labels and groups in a table."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ktransfer.data.examples import printable
from ktransfer.data.label_names import is_number, label_key, label_name
from ktransfer.data.split_names import is_split_column
from ktransfer.data.tables.column_contents import columns_remark
from ktransfer.data.tables.label_sets import LIST, SINGLE_LABEL, hot_value
from ktransfer.errors import DataError, did_you_mean, listed

# What columns are customarily called, in any case; the labels of the second line where none is of the first.
TEXT_NAMES = ("text", "sentence", "message", "utterance", "content", "review", "tweet", "sms")
FILE_NAMES = (
    *("file", "filename", "file_name", "filepath", "file_path", "path", "image", "images", "img"),
    *("image_file", "image_path", "image_name", "image_filename", "imagepath", "imagename"),
    *("img_file", "img_path", "img_name", "photo", "picture"),
)
_LABEL_NAMES = {"label", "labels", "class", "category", "target", "intent", "sentiment", "topic", "y"}
_MORE_LABEL_NAMES = {"tag", "tags", "classes", "categories", "intents", "topics", "genres", "emotions"}
# What numbers the rows, as pandas and spreadsheets call it; it holds neither examples nor labels.
_INDEX = re.compile(r"|unnamed: \d+|index|idx|id|row|row_?id|level_0", re.IGNORECASE)
# What a list of labels is cut at, to compare labels before it is known how they are separated.
_PIECES = re.compile(r"[|;,/\[\]{}\"']+")
_NAMED = 5  # label columns that a line names
PAIR_OPTION = "text_columns"


@dataclass(frozen=True)
class InputKind:
    """The kind of the input column: texts, or names of image files.

    Args:
        noun: What to call them, such as `"texts"`.
        option: Which option names the column: `"text_column"` or `"file_column"`.
        customary: What such a column is customarily called, in lower case, the usual name first.
        read: From cells, their rows, a source for messages and the folder of the table to
            `(inputs, names)`, each a tuple: the names are what they are called to a person. Raises `DataError` for
            cells that are no such inputs.
        holds: Whether a cell looks like one, by which a column is found that has no customary name. Defaults to
            `None`: unknown.
        each_once: Whether rows that say the same of an input again are left out. Defaults to `False`.
        width: How many columns hold an input. Defaults to 1.
        find: From the names of the columns and the records to the positions of several columns, or `None`. Defaults to
            `None`: there is one column.
        label_names: What columns of labels of such inputs are customarily called as well. Defaults to none.
        others: Kinds of the same modality that are taken where no column is asked for and `find` finds theirs. Defaults
            to none.
    """

    noun: str
    option: str
    customary: tuple[str, ...]
    read: Callable[..., tuple[tuple[Any, ...], tuple[str, ...]]]
    holds: Callable[[object], bool] | None = None
    each_once: bool = False
    width: int = 1
    find: Callable[[Sequence[str], Sequence[Sequence[Any]]], tuple[int, ...] | None] | None = None
    label_names: tuple[str, ...] = ()
    others: tuple["InputKind", ...] = ()

    @property
    def flag(self) -> str:
        """The option as the command line has it."""
        return f"--{self.option.replace('_', '-')}"

    def fitting(
        self, names: Sequence[str], records: Sequence[Sequence[Any]], wanted: "Wanted"
    ) -> "InputKind":
        """This kind, or where no input column is asked for one of `others` whose columns are there."""
        if wanted.input is None:
            for other in self.others:
                if other.find is not None and other.find(names, records) is not None:
                    return other
        return self

    def column_names(self, given: str | Sequence[str]) -> list[str]:
        """The names of its columns as they were asked for.

        Raises:
            DataError: There are more or fewer than an input has, or the same twice.
        """
        if self.width == 1:
            return [given] if isinstance(given, str) else list(given)
        names = split_references(given) if isinstance(given, str) else list(given)
        if len(names) != self.width or len(set(names)) < len(names):
            raise DataError(
                f"Expected two different columns for {self.flag}, got {listed(map(repr, names))}. Pass both names "
                "with a comma between them."
            )
        return names


@dataclass(frozen=True)
class Columns:
    """The columns of a table, and the way its labels are read.

    Attributes:
        input, label: Names; in a file without a header `"1"` is the first column. Several label columns, one a
            label, have commas between them.
        header: Whether the first row held the names.
        guessed: Whether one of the two was not given.
        separator: What stands between the labels of a cell; `"list"` for lists as JSON or Python writes them.
            Defaults to `None`: a cell is one label, or 0 or 1.
        group: The column that says which group a row belongs to. Defaults to `None`.
        task: `"single_label"` or `"multi_label"`. Defaults to the former.
        option: Which option names the input column. Defaults to `"text_column"`.
        noun: What its cells are. Defaults to `"texts"`.
        others: The columns that are none of these. Defaults to none.

    Example:
        >>> Columns("text", "label", header=True, guessed=True).line()
        "texts 'text', labels 'label', guessed"
    """

    input: str
    label: str
    header: bool
    guessed: bool
    separator: str | None = None
    group: str | None = None
    task: str = SINGLE_LABEL
    option: str = "text_column"
    noun: str = "texts"
    others: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def facts(self) -> dict[str, str | None]:
        """The options by which the same table is read the same way again.

        Example:
            >>> Columns("text", "tags", True, True, separator="|", task="multi_label").facts()
            {'text_column': 'text', 'label_column': 'tags', 'group_column': None, 'label_separator': '|', \
'task': 'multi_label'}
        """
        # Of texts in two columns the manifest says that there is no single one.
        single = {"text_column": None} if self.option == PAIR_OPTION else {}
        return {
            **single,
            self.option: self.input,
            "label_column": self.label,
            "group_column": self.group,
            "label_separator": self.separator,
            "task": self.task,
        }

    def line(self) -> str:
        """A line about them for the log."""
        names = split_references(self.label)
        shown = f"labels {self.label!r}"
        if len(names) > 1:
            more = ", ..." if len(names) > _NAMED else ""
            shown = f"labels in {len(names)} columns {', '.join(map(repr, names[:_NAMED]))}{more}"
        elif self.separator is not None:
            shown += " as lists" if self.separator == LIST else f" separated by {self.separator!r}"
        inputs = split_references(self.input) if self.option == PAIR_OPTION else [self.input]
        shown_columns = [f"{self.noun} {' and '.join(map(repr, inputs))}", shown]
        if self.group is not None:
            shown_columns.append(f"groups {self.group!r}")
        return ", ".join(shown_columns + ["guessed"] * self.guessed + ["no header"] * (not self.header))


@dataclass(frozen=True)
class Wanted:
    """The columns that are asked for.

    Args:
        input: A name, or a number from 1 on; of inputs in several columns a sequence, or with commas between them.
            Defaults to `None`, which is guessed.
        label: The same; several, one a label, as a sequence or with commas between them.
        group: A name or a number. Defaults to `None`: there are no groups.
    """

    input: str | Sequence[str] | None = None
    label: str | Sequence[str] | None = None
    group: str | None = None

    def names(self) -> list[str]:
        """All that may stand in the first row."""
        label = self.label
        labels = (
            [] if label is None else [label, *split_references(label)] if isinstance(label, str) else label
        )
        given = self.input
        inputs = (
            [] if given is None else [given, *split_references(given)] if isinstance(given, str) else given
        )
        return [str(name) for name in (*inputs, self.group, *labels) if name is not None]


@dataclass(frozen=True)
class Positions:
    """Positions of columns, from 0 on."""

    inputs: tuple[int, ...]
    labels: tuple[int, ...]
    group: int | None


def is_customary(name: str) -> bool:
    """Whether a column of examples or of labels is customarily called so.

    Example:
        >>> is_customary(" Label"), is_customary("kind")
        (True, False)
    """
    return name.strip().casefold() in {*TEXT_NAMES, *FILE_NAMES, *_LABEL_NAMES, *_MORE_LABEL_NAMES}


def is_label_name(name: str) -> bool:
    """Whether a column of labels is customarily called so.

    Example:
        >>> is_label_name("Tags"), is_label_name("width")
        (True, False)
    """
    return name.strip().casefold() in {*_LABEL_NAMES, *_MORE_LABEL_NAMES}


def has_header(
    records: Sequence[Sequence[str]], wanted: Wanted, known: Collection[str], path: Path, kind: InputKind
) -> bool:
    """Whether the first row of a table holds a name given or customary, or a label that never comes again."""
    first, rest = [cell.strip() for cell in records[0]], records[1:]
    alike = [cell.casefold() for cell in first]
    if any(name.strip().casefold() in alike and not name.isdecimal() for name in wanted.names()):
        return True
    if wanted.input is None and kind.find is not None and kind.find(first, rest) is not None:
        return True
    hot = [at for at in range(len(first)) if rest and _is_hot(rest, at)]
    if len(hot) > 1 and all(first[at] and hot_value(first[at]) is None for at in hot):
        return True
    numbers = [str(at + 1) for at in range(len(first))]
    names = first if any(map(is_customary, first)) else numbers
    positions = pick_columns(names, rest, wanted, path, kind, shown=first)
    [label, *more] = positions.labels
    if kind.holds is not None and kind.holds(first[positions.inputs[0]]):
        return False  # a file
    if not first[label]:
        return names is first
    if more:
        return hot_value(first[label]) is None
    labels = [label_name(record[label]) for record in rest]
    if is_number(first[label]) and labels and all(map(is_number, labels)):
        return False  # a number among numbers is no name
    found = _keys(label_name(first[label]))
    return not found & {key for name in known for key in (*_keys(name), label_key(name))} and not any(
        found & _keys(name) for name in labels
    )


def pick_columns(
    names: Sequence[str],
    records: Sequence[Sequence[Any]],
    wanted: Wanted,
    path: Path,
    kind: InputKind,
    shown: Sequence[str] | None = None,
) -> Positions:
    """Pick the columns of inputs, labels and groups: those given, the others by their contents."""

    def find(name: str) -> int:
        return find_column(names, str(name), path, kind, shown, records)

    group = None if wanted.group is None else find(wanted.group)
    labels = _labels_given(names, wanted.label, find)
    if kind.width > 1:
        return _pick_several(names, records, wanted, path, kind, shown, find, labels, group)
    given = None if wanted.input is None else find(*kind.column_names(wanted.input))
    taken = {at for at in (group, *labels) if at is not None}
    candidates = [at for at in range(len(names)) if at not in taken]
    chosen = given
    if chosen is None:
        chosen = _customary(names, kind.customary, candidates)
    if chosen is None and kind.holds is not None:
        holding = [at for at in candidates if _holds(records, at, kind.holds)]
        chosen = holding[0] if len(holding) == 1 else None
    if not labels:
        candidates = [at for at in candidates if at != chosen]
        label = _customary(names, _LABEL_NAMES, candidates)
        if label is None:
            label = _customary(names, _MORE_LABEL_NAMES, candidates)
        labels = () if label is None else (label,)
    if chosen is None or not labels:
        chosen, labels = _by_contents(names, records, chosen, labels, group)
    if chosen is None or not labels or chosen in labels or group in (chosen, *labels):
        raise _not_known(names, records, path, kind, shown)
    return Positions((chosen,), labels, group)


def _pick_several(
    names: Sequence[str],
    records: Sequence[Sequence[Any]],
    wanted: Wanted,
    path: Path,
    kind: InputKind,
    shown: Sequence[str] | None,
    find: Callable[[str], int],
    labels: tuple[int, ...],
    group: int | None,
) -> Positions:
    """`pick_columns` where an input is in several columns; a group may be one of them, such as a premise."""
    if wanted.input is not None:
        chosen: tuple[int, ...] | None = tuple(map(find, kind.column_names(wanted.input)))
    else:
        chosen = kind.find(names, records) if kind.find is not None else None
    if chosen is not None and not labels:
        candidates = [at for at in range(len(names)) if at not in chosen and at != group]
        for customary in (_LABEL_NAMES, _MORE_LABEL_NAMES, kind.label_names):
            label = _customary(names, customary, candidates)
            if label is not None:
                labels = (label,)
                break
        else:
            left = [
                at
                for at in candidates
                if not _is_index(names, records, at) and not is_split_column(names[at])
            ]
            labels = tuple(left) if len(left) == 1 else ()
    if chosen is None or not labels:
        raise _not_known(names, records, path, kind, shown)
    if len(set(chosen)) < len(chosen) or set(chosen) & set(labels) or group in labels:
        used = listed(repr(names[at]) for at in (*chosen, *labels))
        raise DataError(
            f"Expected different columns of texts and of labels in {printable(str(path))}, got {used}. Pass "
            f"others as {kind.flag} and --label-column."
        )
    return Positions(chosen, labels, group)


def _not_known(
    names: Sequence[str],
    records: Sequence[Sequence[Any]],
    path: Path,
    kind: InputKind,
    shown: Sequence[str] | None,
) -> DataError:
    return DataError(
        f"Expected to know the columns of {kind.noun} and of labels in {printable(str(path))}, got the "
        f"columns {listed(map(repr, shown or names))}. {columns_remark(shown or names, records)}Pass "
        f"{kind.flag} and --label-column."
    )


def _labels_given(
    names: Sequence[str], label: str | Sequence[str] | None, find: Callable[[str], int]
) -> tuple[int, ...]:
    if label is None:
        return ()
    if isinstance(label, str) and names.count(label) == 1:
        return (names.index(label),)
    several = split_references(label) if isinstance(label, str) else list(label)
    if len(several) < 2:
        return (find(several[0]),)
    found = tuple(map(find, several))
    twice = next((name for at, name in enumerate(several) if found[at] in found[:at]), None)
    if twice is not None:
        raise DataError(
            f"Expected each label column once, got {twice!r} twice. Leave one of them out of --label-column."
        )
    return found


def _by_contents(
    names: Sequence[str],
    records: Sequence[Sequence[Any]],
    chosen: int | None,
    labels: tuple[int, ...],
    group: int | None,
) -> tuple[int | None, tuple[int, ...]]:
    """`(input, labels)` where one of them has no customary name."""
    columns = [
        at
        for at in range(len(names))
        if at in (chosen, *labels) or not (at == group or _is_index(names, records, at))
    ]
    if not labels and (hot := _hot_columns(names, records, columns, chosen)):
        others = [at for at in columns if at not in hot and not is_split_column(names[at])]
        if chosen is None and len(others) == 1:
            chosen = others[0]
        if others == [chosen]:
            return chosen, hot
    if len(columns) == 2 and (chosen is None) != (not labels):
        [other] = set(columns) - {chosen, *labels}
        return (other, labels) if chosen is None else (chosen, (other,))
    if len(columns) == 2 and chosen is None:
        # Labels repeat themselves, texts hardly.
        different = [len({str(record[column]).strip() for record in records}) for column in columns]
        if different[0] != different[1] and min(different) <= (len(records) + 1) / 2:
            at = different.index(min(different))
            return columns[1 - at], (columns[at],)
    return chosen, labels


def _hot_columns(
    names: Sequence[str], records: Sequence[Sequence[Any]], columns: Sequence[int], chosen: int | None
) -> tuple[int, ...]:
    """The columns of 0 and 1 only, where there are several that have names."""
    hot = tuple(at for at in columns if at != chosen and _is_hot(records, at))
    named = all(names[at] and not is_number(names[at]) for at in hot)
    return hot if len(hot) > 1 and named else ()


def _is_hot(records: Sequence[Sequence[Any]], at: int) -> bool:
    return bool(records) and all(hot_value(record[at]) is not None for record in records)


def _holds(records: Sequence[Sequence[Any]], at: int, holds: Callable[[object], bool]) -> bool:
    cells = [record[at] for record in records if record[at] not in (None, "")]
    return bool(cells) and sum(map(holds, cells)) >= 0.9 * len(records)


def _keys(name: str) -> set[str]:
    """The label of a cell and, of a list, the labels in it."""
    return {label_key(label_name(piece)) for piece in (name, *_PIECES.split(name)) if piece.strip()}


def has_input_header(first: Sequence[str], name: str | None, kind: InputKind) -> bool:
    """Whether the first row of a table without labels holds names."""
    first = [cell.strip().casefold() for cell in first]
    if name is None:
        return len(first) == 1 and first[0] in kind.customary
    return name.strip().casefold() in first and not name.isdecimal()


def find_column(
    names: Sequence[str],
    name: str | None,
    path: Path,
    kind: InputKind,
    shown: Sequence[str] | None = None,
    records: Sequence[Sequence[Any]] = (),
) -> int:
    """The position of a column by its name, or its number from 1 on; `None` by what is customary."""
    if name is None:
        name = next((name for name in names if name.casefold() in kind.customary), kind.customary[0])
    if names.count(name) == 1:
        return names.index(name)
    alike = [at for at, other in enumerate(names) if other.strip().casefold() == name.strip().casefold()]
    if len(alike) == 1:
        return alike[0]
    if name.isdecimal() and name not in names and 1 <= int(name) <= len(names):
        return int(name) - 1
    raise DataError(
        f"Expected one column {name!r} in {printable(str(path))}, got the columns "
        f"{listed(map(repr, shown or names))}. "
        f"{columns_remark(shown or names, records)}{did_you_mean(name, shown or names)}Pass one of them, or "
        "its number."
    )


def references(names: Sequence[str]) -> list[str]:
    """References to columns: the name of each, or its number where the name is not unique.

    Example:
        >>> references(["text", "text", "", "label"])
        ['1', '2', '3', 'label']
    """
    counts = Counter(names)
    return [name if name and counts[name] == 1 else str(at) for at, name in enumerate(names, start=1)]


def join_references(references: Iterable[str]) -> str:
    """Names of columns as `--label-column` takes them: with commas between them, quoted as in CSV.

    Example:
        >>> join_references(["joy", "anger, or so"])
        'joy,"anger, or so"'
    """
    file = io.StringIO()
    csv.writer(file, lineterminator="").writerow(references)
    return file.getvalue()


def as_reference(given: str | Sequence[str] | None) -> str | None:
    """Names of several columns as one string, as a manifest has them.

    Example:
        >>> as_reference(("premise", "hypothesis")), as_reference("premise,hypothesis")
        ('premise,hypothesis', 'premise,hypothesis')
    """
    return given if given is None or isinstance(given, str) else join_references(map(str, given))


def split_references(text: str) -> list[str]:
    """The names that `join_references` joined.

    Example:
        >>> split_references('joy, "anger, or so"')
        ['joy', 'anger, or so']
    """
    try:
        [names] = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        return [text]
    return [name.strip() for name in names] if all(name.strip() for name in names) else [text]


def _is_index(names: Sequence[str], records: Sequence[Sequence[Any]], at: int) -> bool:
    """Whether a column only numbers or names the rows, or is empty."""
    values = [str(record[at]).strip() for record in records]
    if not any(values):
        return not names[at] or names[at].isdecimal()
    if not all(value.removesuffix(".0").isdecimal() for value in values):
        called = bool(names[at]) and _INDEX.fullmatch(names[at])
        return bool(called) and len(set(values)) == len(values) and not any(" " in value for value in values)
    numbers = [int(value.removesuffix(".0")) for value in values]
    if _INDEX.fullmatch(names[at]):
        return len(set(numbers)) == len(numbers)
    return len(numbers) > 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _customary(names: Sequence[str], customary: Collection[str], candidates: Sequence[int]) -> int | None:
    found = [at for at in candidates if names[at].strip().casefold() in customary]
    return found[0] if len(found) == 1 else None
