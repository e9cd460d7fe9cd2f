"""Wall time and accuracy: the two-fit recipe of the Keras guide against ktransfer's default, in one run.

python benchmarks/time_to_accuracy.py DATA PRESET [--image-size 160] [--order guide,ktransfer]

Both read the same files with the same backbone, batch size and image size, in one process, one after the
other; imports are not counted. The guide's recipe is that of keras.io/guides/transfer_learning: a frozen
backbone in inference mode, average pooling and a Dense layer, Adam 1e-3 for five epochs, then everything
unfrozen, compiled again with Adam 1e-5, two epochs.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub

from ktransfer.backbones import load_backbone
from ktransfer.jobs.train import train

BATCH = 32


def guide(data, preset, size):
    """Plain Keras, as the guide has it; preprocessing is right, by the preset's own converter."""
    keras.utils.set_random_seed(0)
    splits = [
        keras.utils.image_dataset_from_directory(
            data / split, image_size=(size, size), crop_to_aspect_ratio=True, batch_size=BATCH, verbose=False
        )
        for split in ("train", "val")
    ]
    classes = len(splits[0].class_names)
    training, validation = (split.prefetch(2) for split in splits)
    converter = keras_hub.layers.ImageConverter.from_preset(str(preset))
    backbone = keras_hub.models.Backbone.from_preset(str(preset))
    backbone.trainable = False
    images = keras.Input((size, size, 3))
    features = backbone(keras.layers.Rescaling(converter.scale, converter.offset)(images), training=False)
    outputs = keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling2D()(features))
    model = keras.Model(images, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for trainable, rate, epochs in ((False, 1e-3, 5), (True, 1e-5, 2)):
        backbone.trainable = trainable
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        history = model.fit(training, validation_data=validation, epochs=epochs, verbose=2)
    return history.history["val_accuracy"][-1]


def ktransfer_default(data, preset, size):
    out = Path(tempfile.mkdtemp()) / "run"
    run = train(data, preset, out, image_size=size, formats=(), verbose=2)
    return run.manifest["metrics"]["validation"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("preset", type=Path)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--order", default="guide,ktransfer")
    options = parser.parse_args()
    # Whatever a first use costs once in a process is paid before either is timed.
    load_backbone(str(options.preset), image_size=options.image_size)[0].predict(
        keras.ops.zeros((1, options.image_size, options.image_size, 3)), verbose=0
    )
    found = {}
    for name in options.order.split(","):
        start = time.perf_counter()
        accuracy = {"guide": guide, "ktransfer": ktransfer_default}[name](
            options.data, options.preset, options.image_size
        )
        found[name] = {"seconds": round(time.perf_counter() - start, 1), "val_accuracy": round(accuracy, 4)}
    found["ratio"] = round(found["guide"]["seconds"] / found["ktransfer"]["seconds"], 2)
    found["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, {keras.backend.backend()}"
    print(json.dumps({"preset": options.preset.name, "image_size": options.image_size, **found}))


if __name__ == "__main__":
    main()
