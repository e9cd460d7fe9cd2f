"""Texts as a self-supervised task."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ktransfer.text.backbones import load_text_backbone, load_text_preprocessing
from ktransfer.text.dataset import epoch_order
from ktransfer.text.pretraining.corpus import read_corpus, without_leaks
from ktransfer.text.pretraining.objectives import choose_objective
from ktransfer.text.pretraining.vocabulary import add_tokens as extended
from ktransfer.text.pretraining.vocabulary import choose_tokens
from ktransfer.text.sequence_length import choose_sequence_length

if TYPE_CHECKING:
    from ktransfer.core.pretraining import Batch
    from ktransfer.core.typing import Array, PathLike
    from ktransfer.data.examples import Splits

_LONGEST = 128  # tokens of a piece by default: attention to more costs more than it teaches


class TextPretraining:
    """Unlabeled texts and a language model. See `Pretraining` for what its attributes and methods promise.

    Args:
        data: As in `read_corpus`.
        backbone: As in `load_text_backbone`.
        seed: Fixes which texts are held out.
        random_weights: Start from random weights.
        labeled: Splits that the texts are compared with; `None` compares with none.
        leave_out_leaks: As in `without_leaks`.
        text_column: As in `read_corpus`. Defaults to `None`.
        encoding: As in `read_corpus`. Defaults to `None`.
        add_tokens: As `count` of `choose_tokens`. Defaults to 0, none.
        sequence_length: Tokens of a piece. Defaults to `None`: what 95 of 100 texts fit into, at most 128.

    Raises:
        KTransferError: The data or the backbone will not do.

    Example:

        task = TextPretraining(
            "texts.txt", "bert_tiny_en_uncased", seed=0, random_weights=False, labeled=None, leave_out_leaks=False
        )
        task.model.output.shape   # (None, None, 30522)
    """

    def __init__(
        self,
        data: PathLike,
        backbone: str,
        *,
        seed: int,
        random_weights: bool,
        labeled: Splits | None,
        leave_out_leaks: bool,
        text_column: str | None = None,
        encoding: str | None = None,
        add_tokens: int = 0,
        sequence_length: int | None = None,
    ) -> None:
        corpus = read_corpus(data, text_column=text_column, encoding=encoding, seed=seed)
        lines = list(corpus.notes)
        if labeled is not None:
            splits = {"train": labeled.train, "validation": labeled.validation, "test": labeled.test}
            corpus, more = without_leaks(corpus, splits, leave_out=leave_out_leaks)
            lines += more
        self.backbone = load_text_backbone(backbone, load_weights=not random_weights)
        preprocessing = load_text_preprocessing(backbone, self.backbone)
        if add_tokens:
            tokens = choose_tokens(corpus.train, preprocessing.tokenizer, add_tokens)
            fewer = f" of {add_tokens:,}, as many as are in five texts and are cut" * (
                len(tokens) < add_tokens
            )
            more_tokens = f", such as {', '.join(tokens[:5])}" if tokens else ""
            lines.append(f"tokens     {len(tokens):,} added{fewer}{more_tokens}")
            if tokens:
                self.backbone, tokenizer = extended(self.backbone, preprocessing.tokenizer, tokens)
                preprocessing = dataclasses.replace(preprocessing, tokenizer=tokenizer)
        most = min(_LONGEST, preprocessing.longest or _LONGEST)
        length = sequence_length
        if length is None:
            length = choose_sequence_length(preprocessing, corpus.train, most=most).sequence_length
        self._preprocessing = preprocessing.with_sequence_length(length)
        objective = self._objective = choose_objective(self.backbone, self._preprocessing)
        self.name, self.title, self.has_head = objective.name, objective.title, objective.has_head
        self._pieces = objective.pieces(corpus.train)
        held_out = objective.pieces(corpus.held_out)
        by_length = np.argsort([len(piece) for piece in held_out], kind="stable")
        self._held_out = [held_out[index] for index in by_length]
        self._lengths = np.array([len(piece) for piece in self._pieces])
        self.count, self.held_out = len(self._pieces), len(held_out)
        self.model = objective.model(self.backbone)
        self.fingerprint = corpus.fingerprint
        self.facts: dict[str, Any] = {
            "texts": {"train": len(corpus.train), "held_out": len(corpus.held_out)},
            "sequence_length": length,
            "vocabulary": self._preprocessing.tokenizer.vocabulary_size(),
        }
        lines.append(
            f"data       {len(corpus.train):,} texts in {self.count:,} pieces of up to {length} tokens; "
            f"{len(corpus.held_out):,} texts held out"
        )
        self.lines: Sequence[str] = tuple(lines)

    def order(self, *, batch_size: int, seed: int, epoch: int) -> Array:
        return epoch_order(self._lengths, batch_size=batch_size, seed=seed, epoch=epoch)

    def batch(self, indices: Sequence[int] | Array, random: np.random.Generator) -> Batch:
        return self._objective.batch([self._pieces[index] for index in indices], random)

    def held_out_batch(self, indices: Sequence[int] | Array, random: np.random.Generator) -> Batch:
        return self._objective.batch([self._held_out[index] for index in indices], random)

    def save(self, folder: Path) -> None:
        self.backbone.save_to_preset(str(folder))
        self._preprocessing.tokenizer.save_to_preset(str(folder))
