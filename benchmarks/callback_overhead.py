"""Measure the overhead of ProgressiveUnfreezing for a step of `fit` on a small CNN, and for recompiling a stage.

python benchmarks/callback_overhead.py [DATA [BACKBONES]]

Plain `fit` and `fit` with the callback take turns, epoch by epoch of equal steps, on TensorFlow and on JAX, each in a
subprocess; both train all weights with Adam. The step is that of an epoch in the middle of a stage. The seconds
for compiling are those of a stage's first epoch beyond that, in either. DATA and BACKBONES are not read.
"""

import json
import os
import statistics
import subprocess
import sys

from harness import arguments, report

CHILD = """
import json, statistics, sys, time
import keras, numpy as np
import ktransfer

rounds, steps = map(int, sys.argv[1:])
BATCH = 32
rng = np.random.default_rng(0)
images = rng.uniform(0, 1, (steps * BATCH, 32, 32, 3)).astype("float32")
labels = rng.integers(0, 10, steps * BATCH)

def build():
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for filters in (16, 32, 64):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling2D()(x)
    backbone = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x), name="cnn")
    model = keras.Model(inputs, keras.layers.Dense(10)(backbone(inputs)))
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, backbone

class Seconds(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs = []
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            self.start = time.perf_counter()
    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(time.perf_counter() - self.start)

def fit(ours, epochs=4):
    model, backbone = build()
    seconds = Seconds()
    callbacks = [seconds]
    if ours:
        stage = ktransfer.Stage(depth="all", epochs=epochs, learning_rate=1e-3, warmup=0.5, schedule="cosine")
        callbacks.append(ktransfer.ProgressiveUnfreezing(backbone, [stage], verbose=0))
    model.fit(images, labels, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    step = min(seconds.epochs[1:]) / steps
    return step, seconds.epochs[0] - step * steps

found = {False: [], True: []}
fit(False), fit(True)
for _ in range(rounds):
    for ours in found:
        found[ours].append(fit(ours))
print(json.dumps({"plain": found[False], "ours": found[True]}))
"""


def main():
    options = arguments(__doc__).parse_args()
    rounds, steps = (1, 5) if options.smoke else (9, 150)
    rows = []
    for backend in ("tensorflow", "jax"):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(rounds), str(steps)],
            env=os.environ | {"KERAS_BACKEND": backend},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        pairs = list(zip(found["plain"], found["ours"], strict=True))
        ratios = [ours[0] / plain[0] for plain, ours in pairs]
        rows.append(
            {
                "backend": backend,
                "plain_step_milliseconds": 1000 * statistics.median(plain[0] for plain, _ in pairs),
                "ktransfer_step_milliseconds": 1000 * statistics.median(ours[0] for _, ours in pairs),
                "ratio": statistics.median(ratios),
                "deviation": statistics.pstdev(ratios),
                "plain_compile_seconds": statistics.median(plain[1] for plain, _ in pairs),
                "ktransfer_compile_seconds": statistics.median(ours[1] for _, ours in pairs),
            }
        )
    report(rows, rounds=rounds, steps=steps, batch_size=32)


if __name__ == "__main__":
    main()
