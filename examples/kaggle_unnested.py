"""The Kaggle shape: `Model(base.input, Dense(base.output))`, EarlyStopping, ReduceLROnPlateau, ModelCheckpoint.

python examples/kaggle_unnested.py [WEIGHTS]

WEIGHTS is "imagenet" (downloaded by Keras) or "none", random ones, to see it run without a network.
"""

import sys
import tempfile
from pathlib import Path

import keras

import ktransfer
from ktransfer.demo.drawing import write_target_task

SIZE, EPOCHS = 64, 6


def main(weights="imagenet"):
    keras.utils.set_random_seed(0)
    work = Path(tempfile.mkdtemp())
    folder = write_target_task(work / "things", train_per_class=8, validation_per_class=4)
    options = {"image_size": (SIZE, SIZE), "label_mode": "categorical", "batch_size": 16}
    train = keras.utils.image_dataset_from_directory(folder / "train", seed=0, **options)
    validation = keras.utils.image_dataset_from_directory(folder / "val", shuffle=False, **options)
    classes = len(train.class_names)

    weights = None if weights == "none" else weights
    base = keras.applications.MobileNetV2(
        include_top=False, weights=weights, input_shape=(SIZE, SIZE, 3), alpha=0.35, pooling="avg"
    )
    x = keras.layers.Dropout(0.2)(base.output)
    model = keras.Model(base.input, keras.layers.Dense(classes, activation="softmax")(x))
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])

    prepare = keras.applications.mobilenet_v2.preprocess_input
    train, validation = (data.map(lambda x, y: (prepare(x), y)) for data in (train, validation))
    model.fit(
        train,
        validation_data=validation,
        epochs=EPOCHS,
        verbose=2,
        callbacks=[
            ktransfer.ProgressiveUnfreezing(
                base, monitor="val_accuracy"
            ),  # base's layers are the model's own
            keras.callbacks.EarlyStopping(patience=5, start_from_epoch=4),
            keras.callbacks.ReduceLROnPlateau(patience=2),
            keras.callbacks.ModelCheckpoint(work / "best.keras", save_best_only=True),
        ],
    )
    best = keras.models.load_model(work / "best.keras", safe_mode=True)
    print("best.keras:", best.evaluate(validation, verbose=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
