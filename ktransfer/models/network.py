"""A backbone with its preprocessing and a classifier on it."""

from dataclasses import dataclass
from typing import Any

import keras

from ktransfer.core.modality import Preprocessing


@dataclass(frozen=True)
class Network:
    """The network of a run.

    Attributes:
        model: The classifier.
        preprocessing: How its examples are read.
        facts: Of the backbone, for the manifest.
        size: What examples are made to fit, in words.
    """

    model: keras.Model
    preprocessing: Preprocessing
    facts: dict[str, Any]
    size: str
