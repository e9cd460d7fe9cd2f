"""From a text to the token ids that the model takes."""

import numpy as np


class TextReader:
    """Tokenizes a text as in training.

    Args:
        tokenizer: `tokenizers.Tokenizer` of the run's `tokenizer.json`.
        facts: The manifest's `tokenizer`: `inputs` from a name to the field of an encoding, `pad_token_id`,
            `sequence_length` in tokens, `fixed_length`, `characters` of a text that are looked at.
        inputs: The model's, as in the artefact's signature: `name`, `shape`, `dtype`.

    Attributes:
        limits: From an axis of a batch to the least and the most that it may be.

    Example:
        >>> reader = TextReader(tokenizer, manifest["tokenizer"], artefact["signature"]["inputs"])
        >>> reader("A fine film.")["token_ids"]
        array([ 101, 1037, 2986, 2143, 1012,  102], dtype=int32)
    """

    def __init__(self, tokenizer, facts, inputs):
        self._tokenizer = tokenizer
        self._fields = facts["inputs"]
        self._characters = facts.get("characters")
        self._dtypes = {entry["name"]: entry["dtype"] for entry in inputs}
        self._padding = {"ids": facts["pad_token_id"], "type_ids": 0, "attention_mask": 0}
        self._length = next(iter(inputs))["shape"][1]  # the one that the artefact takes, None for any
        longest = facts["sequence_length"]
        shortest = self._length or (longest if facts["fixed_length"] else 1)
        self.limits = {1: (shortest, self._length or longest)}

    def __call__(self, text):
        """Return `{input: (tokens,)}` of a text, at most `sequence_length` tokens."""
        text = text[: self._characters]  # as in training
        utf8 = text.encode("utf-8", "replace").decode("utf-8")  # halves of surrogate pairs become "?"
        encoding = self._tokenizer.encode(utf8)
        return {
            name: np.array(getattr(encoding, field), self._dtypes[name])
            for name, field in self._fields.items()
        }

    def collate(self, rows):
        """Return the model's inputs for a batch of what `__call__` gave, padded to the longest."""
        length = self._length or max(len(values) for row in rows for values in row.values())
        batch = {}
        for name, field in self._fields.items():
            batch[name] = np.full((len(rows), length), self._padding[field], self._dtypes[name])
            for index, row in enumerate(rows):
                batch[name][index, : len(row[name])] = row[name]
        return batch
