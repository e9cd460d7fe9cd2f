"""The tokenizer inside a TensorFlow graph, so that a SavedModel takes texts as people write them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import keras_hub
import numpy as np
import tensorflow as tf

from ktransfer.exporting.parity import measure_parity
from ktransfer.exporting.serving import BATCH, Input, reference_function
from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.text.tokenizer_json import equally_probable, piece_scores
from ktransfer.text.tokenizer_normalizers import CHARACTERS

if TYPE_CHECKING:
    from ktransfer.core.typing import Array
    from ktransfer.exporting.parity import Parity
    from ktransfer.exporting.serving import Serving
    from ktransfer.text.serving import Texts


TEXT = Input("text", (BATCH,), "string")
SPEC = tf.TensorSpec([None], tf.string, name=TEXT.name)


class GraphTokenizer:
    """A `TextPreprocessing` as functions of string tensors.

    Args:
        preprocessing: Is saved and loaded: `keras.utils.set_random_seed` drops what TensorFlow keeps of a
            SentencePiece tokenizer made before it.

    Attributes:
        tokenizer: What a `tf.Module` that is saved with these functions has to hold.

    Example:
        >>> GraphTokenizer(preprocessing).inputs(tf.constant(["A fine film."]))["token_ids"].shape
        TensorShape([1, 6])
    """

    def __init__(self, preprocessing: TextPreprocessing) -> None:
        with tempfile.TemporaryDirectory() as folder:
            preprocessing.save(Path(folder, "tokenizer"))
            self._preprocessing = TextPreprocessing.load(Path(folder, "tokenizer"))
        self.tokenizer = self._preprocessing.tokenizer
        self._packer = self._preprocessing.packer()

    def inputs(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """The model's inputs for texts, string `(B,)`; to be called in a `tf.function`.

        Cut at the sequence length, and padded to the longest of the batch where the model allows it.
        """
        token_ids, mask = self._packer(self.tokens(text))
        if not self._preprocessing.fixed_length:
            longest = tf.reduce_max(tf.reduce_sum(tf.cast(mask, tf.int32), axis=1))
            token_ids, mask = token_ids[:, :longest], mask[:, :longest]
        made = {
            "token_ids": tf.cast(token_ids, tf.int32),
            "segment_ids": tf.zeros(tf.shape(token_ids), tf.int32),
            "padding_mask": tf.cast(mask, tf.int32),
        }
        return {name: made[name] for name in self._preprocessing.inputs}

    def tokens(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Ids of each text, without special tokens and not cut, of what `TextPreprocessing` looks at."""
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", replacement_char=ord("?"))
        text = tf.strings.substr(text, 0, CHARACTERS, unit="UTF8_CHAR")
        text = tf.strings.regex_replace(text, "\0", " ")
        if isinstance(self.tokenizer, keras_hub.tokenizers.BytePairTokenizer):
            # keras-hub 0.32 cuts the last of several spaces off at the end of a text, which GPT-2's encoder
            # does not. It cuts off a tab there as well, so that what is left is as GPT-2's.
            return self.tokenizer(tf.strings.join([text, "\t"]))[:, :-1]
        return self.tokenizer(text)


def text_signature(
    serving: Serving, serve: Callable[..., dict[str, tf.Tensor]], module: tf.Module
) -> Callable[..., dict[str, tf.Tensor]]:
    """Return the function from texts to probabilities, by way of the function from ids.

    Args:
        serving: `Serving` of a text classifier.
        serve: Concrete function of ids by name.
        module: `tf.Module` that is saved with it, and is given the tokenizer to hold.
    """
    graph = GraphTokenizer(cast("TextPreprocessing", serving.preprocessing))
    module.tokenizer = graph.tokenizer

    # Not inlined: keras-hub's byte pairs need AutoGraph in a function of their own.
    @tf.function(input_signature=[SPEC], autograph=False)
    def serve_text(text: tf.Tensor) -> dict[str, tf.Tensor]:
        return serve(**graph.inputs(text))

    return serve_text


def measure_text_parity(
    artifact: Callable[[dict[str, Array]], Array], serving: Serving
) -> tuple[Parity, int]:
    """Compare what an artifact answers to raw texts with what the model answers to their ids.

    Where SentencePiece finds two ways to cut a text equally probable, and takes another in a graph, the model
    is asked for the graph's ids.

    Args:
        artifact: Callable, `{"text": strings (B,)}` to probabilities `(B, C)`.
        serving: `Serving` of a text classifier.

    Returns:
        `Parity`, and how many texts have other ids in a graph.
    """
    preprocessing, examples = (
        cast("TextPreprocessing", serving.preprocessing),
        cast("Texts", serving.examples),
    )
    tokens = tf.function(GraphTokenizer(preprocessing).tokens, input_signature=[SPEC], autograph=False)
    in_graph = tokens.get_concrete_function()(tf.constant(_utf8(examples.texts))).to_list()
    rows, limit = list(examples.ids), preprocessing.sequence_length - 2
    pairs = enumerate(zip(rows, in_graph, strict=True))
    differing = [place for place, (ids, other) in pairs if ids[1:-1].tolist() != other[:limit]]
    scores = piece_scores(preprocessing.tokenizer) if differing else None
    for place in differing:
        if equally_probable(preprocessing, examples.texts[place], in_graph[place], scores):
            start, end = rows[place][[0, -1]]
            rows[place] = np.array([start, *in_graph[place][:limit], end], np.int32)
    model = reference_function(serving)
    strings = _Strings(examples.texts)
    ids_of = dict(zip(strings.texts, rows, strict=True))

    def logits(inputs: Mapping[str, Array]) -> Array:
        return model(preprocessing.pack([ids_of[text] for text in inputs[TEXT.name]]))

    return measure_parity(artifact, logits, strings, task=serving.task, decision=serving.decision), len(
        differing
    )


class _Strings:
    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = _utf8(texts)

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, indices: Array, *, longest: bool = False) -> dict[str, Array]:
        return {TEXT.name: np.array([self.texts[index] for index in indices], object)}


def _utf8(texts: Iterable[str]) -> list[bytes]:
    return [text.encode("utf-8", "replace") for text in texts]
