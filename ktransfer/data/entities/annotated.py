"""Texts with entities in characters and notes on them: the result of every reader of marked texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ktransfer.data.entities.words import is_whole, words_of
from ktransfer.data.tables.file_bytes import named_rows
from ktransfer.errors import DataError

Span = tuple[int, int, str]


@dataclass
class Annotated:
    """Texts with the entities in each.

    Attributes:
        source: The file, for messages.
        texts: At least one.
        spans: Of each text `(start, end, type)` in characters, in order, none over another.
        rows: The row or the first line of each text.
        layout: How they were written, in words, such as `"CoNLL columns, IOB2"`.
        notes: Lines on what was changed or left out.
    """

    source: str
    texts: list[str]
    spans: list[tuple[Span, ...]]
    rows: list[int]
    layout: str
    notes: list[str] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        """The types of entities, sorted."""
        return sorted({kind for spans in self.spans for _, _, kind in spans})


def checked(
    source: str, texts: Sequence[str], spans: Sequence[Sequence[Span]], rows: Sequence[int], layout: str
) -> Annotated:
    """Texts and spans as a model can learn them, or why not.

    White space at the ends of a span is cut off, an empty span left out, and of two that overlap the longer is kept;
    `notes` say how many and where.

    Raises:
        DataError: A span ends past its text, or offsets count bytes or UTF-16 units where characters are meant.

    Example:
        >>> checked("a.jsonl", ["See Rome"], [[(4, 8, "LOC")]], [1], "spans").spans
        [((4, 8, 'LOC'),)]
    """
    _check_unit(source, texts, spans, rows)
    found, trimmed, empty, overlapping, cutting = [], [], [], [], []
    for text, given, row in zip(texts, spans, rows, strict=True):
        kept: list[Span] = []
        for start, end, kind in sorted(given, key=lambda span: (span[0] - span[1], span[0])):
            inside = text[start:end]
            first = start + len(inside) - len(inside.lstrip())
            last = start + len(inside.rstrip())
            if first >= last:
                empty.append(row)
                continue
            if (first, last) != (start, end):
                trimmed.append(row)
            if any(first < other[1] and last > other[0] for other in kept):
                overlapping.append(row)
                continue
            kept.append((first, last, kind))
        words = words_of(text)
        cutting += [row for start, end, _ in kept if not is_whole(start, end, words)]
        found.append(tuple(sorted(kept)))
    notes = [
        f"{source}: {count(where)} {what} ({named_rows(list(dict.fromkeys(where)))})"
        for where, what in (
            (empty, "of no character, left out"),
            (overlapping, "over a longer one or the same, left out"),
            (trimmed, "with white space at an end, which was cut off"),
            (cutting, "with an end within a word: trained on as whole words, evaluated as they are"),
        )
        if where
    ]
    return Annotated(source, list(texts), found, list(rows), layout, notes)


def count(where: Sequence[int]) -> str:
    """`"1 span"`, `"2 spans"` and so on."""
    return f"{len(where)} span{'s' if len(where) > 1 else ''}"


def _check_unit(
    source: str, texts: Sequence[str], spans: Sequence[Sequence[Span]], rows: Sequence[int]
) -> None:
    """Raise where spans do not fit their texts, naming the unit that they fit in."""
    past = [
        (row, text, span)
        for text, given, row in zip(texts, spans, rows, strict=True)
        for span in given
        if span[1] > len(text) or span[0] < 0
    ]
    if hint := _other_unit(texts, spans):
        unit, wrong = hint
        where = named_rows([rows[index] for index in wrong])
        how = {
            "bytes": "len(text.encode()[:offset].decode())",
            "UTF-16 units": 'len(text.encode("utf-16-le")[: 2 * offset].decode("utf-16-le"))',
        }[unit]
        raise DataError(
            f"Expected offsets in characters in {source}, got offsets that fit words only as {unit}, in {where}. "
            f"Convert each with {how}."
        )
    if past:
        row, text, (start, end, kind) = past[0]
        more = f" (and {len(past) - 1} more)" if len(past) > 1 else ""
        raise DataError(
            f"Expected spans within their text in {source}, got {kind} from {start} to {end} in a text of "
            f"{len(text)} characters, row {row}{more}. Fix the offsets, which count characters from 0."
        )


def _other_unit(texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> tuple[str, list[int]] | None:
    """`(unit, indices)` where offsets fit words as another unit and not as characters."""
    indices = [i for i, text in enumerate(texts) if spans[i] and not text.isascii() and _is_encodable(text)]
    misfits = [i for i in indices if not _fit(texts[i], spans[i])]
    if not misfits:
        return None
    for unit, width in (("bytes", _byte_width), ("UTF-16 units", _utf16_width)):
        if all(
            (moved := _moved(texts[i], spans[i], width)) and _fit(texts[i], moved) for i in indices
        ) and any(_moved(texts[i], spans[i], width) != list(spans[i]) for i in misfits):
            return unit, misfits
    return None


def _fit(text: str, spans: Sequence[Span]) -> bool:
    words = words_of(text)
    return all(is_whole(start, end, words) for start, end, _ in spans)


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _byte_width(character: str) -> int:
    return len(character.encode())


def _utf16_width(character: str) -> int:
    return 1 + (ord(character) > 0xFFFF)


def _moved(text: str, spans: Sequence[Span], width: Callable[[str], int]) -> list[Span] | None:
    """The spans in characters where they count other units; `None` where one lies within a character."""
    places, total = {0: 0}, 0
    for index, character in enumerate(text, 1):
        total += width(character)
        places[total] = index
    if not all(start in places and end in places for start, end, _ in spans):
        return None
    return [(places[start], places[end], kind) for start, end, kind in spans]
