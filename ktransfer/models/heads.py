"""The head of a classifier: pooled features to logits, and where its layers are found."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ktransfer.errors import RecipeError

# What the layers of a head are called, here and in saved models.
POOLED, _NORM, _DROPOUT, _LOGITS = "pooled", "feature_norm", "dropout", "logits"


def add_head(features: keras.KerasTensor, num_classes: int, dropout: float, seed: int) -> keras.KerasTensor:
    """Pooled features `(B, C)` to logits: normalisation, dropout if any, the last layer.

    Example:

        logits = add_head(pooled, 5, dropout=0.1, seed=0)
    """
    # Frozen: set once from the data, it must not follow the batches of training.
    features = keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=1e-12, trainable=False, dtype="float32", name=_NORM
    )(features)
    if dropout:
        features = keras.layers.Dropout(dropout, seed=seed, name=_DROPOUT)(features)
    return keras.layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        dtype="float32",
        name=_LOGITS,
    )(features)


@dataclass(frozen=True)
class Head:
    """The layers of a classifier's head, from pooling to logits. Find that of a model with `Head.of`.

    Attributes:
        pooling: Gives the pooled features; `None` of a head that takes features alone.
        norm: Standardises them.
        logits: The last layer.
    """

    pooling: keras.layers.Layer | None
    norm: keras.layers.Layer
    logits: keras.layers.Layer

    @classmethod
    def of(cls, model: keras.Model) -> "Head":
        """The head of a classifier.

        Raises:
            RecipeError: The model is none from `build_classifier` or `build_text_classifier`.

        Example:

            Head.of(run.model).logits.kernel.shape   # (1280, 5)
        """
        layers = {layer.name: layer for layer in model.layers}
        missing = [name for name in (_NORM, _LOGITS) if name not in layers]
        if missing:
            raise RecipeError(
                f"Expected a classifier with the layers {_NORM} and {_LOGITS}, got {model.name} without {missing[0]}. "
                "Make it with build_classifier or build_text_classifier."
            )
        return cls(layers.get(POOLED), layers[_NORM], layers[_LOGITS])

    @property
    def features(self) -> Any:
        """The symbolic pooled features `(None, F)`, for a model that ends there."""
        return self.norm.input if self.pooling is None else self.pooling.output

    @property
    def scaling(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance by which features are standardised, float32 `(F,)` each."""
        mean, variance = self.norm.get_weights()
        return mean, variance

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel `(F, C)` and bias `(C,)` of the last layer."""
        kernel, bias = self.logits.get_weights()
        return kernel, bias

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel `(F, C)` and bias `(C,)` of one layer from pooled features to logits, in float64.

        Example:

            kernel, bias = Head.of(model).folded()
            logits = features @ kernel + bias
        """
        mean, variance = (np.asarray(each, np.float64) for each in self.scaling)
        kernel, bias = (np.asarray(each, np.float64) for each in self.weights)
        kernel = kernel / np.sqrt(variance + self.norm.epsilon)[:, None]
        return kernel, bias - mean @ kernel

    def set_scaling(self, mean: np.ndarray, variance: np.ndarray) -> None:
        """Standardise features by this mean and variance, float32 `(F,)` each."""
        self.norm.set_weights([mean, variance])

    def set_weights(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Set kernel `(F, C)` and bias `(C,)` of the last layer."""
        self.logits.set_weights([kernel.astype("float32"), bias.astype("float32")])
