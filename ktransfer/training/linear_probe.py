"""The head on a frozen backbone: features computed once, standardised, logistic regression to convergence."""

from collections.abc import Mapping

import keras
import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from ktransfer.errors import DataError

# L2 strengths tried, for each example: in the mean loss of an example.
_STRENGTHS = np.logspace(-4, 0, 9)
_SEARCH_EXAMPLES = 5_000
_FOLDS = 5


def standardise_features(model: keras.Model, features: np.ndarray) -> None:
    """Set the classifier's `feature_norm` so that these features have mean 0 and standard deviation 1.

    A feature that hardly ever moves in training is not blown up: no variance counts for less than a
    hundredth of the mean one.

    Example:

        standardise_features(model, features)
    """
    model.get_layer("feature_norm").set_weights(list(_standardisation(features)))


def _standardisation(features):
    """Mean and variance of each feature, float32."""
    variance = features.var(axis=0, dtype="float64")
    floor = max(1e-2 * float(variance.mean()), 1e-12)
    mean = features.mean(axis=0, dtype="float64")
    return mean.astype("float32"), np.maximum(variance, floor).astype("float32")


def _in_span(inputs):
    """The inputs in a basis of their span where that is smaller, in which the solution lies, and the basis."""
    if len(inputs) >= inputs.shape[1]:
        return inputs, None
    basis = np.linalg.svd(inputs, full_matrices=False)[2]
    return inputs @ basis.T, basis


def solve_head(
    model: keras.Model,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    class_weight: str | Mapping[int, float] | None = None,
    label_smoothing: float = 0.0,
    seed: int = 0,
) -> dict:
    """Set the classifier's last layer to L2-regularised logistic regression, solved to convergence.

    The strength of the L2 penalty is the one with the lowest cross-validated log loss on these examples;
    validation data is not touched. The start of fine-tuning that distorts the backbone least (LP-FT, Kumar et
    al. 2022, section 3; Kornblith et al. 2019, appendix A.5 for the search, by L-BFGS).

    Args:
        model: From `build_classifier`; its `feature_norm` and `logits` layers are set.
        features: `(N, features)` of the training examples, from `extract_features`.
        labels: int `(N,)`.
        class_weight: As in `class_weights`.
        label_smoothing: Share of each target spread over all classes, in [0, 1).
        seed: Of the folds.

    Returns:
        `{"l2": strength for each example, "log_loss": cross-validated, "folds": their number}`.

    Raises:
        DataError: A class has no example.

    Example:

        solve_head(model, *extract_features(model, train))
    """
    standardise_features(model, features)
    mean, variance = model.get_layer("feature_norm").get_weights()
    inputs = features - mean
    inputs /= np.sqrt(variance)
    classes = model.output.shape[-1]
    counts = np.bincount(labels, minlength=classes)
    if counts.min() == 0:
        raise DataError(f"Every class needs an example. Received: {counts.tolist()} examples by class.")
    targets = np.eye(classes)[labels] * (1 - label_smoothing) + label_smoothing / classes
    weights = class_weights(labels, classes, class_weight)[labels]
    # Products this small lose more by waiting for other threads than they gain: 0.3 s instead of 5.
    with threadpool_limits(1):
        inputs, basis = _in_span(inputs)
        strength, loss, folds = _choose_strength(inputs, labels, targets, weights, seed)
        solution = _solve(inputs, targets, weights, strength)
    kernel, bias = solution[:-1], solution[-1]
    kernel = kernel if basis is None else basis.T @ kernel
    model.get_layer("logits").set_weights([kernel.astype("float32"), bias.astype("float32")])
    return {"l2": float(strength), "log_loss": loss, "folds": folds}


def out_of_fold_logits(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    class_weight: str | Mapping[int, float] | None = None,
    label_smoothing: float = 0.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Logits of a solved head for each example, from the fold that left it out, and from all examples.

    What the first say of an example was learned without it, so that decisions can be made on all training
    examples and the validation examples are not touched. The folds are those of `solve_head`, whose strength
    of the L2 penalty is found in the same way.

    Args:
        features: `(N, features)`, of any scale.
        labels: int `(N,)`.
        class_weight: As in `class_weights`.
        label_smoothing: Share of each target spread over all classes, in [0, 1).
        seed: Of the folds.

    Returns:
        Two float64 `(N, classes)`: out of fold, and of the head that is solved on all of them. `None` where a
        class has one example only, so that there are no folds.

    Example:

        held_out, fitted = out_of_fold_logits(features, labels)
    """
    classes = int(labels.max()) + 1
    counts = np.bincount(labels, minlength=classes)
    folds = int(min(_FOLDS, counts.min()))
    if folds < 2:
        return None
    mean, variance = _standardisation(features)
    inputs = (features - mean) / np.sqrt(variance)
    targets = np.eye(classes)[labels] * (1 - label_smoothing) + label_smoothing / classes
    weights = class_weights(labels, classes, class_weight)[labels]
    with threadpool_limits(1):
        inputs, _ = _in_span(inputs)
        strength, _, _ = _choose_strength(inputs, labels, targets, weights, seed)
        held_out = np.zeros((len(labels), classes))
        for rest, held in StratifiedKFold(folds, shuffle=True, random_state=seed).split(inputs, labels):
            held_out[held] = _logits(
                inputs[held], _solve(inputs[rest], targets[rest], weights[rest], strength)
            )
        return held_out, _logits(inputs, _solve(inputs, targets, weights, strength))


def head_accuracy(model: keras.Model, features: np.ndarray, labels: np.ndarray) -> float:
    """Share of pooled features that the classifier's head, as it is, gives their label.

    Example:

        head_accuracy(model, *extract_features(model, validation))
    """
    mean, variance = model.get_layer("feature_norm").get_weights()
    kernel, bias = model.get_layer("logits").get_weights()
    answers = ((features - mean) / np.sqrt(variance) @ kernel + bias).argmax(axis=1)
    return float((answers == labels).mean())


def class_weights(labels: np.ndarray, classes: int, choice: str | Mapping[int, float] | None) -> np.ndarray:
    """How much an example of each class counts.

    Args:
        labels: int `(N,)`, an example of every class among them.
        classes: How many there are.
        choice: `None` for 1 each; `"balanced"` for `N / (classes * examples of the class)` (King and Zeng
            2001), so that every class weighs the same; or the weight of each class index, 1 where not given.

    Returns:
        float64 `(classes,)`.

    Example:

        class_weights(np.array([0, 0, 0, 1]), 2, "balanced")   # [0.667, 2.0]
    """
    if choice == "balanced":
        return len(labels) / (classes * np.bincount(labels, minlength=classes))
    return np.array([(choice or {}).get(index, 1.0) for index in range(classes)], "float64")


def _choose_strength(inputs, labels, targets, weights, seed):
    counts = np.bincount(labels)
    folds = int(min(_FOLDS, counts.min()))
    if folds < 2:
        return 1e-2, None, 0
    if len(labels) > _SEARCH_EXAMPLES:
        # Stratified: the first fold of a split in that many parts.
        count = min(len(labels) // _SEARCH_EXAMPLES, int(counts.min()))
        parts = StratifiedKFold(max(2, count), shuffle=True, random_state=seed)
        chosen = next(iter(parts.split(inputs, labels)))[1]
        if np.bincount(labels[chosen], minlength=len(counts)).min() >= folds:
            inputs, labels, targets, weights = (a[chosen] for a in (inputs, labels, targets, weights))
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(inputs, labels))
    parts = [(inputs[rest], targets[rest], weights[rest]) for rest, _ in splits]
    best = (np.inf, None)
    # From strong to weak, each started from the one before; past the minimum it gets worse and slower.
    starts = [None] * folds
    for strength in _STRENGTHS[::-1]:
        starts = [_solve(*part, strength, start) for part, start in zip(parts, starts, strict=True)]
        losses = [
            log_loss(
                labels[held],
                softmax(_logits(inputs[held], solution), axis=1),
                sample_weight=weights[held],
                labels=range(len(counts)),
            )
            for solution, (_, held) in zip(starts, splits, strict=True)
        ]
        loss = float(np.mean(losses))
        if loss > best[0] * 1.02:
            break
        best = min(best, (loss, strength))
    return best[1], best[0], folds


def _solve(inputs, targets, weights, strength, start=None):
    """Kernel and, as the last row, bias that minimise weighted cross-entropy + strength/2 |kernel|^2."""
    shape = (inputs.shape[1] + 1, targets.shape[1])
    share = (weights / len(weights))[:, None]

    def objective(flat):
        solution = flat.reshape(shape)
        logs = log_softmax(_logits(inputs, solution), axis=1)
        loss = -np.sum(share * targets * logs) + strength / 2 * np.sum(solution[:-1] ** 2)
        error = share * (np.exp(logs) - targets)
        gradient = np.vstack([inputs.T @ error.astype(inputs.dtype), error.sum(axis=0)])
        gradient[:-1] += strength * solution[:-1]
        return loss, gradient.ravel()

    start = np.zeros(shape) if start is None else start
    # Past 500 iterations nothing changes that fine-tuning would notice.
    found = minimize(
        objective,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 500, "ftol": 1e-10, "gtol": 1e-5},
    )
    return found.x.reshape(shape)


def _logits(inputs, solution):
    return (inputs @ solution[:-1].astype(inputs.dtype)).astype("float64") + solution[-1]
