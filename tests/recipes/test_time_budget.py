import keras
import numpy as np
import pytest

from ktransfer.errors import RecipeError
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.recipes.time_budget import TimeBudget, parse_duration
from ktransfer.training.end_in_time import EndInTime


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def recipe(epochs=8):
    stage = Stage(depth="all", epochs=epochs, learning_rate=1e-3, warmup=0.5, schedule="cosine")
    return Recipe(stages=(stage,), final_weights="interpolated")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("45", 45), (30, 30), (" 2 m ", 120)]
)
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "ten minutes", "-5m", "0", "10 days", "1e400h", "nan"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(RecipeError, match="Expected a duration such as"):
        parse_duration(text)


def test_a_budget_too_small_says_the_least_that_works():
    with pytest.raises(RecipeError, match="at least 91 s for this backbone and 3 formats, got 20 s"):
        TimeBudget(20, formats=3, weights=4_000_000)


def test_what_is_left_falls_with_the_clock():
    clock = Clock()
    budget = TimeBudget(200, clock=clock)
    assert budget.left() == 160  # 40 are reserved
    clock.now += 180
    assert budget.left() == -20


def test_as_many_epochs_fit_as_there_is_time_for():
    budget = TimeBudget(40 + 100, clock=Clock())
    # An epoch of 100 examples takes 100 * 0.05 * 4.2 = 21 s, the candidates 5 s: (100 - 5) / 21 = 4.5.
    facts = {"example_seconds": 0.05, "examples": 100}
    assert budget.fit_epochs(recipe(), **facts).epochs == 4
    assert budget.fit_epochs(recipe(), **facts, speedup=3).epochs == 8
    assert budget.fit_epochs(recipe(2), **facts).epochs == 2


def test_no_time_for_an_epoch_leaves_the_solved_head():
    found = TimeBudget(45, clock=Clock()).fit_epochs(recipe(), example_seconds=0.5, examples=100)
    assert found.stages == ()
    assert found.head == "solve"


def test_fit_ends_when_the_time_for_training_is_over():
    clock, lines = Clock(), []
    budget = TimeBudget(40 + 10, clock=clock)

    class Tick(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            clock.now += 4

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    seen = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    callbacks = [Tick(), EndInTime(budget, lines.append), count]
    model.fit(np.zeros((20, 2)), np.zeros((20, 1)), batch_size=2, epochs=3, callbacks=callbacks, verbose=0)
    assert len(seen) == 3  # 12 s of 10
    assert len(lines) == 1
