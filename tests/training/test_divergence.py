import dataclasses

import keras
import numpy as np
import pytest
from unfreezing import IMAGES, LABELS, STAGES, OutOfMemory, classifier, fit, same, snapshot

from ktransfer.commands.train import train
from ktransfer.data.rebatching import rebatched
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import RunError
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.training.checkpoint import Checkpoint
from ktransfer.training.fine_tune import fine_tune
from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing

tf = pytest.importorskip("tensorflow")
TWO = (Stage(depth=0, epochs=3, learning_rate=1e-2), Stage(depth=1, epochs=2, learning_rate=1e-3))


class Poison(keras.callbacks.Callback):
    """Sets the head to NaN before (or after) some batches, named by epoch and batch."""

    def __init__(self, *places, after=False):
        super().__init__()
        self.places, self.after, self.began = set(places), after, {}

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.began[epoch] = snapshot(self.model.weights)

    def on_train_batch_begin(self, batch, logs=None):
        if not self.after:
            self.poison(batch)

    def on_train_batch_end(self, batch, logs=None):
        if self.after:
            self.poison(batch)

    def poison(self, batch):
        if (self.epoch, batch) in self.places:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            kernel = self.model.get_layer("head").kernel
            kernel.assign(np.full(kernel.shape, np.nan))


def fit_poisoned(poison, stages=TWO, optimizer=None, **options):
    """What was told, the history, and the optimizer's state at the end of each epoch."""
    model, backbone = classifier(optimizer)
    told = []
    callback = ProgressiveUnfreezing(backbone, stages, on_divergence=told.append, verbose=0)
    history = fit(model, [callback, poison], epochs=sum(stage.epochs for stage in stages), **options)
    return told, history.history, model


def finite(variables):
    return all(np.isfinite(keras.ops.convert_to_numpy(v)).all() for v in variables)


def test_after_a_loss_that_is_no_number_training_goes_on_at_a_tenth_of_the_rates():
    told, history, model = fit_poisoned(Poison((1, 0)))
    assert told == [
        "loss is NaN or infinite in batch 1 of epoch 2: restored the last good weights and optimizer, "
        "learning rates are a tenth from here on"
    ]
    assert np.isfinite(history["loss"]).all()
    assert history["learning_rate"] == pytest.approx([1e-2, 1e-3, 1e-3, 1e-4, 1e-4])
    assert history["stage"] == [0, 0, 0, 1, 1]
    assert finite([*model.variables, *model.optimizer.variables])


def test_the_weights_go_back_to_what_the_epoch_began_with():
    poison = Poison((1, 2))  # the last batch of three
    _, history, _ = fit_poisoned(poison)
    assert not same(poison.began[0], poison.began[1])
    assert same(poison.began[1], poison.began[2])
    assert np.isnan(history["loss"][1])  # nothing was trained after it
    assert np.isfinite(history["loss"][2])


def test_the_second_time_the_stage_ends_and_the_next_one_runs():
    poison = Poison((0, 1), (1, 1))
    told, history, model = fit_poisoned(poison)
    assert told[1].endswith(
        "in batch 2 of epoch 2: restored the last good weights and optimizer, the stage ends"
    )
    assert history["stage"] == [0, 0, 1, 1]
    assert same(poison.began[1], poison.began[2])
    assert finite(model.variables)


def test_both_in_one_epoch():
    # The loss of a step is looked at after the next one.
    told, history, _ = fit_poisoned(Poison((0, 0), (0, 2)))
    assert len(told) == 2
    assert history["stage"] == [0, 1, 1]


def test_a_last_step_that_spoils_the_weights_is_found_before_they_are_judged():
    poison = Poison((1, 2), after=True)
    told, history, _ = fit_poisoned(poison, validation_data=(IMAGES, LABELS))
    assert told[0].startswith("loss is NaN or infinite after epoch 2: restored")
    assert same(poison.began[1], poison.began[2])
    assert np.isfinite(history["loss"]).all()


def test_a_rate_that_is_far_too_high_leaves_the_weights_that_fit_began_with():
    model, backbone = classifier(keras.optimizers.SGD(1e-3))
    before = snapshot(model.weights)
    stages = [Stage(depth="all", epochs=4, learning_rate=1e35)]
    with pytest.warns(UserWarning, match="loss is NaN or infinite"):
        history = fit(model, [ProgressiveUnfreezing(backbone, stages, verbose=0)], epochs=4).history
    assert len(history["loss"]) < 4
    assert same(before, snapshot(model.weights))


def test_an_infinite_gradient_under_a_loss_scale_is_none_of_ours():
    keras.config.set_dtype_policy("mixed_float16")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3), initial_scale=1e38)
    told, history, _ = fit_poisoned(Poison(), optimizer=optimizer)
    assert told == []
    assert history["stage"] == [0, 0, 0, 1, 1]


RECIPE = Recipe(stages=STAGES, head="train", batch_size=8, weight_decay=0.1)


def fine_tuned(*callbacks, examples=21, recipe=RECIPE, **options):
    model, backbone = classifier()
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.1, w.shape) for w in model.get_weights()])
    told = []

    def train(epoch):
        def batches():
            # As `image_dataset`: another order at each pass; Keras on JAX makes one to look at the shapes.
            number = 0 if keras.backend.backend() == "jax" else next(passes)
            order = np.random.default_rng([0, number]).permutation(21)
            for start in range(0, 21, 8):
                yield IMAGES[order[start : start + 8]], LABELS[order[start : start + 8]]

        passes = iter(range(epoch, 100))
        signature = tf.TensorSpec((None, 32, 32, 3)), tf.TensorSpec((None,), tf.int64)
        data = tf.data.Dataset.from_generator(batches, output_signature=signature)
        return data.apply(tf.data.experimental.assert_cardinality(3))

    history = fine_tune(
        model,
        train,
        tf.data.Dataset.from_tensor_slices((IMAGES[21:], LABELS[21:])).batch(3),
        recipe,
        backbone=backbone,
        callbacks=callbacks,
        examples=examples,
        on_trouble=told.append,
        verbose=0,
        **options,
    )
    return told, history, snapshot(model.weights)


WEIGHTS = {0: 2.0, 1: 1.0, 2: 0.5}


@pytest.fixture(scope="module")
def expected():
    return fine_tuned(class_weight=WEIGHTS)


@pytest.mark.spread(1)
@pytest.mark.parametrize("place", [(0, 0), (3, 1)])
def test_out_of_memory_ends_with_the_weights_of_whole_batches(expected, place):
    error = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    told, history, weights = fine_tuned(OutOfMemory(3, place, error=error), class_weight=WEIGHTS)
    assert told == [
        "out of memory in batches of 8: trained on in parts of 4, whose gradients add up to batches of 8",
        "out of memory in batches of 4: trained on in parts of 2, whose gradients add up to batches of 8",
    ]
    assert history.epoch == expected[1].epoch == [0, 1, 2, 3, 4]
    for name in ("loss", "accuracy", "val_loss", "learning_rate", "stage"):
        np.testing.assert_allclose(history.history[name], expected[1].history[name], rtol=1e-4, err_msg=name)
    for a, b in zip(weights, expected[2], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_one_example_that_does_not_fit_is_an_error_that_says_what_to_do():
    with pytest.raises(RunError, match="Choose a smaller image size"):
        fine_tuned(OutOfMemory(0, error=MemoryError()))


def test_without_the_number_of_examples_out_of_memory_is_raised():
    with pytest.raises(MemoryError):
        fine_tuned(OutOfMemory(3, error=MemoryError()), examples=None)


def test_a_run_that_goes_on_knows_that_its_rates_were_lowered(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tuned(Poison((1, 0)), Stop(), checkpoint=Checkpoint(tmp_path / "kept.npz"))
    checkpoint = Checkpoint(tmp_path / "kept.npz")
    fine_tuned(checkpoint=checkpoint)
    rates = [row["learning_rate"] for row in checkpoint.rows]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5, 1e-5])


def test_patience_goes_on_counting_after_out_of_memory():
    stages = (Stage(depth=0, epochs=6, learning_rate=1e-9, patience=2),)
    recipe = dataclasses.replace(RECIPE, stages=stages)
    expected = fine_tuned(recipe=recipe)[1].epoch
    assert fine_tuned(OutOfMemory(4, (1, 0)), recipe=recipe)[1].epoch == expected


@pytest.mark.parametrize("examples", [21, None])
def test_the_same_examples_in_smaller_batches_whose_number_is_known(examples):
    data = tf.data.Dataset.from_tensor_slices((np.arange(21), np.arange(21))).batch(8)
    parts = rebatched(data, 4, examples)
    assert int(parts.cardinality()) == 6
    np.testing.assert_array_equal(np.concatenate([inputs for inputs, _ in parts]), np.arange(21))
    assert [len(inputs) for inputs, _ in parts] == [4, 4, 4, 4, 4, 1]


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", [Augmentation.none(), Augmentation()])
def test_a_run_at_a_rate_that_is_far_too_high_ships_the_solved_head_and_says_so(tmp_path, augmentation):
    data = write_target_task(tmp_path / "things", train_per_class=4, validation_per_class=3)
    stages = tuple(Stage(depth=depth, epochs=3, learning_rate=1e35) for depth in (1, 2))
    recipe = Recipe(stages=stages, batch_size=8, augmentation=augmentation, optimizer="sgd")
    lines = []
    run = train(
        data, PRESET_PATH, tmp_path / "run", recipe=recipe, formats=["onnx"], say=lines.append, verbose=0
    )
    assert all(np.isfinite(weight).all() for weight in run.model.get_weights())
    assert run.manifest["metrics"]["validation"] == pytest.approx(run.manifest["head"]["validation"])
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("trouble")] == run.manifest[
        "trouble"
    ]
    assert [text.rpartition(", ")[2] for text in run.manifest["trouble"]] == [
        "learning rates are a tenth from here on",
        *["the stage ends"] * 2,
    ]
    assert run.manifest["artifacts"][0]["parity"]["max_abs_delta"] < 1e-4
