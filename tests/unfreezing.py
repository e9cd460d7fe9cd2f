"""What the tests of the callback share: a task, stages for it, a classifier, a quiet `fit`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import zoo

from ktransfer.recipes.recipe import Stage

rng = np.random.default_rng(0)
IMAGES = rng.uniform(0, 255, (24, 32, 32, 3)).astype("float32")
LABELS = rng.integers(0, 3, 24)
STAGES = (
    Stage(depth=0, epochs=2, learning_rate=1e-2),
    Stage(depth=2, epochs=1, learning_rate=1e-3),
    Stage(depth="all", epochs=2, learning_rate=1e-4),
)


def classifier(optimizer=None, **options):
    backbone = zoo.vgg()
    images = keras.Input((32, 32, 3))
    features = backbone(keras.layers.Rescaling(1 / 255)(images))
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    model = keras.Model(images, keras.layers.Dense(3, name="head", dtype="float32")(pooled))
    model.compile(
        optimizer or keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    return model, backbone


def fit(model, callbacks, epochs=5, **options):
    return model.fit(IMAGES, LABELS, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks, **options)


def snapshot(variables):
    return [keras.ops.convert_to_numpy(v) for v in variables]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


class OutOfMemory(keras.callbacks.Callback):
    """As if no more than `limit` examples fitted, from a batch of an epoch on."""

    def __init__(self, limit, place=(0, 0), examples=21, error=None):
        super().__init__()
        self.limit, self.place, self.examples = limit, place, examples
        self.error = error or RuntimeError(
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 64 bytes."
        )

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        size = -(-self.examples // self.params["steps"])
        if (self.epoch, batch) >= self.place and size > self.limit:
            raise self.error


def run_eagerly(patch):
    """Compile models to run without graphs, unless a test asks for something else: tracing takes most of its time.

    With `KTRANSFER_TESTS_IN_GRAPHS` set, as a slow test of each module that calls this does, nothing is changed; nor
    on other backends.

    Args:
        patch: pytest's `monkeypatch`.
    """
    if os.environ.get("KTRANSFER_TESTS_IN_GRAPHS") or keras.backend.backend() != "tensorflow":
        return
    owner = next(kind for kind in keras.Model.__mro__ if "compile" in vars(kind))
    compile_model = owner.compile

    def compile_eagerly(self, *given, **options):
        if not {"run_eagerly", "jit_compile"} & options.keys():
            options["run_eagerly"] = True
        return compile_model(self, *given, **options)

    patch.setattr(owner, "compile", compile_eagerly)


def run_in_graphs(module):
    """Run a test module whose default is `run_eagerly` once more as Keras compiles it, in a subprocess."""
    run_under("tensorflow", module, marks="not slow", KTRANSFER_TESTS_IN_GRAPHS="1")


def run_under(backend, *modules, chosen=None, marks=None, **environment):
    """Run test modules, named without their folders, with another backend of Keras, in a subprocess."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    here = Path(__file__).parent
    files = [str(path) for module in modules for path in here.rglob(f"{module}.py")]
    assert len(files) == len(modules)
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-o",
            f"pythonpath={here}",
            *files,
        ]
        + (["-k", chosen] if chosen else [])
        + (["-m", marks] if marks else []),
        env=os.environ | {"KERAS_BACKEND": backend} | environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    assert " passed" in result.stdout
