"""ProgressiveUnfreezing: thaw a backbone stage by stage inside one `model.fit`."""

import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from ktransfer.best_weights import BestWeights
from ktransfer.blocks import find_blocks, inner_backbone
from ktransfer.errors import BackboneError, RecipeError, listed
from ktransfer.freezing import resolve_depth, set_depth
from ktransfer.optimizers import group_optimizer, set_optimizer
from ktransfer.recipe import Stage, progressive_stages, stage_at
from ktransfer.recovery import Recovery


class ProgressiveUnfreezing(keras.callbacks.Callback):
    """Trains the head on a frozen backbone, then thaws the backbone from the top, stage by stage.

    Goes into the `callbacks` of a plain `fit` with the model as you compiled it. At each stage it sets what
    trains, gives each block its own share of the learning rate, and makes Keras trace the training step
    again; the optimizer's state of what trained already is kept, and what thaws starts without a jump.
    BatchNorm in the backbone stays frozen, with its moving statistics as they are. Afterwards the model holds
    an optimizer of the class that it was compiled with.

    The stage follows from the epoch. A stage with `patience` may end before its time; the epochs that it did
    not use are then left out and `fit` ends that much earlier.

    Where the loss is no number, or infinite, weights and optimizer go back to what the epoch began with and
    all learning rates to a tenth, once; when it happens again the stage ends there.

    Runs on TensorFlow and JAX, under mixed precision, `jit_compile`, `steps_per_execution` and
    `MirroredStrategy`, and beside EarlyStopping, ModelCheckpoint, BackupAndRestore, TensorBoard, CSVLogger,
    ReduceLROnPlateau and LearningRateScheduler. A whole model that ModelCheckpoint writes while it runs is
    read with `keras.models.load_model(path, compile=False)`: Keras cannot tell the optimizer's state then.

    Args:
        backbone: The functional model inside the model being fit, or its layer name.
        stages: What trains when. `None` divides the epochs of `fit` between the head, the upper half and
            all (`ktransfer.progressive_stages`).
        batch_norm: `"frozen"`, or `"adapt"` to let BatchNorm in thawed blocks train and track.
        monitor: The value that `patience` watches and by which a stage's best weights are chosen; they are
            put back when the stage ends. Where `fit` has no such value (no validation data), weights stay.
        mode: `"min"`, `"max"`, or `"auto"`: `"max"` for accuracy and AUC.
        baseline: The monitored value of the weights that `fit` starts from; where no epoch beats it, these
            are the best ones. `None` when they are not worth keeping, as a new head's are not.
        best_path: An `.npz` file to keep the best weights in, so that an interrupted `fit` knows them when
            it goes on; to be removed when all is done.
        on_divergence: Told in a sentence where the loss was no number; `None` warns.
        verbose: 1 prints a line for each stage, 0 nothing.

    Raises:
        BackboneError: When `fit` starts: the backbone is not in the model, or not functional.
        RecipeError: When `fit` starts: a stage does not fit the backbone, the epochs or the optimizer.

    Example:

        model.fit(ds, epochs=12, validation_data=val, callbacks=[
            ktransfer.ProgressiveUnfreezing(backbone=model.get_layer("backbone"), stages=[
                ktransfer.Stage(depth=0, epochs=4, learning_rate=1e-3),
                ktransfer.Stage(depth=0.5, epochs=4, learning_rate=3e-4, warmup=1),
                ktransfer.Stage(depth="all", epochs=4, learning_rate=1e-4, warmup=1),
            ])])

    Source: Howard and Ruder 2018, sections 3.2 and 3.3; Kumar et al. 2022 for the head first.
    """

    def __init__(
        self,
        backbone: keras.Model | str,
        stages: Sequence[Stage] | None = None,
        *,
        batch_norm: str = "frozen",
        monitor: str = "val_loss",
        mode: str = "auto",
        baseline: float | None = None,
        best_path: str | os.PathLike | None = None,
        on_divergence: Callable[[str], None] | None = None,
        verbose: int = 1,
    ):
        super().__init__()
        if stages is not None and not all(isinstance(stage, Stage) for stage in stages):
            raise RecipeError(f"stages must be ktransfer.Stage objects. Received: {list(stages)!r}.")
        if stages is not None and not stages:
            raise RecipeError("At least one stage was expected. Received: an empty list.")
        if batch_norm not in ("frozen", "adapt"):
            raise RecipeError(f'batch_norm must be "frozen" or "adapt". Received: {batch_norm!r}.')
        if mode not in ("auto", "min", "max"):
            raise RecipeError(f'mode must be "auto", "min" or "max". Received: {mode!r}.')
        self.backbone = backbone
        self.stages = tuple(stages) if stages is not None else None
        self.batch_norm = batch_norm
        self.monitor = monitor
        self.baseline = baseline
        self.verbose = verbose
        self.best_path = best_path and Path(best_path)
        self.on_divergence = on_divergence or (lambda text: warnings.warn(f"ktransfer: {text}", stacklevel=4))
        # Where `fit` is given parts of batches: examples in a batch, in a part, in an epoch.
        self.parts: tuple[int, int, int] | None = None
        self._epoch, self._broken_off = None, False
        self._rising = monitor.endswith(("acc", "accuracy", "auc")) if mode == "auto" else mode == "max"

    def set_model(self, model):
        """Take the model apart and wrap its optimizer.

        Here, and not in `on_train_begin`: whatever restores an optimizer's state there, such as
        BackupAndRestore, must find the one that wrote it, wherever it stands in the list of callbacks.
        """
        super().set_model(model)
        self._backbone = self._find_backbone(model)
        self._blocks = find_blocks(self._backbone)
        held = {id(variable) for variable in self._backbone.weights}
        self._groups = [[v.path for v in model.variables if id(v) not in held]]
        self._groups += [[v.path for v in block.weights] for block in self._blocks]
        if not any(id(variable) not in held for variable in model.trainable_variables):
            raise BackboneError(
                "A head with weights that train was expected on the backbone. "
                f"Received: {model.name}, which has none. Add one, such as a Dense layer."
            )
        set_depth(self._backbone, self._blocks, len(self._blocks), batch_norm=self.batch_norm)
        self._grouped = group_optimizer(model, self._groups)
        if self.parts:
            self._grouped.sum_parts(*self.parts)

    def on_train_begin(self, logs=None):
        epochs = self.params["epochs"]
        self._plan = self.stages or progressive_stages(epochs)
        self._depths = [resolve_depth(stage.depth, self._blocks) for stage in self._plan]
        last_start = sum(stage.epochs for stage in self._plan[:-1])
        if last_start >= epochs:
            raise RecipeError(
                f"Every stage must begin before fit ends. Received: epochs={epochs}, and a last stage that "
                f"begins after {last_start}. Give fit epochs={sum(s.epochs for s in self._plan)}."
            )
        self._epochs = max(epochs, sum(stage.epochs for stage in self._plan))
        if self.params["steps"] is None and any(s.warmup or s.schedule != "constant" for s in self._plan):
            raise RecipeError(
                "warmup and a schedule need the number of steps in an epoch, and this data does not say it. "
                "Received: data of unknown length. Pass steps_per_epoch to fit, or a dataset with "
                "assert_cardinality()."
            )
        scheduled = isinstance(self._grouped.get_config()["optimizer"]["config"]["learning_rate"], dict)
        if scheduled and any(stage.learning_rate is not None for stage in self._plan):
            raise RecipeError(
                "A stage's learning_rate and a compiled LearningRateSchedule exclude each other. "
                "Received: both. Compile with a number, or leave learning_rate out of the stages."
            )
        self._stage, self._warned, self._stage_over = None, False, False
        if not self._broken_off:
            self.best_weights = BestWeights(rising=self._rising, baseline=self.baseline, path=self.best_path)
            self._recovery = Recovery(self.model, self._grouped, self.on_divergence)
        self._broken_off = False

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        planned = epoch + _number(self._grouped.skipped_epochs)
        index = stage_at(self._plan, planned)
        if index != self._stage:
            # In the middle of a stage that the optimizer knows: its state was restored, its counts go on.
            resumed = planned > self._first_epoch(index) and _number(self._grouped.stage) == index
            self._begin(index, None if resumed and self._stage is None else self._end(index) - planned)
            self._recovery.take(self._moving_variables(), proven=True)
        if self._grouped.parts:
            self._grouped.parts.begin_epoch()

    def on_train_batch_end(self, batch, logs=None):
        if math.isfinite((logs or {}).get("loss", 0.0)):
            self._recovery.prove()
            return
        self._stage_over = self._recovery.diverged(f"in batch {batch + 1} of epoch {self._epoch + 1}")
        if self._stage_over:
            self.model.stop_training = True  # the epoch; on_epoch_end goes on
        elif batch + 1 != self.params["steps"]:
            self.model.reset_metrics()  # whose means would stay as they are

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        stage = self._plan[self._stage]
        now, end = epoch + _number(self._grouped.skipped_epochs) + 1, self._end(self._stage)
        logs["stage"] = self._stage
        logs.setdefault("learning_rate", float(keras.ops.convert_to_numpy(self._grouped.rate(0))))
        value = logs.get(self.monitor)
        if not self._stage_over and not self._recovery.take(self._moving_variables()):
            self._stage_over = self._recovery.diverged(f"after epoch {epoch + 1}")
            value = math.nan  # it was that of other weights
        elif not math.isfinite(logs.get("val_loss", 0.0)):
            value = math.nan  # an accuracy can be had of logits that are no numbers
        if value is None and stage.patience and not self._warned:
            self._warned = True
            warnings.warn(
                f"ktransfer: patience watches {self.monitor!r}, which fit does not report; it has "
                f"{listed(sorted(logs))}. Give fit validation_data, or choose another monitor.",
                stacklevel=2,
            )
        if value is not None:
            self.best_weights.offer(value, self._moving_variables(), f"epoch {epoch + 1}")
        over = self._stage_over
        if over:
            self._stage_over = self.model.stop_training = False
        elif stage.patience and self.best_weights.waited >= stage.patience and now < end:
            self._say(f"stage {self._stage} ends early: no better {self.monitor} in {stage.patience} epochs")
            over = True
        if over:
            self._grouped.skipped_epochs.assign_add(end - now)
            now = end
        if now >= end:
            self.best_weights.restore(self.model.variables)
        if now >= self._epochs:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self._end_training()
        set_optimizer(self.model, self._grouped.unwrapped(self.model.trainable_variables))
        self.model.make_train_function(force=True)

    @property
    def best(self) -> float | None:
        """The monitored value of the weights that the model has when `fit` ends."""
        return self.best_weights.value

    def _end_training(self):
        self.best_weights.restore(self.model.variables)
        if self.best_weights.value is not None:
            self._say(f"best {self.monitor} {self.best_weights.value:.4f}, kept: {self.best_weights.origin}")

    def _find_backbone(self, model):
        return inner_backbone(model, self.backbone)

    def _first_epoch(self, index):
        return sum(stage.epochs for stage in self._plan[:index])

    def _end(self, index):
        return self._epochs if index == len(self._plan) - 1 else self._first_epoch(index + 1)

    def _begin(self, index, epochs):
        """Begin a stage that has `epochs` to run, or go on with it where that is `None`."""
        self._stage = index
        stage, depth = self._plan[index], self._depths[index]
        set_depth(self._backbone, self._blocks, depth, batch_norm=self.batch_norm)
        if epochs is not None:
            if stage.learning_rate is not None:
                self._grouped.learning_rate = stage.learning_rate
            parts = self._grouped.parts
            steps = parts.steps if parts else self.params["steps"] or 0
            self._grouped.begin_stage(
                stage=index,
                rates=[1.0, *stage.rates(len(self._blocks))],
                warmup_steps=round(stage.warmup * steps),
                cosine_steps=epochs * steps if stage.schedule == "cosine" else 0,
                linear_steps=epochs * steps if stage.schedule == "linear" else 0,
            )
        self.model.make_train_function(force=True)
        self.best_weights.join(self._moving_variables(), resumed=epochs is None)
        trained = sum(int(np.prod(v.shape)) for v in self.model.trainable_variables)
        rate = float(keras.ops.convert_to_numpy(self._grouped.learning_rate * self._grouped.slowed()))
        lowest = f", down to {self._blocks[depth - 1].name}" if depth else ""
        self._say(
            f"stage {index}: {depth} of {len(self._blocks)} blocks train{lowest}; "
            f"{trained:,} weights, learning rate {rate:.3g}"
        )

    def go_back(self) -> int | None:
        """After a `fit` that broke off: put back what its epoch began with, and return it (`None`: none)."""
        if self._epoch is not None:
            self._recovery.restore()
            self._broken_off = True
        return self._epoch

    def _moving_variables(self):
        """What training can change: all but the backbone's frozen weights."""
        frozen = {id(v) for v in self._backbone.weights if not v.trainable}
        if self.batch_norm == "adapt":
            return self.model.variables
        return [variable for variable in self.model.variables if id(variable) not in frozen]

    def _say(self, text):
        if self.verbose:
            print(f"\n{text}", flush=True)  # noqa: T201  beside Keras' own progress lines


def _number(variable):
    return int(keras.ops.convert_to_numpy(variable))
