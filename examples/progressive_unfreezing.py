"""One line in a plain `model.fit`: the head first, then the backbone from the top.

python examples/progressive_unfreezing.py [FOLDER OF CLASS FOLDERS] [KERAS-HUB PRESET]

With no arguments it draws a small task and takes the backbone that ktransfer ships. Runs under
KERAS_BACKEND=tensorflow and jax.
"""

import sys
import tempfile
from pathlib import Path

import keras
import keras_hub

import ktransfer
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task

SIZE = 64  # pixels
EPOCHS = 9


def main(data=None, preset=None):
    keras.utils.set_random_seed(0)
    if data is None:
        folder = write_target_task(Path(tempfile.mkdtemp()) / "things")
        train, validation = read(folder / "train", shuffle=True), read(folder / "val")
    else:
        train = read(data, validation_split=0.2, subset="training", seed=0)
        validation = read(data, validation_split=0.2, subset="validation", seed=0)

    # Your own model, compiled your own way.
    preset = str(preset or PRESET_PATH)
    scaling = keras_hub.layers.ImageConverter.from_preset(preset)
    images = keras.Input((SIZE, SIZE, 3))
    features = keras_hub.models.Backbone.from_preset(preset)(
        keras.layers.Rescaling(scaling.scale, scaling.offset)(images)
    )
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    logits = keras.layers.Dense(len(train.class_names))(keras.layers.BatchNormalization()(pooled))
    model = keras.Model(images, logits)
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    # The one line.
    unfreezing = ktransfer.ProgressiveUnfreezing(
        backbone=model.layers[2],
        stages=[
            ktransfer.Stage(depth=0, epochs=3),
            ktransfer.Stage(depth=0.5, epochs=3, learning_rate=1e-3, warmup=1),
            ktransfer.Stage(depth="all", epochs=3, learning_rate=3e-4, warmup=1, schedule="cosine"),
        ],
    )
    history = model.fit(
        train, validation_data=validation, epochs=EPOCHS, callbacks=[unfreezing], verbose=0, shuffle=False
    )

    print(f"\nbackend {keras.backend.backend()}\nepoch  stage  lr        loss   accuracy  val_accuracy")
    for epoch in range(EPOCHS):
        row = {name: values[epoch] for name, values in history.history.items()}
        print(
            f"{epoch:>5}  {row['stage']:>5}  {row['learning_rate']:.1e}  {row['loss']:.3f}  "
            f"{row['accuracy']:.3f}     {row['val_accuracy']:.3f}"
        )


def read(folder, **options):
    return keras.utils.image_dataset_from_directory(
        folder, image_size=(SIZE, SIZE), crop_to_aspect_ratio=True, **({"shuffle": False} | options)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
