"""The protocol of a self-supervised task: what a modality gives to `ktransfer pretrain`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import keras
    import numpy as np

    from ktransfer.core.typing import Array

Batch = tuple[dict[str, "Array"], "Array", "Array"]


class Pretraining(Protocol):
    """Unlabeled examples, and a model around a backbone that learns from them.

    Attributes:
        name: Of the objective, such as `"masked"`.
        title: The same in words.
        has_head: Whether the model has weights of its own above the backbone, which train first.
        backbone: The whole backbone.
        model: Inputs of a batch to logits `(B, places, classes)`.
        count: Examples to train on.
        held_out: Examples to measure on.
        fingerprint: SHA-256 of the data.
        facts: What `pretraining.json` has of it.
        lines: Lines on the data for the log.
    """

    name: str
    title: str
    has_head: bool
    backbone: keras.Model
    model: keras.Model
    count: int
    held_out: int
    fingerprint: str
    facts: dict[str, Any]
    lines: Sequence[str]

    def order(self, *, batch_size: int, seed: int, epoch: int) -> Array:
        """The order of the training examples in a pass: int `(count,)`."""

    def batch(self, indices: Sequence[int] | Array, random: np.random.Generator) -> Batch:
        """Inputs by name, targets `(B, places)` and which of these count, float32, of training examples."""

    def held_out_batch(self, indices: Sequence[int] | Array, random: np.random.Generator) -> Batch:
        """The same of examples to measure on, which have an order that suits batches."""

    def save(self, folder: Path) -> None:
        """Write the backbone as a preset folder with all that it needs."""
