"""Train on unlabeled examples in rounds of as many batches each, with the loss on those held out after each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.data.rebatching import dataset_of_batches, rebatched
from ktransfer.models.blocks import find_blocks
from ktransfer.models.freezing import set_depth
from ktransfer.models.locate import find_backbone
from ktransfer.recipes.recipe import Stage
from ktransfer.training.checkpoint import Checkpoint
from ktransfer.training.fine_tune import WholeHistory
from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing
from ktransfer.training.random_state import SeededDraws
from ktransfer.utils.oom import in_smaller_batches

if TYPE_CHECKING:
    import tensorflow as tf

    from ktransfer.core.pretraining import Batch, Pretraining
    from ktransfer.core.typing import Array

CROSS_ENTROPY = "cross_entropy"
_ROUNDS = 12  # of a whole training, so that the curve shows where it flattens
_MOST_STEPS = 250  # batches of a round
_HEAD_SHARE = 0.15  # of the rounds, in which the output layer trains on the frozen backbone
_STEP_COST = 4.0  # of a training step, in forward passes


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The length of a training, and how it is divided.

    Attributes:
        batch_size: Examples in a batch.
        steps: Batches of a round.
        head_rounds: Rounds of the output layer alone; 0 without one of its own.
        rounds: Rounds in which the backbone trains.
        learning_rate: Its peak.
        patience: Rounds without a lower held-out loss after which it ends.
        seed: Of the order of the texts, what is hidden, and dropout.
    """

    batch_size: int
    steps: int
    head_rounds: int
    rounds: int
    learning_rate: float
    patience: int = 3
    seed: int = 0

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of `ProgressiveUnfreezing`, whose epochs are the rounds."""
        head = Stage(depth=0, epochs=max(1, self.head_rounds), learning_rate=1e-3, warmup=0.2)
        every = Stage(
            depth="all",
            epochs=self.rounds,
            learning_rate=self.learning_rate,
            lowest_rate=1.0,
            warmup=min(0.5, self.rounds),
            schedule="linear",
            patience=self.patience,
        )
        return (head, every) if self.head_rounds else (every,)

    @property
    def total(self) -> int:
        """All rounds."""
        return self.head_rounds + self.rounds


def plan_schedule(
    pieces: int,
    *,
    has_head: bool,
    epochs: float = 3.0,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    patience: int = 3,
    seed: int = 0,
    seconds: float | None = None,
    batch_seconds: float = 0.0,
) -> Schedule:
    """Divide passes over the examples into rounds.

    Args:
        pieces: Their number.
        has_head: Whether the output layer has weights of its own, which train first.
        epochs: Passes over all of them. Defaults to 3.
        batch_size: Defaults to 32.
        learning_rate: Peak of the backbone's. Defaults to 1e-4.
        patience: As in `Schedule`. Defaults to 3.
        seed: As in `Schedule`. Defaults to 0.
        seconds: Time for all of it. Defaults to `None`, no limit.
        batch_seconds: Of the forward pass of a batch, by which the time is divided.

    Returns:
        A `Schedule`.

    Example:
        >>> plan_schedule(1000, has_head=True).total
        12
    """
    batch_size = min(batch_size, pieces)
    batches = max(2, round(epochs * max(1, pieces // batch_size)))
    if seconds is not None:
        # The evaluation after each round costs about as much as a tenth of it.
        batches = min(batches, max(2, int(seconds / (1.1 * _STEP_COST * max(batch_seconds, 1e-6)))))
    steps = max(1, min(_MOST_STEPS, math.ceil(batches / _ROUNDS)))
    rounds = max(2, round(batches / steps))
    head = max(1, round(_HEAD_SHARE * rounds)) if has_head else 0
    return Schedule(
        batch_size=batch_size,
        steps=steps,
        head_rounds=head,
        rounds=max(1, rounds - head),
        learning_rate=learning_rate,
        patience=patience,
        seed=seed,
    )


class Rounds:
    """Batches of a task, by round: the same for a seed and a round, whatever ran before.

    Args:
        task: What makes them.
        schedule: Batch size, steps and seed.

    Example:

        inputs, targets, counts = Rounds(task, schedule).batch(0)
    """

    def __init__(self, task: Pretraining, schedule: Schedule) -> None:
        self._task, self._schedule = task, schedule
        # The last, smaller batch of a pass is left out: which examples it has is another at every pass.
        self._size = min(schedule.batch_size, task.count)
        self._of_pass = task.count // self._size
        self._order: tuple[int, Array] = (-1, np.zeros(0, int))
        self.round = 0

    def batch(self, index: int) -> Batch:
        """The batch of an index, counted from the first round on."""
        passed, place = divmod(index, self._of_pass)
        seed = self._schedule.seed
        if self._order[0] != passed:
            self._order = (passed, self._task.order(batch_size=self._size, seed=seed, epoch=passed))
        chosen = self._order[1][place * self._size : (place + 1) * self._size]
        return self._task.batch(chosen, np.random.default_rng([seed, index, 4]))

    @property
    def examples(self) -> int:
        """Examples in a round."""
        return self._size * self._schedule.steps

    def dataset(self) -> tf.data.Dataset:
        """A dataset, of which a pass is the round that `round` says then."""
        steps = self._schedule.steps

        def batches() -> Iterator[Batch]:
            first = self.round * steps
            yield from (self.batch(index) for index in range(first, first + steps))

        return dataset_of_batches(batches, self.batch(0), steps)


def held_out_dataset(task: Pretraining, *, batch_size: int, seed: int) -> tf.data.Dataset:
    """Batches to measure on: the same is hidden in them every time.

    Example:

        held_out_dataset(task, batch_size=32, seed=0)
    """
    made = [
        task.held_out_batch(
            range(start, min(start + batch_size, task.held_out)), np.random.default_rng([seed, start, 5])
        )
        for start in range(0, task.held_out, batch_size)
    ]
    return dataset_of_batches(lambda: iter(made), made[0], len(made))


class _RoundOrder(keras.callbacks.Callback):
    """Sets the round of the batches; Keras' own hooks fire more often than there are epochs."""

    def __init__(self, rounds: Rounds) -> None:
        super().__init__()
        self._rounds = rounds

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._rounds.round = epoch


def compile_model(model: keras.Model, schedule: Schedule) -> None:
    """Compile a model: AdamW, and the cross-entropy in nats of each target that counts.

    Example:

        compile_model(model, schedule)
    """
    optimizer = keras.optimizers.AdamW(schedule.learning_rate, weight_decay=0.01, clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.variables if len(v.shape) < 2])
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        weighted_metrics=[keras.metrics.SparseCategoricalCrossentropy(name=CROSS_ENTROPY, from_logits=True)],
    )


def batch_seconds(model: keras.Model, batch: Batch) -> float:
    """Seconds of the forward pass of a batch, the fastest of three.

    Example:

        batch_seconds(model, rounds.batch(0))   # 0.12
    """
    taken = []
    for _ in range(3):  # the first compiles
        start = time.perf_counter()
        model.predict_on_batch(batch[0])
        taken.append(time.perf_counter() - start)
    return min(taken)


def fit_rounds(
    model: keras.Model,
    rounds: Rounds,
    held_out: tf.data.Dataset,
    schedule: Schedule,
    *,
    checkpoint: Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    on_trouble: Callable[[str], None],
    verbose: int | str = 0,
) -> list[dict[str, Any]]:
    """Train, and keep the weights of the round with the lowest loss on the examples held out.

    The output layer trains first on the frozen backbone, then all blocks with it. Where the loss is NaN or infinite, or
    memory runs out, it does as `ktransfer.fine_tune`.

    Args:
        model: From `Pretraining.model`; trained in place.
        rounds: The batches.
        held_out: From `held_out_dataset`.
        schedule: Its stages.
        checkpoint: A file with the state after the last whole round; if it exists, training resumes from it.
        callbacks: Further ones of Keras.
        on_trouble: Callable that receives a sentence.
        verbose: As in `keras.Model.fit`.

    Returns:
        A row for each round, with `epoch`, `stage`, `val_cross_entropy` and so on.

    Raises:
        RunError: The checkpoint is damaged, or one example at a time does not fit into memory.

    Example:

        fit_rounds(model, rounds, held_out, schedule, checkpoint=path, on_trouble=print)
    """
    backbone = find_backbone(model)
    set_depth(backbone, find_blocks(backbone), 0)
    compile_model(model, schedule)
    unfreezing = ProgressiveUnfreezing(
        backbone,
        schedule.stages,
        monitor=f"val_{CROSS_ENTROPY}",
        mode="min",
        on_divergence=on_trouble,
        verbose=0,
    )
    kept, history = Checkpoint(checkpoint), WholeHistory()
    kept.restore(model.weights)
    kept.watch(unfreezing)
    begin = len(kept.rows) if kept.epoch < schedule.total else schedule.total

    def fit(part_size: int) -> None:
        broken_off = unfreezing.go_back()
        first = begin if broken_off is None else broken_off
        rounds.round = first
        batches, validating = rounds.dataset(), held_out
        if part_size < schedule.batch_size:
            unfreezing.parts = schedule.batch_size, part_size, rounds.examples
            batches = rebatched(batches, part_size, rounds.examples)
        model.fit(
            batches,
            validation_data=validating,
            initial_epoch=first,
            epochs=schedule.total,
            shuffle=False,
            callbacks=[
                unfreezing,
                SeededDraws(model, schedule.seed),
                _RoundOrder(rounds),
                kept,
                *callbacks,
                history,
            ],
            verbose=verbose,
        )

    in_smaller_batches(fit, schedule.batch_size, on_trouble)
    return kept.rows
