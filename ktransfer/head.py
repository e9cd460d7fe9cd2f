"""The head on a frozen backbone: features computed once, standardised, logistic regression to convergence."""

import warnings

import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from ktransfer.classifier import predict_in_batches
from ktransfer.errors import DataError

# L2 strengths tried, for each example: C = 1 / (strength * examples).
_STRENGTHS = np.logspace(-4, 0, 9)
_SEARCH_EXAMPLES = 5_000


def extract_features(model: keras.Model, dataset) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features of a classifier's backbone, in inference mode, and their labels.

    Args:
        model: From `build_classifier`.
        dataset: Batches of `(images, labels)`, not augmented; labels as indices or one-hot.

    Returns:
        float32 `(N, features)` and int `(N,)`.

    Example:

        features, labels = extract_features(model, train)
    """
    pooled = keras.Model(model.input, model.get_layer("pooled").output)
    labels = []

    def images():
        for batch, targets in dataset:
            targets = np.asarray(targets)
            labels.append(targets.argmax(axis=-1) if targets.ndim == 2 else targets)
            yield batch

    return np.concatenate(list(predict_in_batches(pooled, images()))), np.concatenate(labels)


def standardise_features(model: keras.Model, features: np.ndarray) -> None:
    """Set the classifier's `feature_norm` so that these features have mean 0 and standard deviation 1.

    A feature that hardly ever moves in training is not blown up: no variance counts for less than a
    hundredth of the mean one.

    Example:

        standardise_features(model, features)
    """
    variance = features.var(axis=0, dtype="float64")
    floor = max(1e-2 * float(variance.mean()), 1e-12)
    mean = features.mean(axis=0, dtype="float64")
    model.get_layer("feature_norm").set_weights(
        [mean.astype("float32"), np.maximum(variance, floor).astype("float32")]
    )


def solve_head(model: keras.Model, features: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> dict:
    """Set the classifier's last layer to L2-regularised logistic regression, solved to convergence.

    The strength of the L2 penalty is the one with the lowest cross-validated log loss on these examples;
    validation data is not touched. The start of fine-tuning that distorts the backbone least (LP-FT, Kumar et
    al. 2022, section 3; Kornblith et al. 2019, appendix A.5 for the search).

    Args:
        model: From `build_classifier`; its `feature_norm` and `logits` layers are set.
        features: `(N, features)` of the training examples, from `extract_features`.
        labels: int `(N,)`.
        seed: Of the folds.

    Returns:
        `{"l2": strength for each example, "log_loss": cross-validated, "folds": their number}`.

    Raises:
        DataError: A class has no example.

    Example:

        solve_head(model, *extract_features(model, train))
    """
    standardise_features(model, features)
    mean, variance = (w.astype("float64") for w in model.get_layer("feature_norm").get_weights())
    inputs = ((features - mean) / np.sqrt(variance)).astype("float32")
    classes = model.output.shape[-1]
    counts = np.bincount(labels, minlength=classes)
    if counts.min() == 0:
        raise DataError(f"Every class needs an example. Received: {counts.tolist()} examples by class.")
    basis = None
    if len(inputs) < inputs.shape[1]:
        # The solution lies in the span of the examples; turned into it, the problem is smaller and the same.
        basis = np.linalg.svd(inputs, full_matrices=False)[2]
        inputs = inputs @ basis.T
    strength, loss, folds = _choose_strength(inputs, labels, counts, seed)
    solved = _fit(inputs, labels, strength)
    kernel, bias = solved.coef_.T, solved.intercept_
    kernel = kernel if basis is None else basis.T @ kernel
    if classes == 2:  # scikit-learn keeps the one difference of the two logits
        kernel, bias = np.hstack([-kernel / 2, kernel / 2]), np.concatenate([-bias / 2, bias / 2])
    model.get_layer("logits").set_weights([kernel.astype("float32"), bias.astype("float32")])
    return {"l2": float(strength), "log_loss": loss, "folds": folds}


def _choose_strength(inputs, labels, counts, seed):
    folds = int(min(5, counts.min()))
    if folds < 2:
        return 1e-2, None, 0
    if len(labels) > _SEARCH_EXAMPLES:
        # Stratified: the first fold of a split in that many parts.
        count = min(len(labels) // _SEARCH_EXAMPLES, int(counts.min()))
        parts = StratifiedKFold(max(2, count), shuffle=True, random_state=seed)
        chosen = next(iter(parts.split(inputs, labels)))[1]
        if np.bincount(labels[chosen], minlength=len(counts)).min() >= folds:
            inputs, labels = inputs[chosen], labels[chosen]
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(inputs, labels))
    best = (np.inf, None)
    # From strong to weak, each started from the one before; past the minimum it gets worse and slower.
    starts = [None] * folds
    for strength in _STRENGTHS[::-1]:
        losses = []
        for index, (rest, held) in enumerate(splits):
            starts[index] = _fit(inputs[rest], labels[rest], strength, starts[index])
            losses.append(
                log_loss(
                    labels[held], starts[index].predict_proba(inputs[held]), labels=starts[index].classes_
                )
            )
        loss = float(np.mean(losses))
        if loss > best[0] * 1.02:
            break
        best = min(best, (loss, strength))
    return best[1], best[0], folds


def _fit(inputs, labels, strength, start=None):
    model = LogisticRegression(C=1 / (strength * len(labels)), max_iter=500, warm_start=True)
    if start is not None:
        model.coef_, model.intercept_, model.classes_ = (
            start.coef_.copy(),
            start.intercept_.copy(),
            start.classes_,
        )
    with warnings.catch_warnings():
        # Past 500 iterations nothing changes that fine-tuning would notice.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(inputs, labels)
