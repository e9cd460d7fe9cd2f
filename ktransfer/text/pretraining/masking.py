"""Whole-word masking of token ids."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ktransfer.errors import BackboneError

if TYPE_CHECKING:
    from ktransfer.core.typing import Array

SHARE = 0.15
_MASKED, _RANDOM = 0.8, 0.1  # of the chosen tokens; the rest stays
# How a piece that begins a word is marked in vocabularies: of SentencePiece, of bytes; WordPiece marks the others.
_BEGINS = ("▁", "Ġ")
_CONTINUES = "##"


@dataclass(frozen=True)
class WordMasking:
    """Hides tokens, chosen by whole words.

    Of the tokens 15 % are chosen, all those of a word together; of these 80 % become the mask token, 10 % a random one,
    and 10 % stay.

    Args:
        tokenizer: Of keras-hub, with a mask token.

    Raises:
        BackboneError: The tokenizer has no mask token.

    Example:

        masked, chosen = WordMasking(tokenizer).mask(ids, np.random.default_rng(0))

    Source: Devlin et al. 2019, section 3.1; whole words: github.com/google-research/bert, 31 May 2019.
    """

    tokenizer: Any
    mask_id: int = field(init=False)

    def __post_init__(self) -> None:
        mask_id = getattr(self.tokenizer, "mask_token_id", None)
        if mask_id is None:
            raise BackboneError(
                f"Expected a tokenizer with a mask token, got {type(self.tokenizer).__name__}, which has none. "
                "Choose another backbone, such as a BERT."
            )
        object.__setattr__(self, "mask_id", int(mask_id))

    @functools.cached_property
    def begins(self) -> Array:
        """bool `(vocabulary,)`: whether a token begins a word."""
        pieces = [
            self.tokenizer.id_to_token(index) or "" for index in range(self.tokenizer.vocabulary_size())
        ]
        if any(piece.startswith(_CONTINUES) and piece != _CONTINUES for piece in pieces):
            return np.array([not piece.startswith(_CONTINUES) for piece in pieces])
        return np.array([piece.startswith(_BEGINS) for piece in pieces])

    @functools.cached_property
    def ordinary(self) -> Array:
        """int: the ids that are no special tokens, from which random ones are drawn."""
        special = {int(each) for each in self.tokenizer.special_token_ids if each is not None} | {
            self.mask_id
        }
        return np.array([i for i in range(self.tokenizer.vocabulary_size()) if i not in special])

    def mask(self, ids: Sequence[int] | Array, random: np.random.Generator) -> tuple[Array, Array]:
        """Hide tokens of one text.

        Args:
            ids: int `(n,)`, with the special tokens at both ends, which are never hidden.
            random: The source of random numbers.

        Returns:
            The ids, some of them hidden, int32 `(n,)`; and the positions that were chosen, at least one, sorted.
        """
        ids = np.array(ids, np.int32)
        inner = np.arange(1, len(ids) - 1)
        words = np.cumsum(self.begins[ids[inner]])
        order = random.permutation(np.unique(words))
        wanted = max(1, round(SHARE * len(inner)))
        sizes = {
            int(word): int(count) for word, count in zip(*np.unique(words, return_counts=True), strict=True)
        }
        taken: list[int] = []
        count = 0
        for word in map(int, order):
            if taken and count + sizes[word] > wanted:
                continue  # a shorter one may still fit
            taken.append(word)
            count += sizes[word]
            if count >= wanted:
                break
        chosen = inner[np.isin(words, taken)]
        draw = random.random(len(chosen))
        others = random.choice(self.ordinary, len(chosen))
        masked = ids.copy()
        masked[chosen] = np.where(
            draw < _MASKED, self.mask_id, np.where(draw < _MASKED + _RANDOM, others, ids[chosen])
        )
        return masked, chosen
