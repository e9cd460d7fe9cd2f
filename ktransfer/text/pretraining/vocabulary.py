"""Words of a domain as tokens of their own, with embeddings to begin with."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import keras_hub
import numpy as np

from ktransfer.errors import BackboneError, RecipeError

_FEWEST = 5  # texts that a word has to be in, so that its embedding is trained
_SIZES = ("vocabulary_size", "vocab_size")  # in the configuration of a backbone
_MOST = 100_000  # tokens: more would be most of a model


def choose_tokens(texts: Sequence[str], tokenizer: Any, count: int) -> list[str]:
    """The words that most texts have and that the vocabulary cuts into pieces.

    Args:
        texts: To learn from.
        tokenizer: WordPiece, of keras-hub.
        count: How many to choose at most.

    Returns:
        Words in at least five texts, the most frequent first, as the tokenizer writes them.

    Raises:
        BackboneError: The tokenizer is of another kind.
        RecipeError: `count` is below 1 or above 100,000.

    Example:

        choose_tokens(texts, tokenizer, 100)[:2]   # ["covid", "omicron"]
    """
    if not isinstance(tokenizer, keras_hub.tokenizers.WordPieceTokenizer):
        raise BackboneError(
            f"Expected a WordPiece tokenizer to add tokens to, got {type(tokenizer).__name__}. Choose a BERT, or leave "
            "--add-tokens out."
        )
    if not 1 <= count <= _MOST:
        raise RecipeError(
            f"Expected 1 to {_MOST:,} tokens to add, got {count}. Leave --add-tokens out for none."
        )
    frequent: Counter[str] = Counter()
    for text in texts:
        frequent.update(set(re.findall(r"[^\W_]+", _written(text, tokenizer))))
    known = set(tokenizer.get_vocabulary())
    candidates = [
        word
        for word, number in sorted(frequent.items(), key=lambda item: (-item[1], item[0]))
        if number >= _FEWEST and word not in known
    ]
    # What the tokenizer cuts at its own separators, such as Chinese characters, is no single token.
    found: list[str] = []
    for word in candidates:
        if len(found) == count:
            break
        if len(tokenizer([word])[0]) > 1 and not any(_is_wide(character) for character in word):
            found.append(word)
    return found


def add_tokens(backbone: keras.Model, tokenizer: Any, tokens: Sequence[str]) -> tuple[keras.Model, Any]:
    """A backbone and a tokenizer with more tokens.

    Args:
        backbone: Of keras-hub; left as it is.
        tokenizer: WordPiece.
        tokens: From `choose_tokens`.

    Returns:
        Both anew: the embedding of a new token is the mean of those of the pieces that it was cut into.

    Raises:
        BackboneError: The backbone's configuration has no size of its vocabulary.

    Example:

        backbone, tokenizer = add_tokens(backbone, tokenizer, choose_tokens(texts, tokenizer, 100))
    """
    config = backbone.get_config()
    size = next((name for name in _SIZES if name in config), None)
    if size is None:
        raise BackboneError(
            f"Expected a backbone with a vocabulary_size to add tokens to, got {type(backbone).__name__}. Leave "
            "--add-tokens out."
        )
    pieces = [np.asarray(ids) for ids in tokenizer(list(tokens))]
    before: int = config[size]
    # New ids follow those of the tokenizer; an embedding may have rows beyond them.
    vocabulary = [*tokenizer.get_vocabulary(), *tokens]
    after = max(before, len(vocabulary))
    larger = type(backbone).from_config(config | {size: after})
    for old, new in zip(backbone.weights, larger.weights, strict=True):
        value = keras.ops.convert_to_numpy(old)
        if old.shape != new.shape or (
            len(old.shape) > 1 and old.shape[0] == before and old.path.endswith("embeddings")
        ):
            rows = np.array(keras.ops.convert_to_numpy(new))
            rows[: len(value)] = value
            first = len(vocabulary) - len(tokens)
            for place, ids in enumerate(pieces):
                rows[first + place] = value[ids].mean(axis=0)
            value = rows
        new.assign(value)
    settings = tokenizer.get_config() | {"vocabulary": vocabulary}
    return larger, type(tokenizer).from_config(settings)


def _written(text: str, tokenizer: Any) -> str:
    if tokenizer.lowercase:
        text = text.lower()
    if tokenizer.strip_accents:
        text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return text


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"
