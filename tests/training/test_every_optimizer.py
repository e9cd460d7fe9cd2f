"""Every optimizer of Keras, in all its settings, through three stages of one `fit`: equal to a reference by hand.

The reference is what a person compiles by hand: a plain optimizer for the head and for each block, made when the block
is unfrozen, with its share of the learning rate, kept for the stages that follow; gradients are worked out in NumPy.
"""

import functools
import inspect

import keras
import numpy as np
import pytest
from unfreezing import run_under

from ktransfer.recipes.recipe import Stage
from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing

OPTIMIZERS = sorted(
    name
    for name, value in vars(keras.optimizers).items()
    if inspect.isclass(value)
    and issubclass(value, keras.optimizers.Optimizer)
    and name not in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")
)
RATES = {"Adadelta": 2.0, "Ftrl": 0.3, "SGD": 0.01}
SETTINGS = {
    "plain": {},
    "clipnorm": {"clipnorm": 0.1},
    "global_clipnorm": {"global_clipnorm": 0.1},
    "weight_decay": {"weight_decay": 0.1},
    "ema": {"use_ema": True, "ema_momentum": 0.7},
    "ema_overwrite": {"use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 3},
    "accumulation": {"gradient_accumulation_steps": 2},
    "accumulated_clip": {"gradient_accumulation_steps": 2, "global_clipnorm": 0.1},
    "loss_scale": {},
}
RATE_KINDS = ("number", "schedule", "custom")
EPOCHS, STEPS, BATCH = (2, 1, 1), 2, 4
STAGE_RATES = (1.0, 0.5, 0.25)
rng = np.random.default_rng(3)
X = rng.normal(size=(STEPS * BATCH, 4)).astype("float32")
Y = rng.normal(size=(STEPS * BATCH, 2)).astype("float32")
INITIAL = {
    name: rng.normal(size=shape).astype("float32")
    for name, shape in {"low": (4, 3), "top": (3, 3), "kernel": (3, 2), "bias": (2,)}.items()
}


class Custom(keras.optimizers.schedules.LearningRateSchedule):
    """As people write them: no `get_config`."""

    def __init__(self, start):
        self.start = start

    def __call__(self, step):
        return self.start / (1.0 + 0.1 * keras.ops.cast(step, "float32"))


def made(name, setting, rate):
    options = SETTINGS[setting]
    if name == "SGD":
        options = {"momentum": 0.9, **options}
    return getattr(keras.optimizers, name)(rate, **options)


def schedule(kind, rate):
    if kind == "number":
        return rate
    return keras.optimizers.schedules.ExponentialDecay(rate, 3, 0.8) if kind == "schedule" else Custom(rate)


def fitted(name, setting, kind, **options):
    rate = RATES.get(name, 0.02)
    inputs = keras.Input((4,))
    low = keras.layers.Dense(3, use_bias=False, name="low")
    top = keras.layers.Dense(3, use_bias=False, name="top")
    backbone = keras.Model(inputs, top(low(inputs)), name="backbone")
    head = keras.layers.Dense(2, name="head")
    images = keras.Input((4,))
    model = keras.Model(images, head(backbone(images)))
    variables = {"low": low.kernel, "top": top.kernel, "kernel": head.kernel, "bias": head.bias}
    for key, variable in variables.items():
        variable.assign(INITIAL[key])
    optimizer = made(name, setting, schedule(kind, rate))
    if setting == "weight_decay":
        optimizer.exclude_from_weight_decay(var_list=[head.bias])
    outer = keras.optimizers.LossScaleOptimizer(optimizer, 1024.0) if setting == "loss_scale" else optimizer
    model.compile(outer, "mse", **({"run_eagerly": True} | options))
    stages = [
        Stage(depth=depth, epochs=epochs, learning_rate=rate * share if kind == "number" else None)
        for depth, epochs, share in zip((0, 1, 2), EPOCHS, STAGE_RATES, strict=True)
    ]
    callback = ProgressiveUnfreezing(backbone, stages, verbose=0)
    model.fit(X, Y, batch_size=BATCH, epochs=sum(EPOCHS), shuffle=False, verbose=0, callbacks=[callback])
    assert model.optimizer is outer
    return {key: keras.ops.convert_to_numpy(variable) for key, variable in variables.items()}


def gradients(values, x, y):
    below = x @ values["low"]
    features = below @ values["top"]
    error = 2 * (features @ values["kernel"] + values["bias"] - y) / y.size
    back = error @ values["kernel"].T
    return {
        "kernel": features.T @ error,
        "bias": error.sum(0),
        "top": below.T @ back,
        "low": x.T @ (back @ values["top"].T),
    }


def by_hand(name, setting, kind):
    rate = RATES.get(name, 0.02)
    variables = {key: keras.Variable(value, name=key) for key, value in INITIAL.items()}
    groups = {"head": ["kernel", "bias"], "top": ["top"], "low": ["low"]}
    optimizers, step, whole = {}, 0, schedule(kind, rate)
    now = lambda share: whole(step) * share  # noqa: E731
    options = SETTINGS[setting]
    clip, parts = options.get("global_clipnorm"), options.get("gradient_accumulation_steps", 1)
    sums = {}
    for stage, epochs in enumerate(EPOCHS):
        # One block is at 0.1 ** (1 / 2) of the head's learning rate, the one below it at 0.1 (lowest_rate).
        shares = dict(zip(groups, (1.0, 0.1**0.5, 0.1), strict=True))
        trained = list(groups)[: stage + 1]
        for group in trained:
            current = (
                rate * STAGE_RATES[stage] * shares[group]
                if kind == "number"
                else functools.partial(now, shares[group])
            )
            if group not in optimizers:
                optimizers[group] = made(name, setting, current)
                for alone in ("gradient_accumulation_steps", "global_clipnorm", "ema_overwrite_frequency"):
                    setattr(optimizers[group], alone, None)  # of all groups together: done here
                if setting == "weight_decay":
                    optimizers[group].exclude_from_weight_decay(var_list=[variables["bias"]])
                optimizers[group].build([variables[key] for key in groups[group]])
            else:
                optimizers[group].learning_rate = current
        for batch in list(range(STEPS)) * epochs:
            rows = slice(batch * BATCH, (batch + 1) * BATCH)
            values = {key: keras.ops.convert_to_numpy(v) for key, v in variables.items()}
            found = gradients(values, X[rows], Y[rows])
            chosen = [key for group in trained for key in groups[group]]
            sums = {key: sums.get(key, 0) + found[key] for key in chosen}
            step += 1
            if step % parts:
                continue
            means, sums = {key: sums[key] / parts for key in chosen}, {}
            if clip:
                norm = np.sqrt(sum((gradient**2).sum() for gradient in means.values()))
                means = {key: gradient * min(1.0, clip / norm) for key, gradient in means.items()}
            for group in trained:
                keys = groups[group]
                step -= 1  # a schedule is asked before the step
                optimizers[group].apply(
                    [keras.ops.convert_to_tensor(means[key].astype("float32")) for key in keys],
                    [variables[key] for key in keys],
                )
                step += 1
            overwrite = options.get("ema_overwrite_frequency")
            if overwrite and step % overwrite == 0:
                for group in trained:
                    optimizers[group].finalize_variable_values([variables[key] for key in groups[group]])
    for group, optimizer in optimizers.items():
        optimizer.finalize_variable_values([variables[key] for key in groups[group]])
    return {key: keras.ops.convert_to_numpy(variable) for key, variable in variables.items()}


@pytest.mark.spread
@pytest.mark.parametrize("kind", RATE_KINDS)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_three_stages_are_those_of_optimizers_compiled_by_hand(name, setting, kind):
    expected, found = by_hand(name, setting, kind), fitted(name, setting, kind)
    for key in ("low", "top", "kernel"):
        assert not np.array_equal(found[key], INITIAL[key]), key
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], rtol=2e-4, atol=2e-6, err_msg=key)


@pytest.mark.spread
@pytest.mark.parametrize("setting", ["plain", "accumulated_clip", "ema", "loss_scale"])
@pytest.mark.parametrize("name", ["Adam", "Nadam", "SGD"])
def test_the_compiled_step_is_the_eager_one(name, setting):
    eager, compiled = fitted(name, setting, "number"), fitted(name, setting, "number", run_eagerly=False)
    for key in eager:
        np.testing.assert_allclose(compiled[key], eager[key], rtol=2e-4, atol=2e-6, err_msg=key)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="this is the other backend")
@pytest.mark.parametrize("backend", [pytest.param("jax", marks=pytest.mark.slow), "torch"])
def test_optimizers_on_the_other_backends(backend):
    chosen = "[Adam-plain or [Adam-accumulated or [Adam-loss_scale"
    run_under(backend, "test_every_optimizer", chosen=chosen, marks="slow or not slow")


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="this is the other backend")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_optimizer_on_the_other_backends(backend):
    run_under(backend, "test_every_optimizer", chosen="three_stages", marks="slow or not slow")
