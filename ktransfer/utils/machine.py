"""The machine that a run trains on."""

import os

import keras


def has_gpu() -> bool:
    """Whether Keras' backend sees a GPU.

    Example:

        image_recipe(images=500, gpu=has_gpu())
    """
    return any(name.startswith(("gpu", "cuda")) for name in keras.distribution.list_devices())


def cores() -> int:
    """The CPU cores that this process may use.

    Example:
        >>> cores() > 0
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
