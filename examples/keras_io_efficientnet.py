"""The shape of keras-io's EfficientNet example: `input_tensor=`, a rebuilt top, BatchNorm left frozen.

python examples/keras_io_efficientnet.py [WEIGHTS]

WEIGHTS is "imagenet" (downloaded by Keras) or "none", random ones, to see it run without a network. keras-io trains
the top in one `fit`, unfreezes 20 layers by hand and compiles again; here it is one `fit` and one line.
"""

import sys
import tempfile
from pathlib import Path

import keras
from keras import layers

import ktransfer
from ktransfer.demo.drawing import write_target_task

SIZE = 64


def build_model(classes, weights):
    inputs = layers.Input(shape=(SIZE, SIZE, 3))
    x = layers.RandomFlip()(inputs)
    base = keras.applications.EfficientNetB0(include_top=False, input_tensor=x, weights=weights)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(base.output)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.2, name="top_dropout")(x)
    outputs = layers.Dense(classes, activation="softmax", name="pred")(x)
    model = keras.Model(inputs, outputs, name="EfficientNet")
    model.compile(keras.optimizers.Adam(1e-2), "categorical_crossentropy", metrics=["accuracy"])
    return model


def main(weights="imagenet"):
    keras.utils.set_random_seed(0)
    folder = write_target_task(Path(tempfile.mkdtemp()) / "things", train_per_class=4, validation_per_class=2)
    options = {"image_size": (SIZE, SIZE), "label_mode": "categorical", "batch_size": 16}
    train = keras.utils.image_dataset_from_directory(folder / "train", seed=0, **options)
    validation = keras.utils.image_dataset_from_directory(folder / "val", shuffle=False, **options)
    model = build_model(len(train.class_names), None if weights == "none" else weights)

    # By names, as `base` is not returned: from its first layer with weights to its last one.
    unfreezing = ktransfer.ProgressiveUnfreezing(
        backbone=("stem_conv", "top_activation"),
        stages=[
            ktransfer.Stage(depth=0, epochs=2, learning_rate=1e-2),
            ktransfer.Stage(depth=2, epochs=1, learning_rate=1e-4),
        ],
    )
    history = model.fit(train, epochs=3, validation_data=validation, callbacks=[unfreezing], verbose=2)
    print("stages", history.history["stage"])


if __name__ == "__main__":
    main(*sys.argv[1:])
