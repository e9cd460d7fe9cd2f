"""Entities of a text, from the probabilities of its tokens: words, windows, valid tags; needs NumPy and tokenizers.

The same file lies next to each program that needs it.
"""

import unicodedata

import numpy as np

RULE = "unicode-1"  # how a text is cut into words, as the manifest names it
_UNSPACED = (
    *((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007)),
    *((0x3040, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF)),
    *((0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1B000, 0x1B16F), (0x20000, 0x3FFFF)),
)


def words_of(text):
    """Return `(start, end)` of each word in characters.

    A word is a run of letters and digits with the marks on them; any other character that is no white space is one of
    its own, and so is each character of a script without spaces.
    """
    words, start, before, joined = [], 0, "space", False
    for place, character in enumerate(text):
        kind = _kind(character)
        goes_on = before != "space" and (
            kind == "attached" or (joined and kind != "space") or (kind == before == "letter")
        )
        if not goes_on:
            if before != "space":
                words.append((start, place))
            start, before = place, "single" if kind == "attached" else kind
        joined = character == "\u200d"
    if before != "space":
        words.append((start, len(text)))
    return words


def _kind(character):
    if character.isspace():
        return "space"
    code = ord(character)
    if code < 0x80:
        return "letter" if character.isalnum() or character == "_" else "single"
    category = unicodedata.category(character)
    if category[0] == "M" or category == "Cf" or 0x1F3FB <= code <= 0x1F3FF:
        return "attached"
    if category[0] in "LN" and not any(first <= code <= last for first, last in _UNSPACED):
        return "letter"
    return "single"


class Windows(list):
    """The model's inputs for each window of a text, `{input: (tokens,)}`.

    Attributes:
        text: The text.
        words: From `words_of`.
        bounds: Of each window the first word and the one after the last.
        places: Of each window the token of each word.
        ends: Tokens up to the end of each word.
    """

    is_cut = False


class Entities:
    """Cuts texts into words and windows, and makes entities of the probabilities of tokens.

    Args:
        tokenizer: `tokenizers.Tokenizer` of the run's `tokenizer.json`; it is set not to cut or pad.
        manifest: Of the run.
        labels: The tags that the artifact gives: `O`, `B-X`, `I-X`, `B-Y`, ...

    Raises:
        ValueError: The words of the run are found by another rule than this file knows.

    Example:
        >>> entities = Entities(tokenizer, manifest, ["O", "B-LOC", "I-LOC"])
        >>> windows = entities.windows("In Rome")
        >>> entities.found(windows, [probabilities])
        [{'label': 'LOC', 'start': 3, 'end': 7, 'text': 'Rome', 'probability': 0.98}]
    """

    def __init__(self, tokenizer, manifest, labels):
        facts, words = manifest["tokenizer"], manifest["preprocessing"]["words"]
        if words["rule"] != RULE:
            raise ValueError(
                f"Expected words by the rule {RULE}, got {words['rule']!r}. Use its own program."
            )
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self._fields = tokenizer, facts["inputs"]
        self._start, self._end = facts["start_token_id"], facts["end_token_id"]
        self._capacity = facts["sequence_length"] - 2
        self._most = min(words["tokens"], self._capacity)
        self._prefix, self._overlap = words["prefix"], words["overlap"]
        self._nothing = self._encoded(words["nothing"]) or [self._end]
        self._labels = labels

    def _encoded(self, word):
        utf8 = (self._prefix + word).encode("utf-8", "replace").decode("utf-8")
        return self._tokenizer.encode(utf8, add_special_tokens=False).ids[: self._most]

    def windows(self, text):
        """Return the `Windows` of a text; one without words has none."""
        made = Windows()
        made.text, made.words = text, words_of(text)
        known = {}
        for start, end in made.words:
            word = text[start:end]
            if word not in known:
                known[word] = self._encoded(word) or self._nothing
        ids = [known[text[start:end]] for start, end in made.words]
        lengths = np.array([len(each) for each in ids], int)
        made.ends, made.bounds, made.places = np.cumsum(lengths), [], []
        first = 0
        while first < len(ids):
            before = made.ends[first - 1] if first else 0
            last = int(np.searchsorted(made.ends, before + self._capacity, side="right"))
            tokens = [self._start, *(each for word in ids[first:last] for each in word), self._end]
            given = {"ids": tokens, "type_ids": [0] * len(tokens), "attention_mask": [1] * len(tokens)}
            made.append({name: np.array(given[field], np.int32) for name, field in self._fields.items()})
            made.bounds.append((first, last))
            made.places.append(1 + made.ends[first:last] - lengths[first:last] - before)
            if last >= len(ids):
                break
            wanted = before + self._capacity * (1 - self._overlap)
            first = min(max(int(np.searchsorted(made.ends, wanted, side="right")), first + 1), last)
        return made

    def found(self, windows, answers):
        """Return the entities of a text in order, by the probabilities `(tokens, tags)` of each of its windows.

        Of a word that several windows have, the one counts in which it has more context on its narrower side.
        """
        count = len(windows.words)
        merged, context = np.zeros((count, len(self._labels))), np.full(count, -1)
        for (first, last), places, answer in zip(windows.bounds, windows.places, answers, strict=True):
            begin = windows.ends[first - 1] if first else 0
            ends, every = windows.ends[first:last], np.iinfo(np.int64).max
            starts = np.concatenate([[begin], ends[:-1]])
            left = starts - begin if first else every
            right = ends[-1] - ends if last < count else every
            each = np.broadcast_to(np.minimum(left, right), ends.shape)
            better = np.flatnonzero(each > context[first:last])
            context[first + better] = each[better]
            merged[first + better] = np.asarray(answer)[places[better]]
        tags, entities = best_tags(merged), []
        for word, tag in enumerate(tags):
            if tag % 2:
                entities.append([word, word, self._labels[tag].removeprefix("B-")])
            elif tag:
                entities[-1][1] = word
        return [
            {
                "label": label,
                "start": windows.words[first][0],
                "end": windows.words[last][1],
                "text": windows.text[windows.words[first][0] : windows.words[last][1]],
                "probability": float(merged[np.arange(first, last + 1), tags[first : last + 1]].min()),
            }
            for first, last, label in entities
        ]


def best_tags(probabilities):
    """Return the most probable tags of words `(words, tags)` that are valid: no `I-X` but after `B-X` or `I-X`."""
    logs = np.log(np.maximum(np.asarray(probabilities, float), 1e-30))
    count, outputs = logs.shape
    if not count:
        return np.zeros(0, int)
    begins, insides = np.arange(1, outputs, 2), np.arange(2, outputs, 2)
    best = logs[0].copy()
    best[insides] = -np.inf
    back = np.zeros((count, outputs), int)
    for word in range(1, count):
        back[word] = int(np.argmax(best))
        back[word, insides] = np.where(best[begins] >= best[insides], begins, insides)
        best = best[back[word]] + logs[word]
    tags = np.zeros(count, int)
    tags[-1] = int(np.argmax(best))
    for word in range(count - 1, 0, -1):
        tags[word - 1] = back[word, tags[word]]
    return tags
