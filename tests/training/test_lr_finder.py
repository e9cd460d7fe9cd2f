"""The learning-rate finder: what it suggests, and that it leaves the model as it was."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
from PIL import Image
from unfreezing import IMAGES, LABELS, classifier, run_under, same, snapshot

import ktransfer
from ktransfer.errors import DataError, RecipeError
from ktransfer.training.lr_curve import DIVERGED, NOT_FINITE, LearningRateCurve, smoothed
from ktransfer.training.lr_finder import find_learning_rate

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
RATES = tuple(float(rate) for rate in np.geomspace(1e-7, 1.0, 100))


def quadratic(optimizer=None, *, start=1.0, **options):
    """A weight w whose loss is w * w: gradient 2 w, one step of 0.5 solves it, steps above 1 diverge."""
    inputs = keras.Input((1,))
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer=keras.initializers.Constant(start))
    model = keras.Model(inputs, dense(inputs))
    model.compile(optimizer or keras.optimizers.SGD(0.25), "mse", **options)
    return model, (np.ones((8, 1), "float32"), np.zeros((8, 1), "float32"))


def state(model):
    """All that a call must not change: values, attributes, flags."""
    optimizer = model.optimizer
    values = snapshot([*model.variables, *optimizer.variables, *model.metrics_variables])
    flags = [layer.trainable for layer in model.layers]
    return [np.array(value) for value in values], dict(vars(model)), flags, optimizer.built


def assert_unchanged(model, before):
    values, attributes, flags, built = state(model)
    assert same(values, before[0])
    assert attributes.keys() == before[1].keys()
    assert all(attributes[name] is before[1][name] for name in attributes)
    assert (flags, built) == before[2:]


def test_a_quadratic_gets_the_rate_that_is_known_by_hand():
    model, data = quadratic()
    curve = find_learning_rate(model, data, batch_size=8, highest=10.0, smoothing=0.0)
    # The weight is about exp(-2 * rate / log(factor)), for the rates before sum up to rate / log(factor); its
    # square falls steepest over the logarithm where 4 * rate / log(factor) is 1.
    factor = math.log(curve.rates[1] / curve.rates[0])
    assert curve.suggestion == pytest.approx(factor / 4, rel=0.25)
    assert curve.suggestion < 0.5 < curve.rates[-1]
    assert curve.stopped == DIVERGED
    assert curve.rates[-1] > 1.0


def test_smoothing_moves_the_suggestion_by_less_than_a_decade():
    model, data = quadratic()
    sharp, usual = (find_learning_rate(model, data, batch_size=8, smoothing=by) for by in (0.0, 0.9))
    assert sharp.suggestion <= usual.suggestion < 10 * sharp.suggestion
    assert usual.suggestion < 0.5
    assert usual.tenth_of_lowest == usual.lowest_loss_rate / 10


def test_rates_rise_exponentially_from_the_lowest_to_the_highest():
    model, data = quadratic(start=0.0)
    curve = find_learning_rate(model, data, lowest=1e-4, highest=1e-1, steps=31)
    assert curve.rates[0] == 1e-4
    assert curve.rates[10] == pytest.approx(1e-3)
    assert curve.rates[-1] == pytest.approx(1e-1)


def test_losses_are_those_of_each_batch_before_its_step():
    model, data = quadratic()
    curve = find_learning_rate(model, data, lowest=0.01, highest=0.1, steps=10)
    weight, expected = 1.0, []
    for rate in curve.rates:
        expected.append(weight**2)
        weight -= rate * 2 * weight
    assert curve.losses == pytest.approx(expected, rel=1e-5)
    assert smoothed([1.0, 0.0], 0.9)[1] == pytest.approx(0.09 / 0.19)


@pytest.mark.spread
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"optimizer": "adam"},
        {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
    ],
    ids=["compiled", "optimizer", "loss"],
)
def test_the_model_is_left_bit_equal(trained, given):
    model, backbone = classifier(keras.optimizers.AdamW(1e-3))
    backbone.layers[1].trainable = False
    if trained:
        model.fit(IMAGES, LABELS, epochs=1, verbose=0)
        model.evaluate(IMAGES, LABELS, verbose=0)
    before = state(model)
    curve = find_learning_rate(model, (IMAGES, LABELS), batch_size=8, steps=12, highest=1e-2, **given)
    assert len(curve.rates) == 12
    if trained:
        assert_unchanged(model, before)
    else:  # metrics are built by the first batch
        assert same(snapshot(model.variables), before[0][: len(model.variables)])
        assert model.optimizer is before[1]["optimizer"]
        assert not model.optimizer.built
        assert len(model.optimizer.variables) == 2


def test_training_goes_on_as_if_nothing_had_been():
    losses = []
    for looks in (False, True):
        keras.utils.set_random_seed(0)
        model, _ = classifier(keras.optimizers.Adam(1e-3))
        model.fit(IMAGES, LABELS, batch_size=8, epochs=1, shuffle=False, verbose=0)
        if looks:
            find_learning_rate(model, (IMAGES, LABELS), batch_size=8, steps=10, optimizer="sgd")
        history = model.fit(IMAGES, LABELS, batch_size=8, epochs=2, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    assert losses[0] == losses[1]


def test_dropout_and_moving_statistics_are_restored():
    inputs = keras.Input((4,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dropout(0.5, seed=1)(hidden)))
    model.compile("adam", "mse")
    random = np.random.default_rng(0)
    data = random.normal(size=(32, 4)).astype("float32"), random.normal(size=(32, 1)).astype("float32")
    model.fit(*data, verbose=0)
    before = state(model)
    first, second = (find_learning_rate(model, data, batch_size=8, steps=20) for _ in range(2))
    assert_unchanged(model, before)
    assert first == second, "the draws of dropout begin where they began"


class Interrupting(keras.utils.PyDataset):
    """Batches of the classifier's task, until the one that raises."""

    def __init__(self, error=None, at=5):
        super().__init__()
        self.error, self.at, self.given, self.passes = error, at, 0, 0

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.given += 1
        if self.error is not None and self.given > self.at:
            raise self.error
        return IMAGES[8 * index : 8 * index + 8], LABELS[8 * index : 8 * index + 8]

    def on_epoch_end(self):
        self.passes += 1


@pytest.mark.spread(1)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("no memory")])
def test_an_interrupted_call_leaves_the_model_as_it_was(error):
    model, _ = classifier()
    model.fit(IMAGES, LABELS, verbose=0)
    before = state(model)
    with pytest.raises(type(error)):
        find_learning_rate(model, Interrupting(error))
    assert_unchanged(model, before)


def test_an_interrupt_within_a_step_is_survived():
    model, data = quadratic()
    model.fit(*data, verbose=0)
    before = state(model)

    def interrupt(step, rate, loss):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_learning_rate(model, data, on_step=interrupt)
    assert_unchanged(model, before)
    model.fit(*data, verbose=0)


def test_data_shorter_than_the_steps_is_passed_over_again():
    model, _ = classifier()
    data = Interrupting()
    curve = find_learning_rate(model, data, steps=10, highest=1e-3)
    assert len(curve.rates) == 10
    assert (data.given, data.passes) == (10, 3)


def test_datasets_lists_of_batches_and_weights_are_read():
    model, data = quadratic()
    weighted = find_learning_rate(model, (*data, np.full(8, 0.5, "float32")), steps=10)
    assert weighted.losses[0] == pytest.approx(0.5)
    tensorflow = pytest.importorskip("tensorflow")
    batches = tensorflow.data.Dataset.from_tensor_slices(data).batch(4)
    assert find_learning_rate(model, batches, steps=10).losses[0] == pytest.approx(1.0)


def test_a_generator_that_ends_early_is_refused_and_the_model_restored():
    model, data = quadratic()
    model.fit(*data, verbose=0)
    before = state(model)
    with pytest.raises(DataError, match="with 3"):
        find_learning_rate(model, (data for _ in range(3)))
    assert_unchanged(model, before)


def test_a_loss_that_becomes_nan_ends_the_curve_at_the_last_finite_one():
    model, (ones, zeros) = quadratic()

    def loss(target, answer):
        # NaN from the first weight on that is below a half.
        return keras.ops.mean(keras.ops.where(answer < 0.5, np.nan, answer**2))

    curve = find_learning_rate(model, (ones, zeros), loss=loss, smoothing=0.5)
    assert curve.stopped == NOT_FINITE
    assert np.isfinite(curve.losses).all()
    assert "NaN or infinite" in curve.reason
    assert float(model.get_weights()[0][0, 0]) == 1.0
    json.dumps(curve.to_dict(), allow_nan=False)


def test_a_loss_that_is_nan_before_any_step_is_no_fault_of_the_rate(tmp_path):
    model, (ones, zeros) = quadratic()
    curve = find_learning_rate(model, (ones * np.nan, zeros))
    assert curve.rates == ()
    assert curve.suggestion is curve.lowest_loss_rate is None
    assert "before any step" in curve.reason
    curve.save_plot(tmp_path / "a.png")
    json.dumps(curve.to_dict(), allow_nan=False)


def test_divergence_from_the_first_step_says_to_begin_lower():
    model, data = quadratic()
    curve = find_learning_rate(model, data, lowest=2.0, highest=3.0)
    assert curve.suggestion is None
    assert curve.stopped == DIVERGED
    assert "lower the lowest" in curve.reason


def test_a_flat_loss_has_no_suggestion():
    model, data = quadratic(start=0.0)
    curve = find_learning_rate(model, data)
    assert curve.suggestion is None
    assert "nothing to gain" in curve.reason


def test_noise_alone_is_hardly_ever_taken_for_a_fall():
    random = np.random.default_rng(0)
    curves = [LearningRateCurve(RATES, tuple(1 + 0.3 * random.normal(size=100))) for _ in range(200)]
    assert sum(curve.suggestion is not None for curve in curves) <= 10


def test_a_fall_within_noise_is_found_where_it_is():
    random = np.random.default_rng(0)
    trend = 0.3 + 1 / (1 + (np.array(RATES) / 1e-3))
    curves = [LearningRateCurve(RATES, tuple(trend + 0.1 * random.normal(size=100))) for _ in range(50)]
    found = [curve.suggestion for curve in curves]
    assert all(1e-4 < rate < 3e-2 for rate in found)


def test_a_loss_that_still_falls_says_to_go_higher():
    model, data = quadratic()
    curve = find_learning_rate(model, data, highest=0.02)
    assert "raise it" in curve.reason


def test_the_plot_is_a_png_and_the_numbers_are_json(tmp_path):
    model, data = quadratic()
    curve = find_learning_rate(model, data, highest=10.0)
    curve.save_plot(tmp_path / "lr.png")
    with Image.open(tmp_path / "lr.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 800
    values = json.loads(json.dumps(curve.to_dict(), allow_nan=False))
    assert values["suggestion"] == curve.suggestion
    assert len(values["rates"]) == len(values["losses"]) == len(values["smoothed_losses"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        curve.rates = ()


def test_weights_excluded_from_decay_stay_excluded():
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.9)
    model, data = quadratic(optimizer, start=0.5)
    optimizer.exclude_from_weight_decay(var_list=model.trainable_variables)
    curve = find_learning_rate(model, (data[0] * 0, data[1] + 1), lowest=0.1, steps=12)
    assert set(curve.losses) == {1.0}
    seen = []
    decayed, _ = quadratic(keras.optimizers.AdamW(1e-3, weight_decay=0.9), start=0.5)
    find_learning_rate(
        decayed,
        (data[0] * 0, data[1] + 1),
        lowest=0.1,
        steps=12,
        on_step=lambda *_: seen.append(decayed.get_weights()[0][0, 0]),
    )
    assert seen[-1] < 0.4


def test_a_model_of_a_train_step_of_its_own_is_trained_by_it():
    class Doubling(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return 2 * keras.ops.mean((y - y_pred) ** 2)

    inputs = keras.Input((1,))
    model = Doubling(inputs, keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(inputs))
    model.compile("sgd", "mse")
    _, data = quadratic()
    assert find_learning_rate(model, data, steps=10).losses[0] == pytest.approx(2.0)


def test_a_model_that_is_not_built_is_built_on_the_first_batch():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=4)
    _, data = quadratic()
    assert len(find_learning_rate(model, data, steps=10, highest=1e-3).rates) == 10
    assert model.steps_per_execution == 4


def test_loss_and_optimizer_suffice_where_a_model_is_not_compiled():
    model, data = uncompiled()
    curve = find_learning_rate(model, data, loss="mse", optimizer=keras.optimizers.SGD(), steps=10)
    assert len(curve.rates) == 10
    assert not model.compiled


def test_a_loss_scale_optimizer_raises_the_rate_within():
    model, data = quadratic(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)))
    curve = find_learning_rate(model, data, lowest=0.01, highest=0.1, steps=10)
    assert curve.losses[-1] < 0.9 * curve.losses[0]


def scheduled():
    return quadratic(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)))


def frozen():
    model, data = quadratic()
    model.trainable = False
    return model, data


def uncompiled():
    model, data = quadratic()
    return keras.Model(model.input, model.output), data


@pytest.mark.parametrize(
    ("make", "options", "error", "words"),
    [
        (uncompiled, {}, RecipeError, "compiled model"),
        (uncompiled, {"loss": "mse"}, RecipeError, "compiled model"),
        (scheduled, {}, RecipeError, "schedule"),
        (frozen, {}, RecipeError, "weights that train"),
        (quadratic, {"lowest": 0.0}, RecipeError, "0 < lowest"),
        (quadratic, {"lowest": 1.0}, RecipeError, "0 < lowest"),
        (quadratic, {"highest": math.nan}, RecipeError, "0 < lowest"),
        (quadratic, {"steps": 9}, RecipeError, "steps of at least 10"),
        (quadratic, {"steps": 20.0}, RecipeError, "steps"),
        (quadratic, {"batch_size": 0}, RecipeError, "batch_size"),
        (quadratic, {"smoothing": 1.0}, RecipeError, "smoothing"),
        (quadratic, {"divergence": 1.0}, RecipeError, "divergence"),
        (quadratic, {"data": ()}, DataError, "arrays"),
        (quadratic, {"data": (np.ones((2, 1)), np.ones((3, 1)))}, DataError, r"\[2, 3\]"),
        (quadratic, {"data": (np.ones((0, 1)), np.ones((0, 1)))}, DataError, "at least one batch"),
        (quadratic, {"data": np.ones((8, 1))}, DataError, "tuple of arrays"),
        (quadratic, {"data": 3}, DataError, "int"),
        (quadratic, {"data": iter(())}, DataError, "at least one batch"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_changes(make, options, error, words):
    model, data = make()
    before = dict(vars(model))
    with pytest.raises(error, match=words) as raised:
        find_learning_rate(model, **{"data": data, **options})
    assert "\n" not in str(raised.value)
    assert vars(model) == before


def test_a_model_of_another_library_is_refused():
    with pytest.raises(RecipeError, match="Keras 3 model"):
        find_learning_rate(object(), ())


def test_the_name_is_public():
    assert ktransfer.find_learning_rate is find_learning_rate
    assert ktransfer.LearningRateCurve is LearningRateCurve


@pytest.mark.slow
@pytest.mark.skipif(not ON_TENSORFLOW, reason="runs the other backend")
def test_the_model_is_left_alike_on_jax():
    run_under("jax", "test_lr_finder", chosen="left_bit_equal", marks="slow or not slow")


@pytest.mark.slow
@pytest.mark.skipif(not ON_TENSORFLOW, reason="runs the other backend")
def test_every_test_holds_on_jax():
    run_under("jax", "test_lr_finder")
