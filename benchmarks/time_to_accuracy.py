"""Wall time and accuracy: the two-fit recipe of the Keras guide against ktransfer's fast preset, in one run.

python benchmarks/time_to_accuracy.py [DATA [BACKBONES]] [--image-size 160] [--order guide,ktransfer]

Both read the same files with the same backbone, batch size and image size, one after the other, each in a
subprocess, so that neither pays for what the other left behind; imports are not counted, and
ktransfer begins with an empty cache. The guide's recipe is that of keras.io/guides/transfer_learning: a
frozen backbone in inference mode, average pooling and a Dense layer, Adam 1e-3 for five epochs, then
everything unfrozen, compiled again with Adam 1e-5, two epochs. The target is a validation accuracy; the
seconds to it are those until a validated model has it, and all of them where none does.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import MOBILENET, RESNET, arguments, data_folder, note, presets, report

BATCH, TARGET = 32, 0.86
COLUMNS = (
    *("preset", "guide_seconds", "ktransfer_seconds", "ratio", "guide_accuracy", "ktransfer_accuracy"),
    *("guide_to_target", "ktransfer_to_target", "ratio_to_target"),
)


def guide(data, preset, size, reached):
    """Plain Keras, as the guide has it; preprocessing is right, by the preset's own converter."""
    import keras
    import keras_hub

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
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: reached(logs["val_accuracy"]))
    for trainable, rate, epochs in ((False, 1e-3, 5), (True, 1e-5, 2)):
        backbone.trainable = trainable
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        history = model.fit(training, validation_data=validation, epochs=epochs, callbacks=[watch], verbose=0)
    return history.history["val_accuracy"][-1]


def ktransfer_default(data, preset, size, reached):
    """`ktransfer.train` with the image size and the fast preset."""
    import ktransfer

    def say(line):
        note(line)
        if line.startswith(("head ", "validation ")):
            reached(float(line.split("accuracy ")[1].split()[0].rstrip(",")))

    with tempfile.TemporaryDirectory() as folder:
        out, cache = Path(folder) / "run", Path(folder) / "cache"
        run = ktransfer.train(
            data,
            str(preset),
            out,
            image_size=size,
            preset="fast",
            cache_dir=cache,
            formats=(),
            say=say,
            verbose=0,
        )
        return run.manifest["metrics"]["validation"]


RECIPES = {"guide": guide, "ktransfer": ktransfer_default}


def measure(name, data, preset, size):
    """Run the measured process: prints seconds in all, seconds to the target, and accuracy."""
    import keras

    import ktransfer

    # Whatever a first use costs once in a process is paid before it is timed.
    ktransfer.load_backbone(str(preset), image_size=size)[0].predict(
        keras.ops.zeros((1, size, size, 3)), verbose=0
    )
    times = []

    def reached(accuracy):
        if accuracy >= TARGET:
            times.append(time.perf_counter() - start)

    start = time.perf_counter()
    accuracy = RECIPES[name](data, preset, size, reached)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, min([*times, seconds]), accuracy]))


def main():
    parser = arguments(__doc__)
    orders = ("guide,ktransfer", "ktransfer,guide")
    parser.add_argument("--order", choices=orders, default=orders[0], help="which one runs first")
    parser.add_argument("--once", choices=RECIPES, help="only this one; what a measured process does")
    options = parser.parse_args()
    data, folders = data_folder(options), presets(options, RESNET, MOBILENET)
    size = options.image_size or (64 if options.smoke else 160)
    if options.once:
        measure(options.once, data, folders[0], size)
        return
    rows = []
    for preset in folders:
        row = {"preset": preset.name}
        for name in options.order.split(","):
            command = [sys.executable, __file__, data, preset, "--image-size", str(size), "--once", name]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            seconds, target, accuracy = json.loads(output.splitlines()[-1])
            note(f"{preset.name}, {name}: {seconds:.1f} s, {accuracy:.4f}")
            row |= {f"{name}_seconds": seconds, f"{name}_to_target": target, f"{name}_accuracy": accuracy}
        row["ratio"] = row["guide_seconds"] / row["ktransfer_seconds"]
        row["ratio_to_target"] = row["guide_to_target"] / row["ktransfer_to_target"]
        rows.append({name: row[name] for name in COLUMNS})
    report(rows, image_size=size, batch_size=BATCH, target_accuracy=TARGET, order=options.order)


if __name__ == "__main__":
    main()
