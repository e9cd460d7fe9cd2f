"""ProgressiveUnfreezing where the process has to be set up before Keras starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ktransfer.errors import RecipeError
from ktransfer.training.distribution import batch_of_all

HERE = Path(__file__).parents[1]

MIRRORED = """
import json, sys
sys.path.insert(0, {here!r})
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np, zoo
from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing
from ktransfer.recipes.recipe import Stage

def fit(strategy):
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).uniform(0, 1, (16, 32, 32, 3)).astype("float32")
    labels = np.arange(16) % 3
    with strategy.scope():
        backbone = zoo.vgg()
        inputs = keras.Input((32, 32, 3))
        pooled = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
        model = keras.Model(inputs, keras.layers.Dense(3)(pooled))
        model.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    stages = [Stage(depth=0, epochs=2), Stage(depth="all", epochs=2, learning_rate=0.05, warmup=1)]
    history = model.fit(
        tf.data.Dataset.from_tensor_slices((images, labels)).batch(8), epochs=4, verbose=0,
        callbacks=[ProgressiveUnfreezing(backbone, stages, verbose=0)],
    )
    return history.history

both = fit(tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]))
one = fit(tf.distribute.get_strategy())
print(json.dumps([both, one]))
"""


def test_two_replicas_train_as_one_does_through_every_stage():
    script = MIRRORED.format(here=str(HERE))
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    both, one = json.loads(output.splitlines()[-1])
    assert both["stage"] == [0, 0, 1, 1]
    assert both["loss"] == pytest.approx(one["loss"], rel=1e-4)
    assert len(set(both["loss"])) == 4


@pytest.mark.slow
def test_the_callback_and_its_optimizer_hold_under_jax():
    """The same tests, on the other backend; a selection, since each is compiled anew."""
    chosen = (
        "golden or first_step or survives_a_thaw or best_weights or interrupted or mixed or test_layerwise_optimizer"
        " or weights_are_those"
    )
    files = [
        HERE / "training" / f"{name}.py"
        for name in ("test_progressive_unfreezing", "test_layerwise_optimizer", "test_fine_tune_cached")
    ]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", chosen],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    assert " passed" in result.stdout


def test_the_batch_of_all_devices_is_refused_where_another_is_asked_for():
    assert batch_of_all(16, 16)[0] == 16
    with pytest.raises(
        RecipeError, match=r"Expected --batch-size 16, which is 16 on each of 1 devices, got 32\."
    ):
        batch_of_all(16, 32)
