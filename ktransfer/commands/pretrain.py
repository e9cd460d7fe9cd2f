"""`ktransfer pretrain`: unlabeled texts and a backbone to an adapted backbone."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from ktransfer.commands.splits import Say
from ktransfer.commands.train import read_examples
from ktransfer.commands.train_options import TrainOptions
from ktransfer.data.examples import Splits
from ktransfer.data.modality import find_modality
from ktransfer.errors import BackboneError, RecipeError, RunError
from ktransfer.models.backbone_names import split_share
from ktransfer.pretraining.curve import draw_curve
from ktransfer.pretraining.fit import (
    CROSS_ENTROPY,
    Rounds,
    Schedule,
    batch_seconds,
    compile_model,
    fit_rounds,
    held_out_dataset,
    plan_schedule,
)
from ktransfer.recipes.time_budget import parse_duration
from ktransfer.runs.provenance import absolute, machine
from ktransfer.security.safe_io import read_json
from ktransfer.training.interrupts import between_batches
from ktransfer.utils.files import write_json
from ktransfer.utils.terminal import print_line

if TYPE_CHECKING:
    from ktransfer.core.pretraining import Pretraining
    from ktransfer.core.typing import PathLike

FACTS = "pretraining.json"
CURVE = "pretraining.png"
_CHECKPOINT = "checkpoint.npz"
_FORMAT = 1
_RESERVE = 30.0  # seconds of a budget for imports and writing


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """The result of `pretrain`.

    Attributes:
        path: A preset folder, which every `backbone` takes.
        facts: What `pretraining.json` holds.
    """

    path: Path
    facts: dict[str, Any]

    @property
    def perplexity(self) -> tuple[float, float]:
        """Perplexity of texts held out, before the backbone trained and after."""
        return self.facts["perplexity_before"], self.facts["perplexity"]


def pretrain(
    data: PathLike,
    backbone: str,
    out: PathLike,
    *,
    labeled: Splits | None = None,
    leave_out_leaks: bool = False,
    text_column: str | None = None,
    encoding: str | None = None,
    sequence_length: int | None = None,
    add_tokens: int = 0,
    epochs: float = 3.0,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    patience: int = 3,
    budget: float | str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
    random_weights: bool = False,
    say: Say = print_line,
    verbose: int | str = 1,
) -> Pretrained:
    """Train a backbone on unlabeled texts, as it was pretrained, and write it as a preset folder.

    Encoders learn by a masked language model, hiding whole words; GPT-2 by a causal one. The output layer, which shares
    its kernel with the token embedding, trains first on the frozen backbone; then all blocks train. The weights kept
    are those of the round with the lowest loss on a tenth of the texts, which are held out.

    Args:
        data: A table with a column of texts, a `.txt` file of one text a line, or a folder of these.
        backbone: As in `load_text_backbone`.
        out: The folder to make.
        labeled: Splits of a labeled task: texts of its validation and test splits may not be in `data`. Defaults to
            `None`, which compares with none.
        leave_out_leaks: Leave such texts out in place of refusing them. Defaults to `False`.
        text_column: Of tables. Defaults to `None`, the customary one.
        encoding: Of files. Defaults to `None`, UTF-8.
        sequence_length: Tokens of a piece of text. Defaults to `None`: what 95 of 100 texts fit into, at most 128.
        add_tokens: Words that become tokens of their own, at most: those of a WordPiece vocabulary that are in most
            texts and are cut into pieces. Defaults to 0.
        epochs: Passes over the texts at most. Defaults to 3.
        batch_size: Pieces in a batch. Defaults to 32.
        learning_rate: Peak of the backbone's. Defaults to 1e-4.
        patience: Rounds without a lower loss on the texts held out after which it ends. Defaults to 3.
        budget: Time for all of it: seconds, or a text such as `"20m"`. Defaults to `None`, no limit.
        seed: Of everything random. Defaults to 0.
        overwrite: Replace a folder that an earlier `pretrain` wrote. Defaults to `False`.
        resume: Resume the training that was interrupted or killed at `out`, bit for bit on a CPU. Defaults to `False`.
        random_weights: Start from random weights, for a comparison. Defaults to `False`.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.
        verbose: As in `keras.Model.fit`. Defaults to 1.

    Returns:
        `Pretrained`.

    Raises:
        KTransferError: The data, the backbone, an option or the folder will not do.

    Example:

        adapted = ktransfer.pretrain("messages.csv", "bert_small_en_uncased", "adapted", budget="20m")
        ktransfer.train("labeled.csv", str(adapted.path), "runs/messages")
    """
    begun = time.monotonic()
    out = Path(out)
    _check(epochs, batch_size, learning_rate, patience)
    seconds = None if budget is None else parse_duration(budget) - _RESERVE
    if seconds is not None and seconds <= 0:
        raise RecipeError(
            f"Expected a budget of more than {_RESERVE:.0f} s, which loading and writing take, got {budget}. "
            "Give it more."
        )
    if split_share(backbone)[1] is not None:
        raise BackboneError(
            f"Expected a whole backbone, got {backbone!r}, which is a part of one. Leave out the share; cut the "
            "adapted one afterwards."
        )
    asked = {
        "data": absolute(str(data)),
        "backbone": str(Path(backbone).expanduser().resolve()) if Path(backbone).exists() else backbone,
        "text_column": text_column,
        "encoding": encoding,
        "sequence_length": sequence_length,
        "add_tokens": add_tokens,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "patience": patience,
        "seed": seed,
        "random_weights": random_weights,
    }
    found = _found(out, asked, overwrite=overwrite, resume=resume)
    if found.get("status") == "trained":
        say(f"resumed    {out} is complete already")
        return Pretrained(out, found)
    modality = find_modality(data)
    keras.utils.set_random_seed(seed)
    task = modality.pretraining(
        data,
        backbone,
        seed=seed,
        random_weights=random_weights,
        labeled=labeled,
        leave_out_leaks=leave_out_leaks,
        text_column=text_column,
        encoding=encoding,
        add_tokens=add_tokens,
        sequence_length=sequence_length,
    )
    for line in task.lines:
        say(line)
    if found and found["fingerprint"] != task.fingerprint:
        raise RunError(
            f"Expected the examples that the training at {out} was begun with in {data}, got others. Put them back, or "
            "pass --overwrite to begin anew."
        )
    say(f"backbone   {task.backbone.name}, {task.backbone.count_params():,} parameters; {task.title}")
    model = task.model
    how: dict[str, Any] = {
        "has_head": task.has_head,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
    }
    how |= {"learning_rate": learning_rate, "patience": patience}
    schedule = plan_schedule(task.count, **how)
    if found:
        schedule = Schedule(**found["schedule"])
    elif seconds is not None:
        each = batch_seconds(model, Rounds(task, schedule).batch(0))
        left = seconds - (time.monotonic() - begun)
        schedule = plan_schedule(task.count, seconds=max(1.0, left), batch_seconds=each, **how)
    batches = schedule.steps * schedule.total
    say(
        f"schedule   {schedule.total} rounds of {schedule.steps} batches of {schedule.batch_size}, "
        f"{batches * schedule.batch_size / task.count:.2g} passes; "
        + (
            f"the output layer alone in the first {schedule.head_rounds}"
            if schedule.head_rounds
            else "all blocks"
        )
    )
    rounds = Rounds(task, schedule)
    validating = held_out_dataset(task, batch_size=batch_size, seed=seed)
    facts = found or {
        "format": _FORMAT,
        "status": "training",
        "asked": asked,
        "fingerprint": task.fingerprint,
        "objective": task.name,
        **task.facts,
        "schedule": dataclasses.asdict(schedule),
        "machine": machine(),
    }
    if not found:
        _clear(out)
        out.mkdir(parents=True, exist_ok=True)
        if not task.has_head:
            facts["before"] = _measured(model, validating, schedule)
        write_json(out / FACTS, facts)
    trouble: list[str] = list(facts.get("trouble", []))

    def on_trouble(text: str) -> None:
        say(f"trouble    {text}")
        trouble.append(text)

    with between_batches() as interrupts:
        ends = [] if seconds is None else [_EndAt(begun + seconds, say)]
        rows = fit_rounds(
            model,
            rounds,
            validating,
            schedule,
            checkpoint=out / _CHECKPOINT,
            callbacks=[interrupts, *ends, _Log(schedule, say)],
            on_trouble=on_trouble,
            verbose=verbose,
        )
    facts |= _result(rows, facts.get("before"), schedule)
    if trouble:
        facts["trouble"] = trouble
    _write(out, task)
    draw_curve(out / CURVE, facts)
    write_json(out / FACTS, facts | {"status": "trained"})
    (out / _CHECKPOINT).unlink(missing_ok=True)
    say(
        f"perplexity {facts['perplexity_before']:.4g} -> {facts['perplexity']:.4g} on texts held out "
        f"({facts['fall']:+.0%}); kept round {facts['kept_round'] + 1} of {len(rows)}"
    )
    if facts["fall"] >= 0:
        say("hint       nothing was gained: the adapted backbone is no better on these texts")
    say(f"adapted    {out}, for --backbone")
    return Pretrained(out, facts | {"status": "trained"})


def labeled_splits(
    data: PathLike, *, label_column: str | None = None, encoding: str | None = None, seed: int = 0
) -> Splits:
    """The splits of a labeled task as `train` makes them with the same seed and its default share for validation.

    Raises:
        DataError: The data cannot be read.

    Example:

        labeled_splits("reviews.csv").validation
    """
    options, modality = {"label_column": label_column, "encoding": encoding}, find_modality(data)
    reading: dict[str, Any] = {name: options.get(name) for name in modality.columns}
    return modality.load_splits(
        data, validation=None, validation_fraction=0.2, data_dir=None, seed=seed, **reading
    )[0]


def adapt_first(
    unlabeled: PathLike,
    data: PathLike,
    backbone: str,
    out: PathLike,
    *,
    options: TrainOptions,
    seed: int = 0,
    leave_out_leaks: bool = False,
    overwrite: bool = False,
    say: Say = print_line,
    verbose: int | str = 1,
) -> Pretrained:
    """Pretrain on unlabeled texts before `train`, compared with the splits that `train` will make.

    A training that was interrupted is resumed, and one that is complete is taken as it is.

    Args:
        unlabeled: As `data` of `pretrain`.
        data: Of `train`.
        backbone: As in `pretrain`.
        out: The run folder of `train`; the preset is written next to it, `OUT-adapted`.
        options: Of `train`; half of its budget is for pretraining.
        seed: As in `train`. Defaults to 0.
        leave_out_leaks, overwrite, say, verbose: As in `pretrain`.

    Returns:
        `Pretrained`, whose `path` is the backbone for `train`.

    Raises:
        KTransferError: As in `pretrain`, or the labeled data cannot be read.

    Example:

        adapted = adapt_first("messages.txt", "labeled.csv", "bert_tiny_en_uncased", "runs/a", options=TrainOptions())
    """
    modality = find_modality(data, data_dir=options.data_dir)
    splits, *_ = read_examples(data, modality, options, seed, lambda line: None)
    folder = Path(out).with_name(f"{Path(out).name}-adapted")
    return pretrain(
        unlabeled,
        backbone,
        folder,
        labeled=splits,
        leave_out_leaks=leave_out_leaks,
        text_column=options.text_column,
        encoding=options.encoding,
        sequence_length=options.sequence_length,
        budget=None if options.budget is None else parse_duration(options.budget) / 2,
        seed=seed,
        overwrite=overwrite,
        resume=not overwrite and (folder / FACTS).is_file(),
        random_weights=options.random_weights,
        say=say,
        verbose=0 if verbose != 1 else 1,
    )


class _Log(keras.callbacks.Callback):
    """A line for each round."""

    def __init__(self, schedule: Schedule, say: Say) -> None:
        super().__init__()
        self._schedule, self._say = schedule, say

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        loss = float(logs.get(f"val_{CROSS_ENTROPY}", math.nan))
        part = "output layer" if logs.get("stage") == 0 and self._schedule.head_rounds else "all blocks"
        self._say(
            f"round      {epoch + 1} of {self._schedule.total} ({part}): loss {logs.get(CROSS_ENTROPY, math.nan):.3f}, "
            f"held out {loss:.3f}, perplexity {_perplexity(loss):.4g}"
        )


class _EndAt(keras.callbacks.Callback):
    """Ends `fit` at a time."""

    def __init__(self, end: float, say: Say) -> None:
        super().__init__()
        self._end, self._say, self._ended = end, say, False

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not self._ended and time.monotonic() > self._end:
            self._ended = True
            self.model.stop_training = True
            self._say("budget     the time is over; the best weights so far are kept")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._ended:  # ProgressiveUnfreezing goes on with the next stage where one ends early
            self.model.stop_training = True


def _measured(model: keras.Model, held_out: Any, schedule: Schedule) -> float:
    compile_model(model, schedule)
    return float(model.evaluate(held_out, verbose=0, return_dict=True)[CROSS_ENTROPY])


def _result(rows: list[dict[str, Any]], before: float | None, schedule: Schedule) -> dict[str, Any]:
    """The curve, the perplexity before the backbone trained and after, and the round that was kept."""
    losses = [float(row[f"val_{CROSS_ENTROPY}"]) for row in rows]
    finite = [loss if math.isfinite(loss) else math.inf for loss in losses]
    kept = min(range(len(finite)), key=finite.__getitem__)
    start = before if before is not None else min(finite[: schedule.head_rounds])
    best = min(finite[kept], start)
    return {
        "curve": [
            {"round": row["epoch"], "stage": row.get("stage"), "held_out": loss}
            for row, loss in zip(rows, losses, strict=True)
        ],
        "kept_round": kept,
        "perplexity_before": _perplexity(start),
        "perplexity": _perplexity(best),
        "fall": _perplexity(best) / _perplexity(start) - 1,
    }


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf


def _write(out: Path, task: Pretraining) -> None:
    """Write the preset's files to a folder in `out`, then each to its place, the configuration of the backbone last."""
    partial = out / ".preset.partial"
    shutil.rmtree(partial, ignore_errors=True)
    task.save(partial)
    for path in sorted(partial.iterdir(), key=lambda path: path.name == "config.json"):
        target = out / path.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(path, target)
    partial.rmdir()


def _clear(out: Path) -> None:
    """Remove what an earlier `pretrain` wrote, the configuration first, without which it is no preset."""
    if not out.is_dir():
        return
    for path in sorted(out.iterdir(), key=lambda path: path.name != "config.json"):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _found(out: Path, asked: Mapping[str, Any], *, overwrite: bool, resume: bool) -> dict[str, Any]:
    """The content of `pretraining.json` of a training to resume; empty where one begins."""
    facts: Any = None
    try:
        facts = read_json(out / FACTS)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise RunError(f"Expected a readable {FACTS} in {out}, got {error}. Remove the folder.") from error
    ours = isinstance(facts, dict) and facts.get("format") == _FORMAT and isinstance(facts.get("asked"), dict)
    if out.exists() and not ours and (not out.is_dir() or any(out.iterdir())):
        raise RunError(
            f"Expected a new folder, or one that `ktransfer pretrain` wrote, got {out}, which is neither. "
            "Choose another --out."
        )
    if not ours:
        return {}
    if not resume:
        if not overwrite:
            raise RunError(
                f"Expected a new folder, got {out}, which `ktransfer pretrain` wrote. Pass --resume to complete it, or "
                "--overwrite."
            )
        return {}
    same = json.loads(json.dumps(dict(asked)))
    for name, value in same.items():
        if facts["asked"].get(name) != value:
            raise RunError(
                f"Expected --{name.replace('_', '-')} {facts['asked'].get(name)} as at the start of the training with "
                f"--resume, got {value}. Pass the same, or --overwrite to begin anew."
            )
    try:
        Schedule(**facts["schedule"])
        facts["fingerprint"]
    except (KeyError, TypeError) as error:
        raise RunError(
            f"Expected the schedule and the fingerprint of the texts in {out / FACTS}, got a damaged file. "
            "Pass --overwrite to begin anew."
        ) from error
    return facts


def _check(epochs: float, batch_size: int, learning_rate: float, patience: int) -> None:
    for name, value, least in (
        ("epochs", epochs, 0.01),
        ("batch_size", batch_size, 1),
        ("learning_rate", learning_rate, 1e-9),
        ("patience", patience, 1),
    ):
        if not least <= value < 1e6:
            raise RecipeError(
                f"Expected {name} of at least {least:g}, got {value!r}. Leave it out for the default."
            )
