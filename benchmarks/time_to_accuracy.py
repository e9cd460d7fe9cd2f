"""Wall time and accuracy: the two-fit recipe of the Keras guide against ktransfer's default, in one run.

python benchmarks/time_to_accuracy.py [DATA [BACKBONES]] [--image-size 160] [--order guide,ktransfer]

Both read the same files with the same backbone, batch size and image size, in one process, one after the
other; imports are not counted, and ktransfer begins with an empty cache. The guide's recipe is that of
keras.io/guides/transfer_learning: a frozen backbone in inference mode, average pooling and a Dense layer,
Adam 1e-3 for five epochs, then everything unfrozen, compiled again with Adam 1e-5, two epochs.
"""

import tempfile
import time
from pathlib import Path

from harness import MOBILENET, RESNET, arguments, data_folder, note, presets, report

BATCH = 32


def guide(data, preset, size):
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
    for trainable, rate, epochs in ((False, 1e-3, 5), (True, 1e-5, 2)):
        backbone.trainable = trainable
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        history = model.fit(training, validation_data=validation, epochs=epochs, verbose=0)
    return history.history["val_accuracy"][-1]


def ktransfer_default(data, preset, size):
    import ktransfer

    with tempfile.TemporaryDirectory() as folder:
        out, cache = Path(folder) / "run", Path(folder) / "cache"
        run = ktransfer.train(
            data, str(preset), out, image_size=size, cache_dir=cache, formats=(), say=note, verbose=0
        )
        return run.manifest["metrics"]["validation"]


def main():
    parser = arguments(__doc__)
    orders = ("guide,ktransfer", "ktransfer,guide")
    parser.add_argument("--order", choices=orders, default=orders[0], help="which one runs first")
    options = parser.parse_args()
    data, folders = data_folder(options), presets(options, RESNET, MOBILENET)
    size = options.image_size or (64 if options.smoke else 160)
    import keras

    import ktransfer

    rows = []
    for preset in folders:
        # Whatever a first use costs once in a process is paid before either is timed.
        ktransfer.load_backbone(str(preset), image_size=size)[0].predict(
            keras.ops.zeros((1, size, size, 3)), verbose=0
        )
        seconds, accuracy = {}, {}
        for name in options.order.split(","):
            start = time.perf_counter()
            accuracy[name] = {"guide": guide, "ktransfer": ktransfer_default}[name](data, preset, size)
            seconds[name] = time.perf_counter() - start
            note(f"{preset.name}, {name}: {seconds[name]:.1f} s, {accuracy[name]:.4f}")
        rows.append(
            {
                "preset": preset.name,
                "guide_seconds": seconds["guide"],
                "ktransfer_seconds": seconds["ktransfer"],
                "ratio": seconds["guide"] / seconds["ktransfer"],
                "guide_accuracy": accuracy["guide"],
                "ktransfer_accuracy": accuracy["ktransfer"],
            }
        )
    report(rows, image_size=size, batch_size=BATCH, order=options.order)


if __name__ == "__main__":
    main()
