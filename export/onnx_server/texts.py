"""From a text to the token ids that the model takes."""

import numpy as np

from .errors import Refused, shown


class Tokens(dict):
    """`{input: (tokens,)}` of one text.

    Attributes:
        is_cut: Whether the text had more tokens than the model takes; those at its end are left out.
    """

    is_cut = False


class TextReader:
    """Tokenizes a text as in training: one that is too long is cut.

    Args:
        tokenizer: `tokenizers.Tokenizer` of the run's `tokenizer.json`.
        facts: The manifest's `tokenizer`: `inputs` from a name to the field of an encoding, `pad_token_id`,
            `sequence_length` in tokens, `fixed_length`, `characters` of a text that are looked at.
        inputs: The model's, as in the artifact's signature: `name`, `shape`, `dtype`.

    Attributes:
        kind: `"text"`, the name of the field or input that takes texts.
        texts: How many texts an example has.
        limits: From an axis of a batch to the least and the most that it may be.

    Example:
        >>> reader = TextReader(tokenizer, manifest["tokenizer"], artifact["signature"]["inputs"])
        >>> reader("A fine film.")["token_ids"]
        array([ 101, 1037, 2986, 2143, 1012,  102], dtype=int32)
    """

    kind = "text"
    texts = 1

    def __init__(self, tokenizer, facts, inputs):
        self._tokenizer = tokenizer
        self._fields = facts["inputs"]
        self._characters = facts.get("characters")
        self._dtypes = {entry["name"]: entry["dtype"] for entry in inputs}
        self._padding = {"ids": facts["pad_token_id"], "type_ids": 0, "attention_mask": 0}
        self._length = next(iter(inputs))["shape"][1]  # the one that the artifact takes, None for any
        known_ids = [facts["pad_token_id"], *tokenizer.get_vocab(with_added_tokens=True).values()]
        self._most = {"ids": max(known_ids), "attention_mask": 1}
        longest = facts["sequence_length"]
        shortest = self._length or (longest if facts["fixed_length"] else 1)
        self.limits = {1: (shortest, self._length or longest)}

    def __call__(self, text):
        """Return `Tokens` of a text, at most `sequence_length` of them."""
        is_long = self._characters is not None and len(text) > self._characters
        text = text[: self._characters]  # as in training
        utf8 = text.encode("utf-8", "replace").decode("utf-8")  # halves of surrogate pairs become "?"
        encoding = self._tokenizer.encode(utf8)
        tokens = Tokens(
            (name, np.array(getattr(encoding, field), self._dtypes[name]))
            for name, field in self._fields.items()
        )
        tokens.is_cut = bool(encoding.overflowing) or is_long
        return tokens

    @staticmethod
    def of_json(value):
        """Return a text of JSON; refuses other values."""
        if not isinstance(value, str):
            raise Refused(400, f"Expected a text, got {shown(value)}. Send a string.")
        return value

    @staticmethod
    def of_bytes(value):
        """Return a text of its bytes; refuses others than UTF-8."""
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refused(
                400,
                f"Expected a text in UTF-8, got {shown(value)}, which is not from byte {error.start} on. "
                "Encode it in UTF-8.",
            ) from error

    def check(self, tensors):
        """Refuse tensors `{input: (B, tokens)}` that no text gives: ids that are none, and masks of zeros."""
        for name, field in self._fields.items():
            values, most = tensors[name], self._most.get(field)
            wrong = values < 0 if most is None else (values < 0) | (values > most)
            if wrong.any():
                row = np.flatnonzero(wrong.any(axis=1))[0]
                expected = "0 or more" if most is None else f"0 to {most}"
                raise Refused(
                    400,
                    f"Expected values of {expected}, got {values[row][wrong[row]][0]}. "
                    "Take them from the run's tokenizer.json, or send texts.",
                ).at(f"{name}[{row}]")
            if field == "attention_mask" and not values.any(axis=1).all():
                row = np.flatnonzero(~values.any(axis=1))[0]
                raise Refused(
                    400, "Expected a 1 for each token of a text, got zeros alone. Send 1 where a token is."
                ).at(f"{name}[{row}]")

    def collate(self, rows):
        """Return the model's inputs for a batch of what `__call__` gave, padded to the longest."""
        # A text of no token at all is one of padding alone, as in training.
        length = self._length or max(1, *(len(values) for row in rows for values in row.values()))
        batch = {}
        for name, field in self._fields.items():
            batch[name] = np.full((len(rows), length), self._padding[field], self._dtypes[name])
            for index, row in enumerate(rows):
                batch[name][index, : len(row[name])] = row[name]
        return batch
