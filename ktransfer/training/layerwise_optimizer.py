"""Learning rates by depth on the user's own optimizer, rebuilt in place as the backbone unfreezes."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from ktransfer.errors import RecipeError
from ktransfer.training.gradient_accumulation import GradientAccumulation

if TYPE_CHECKING:
    from ktransfer.core.typing import Tensor


# The factor on all learning rates after a loss that was NaN or infinite.
SLOWED = 0.1

# Private names of `keras.optimizers.Optimizer`, used in this module and nowhere else. Keras has no public hook
# between the gradients of all variables (clipping, accumulation) and the update of one of them, and no public way
# to build an optimizer on other variables; a copy for each block instead would change `model.optimizer`, what
# checkpoints hold, and the global norm. tests/training/test_layerwise_optimizer.py fails when one of them changes.
_UPDATE = "_backend_update_step"  # (grads, variables, learning_rate): updates all variables at once
_DECAY = "_apply_weight_decay"  # (variables)
_DECAYS = "_use_weight_decay"  # (variable): whether it is not excluded
_AVERAGE = "_update_model_variables_moving_average"  # (variables): EMA
_AVERAGES = "_model_variables_moving_average"  # one for each variable
_TRAINED = "_trainable_variables"  # what the optimizer is built on
_INDICES = "_trainable_variables_indices"
_RATE = "_get_current_learning_rate"  # behind the property `learning_rate`


@dataclass
class Plan:
    """Learning rates of one backbone's blocks in a stage, relative to `optimizer.learning_rate`.

    Attributes:
        groups: Numbers of the groups of variables, one for each block from the top.
        shares: Factor of each group.
        ratio: Factor on the learning rate of every group of this plan.
        warmup_steps: Optimizer steps in which the learning rates rise linearly, counted from `start`.
        schedule: `"constant"`, `"cosine"` or `"linear"`: how they fall after it.
        steps: Optimizer steps of the stage, for the fall.
        start: The optimizer's number of steps at which the stage began.
    """

    groups: list[int]
    shares: list[float] = field(default_factory=list)
    ratio: float = 1.0
    warmup_steps: float = 0.0
    schedule: str = "constant"
    steps: float = 0.0
    start: int = 0

    def __post_init__(self) -> None:
        self.shares = self.shares or [1.0] * len(self.groups)

    def factor(self, step: Tensor) -> Tensor | float:
        """Warmup and fall at an optimizer step, a tensor; 1.0 where there is neither."""
        if not self.warmup_steps and self.schedule == "constant":
            return 1.0
        step = ops.cast(step - self.start, "float32")
        climb = ops.minimum(1.0, (step + 1.0) / max(self.warmup_steps, 1.0))
        if self.schedule == "constant":
            return climb
        progress = ops.clip((step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1.0), 0.0, 1.0)
        fall = 0.5 * (1.0 + ops.cos(math.pi * progress)) if self.schedule == "cosine" else 1.0 - progress
        return climb * fall


@dataclass
class _Group:
    plan: Plan | None  # None: the head without a plan
    share: Callable[[], float]
    members: frozenset[int] = frozenset()  # ids of its variables; the head has all others
    count: int = 0  # optimizer steps of this group before it was last unfrozen
    offset: int | None = None  # the optimizer's count minus this group's own; None while frozen


class LayerwiseOptimizer:
    """Gives the blocks of a backbone learning rates and step counts of their own within one Keras optimizer.

    The optimizer stays the user's object, of the user's class, with its own configuration. `set_trainable`
    rebuilds it in place on the variables that train now, keeping the slots (momentum, averages) of those that
    trained before, so at any moment it is what a plain optimizer built on `model.trainable_variables` is: its
    checkpoints load without ktransfer, `SwapEMAWeights` and `finalize_variable_values` find what they expect.

    While `active()`, and only then, each group's update, weight decay and moving average run with the group's
    own learning rate and step count. Clipping, the global norm, gradient accumulation and loss scaling are
    Keras' own, over all variables together. A group that is unfrozen late counts its steps from there: fresh
    slots under an old count make Adam's first steps about three times the learning rate.

    Args:
        optimizer: The compiled optimizer, also a `LossScaleOptimizer` around it.
        scope: Returns the context in which variables are created, such as `strategy.scope`.

    Raises:
        RecipeError: It is a `MultiOptimizer`, or not an optimizer of Keras 3.

    Example:

        layerwise = LayerwiseOptimizer(model.optimizer)
        plan = layerwise.add_plan([block.weights for block in blocks])
        layerwise.begin_stage(plan, shares=[0.5, 0.25], warmup_steps=100)
        layerwise.set_trainable(model.trainable_variables)

    Source: Howard and Ruder 2018, section 3.2 (discriminative fine-tuning).
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        *,
        scope: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if isinstance(inner, keras.optimizers.MultiOptimizer):
            raise RecipeError(
                "Expected one optimizer, whose learning rates by depth are set here, got a MultiOptimizer. "
                "Compile with a single optimizer."
            )
        if not isinstance(inner, keras.optimizers.Optimizer):
            raise RecipeError(
                f"Expected an optimizer of Keras 3, got {type(inner).__module__}.{type(inner).__name__}. "
                "Compile with one of keras.optimizers."
            )
        self.outer, self.inner, self._scope = optimizer, inner, scope
        self.divergences = 0
        self.plans: list[Plan] = []
        self._groups = [_Group(None, lambda: 1.0, count=0, offset=0)]
        self._owner: dict[int, int] = {}
        self._parked: dict[int, tuple[keras.Variable, dict[str, Any]]] = {}
        self._scalars: dict[str, dict[int, Any]] = {}  # such as Nadam's product: by group
        self._build_anew = True  # also where nothing else trains: what the optimizer keeps is not known yet
        self._restored = False  # whether slots were taken over that are not in the optimizer yet
        self._unbuilt: dict[str, Any] | None = None  # the optimizer's attributes before Keras builds it
        self._views: dict[int, Any] = {}
        self._factors: dict[int, Any] | None = None
        self._retired: list[dict[str, Any]] = []
        self._parts_of: tuple[int, int, int] | None = None
        self.parts: GradientAccumulation | None = None
        self.updated: set[int] = set()  # ids of what was updated since `set_trainable`

    def add_plan(self, blocks: Sequence[Sequence[keras.Variable]]) -> Plan:
        """Make a group of each block's variables.

        Raises:
            RecipeError: Another plan has one of them.
        """
        if taken := [v.path for block in blocks for v in block if id(v) in self._owner]:
            raise RecipeError(
                f"Expected each backbone in one ProgressiveUnfreezing, got one with {taken[0]!r} in two. "
                "Remove one of the callbacks."
            )
        plan = Plan([len(self._groups) + index for index in range(len(blocks))])
        for place, block in enumerate(blocks):
            self._owner.update((id(variable), plan.groups[place]) for variable in block)
            members = frozenset(id(variable) for variable in block)
            self._groups.append(_Group(plan, functools.partial(_share, plan, place), members))
        if not self.plans:
            self._groups[0].plan = plan
        self.plans.append(plan)
        # An optimizer that trained all of a block before goes on with its count.
        if self.inner.built and (now := self.count()):
            known = {id(variable) for variable in vars(self.inner)[_TRAINED]}
            for group in (self._groups[number] for number in plan.groups):
                if group.members and group.members <= known:
                    group.count = now
                    group.offset = 0
        return plan

    def extend_plan(self, plan: Plan, blocks: Sequence[Sequence[keras.Variable]]) -> None:
        """Take variables that blocks of a plan have got since into the groups of these."""
        for number, block in zip(plan.groups, blocks, strict=True):
            new = [variable for variable in block if id(variable) not in self._owner]
            self._owner.update((id(variable), number) for variable in new)
            self._groups[number].members |= frozenset(map(id, new))

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """The scope in which variables are made that this optimizer trains."""
        return self._scope()

    def begin_stage(
        self,
        plan: Plan,
        *,
        shares: Sequence[float],
        ratio: float = 1.0,
        warmup_steps: float = 0,
        schedule: str = "constant",
        steps: float = 0,
    ) -> None:
        """Set a plan's learning rates, and count warmup and fall from now. Steps are batches of `fit`.

        What is compiled with the old ones has to be compiled again.
        """
        per_update = self.inner.gradient_accumulation_steps or 1
        plan.shares, plan.ratio = list(shares), ratio
        plan.warmup_steps, plan.steps = warmup_steps / per_update, steps / per_update
        plan.schedule, plan.start = schedule, self.count()

    def count(self) -> int:
        """Optimizer steps so far; with gradient accumulation several batches make one."""
        return int(ops.convert_to_numpy(self.inner.iterations))

    def rate(self, number: int) -> Tensor:
        """Learning rate of a group at this step, a scalar; 0 is the head."""
        group = self._groups[number]
        rate = self.inner.learning_rate
        constant = SLOWED if self.divergences else 1.0
        factor = 1.0
        if group.plan is not None:
            constant *= group.plan.ratio * group.share()
            factor = self._factor(group.plan)
        if constant == 1.0 and isinstance(factor, float):
            return rate
        return ops.cast(rate, "float32") * constant * factor

    def _factor(self, plan: Plan) -> Tensor | float:
        if self._factors is None:
            return plan.factor(self.inner.iterations)
        if id(plan) not in self._factors:  # once a step for all groups
            self._factors[id(plan)] = plan.factor(self.inner.iterations)
        return self._factors[id(plan)]

    # What is trained.

    def set_trainable(self, variables: Sequence[keras.Variable], *, build: bool = True) -> None:
        """Rebuild the optimizer on these variables; earlier variables keep their slots.

        Args:
            variables: `model.trainable_variables`, in this order.
            build: `False` leaves it to Keras' first step, where the model is not built yet.

        Raises:
            RecipeError: The optimizer keeps its state in a way that cannot be carried over.
        """
        variables, inner = list(variables), self.inner
        known = list(vars(inner)[_TRAINED]) if inner.built else []
        self.updated = set()
        self._views = {}
        started = bool(inner.built and self.count())
        self._unbuilt = None if build or inner.built else vars(inner).copy()
        if build and (self._build_anew or not inner.built or not _same(known, variables)):
            with self._scope():
                self._rebuild(known, variables, started)
        now = self.count()
        trained = {id(variable) for variable in variables}
        for group in self._groups[1:]:
            running = bool(group.members & trained)
            if running and group.offset is None:
                group.offset = now - group.count
            elif not running and group.offset is not None:
                group.count, group.offset = now - group.offset, None
        if self._parts_of and build:
            self._make_parts(*self._parts_of)

    def _rebuild(
        self, known: Sequence[keras.Variable], variables: Sequence[keras.Variable], started: bool
    ) -> None:
        inner, outer = self.inner, self.outer
        before, earlier = vars(inner).copy(), set(map(id, inner.variables))
        old = self._slots(known)
        if started and not self._restored:
            for index, variable in enumerate(known):
                slots = {name: values[index] for name, values in old.items()}
                self._parked[id(variable)] = (variable, slots)
        self._restored = self._build_anew = False
        for extra in self._extras():
            inner._untrack_variable(extra)
        if inner.built:
            inner.built = False
            vars(inner)[_INDICES].clear()
            # A step that the user compiled, with tf.function, goes on with what it was first traced with.
            self._retired = self._retired or [before]
        inner.build(variables)
        if outer is not inner and outer.built:
            # The wrapper's own `build` would reset the loss scale.
            keras.optimizers.Optimizer.build(outer, variables)
        elif outer is not inner:
            with _without_build(inner):
                outer.build(variables)
        scalars = self._built_since(before)
        replaced = [v for values in old.values() for v in values if v is not None]
        replaced += [before[name] for name in scalars if isinstance(before.get(name), keras.Variable)]
        for value in replaced:
            inner._untrack_variable(value)
        slots = self._slots(variables)
        self._refuse_unknown_state(slots, earlier)
        for index, variable in enumerate(variables):
            _, kept = self._parked.pop(id(variable), (None, {}))
            for name, values in slots.items():
                if kept.get(name) is not None:
                    _assign(values[index], kept[name])
                elif name == _AVERAGES and values[index] is not None:
                    # Keras averages from zero, and on JAX an interrupted `fit` puts averages into the model.
                    _assign(values[index], variable)
        groups = {self._owner.get(id(variable), 0) for variable in variables} - {0}
        for name, value in scalars.items():
            start = ops.convert_to_numpy(value)
            if started and isinstance(before.get(name), keras.Variable):
                _assign(value, before[name])
            by_group = self._scalars.setdefault(name, {})
            for number in groups | set(by_group):
                by_group[number] = self._scalar(name, by_group.get(number, start))

    def _built_since(self, before: Mapping[str, Any]) -> dict[str, keras.Variable]:
        """Variables that belong to no single model variable, such as Nadam's product, by attribute."""
        return {
            name: value
            for name, value in vars(self.inner).items()
            if isinstance(value, keras.Variable) and before.get(name) is not value
        }

    def _scalar(self, name: str, value: Any) -> keras.Variable:
        like = vars(self.inner)[name]
        made = self.inner.add_variable(
            shape=like.shape, dtype=like.dtype, name=name, aggregation="only_first_replica"
        )
        _assign(made, value)
        return made

    def _slots(self, variables: Sequence[keras.Variable]) -> dict[str, list[Any]]:
        """By attribute, the slots of these variables, on which the optimizer is built."""
        own = set(map(id, self.inner.variables))
        found = {}
        for name, value in vars(self.inner).items():
            if name == "_variables" or not variables:
                continue
            if isinstance(value, list) and len(value) == len(variables):
                if any(id(v) in own for v in value) and all(v is None or id(v) in own for v in value):
                    found[name] = list(value)
            elif isinstance(value, dict) and any(id(v) in own for v in value.values()):
                found[name] = [_entry(value, variable, own) for variable in variables]
        return found

    def _refuse_unknown_state(
        self, slots: Mapping[str, Sequence[keras.Variable | None]], earlier: set[int]
    ) -> None:
        known = earlier | {id(v) for values in slots.values() for v in values if v is not None}
        known |= {id(v) for v in vars(self.inner).values() if isinstance(v, keras.Variable)}
        if unknown := [v for v in self.inner.variables if id(v) not in known]:
            raise RecipeError(
                "Expected an optimizer that keeps a list of state variables, one for each that it trains, got "
                f"{type(self.inner).__name__} with {unknown[0].path!r} elsewhere. "
                "Use another optimizer, or keep its state in lists set in build()."
            )

    def _extras(self) -> list[keras.Variable]:
        """Variables of the optimizer that a plain one built alike does not have."""
        found = [v for by_group in self._scalars.values() for v in by_group.values()]
        return [v for v in found if isinstance(v, keras.Variable)] + (
            self.parts.variables if self.parts else []
        )

    def plain_variables(self, optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
        """The variables of this optimizer, or of the one around it, without those that ktransfer added."""
        extras = set(map(id, self._extras()))
        return [variable for variable in optimizer.variables if id(variable) not in extras]

    def averages(self) -> dict[int, keras.Variable]:
        """The moving averages of what trains, by the ids of the variables; empty without EMA."""
        names = vars(self.inner)
        if not self.inner.use_ema or not self.inner.built:
            return {}
        pairs = zip(names[_TRAINED], names[_AVERAGES], strict=True)
        return {id(variable): average for variable, average in pairs if average is not None}

    # The step.

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """While this holds, the optimizer takes its steps group by group; before and after it is plain."""
        names = vars(self.inner)
        hooks = {_UPDATE: self._update, _DECAY: self._decay, _AVERAGE: self._average}
        if self.parts:
            hooks["apply"] = self._apply_parts
        users = {name: names[name] for name in hooks if name in names}
        names.update(hooks)
        try:
            yield
        finally:
            for name in hooks:
                names.pop(name, None)
            names.update(users)

    def _update(
        self, grads: Sequence[Tensor], variables: Sequence[keras.Variable], learning_rate: Tensor
    ) -> None:
        groups = self._by_group(variables)
        if self._unbuilt is not None and len(groups) > 1 and self._built_since(self._unbuilt):
            raise RecipeError(
                f"Expected a built model for {type(self.inner).__name__}, which keeps one state for all "
                "variables, got one that is built in its first step. Call the model on a batch before fit."
            )
        self._factors = {}
        try:
            for number, members in groups:
                chosen = [variables[index] for index in members]
                self.updated.update(id(variable) for variable in chosen)
                rate = self.rate(number)
                getattr(type(self.inner), _UPDATE)(
                    self._view(number), [grads[index] for index in members], chosen, rate
                )
        finally:
            self._factors = None

    def _decay(self, variables: Sequence[keras.Variable]) -> None:
        for number, members in self._by_group(variables):
            chosen = [variables[index] for index in members]
            if keras.backend.backend() == "torch" and self.inner.weight_decay is not None:
                # Keras on torch fails where a list of variables has none that decays.
                chosen = list(filter(getattr(self.inner, _DECAYS), chosen))
                if not chosen:
                    continue
            getattr(type(self.inner), _DECAY)(self._view(number), chosen)

    def _average(self, variables: Sequence[keras.Variable]) -> None:
        for number, members in self._by_group(variables):
            getattr(type(self.inner), _AVERAGE)(self._view(number), [variables[index] for index in members])

    def _by_group(self, variables: Sequence[keras.Variable]) -> list[tuple[int, list[int]]]:
        groups: dict[int, list[int]] = {}
        for index, variable in enumerate(variables):
            groups.setdefault(self._owner.get(id(variable), 0), []).append(index)
        return sorted(groups.items())

    def _view(self, number: int) -> Any:
        """The optimizer as one group sees it: the same attributes, with its own count and learning rate.

        An instance of a subclass that shares the optimizer's `__dict__`, so that methods which call `super()`
        work and whatever they set is set on the optimizer.
        """
        if number not in self._views:
            inner, group = self.inner, self._groups[number]

            def iterations(view: Any) -> Tensor:
                return inner.iterations - group.offset if group.offset else inner.iterations

            def averages(view: Any) -> list[keras.Variable | None]:
                known, found = vars(inner)[_TRAINED], vars(inner)[_AVERAGES]
                return [a for v, a in zip(known, found, strict=True) if self._owner.get(id(v), 0) == number]

            def current_rate(view: Any) -> Tensor:
                return self.rate(number)

            names: dict[str, Any] = {
                "iterations": property(iterations),
                "learning_rate": property(current_rate),
                _RATE: current_rate,
                _AVERAGES: property(averages),
            }
            if number:
                for name in self._scalars:
                    names[name] = property(functools.partial(self._scalar_of, number, name))
            view: Any = object.__new__(type(type(inner).__name__, (type(inner),), names))
            object.__setattr__(view, "__dict__", vars(inner))
            self._views[number] = view
        return self._views[number]

    def _scalar_of(self, number: int, name: str, view: Any) -> Any:
        return self._scalars[name][number]

    # Parts of batches.

    def accumulate_gradients(self, batch_size: int, part_size: int, examples: int) -> None:
        """From now on take gradients of parts of a batch, and step when it is whole (see `GradientAccumulation`)."""
        self._parts_of = batch_size, part_size, examples
        if self.inner.built:
            self._make_parts(batch_size, part_size, examples)

    def _make_parts(self, batch_size: int, part_size: int, examples: int) -> None:
        for variable in self.parts.variables if self.parts else ():
            self.inner._untrack_variable(variable)
        with self._scope():
            self.parts = GradientAccumulation(
                vars(self.inner)[_TRAINED], batch_size, part_size, examples, self.inner.add_variable
            )

    def _apply_parts(
        self, grads: Sequence[Tensor | None], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> None:
        inner = self.inner
        variables = vars(inner)[_TRAINED] if trainable_variables is None else list(trainable_variables)
        pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        parts = self.parts
        if parts is None:
            raise RuntimeError(
                "Expected an optimizer that accumulates gradients, got another. Call `accumulate_gradients` first."
            )
        own = {id(variable) for variable in parts.variables}
        state = [variable for variable in inner.variables if id(variable) not in own]
        parts.add(pairs, state, lambda pairs: type(inner).apply(inner, *map(list, zip(*pairs, strict=True))))

    # State, for a process that resumes from here.

    def facts(self) -> dict[str, Any]:
        """JSON-able state that is not in the optimizer's own variables."""
        now = self.count()
        return {
            "plans": [asdict(plan) for plan in self.plans],
            "counts": [g.count if g.offset is None else now - g.offset for g in self._groups],
            "divergences": self.divergences,
            "scalars": {
                name: {str(g): float(ops.convert_to_numpy(v)) for g, v in by_group.items()}
                for name, by_group in self._scalars.items()
            },
        }

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """Take over what `facts` gave in another process, whose variables the optimizer has by now.

        Raises:
            RecipeError: They are of other backbones.
        """
        if [len(p["groups"]) for p in facts["plans"]] != [len(p.groups) for p in self.plans]:
            raise RecipeError(
                f"Expected the training state of {len(self._groups) - 1} blocks, got one of other backbones. "
                "Remove it to train from the start."
            )
        for plan, kept in zip(self.plans, facts["plans"], strict=True):
            for name, value in kept.items():
                setattr(plan, name, value)
        now = self.count()
        for group, count in zip(self._groups[1:], facts["counts"][1:], strict=True):
            group.count = count
            group.offset = None if group.offset is None else now - count
        self.divergences = facts["divergences"]
        for name, by_group in facts["scalars"].items():
            for number, text in by_group.items():
                value = np.asarray(text, "float32")
                held = self._scalars.setdefault(name, {}).get(int(number))
                if held is None:
                    self._scalars[name][int(number)] = value
                else:
                    held.assign(value)
        self._views = {}

    def arrays(self, names: Mapping[int, str]) -> dict[str, Any]:
        """The optimizer's variables as arrays, slots by the name of the variable that they belong to."""
        kept: dict[str, Any] = {}
        slots = self._slots(vars(self.inner)[_TRAINED])
        held = {id(v) for values in slots.values() for v in values if v is not None}
        held |= set(map(id, self._extras()))
        others = [v for v in self.outer.variables if id(v) not in held]
        kept |= {f"{index}": ops.convert_to_numpy(v) for index, v in enumerate(others)}
        for index, variable in enumerate(vars(self.inner)[_TRAINED]):
            for name, values in slots.items():
                if values[index] is not None:
                    kept[f"{name}/{names[id(variable)]}"] = ops.convert_to_numpy(values[index])
        for variable, by_name in self._parked.values():
            for name, value in by_name.items():
                if value is not None and id(variable) in names:
                    kept[f"{name}/{names[id(variable)]}"] = ops.convert_to_numpy(value)
        return kept

    def set_arrays(self, arrays: Mapping[str, Any], variables: Mapping[str, keras.Variable]) -> None:
        """Take over what `arrays` gave; the next `set_trainable` puts the slots where they belong."""
        inner = self.inner
        if not inner.built:
            with self._scope():
                (inner if self.outer is inner else self.outer).build([])
        slots = self._slots(vars(inner)[_TRAINED])
        held = {id(v) for values in slots.values() for v in values if v is not None}
        others = [v for v in self.outer.variables if id(v) not in held]
        for index, variable in enumerate(others):
            variable.assign(arrays[f"{index}"])
        self._parked, self._restored, self._build_anew = {}, True, True
        for key, value in arrays.items():
            name, slash, path = key.partition("/")
            if slash:
                variable = variables[path]
                self._parked.setdefault(id(variable), (variable, {}))[1][name] = value


@contextlib.contextmanager
def _without_build(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Let `LossScaleOptimizer.build` find its inner optimizer built."""
    vars(optimizer)["build"] = lambda variables: None
    try:
        yield
    finally:
        del vars(optimizer)["build"]


def _assign(variable: keras.Variable, value: Any) -> None:
    # A copy: on JAX a step donates its buffers, and two variables must not share one.
    variable.assign(ops.copy(value) if isinstance(value, keras.Variable) else value)


def _share(plan: Plan, place: int) -> float:
    return plan.shares[place]


def _same(some: Sequence[keras.Variable], others: Sequence[keras.Variable]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def _entry(state: Mapping[Any, Any], variable: keras.Variable, own: set[int]) -> keras.Variable | None:
    for key in (id(variable), variable.path, variable.name):
        value = state.get(key)
        if value is not None and id(value) in own:
            return value
    return None
