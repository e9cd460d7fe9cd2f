"""ProgressiveUnfreezing: unfreeze a backbone stage by stage inside one `model.fit`."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import numpy as np

from ktransfer.errors import BackboneError, KTransferError, RecipeError, listed
from ktransfer.models.adapters import adapter_variables, attach_adapters, plan_adapters
from ktransfer.models.blocks import sublayers
from ktransfer.models.freezing import AdapterFreezing, DepthFreezing, resolve_depth
from ktransfer.models.locate import BackboneNames, Located, locate
from ktransfer.recipes.adapter import LoRA
from ktransfer.recipes.recipe import Stage, progressive_stages, stage_at
from ktransfer.training.best_weights import BestWeights
from ktransfer.training.layerwise_optimizer import LayerwiseOptimizer, Plan
from ktransfer.training.shared_fit import SharedFit, may_report, monitor_rises

if TYPE_CHECKING:
    from ktransfer.core.typing import Tensor


class ProgressiveUnfreezing(keras.callbacks.Callback):
    """Trains the head on a frozen backbone, then unfreezes the backbone from the top, stage by stage.

    Goes into the `callbacks` of a plain `fit` with the model as you compiled it. Each stage sets what trains,
    gives each block its own share of the learning rate, and compiles the training step again. Your optimizer
    stays your object, `model.optimizer is optimizer` holds throughout, and is always built on what trains now: a
    checkpoint that any callback writes at any moment loads in a process without ktransfer. The slots of what
    trained before are kept, and what is unfrozen starts without a jump. BatchNorm in the backbone stays frozen,
    with its moving statistics as they are.

    Nothing is changed before everything is checked: a refused `fit` leaves model and optimizer as they were.
    An interrupted one leaves a model that can be saved, and fit, as any other.

    The stage follows from the epoch. A stage with `patience` may end before its time; the epochs that it did
    not use are then left out and `fit` ends that much earlier.

    Layers that you froze in a backbone that otherwise trains stay frozen, and so do the kernels under LoRA
    adapters; where the whole backbone is frozen, the stages decide.

    Where the loss is NaN or infinite, weights and optimizer are restored as they were when the epoch began, and
    all learning rates fall to a tenth, once; when it happens again the stage ends.

    Runs on TensorFlow, JAX and PyTorch, with every optimizer of Keras but `MultiOptimizer`, under mixed
    precision, gradient accumulation, EMA, `jit_compile`, `steps_per_execution`, `MirroredStrategy` and Keras'
    distribution on JAX, and next to EarlyStopping, ModelCheckpoint, BackupAndRestore, SwapEMAWeights,
    TensorBoard, CSVLogger, ReduceLROnPlateau and LearningRateScheduler. With `use_ema=True` the weights at the end
    are the averages of the best epoch. Two callbacks for two backbones may stand in one `fit`; the learning rate of
    the head is then that of the first one. A `train_step` that you compile yourself, with `tf.function`, never
    learns what was unfrozen, with a warning.

    Args:
        backbone: What is unfrozen: a model inside the model being fit, at any depth; its name; a model whose
            layers are the fit model's own (`Model(base.input, Dense(5)(base.output))`); a list of layers from
            input to output; or the names of the first and the last layer as a tuple.
        stages: What trains when. `None` divides the epochs of `fit` between the head at the compiled learning
            rate, the upper half at a tenth of it, and all at 3 % of it (`ktransfer.progressive_stages`).
        batch_norm: `"frozen"`, or `"adapt"` to let BatchNorm in unfrozen blocks train and track.
        monitor: The value that `patience` watches and by which a stage's best weights are chosen; they are
            restored when the stage ends. Where `fit` has no such value (no validation data), weights stay.
            Defaults to `"val_loss"`.
        mode: `"min"`, `"max"`, or `"auto"`, which asks the metric, and raises where it does not say.
        baseline: The monitored value of the weights that `fit` starts from; where no epoch beats it, these
            are the best ones. `None` when they are not worth keeping, as a new head's are not.
        restore_best_weights: Whether a stage ends with its best weights. With `False` it ends with those of its
            last epoch, and `patience` still watches `monitor`. Defaults to `True`.
        best_path: An `.npz` file to keep the best weights in, so that an interrupted `fit` knows them when
            it is resumed; to be removed when all is done.
        adapter: A `ktransfer.LoRA`: in the blocks that are unfrozen only low-rank adapters train. They are attached
            when `fit` starts, and stay: `ktransfer.save_adapters` writes them, `ktransfer.merge_adapters` adds them
            to the kernels. Saving the model merges them in the file. Defaults to `None`, which trains all weights.
        on_divergence: Called with a sentence when the loss is NaN or infinite; `None` warns.
        verbose: 1 prints a line for each stage, 0 nothing.

    Raises:
        BackboneError: When `fit` starts: the backbone is not in the model, not built, or has no graph.
        RecipeError: When `fit` starts: a stage does not fit the backbone, the epochs or the optimizer, no layer
            takes the adapter, or it cannot be known whether a higher value of `monitor` is better.

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
        backbone: keras.Model | keras.layers.Layer | str | Sequence[keras.layers.Layer | str],
        stages: Sequence[Stage] | None = None,
        *,
        batch_norm: str = "frozen",
        monitor: str = "val_loss",
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = True,
        best_path: str | os.PathLike[str] | None = None,
        adapter: LoRA | None = None,
        on_divergence: Callable[[str], None] | None = None,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        if stages is not None and not all(isinstance(stage, Stage) for stage in stages):
            raise RecipeError(
                f"Expected stages to be ktransfer.Stage objects, got {list(stages)!r}. "
                "Write ktransfer.Stage(depth=..., epochs=...)."
            )
        if stages is not None and not stages:
            raise RecipeError(
                "Expected at least one stage, got an empty list. Pass None for the default ones."
            )
        if batch_norm not in ("frozen", "adapt"):
            raise RecipeError(f'Expected batch_norm "frozen" or "adapt", got {batch_norm!r}. Choose one.')
        if mode not in ("auto", "min", "max"):
            raise RecipeError(f'Expected mode "auto", "min" or "max", got {mode!r}. Choose one.')
        if adapter is not None and not isinstance(adapter, LoRA):
            raise RecipeError(
                f"Expected an adapter to be a ktransfer.LoRA, got {adapter!r}. Write ktransfer.LoRA(rank=8)."
            )
        if adapter is not None and batch_norm == "adapt":
            raise RecipeError(
                f'Expected batch_norm="frozen" with an adapter, got {batch_norm!r}. Leave one out.'
            )
        self.adapter = adapter
        self.backbone = backbone
        self.stages = tuple(stages) if stages is not None else None
        self.batch_norm = batch_norm
        self.monitor, self.mode = monitor, mode
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.verbose = verbose
        self.best_path = Path(best_path) if best_path else None
        self.on_divergence = on_divergence
        # Where `fit` is given parts of batches: examples in a batch, in a part, in an epoch.
        self.parts: tuple[int, int, int] | None = None
        # An optimizer of several fits, and the plan in it.
        self.layerwise: LayerwiseOptimizer | None = None
        self._plan: Plan | None = None
        self._epoch: int | None = None
        self._broken_off = self._training = False
        self._fit: SharedFit | None = None
        self._checked: _Checked | None = None
        self._refusal: KTransferError | None = None
        self._resumed: tuple[Any, ...] | None = None

    @property
    def _shared(self) -> SharedFit:
        return _begun(self._fit)

    @property
    def _checks(self) -> _Checked:
        return _begun(self._checked)

    @property
    def _own_plan(self) -> Plan:
        return _begun(self._plan)

    @property
    def _now(self) -> int:
        return _begun(self._stage)

    # Before the first epoch: check, change nothing.

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._fit = self._checked = self._refusal = None
        self._training = False

    def set_params(self, params: dict[str, Any]) -> None:
        """Check everything, and be ready for what another callback restores in `on_train_begin`.

        Keras calls this before any `on_train_begin`; what is refused is raised there, as `evaluate` and
        `predict` call this as well.
        """
        super().set_params(params)
        if self.model is not None:
            self._prepare(params)

    def _prepare(self, token: Any) -> None:
        try:
            located = self._locate(self.model)
            self._fit = SharedFit.of(self.model, token, layerwise=self.layerwise)
            self._checked = self._check(located)
            if self._plan is None or self.layerwise is None:
                self._plan = self._shared.layerwise.add_plan([block.weights for block in located.blocks])
            self._shared.attach(self)
        except KTransferError as error:
            self._refusal = error

    def _check(self, located: Located) -> _Checked:
        model = self.model
        if not model.trainable and model.layers:
            raise BackboneError(
                f"Expected a model that trains, got {model.name!r} with trainable=False, which freezes the head too. "
                "Set model.trainable = True and compile again."
            )
        epochs = (self.params or {}).get("epochs")
        if epochs is None and self.stages is None:
            raise RecipeError(
                "Expected the number of epochs, got callbacks without it. "
                "Pass epochs=... to keras.callbacks.CallbackList, or stages=[...]."
            )
        if epochs is None:
            epochs = sum(stage.epochs for stage in self.stages or ())
        if epochs < 1:
            raise RecipeError(f"Expected at least one epoch, got epochs={epochs}. Give fit more.")
        plan = self.stages or progressive_stages(epochs)
        depths = [resolve_depth(stage.depth, located.blocks) for stage in plan]
        last_start = sum(stage.epochs for stage in plan[:-1])
        if last_start >= epochs:
            raise RecipeError(
                f"Expected every stage to begin before fit ends, got epochs={epochs} and a last stage that "
                f"begins after {last_start}. Give fit epochs={sum(stage.epochs for stage in plan)}."
            )
        self._check_head(model, located, min(depths))
        if self.adapter is not None and model.built:
            plan_adapters(located.blocks, max(depths), self.adapter)
        rate = self._shared.layerwise.inner.learning_rate
        scheduled = not isinstance(rate, keras.Variable)
        if scheduled and any(stage.learning_rate is not None for stage in plan):
            raise RecipeError(
                "Expected either a stage's learning_rate or a compiled LearningRateSchedule, got both. "
                "Compile with a number, or leave learning_rate out of the stages."
            )
        steps = (self.params or {}).get("steps")
        first = plan[0]
        if steps is None and self.stages and (first.warmup or first.schedule != "constant"):
            raise RecipeError(
                "Expected data of known length for the warmup or schedule of the first stage, got data that does "
                "not say it. Pass steps_per_epoch to fit, or a dataset with assert_cardinality()."
            )
        rising = self.mode == "max" if self.mode != "auto" else monitor_rises(model, self.monitor)
        if rising is None and not may_report(model, self.monitor):
            raise self._no_direction()
        return _Checked(
            located=located,
            plan=tuple(plan),
            depths=depths,
            epochs=max(epochs, sum(stage.epochs for stage in plan)),
            rising=rising,
            scheduled=scheduled,
            compiled_rate=None if scheduled else float(_number(rate)),
        )

    def _locate(self, model: keras.Model) -> Located:
        return locate(model, self.backbone)

    def _check_head(self, model: keras.Model, located: Located, depth: int) -> None:
        """Raise if a stage trains nothing."""
        if depth > 0 or not model.built:
            return
        held = {id(weight) for weight in located.weights}
        others = [weight for weight in model.weights if id(weight) not in held]
        if any(id(variable) not in held for variable in model.trainable_variables):
            return
        frozen = [v for v in others if not v.path.rpartition("/")[2].startswith(("moving_", "seed"))]
        if frozen:
            raise BackboneError(
                f"Expected a head that trains while the backbone is frozen, got {model.name!r}, in which "
                f"{frozen[0].path!r} and all other weights outside the backbone are frozen. "
                "Set trainable = True on the head's layers and compile again."
            )
        raise BackboneError(
            f"Expected a head with weights that trains while the backbone is frozen, got {model.name!r}, which has no "
            "weights outside the backbone, as where the output layer shares the embedding's. Add a head, such as a "
            "Dense layer, or use stages of depth 1 or more."
        )

    def _no_direction(self) -> RecipeError:
        return RecipeError(
            f"Expected a monitor with a known direction, got {self.monitor!r}, of which it cannot be known "
            'whether a higher value is better. Pass mode="max" or mode="min".'
        )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._fit is None and self._refusal is None:  # a list of callbacks that was made by hand
            self._prepare(self)
        if self._refusal is not None:
            refusal, self._refusal = self._refusal, None
            if self._fit is not None:
                self._shared.detach()
            raise refusal
        self._training = True
        checked = self._checks
        self._freezing = self._freezing_policy()
        self._stage: int | None = None
        self._saved_stage: int | None = None
        self._skipped = 0
        self._warned, self._stage_over = False, False
        self.last_steps: int | None = None
        self.finished = False
        if self.parts:
            self._shared.layerwise.accumulate_gradients(*self.parts)
        if not self._broken_off:
            self.best_weights = BestWeights(
                rising=bool(checked.rising),
                baseline=self.baseline,
                path=self.best_path,
                universe=lambda: self.model.variables,
            )
            self._best_averages: dict[int, np.ndarray] = {}
        else:
            self._skipped, self._saved_stage = self._kept_counters
        if self._resumed:
            facts, arrays, best, variables = self._resumed
            self._resumed = None
            self._shared.set_state(facts, arrays, variables)
            self.best_weights.set_state(best[0], best[1], variables)
        planned = sum(stage.epochs for stage in checked.plan)
        if self.stages and planned > (self.params or {}).get("epochs", planned):
            self.warn(
                f"fit has {self.params['epochs']} epochs and the stages {planned}: the last stage is cut short"
            )
        if not self.stages and not any(checked.depths):
            self._say(
                f"fit has {checked.epochs} epoch{'s' * (checked.epochs != 1)}, "
                f"which train{'s' * (checked.epochs == 1)} the head alone: the backbone stays frozen. "
                "Give fit more epochs to unfreeze it"
            )
        if checked.located.note:
            self._say(checked.located.note)
        kept = [layer for layer in self._freezing.kept_layers if self._counts(layer)]
        if kept:
            self._say(
                f"{len(kept)} layers of the backbone that were frozen before fit stay frozen: "
                f"{listed(layer.name for layer in kept)}"
            )
        if checked.rising is not None and self.monitor != "val_loss":
            self._say(f"{self.monitor}: {'higher' if checked.rising else 'lower'} is better")

    def _freezing_policy(self) -> DepthFreezing:
        located, adapter = self._checks.located, self.adapter
        if adapter is None:
            return DepthFreezing(located, batch_norm=self.batch_norm)
        found = bool(adapter_variables(located.blocks))
        with self._shared.layerwise.scope():
            plan = attach_adapters(located.blocks, max(self._checks.depths), adapter, models=[self.model])
        self._shared.layerwise.extend_plan(self._own_plan, [block.weights for block in located.blocks])
        for line in [] if found else plan.lines():
            self._say(f"adapters: {line}")
        return AdapterFreezing(located, batch_norm=self.batch_norm)

    def _counts(self, layer: keras.layers.Layer) -> bool:
        return not isinstance(layer, keras.layers.BatchNormalization) and not sublayers(
            layer, recursive=False
        )

    # Epochs.

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch
        self._shared.begin_epoch(self, epoch)

    def enter(self, epoch: int) -> bool:
        """Set what trains in an epoch, and how fast; whether that changes (called by `SharedFit`)."""
        checked = self._checks
        planned = epoch + self._skipped
        index = stage_at(checked.plan, planned)
        if index == self._stage:
            return False
        # In the middle of a stage that the optimizer knows: its state was restored, its counts go on.
        resumed = self._stage is None and planned > self._first_epoch(index) and self._saved_stage == index
        epochs = None if resumed else self._end(index) - planned
        self._stage, self._stage_resumed, self._stage_epochs = index, resumed, 0
        self._freezing.set_depth(checked.depths[index])
        if epochs is not None:
            self._begin(index, epochs)
        return True

    def _begin(self, index: int, epochs: int) -> None:
        checked, layerwise = self._checks, self._shared.layerwise
        stage, ratio = checked.plan[index], 1.0
        first = self._shared.members[0] is self
        rate = stage.learning_rate
        if rate is None and self.stages is None:
            if checked.scheduled:
                ratio = _DEFAULT_RATES[index]
            else:
                rate = _begun(checked.compiled_rate) * _DEFAULT_RATES[index]
        if rate is not None and first:
            layerwise.outer.learning_rate = rate
        elif rate is not None:
            ratio = rate / float(_number(layerwise.inner.learning_rate))
        steps = (
            layerwise.parts.steps
            if layerwise.parts
            else (self.params or {}).get("steps") or self.last_steps or 0
        )
        warmup = round(stage.warmup * steps)
        if not steps and (stage.warmup or stage.schedule != "constant"):
            self.warn(f"stage {index} has neither warmup nor schedule: the length of an epoch is not known")
        layerwise.begin_stage(
            self._own_plan,
            shares=stage.rates(len(checked.located.blocks)),
            ratio=ratio,
            warmup_steps=warmup,
            schedule=stage.schedule if steps else "constant",
            steps=epochs * steps,
        )

    def entered(self) -> None:
        """Log that a stage has begun (called by `SharedFit`)."""
        checked, index = self._checks, self._now
        depth = checked.depths[index]
        self.best_weights.join(self._best_variables(), resumed=self._stage_resumed)
        blocks = checked.located.blocks
        trained = sum(int(np.prod(v.shape)) for v in self.model.trainable_variables)
        rate = float(_number(self._shared.layerwise.inner.learning_rate)) * self._own_plan.ratio
        rate *= 0.1 if self._shared.layerwise.divergences else 1.0
        lowest = f", down to {blocks[depth - 1].name}" if depth else ""
        # A Sequential without an Input makes the weights of its head in the first batch.
        unbuilt = [layer.name for layer in sublayers(self.model) if not layer.built]
        later = f" and those that the first batch makes, of {listed(unbuilt)}" if unbuilt else ""
        self._say(
            f"stage {index}: {depth} of {len(blocks)} blocks train{lowest}; "
            f"{trained:,} weights{later}, learning rate {rate:.3g}"
        )

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        fit = self._shared
        fit.expect_step(batch)
        if fit.members[0] is self and fit.bad_batch is not None and not fit.epoch_over:
            self._diverged()

    def _diverged(self) -> None:
        """The loss of a step of this epoch was NaN or infinite."""
        fit = self._shared
        batch = fit.take_bad_batch()
        self._stage_over = _begun(fit.recovery).diverged(
            f"in batch {batch + 1} of epoch {_begun(self._epoch) + 1}"
        )
        if self._stage_over:
            fit.epoch_over = True
            self.model.stop_training = True  # the epoch; on_epoch_end goes on
        else:
            fit.refresh()
            self.model.reset_metrics()  # whose means would stay NaN

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        checked, fit = self._checks, self._shared
        stage, first = checked.plan[self._now], fit.members[0] is self
        now, end = epoch + self._skipped + 1, self._end(self._now)
        if first:
            logs["stage"] = self._stage
            logs.setdefault("learning_rate", float(_number(fit.layerwise.rate(0))))
            for member in fit.members:
                member.last_steps = fit.batches
        else:
            logs[f"stage_{checked.located.name}"] = self._stage
        self._stage_epochs += 1
        if self._stage_epochs == 1 and first:
            self._warn_of_untrained()
        value = logs.get(self.monitor)
        if first and not self._stage_over:
            fit.look_at_loss()
            if fit.bad_batch is not None:
                self._diverged()
                value = math.nan
        if first and not self._stage_over and not _begun(fit.recovery).take(fit.moving_variables()):
            self._stage_over = _begun(fit.recovery).diverged(f"after epoch {epoch + 1}")
            fit.refresh()
            value = math.nan  # it was that of other weights
        elif not math.isfinite(logs.get("val_loss", 0.0)):
            value = math.nan  # an accuracy can be computed from logits that are NaN
        if value is None and stage.patience and not self._warned:
            self._warned = True
            self.warn(
                f"patience watches {self.monitor!r}, which fit does not report; it has "
                f"{listed(sorted(logs))}. Give fit validation_data, or choose another monitor."
            )
        if value is not None:
            self._decide_direction()
            self.best_weights.offer(value, self._best_variables(), f"epoch {epoch + 1}")
            if self.best_weights.waited == 0:
                averages = fit.layerwise.averages()
                self._best_averages = {key: np.array(_number(average)) for key, average in averages.items()}
        over = self._stage_over
        if over:
            self._stage_over = self.model.stop_training = False
        elif stage.patience and self.best_weights.waited >= stage.patience and now < end:
            self._say(f"stage {self._stage} ends early: no better {self.monitor} in {stage.patience} epochs")
            over = True
        if over:
            self._skipped += end - now
            now = end
        if now >= end:
            self._restore_best()
        self.finished = now >= checked.epochs
        if all(member.finished for member in fit.members):
            self.model.stop_training = True

    def _best_variables(self) -> list[keras.Variable]:
        return self._shared.moving_variables() if self.restore_best_weights else []

    def _decide_direction(self) -> None:
        if self._checks.rising is None:
            rising = monitor_rises(self.model, self.monitor)
            if rising is None:
                raise self._no_direction()
            self._checked = dataclasses.replace(self._checks, rising=rising)
            self.best_weights.set_direction(rising=rising)
            self._say(f"{self.monitor}: {'higher' if rising else 'lower'} is better")

    def _warn_of_untrained(self) -> None:
        untrained = {id(variable): variable for variable in self._shared.untrained()}
        unfrozen = [weight for weight in self._checks.located.weights if weight.trainable]
        everything = len(untrained) == len(self.model.trainable_variables)
        if not everything and not (unfrozen and all(id(weight) in untrained for weight in unfrozen)):
            return  # Keras itself names single weights that no gradient reaches
        paths = [variable.path for variable in (untrained.values() if everything else unfrozen)]
        names = ", ".join(paths[:3])
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        if everything:
            why = (
                "fit never called model.optimizer through a training step compiled in this stage. A train_step under "
                "your own tf.function, or one that uses another optimizer, does not learn what was unfrozen"
            )
        else:
            why = "no gradient reaches them, or train_step does not pass them to model.optimizer"
        self.warn(f"stage {self._stage} does not train {names}{more}: {why}")

    # The end.

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._end_training()
        self._shared.end()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self._leave()

    def on_predict_end(self, logs: dict[str, Any] | None = None) -> None:
        self._leave()

    def _leave(self) -> None:
        """After `evaluate` or `predict` with this callback, which has no part in them."""
        if not self._training and self._fit is not None:
            self._shared.detach()
            self._fit = None

    @property
    def best(self) -> float | None:
        """The monitored value of the weights that the model has when `fit` ends."""
        return self.best_weights.value

    def current_rate(self, block: int) -> Tensor:
        """Learning rate at this step, a scalar: of the head (0), or of a block counted from the top (from 1)."""
        return self._shared.layerwise.rate(self._own_plan.groups[block - 1] if block else 0)

    def _end_training(self) -> None:
        self._training = self._broken_off = False
        self._restore_best()
        if self.restore_best_weights and self.best_weights.value is not None:
            self._say(f"best {self.monitor} {self.best_weights.value:.4f}, kept: {self.best_weights.origin}")
        plan, depths = self._checks.plan, self._checks.depths
        if self._stage is not None and any(
            depth > depths[self._stage] for depth in depths[self._stage + 1 :]
        ):
            never = "; the backbone was never unfrozen" if not any(depths[: self._stage + 1]) else ""
            self.warn(
                f"fit ended in stage {self._stage} of 0 to {len(plan) - 1}{never}. If EarlyStopping ended it, give it "
                "start_from_epoch, or use the patience of a stage, which goes on with the next one"
            )

    def _first_epoch(self, index: int) -> int:
        return sum(stage.epochs for stage in self._checks.plan[:index])

    def _end(self, index: int) -> int:
        last = index == len(self._checks.plan) - 1
        return self._checks.epochs if last else self._first_epoch(index + 1)

    # State.

    def counters(self) -> dict[str, Any]:
        """The state of this callback that is saved with the optimizer's weights."""
        return {"stage": self._stage, "skipped": self._skipped}

    def resume(self, counters: Mapping[str, Any]) -> None:
        """Take over what `counters` gave in another process."""
        self._saved_stage, self._skipped = counters["stage"], counters["skipped"]
        if self._saved_stage is not None and self._saved_stage < len(self._checks.depths):
            self._freezing.set_depth(self._checks.depths[self._saved_stage])

    def state(self, names: Mapping[int, str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """All that a `Checkpoint` keeps of this `fit`: JSON-able facts, and arrays by name.

        Args:
            names: Of the variables that training changes, by their ids.
        """
        best, weights = self.best_weights.state(names)
        facts = {"fit": self._shared.facts(), "best": best}
        arrays = {f"optimizer/{k}": v for k, v in self._shared.layerwise.arrays(names).items()}
        return facts, arrays | {f"best/{name}": value for name, value in weights.items()}

    def set_state(
        self,
        facts: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        variables: Mapping[str, keras.Variable],
    ) -> None:
        """Let the next `fit` resume from what `state` gave in another process; `variables` by their names."""
        parts = {
            kind: {k.removeprefix(f"{kind}/"): v for k, v in arrays.items() if k.startswith(f"{kind}/")}
            for kind in ("optimizer", "best")
        }
        self._resumed = (facts["fit"], parts["optimizer"], (facts["best"], parts["best"]), variables)

    @property
    def epochs_passed(self) -> int:
        """Epochs of the stages that are over or left out, once the present epoch has ended."""
        return _begun(self._epoch) + 1 + self._skipped

    def use(self, layerwise: LayerwiseOptimizer, plan: Plan) -> None:
        """Take part in an optimizer of several fits, in which the backbone has this plan."""
        self.layerwise, self._plan = layerwise, plan

    def go_back(self) -> int | None:
        """After a `fit` that broke off, restore what its epoch began with, and return it (`None`: none)."""
        if self._epoch is not None and self._fit is not None and self._shared.recovery is not None:
            self._shared.recovery.restore()
            self._kept_counters = (self._skipped, self._stage)
            self._broken_off = True
            self.layerwise = self._shared.layerwise
            self._shared.detach()
        return self._epoch

    def frozen_variables(self) -> list[keras.Variable]:
        """The backbone's weights that do not train in this stage; none where BatchNorm adapts."""
        if self.batch_norm == "adapt":
            return []
        return [variable for variable in self._checks.located.weights if not variable.trainable]

    def _restore_best(self) -> None:
        """Assign the best weights, and to moving averages what they were with them."""
        if not self.restore_best_weights:
            return
        self.best_weights.restore(self.model.variables)
        if self.best_weights.value is None:
            return
        averages = self._shared.layerwise.averages()
        for variable in self.model.trainable_variables:
            if id(variable) in averages:
                # What did not train yet when the weights were best had no average but itself.
                averages[id(variable)].assign(self._best_averages.get(id(variable), _number(variable)))

    def warn(self, text: str) -> None:
        """Report a problem from which `fit` recovered."""
        if self.on_divergence is not None:
            self.on_divergence(text)
        else:
            warnings.warn(f"ktransfer: {text}", stacklevel=4)

    def _say(self, text: str) -> None:
        if self.verbose:
            print(f"\n{text}", flush=True)  # noqa: T201  next to Keras' own progress lines

    def __getstate__(self) -> dict[str, Any]:
        """The state for pickle and copy: the arguments, without the running `fit`; the backbone by its names."""
        names = vars(self).copy()
        for name in (
            "_model",
            "_fit",
            "_checked",
            "_freezing",
            "_plan",
            "layerwise",
            "best_weights",
            "_resumed",
        ):
            names.pop(name, None)
        if isinstance(self.backbone, keras.layers.Layer):
            layers = [layer for layer in sublayers(self.backbone) if layer.weights]
            leaves = [layer.name for layer in layers if not sublayers(layer, recursive=False)]
            names["backbone"] = BackboneNames(self.backbone.name, tuple(leaves))
        return names

    def __setstate__(self, names: dict[str, Any]) -> None:
        self.__dict__.update(names)
        self._model = self._fit = self._checked = self._refusal = self._plan = self.layerwise = (
            self._resumed
        ) = None
        self._epoch, self._broken_off, self._training = None, False, False


# Learning rates of the default stages, as factors of the compiled one.
_DEFAULT_RATES = (1.0, 0.1, 0.03)


@dataclass(frozen=True)
class _Checked:
    """The results of the checks before `fit` begins."""

    located: Located
    plan: tuple[Stage, ...]
    depths: list[int]
    epochs: int
    rising: bool | None
    scheduled: bool
    compiled_rate: float | None


_Value = TypeVar("_Value")


def _begun(value: _Value | None) -> _Value:
    """The state of a callback during a `fit`."""
    if value is None:
        raise RuntimeError("Expected a callback in a fit, got one that is in none. Pass it to `fit`.")
    return value


def _number(value: Tensor) -> Any:
    return keras.ops.convert_to_numpy(value)
