"""Seconds from the start of a process: `ktransfer --help`, `import ktransfer`, the first training step.

python benchmarks/cold_start.py [DATA [BACKBONES]]

Each is a new process, run in turn with what a program on plain Keras does in its place; all are run once
before, so that files come from the system's cache and bytecode is there. DATA is not read.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

from harness import MOBILENET, arguments, presets, report
from measuring import medians

PLAIN_IMPORT = "import keras, keras_hub"
DATA = """
import numpy as np
images = np.random.default_rng(0).uniform(0, 255, (8, {size}, {size}, 3)).astype("float32")
labels = np.arange(8) % 5
"""
OURS = """
import ktransfer, tensorflow as tf
backbone, preprocessing = ktransfer.load_backbone({preset!r}, image_size={size})
model = ktransfer.build_classifier(backbone, 5, preprocessing)
recipe = ktransfer.Recipe(stages=(ktransfer.Stage(depth=0, epochs=1, learning_rate=1e-3),), head="train")
batches = tf.data.Dataset.from_tensors((images, labels))
ktransfer.fine_tune(model, batches, None, recipe, verbose=0)
"""
PLAIN = """
import keras, keras_hub
converter = keras_hub.layers.ImageConverter.from_preset({preset!r})
backbone = keras_hub.models.Backbone.from_preset({preset!r})
backbone.trainable = False
image = keras.Input(({size}, {size}, 3))
features = backbone(keras.layers.Rescaling(converter.scale, converter.offset)(image), training=False)
model = keras.Model(image, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(features)))
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(images, labels, batch_size=8, verbose=0)
"""


def main():
    options = arguments(__doc__).parse_args()
    (preset,) = presets(options, MOBILENET)
    size = options.image_size or (64 if options.smoke else 160)
    command = Path(sysconfig.get_path("scripts")) / "ktransfer"
    facts = {"preset": str(preset), "size": size}
    pairs = {
        "ktransfer --help, against import keras, keras_hub": ([command, "--help"], python(PLAIN_IMPORT)),
        "import ktransfer, against import keras, keras_hub": (
            python("import ktransfer"),
            python(PLAIN_IMPORT),
        ),
        "first training step, both": (
            python((DATA + OURS).format(**facts)),
            python((DATA + PLAIN).format(**facts)),
        ),
    }
    rows = []
    for what, (ours, plain) in pairs.items():
        runs = {"ours": lambda ours=ours: run(ours), "plain": lambda plain=plain: run(plain)}
        found = medians(runs, 1 if options.smoke else 5)
        rows.append(
            {
                "what": what,
                "plain_keras_seconds": found["plain"],
                "ktransfer_seconds": found["ours"],
                "ratio": found["plain"] / found["ours"],
            }
        )
    report(rows, preset=preset.name, image_size=size, batch_size=8)


def python(code):
    return [sys.executable, "-c", code]


def run(command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
