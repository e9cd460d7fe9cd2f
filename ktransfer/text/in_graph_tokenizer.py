"""The tokenizer inside a TensorFlow graph, so that a SavedModel takes texts as people write them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import keras_hub
import numpy as np
import tensorflow as tf

from ktransfer.data.pairs import Pair, sides
from ktransfer.exporting.parity import measure_parity
from ktransfer.exporting.serving import BATCH, Input, reference_function
from ktransfer.text.pair_preprocessing import PairPreprocessing
from ktransfer.text.preprocessing import UNKNOWN, TextPreprocessing, control_characters
from ktransfer.text.tokenizer_json import equally_probable, piece_scores
from ktransfer.text.tokenizer_normalizers import CHARACTERS, class_of

if TYPE_CHECKING:
    from ktransfer.core.typing import Array
    from ktransfer.exporting.parity import Parity
    from ktransfer.exporting.serving import Serving
    from ktransfer.text.serving import Texts


SPEC = tf.TensorSpec([None], tf.string, name="text")


def text_inputs(preprocessing: TextPreprocessing) -> tuple[Input, ...]:
    """Inputs of a SavedModel in place of ids: `text`, or `text_a` and `text_b` for pairs."""
    return tuple(Input(name, (BATCH,), "string") for name in preprocessing.text_names)


class GraphTokenizer:
    """A `TextPreprocessing` as functions of string tensors.

    Args:
        preprocessing: Is saved and loaded: `keras.utils.set_random_seed` drops what TensorFlow keeps of a
            SentencePiece tokenizer made before it.

    Attributes:
        tokenizer: What a `tf.Module` that is saved with these functions has to hold.
        preprocessing: What was saved and loaded.

    Example:
        >>> GraphTokenizer(preprocessing).inputs(tf.constant(["A fine film."]))["token_ids"].shape
        TensorShape([1, 6])
    """

    def __init__(self, preprocessing: TextPreprocessing) -> None:
        with tempfile.TemporaryDirectory() as folder:
            preprocessing.save(Path(folder, "tokenizer"))
            self.preprocessing = type(preprocessing).load(Path(folder, "tokenizer"))
        self.tokenizer = self.preprocessing.tokenizer
        self._packer = self.preprocessing.packer()

    def inputs(self, *texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """The model's inputs for texts, string `(B,)`, of pairs both; to be called in a `tf.function`.

        Cut at the sequence length, and padded to the longest of the batch where the model allows it.
        """
        token_ids, segment_ids, mask = self._packed([self.tokens(text) for text in texts])
        if not self.preprocessing.fixed_length:
            longest = tf.reduce_max(tf.reduce_sum(mask, axis=1))
            token_ids, segment_ids, mask = token_ids[:, :longest], segment_ids[:, :longest], mask[:, :longest]
        made = {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": mask}
        return {name: tf.cast(made[name], tf.int32) for name in self.preprocessing.inputs}

    def _packed(self, tokens: Sequence[tf.RaggedTensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """`(token_ids, segment_ids, mask)`, each `(B, sequence_length)`."""
        if isinstance(self.preprocessing, PairPreprocessing):
            token_ids, segment_ids = self._packer(tuple(tokens))
            lengths = tf.add_n([tf.cast(each.row_lengths(), tf.int32) for each in tokens])
            room, length = self.preprocessing.room, self.preprocessing.sequence_length
            lengths = tf.minimum(lengths, room) + length - room
            return token_ids, segment_ids, tf.sequence_mask(lengths, length, tf.int32)
        token_ids, mask = self._packer(tokens[0])
        return token_ids, tf.zeros_like(token_ids), tf.cast(mask, tf.int32)

    def tokens(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Ids of each text, without special tokens and not cut, of what `TextPreprocessing` looks at."""
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", replacement_char=ord("?"))
        text = tf.strings.substr(text, 0, CHARACTERS, unit="UTF8_CHAR")
        text = tf.strings.regex_replace(text, "\0", " ")
        if self.preprocessing.client is not None:
            text = tf.strings.lower(text)  # of ASCII alone
            text = tf.strings.regex_replace(text, class_of(control_characters()), UNKNOWN)
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

    specs = [tf.TensorSpec([None], tf.string, name=each.name) for each in text_inputs(graph.preprocessing)]

    # Not inlined: keras-hub's byte pairs need AutoGraph in a function of their own. Each is made only where its
    # signature fits: `tf.function` checks that at once.
    if len(specs) > 1:

        @tf.function(input_signature=specs, autograph=False)
        def serve_pairs(text_a: tf.Tensor, text_b: tf.Tensor) -> dict[str, tf.Tensor]:
            return serve(**graph.inputs(text_a, text_b))

        return serve_pairs

    @tf.function(input_signature=specs, autograph=False)
    def serve_text(text: tf.Tensor) -> dict[str, tf.Tensor]:
        return serve(**graph.inputs(text))

    return serve_text


def measure_text_parity(
    artifact: Callable[[dict[str, Array]], Array],
    serving: Serving,
    *,
    in_graph: Callable[[TextPreprocessing, Sequence[str]], list[list[int]]] | None = None,
) -> tuple[Parity, int]:
    """Compare what an artifact answers to raw texts with what the model answers to their ids.

    Where SentencePiece finds two ways to cut a text equally probable, and takes another in a graph, the model
    is asked for the graph's ids.

    Args:
        artifact: Callable, `{"text": strings (B,)}`, of pairs `text_a` and `text_b`, to probabilities `(B, C)`.
        serving: `Serving` of a text classifier.
        in_graph: Callable from a preprocessing and texts to the ids that the artifact makes, special tokens around
            them, where its tokenizer is not TensorFlow's: the model is asked for those. Defaults to `None`.

    Returns:
        `Parity`, and how many texts have other ids in a graph.
    """
    preprocessing, examples = (
        cast("TextPreprocessing", serving.preprocessing),
        cast("Texts", serving.examples),
    )
    flat = [text for content in examples.texts for text in sides(content)]
    if in_graph is not None:
        made = [ids[1:-1] for ids in in_graph(preprocessing, flat)]
    else:
        tokens = tf.function(GraphTokenizer(preprocessing).tokens, input_signature=[SPEC], autograph=False)
        made = tokens.get_concrete_function()(tf.constant(_utf8(flat))).to_list()
    whole, limit = preprocessing.text_ids(examples.texts), preprocessing.sequence_length - 2
    texts = enumerate(zip(whole, made, strict=True))
    differing = [place for place, (ids, other) in texts if list(ids[:limit]) != list(other[:limit])]
    scores = piece_scores(preprocessing.tokenizer) if differing and in_graph is None else None
    for place in differing:
        if in_graph is not None or equally_probable(
            preprocessing.as_tokenizer(), flat[place], made[place], scores
        ):
            whole[place] = made[place]
    model = reference_function(serving)
    strings = _Strings(examples.texts, preprocessing.text_names)
    # Of each text alone, as parity is measured on pairs that were made wrong as well.
    ids_of = dict(zip(_utf8(flat), whole, strict=True))

    def logits(inputs: Mapping[str, Array]) -> Array:
        given = zip(*(inputs[name] for name in preprocessing.text_names), strict=True)
        return model(
            preprocessing.pack(preprocessing.assemble([ids_of[text] for each in given for text in each]))
        )

    return measure_parity(artifact, logits, strings, task=serving.task, decision=serving.decision), len(
        differing
    )


class _Strings:
    """Texts, or both sides of pairs, by the names of a SavedModel's inputs."""

    def __init__(self, texts: Sequence[str | Pair], names: Sequence[str]) -> None:
        self.texts = [tuple(_utf8(sides(content))) for content in texts]
        self._names = names

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, indices: Array, *, longest: bool = False) -> dict[str, Array]:
        chosen = [self.texts[index] for index in indices]
        return {
            name: np.array([texts[side] for texts in chosen], object) for side, name in enumerate(self._names)
        }


def _utf8(texts: Iterable[str]) -> list[bytes]:
    return [text.encode("utf-8", "replace") for text in texts]
