"""Objectives of pretraining: a language model around a backbone, and its batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import keras
import keras_hub
import numpy as np

from ktransfer.core.pretraining import Batch
from ktransfer.errors import BackboneError, DataError
from ktransfer.text.classifier import looks_back_only
from ktransfer.text.pretraining.masking import WordMasking

if TYPE_CHECKING:
    from ktransfer.core.typing import Array
    from ktransfer.text.preprocessing import TextPreprocessing

_SHORTEST = 4  # tokens without special ones: less has no context
_PLACES = 8  # hidden positions of a batch are filled up to a multiple


class Objective(Protocol):
    """A task that needs no labels.

    Attributes:
        name: `"masked"` or `"causal"`.
        title: In words.
        has_head: Whether the model has weights of its own above the backbone, which train first.
    """

    name: str
    title: str
    has_head: bool

    def pieces(self, texts: Sequence[str]) -> list[Array]:
        """Ids of the examples that texts give, int32 `(tokens,)` each."""

    def model(self, backbone: keras.Model) -> keras.Model:
        """A model of the inputs of a batch to logits `(B, places, vocabulary)`."""

    def batch(self, pieces: Sequence[Array], random: np.random.Generator) -> Batch:
        """Inputs by name, the ids to predict `(B, places)`, and which of these count, float32 `(B, places)`."""


class MaskedLanguageModel:
    """Hidden words are predicted from the words around them (Devlin et al. 2019).

    The output layer shares its kernel with the token embedding, whether or not the preset has a head for it.

    Args:
        preprocessing: Of the backbone.

    Raises:
        BackboneError: The tokenizer has no mask token.

    Example:

        MaskedLanguageModel(preprocessing).model(backbone).output.shape   # (None, None, 30522)
    """

    name, title, has_head = "masked", "masked language model", True

    def __init__(self, preprocessing: TextPreprocessing) -> None:
        self._preprocessing = preprocessing
        self._masking = WordMasking(preprocessing.tokenizer)

    def pieces(self, texts: Sequence[str]) -> list[Array]:
        """Each text, a long one in several pieces."""
        room = self._preprocessing.sequence_length - 2
        parts = []
        for ids in self._preprocessing.text_ids(texts):
            for start in range(0, len(ids), room):
                part = ids[start : start + room]
                if len(part) >= (_SHORTEST if start else 1):
                    parts.append(part)
        return self._preprocessing.assemble(parts)

    def model(self, backbone: keras.Model) -> keras.Model:
        inputs = _inputs(self._preprocessing)
        places = keras.Input((None,), dtype="int32", name="places")
        head = keras_hub.layers.MaskedLMHead(
            token_embedding=_tied_embedding(backbone),
            intermediate_activation="gelu",
            layer_norm_epsilon=1e-12,
            kernel_initializer=keras.initializers.Identity(),
            name="masked_lm_head",
        )
        logits = head(_encoder(backbone)(inputs), mask_positions=places)
        return keras.Model({**inputs, "places": places}, logits, name="masked_language_model")

    def batch(self, pieces: Sequence[Array], random: np.random.Generator) -> Batch:
        hidden = [self._masking.mask(ids, random) for ids in pieces]
        width = max(len(chosen) for _, chosen in hidden)
        width = -(-width // _PLACES) * _PLACES
        places = np.zeros((len(pieces), width), np.int32)
        targets, counts = places.copy(), np.zeros(places.shape, np.float32)
        for row, (ids, (_, chosen)) in enumerate(zip(pieces, hidden, strict=True)):
            places[row, : len(chosen)], targets[row, : len(chosen)] = chosen, ids[chosen]
            counts[row, : len(chosen)] = 1
        given = self._preprocessing.pack([masked for masked, _ in hidden])
        return {**given, "places": places}, targets, counts


class CausalLanguageModel:
    """Each token is predicted from those before it, in windows that texts are packed into one after the other.

    Args:
        preprocessing: Of the backbone.

    Example:

        CausalLanguageModel(preprocessing).pieces(texts)[0].shape   # (128,)

    Source: Radford et al. 2018, section 3.1.
    """

    name, title, has_head = "causal", "causal language model", False

    def __init__(self, preprocessing: TextPreprocessing) -> None:
        self._preprocessing = preprocessing

    def pieces(self, texts: Sequence[str]) -> list[Array]:
        """Windows of texts with the end token between them; what does not fill the last one is left out.

        Raises:
            DataError: There are fewer tokens than a window has.
        """
        end, size = self._preprocessing.tokenizer.end_token_id, self._preprocessing.sequence_length
        stream = [token for ids in self._preprocessing.text_ids(texts) for token in (*ids, end)]
        windows = [
            np.array(stream[at : at + size], np.int32) for at in range(0, len(stream) - size + 1, size)
        ]
        if not windows:
            raise DataError(
                f"Expected texts of at least one window of {size} tokens, got {len(stream)} tokens. Add texts, or "
                "lower --sequence-length."
            )
        return windows

    def model(self, backbone: keras.Model) -> keras.Model:
        inputs = _inputs(self._preprocessing)
        logits = _tied_embedding(backbone)(_encoder(backbone)(inputs), reverse=True)
        return keras.Model(inputs, keras.ops.cast(logits, "float32"), name="causal_language_model")

    def batch(self, pieces: Sequence[Array], random: np.random.Generator) -> Batch:
        ids = np.stack(pieces)
        given = self._preprocessing.pack([row[:-1] for row in ids], ids.shape[1] - 1)
        return given, ids[:, 1:], np.ones((len(ids), ids.shape[1] - 1), np.float32)


def choose_objective(backbone: keras.Model, preprocessing: TextPreprocessing) -> Objective:
    """The objective that a backbone is made for: causal where no token depends on later ones.

    Args:
        backbone: From `load_text_backbone`.
        preprocessing: Its own.

    Raises:
        BackboneError: Its tokenizer has no mask token, or no token embedding can be shared with the output.

    Example:

        choose_objective(backbone, preprocessing).name   # "masked"
    """
    _tied_embedding(backbone)
    if "padding_mask" in preprocessing.inputs and looks_back_only(backbone, preprocessing):
        return CausalLanguageModel(preprocessing)
    return MaskedLanguageModel(preprocessing)


def _inputs(preprocessing: TextPreprocessing) -> dict[str, Any]:
    return {name: keras.Input((None,), dtype="int32", name=name) for name in preprocessing.inputs}


def _encoder(backbone: keras.Model) -> keras.Model:
    """The backbone without the layer that BERT has for its first token."""
    if not isinstance(backbone.output, dict):
        return backbone
    return keras.Model(backbone.input, backbone.output["sequence_output"], name=backbone.name)


def _tied_embedding(backbone: keras.Model) -> Any:
    embedding = getattr(backbone, "token_embedding", None)
    kinds = tuple(
        kind
        for module in (keras.layers, keras_hub.layers)
        if (kind := getattr(module, "ReversibleEmbedding", None))
    )
    if not isinstance(embedding, kinds):
        raise BackboneError(
            f"Expected a backbone whose token embedding can be the output layer too, got {type(backbone).__name__}, "
            f"which has {type(embedding).__name__}. Choose another, such as a BERT or GPT-2."
        )
    return embedding
