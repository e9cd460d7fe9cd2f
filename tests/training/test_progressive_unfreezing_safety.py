"""What the callback promises in other people's `fit`: nothing damaged, nothing left behind, nothing passed over."""

import contextlib
import copy
import itertools
import pickle
import subprocess
import sys
import textwrap
import types
import warnings

import keras
import numpy as np
import pytest
import text_zoo
import zoo
from unfreezing import IMAGES, LABELS, STAGES, classifier, fit, run_eagerly, run_in_graphs, same, snapshot

from ktransfer.errors import BackboneError, RecipeError
from ktransfer.models.blocks import find_blocks
from ktransfer.recipes.recipe import Stage
from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing

TWO = [Stage(depth=0, epochs=1, learning_rate=1e-2), Stage(depth="all", epochs=1, learning_rate=1e-3)]
VALIDATION = (IMAGES, LABELS)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

# Traced as Keras does by itself; the others without graphs, and with them among the slow tests.
IN_GRAPHS = (
    "test_two_callbacks_unfreeze_two_towers",
    "test_a_callback_that_trains_in_between",
    "test_swap_ema_weights",
    "test_a_train_step_under_a_tf_function",
)


@pytest.fixture(autouse=True)
def _eagerly(request, monkeypatch):
    if not request.node.name.startswith(IN_GRAPHS):
        run_eagerly(monkeypatch)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs are of TensorFlow")
def test_all_of_it_in_graphs():
    run_in_graphs("test_progressive_unfreezing_safety")


class Stop(keras.callbacks.Callback):
    """Raises as Ctrl-C in a notebook does."""

    def __init__(self, hook, place, error=KeyboardInterrupt):
        super().__init__()
        self.place, self.error = place, error
        setattr(self, hook, self.stop)

    def stop(self, number, logs=None):
        if number == self.place:
            raise self.error


def plain_classifier(optimizer):
    inputs, images = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    x = inputs
    for index in range(2):
        x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name=f"conv{index}")(x)
    backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x), name="backbone")
    x = keras.layers.Rescaling(1 / 255)(images)
    model = keras.Model(images, keras.layers.Dense(3, name="head")(backbone(x)))
    model.compile(optimizer, LOSS, metrics=["accuracy"])
    return model, backbone


def two_towers(trained="one"):
    """Two sub-models of one architecture, whose variables have equal paths."""
    one, other = zoo.vgg(), zoo.vgg()
    other.name = "other"
    left, right = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    pool = keras.layers.GlobalAveragePooling2D()
    x = keras.layers.Concatenate()([pool(one(left)), pool(other(right))])
    model = keras.Model([left, right], keras.layers.Dense(3, name="head")(x))
    assert {v.path for v in one.weights} == {v.path for v in other.weights}
    return model, one, other


def fit_towers(model, callbacks, epochs=2, **options):
    model.compile(keras.optimizers.Adam(1e-2), LOSS)
    x = [IMAGES, IMAGES[::-1].copy()]
    return model.fit(
        x,
        LABELS,
        validation_data=(x, LABELS),
        batch_size=8,
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
        **options,
    )


# Variables are told apart by identity.


def test_best_weights_of_one_tower_do_not_come_from_its_twin():
    model, one, other = two_towers()
    other.trainable = False
    before, twin = snapshot(one.weights), snapshot(other.weights)
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(snapshot(one.weights))
    )
    fit_towers(model, [ProgressiveUnfreezing(one, TWO, verbose=0), watch])
    assert same(snapshot(other.weights), twin)
    assert same(before, seen[1])  # frozen in stage 0
    assert not same(snapshot(one.weights), twin)


def test_two_callbacks_unfreeze_two_towers_by_plans_of_their_own():
    model, one, other = two_towers()
    plans = [
        [Stage(depth=0, epochs=1, learning_rate=1e-2), Stage(depth="all", epochs=3, learning_rate=1e-3)],
        [Stage(depth=0, epochs=3, learning_rate=1e-2), Stage(depth=1, epochs=1, learning_rate=1e-4)],
    ]
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append((snapshot(one.weights), snapshot(other.weights)))
    )
    callbacks = [
        ProgressiveUnfreezing(tower, plan, verbose=0) for tower, plan in zip((one, other), plans, strict=True)
    ]
    history = fit_towers(model, [*callbacks, watch], epochs=4).history
    seen.append((snapshot(one.weights), snapshot(other.weights)))
    moved = [[not same(a, b) for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(seen)]
    assert [row[0] for row in moved[:3]] == [False, True, True]
    assert [row[1] for row in moved[:3]] == [False, False, False]
    assert history["stage"] == [0, 1, 1, 1]
    assert history["stage_other"] == [0, 0, 0, 1]
    assert type(model.optimizer) is type(keras.optimizers.Adam())


def test_one_backbone_in_two_callbacks_is_refused():
    model, backbone = classifier()
    callbacks = [ProgressiveUnfreezing(backbone, STAGES, verbose=0) for _ in range(2)]
    with pytest.raises(RecipeError, match="in two"):
        fit(model, callbacks)
    assert_untouched(model, backbone)


# A refused fit changes nothing.


def assert_untouched(model, backbone):
    optimizer = model.optimizer
    assert not [name for name in vars(optimizer) if "unfreezing" in name or name.endswith("own_variables")]
    assert not any(
        callable(value) and "ktransfer" in (getattr(value, "__module__", "") or "")
        for value in vars(optimizer).values()
    )
    before = snapshot(backbone.weights)
    fit(model, [], epochs=1)
    assert same(before, snapshot(backbone.weights)) == (not backbone.trainable)


REFUSED = {
    "epochs": ({}, {"epochs": 3}),
    "depth": ({"stages": [Stage(depth=9, epochs=5)]}, {}),
    "name": ({"backbone": "nowhere"}, {}),
    "direction": ({"monitor": "val_fortune"}, {}),
    "other": ({"backbone": None}, {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_fit_leaves_model_and_optimizer_as_they_were(case):
    arguments, options = REFUSED[case]
    model, backbone = classifier()
    backbone.trainable = False
    model.compile(keras.optimizers.Adam(1e-2), LOSS, metrics=["accuracy"])
    optimizer = model.optimizer
    given = {"backbone": backbone, "stages": STAGES, "verbose": 0, **arguments}
    if case == "other":
        given["backbone"] = zoo.resnet()
    with pytest.raises((RecipeError, BackboneError)):
        fit(model, [ProgressiveUnfreezing(**given)], validation_data=VALIDATION, **options)
    assert model.optimizer is optimizer
    assert not backbone.trainable
    assert_untouched(model, backbone)


# Any exit leaves a model that is plain.


@pytest.mark.parametrize(
    ("hook", "place", "error"),
    [
        ("on_epoch_begin", 1, KeyboardInterrupt),
        ("on_train_batch_end", 1, KeyboardInterrupt),
        ("on_epoch_end", 3, ValueError),
        ("on_test_batch_end", 0, KeyboardInterrupt),
    ],
)
def test_an_interrupted_fit_leaves_a_plain_optimizer_and_a_plain_fit(hook, place, error, tmp_path):
    # Of Keras' own layers: a keras-hub backbone is saved without what is frozen in it.
    model, backbone = plain_classifier(keras.optimizers.SGD(1e-2, momentum=0.9))
    optimizer, kind = model.optimizer, type(model.optimizer)
    stages = [Stage(depth=0, epochs=2, learning_rate=1e-2), Stage(depth="all", epochs=3, learning_rate=1e-3)]
    options = {"validation_data": VALIDATION} if hook == "on_test_batch_end" else {}
    with pytest.raises(error):
        fit(model, [ProgressiveUnfreezing(backbone, stages, verbose=0), Stop(hook, place, error)], **options)
    assert model.optimizer is optimizer
    assert type(optimizer) is kind
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.models.load_model(path)
    assert type(again.optimizer) is kind
    for one in (model, again):  # a plain fit of each trains alike
        one.optimizer.learning_rate = 1e-2
        keras.utils.set_random_seed(0)
        fit(one, [], epochs=1, shuffle=False)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_allclose(snapshot([one])[0], snapshot([other])[0], atol=1e-6)


def test_after_an_interrupt_the_callback_runs_again_from_the_head():
    model, backbone = classifier()
    callback = ProgressiveUnfreezing(backbone, STAGES, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        fit(model, [callback, Stop("on_epoch_begin", 4)])
    assert fit(model, [callback]).history["stage"] == [0, 0, 1, 2, 2]


# Checkpoints.

LOADING = """
import sys
sys.modules["ktransfer"] = None  # as where it is not installed
import keras, numpy as np, glob
x, y = np.zeros((4, 32, 32, 3), "float32"), np.zeros(4, "int64")
# Loading an .h5 file changes how Keras 3.15 loads others in that process.
files = sorted(glob.glob(sys.argv[1] + "/*"), key=lambda path: (path.endswith(".h5"), path))
for path in files:
    for compiled in (True, False):
        model = keras.models.load_model(path, compile=compiled)
        if compiled:
            assert type(model.optimizer).__name__ == "Adam", path
            if path.endswith(".h5"):  # Keras 3.15 builds the optimizer of any .h5 on no variables
                model.compile(model.optimizer.from_config(model.optimizer.get_config()), model.loss)
            model.run_eagerly = True  # without a graph for each file
            model.fit(x, y, verbose=0)
        model.predict(x, verbose=0)
print("loaded", len(files))
"""


def mlp_head(optimizer):
    """The popular Dense and Dense head: four variables that train in stage 0."""
    backbone = zoo.vgg()
    images = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(images))
    x = keras.layers.Dense(4, activation="relu")(x)
    model = keras.Model(images, keras.layers.Dense(3)(x))
    model.compile(optimizer, LOSS, metrics=["accuracy"])
    return model, backbone


@pytest.mark.slow
@pytest.mark.parametrize("make", [plain_classifier, classifier, mlp_head])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_checkpoints_of_any_moment_load_without_ktransfer(make, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    model, backbone = make(keras.optimizers.Adam(1e-2))
    callbacks = [
        ProgressiveUnfreezing(backbone, TWO, verbose=0),
        keras.callbacks.ModelCheckpoint(str(folder / "{epoch}-{batch}.keras"), save_freq=2),
        keras.callbacks.ModelCheckpoint(str(folder / "{epoch}.keras")),
    ]
    fit(model, callbacks, epochs=2, validation_data=VALIDATION)
    model.save(folder / "end.keras")
    # On its own: saving an .h5 file takes the optimizer out of what Keras 3.15 saves of the model later.
    model, backbone = make(keras.optimizers.Adam(1e-2))
    save = keras.callbacks.ModelCheckpoint(str(folder / "{epoch}.h5"))
    fit(model, [ProgressiveUnfreezing(backbone, TWO, verbose=0), save], epochs=2)
    done = subprocess.run([sys.executable, "-c", LOADING, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "loaded" in done.stdout
    assert len(list(folder.iterdir())) >= 7


def test_a_finished_model_has_nothing_of_ours(tmp_path):
    import zipfile

    model, backbone = classifier()
    fit(model, [ProgressiveUnfreezing(backbone, TWO, verbose=0)], epochs=2)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        text = archive.read("config.json") + archive.read("model.weights.h5")
    assert b"unfreezing" not in text
    assert b"ktransfer" not in text


@pytest.mark.spread(1)
@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("Adam", "ours"),
        ("Nadam", "theirs"),
        *(
            pytest.param(name, first, marks=pytest.mark.slow)
            for name, first in itertools.product(["Adam", "Nadam", "RMSprop", "Lion"], ["ours", "theirs"])
            if (name, first) not in (("Adam", "ours"), ("Nadam", "theirs"))
        ),
    ],
)
def test_backup_and_restore_is_exact_in_any_stage(name, first, tmp_path):
    def run(stop, folder, weights=None):
        model, backbone = classifier(getattr(keras.optimizers, name)(1e-3))
        if weights is not None:
            model.set_weights(weights)
        start = snapshot(model.weights)
        stages = [
            Stage(depth=0, epochs=1, learning_rate=1e-2, warmup=1),
            Stage(depth=2, epochs=2, learning_rate=1e-3, warmup=1, schedule="cosine"),
            Stage(depth="all", epochs=2, learning_rate=1e-4, schedule="linear"),
        ]
        callbacks = [
            ProgressiveUnfreezing(backbone, stages, verbose=0),
            keras.callbacks.BackupAndRestore(folder),
        ]
        callbacks = [*callbacks[:: 1 if first == "ours" else -1], Stop("on_epoch_begin", stop)]
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*kipping variable loading")
            with contextlib.suppress(KeyboardInterrupt):
                fit(model, callbacks, shuffle=False)
        return start, snapshot(model.weights)

    start, expected = run(None, tmp_path / "whole")
    for stop in (2, 3, 4):  # within a stage, at a stage's start, within the last one
        run(stop, tmp_path / f"{stop}", start)
        _, found = run(None, tmp_path / f"{stop}", start)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6, err_msg=f"stopped at {stop}")


# The moving averages of weights.


def test_with_ema_and_validation_the_final_weights_are_averages():
    model, backbone = classifier(keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.8))
    fit(model, [ProgressiveUnfreezing(backbone, TWO, verbose=0)], epochs=2, validation_data=VALIDATION)
    averages = model.optimizer._model_variables_moving_average
    assert len(averages) == len(model.trainable_variables)
    assert same(snapshot(model.trainable_variables), snapshot(averages))


def test_swap_ema_weights_evaluates_and_saves_averages(tmp_path):
    model, backbone = classifier(keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.8))
    callbacks = [
        ProgressiveUnfreezing(backbone, STAGES, verbose=0),
        keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
    ]
    history = fit(model, callbacks, validation_data=VALIDATION).history
    assert np.isfinite(history["val_loss"]).all()


# What the user froze stays frozen.


def test_layers_that_the_user_froze_stay_frozen_and_are_named(capsys):
    model, backbone = classifier()
    first = backbone.get_layer("block1_conv1")
    first.trainable = False
    model.compile(keras.optimizers.Adam(1e-2), LOSS)
    before = snapshot(first.weights)
    fit(model, [ProgressiveUnfreezing(backbone, TWO)], epochs=2)
    assert same(before, snapshot(first.weights))
    assert not first.trainable
    assert "block1_conv1" in capsys.readouterr().out


def test_a_wholly_frozen_backbone_is_unfrozen_by_the_stages():
    model, backbone = classifier()
    backbone.trainable = False
    model.compile(keras.optimizers.Adam(1e-2), LOSS)
    before = snapshot(backbone.weights)
    fit(model, [ProgressiveUnfreezing(backbone, TWO, verbose=0)], epochs=2)
    assert not any(np.array_equal(a, b) for a, b in zip(before, snapshot(backbone.weights), strict=True))


def test_a_second_fit_unfreezes_what_the_first_one_left_frozen():
    model, backbone = classifier()
    fit(model, [ProgressiveUnfreezing(backbone, [Stage(depth=1, epochs=1)], verbose=0)], epochs=1)
    before = snapshot(backbone.weights)
    fit(model, [ProgressiveUnfreezing(backbone, TWO, verbose=0)], epochs=2)
    assert not any(np.array_equal(a, b) for a, b in zip(before, snapshot(backbone.weights), strict=True))


@pytest.mark.parametrize("frozen", [False, True])
def test_of_a_backbone_with_lora_only_the_adapters_move(frozen):
    backbone = text_zoo.backbone_of("Bert", len(text_zoo.PIECES))
    backbone.enable_lora(2)
    if frozen:
        backbone.trainable = False
    ids = {
        name: keras.Input((8,), dtype="int32", name=name)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    model = keras.Model(ids, keras.layers.Dense(3)(backbone(ids)["pooled_output"]))
    model.compile(keras.optimizers.Adam(1e-2), LOSS)
    adapters = {id(v) for v in backbone.weights if "lora_" in v.name}
    trainable = {id(v) for v in backbone.trainable_weights}  # adapters, and biases next to them
    before = snapshot(backbone.weights)
    x = {name: np.ones((24, 8), "int32") for name in ids}
    stages = [Stage(depth=0, epochs=1), Stage(depth="all", epochs=2)]
    model.fit(
        x,
        LABELS,
        epochs=3,
        verbose=0,
        validation_data=(x, LABELS),
        callbacks=[ProgressiveUnfreezing(backbone, stages, restore_best_weights=False, verbose=0)],
    )
    moved = {
        id(v): not np.array_equal(a, b)
        for v, a, b in zip(backbone.weights, before, snapshot(backbone.weights), strict=True)
    }
    assert any(moved[key] for key in adapters)
    if not frozen:
        assert not any(moved[key] for key in moved if key not in trainable)
    held = [
        getattr(layer, "_kernel", None)
        for layer in backbone._flatten_layers()
        if hasattr(layer, "lora_kernel_a")
    ]
    kernels = [v for v in backbone.weights if any(v is kernel for kernel in held)]
    assert kernels
    assert not any(moved[id(v)] for v in kernels)


# The direction of a metric.


@pytest.mark.parametrize(
    ("metric", "monitor", "rises"),
    [
        (keras.metrics.SparseCategoricalAccuracy(name="acc"), "val_acc", True),
        (keras.metrics.SparseTopKCategoricalAccuracy(k=1, name="best"), "val_best", True),
        (keras.metrics.SparseCategoricalCrossentropy(name="nats", from_logits=True), "val_nats", False),
        (keras.metrics.SparseCategoricalAccuracy(name="f1"), "val_f1", True),
        (None, "val_loss", False),
        (None, "loss", False),
    ],
)
def test_the_metric_is_asked_for_its_direction(metric, monitor, rises, capsys):
    model, backbone = classifier()
    model.compile(keras.optimizers.Adam(1e-2), LOSS, metrics=[metric] if metric else [])
    callback = ProgressiveUnfreezing(backbone, TWO, monitor=monitor)
    history = fit(model, [callback], epochs=2, validation_data=VALIDATION).history[monitor]
    assert callback.best == (max if rises else min)(history)
    if monitor != "val_loss":
        assert f"{monitor}: {'higher' if rises else 'lower'} is better" in capsys.readouterr().out


@pytest.mark.spread(4)
@pytest.mark.parametrize(
    ("name", "rises"),
    [
        *(
            ("val_f1", True),
            ("val_f1_score", True),
            ("val_macro_f1", True),
            ("val_mAP", True),
            ("val_r2", True),
        ),
        *(("val_precision_1", True), ("val_recall", True), ("val_mean_iou", True), ("val_dice", True)),
        *(("val_mae", False), ("val_head_loss", False), ("val_perplexity", False), ("val_rmse", False)),
        ("val_mean_squared_error", False),
    ],
)
def test_usual_names_have_a_direction_where_another_callback_reports_them(name, rises):
    model, backbone = classifier()
    values = iter([0.5, 0.9, 0.1])
    report = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update({name: next(values)})
    )
    callback = ProgressiveUnfreezing(backbone, [Stage(depth=0, epochs=3)], monitor=name, verbose=0)
    fit(model, [report, callback], epochs=3)
    assert callback.best == (0.9 if rises else 0.1)


def test_a_direction_that_cannot_be_known_is_refused_before_a_step():
    model, backbone = classifier()
    with pytest.raises(RecipeError, match='mode="max" or mode="min"'):
        fit(model, [ProgressiveUnfreezing(backbone, TWO, monitor="val_fortune", verbose=0)], epochs=2)
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 0


# Data without a length, learning rates.


def test_a_generator_and_the_default_plan_need_no_length():
    model, backbone = classifier()

    def generator():
        for _ in range(100):
            yield IMAGES[:8], LABELS[:8]

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*ran out of data")
        history = model.fit(
            generator(),
            epochs=3,
            steps_per_epoch=3,
            verbose=0,
            callbacks=[ProgressiveUnfreezing(backbone, verbose=0)],
        )
    assert history.history["stage"] == [0, 1, 2]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="tf.data")
def test_a_filtered_dataset_and_the_default_plan_need_no_length():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).filter(lambda x, y: y < 3).batch(8)
    assert int(data.cardinality()) < 0
    model, backbone = classifier()
    history = model.fit(data, epochs=6, verbose=0, callbacks=[ProgressiveUnfreezing(backbone, verbose=0)])
    assert history.history["stage"] == [0, 0, 1, 1, 2, 2]


def test_the_default_plan_lowers_the_compiled_learning_rate():
    model, backbone = classifier(keras.optimizers.Adam(1e-2))
    history = fit(model, [ProgressiveUnfreezing(backbone, verbose=0)], epochs=12).history
    ends = [history["learning_rate"][index] for index in (3, 7, 11)]
    assert ends == pytest.approx([1e-2, 1e-3, 3e-4])


def test_the_default_plan_lowers_a_compiled_schedule_too():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([10**6], [1e-2, 1e-2])
    model, backbone = classifier(keras.optimizers.Adam(schedule))
    history = fit(model, [ProgressiveUnfreezing(backbone, verbose=0)], epochs=12).history
    assert [history["learning_rate"][index] for index in (3, 7, 11)] == pytest.approx([1e-2, 1e-3, 3e-4])


# What would pass in silence is said.


def test_a_fit_that_ends_before_the_backbone_is_unfrozen_says_so():
    model, backbone = classifier()
    stop = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1)
    with pytest.warns(UserWarning, match="never unfrozen"):
        fit(model, [ProgressiveUnfreezing(backbone, STAGES, verbose=0), stop])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.function")
def test_a_train_step_under_a_tf_function_of_ones_own_is_said():
    tf = pytest.importorskip("tensorflow")

    class Own(keras.Model):
        @tf.function
        def train_step(self, data):
            return super().train_step(data)

    model, backbone = classifier()
    own = Own(model.inputs, model.outputs)
    own.compile(keras.optimizers.Adam(1e-2), LOSS)
    with pytest.warns(UserWarning, match="tf.function"):
        fit(own, [ProgressiveUnfreezing(backbone, TWO, verbose=0)], epochs=2)


def test_a_callback_in_evaluate_and_predict_does_nothing():
    model, backbone = classifier()
    names = set(vars(model.optimizer))
    callback = ProgressiveUnfreezing(backbone, STAGES, verbose=0)
    model.evaluate(IMAGES, LABELS, verbose=0, callbacks=[callback])
    model.predict(IMAGES, verbose=0, callbacks=[callback])
    assert set(vars(model.optimizer)) == names


def test_a_list_of_callbacks_made_by_hand_without_epochs():
    model, backbone = classifier()
    made = keras.callbacks.CallbackList([ProgressiveUnfreezing(backbone, STAGES, verbose=0)], model=model)
    made.on_train_begin()
    made.on_epoch_begin(0)
    assert not backbone.trainable_variables
    with pytest.raises(RecipeError, match="epochs"):
        keras.callbacks.CallbackList([ProgressiveUnfreezing(backbone)], model=model).on_train_begin()


# Messages name the true cause.


def test_a_model_of_keras_2_is_named():
    other = types.ModuleType("tf_keras")
    functional = type("Functional", (), {"__module__": "tf_keras.src.engine.functional"})
    model, _ = classifier()
    with pytest.raises(BackboneError, match="tf_keras"):
        fit(model, [ProgressiveUnfreezing(functional(), STAGES)])
    assert other


@pytest.mark.parametrize("what", ["model", "head"])
def test_what_is_frozen_as_a_whole_is_named(what):
    model, backbone = classifier()
    (model if what == "model" else model.get_layer("head")).trainable = False
    model.compile(keras.optimizers.Adam(1e-2), LOSS)
    match = "trainable=False, which freezes the head" if what == "model" else "'head/kernel' and all other"
    with pytest.raises(BackboneError, match=match):
        fit(model, [ProgressiveUnfreezing(backbone, STAGES)])


def test_a_causal_language_model_has_no_head_but_trains_by_depth():
    backbone = text_zoo.backbone_of("GPT2", 20)
    model = text_zoo.models.GPT2CausalLM(backbone, preprocessor=None)
    x = {"token_ids": np.ones((8, 6), "int32"), "padding_mask": np.ones((8, 6), "bool")}
    model.compile(keras.optimizers.Adam(1e-2), LOSS)
    with pytest.raises(BackboneError, match="depth 1 or more"):
        model.fit(x, np.ones((8, 6)), epochs=2, verbose=0, callbacks=[ProgressiveUnfreezing(backbone, TWO)])
    stages = [Stage(depth=1, epochs=1), Stage(depth="all", epochs=1)]
    history = model.fit(
        x,
        np.ones((8, 6)),
        epochs=2,
        verbose=0,
        callbacks=[ProgressiveUnfreezing(backbone, stages, verbose=0)],
    )
    assert history.history["stage"] == [0, 1]


def test_a_backbone_object_of_another_model_is_found_by_its_name(capsys):
    """K-fold and keras_tuner: the callback is made once, the model anew; or the callback is copied with it."""
    old = zoo.vgg()
    model, backbone = classifier()
    old.name = backbone.name
    history = fit(model, [ProgressiveUnfreezing(old, STAGES)])
    assert history.history["stage"] == [0, 0, 1, 2, 2]
    assert "another object; using the model's layer of that name" in capsys.readouterr().out


def test_one_callback_serves_one_model_after_another():
    model, backbone = classifier()
    callback = ProgressiveUnfreezing(backbone.name, STAGES, verbose=0)
    for each in (model, classifier()[0]):
        each.layers[2].name = backbone.name
        assert fit(each, [callback]).history["stage"] == [0, 0, 1, 2, 2]


def test_the_callback_can_be_pickled_and_copied():
    model, backbone = classifier()
    callback = ProgressiveUnfreezing(backbone.name, STAGES, monitor="val_accuracy", verbose=0)
    fit(model, [callback])
    for again in (pickle.loads(pickle.dumps(callback)), copy.deepcopy(callback)):
        assert again.stages == callback.stages
        assert fit(model, [again]).history["stage"] == [0, 0, 1, 2, 2]


def test_a_backbone_without_weights_is_named():
    model, _ = classifier()
    with pytest.raises(BackboneError, match="weights"):
        fit(model, [ProgressiveUnfreezing([model.layers[1]], STAGES)])


def test_a_layer_name_close_to_one_is_suggested():
    model, backbone = classifier()
    backbone.name = "my_backbone"
    with pytest.raises(BackboneError, match="Did you mean my_backbone"):
        fit(model, [ProgressiveUnfreezing("my_bakbone", STAGES)])


def test_an_unbuilt_backbone_is_named():
    inner = keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()], name="cnn")
    model = keras.Sequential([inner, keras.layers.Dense(3)])
    model.compile("adam", LOSS)
    if keras.backend.backend() == "tensorflow":  # the others build a model before fit's callbacks
        with pytest.raises(BackboneError, match="not built"):
            fit(model, [ProgressiveUnfreezing(inner, TWO)], epochs=2)
    model(IMAGES[:1])
    assert fit(model, [ProgressiveUnfreezing(inner, TWO, verbose=0)], epochs=2).history["stage"] == [0, 1]


def test_weights_that_the_first_batch_makes_are_not_counted_as_none(capsys):
    layers = [keras.layers.Rescaling(1.0), zoo.vgg(), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([*layers, keras.layers.Dense(3, name="out")])
    model.compile("adam", LOSS)
    fit(model, [ProgressiveUnfreezing(layers[1], TWO)], epochs=2)
    printed = capsys.readouterr().out
    if keras.backend.backend() == "tensorflow":  # the others build a model before fit's callbacks
        assert "blocks train; 0 weights and those that the first batch makes, of" in printed
        assert "out, learning rate" in printed
    assert "stage 1: 4 of 4 blocks train, down to block1_conv1; " in printed
    assert printed.count("first batch makes") <= 1


def test_blocks_of_a_list_of_layers_are_those_of_the_graph():
    from ktransfer.models.locate import locate

    backbone = zoo.vgg()
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(3)(pooled))
    expected = [block.name for block in find_blocks(backbone)]
    assert [block.name for block in locate(model, backbone).blocks] == expected
    assert [block.name for block in locate(model, model.layers[:-1]).blocks] == expected
    upper = locate(model, ("block2_conv1", "block3_conv1"))
    assert [block.name for block in upper.blocks] == expected[:3]


DISTRIBUTED = textwrap.dedent("""
    import sys
    sys.path[:0] = [{tests!r}]
    import keras, jax
    assert len(jax.devices()) == 2
    from unfreezing import IMAGES, LABELS, STAGES, classifier, fit
    from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh((1, 2), ("batch", "model"), devices)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*head.*kernel"] = (None, None)
    layout[".*conv.*kernel"] = (None, None, None, "model")
    for distribution in (
        keras.distribution.DataParallel(devices=devices),
        keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch"),
    ):
        keras.distribution.set_distribution(distribution)
        model, backbone = classifier()
        unfreezing = ProgressiveUnfreezing(backbone, STAGES, verbose=0)
        history = fit(model, [unfreezing], validation_data=(IMAGES, LABELS))
        model.predict(IMAGES, verbose=0)
        print(type(distribution).__name__, history.history["stage"])
""")


@pytest.mark.slow
def test_jax_distributions_with_validation():
    import os
    from pathlib import Path

    pytest.importorskip("jax")
    script = DISTRIBUTED.format(tests=str(Path(__file__).parents[1]))
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": flags}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    expected = [f"{name} [0, 0, 1, 2, 2]" for name in ("DataParallel", "ModelParallel")]
    assert done.stdout.splitlines()[-2:] == expected, done.stderr[-3000:]


def test_a_callback_that_trains_in_between_does_not_undo_the_stage():
    model, backbone = classifier(keras.optimizers.SGD(1e-2))
    rates = []

    class Between(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.train_on_batch(IMAGES[:8], LABELS[:8])

        def on_train_batch_end(self, batch, logs=None):
            rates.append(callback._fit.model.train_function is callback._fit._wrapped)

    callback = ProgressiveUnfreezing(backbone, TWO, verbose=0)
    fit(model, [callback, Between()], epochs=2)
    assert all(rates)


def test_stages_that_are_longer_than_fit_are_said():
    model, backbone = classifier()
    stages = [Stage(depth=0, epochs=1), Stage(depth=1, epochs=3)]
    with pytest.warns(UserWarning, match="2 epochs and the stages 4"):
        fit(model, [ProgressiveUnfreezing(backbone, stages, verbose=0)], epochs=2)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda callback: pickle.loads(pickle.dumps(callback))])
def test_a_copied_callback_finds_the_backbone_of_the_model(copied):
    """As keras_tuner copies callbacks for each trial, and others send them to processes."""
    model, backbone = classifier()
    again = copied(ProgressiveUnfreezing(backbone, STAGES, verbose=0))
    assert fit(model, [again]).history["stage"] == [0, 0, 1, 2, 2]
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(3)(pooled))
    model.compile(keras.optimizers.Adam(1e-2), LOSS)
    again = copied(ProgressiveUnfreezing(backbone, STAGES, verbose=0))
    assert fit(model, [again]).history["stage"] == [0, 0, 1, 2, 2]
