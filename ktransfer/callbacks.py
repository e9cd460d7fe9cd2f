"""ProgressiveUnfreezing: thaw a backbone stage by stage inside one `model.fit`."""

import contextlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from ktransfer.best_weights import BestWeights
from ktransfer.blocks import find_blocks, sublayers
from ktransfer.errors import BackboneError, RecipeError
from ktransfer.freezing import resolve_depth, set_depth
from ktransfer.optimizers import GroupedOptimizer
from ktransfer.recipe import Stage, progressive_stages, stage_at


class ProgressiveUnfreezing(keras.callbacks.Callback):
    """Trains the head on a frozen backbone, then thaws the backbone from the top, stage by stage.

    Goes into the `callbacks` of a plain `fit` with the model as you compiled it. At each stage it sets what
    trains, gives each block its own share of the learning rate, and makes Keras trace the training step
    again; the optimizer's state of what trained already is kept, and what thaws starts without a jump.
    BatchNorm in the backbone stays frozen, with its moving statistics as they are. Afterwards the model holds
    an optimizer of the class that it was compiled with.

    The stage follows from the epoch. A stage with `patience` may end before its time; the epochs that it did
    not use are then left out and `fit` ends that much earlier.

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
        self._wrap_optimizer()

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
        self._stage, self._warned = None, False
        self._best = BestWeights(rising=self._rising, baseline=self.baseline, path=self.best_path)

    def on_epoch_begin(self, epoch, logs=None):
        planned = epoch + _number(self._grouped.skipped_epochs)
        index = stage_at(self._plan, planned)
        if index != self._stage:
            # In the middle of a stage that the optimizer knows: its state was restored, its counts go on.
            resumed = planned > self._first_epoch(index) and _number(self._grouped.stage) == index
            self._begin(index, None if resumed and self._stage is None else self._end(index) - planned)

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        stage = self._plan[self._stage]
        now, end = epoch + _number(self._grouped.skipped_epochs) + 1, self._end(self._stage)
        logs["stage"] = self._stage
        logs.setdefault("learning_rate", float(keras.ops.convert_to_numpy(self._grouped.rate(0))))
        value = logs.get(self.monitor)
        if value is None and stage.patience and not self._warned:
            self._warned = True
            warnings.warn(
                f"ktransfer: patience watches {self.monitor!r}, which fit does not report; it has "
                f"{', '.join(sorted(logs))}. Give fit validation_data, or choose another monitor.",
                stacklevel=2,
            )
        if value is not None:
            self._best.offer(value, self._moving_variables(), f"epoch {epoch + 1}")
        if stage.patience and self._best.waited >= stage.patience and now < end:
            self._say(f"stage {self._stage} ends early: no better {self.monitor} in {stage.patience} epochs")
            self._grouped.skipped_epochs.assign_add(end - now)
            now = end
        if now >= end:
            self._best.restore(self.model.variables)
        if now >= self._epochs:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self._end_training()
        self._put_optimizer(self._grouped.unwrapped(self.model.trainable_variables))
        self.model.make_train_function(force=True)

    @property
    def best(self) -> float | None:
        """The monitored value of the weights that the model has when `fit` ends."""
        return self._best.value

    def _end_training(self):
        self._best.restore(self.model.variables)
        if self._best.value is not None:
            self._say(f"best {self.monitor} {self._best.value:.4f}, kept: {self._best.origin}")

    def _find_backbone(self, model):
        if isinstance(self.backbone, str):
            names = [layer.name for layer in model.layers]
            if self.backbone not in names:
                raise BackboneError(
                    f"A layer of the model was expected as the backbone. Received: {self.backbone!r}. "
                    f"The model has {', '.join(names)}."
                )
            return model.get_layer(self.backbone)
        if not any(layer is self.backbone for layer in sublayers(model)):
            raise BackboneError(
                "The backbone must be a layer of the model that is fit. "
                f"Received: {getattr(self.backbone, 'name', self.backbone)!r}, which {model.name} does not "
                "hold. Pass model.get_layer(...)."
            )
        return self.backbone

    def _wrap_optimizer(self):
        optimizer = self.model.optimizer
        if optimizer is None:
            raise RecipeError("A compiled model was expected. Received: a model without an optimizer.")
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if isinstance(inner, keras.optimizers.MultiOptimizer):
            raise RecipeError(
                "One optimizer was expected, its rates by depth are made here. "
                "Received: a MultiOptimizer. Compile with a plain one."
            )
        if isinstance(inner, GroupedOptimizer) and inner.groups == self._groups:
            self._grouped = inner  # an interrupted fit goes on
            return
        set_depth(self._backbone, self._blocks, len(self._blocks), batch_norm=self.batch_norm)
        with self._scope():
            if isinstance(inner, GroupedOptimizer):
                inner = inner.unwrapped(self.model.trainable_variables)
            self._grouped = GroupedOptimizer(inner, self._groups)
            self._put_optimizer(self._grouped)
            self.model.optimizer.build(self.model.trainable_variables)

    def _put_optimizer(self, optimizer):
        """Set the model's optimizer; a loss scale around it stays, as far as it has come."""
        outer = self.model.optimizer
        with self._scope():
            if isinstance(outer, keras.optimizers.LossScaleOptimizer):
                scale = outer.dynamic_scale if outer.built else outer.initial_scale
                outer = keras.optimizers.LossScaleOptimizer(
                    optimizer,
                    initial_scale=float(keras.ops.convert_to_numpy(scale)),
                    dynamic_growth_steps=outer.dynamic_growth_steps,
                )
                if optimizer.built:
                    outer.build(self.model.trainable_variables)
                self.model.optimizer = outer
            else:
                self.model.optimizer = optimizer

    def _scope(self):
        strategy = getattr(self.model, "distribute_strategy", None)
        return strategy.scope() if strategy is not None else contextlib.nullcontext()

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
            steps = self.params["steps"] or 0
            self._grouped.begin_stage(
                stage=index,
                rates=[1.0, *stage.rates(len(self._blocks))],
                warmup_steps=round(stage.warmup * steps),
                cosine_steps=epochs * steps if stage.schedule == "cosine" else 0,
                linear_steps=epochs * steps if stage.schedule == "linear" else 0,
            )
        self.model.make_train_function(force=True)
        self._best.join(self._moving_variables())
        trained = sum(int(np.prod(v.shape)) for v in self.model.trainable_variables)
        rate = float(keras.ops.convert_to_numpy(self._grouped.learning_rate))
        lowest = f", down to {self._blocks[depth - 1].name}" if depth else ""
        self._say(
            f"stage {index}: {depth} of {len(self._blocks)} blocks train{lowest}; "
            f"{trained:,} weights, learning rate {rate:.3g}"
        )

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
