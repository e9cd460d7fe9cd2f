"""A siamese network: one backbone sees two images, a distance classifies whether they are of one class.

python examples/siamese.py

It draws a small task and takes the backbone that ktransfer ships.
"""

import tempfile
from pathlib import Path

import keras
import keras_hub
import numpy as np

import ktransfer
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task

SIZE = 64


class Siamese(keras.Model):
    """Embeds both images with one encoder and answers how likely they are of one class."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.answer = keras.layers.Dense(1, activation="sigmoid")

    def call(self, pair, training=None):
        one, other = (self.encoder(images, training=training) for images in pair)
        return self.answer(keras.ops.abs(one - other))


def main():
    keras.utils.set_random_seed(0)
    folder = write_target_task(Path(tempfile.mkdtemp()) / "things", train_per_class=10)
    data = keras.utils.image_dataset_from_directory(folder / "train", image_size=(SIZE, SIZE), shuffle=False)
    images, labels = (np.concatenate(part) for part in zip(*data.as_numpy_iterator(), strict=True))
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, len(images), (2, 400))
    right[::2] = [rng.choice(np.flatnonzero(labels == labels[i])) for i in left[::2]]  # half of one class
    pairs, same = (images[left], images[right]), (labels[left] == labels[right]).astype("float32")

    scaling = keras_hub.layers.ImageConverter.from_preset(str(PRESET_PATH))
    backbone = keras_hub.models.Backbone.from_preset(str(PRESET_PATH), name="backbone")
    pixels = keras.Input((SIZE, SIZE, 3))
    x = backbone(keras.layers.Rescaling(scaling.scale, scaling.offset)(pixels))
    x = keras.layers.Dense(32)(keras.layers.GlobalAveragePooling2D()(x))
    model = Siamese(keras.Model(pixels, x, name="encoder"))
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy", metrics=["accuracy"])

    unfreezing = ktransfer.ProgressiveUnfreezing("backbone", monitor="val_accuracy")  # inside the encoder
    history = model.fit(pairs, same, validation_split=0.2, epochs=6, callbacks=[unfreezing], verbose=2)
    print("stages", history.history["stage"], "best", round(unfreezing.best, 3))


if __name__ == "__main__":
    main()
