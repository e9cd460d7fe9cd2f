"""Tags of words, such as B-PER and I-PER, in any usual scheme, to entities."""

import re
from collections.abc import Sequence

from ktransfer.errors import DataError

OUTSIDE = "O"
_TAG = re.compile(r"([BILUSEM])-(\S(?:.*\S)?)")
IOB1, IOB2, IOBES, BILOU, BMES = "IOB1", "IOB2", "IOBES", "BILOU", "BMES"
# What begins and what ends an entity, of schemes that mark both.
_ENDED = {IOBES: ("S", "E"), BILOU: ("U", "L"), BMES: ("S", "E")}


def is_tag(value: object) -> bool:
    """Whether a value is a tag of a word: `O`, or one of the letters B, I, L, U, S, E, M, a hyphen and a type.

    Example:
        >>> is_tag("B-PER"), is_tag("O"), is_tag("NN")
        (True, True, False)
    """
    return isinstance(value, str) and (value == OUTSIDE or _TAG.fullmatch(value) is not None)


def find_scheme(sentences: Sequence[Sequence[str]]) -> str | None:
    """The scheme that tags are written in.

    Args:
        sentences: The tags of each.

    Returns:
        `"IOB2"`, `"IOB1"`, `"IOBES"`, `"BILOU"` or `"BMES"`; `None` where they fit none.

    Example:
        >>> find_scheme([["B-PER", "I-PER", "O"]]), find_scheme([["I-PER", "B-PER"]]), find_scheme([["U-PER"]])
        ('IOB2', 'IOB1', 'BILOU')
    """
    prefixes = {tag[0] for tags in sentences for tag in tags if tag != OUTSIDE}
    if prefixes & {"L", "U"}:
        return BILOU if prefixes <= {"B", "I", "L", "U"} else None
    if prefixes & {"S", "E", "M"}:
        if "M" in prefixes:
            return BMES if prefixes <= {"B", "M", "S", "E"} else None
        return IOBES if prefixes <= {"B", "I", "S", "E"} else None
    # In IOB1 only what follows another entity of its type begins with B.
    if not any(_begins_with_inside(tags) for tags in sentences):
        return IOB2
    return IOB1 if all(_only_needed_beginnings(tags) for tags in sentences) else None


def _begins_with_inside(tags: Sequence[str]) -> bool:
    return any(
        tag[0] == "I" and (before == OUTSIDE or before[2:] != tag[2:])
        for before, tag in zip([OUTSIDE, *tags], tags, strict=False)
    )


def _only_needed_beginnings(tags: Sequence[str]) -> bool:
    return all(
        tag[0] != "B" or (before != OUTSIDE and before[2:] == tag[2:])
        for before, tag in zip([OUTSIDE, *tags], tags, strict=False)
    )


def entities_of(
    tags: Sequence[str], scheme: str, *, lines: Sequence[int] | None = None, source: str = "the tags"
) -> list[tuple[int, int, str]]:
    """The entities that the tags of one sentence mark.

    Args:
        tags: One a word.
        scheme: As `find_scheme` names it.
        lines: The line of each word, for messages. Defaults to the number of the word, from 1 on.
        source: Where the tags are, for messages.

    Returns:
        `(first, last, type)` of each, words counted from 0.

    Raises:
        DataError: A tag cannot stand where it does; the message names its line.

    Example:
        >>> entities_of(["B-PER", "L-PER", "O", "U-LOC"], "BILOU")
        [(0, 1, 'PER'), (3, 3, 'LOC')]
    """
    lines = list(range(1, len(tags) + 1)) if lines is None else lines
    found: list[tuple[int, int, str]] = []
    single, last = _ENDED.get(scheme, ("", ""))
    inside = "M" if scheme == BMES else "I"
    start: int | None = None  # of an entity that is open

    def refuse(place: int, expected: str) -> None:
        before = tags[place - 1] if place else "the beginning of the sentence"
        raise DataError(
            f"Expected {expected} in {source}, got {tags[place]} after {before} in line {lines[place]}. "
            "Fix the tag."
        )

    for place, tag in enumerate(tags):
        letter, kind = tag[0] if tag != OUTSIDE else OUTSIDE, tag[2:]
        continues = start is not None and letter in (inside, last) and letter and kind == tags[start][2:]
        if start is not None and not continues:
            if last:
                refuse(place, f"{last}-{tags[start][2:]} at the end of an entity ({scheme})")
            found.append((start, place - 1, tags[start][2:]))
            start = None
        if letter == OUTSIDE:
            continue
        if continues and start is not None:
            if letter == last:
                found.append((start, place, kind))
                start = None
        elif letter == single and single:
            found.append((place, place, kind))
        elif letter == "B" or (scheme == IOB1 and letter == "I"):
            start = place
        else:
            refuse(place, f"B-{kind} at the beginning of an entity ({scheme})")
    if start is not None:
        if last:
            expected = f"{last}-{tags[start][2:]} at the end of an entity ({scheme})"
            raise DataError(
                f"Expected {expected} in {source}, got {tags[-1]} at the end of the sentence in line {lines[-1]}. "
                "Fix the tag."
            )
        found.append((start, len(tags) - 1, tags[start][2:]))
    return found
