"""One optimizer for a backbone that thaws: a group for each block, with its own rate and count."""

import contextlib
from collections.abc import Sequence

import keras
from keras import ops

from ktransfer.batch_parts import BatchParts
from ktransfer.errors import RecipeError

# What a loss that is not a number leaves of all learning rates.
SLOWED = 0.1


@keras.saving.register_keras_serializable("ktransfer")
class GroupedOptimizer(keras.optimizers.Optimizer):
    """Runs one copy of an optimizer for each group of variables, under one learning rate.

    It is built once on every variable that will ever train, so nothing is rebuilt when a block thaws: what
    trained already keeps its slots, and what thaws starts with an iteration count of its own, without which
    Adam's bias correction makes its first steps about three times the learning rate.

    `learning_rate` is that of the first group, the head, and can be read and set like any optimizer's
    (`LearningRateScheduler`, `ReduceLROnPlateau`, a `LearningRateSchedule`); the groups' own rates are shares
    of it. A warmup and a cosine or linear fall, counted from the start of the stage, multiply it, and once
    training has diverged (`divergences`) all rates are a tenth.

    After `sum_parts` it is applied to parts of a batch and takes the step of the whole one.

    Args:
        optimizer: The `keras.optimizers.Optimizer` to copy, as compiled.
        groups: For each group the paths of its variables; variables named nowhere belong to the first.

    Example:

        optimizer = GroupedOptimizer(keras.optimizers.Adam(1e-3), [["head/kernel"], ["backbone/conv/kernel"]])
        optimizer.build(model.trainable_variables)
        optimizer.begin_stage(rates=[1.0, 0.1], warmup_steps=100)
    """

    def __init__(self, optimizer, groups: Sequence[Sequence[str]], name="grouped"):
        config = optimizer.get_config()
        rate = config.pop("learning_rate")
        if isinstance(rate, dict):
            rate = keras.saving.deserialize_keras_object(rate)
        super().__init__(learning_rate=rate, name=name)
        # Unbuilt, so that a saved model does not hold the slots twice.
        self.template = type(optimizer).from_config(optimizer.get_config())
        self._source = optimizer
        self._undecayed = set()
        self.groups = [list(paths) for paths in groups]
        # The norm is that of all gradients together; left to the groups, each would clip by its own.
        self.clip_all = (
            config.get("global_clipnorm") if not config.get("gradient_accumulation_steps") else None
        )
        if self.clip_all:
            config["global_clipnorm"] = None
        self.copies = []
        for index in range(len(self.groups)):
            config["name"] = f"{optimizer.name}_{index}"
            copy = type(optimizer).from_config(dict(config))
            # A callable, so that the copies follow `learning_rate` and hold none of their own.
            copy.learning_rate = lambda index=index: self.rate(index)
            self.copies.append(copy)

        def number(name, dtype="int", shape=(), initializer="zeros"):
            # As Keras declares its own iteration count: alike on every replica.
            return self.add_variable(
                shape=shape, initializer=initializer, dtype=dtype, name=name, aggregation="only_first_replica"
            )

        self.stage = number("stage", initializer=keras.initializers.Constant(-1))  # none has begun
        self.skipped_epochs = number("skipped_epochs")
        self.stage_start = number("stage_start")
        self.warmup_steps = number("warmup_steps")
        self.cosine_steps = number("cosine_steps")
        self.linear_steps = number("linear_steps")
        self.divergences = number("divergences")
        self.rates = number("rates", "float32", (len(self.groups),), "ones")
        self.parts: BatchParts | None = None

    def build(self, variables):
        if self.built:
            return
        owner = {path: index for index, paths in enumerate(self.groups) for path in paths}
        members = [[] for _ in self.groups]
        self._group_of = {}
        for variable in variables:
            index = owner.get(variable.path, 0)
            self._group_of[id(variable)] = index
            members[index].append(variable)
        for copy, group in zip(self.copies, members, strict=True):
            if not group:
                continue
            # Keras keeps what exclude_from_weight_decay() was told out of the config; asking the optimizer
            # itself, privately, is the only way not to decay what the user excluded.
            exempt = [variable for variable in group if not self._source._use_weight_decay(variable)]
            copy.exclude_from_weight_decay(var_list=exempt)
            self._undecayed.update(variable.path for variable in exempt)
            copy.build(group)
        super().build(variables)
        if self._source.built:
            self._take_over(self._source)
        self._source = None

    @property
    def variables(self):
        return self._kept + (self.parts.variables if self.parts else [])

    @property
    def _kept(self):
        return super().variables + [variable for copy in self.copies for variable in copy.variables]

    def begin_stage(self, *, rates, stage=0, warmup_steps=0, cosine_steps=0, linear_steps=0):
        """Set each group's share of the learning rate, and count warmup and fall, in steps, from now."""
        self.stage.assign(stage)
        self.rates.assign(rates)
        _copy_into(self.stage_start, self.iterations)
        self.warmup_steps.assign(warmup_steps)
        self.cosine_steps.assign(cosine_steps)
        self.linear_steps.assign(linear_steps)

    def sum_parts(self, batch_size: int, part_size: int, examples: int) -> None:
        """From now on take gradients of parts of a batch, and step when it is whole (see `BatchParts`)."""
        self.parts = BatchParts(self._trainable_variables, batch_size, part_size, examples)

    def slowed(self):
        """What `divergences` leave of the learning rates: 1 or a tenth."""
        return ops.where(self.divergences > 0, SLOWED, 1.0)

    def rate(self, index):
        """Learning rate of a group at this step, warmup and fall included."""
        step = ops.cast(self.iterations - self.stage_start, "float32")
        warmup = ops.cast(self.warmup_steps, "float32")
        cosine = ops.cast(self.cosine_steps, "float32")
        climb = ops.minimum(1.0, (step + 1.0) / ops.maximum(warmup, 1.0))
        linear = ops.cast(self.linear_steps, "float32")
        last = ops.maximum(cosine, linear)
        progress = ops.clip((step - warmup) / ops.maximum(last - warmup, 1.0), 0.0, 1.0)
        fall = ops.where(cosine > 0, 0.5 * (1.0 + ops.cos(3.141592653589793 * progress)), 1.0)
        fall = ops.where(linear > 0, 1.0 - progress, fall)
        base = ops.cast(self.learning_rate, "float32") * self.slowed()
        return base * self.rates[index] * climb * fall

    def apply(self, grads, trainable_variables=None):
        variables = self._training() if trainable_variables is None else list(trainable_variables)
        self.build(variables)
        pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
        if not pairs:
            raise ValueError("No gradients provided for any variable.")
        if self.parts:
            self.parts.add(pairs, self._kept, self._step)
        else:
            self._step(pairs)

    def _step(self, pairs):
        if self.clip_all:
            norm = ops.sqrt(sum(ops.sum(ops.square(ops.cast(g, "float32"))) for g, _ in pairs))
            scale = ops.minimum(1.0, self.clip_all / ops.maximum(norm, 1e-12))
            pairs = [(g * ops.cast(scale, g.dtype), v) for g, v in pairs]
        for index, copy in enumerate(self.copies):
            members = [(g, v) for g, v in pairs if self._group_of[id(v)] == index]
            if members:
                copy.apply(*map(list, zip(*members, strict=True)))
        self.iterations.assign_add(1)

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        # Keras' own wants all variables that the optimizer was built on; here some of them are frozen.
        training = self._training()
        mapping = [*zip(training, trainable_variables, strict=True)]
        mapping += zip(self.variables, optimizer_variables, strict=True)
        with keras.StatelessScope(state_mapping=mapping) as scope:
            self.apply(grads, training)
        return (
            [scope.get_current_value(variable) for variable in training],
            [scope.get_current_value(variable) for variable in self.variables],
        )

    def finalize_variable_values(self, var_list):
        for index, copy in enumerate(self.copies):
            if members := [v for v in var_list if self._group_of[id(v)] == index]:
                copy.finalize_variable_values(members)

    def unwrapped(self, variables):
        """An optimizer of the compiled kind, built on `variables`, that goes on where this one is."""
        config = self.template.get_config()
        if not isinstance(config["learning_rate"], dict):
            config["learning_rate"] = float(ops.convert_to_numpy(self.learning_rate))
        optimizer = type(self.template).from_config(config)
        optimizer.exclude_from_weight_decay(var_list=[v for v in variables if v.path in self._undecayed])
        optimizer.build(variables)
        slots = {v.name: v for copy in self.copies for v in copy.variables if v.name != "iteration"}
        for variable in optimizer.variables:
            if variable.name in slots:
                _copy_into(variable, slots[variable.name])
        _copy_into(optimizer.iterations, self.iterations)
        return optimizer

    def save_own_variables(self, store):
        # Only what the copies do not hold: Keras saves these as the sublayers that they are.
        for variable in super().variables:
            store[variable.name] = variable.numpy()

    def load_own_variables(self, store):
        for variable in super().variables:
            if variable.name in store:
                variable.assign(store[variable.name])

    def get_config(self):
        return {
            "optimizer": keras.saving.serialize_keras_object(self.template),
            "groups": self.groups,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        config["optimizer"] = keras.saving.deserialize_keras_object(config["optimizer"], custom_objects)
        return cls(**config)

    def _training(self):
        return [variable for variable in self._trainable_variables if variable.trainable]

    def _take_over(self, optimizer):
        slots = {variable.name: variable for variable in optimizer.variables}
        _copy_into(self.iterations, optimizer.iterations)
        for copy in self.copies:
            own = [variable for variable in copy.variables if variable.name != "iteration"]
            if own and all(variable.name in slots for variable in own):
                _copy_into(copy.iterations, optimizer.iterations)
                for variable in own:
                    _copy_into(variable, slots[variable.name])


def _copy_into(variable, other):
    # Through NumPy: JAX donates the buffers of a step, and two variables must not share one.
    variable.assign(ops.convert_to_numpy(other))


def group_optimizer(model: keras.Model, groups: Sequence[Sequence[str]]) -> GroupedOptimizer:
    """Give a compiled model a `GroupedOptimizer` of its own, built on all that trains in it now.

    One that it has for the same groups stays, as after a `fit` that was interrupted.

    Raises:
        RecipeError: The model is not compiled, or has a `MultiOptimizer`.

    Example:

        optimizer = group_optimizer(model, [["head/kernel"], ["backbone/conv/kernel"]])
    """
    optimizer = model.optimizer
    if optimizer is None:
        raise RecipeError("A compiled model was expected. Received: a model without an optimizer.")
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(inner, keras.optimizers.MultiOptimizer):
        raise RecipeError(
            "One optimizer was expected, its rates by depth are made here. "
            "Received: a MultiOptimizer. Compile with a plain one."
        )
    if isinstance(inner, GroupedOptimizer):
        if inner.groups == groups:
            return inner
        inner = inner.unwrapped(model.trainable_variables)
    with _scope(model):
        grouped = GroupedOptimizer(inner, groups)
        set_optimizer(model, grouped)
        model.optimizer.build(model.trainable_variables)
    return grouped


def set_optimizer(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Give a compiled model another optimizer; a loss scale around its own stays, as far as it has come.

    Example:

        set_optimizer(model, keras.optimizers.Adam(1e-3))
    """
    outer = model.optimizer
    with _scope(model):
        if isinstance(outer, keras.optimizers.LossScaleOptimizer):
            scale = outer.dynamic_scale if outer.built else outer.initial_scale
            outer = keras.optimizers.LossScaleOptimizer(
                optimizer,
                initial_scale=float(ops.convert_to_numpy(scale)),
                dynamic_growth_steps=outer.dynamic_growth_steps,
            )
            if optimizer.built:
                outer.build(model.trainable_variables)
            model.optimizer = outer
        else:
            model.optimizer = optimizer


def _scope(model: keras.Model):
    """Where variables of the model's TensorFlow strategy are made; nothing without one."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy.scope() if strategy is not None else contextlib.nullcontext()
