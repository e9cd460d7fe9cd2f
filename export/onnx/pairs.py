"""Token ids of pairs of texts, packed as in training; needs NumPy and tokenizers.

The same file lies next to each program that needs it.
"""

import numpy as np

TRUNCATE = "round_robin"  # how pairs that are too long are cut, as the manifest names it


class Pairs:
    """Makes one row of ids of two texts: start, the first, separator, the second, end.

    Tokens are taken from both in turn until there is no room for more, so that the longer text loses its end first.

    Args:
        tokenizer: `tokenizers.Tokenizer` of the run's `tokenizer.json`; it is set not to cut or pad.
        facts: The manifest's `tokenizer`, which has `pair`.

    Raises:
        ValueError: The pairs of the run are cut by another rule than this file knows.

    Example:
        >>> pairs = Pairs(tokenizer, manifest["tokenizer"])
        >>> pairs("A plane lands.", "A plane takes off.")["segment_ids"]
        array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1], dtype=int32)
    """

    def __init__(self, tokenizer, facts):
        special = facts["pair"]
        if special["truncate"] != TRUNCATE:
            raise ValueError(
                f"Expected pairs cut by the rule {TRUNCATE}, got {special['truncate']!r}. Use its own program."
            )
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self._fields, self._characters = tokenizer, facts["inputs"], facts.get("characters")
        self._special = special["start"], special["separator"], special["end"]
        self._room = facts["sequence_length"] - sum(map(len, self._special))

    def __call__(self, first, second):
        """Return `{input: (tokens,)}` of two texts, int32."""
        return self.packed(first, second)[0]

    def packed(self, first, second):
        """Return `{input: (tokens,)}` of two texts, and whether one of them was cut."""
        one, other = self._encoded(first), self._encoded(second)
        room = self._room
        of_one = min(len(one), max(room - len(other), room - room // 2))
        of_other = min(len(other), room - of_one)
        start, separator, end = self._special
        ids = [*start, *one[:of_one], *separator, *other[:of_other], *end]
        segments = [0] * (len(start) + of_one + len(separator)) + [1] * (of_other + len(end))
        given = {"ids": ids, "type_ids": segments, "attention_mask": [1] * len(ids)}
        is_cut = len(one) + len(other) > room or any(
            self._characters is not None and len(text) > self._characters for text in (first, second)
        )
        return {name: np.array(given[field], np.int32) for name, field in self._fields.items()}, is_cut

    def _encoded(self, text):
        text = text[: self._characters]  # as in training
        utf8 = text.encode("utf-8", "replace").decode("utf-8")  # halves of surrogate pairs become "?"
        return self._tokenizer.encode(utf8, add_special_tokens=False).ids
