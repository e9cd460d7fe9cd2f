"""Find a learning rate by raising it from batch to batch, and leave the model as it was."""

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from ktransfer.errors import DataError, RecipeError
from ktransfer.training.interrupts import between_batches
from ktransfer.training.lr_curve import DIVERGED, NOT_FINITE, LearningRateCurve, has_diverged

_LEAST_STEPS = 10


def find_learning_rate(
    model: keras.Model,
    data: Any,
    *,
    loss: Any = None,
    optimizer: keras.optimizers.Optimizer | str | None = None,
    lowest: float = 1e-7,
    highest: float = 1.0,
    steps: int = 100,
    batch_size: int = 32,
    smoothing: float = 0.9,
    divergence: float = 4.0,
    seed: int = 0,
    on_step: Callable[[int, float, float], None] | None = None,
) -> LearningRateCurve:
    """Train for some batches while the learning rate rises exponentially, and return the loss over it.

    A copy of the optimizer, with fresh state, takes the steps. Afterwards, also after an error or Ctrl-C, the weights,
    the random state of the model's layers, its metrics and all that `compile` set are what they were, bit for bit; the
    optimizer and its state are not touched. A model that is not built yet is built on the first batch, as in `fit`.

    Args:
        model: A compiled model; with `loss` and `optimizer` it need not be. What trains in it is what `trainable` says.
        data: What `fit` takes: a `tf.data.Dataset`, a `keras.utils.PyDataset` or another iterable of batches
            `(inputs, targets)` or `(inputs, targets, weights)`, or a tuple of arrays of that kind. It is passed over as
            often as the steps need.
        loss: Instead of the compiled one. Defaults to the compiled one.
        optimizer: Instead of the compiled one; it is copied, and its learning rate does not count. Defaults to the
            compiled one.
        lowest: Learning rate of the first step. Defaults to 1e-7.
        highest: Learning rate of the last step. Defaults to 1.0.
        steps: Batches to train, at least 10. Defaults to 100.
        batch_size: Examples in a batch, where `data` is arrays. Defaults to 32.
        smoothing: Weight of the average before in the smoothed loss, in [0, 1). Larger values follow a fall later.
            Defaults to 0.9.
        divergence: How many times its lowest value the smoothed loss reaches, by more than its noise, where training
            stops. Defaults to 4.0.
        seed: Of the order of the examples, where `data` is arrays. Defaults to 0.
        on_step: Called after each step with its index, its learning rate and its loss. Defaults to nothing.

    Returns:
        A `LearningRateCurve`. Its `suggestion` is `None`, with the `reason` in words, where the loss does not fall.

    Raises:
        RecipeError: The model is not compiled, has a `LearningRateSchedule`, a `MultiOptimizer` or nothing that
            trains, or a number is out of its range.
        DataError: There is no batch, or an iterator ends before the last step.

    Example:

        curve = ktransfer.find_learning_rate(model, train)
        if curve.suggestion is not None:
            model.optimizer.learning_rate = curve.suggestion

    Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3; the stop and the
    suggestions are those of fast.ai's `lr_find`.
    """
    _check_numbers(lowest, highest, steps, batch_size, smoothing, divergence)
    _check_model(model, loss, optimizer)
    given = keras.optimizers.get(optimizer) if isinstance(optimizer, str) else optimizer
    given = model.optimizer if given is None else given
    _check_optimizer(given)
    batches = _batches(data, batch_size, seed)
    first = next(batches, None)
    if first is None:
        raise DataError("Expected at least one batch, got none. Pass a dataset that is not empty.")
    if not model.built:
        model(_example(first[0]))
    if not model.trainable_variables:
        raise RecipeError(
            "Expected a model with weights that train, got none. Set `trainable` of some layers."
        )
    factor = (highest / lowest) ** (1 / (steps - 1))
    rates, losses, stopped = [], [], ""
    with between_batches() as interrupts, _borrowed(model, given, loss) as copied:
        for step, batch in enumerate(itertools.islice(itertools.chain([first], batches), steps)):
            interrupts.check()
            copied.learning_rate = rate = lowest * factor**step
            found = model.train_on_batch(*batch, return_dict=True)
            if "loss" not in found:
                raise RecipeError(
                    f"Expected `train_step` to return a loss, got {sorted(found)}. Return it under the name 'loss'."
                )
            value = float(found["loss"])
            if not math.isfinite(value):
                stopped = NOT_FINITE
                break
            rates.append(rate)
            losses.append(value)
            if on_step is not None:
                on_step(step, rate, value)
            if has_diverged(losses, smoothing, divergence):
                stopped = DIVERGED
                break
    if not stopped and len(rates) < steps:
        raise DataError(
            f"Expected {steps} batches, got an iterator with {len(rates)}. "
            "Pass a dataset, which can be passed over again, or fewer steps."
        )
    return LearningRateCurve(tuple(rates), tuple(losses), smoothing, stopped)


def _check_numbers(
    lowest: float, highest: float, steps: int, batch_size: int, smoothing: float, divergence: float
) -> None:
    if not 0 < lowest < highest < math.inf:
        raise RecipeError(
            f"Expected learning rates with 0 < lowest < highest, got lowest={lowest} and highest={highest}. "
            "Pass such as 1e-7 and 1.0."
        )
    for name, value, least in (("steps", steps, _LEAST_STEPS), ("batch_size", batch_size, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise RecipeError(f"Expected {name} of at least {least}, got {value!r}. Pass a whole number.")
    if not 0 <= smoothing < 1:
        raise RecipeError(f"Expected smoothing in [0, 1), got {smoothing}. Pass such as 0.9.")
    if not 1 < divergence < math.inf:
        raise RecipeError(f"Expected divergence above 1, got {divergence}. Pass such as 4.0.")


def _check_model(model: keras.Model, loss: Any, optimizer: Any) -> None:
    if not isinstance(model, keras.Model):
        raise RecipeError(
            f"Expected a Keras 3 model, got one of {type(model).__module__}. Build it with `import keras`."
        )
    if not model.compiled and (loss is None or optimizer is None):
        raise RecipeError(
            "Expected a compiled model, got one that is not. Call `compile`, or pass both loss and optimizer."
        )


def _check_optimizer(optimizer: Any) -> None:
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(inner, keras.optimizers.MultiOptimizer) or not isinstance(
        inner, keras.optimizers.Optimizer
    ):
        raise RecipeError(
            f"Expected a model with a single optimizer of Keras 3, got {type(inner).__name__}. "
            "Compile with one of keras.optimizers, or pass optimizer."
        )
    try:
        rate = inner.get_config()["learning_rate"]
    except (NotImplementedError, KeyError):  # a schedule or an optimizer without a config
        rate = None
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise RecipeError(
            f"Expected an optimizer with a constant learning rate, got {type(inner).__name__} with a schedule. "
            "Compile with a number, or pass optimizer."
        )


@contextlib.contextmanager
def _borrowed(model: keras.Model, optimizer: Any, loss: Any) -> Iterator[keras.optimizers.Optimizer]:
    """A model that trains with a copy of `optimizer`, and after it is again what it was."""
    # Copied: on the CPU an array may be a view of the variable.
    kept = [
        (variable, np.array(keras.ops.convert_to_numpy(variable)))
        for variable in [*model.variables, *model.metrics_variables]
    ]
    before = dict(vars(model))
    strategy = getattr(model, "distribute_strategy", None)
    try:
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            copied = _copied(optimizer)
            scales = keras.optimizers.LossScaleOptimizer
            if model.dtype_policy.name == "mixed_float16" and not isinstance(copied, scales):
                copied = scales(copied)
            if loss is not None:
                model.compile(
                    optimizer=copied, loss=loss, run_eagerly=model.run_eagerly, jit_compile=model.jit_compile
                )
            copied.build(model.trainable_variables)
        step = model.train_step
        # JAX finds what it traced of an equal function, and that is of another optimizer: the step is a new function.
        own = {"train_step": lambda *args: step(*args), "train_function": None, "steps_per_execution": 1}
        # Not by `setattr`, by which TensorFlow would enter the copy into the checkpoints of the model.
        vars(model).update(own, optimizer=copied)
        yield copied
    finally:
        model.reset_metrics()  # those that were built by the first step have no value to restore
        names = vars(model)
        names.update(before)
        for name in names.keys() - before.keys():
            del names[name]
        for variable, value in kept:
            variable.assign(value)


def _copied(optimizer: Any) -> keras.optimizers.Optimizer:
    """An optimizer of the same configuration, with fresh state."""
    try:
        made = type(optimizer).from_config(optimizer.get_config())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise RecipeError(
            f"Expected an optimizer that can be made anew from its configuration, got {type(optimizer).__name__}: "
            f"{error}. Implement `get_config`, or pass optimizer."
        ) from error
    pairs = [(optimizer, made)]
    if hasattr(optimizer, "inner_optimizer"):
        pairs.append((optimizer.inner_optimizer, made.inner_optimizer))
    for source, target in pairs:
        # What the configuration does not say, such as which weights are excluded from weight decay.
        for name, value in vars(source).items():
            if name not in vars(target) and isinstance(value, set | frozenset | str | int | float):
                vars(target)[name] = copy.copy(value)
    return made


def _batches(data: Any, batch_size: int, seed: int) -> Iterator[tuple[Any, ...]]:
    """`(inputs, targets, weights)` of each batch, pass after pass."""
    if isinstance(data, tuple):
        return _batches_of_arrays(data, batch_size, seed)
    if isinstance(data, keras.utils.PyDataset):
        return _batches_of_pydataset(data)
    if isinstance(data, np.ndarray | dict | list | str) or not isinstance(data, Iterable):
        raise DataError(
            f"Expected a dataset or a tuple of arrays (inputs, targets), got {type(data).__name__}. "
            "Pass what `fit` takes; arrays as a tuple."
        )
    return _batches_of_iterable(data)


def _batches_of_arrays(data: Any, batch_size: int, seed: int) -> Iterator[Any]:
    if not 1 <= len(data) <= 3:
        raise DataError(f"Expected a tuple of 1 to 3 arrays, got {len(data)}. Pass (inputs, targets).")
    given = keras.utils.unpack_x_y_sample_weight(data)
    arrays = keras.tree.map_structure(
        lambda part: None if part is None else np.asarray(keras.ops.convert_to_numpy(part)), given
    )
    sizes = {len(array) for array in keras.tree.flatten(arrays) if array is not None}
    if len(sizes) != 1:
        raise DataError(
            f"Expected arrays of equal length, got {sorted(sizes)}. Pass one row for each example."
        )
    size = sizes.pop()
    random = np.random.default_rng(seed)
    while size:
        order = random.permutation(size)
        # A last batch that is smaller would be noisier, and compiled anew.
        for start in range(0, max(size - batch_size, 0) + 1, batch_size):
            rows = order[start : start + batch_size]
            yield tuple(
                keras.tree.map_structure(lambda a, rows=rows: None if a is None else a[rows], part)
                for part in arrays
            )


def _batches_of_pydataset(data: keras.utils.PyDataset) -> Iterator[Any]:
    passed = 0
    while True:
        count = data.num_batches
        indices = itertools.count() if count is None else range(count)
        for index in indices:
            passed += 1
            yield _unpacked(data[index])
        if not passed:
            return
        data.on_epoch_end()


def _batches_of_iterable(data: Iterable[Any]) -> Iterator[Any]:
    while True:
        iterator, is_empty = iter(data), True
        for batch in iterator:
            is_empty = False
            yield _unpacked(batch)
        if is_empty or iterator is data:
            return


def _unpacked(batch: Any) -> tuple[Any, ...]:
    return tuple(
        keras.tree.map_structure(
            lambda part: part if part is None or keras.ops.is_tensor(part) else np.asarray(part), each
        )
        for each in keras.utils.unpack_x_y_sample_weight(batch)
    )


def _example(inputs: Any) -> Any:
    """The first example alone, to build a model on."""
    return keras.tree.map_structure(lambda part: keras.ops.convert_to_tensor(part[:1]), inputs)
