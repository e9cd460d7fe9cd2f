"""Texts to the ids that a backbone reads: its own tokenizer, its special tokens, padding to a few lengths."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import os
import shutil
import string
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import keras_hub
import numpy as np
import regex

from ktransfer.core.clients import CLIENTS
from ktransfer.data.examples import Examples
from ktransfer.data.pairs import require_kind
from ktransfer.errors import RecipeError, RunError, listed
from ktransfer.models.rows import RowAnExample
from ktransfer.security.safe_io import MOST_JSON, read_bytes, read_json
from ktransfer.text.byte_pair import byte_pair_tokenizer
from ktransfer.text.dataset import epoch_order, text_dataset
from ktransfer.utils.deprecation import warn_once
from ktransfer.utils.files import write_json

if TYPE_CHECKING:
    import tensorflow as tf
    import tokenizers


# Attention's cost grows with the square of the length, and most published encoders end here.
LONGEST = 512  # tokens
_FILE = "text_preprocessing.json"
# No more of a text is looked at: 512 tokens are some 2,000 characters, and 10 MB would take 9 s to tokenize.
_CHARACTERS = 100_000
UNKNOWN = "\ufffe"  # no character, and in no vocabulary
_LONGEST_SAVED = 65_536  # tokens, that a saved one may cut to


@dataclass(frozen=True, eq=False)
class TextPreprocessing(RowAnExample):
    """Text preprocessing: `[start] tokens [end]`, truncated and padded on the right.

    `order`, `dataset`, `epoch_order`, `extra_inputs` and `digest` are those of `Preprocessing`, for images.

    Attributes:
        tokenizer: Of keras-hub; it has `start_token_id`, `end_token_id` and `pad_token_id`.
        inputs: Names of the backbone's inputs, out of `token_ids`, `segment_ids` and `padding_mask`.
        sequence_length: Tokens, special ones included, that a longer text is cut to.
        longest: The most tokens that the backbone takes; None where it has no bound.
        fixed_length: Whether every batch is padded to `sequence_length`, for backbones that do not leave
            padding out of account (FNet; RoFormer-v2, which masks the wrong axis in keras-hub 0.32).
        client: The client library whose ids these are, such as `"mediapipe"`; None has the tokenizer's own.

    Raises:
        RecipeError: `sequence_length` is below 3 or over `longest`.

    Example:

        preprocessing = load_text_preprocessing("bert_tiny_en_uncased", backbone)
        preprocessing(["A fine film."])["token_ids"]   # int32 (1, 8)
    """

    task: ClassVar[str] = "text-classification"
    # What a SavedModel calls the texts that it is given.
    text_names: ClassVar[tuple[str, ...]] = ("text",)

    tokenizer: keras_hub.tokenizers.Tokenizer
    inputs: tuple[str, ...]
    sequence_length: int
    longest: int | None = None
    fixed_length: bool = False
    client: str | None = None
    _tokenized: WeakKeyDictionary[Examples, list[np.ndarray]] = dataclasses.field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )

    def __post_init__(self) -> None:
        most = self.longest or np.inf
        if not 3 <= self.sequence_length <= most:
            raise RecipeError(
                f"Expected a sequence length from 3 to the {most} tokens that the backbone takes, got "
                f"{self.sequence_length}. Pass such as {min(128, most)}."
            )

    def __call__(self, texts: Sequence[Any]) -> dict[str, np.ndarray]:
        """The backbone's inputs for a batch of texts: int32 `(B, length)` by name."""
        return self.pack(self.tokenize(texts))

    def tokenize(self, texts: Sequence[Any]) -> list[np.ndarray]:
        """Ids of each text, special tokens included, cut and not padded.

        Args:
            texts: Any texts; of each the first 100,000 characters are looked at.

        Returns:
            For each int32 `(tokens,)`.

        Example:

            [len(ids) for ids in preprocessing.tokenize(["A fine film.", ""])]   # [6, 2]
        """
        return self.assemble(self._ids(texts))

    def assemble(self, ids: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """The ids of each text by `tokenize`, without special tokens and truncation."""
        start, end = self.tokenizer.start_token_id, self.tokenizer.end_token_id
        kept = self.sequence_length - 2
        return [np.array([start, *row[:kept], end], np.int32) for row in ids]

    def text_ids(self, texts: Sequence[Any]) -> list[list[int]]:
        """Ids of each text, of a pair of one after the other, without special tokens and not cut."""
        return [list(ids) for ids in self._ids(texts)]

    def ids(self, examples: Examples) -> list[np.ndarray]:
        """`tokenize` of examples, done once and kept for as long as they are."""
        if examples not in self._tokenized:
            self._tokenized[examples] = self.tokenize(examples.inputs)
        return self._tokenized[examples]

    def order(self, texts: Sequence[Any]) -> np.ndarray:
        """The order in which a model runs over them fastest, short ones first: int `(n,)`."""
        return np.argsort([len(text) for text in texts], kind="stable")

    def encode(self, inputs: Sequence[Any]) -> tuple[list[Any], np.ndarray]:
        ids = self.tokenize(inputs)
        return ids, np.argsort([len(row) for row in ids], kind="stable")

    def batch(self, encoded: Sequence[Any], *, exact: bool = False) -> dict[str, np.ndarray]:
        exact = exact and not self.fixed_length
        return self.pack(encoded, max(map(len, encoded)) if exact else None)

    def dataset(self, examples: Examples, *, keep: bool | str = "auto", **options: Any) -> tf.data.Dataset:
        """`text_dataset` with these ids, which are kept in memory whatever `keep` is."""
        return text_dataset(examples, preprocessing=self, **options)

    def epoch_order(self, examples: Examples, *, batch_size: int, seed: int, epoch: int) -> np.ndarray:
        """The order of an epoch of a training `dataset`: int `(n,)`."""
        lengths = np.array([len(ids) for ids in self.ids(examples)])
        return epoch_order(lengths, batch_size=batch_size, seed=seed, epoch=epoch)

    def extra_inputs(self, examples: Examples, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs of the model's upper part in addition to features: the ids and mask of these examples."""
        ids = self.ids(examples)
        return self.pack([ids[index] for index in indices])

    def beside(self, examples: Examples, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Deprecated name of `extra_inputs`; it warns once."""
        warn_once("TextPreprocessing.beside", "TextPreprocessing.extra_inputs")
        return self.extra_inputs(examples, indices)

    def digest(self) -> dict[str, Any]:
        """JSON-able facts of which one differs wherever the backbone would be given anything else."""
        with tempfile.TemporaryDirectory() as folder:
            self.save(Path(folder, "tokenizer"))
            files = sorted(Path(folder, "tokenizer").iterdir())
            vocabulary = [[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in files]
        return {**self.to_dict(), "vocabulary": vocabulary}

    def count_tokens(self, texts: Sequence[Any]) -> np.ndarray:
        """The number of ids of each text before truncation, with special tokens: int `(n,)`.

        Example:

            preprocessing.count_tokens(["A fine film.", ""]).tolist()   # [6, 2]
        """
        return np.array([len(ids) + 2 for ids in self._ids(texts)], int)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        require_kind(texts, pairs=False)
        texts = [_clean(text, self.client) for text in texts]
        if isinstance(self.tokenizer, keras_hub.tokenizers.BytePairTokenizer):
            return [encoding.ids for encoding in self._byte_pairs.encode_batch(texts)]
        return self.tokenizer(texts) if texts else []

    @functools.cached_property
    def _byte_pairs(self) -> tokenizers.Tokenizer:
        return byte_pair_tokenizer(self.tokenizer)

    def pack(self, ids: Sequence[np.ndarray], length: int | None = None) -> dict[str, np.ndarray]:
        """Pad what `tokenize` gave.

        Args:
            ids: For each text int32 `(tokens,)`.
            length: Tokens; None takes `padded_length` of the longest.

        Returns:
            int32 `(B, length)` for each of `inputs`; the padding mask is 1 on tokens and 0 on padding.

        Example:

            preprocessing.pack(preprocessing.tokenize(["A fine film."]), 32)
        """
        lengths = np.array([len(row) for row in ids], np.int32)
        length = length or self.padded_length(int(lengths.max(initial=1)))
        real = np.arange(length) < lengths[:, None]
        token_ids = np.full(real.shape, self.tokenizer.pad_token_id, np.int32)
        token_ids[real] = np.concatenate(ids) if len(ids) else []
        # By length, not by id: GPT-2 pads with the id of an exclamation mark.
        made = {
            "token_ids": token_ids,
            "segment_ids": np.zeros_like(token_ids),
            "padding_mask": real.astype(np.int32),
        }
        return {name: made[name] for name in self.inputs}

    def padded_length(self, tokens: int) -> int:
        """The length that a batch whose longest text has so many tokens is padded to.

        Powers of two and the middles between them, from 8 on: few enough for a compiler that compiles each
        length anew, and at most half more than is needed.

        Example:

            [preprocessing.padded_length(tokens) for tokens in (5, 17, 30)]   # [8, 24, 32]
        """
        if self.fixed_length:
            return self.sequence_length
        length, power = 8, 8
        while length < tokens:
            length, power = (length + power // 2, power) if length == power else (2 * power, 2 * power)
        return min(length, self.sequence_length)

    def as_tokenizer(self) -> TextPreprocessing:
        """The preprocessing that `tokenizer.json` reproduces: this, or that of a word for word-by-word tasks."""
        return self

    def encoded(self, texts: Sequence[Any]) -> list[str]:
        """The tokenizer's inputs for these texts: the texts themselves, or their words."""
        return list(texts)

    def packer(self) -> keras_hub.layers.StartEndPacker:
        """A packer equivalent to `pack` to `sequence_length` inside a `tf.function`, for raw strings.

        Take it with a tokenizer loaded after the last `keras.utils.set_random_seed`, which drops what
        TensorFlow keeps of a SentencePiece tokenizer, so that it runs no more in a graph.

        Example:

            token_ids, padding_mask = preprocessing.packer()(preprocessing.tokenizer(texts))
        """
        return keras_hub.layers.StartEndPacker(
            self.sequence_length,
            start_value=self.tokenizer.start_token_id,
            end_value=self.tokenizer.end_token_id,
            pad_value=self.tokenizer.pad_token_id,
            return_padding_mask=True,
        )

    def with_sequence_length(self, sequence_length: int) -> TextPreprocessing:
        """A copy with another sequence length.

        Raises:
            RecipeError: The backbone cannot take as many tokens.

        Example:

            preprocessing.with_sequence_length(64).sequence_length   # 64
        """
        return dataclasses.replace(self, sequence_length=sequence_length)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values, as in the manifest; `save` writes the vocabulary."""
        return {
            "tokenizer": type(self.tokenizer).__name__,
            "inputs": list(self.inputs),
            "sequence_length": self.sequence_length,
            "longest": self.longest,
            "fixed_length": self.fixed_length,
            "start_token_id": int(self.tokenizer.start_token_id),
            "end_token_id": int(self.tokenizer.end_token_id),
            "pad_token_id": int(self.tokenizer.pad_token_id),
            **({} if self.client is None else {"client": self.client}),
        }

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the tokenizer's vocabulary and all settings, as text and as SentencePiece has it, no code.

        Args:
            folder: Replaced whole where it exists.
        """
        folder = Path(folder)
        settings = self.tokenizer.get_config()
        for name in ("name", "dtype", "trainable"):
            settings.pop(name, None)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            partial = Path(scratch) / folder.name
            partial.mkdir()
            self.tokenizer.save_assets(str(partial))
            write_json(partial / _FILE, {**self.to_dict(), "settings": settings})
            if folder.is_dir():
                shutil.rmtree(folder)
            os.replace(partial, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TextPreprocessing:
        """Load the result of `save`.

        Raises:
            RunError: It is not there or damaged.
        """
        folder = Path(folder)
        try:
            values = read_json(folder / _FILE)
            for file in folder.iterdir():
                read_bytes(file, most=8 * MOST_JSON)  # a vocabulary, and no pipe
            tokenizer = _made(values["tokenizer"], values["settings"])
            tokenizer.load_assets(str(folder))
            fields = {name: values[name] for name in ("sequence_length", "longest", "fixed_length")}
            fields |= cls._saved_fields(values)
            if type(fields["sequence_length"]) is not int or fields["sequence_length"] > _LONGEST_SAVED:
                raise ValueError(f"a sequence length that is no whole number up to {_LONGEST_SAVED:,}")
            found = cls(tokenizer, tuple(values["inputs"]), **fields)
            found(
                cls._tried()
            )  # its special tokens, its inputs: those of untrusted input may not fit together
            return found
        except Exception as error:  # whatever the libraries of tokenizers have for a damaged vocabulary
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise RunError(
                f"Expected a tokenizer that ktransfer saved in {folder}, got {type(error).__name__}: "
                f"{reason}. Train again."
            ) from error

    @classmethod
    def _saved_fields(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Further fields from what `save` wrote."""
        if values.get("client") not in (None, *CLIENTS):
            raise ValueError(f"{values['client']!r:.80} as client")
        return {"client": values.get("client")}

    @classmethod
    def _tried(cls) -> list[Any]:
        """An example that a loaded one is tried on."""
        return ["a"]


def _made(name: str, settings: Mapping[str, Any]) -> Any:
    """A tokenizer without a vocabulary: by its name among keras-hub's, so that nothing else is made."""
    kind: Any = getattr(keras_hub.tokenizers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, keras_hub.tokenizers.Tokenizer)):
        raise ValueError(f"{name!r:.80} for a tokenizer")
    # A vocabulary that is a text would be read as a path; what pads would do so before we cut.
    unset = ("vocabulary", "merges", "proto", "sequence_length")
    if given := [key for key in unset if settings.get(key) is not None]:
        raise ValueError(f"{listed(given)} in the settings")
    tokenizer: Any = kind
    return tokenizer.from_config(settings)


def _clean(text: str, client: str | None = None) -> str:
    """`text` as every tokenizer takes it: halves of surrogate pairs and NUL would end it or the program.

    A client library folds the case of ASCII letters only, and cuts no word at a control or format character, which
    is unknown to it: another unknown one stands for each.
    """
    text = text[:_CHARACTERS].replace("\0", " ").encode("utf-8", "replace").decode("utf-8")
    return text if client is None else text.translate(_ascii_capitals()).translate(_not_cut_at())


@functools.cache
def _ascii_capitals() -> dict[int, int]:
    return {ord(letter): ord(letter) + 32 for letter in string.ascii_uppercase}


@functools.cache
def _not_cut_at() -> dict[int, str]:
    return dict.fromkeys(map(ord, control_characters()), UNKNOWN)


@functools.cache
def control_characters() -> tuple[str, ...]:
    """Control and format characters but for white space and NUL, at which keras-hub cuts words.

    Example:

        "\u200d" in control_characters()   # True
    """
    points = itertools.chain(range(1, 0xD800), range(0xE000, 0x110000))
    found = regex.findall(r"[\p{Cc}\p{Cf}]", "".join(map(chr, points)))
    return tuple(one for one in found if one not in "\t\n\r\f")
