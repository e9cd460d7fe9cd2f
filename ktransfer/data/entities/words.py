"""Split a text into words, the units that get a tag each."""

import unicodedata

# Scripts that put no space between words: each character is a word.
_UNSPACED = (
    *((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007)),
    *((0x3040, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF)),
    *((0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1B000, 0x1B16F), (0x20000, 0x3FFFF)),
)
_SKIN_TONES = (0x1F3FB, 0x1F3FF)
_JOINER = "\u200d"

SPACE, LETTER, SINGLE, ATTACHED = "space", "letter", "single", "attached"


def words_of(text: str) -> list[tuple[int, int]]:
    """The words of a text, by nothing but its characters.

    A word is a run of letters and digits, with the marks on them; any other character that is no white space is a
    word of its own, and so is each character of a script without spaces, such as Chinese or Thai. Combining marks,
    invisible characters and what a zero-width joiner joins belong to the word before them.

    Args:
        text: Any text.

    Returns:
        `(start, end)` of each word in characters, in order.

    Example:
        >>> text = "O'Neil, 東京"
        >>> [text[start:end] for start, end in words_of(text)]
        ['O', "'", 'Neil', ',', '東', '京']
    """
    words: list[tuple[int, int]] = []
    start, before, joined = 0, SPACE, False
    for place, character in enumerate(text):
        kind = _kind(character)
        goes_on = before != SPACE and (
            kind == ATTACHED or (joined and kind != SPACE) or (kind == before == LETTER)
        )
        if not goes_on:
            if before != SPACE:
                words.append((start, place))
            start, before = place, SINGLE if kind == ATTACHED else kind
        joined = character == _JOINER
    if before != SPACE:
        words.append((start, len(text)))
    return words


def _kind(character: str) -> str:
    if character.isspace():
        return SPACE
    code = ord(character)
    if code < 0x80:
        return LETTER if character.isalnum() or character == "_" else SINGLE
    category = unicodedata.category(character)
    if category[0] == "M" or category == "Cf" or _SKIN_TONES[0] <= code <= _SKIN_TONES[1]:
        return ATTACHED
    if category[0] in "LN" and not any(first <= code <= last for first, last in _UNSPACED):
        return LETTER
    return SINGLE


def snapped(start: int, end: int, words: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The first and the last word that a span has characters of; `None` where there is none.

    Args:
        start, end: Of the span, in characters.
        words: From `words_of`.

    Example:
        >>> snapped(1, 8, [(0, 4), (5, 9)])
        (0, 1)
    """
    inside = [index for index, (first, last) in enumerate(words) if first < end and last > start]
    return (inside[0], inside[-1]) if inside else None


def is_whole(start: int, end: int, words: list[tuple[int, int]]) -> bool:
    """Whether a span begins where a word does and ends where one does.

    Example:
        >>> is_whole(0, 3, [(0, 4), (5, 9)]), is_whole(0, 9, [(0, 4), (5, 9)])
        (False, True)
    """
    return any(first == start for first, _ in words) and any(last == end for _, last in words)
