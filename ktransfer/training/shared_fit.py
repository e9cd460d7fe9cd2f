"""State shared by the ProgressiveUnfreezing callbacks of one `fit`: optimizer, compiled functions, saved state."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.errors import RecipeError
from ktransfer.training.divergence import Recovery
from ktransfer.training.layerwise_optimizer import LayerwiseOptimizer

if TYPE_CHECKING:
    from ktransfer.core.typing import Array
    from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing


# Usual names of metrics, within words of a monitored name.
_RISING = (
    r"^(acc|f\d+|f\d?beta|ap|map|r2|psnr|ssim|bleu|rouge\w*|kappa|mcc|dice|top\d*k?)$|accuracy|auc|auroc|auprc|"
    + (
        r"precision|recall|sensitivity|specificity|f\d*_?score|fbeta|iou|jaccard|dice_?(coef|score)|correlation|pearson|spearman|ndcg"
    )
)
_FALLING = r"loss$|error|^(mae|mse|rmse|msle|mape|nll|wer|cer|ece|fid|brier\w*)$|" + (
    r"perplexity|entropy|divergence|distance|hinge"
)
_STATE = "unfreezing_state"  # the optimizer's attribute while `fit` runs


class SharedFit:
    """One `fit` with one or more `ProgressiveUnfreezing` callbacks, each with its own backbone.

    Nothing of the model is changed before the first epoch begins. While `fit` runs, the optimizer has one
    attribute more, whose state Keras saves with its weights, and `model.train_function` is wrapped; it is
    unwrapped by itself when another `fit` calls it, as after one that was interrupted.

    Args:
        model: Being fit.
        layerwise: Its optimizer where it was made before; `None` makes it.
        token: What the callbacks of one `fit`, and no others, have in common.

    Raises:
        RecipeError: The model is not compiled, or has no single Keras optimizer.
    """

    def __init__(
        self, model: keras.Model, token: Any, *, layerwise: LayerwiseOptimizer | None = None
    ) -> None:
        if getattr(model, "optimizer", None) is None:
            raise RecipeError(
                "Expected a compiled model, got one without an optimizer. Call model.compile(...) before fit."
            )
        self.model, self.token = model, token
        self.layerwise = layerwise or LayerwiseOptimizer(
            model.optimizer, scope=functools.partial(_scope, model)
        )
        self.members: list[ProgressiveUnfreezing] = []
        self.recovery: Recovery | None = None
        self._ended = 0
        self._found: dict[str, Any] = {}
        self._stepping = False  # whether `fit` has announced a step that has not been made yet
        self._begun = self._waits_for_build = False
        self._batch = self.batches = 0
        self._wrapped: Any = None
        self._last_logs: Any = {}
        self._logs: Any = None  # of the last step, not looked at yet
        self._logs_of = 0
        self.bad_batch: int | None = None  # the first one of which the loss was found to be NaN or infinite
        self.epoch_over = False  # no more steps in this epoch

    @classmethod
    def of(cls, model: keras.Model, token: Any, *, layerwise: LayerwiseOptimizer | None = None) -> SharedFit:
        """The shared state of this `fit`: another callback's, or a new one."""
        optimizer = getattr(model, "optimizer", None)
        state = getattr(getattr(optimizer, "inner_optimizer", optimizer), _STATE, None)
        if state is not None and state.fit.token is token and state.fit.model is model:
            return state.fit
        return cls(model, token, layerwise=layerwise)

    def attach(self, member: ProgressiveUnfreezing) -> None:
        """Let a callback take part, and be ready for a checkpoint that another callback restores."""
        self.members.append(member)
        names = vars(self.layerwise.inner)
        names[_STATE] = _State(self)
        # Whatever restores an optimizer before the first epoch, such as BackupAndRestore, may have the state of
        # a later stage, with more variables.
        for optimizer in {self.layerwise.inner, self.layerwise.outer}:
            vars(optimizer)["load_own_variables"] = functools.partial(self._load, optimizer)
            vars(optimizer)["save_own_variables"] = functools.partial(self._save, optimizer)

    def detach(self) -> None:
        """Leave the optimizer as Keras has it."""
        for optimizer in {self.layerwise.inner, self.layerwise.outer}:
            for name in (_STATE, "load_own_variables", "save_own_variables"):
                vars(optimizer).pop(name, None)
        self._begun, self.members = False, []

    def begin_epoch(self, member: ProgressiveUnfreezing, epoch: int) -> None:
        """Called by every member; on the first one's call all of them enter the epoch."""
        if member is not self.members[0]:
            return
        if not self._begun:
            for optimizer in {self.layerwise.inner, self.layerwise.outer}:
                vars(optimizer).pop("load_own_variables", None)
            self._restore_found()
            self._begun = True
        entered = [each for each in self.members if each.enter(epoch)]
        if entered:
            self._waits_for_build = not self.model.built
            self.layerwise.set_trainable(self.model.trainable_variables, build=self.model.built)
            self.refresh()
            self.recovery = self.recovery or Recovery(self.model, self.layerwise, self.members[0].warn)
            self.recovery.take(self.moving_variables(), proven=True)
            for each in entered:
                each.entered()
        self._logs, self.bad_batch, self.epoch_over = None, None, False
        if self.layerwise.parts:
            self.layerwise.parts.begin_epoch()

    def expect_step(self, batch: int) -> None:
        """`fit` is about to call the training function."""
        self._stepping, self._batch = True, batch
        if self.model.train_function is not self._wrapped:  # another callback trained or compiled in between
            self.refresh()
        if self._waits_for_build and self.model.built:
            # Where the model was built by its first step, what it began with is known only now.
            self._waits_for_build = False
            self._own_recovery.take(self.moving_variables(), proven=True)

    def look_at_loss(self) -> None:
        """Find out whether the loss of the last step was finite, if that is not known yet."""
        logs, self._logs = self._logs, None
        if isinstance(logs, dict) and "loss" in logs and self.bad_batch is None:
            if np.isfinite(keras.ops.convert_to_numpy(logs["loss"])).all():
                self._own_recovery.prove()
            else:
                self.bad_batch = self._logs_of

    def take_bad_batch(self) -> int:
        """The batch whose loss was NaN or infinite; those after it, with the same weights, do not count."""
        batch, self.bad_batch, self._logs = self.bad_batch, None, None
        if batch is None:
            raise RuntimeError("Expected a batch whose loss is NaN or infinite, got none. Call it after one.")
        return batch

    def _step(self, compiled: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        stateless = keras.backend.backend() == "jax"  # `(state, iterator)` gives `(logs, state)`
        if self.epoch_over:
            return (self._last_logs, args[0]) if stateless else self._last_logs
        with self.layerwise.active():
            result = compiled(*args)
        # The loss of the step before: to wait for that of this one would keep the device idle between steps.
        self.look_at_loss()
        self._logs = self._last_logs = result[0] if stateless else result
        self._logs_of, self.batches = self._batch, self._batch + self.model.steps_per_execution
        return result

    @property
    def _own_recovery(self) -> Recovery:
        if self.recovery is None:
            raise RuntimeError(
                "Expected a fit whose first epoch has begun, got one that has not. Call it later."
            )
        return self.recovery

    def refresh(self) -> None:
        """Recompile the training step for the variables that train now and their learning rates.

        On JAX the functions of `evaluate` and `predict` too: their outputs are sharded by what trains.
        """
        model = self.model
        if keras.backend.backend() == "jax":
            # JAX finds what it traced of an equal function, and the same bound method is equal.
            with _distinct_step(model):
                model.make_train_function(force=True)
            if keras.distribution.distribution() is not None:
                for name in ("test", "predict"):
                    if getattr(model, f"{name}_function") is not None:
                        getattr(model, f"make_{name}_function")(force=True)
        else:
            model.make_train_function(force=True)
        compiled = model.train_function

        def train_function(*args: Any) -> Any:
            if not self._stepping:  # of a `fit` without this callback
                model.make_train_function(force=True)
                return model.train_function(*args)
            self._stepping = False
            return self._step(compiled, args)

        model.train_function = self._wrapped = train_function

    def end(self) -> None:
        """Called by every member at the end of `fit`; the last call leaves the model as Keras has it."""
        self._ended += 1
        if self._ended < len(self.members):
            return
        model = self.model
        if self.layerwise.averages():
            # Keras did this before, and the best weights that were restored since are not averages.
            model.optimizer.finalize_variable_values(model.trainable_variables)
        self.detach()
        self.recovery = None  # its copies of the weights
        model.make_train_function(force=True)

    def moving_variables(self) -> list[keras.Variable]:
        """All variables of the model but the frozen weights of the backbones."""
        frozen = {id(v) for member in self.members for v in member.frozen_variables()}
        return [variable for variable in self.model.variables if id(variable) not in frozen]

    def untrained(self) -> list[keras.Variable]:
        """The variables that should train in this stage and took no step since it began."""
        updated = self.layerwise.updated
        return [v for v in self.model.trainable_variables if id(v) not in updated]

    # Checkpoints.

    def facts(self) -> dict[str, Any]:
        """All that is not in variables, JSON-able."""
        return {"optimizer": self.layerwise.facts(), "members": [m.counters() for m in self.members]}

    def set_state(
        self, facts: Mapping[str, Any], arrays: Mapping[str, Array], variables: Mapping[str, keras.Variable]
    ) -> None:
        """Resume from what a `Checkpoint` has, when the first epoch begins."""
        self._found = {"facts": facts, "arrays": arrays, "variables": variables}

    def _save(self, optimizer: keras.optimizers.Optimizer, store: Any) -> None:
        for index, variable in enumerate(self.layerwise.plain_variables(optimizer)):
            store[str(index)] = keras.ops.convert_to_numpy(variable)

    def _load(self, optimizer: keras.optimizers.Optimizer, store: Any) -> None:
        which = "outer" if optimizer is self.layerwise.outer else "inner"
        self._found[which] = [np.array(store[str(index)]) for index in range(len(store.keys()))]

    def found_facts(self, text: str) -> None:
        """Called with what the checkpoint that is being restored has of `facts`."""
        self._found["facts"] = json.loads(text)

    def _restore_found(self) -> None:
        found, self._found = self._found, {}
        facts = found.get("facts")
        if facts is None:
            if "outer" in found:  # weights of a plain fit
                self._restore_plain(found["outer"])
            return
        if len(facts["members"]) != len(self.members):
            raise RecipeError(
                f"Expected the training state of {len(self.members)} ProgressiveUnfreezing callbacks, got that of "
                f"{len(facts['members'])}. Remove the checkpoint to train from the start."
            )
        for member, counters in zip(self.members, facts["members"], strict=True):
            member.resume(counters)
        if "arrays" in found:
            self.layerwise.set_arrays(found["arrays"], found["variables"])
        self.layerwise.set_trainable(self.model.trainable_variables)
        if "outer" in found:
            self._assign(found["outer"])
        self.layerwise.set_facts(facts["optimizer"])

    def _restore_plain(self, values: Sequence[Array]) -> None:
        optimizer = self.layerwise.outer
        if not optimizer.built and self.model.built:
            optimizer.build(self.model.trainable_variables)
        if len(values) == len(self.layerwise.plain_variables(optimizer)):
            self._assign(values)
        else:
            self.members[0].warn(
                f"the optimizer state of {len(values)} variables that was restored does not fit this fit; "
                "the optimizer starts anew"
            )

    def _assign(self, values: Sequence[Array]) -> None:
        variables = self.layerwise.plain_variables(self.layerwise.outer)
        if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
            raise RecipeError(
                f"Expected a checkpoint whose optimizer has {len(variables)} variables, got one of another model or "
                f"optimizer with {len(values)}. Remove the checkpoint to train from the start."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


class _State(keras.layers.Layer):
    """Lets Keras save and restore the training state with the optimizer's weights.

    A process without ktransfer has no such attribute and passes over what is saved of it.
    """

    def __init__(self, fit: SharedFit) -> None:
        super().__init__(name=_STATE)
        self.__dict__["fit"] = fit  # a model would be tracked as a sublayer

    def save_own_variables(self, store: Any) -> None:
        text = json.dumps(self.fit.facts())
        store["facts"] = np.frombuffer(text.encode(), "uint8")

    def load_own_variables(self, store: Any) -> None:
        with contextlib.suppress(KeyError):  # a plain checkpoint
            self.fit.found_facts(bytes(np.array(store["facts"], "uint8")).decode())


def _scope(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """The scope of the model's TensorFlow strategy; a null context without one."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy.scope() if strategy is not None else contextlib.nullcontext()


@contextlib.contextmanager
def _distinct_step(model: keras.Model) -> Iterator[None]:
    names = vars(model)
    own = names.get("train_step")
    step = own or model.train_step

    def train_step(state: Any, data: Any) -> Any:
        return step(state, data)

    names["train_step"] = train_step
    try:
        yield
    finally:
        if own is None:
            del names["train_step"]
        else:
            names["train_step"] = own


def monitor_rises(model: keras.Model, monitor: str) -> bool | None:
    """Whether a higher value of a monitored metric is better; `None` where that cannot be known (yet).

    Keras' own answer, that of `EarlyStopping`, where the model's metrics are built; else by the usual names.

    Example:

        monitor_rises(model, "val_accuracy")   # True
    """
    probe = keras.callbacks.EarlyStopping(monitor=monitor)
    probe.set_model(model)
    probe.on_train_begin()
    with contextlib.suppress(ValueError):  # the metric is unknown, or has no direction
        probe.on_epoch_end(0, {monitor: 0.0})
        return bool(keras.ops.convert_to_numpy(probe.monitor_op(1.0, 0.0)))
    words = set(re.split(r"[^a-z0-9]+", monitor.lower())) | {monitor.lower()}
    rising, falling = (any(re.search(pattern, word) for word in words) for pattern in (_RISING, _FALLING))
    return None if rising == falling else rising


def may_report(model: keras.Model, monitor: str) -> bool:
    """Whether a metric that the model is compiled with, and has not built yet, may report a monitored name.

    Example:

        may_report(model, "val_macro")   # True: compiled with F1Score(name="macro")
    """
    names = {metric.name for each in model.metrics for metric in [each, *getattr(each, "metrics", [])]}
    name = monitor.removeprefix("val_")
    if name in names:
        return False  # built, and Keras could not say which way
    try:
        config = model.get_compile_config() or {}
    except (TypeError, ValueError, NotImplementedError):  # it cannot be serialized
        return True
    compiled = _strings([config.get("metrics"), config.get("weighted_metrics")])
    return any(name == one or name.endswith(f"_{one}") for one in compiled)


def _strings(tree: Any) -> set[str]:
    if isinstance(tree, str):
        return {tree}
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return set().union(*map(_strings, values))
