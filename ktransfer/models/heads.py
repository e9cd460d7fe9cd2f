"""The head of a classifier: pooled features to logits."""

import keras


def add_head(features, num_classes: int, dropout: float, seed: int):
    """Pooled features `(B, C)` to logits: `feature_norm`, dropout if any, the last layer.

    Example:

        logits = add_head(pooled, 5, dropout=0.1, seed=0)
    """
    # Frozen: set once from the data, it must not follow the batches of training.
    features = keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=1e-12, trainable=False, dtype="float32", name="feature_norm"
    )(features)
    if dropout:
        features = keras.layers.Dropout(dropout, seed=seed, name="dropout")(features)
    return keras.layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        dtype="float32",
        name="logits",
    )(features)
