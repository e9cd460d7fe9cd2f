"""Recognize columns that hold no texts or no classes: file names, lists of labels, scores..."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ktransfer.data.label_names import is_number
from ktransfer.data.tables.file_bytes import named_rows
from ktransfer.data.tables.label_sets import hot_value
from ktransfer.errors import DataError
from ktransfer.security.safe_io import visible

_MOSTLY = 0.9  # share of the rows that makes a column look like something

_IMAGES = "jpe?g|jfif|png|gif|bmp|webp|tiff?|heic|heif|avif|jp2|svg|dcm|ppm|pgm"
_FILE = re.compile(
    rf"[^\s/\\]\.({_IMAGES}|txt|pdf|docx?|csv|tsv|json|xml|html?|wav|mp3|flac|ogg|m4a|mp4|avi|mov|mkv|npy|npz"
    r"|nii(\.gz)?)\Z",
    re.IGNORECASE,
)
_LONGEST_PATH = 300  # characters
_TAG = re.compile(r"[BILUES]-\S+")
_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/]\d{1,2}[-/](\d{4}|\d{2})|\d{1,2}\.\d{1,2}\.\d{4}"
    r"|\d{2}\.\d{2}\.\d{2}|[A-Z][a-z]{2,8}\.? \d{1,2}, \d{4})"
    r"([T ,].*)?"
)
_NUMBERS = re.compile(r"[+-]?\d*\.?\d+([\s,;]+[+-]?\d*\.?\d+)*")
_WHOLE = re.compile(r"[+-]?\d+")

_CLASSES = "Pass the column with the classes as --label-column."
_NUMBERS_FIX = 'Pass --task regression (task="regression") to predict the number, or '


def require_texts(
    texts: Sequence[str], rows: Sequence[Any], source: str, *, flag: str = "--text-column"
) -> None:
    """Refuse a column of texts that holds names of files or numbers.

    Args:
        texts: The column.
        rows: The row of each.
        source: The column and its file, for the message.
        flag: The option that names the column. Defaults to `"--text-column"`.

    Raises:
        DataError: It does; the message says what it looks like, in which rows, and what to do.

    Example:
        >>> require_texts(["see you at six"], [2], "column 'text' of reviews.csv")
    """
    stripped = [text.strip() for text in texts]
    files = [text for text in stripped if _is_file(text)]
    if len(files) >= _MOSTLY * len(texts):
        if any(re.search(rf"\.({_IMAGES})$", name, re.IGNORECASE) for name in files):
            fix = f"Pass the texts as {flag}, or images as --file-column and their table as the data."
        else:
            fix = f"Write what is in the files into the column, or pass another {flag}."
        raise _refusal("texts", "names of files", stripped, rows, source, fix)
    if sum(map(is_number, stripped)) >= _MOSTLY * len(texts):
        raise _refusal("texts", "numbers", stripped, rows, source, f"Pass the texts as {flag}.")


def require_classes(names: Sequence[str], rows: Sequence[Any], source: str) -> None:
    """Refuse a column of labels that holds something else than names of classes.

    That is names of files, tags of words, lists of numbers, dates, numbers with a fraction, one number spelled
    in two ways, or labels that hardly ever come again.

    Args:
        names: The column, as `label_name` gives it; of lists, each label of each row.
        rows: The row of each.
        source: The column and its file, for the message.

    Raises:
        DataError: It does; the message says what it looks like, in which rows, and what to do.

    Example:
        >>> require_classes(["ham", "spam", "ham"], [2, 3, 4], "column 'label' of sms.csv")
    """
    found = label_look(names)
    if found:
        look, shown, fix = found
        chosen = [at for at, name in enumerate(names) if name in shown]
        picked, picked_rows = [names[at] for at in chosen], [rows[at] for at in chosen]
        raise _refusal("labels that name classes", look, picked, picked_rows, source, fix)


def label_look(names: Sequence[str]) -> tuple[str, set[str], str] | None:
    """A description of labels that do not name classes.

    Returns:
        `(what, the labels that show it, what to do)`, or None.

    Example:
        >>> label_look(["0.05", "0.12", "0.19"])[0]
        'numbers with a fraction (scores or ratings)'
    """
    counts = Counter(names)
    return _looks_like_no_labels(counts) or _hardly_repeated(counts)


def holds_no_labels(names: Sequence[str]) -> bool:
    """Whether cells are something else than labels or lists of labels, such as dates, scores or tags of words.

    Example:
        >>> holds_no_labels(["30/01/2024", "31/01/2024"]), holds_no_labels(["rock/pop", "rock/jazz"])
        (True, False)
    """
    return _looks_like_no_labels(Counter(names)) is not None


def _looks_like_no_labels(counts: Counter[str]) -> tuple[str, set[str], str] | None:
    for what, shown in (
        ("names of files", set(filter(_is_file, counts))),
        ("dates", _matching(_DATE, counts)),
    ):
        if _share(shown, counts) >= _MOSTLY:
            return what, shown, _CLASSES
    tags = _matching(_TAG, counts)
    outside = {"O"} & counts.keys()
    if tags and _share(tags | outside, counts) >= _MOSTLY and (len(tags) > 1 or outside):
        fix = "ktransfer classifies whole texts: write one text and its class a row."
        return "tags of single words, as of named entities", tags, fix
    return _looks_like_numbers(counts)


def columns_remark(names: Sequence[str], records: Sequence[Sequence[Any]]) -> str:
    """A description of a table's columns, where none is clearly that of texts or labels.

    Returns:
        A sentence, or nothing.

    Example:
        >>> columns_remark(["words", "angry", "happy"], [["hi there", "0", "1"], ["oh no", "1", "0"]])
        "'angry' and 'happy' look like one column a label: pass them as --label-column, commas between. "
    """
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        return f"{_and(map(repr, twice))} is there more than once: pass the number of the column. "
    columns = [[_shown(record[at]) for record in records] for at in range(len(names))]
    hot = [
        name
        for name, column in zip(names, columns, strict=True)
        if column and all(hot_value(cell) is not None for cell in column)
    ]
    if len(hot) > 1:
        return f"{_and(map(repr, hot))} look like one column a label: pass them as --label-column, commas between. "
    remarks = [
        f"{names[at]!r} has {found[0]}, such as {_short(found[1])}"
        for at, found in ((at, _column_look(column)) for at, column in enumerate(columns))
        if found
    ]
    lists = [name for at, name in enumerate(names) if any(isinstance(record[at], list) for record in records)]
    remarks += [f"{name!r} has lists" for name in lists]
    pairs = [
        name for name in names if re.fullmatch(r".+[12ab]", name, re.IGNORECASE) and not name.isdecimal()
    ]
    if len(pairs) == 2 and pairs[0][:-1] == pairs[1][:-1] and pairs[0] != pairs[1]:
        remarks.append(
            f"{pairs[0]!r} and {pairs[1]!r} look like pairs of texts: pass them as --text-columns, a comma between"
        )
    return f"{_and(remarks)}. " if remarks else ""


def _column_look(column: Sequence[Any]) -> tuple[str, str] | None:
    """`(what, an example)` where a column has names of files, or numbers that are no classes; else None."""
    counts = Counter(value for value in column if value)
    if not counts:
        return None
    files = [value for value in counts if _is_file(value)]
    if _share(files, counts) >= _MOSTLY:
        return "names of files", files[0]
    if all(map(is_number, counts)):
        found = _looks_like_numbers(counts) or _hardly_repeated(counts)
        return found and (found[0], next(value for value in counts if value in found[1]))
    return None


def _looks_like_numbers(counts: Counter[str]) -> tuple[str, set[str], str] | None:
    numbers = {name for name in counts if is_number(name)}
    fractions = {name for name in numbers if not float(name).is_integer()}
    if fractions and _share(numbers, counts) >= _MOSTLY:
        fix = f"{_NUMBERS_FIX}write ranges as names, such as low and high, to classify, or pass another --label-column."
        return "numbers with a fraction (scores or ratings)", fractions, fix
    spelled: dict[float, set[str]] = {}
    for name in counts:
        if _WHOLE.fullmatch(name):
            spelled.setdefault(int(name), set()).add(name)
    twice = next((names for names in spelled.values() if len(names) > 1), None)
    if twice:
        return "one number spelled in two ways", twice, "Write each class in one way."
    several = _matching(_NUMBERS, counts)
    lists = {name for name in several if not is_number(name)}
    if lists and len(several) == len(counts):
        fix = "Pass --label-separator where they are lists of labels, else another --label-column."
        return "lists of numbers, or numbers with a decimal comma", lists, fix
    return None


def _hardly_repeated(counts: Counter[str]) -> tuple[str, set[str], str] | None:
    rows, different = counts.total(), len(counts)
    whole = all(_WHOLE.fullmatch(name) for name in counts)
    if different <= max(7, rows / 2):
        return None
    if whole and different <= 20 and max(map(int, counts)) - min(map(int, counts)) < different:
        return None  # 0, 1, ... 10, with an example of each
    if all(map(is_number, counts)):
        what = "numbers that hardly repeat (ids, prices or counts)"
        return (
            f"{what}, {different:,} different in {rows:,} rows",
            set(counts),
            f"{_NUMBERS_FIX}pass the column with the classes as --label-column.",
        )
    if sum(len(name.split()) for name in counts) >= 4 * different:
        what = "texts"
    else:
        what = "ids or texts that hardly repeat"
    return f"{what}, {different:,} different in {rows:,} rows", set(counts), _CLASSES


def _is_file(text: str) -> bool:
    # Only the last characters are searched.
    return len(text) <= _LONGEST_PATH and "\n" not in text and _FILE.search(text, len(text) - 10) is not None


def _matching(pattern: re.Pattern[str], names: Iterable[str]) -> set[str]:
    return {name for name in names if pattern.fullmatch(name)}


def _share(names: Iterable[str], counts: Counter[str]) -> float:
    return sum(counts[name] for name in names) / counts.total()


def _refusal(
    expected: str, look: str, values: Sequence[Any], rows: Sequence[int | str], source: str, fix: str
) -> DataError:
    first: dict[Any, int | str] = {}
    for value, row in zip(values, rows, strict=True):
        first.setdefault(value, row)
        if len(first) == 3:
            break
    where = named_rows(list(first.values()), "row" if isinstance(rows[0], int) else "file")
    shown = ", ".join(map(_short, first))
    return DataError(f"Expected {expected} in {source}, got {look}, such as {shown} in {where}. {fix}")


def _short(value: str) -> str:
    text = visible(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _shown(value: object) -> str:
    return "" if value is None else str(value).strip()


def _and(items: Iterable[str]) -> str:
    items = list(items)
    if len(items) > 5:
        items = [*items[:4], f"{len(items) - 4} more"]
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""
