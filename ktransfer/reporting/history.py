"""The metrics of each epoch of a run, and the learning rate of each group of weights."""

import contextlib
import csv
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ktransfer.recipes.recipe import Stage


@dataclass(frozen=True)
class Trained:
    """A stage as it was trained.

    Attributes:
        index: Its place in the recipe, from 0.
        stage: What the recipe says.
        depth: How many blocks trained, from the top.
        start: Epochs before it.
        epochs: How many it had, which may be fewer than planned.
    """

    index: int
    stage: Stage
    depth: int
    start: int
    epochs: int


def read_history(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """The rows of a `history.csv`, one an epoch, in order; none where there is no such file.

    Returns:
        For each epoch its numbers by name; NaN, infinity and empty cells are left out.

    Example:

        read_history("runs/flowers/history.csv")[0]["val_accuracy"]
    """
    if not Path(path).is_file():
        return []
    found = {}
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            values = {}
            for name, text in row.items():
                with contextlib.suppress(TypeError, ValueError):  # a line that was cut off, or "NA"
                    values[name] = float(text)
            if "epoch" in values:
                found[values["epoch"]] = values  # the later one of a resumed run
    return [found[epoch] for epoch in sorted(found)]


def trained_stages(
    rows: Sequence[dict[str, float]], stages: Sequence[Stage], depths: Sequence[int]
) -> list[Trained]:
    """The stages that have epochs in the history.

    Args:
        rows: From `read_history`.
        stages: Of the recipe.
        depths: For each how many blocks it trains.

    Example:

        [stage.epochs for stage in trained_stages(rows, run.recipe.stages, [3, 17])]   # [4, 4]
    """
    found, start = [], 0
    for index, (stage, depth) in enumerate(zip(stages, depths, strict=True)):
        epochs = sum(row.get("stage") == index for row in rows)
        if epochs:
            found.append(Trained(index, stage, depth, start, epochs))
        start += epochs
    return found


def learning_rates(trained: Trained, blocks: int, *, steps: int) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """The learning rates of a stage at each of its steps, as the recipe has them.

    Args:
        trained: The stage.
        blocks: Of the backbone.
        steps: In an epoch.

    Returns:
        The times, in epochs from the start of the run, and by group, 0 the head and 1 the topmost block, the
        rate at each; blocks that are frozen are left out.

    Example:

        times, rates = learning_rates(stage, blocks=17, steps=16)
    """
    # As `LayerwiseOptimizer.rate` counts.
    stage = trained.stage
    step, last, warmup = (
        np.arange(trained.epochs * steps + 1),
        stage.epochs * steps,
        round(stage.warmup * steps),
    )
    climb = np.minimum(1, (step + 1) / max(warmup, 1))
    progress = np.clip((step - warmup) / max(last - warmup, 1), 0, 1)
    fall: dict[str, Any] = {
        "constant": 1,
        "cosine": 0.5 * (1 + np.cos(math.pi * progress)),
        "linear": 1 - progress,
    }
    head = (stage.learning_rate or 0) * climb * fall[stage.schedule]
    shares = [1.0, *stage.rates(blocks)[: trained.depth]]
    return trained.start + step / steps, {group: head * share for group, share in enumerate(shares)}


def write_tensorboard(
    rows: Sequence[dict[str, float]],
    stages: Sequence[Trained],
    blocks: Sequence[str],
    folder: str | os.PathLike[str],
) -> None:
    """Write a history for TensorBoard: `train/` and `validation/`, with the learning rate of every group.

    Args:
        rows: From `read_history`.
        stages: From `trained_stages`.
        blocks: Names of the backbone's blocks from the top.
        folder: Replaced whole.

    Example:

        write_tensorboard(rows, stages, ["stack3_block2"], "runs/flowers/tensorboard")
    """
    # Here, as its import takes a second that only this needs.
    from tensorboard.summary import Writer

    folder = Path(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with contextlib.ExitStack() as stack:
            train, validation = (
                stack.enter_context(contextlib.closing(Writer(str(partial / part))))
                for part in ("train", "validation")
            )
            for step, row in enumerate(rows):
                for name, value in row.items():
                    if name.startswith("val_"):
                        validation.add_scalar(name.removeprefix("val_"), value, step)
                    elif name not in ("epoch", "learning_rate"):
                        train.add_scalar(name, value, step)
                for name, rate in _rates_at(row, stages, blocks):
                    train.add_scalar(f"learning_rate/{name}", rate, step)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rates_at(
    row: Mapping[str, float], stages: Sequence[Trained], blocks: Sequence[str]
) -> Iterator[tuple[str, float]]:
    """`(group, rate)` at the end of an epoch; that of a frozen block is zero."""
    trained = next((stage for stage in stages if stage.index == row.get("stage")), None)
    if trained is None or "learning_rate" not in row:
        return
    yield "head", row["learning_rate"]
    for place, (name, share) in enumerate(zip(blocks, trained.stage.rates(len(blocks)), strict=True)):
        yield name, row["learning_rate"] * share if place < trained.depth else 0.0
