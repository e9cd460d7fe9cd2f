import itertools
import json
import warnings

import keras
import numpy as np
import pytest
from unfreezing import IMAGES, LABELS, STAGES, classifier, fit, run_eagerly, run_in_graphs, same, snapshot

from ktransfer.models.blocks import find_blocks
from ktransfer.recipes.recipe import Stage
from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing

# Traced as Keras does by itself; the others without graphs, and with them among the slow tests.
IN_GRAPHS = (
    "test_the_golden_table",
    "test_weights_move_in_their_stage",
    "test_the_optimizer_stays_the_users_object",
    "test_an_interrupted_fit_goes_on",
    "test_however_the_step_is_compiled",
    "test_under_mixed_precision",
)


@pytest.fixture(autouse=True)
def _eagerly(request, monkeypatch):
    if not request.node.name.startswith(IN_GRAPHS):
        run_eagerly(monkeypatch)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs are of TensorFlow")
def test_all_of_it_in_graphs():
    run_in_graphs("test_progressive_unfreezing")


class Watch(keras.callbacks.Callback):
    """What trains and how fast, at each epoch's end."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        trained = sum(
            v.shape.num_elements() if hasattr(v.shape, "num_elements") else int(np.prod(v.shape))
            for v in self.model.trainable_variables
        )
        self.rows.append((epoch, logs["stage"], trained, round(logs["learning_rate"], 8)))


def test_the_golden_table_of_epochs_stages_weights_and_rates():
    model, backbone = classifier()
    watch = Watch()
    fit(model, [ProgressiveUnfreezing(backbone, STAGES, verbose=0), watch])
    # By hand: the head has 16 * 3 + 3 weights; block3_conv1 1168, block2_conv2 584, block2_conv1 584,
    # block1_conv1 224.
    head = 51
    assert watch.rows == [
        (0, 0, head, 0.01),
        (1, 0, head, 0.01),
        (2, 1, head + 1168 + 584, 0.001),
        (3, 2, head + 1168 + 584 + 584 + 224, 0.0001),
        (4, 2, head + 1168 + 584 + 584 + 224, 0.0001),
    ]


def test_weights_move_in_their_stage_and_not_before():
    model, backbone = classifier()
    blocks = find_blocks(backbone)
    kept = []

    class Keep(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            kept.append([snapshot(block.weights) for block in blocks])

    fit(model, [ProgressiveUnfreezing(backbone, STAGES, verbose=0), Keep()])
    kept.append([snapshot(block.weights) for block in blocks])
    moved = [
        [not same(a, b) for a, b in zip(before, after, strict=True)]
        for before, after in itertools.pairwise(kept)
    ]
    assert moved[:2] == [[False] * 4] * 2
    assert moved[2] == [True, True, False, False]
    assert moved[3:] == [[True] * 4] * 2


def test_the_first_step_of_a_thawed_block_is_at_most_its_learning_rate():
    model, backbone = classifier()
    block = find_blocks(backbone)[0]
    steps = []

    class First(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.before = snapshot(block.weights)

        def on_train_batch_end(self, batch, logs=None):
            if batch == 0:
                if keras.backend.backend() == "jax":
                    self.model.jax_state_sync()
                steps.append(
                    max(
                        np.abs(a - b).max() for a, b in zip(snapshot(block.weights), self.before, strict=True)
                    )
                )

    stages = [Stage(depth=0, epochs=3, learning_rate=1e-2), Stage(depth=1, epochs=1, learning_rate=1e-3)]
    fit(model, [ProgressiveUnfreezing(backbone, stages, verbose=0), First()], epochs=4)
    rate = 1e-3 * stages[1].rates(4)[0]
    assert steps[:3] == [0, 0, 0]
    assert steps[3] == pytest.approx(rate, rel=0.01)


def test_the_optimizer_state_of_the_head_survives_a_thaw():
    model, backbone = classifier(keras.optimizers.SGD(1e-2, momentum=0.9))
    seen = []

    class Slots(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append({v.path: keras.ops.convert_to_numpy(v) for v in self.model.optimizer.variables})

    stages = [Stage(depth=0, epochs=2), Stage(depth="all", epochs=1)]
    fit(model, [Slots(), ProgressiveUnfreezing(backbone, stages, verbose=0), Slots()], epochs=3)
    before, after = seen[4], seen[5]  # either side of the unfreeze
    slots = [path for path in before if "head" in path and "momentum" in path]
    assert len(slots) == 2
    assert all(np.abs(before[path]).max() > 0 and np.array_equal(before[path], after[path]) for path in slots)


def test_the_optimizer_stays_the_users_object(tmp_path):
    optimizer = keras.optimizers.Adam(1e-2)
    names, kind = set(vars(optimizer)), type(optimizer)
    model, backbone = classifier(optimizer)
    fit(model, [ProgressiveUnfreezing(backbone, STAGES, verbose=0)])
    assert model.optimizer is optimizer
    assert type(optimizer) is kind
    assert set(vars(optimizer)) - names == {"_momentums", "_velocities"}
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 15
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), atol=1e-5)
    before = snapshot(model.trainable_variables)
    fit(model, [], epochs=1)
    assert not same(before, snapshot(model.trainable_variables))


def test_without_stages_the_epochs_are_divided_between_head_upper_half_and_all():
    model, backbone = classifier()
    watch = Watch()
    fit(model, [ProgressiveUnfreezing(backbone, verbose=0), watch], epochs=6)
    assert [stage for _, stage, _, _ in watch.rows] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(("epochs", "stays"), [(1, True), (2, False), (3, False)])
def test_too_few_epochs_to_unfreeze_the_backbone_are_named(capsys, epochs, stays):
    model, backbone = classifier()
    fit(model, [ProgressiveUnfreezing(backbone)], epochs=epochs)
    assert ("fit has 1 epoch, which trains" in capsys.readouterr().out) is stays


def test_the_backbone_can_be_given_by_name():
    model, backbone = classifier()
    history = fit(model, [ProgressiveUnfreezing(backbone.name, STAGES, verbose=0)])
    assert history.history["stage"] == [0, 0, 1, 2, 2]


def test_a_stage_without_progress_ends_early_and_fit_with_it():
    model, backbone = classifier()
    stages = [
        Stage(depth=0, epochs=4, learning_rate=1e-9, patience=1),
        Stage(depth=1, epochs=3, learning_rate=1e-3),
    ]
    fake = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(watched=1.0))
    callback = ProgressiveUnfreezing(backbone, stages, monitor="watched", mode="min", verbose=0)
    history = fit(model, [fake, callback], epochs=7)
    # Epoch 0 is the best, epoch 1 no better: two epochs unused, the second stage runs its three.
    assert history.history["stage"] == [0, 0, 1, 1, 1]


def test_the_best_weights_of_a_stage_are_put_back_when_it_ends():
    model, backbone = classifier()
    losses = iter([3.0, 1.0, 2.0, 5.0, 4.0])
    kept = []

    class Fake(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            kept.append(snapshot(self.model.weights))

        def on_epoch_end(self, epoch, logs=None):
            logs["watched"] = next(losses)

    stages = [Stage(depth=0, epochs=3, learning_rate=1e-2), Stage(depth="all", epochs=2, learning_rate=1e-3)]
    fake = Fake()
    callback = ProgressiveUnfreezing(backbone, stages, monitor="watched", mode="min", verbose=0)
    fit(model, [fake, callback], epochs=5)
    after_best = kept[2]  # at the beginning of epoch 2 are the weights that epoch 1 ended with, loss 1.0
    assert same(kept[3], after_best)  # the second stage starts from the first one's best
    assert not same(kept[4], after_best)
    assert same(snapshot(model.weights), after_best)  # nothing of the second stage was better


def test_the_starting_weights_are_kept_when_no_epoch_beats_the_baseline():
    model, backbone = classifier()
    before = snapshot(model.weights)
    fit(
        model,
        [ProgressiveUnfreezing(backbone, STAGES, baseline=-1.0, verbose=0)],
        validation_data=(IMAGES, LABELS),
    )
    assert same(snapshot(model.weights), before)


def test_an_interrupted_fit_goes_on_in_the_right_stage(tmp_path):
    def run(stop_after, model=None, initial=None):
        model, backbone = classifier(keras.optimizers.SGD(1e-3, momentum=0.9))
        if initial is not None:
            model.set_weights(initial)
        start = snapshot(model.weights)

        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == stop_after:
                    raise KeyboardInterrupt

        callbacks = [
            # Before ours, where it is hardest: it restores the optimizer in on_train_begin.
            keras.callbacks.BackupAndRestore(tmp_path / "backup"),
            ProgressiveUnfreezing(backbone, STAGES, verbose=0),
            Stop(),
        ]
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*kipping variable loading")
                history = model.fit(
                    IMAGES, LABELS, batch_size=8, epochs=5, verbose=0, callbacks=callbacks, shuffle=False
                )
        except KeyboardInterrupt:
            history = None
        return history, start, snapshot(model.weights)

    _, start, _ = run(4)
    resumed, _, final = run(None, initial=start)
    assert resumed.history["stage"] == [2]
    whole, _, expected = run(None, initial=start)
    assert whole.history["stage"] == [0, 0, 1, 2, 2]
    for a, b in zip(final, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_fit_that_starts_in_the_middle_of_a_stage_begins_it():
    """Without a checkpoint that knows the stage, its rates must be set all the same."""
    model, backbone = classifier()
    stages = [Stage(depth=0, epochs=2, learning_rate=1e-2), Stage(depth=1, epochs=3, learning_rate=1e-3)]
    seen = []

    class Rates(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(float(keras.ops.convert_to_numpy(callbacks[0].current_rate(1))) / 1e-3)

    callbacks = [ProgressiveUnfreezing(backbone, stages, verbose=0), Rates()]
    history = fit(model, callbacks, epochs=5, initial_epoch=3).history
    assert history["stage"] == [1, 1]
    assert history["learning_rate"] == pytest.approx([1e-3, 1e-3])
    assert seen == pytest.approx([stages[1].rates(4)[0]] * 2)


def test_a_linear_stage_climbs_and_then_falls_to_zero_in_equal_steps():
    model, backbone = classifier()
    rates = []

    class Rates(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            rates.append(float(keras.ops.convert_to_numpy(callback.current_rate(0))))

    stages = [
        Stage(depth=0, epochs=2, learning_rate=1.0, warmup=2 / 3, schedule="linear"),
        Stage(depth=1, epochs=1, learning_rate=0.5),
    ]
    callback = ProgressiveUnfreezing(backbone, stages, verbose=0)
    fit(model, [callback, Rates()], epochs=3)
    # Three steps an epoch: two of warmup, then a quarter less with each of the four that are left.
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.5, 0.5, 0.5])


def test_a_cosine_ends_with_fit_where_fit_is_longer_than_the_stages():
    model, backbone = classifier(keras.optimizers.SGD(1e-2))
    steps = []

    class Moved(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.before = snapshot(self.model.weights)

        def on_epoch_end(self, epoch, logs=None):
            steps.append(not same(self.before, snapshot(self.model.weights)))

    stages = [Stage(depth=0, epochs=2, learning_rate=1e-2, schedule="cosine")]
    fit(model, [ProgressiveUnfreezing(backbone, stages, verbose=0), Moved()], epochs=4)
    assert steps == [True] * 4


def test_beside_the_callbacks_of_keras(tmp_path):
    model, backbone = classifier()
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    callbacks = [
        ProgressiveUnfreezing(backbone, [Stage(depth=0, epochs=2), Stage(depth=2, epochs=2)], verbose=0),
        keras.callbacks.EarlyStopping(patience=10, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.ReduceLROnPlateau(patience=1),
        schedule,
    ]
    if keras.backend.backend() == "tensorflow":
        callbacks.append(keras.callbacks.TensorBoard(tmp_path / "logs"))
    history = fit(model, callbacks, epochs=4, validation_data=(IMAGES, LABELS))
    assert history.history["learning_rate"][:2] == pytest.approx([0.005, 0.0025])
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5
    assert "stage" in (tmp_path / "log.csv").read_text()
    assert (
        keras.models.load_model(tmp_path / "best.keras", compile=False).count_params() == model.count_params()
    )


def test_a_compiled_schedule_is_the_base_of_all_rates():
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.5, staircase=True)
    model, backbone = classifier(keras.optimizers.Adam(schedule))
    stages = [Stage(depth=0, epochs=1), Stage(depth="all", epochs=2)]
    history = fit(model, [ProgressiveUnfreezing(backbone, stages, verbose=0)], epochs=3)
    assert history.history["learning_rate"] == pytest.approx([5e-3, 2.5e-3, 1.25e-3])  # 3 steps an epoch


@pytest.mark.parametrize(
    "options",
    [
        {"jit_compile": True},
        pytest.param(
            {"steps_per_execution": 2},
            marks=pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has it not on torch"),
        ),
        {"run_eagerly": True},
    ],
)
def test_however_the_step_is_compiled(options):
    model, backbone = classifier(**options)
    history = fit(model, [ProgressiveUnfreezing(backbone, STAGES, verbose=0)])
    assert history.history["stage"] == [0, 0, 1, 2, 2]
    assert np.isfinite(history.history["loss"]).all()


def test_under_mixed_precision_the_loss_scale_goes_on():
    keras.config.set_dtype_policy("mixed_float16")
    model, backbone = classifier()
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    compiled, kind = model.optimizer, type(model.optimizer.inner_optimizer)
    scales = []

    class Scale(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 0:
                self.model.optimizer.dynamic_scale.assign(256.0)

        def on_epoch_end(self, epoch, logs=None):
            assert type(self.model.optimizer.inner_optimizer) is kind
            scales.append(float(keras.ops.convert_to_numpy(self.model.optimizer.dynamic_scale)))

    history = fit(model, [ProgressiveUnfreezing(backbone, STAGES, verbose=0), Scale()])
    assert np.isfinite(history.history["loss"]).all()
    assert scales == [256.0] * 5
    assert model.optimizer is compiled
    assert float(keras.ops.convert_to_numpy(model.optimizer.dynamic_scale)) == 256.0


def test_a_second_fit_starts_from_the_head_again():
    model, backbone = classifier()
    callback = ProgressiveUnfreezing(backbone, STAGES, verbose=0)
    fit(model, [callback])
    assert fit(model, [callback]).history["stage"] == [0, 0, 1, 2, 2]


def test_it_says_what_trains(capsys):
    model, backbone = classifier()
    fit(model, [ProgressiveUnfreezing(backbone, STAGES)])
    printed = capsys.readouterr().out
    assert "stage 1: 2 of 4 blocks train, down to block2_conv2; 1,803 weights, learning rate 0.001" in printed
    assert json.dumps(printed).count("stage ") == 3
