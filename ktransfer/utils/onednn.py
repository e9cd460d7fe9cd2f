"""oneDNN: faster kernels of TensorFlow for x86 processors."""

import os
import platform
import sys

_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"


def prefer_onednn() -> None:
    """Turn oneDNN's kernels on, where TensorFlow is not loaded yet and the user has not chosen.

    TensorFlow turns them on by itself only on processors with instructions for neural networks, such as AVX-512 VNNI.
    Measured on an AMD EPYC with AVX2, one thread, float32, processor time with them in units of that without, of the
    forward pass and of a training step of all blocks: MiniLM 0.78 and 0.75 (32 texts of 48 tokens), EfficientNet-Lite0
    0.75 and 0.77, MobileNetV2 0.71 and 0.99, three stages of ResNet-50 0.89 and 0.81 (16 images of 128 pixels).
    TensorFlow reads the variable when it is imported; a process that imported it before keeps its kernels.

    Example:

        prefer_onednn()
        import tensorflow
    """
    if "tensorflow" not in sys.modules and platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault(_VARIABLE, "1")


def onednn_is_on() -> bool | None:
    """Whether TensorFlow uses oneDNN's kernels; `None` where it decides by itself.

    Example:
        >>> onednn_is_on() in (True, False, None)
        True
    """
    chosen = os.environ.get(_VARIABLE)
    return None if chosen is None else chosen.lower() in ("1", "true")
