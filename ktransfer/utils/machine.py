"""The machine that a run trains on."""

import keras


def has_gpu() -> bool:
    """Whether Keras' backend sees a GPU.

    Example:

        image_recipe(images=500, gpu=has_gpu())
    """
    return any(name.startswith(("gpu", "cuda")) for name in keras.distribution.list_devices())
