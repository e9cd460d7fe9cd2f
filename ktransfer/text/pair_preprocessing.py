"""Pairs of texts to ids: both tokenized, cut and packed as the family of the backbone was trained with pairs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras_hub
import numpy as np

from ktransfer.data.pairs import Pair, as_content, require_kind, sides
from ktransfer.errors import RecipeError
from ktransfer.text.preprocessing import TextPreprocessing

# Tokens are taken from both texts in turn until there is room for no more, so that the longer one is cut first.
TRUNCATE = "round_robin"
_AT_ONCE = 1024  # pairs that are packed together: 512 tokens each are some megabytes
_MOST_SPECIAL = 8  # tokens between or around texts, that a saved preprocessing may have


@dataclass(frozen=True, eq=False)
class PairPreprocessing(TextPreprocessing):
    """Preprocessing of pairs of texts: `[start] a [separator] b [end]`, truncated and padded.

    Packed by keras-hub's `MultiSegmentPacker` with the special tokens of the family's own text classifier, such as
    `[CLS] a [SEP] b [SEP]` for BERT and `<s> a </s></s> b </s>` for RoBERTa. Segment ids, where a backbone has them,
    are 0 up to the separator and 1 after it. Pairs with too many tokens are cut in turn ("round_robin"): the longer
    text loses its end first.

    Rows of ids, which `tokenize` gives and `pack` takes, are int32 `(tokens, 2)`: the id and the segment of each token.

    Attributes:
        start, separator, end: Ids of special tokens, each at least one.

    Raises:
        RecipeError: There is no room for a token of each text.

    Example:

        pairs = pair_preprocessing(preprocessing)
        pairs([Pair("A plane takes off.", "A plane lands.")])["token_ids"]   # int32 (1, 16)
    """

    text_names: ClassVar[tuple[str, ...]] = ("text_a", "text_b")

    start: tuple[int, ...] = ()
    separator: tuple[int, ...] = ()
    end: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.room < 2:
            raise RecipeError(
                f"Expected a sequence length of at least {self._special + 2} for pairs of texts, got "
                f"{self.sequence_length}. Pass such as {min(128, self.longest or 128)}."
            )

    @property
    def _special(self) -> int:
        return len(self.start) + len(self.separator) + len(self.end)

    @property
    def room(self) -> int:
        """Tokens of both texts together that there is room for."""
        return self.sequence_length - self._special

    def tokenize(self, texts: Sequence[Any]) -> list[np.ndarray]:
        """Ids and segments of each pair, special tokens included, cut and not padded: int32 `(tokens, 2)`."""
        return self.assemble(self.text_ids(texts))

    def text_ids(self, texts: Sequence[Any]) -> list[list[int]]:
        pairs = [as_content(pair) for pair in texts]
        require_kind(pairs, pairs=True)
        return [list(ids) for ids in self._ids([text for pair in pairs for text in sides(pair)])]

    def assemble(self, ids: Sequence[Sequence[int]]) -> list[np.ndarray]:
        # What is beyond the room is cut in any case.
        cut = [list(row[: self.room]) for row in ids]
        firsts, seconds = cut[::2], cut[1::2]
        rows: list[np.ndarray] = []
        for begin in range(0, len(firsts), _AT_ONCE):
            one, other = firsts[begin : begin + _AT_ONCE], seconds[begin : begin + _AT_ONCE]
            token_ids, segment_ids = map(np.asarray, self._packer((one, other)))
            for at, (first, second) in enumerate(zip(one, other, strict=True)):
                length = min(len(first) + len(second), self.room) + self._special
                rows.append(
                    np.stack([token_ids[at, :length], segment_ids[at, :length]], axis=1).astype(np.int32)
                )
        return rows

    @functools.cached_property
    def _packer(self) -> Any:
        return self.packer()

    def packer(self) -> keras_hub.layers.MultiSegmentPacker:
        """keras-hub's own, which runs in a `tf.function` as well."""
        return keras_hub.layers.MultiSegmentPacker(
            self.sequence_length,
            start_value=list(self.start),
            end_value=list(self.end),
            sep_value=list(self.separator),
            pad_value=int(self.tokenizer.pad_token_id),
            truncate=TRUNCATE,
        )

    def order(self, texts: Sequence[Any]) -> np.ndarray:
        return np.argsort([sum(map(len, sides(as_content(pair)))) for pair in texts], kind="stable")

    def count_tokens(self, texts: Sequence[Any]) -> np.ndarray:
        """The number of ids of each pair before truncation, with special tokens: int `(n,)`."""
        lengths = np.array([len(ids) for ids in self.text_ids(texts)], int)
        return lengths.reshape(-1, 2).sum(axis=1) + self._special

    def pack(self, ids: Sequence[np.ndarray], length: int | None = None) -> dict[str, np.ndarray]:
        """Pad what `tokenize` gave; rows `(tokens,)` are of one segment."""
        whole = [row if row.ndim == 2 else np.stack([row, np.zeros_like(row)], axis=1) for row in ids]
        made = super().pack([row[:, 0] for row in whole], length)
        if "segment_ids" in made and len(whole):
            found = made["segment_ids"]
            real = np.arange(found.shape[1]) < np.array([len(row) for row in whole])[:, None]
            found[real] = np.concatenate([row[:, 1] for row in whole])
        return made

    def as_tokenizer(self) -> TextPreprocessing:
        """The tokenizer for single texts, as which each side is tokenized."""
        fields = (field.name for field in dataclasses.fields(TextPreprocessing) if field.init)
        return TextPreprocessing(**{name: getattr(self, name) for name in fields})

    def encoded(self, texts: Sequence[Any]) -> list[str]:
        """The different sides of pairs, as they are given to the tokenizer."""
        return list(dict.fromkeys(text for pair in texts for text in sides(pair)))

    def to_dict(self) -> dict[str, Any]:
        return {
            **super().to_dict(),
            "pair": {
                "start": list(self.start),
                "separator": list(self.separator),
                "end": list(self.end),
                "truncate": TRUNCATE,
            },
        }

    @classmethod
    def _saved_fields(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        saved = values["pair"]
        if saved["truncate"] != TRUNCATE:
            raise ValueError(f"truncation by {saved['truncate']!r:.40}")
        found = {name: tuple(saved[name]) for name in ("start", "separator", "end")}
        for name, ids in found.items():
            if not 1 <= len(ids) <= _MOST_SPECIAL or not all(type(each) is int for each in ids):
                raise ValueError(f"{name} tokens {ids!r:.60}")
        return found

    @classmethod
    def _tried(cls) -> list[Any]:
        return [Pair("a", "b")]


def pair_preprocessing(preprocessing: TextPreprocessing) -> PairPreprocessing:
    """The preprocessing of pairs, with the tokenizer and the lengths of another.

    Raises:
        RecipeError: There is no room for a token of each text.

    Example:

        pair_preprocessing(load_text_preprocessing("bert_tiny_en_uncased", backbone)).separator   # (102,)
    """
    start, separator, end = _special_tokens(preprocessing.tokenizer)
    fields = (field.name for field in dataclasses.fields(TextPreprocessing) if field.init)
    values = {name: getattr(preprocessing, name) for name in fields}
    return PairPreprocessing(**values, start=start, separator=separator, end=end)


def _special_tokens(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """`(start, separator, end)` as keras-hub's own text classifier of the family packs pairs.

    Of families without one, such as ELECTRA and GPT-2, the end token stands between the texts.
    """
    base = keras_hub.models.TextClassifierPreprocessor
    for name in sorted(dir(keras_hub.models)):
        kind = getattr(keras_hub.models, name)
        if not (isinstance(kind, type) and issubclass(kind, base) and kind is not base):
            continue
        if getattr(kind, "tokenizer_cls", None) is type(tokenizer):
            made = kind(tokenizer, sequence_length=16)
            made.build(None)
            packer = getattr(made, "packer", None)
            if isinstance(packer, keras_hub.layers.MultiSegmentPacker):
                return _ids(packer.start_value), _ids(packer.sep_value), _ids(packer.end_value)
    start, end = int(tokenizer.start_token_id), int(tokenizer.end_token_id)
    return (start,), (end,), (end,)


def _ids(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
