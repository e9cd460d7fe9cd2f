"""The head on a frozen backbone: features computed once, standardised, logistic regression to convergence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from ktransfer.core.task import SINGLE_LABEL, Task, get_task
from ktransfer.errors import DataError
from ktransfer.models.heads import Head

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


# L2 strengths tried, for each example: in the mean loss of an example.
_STRENGTHS = np.logspace(-4, 0, 9)
_RIDGE_STRENGTHS = np.logspace(-4, 4, 33)  # in closed form each costs next to nothing
_SEARCH_EXAMPLES = 5_000


def standardise_features(model: keras.Model, features: np.ndarray) -> None:
    """Set the normalisation of the classifier's head so that these features have mean 0 and standard deviation 1.

    A feature that hardly ever moves in training is not blown up: no variance counts for less than a
    hundredth of the mean one.

    Example:

        standardise_features(model, features)
    """
    Head.of(model).set_scaling(*_standardisation(features))


def _standardisation(features: Array) -> tuple[Array, Array]:
    """Mean and variance of each feature, float32."""
    variance = features.var(axis=0, dtype="float64")
    floor = max(1e-2 * float(variance.mean()), 1e-12)
    mean = features.mean(axis=0, dtype="float64")
    return mean.astype("float32"), np.maximum(variance, floor).astype("float32")


def _in_span(inputs: Array) -> tuple[Array, Array | None]:
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
    task: str | Task = SINGLE_LABEL,
    seed: int = 0,
) -> dict[str, Any]:
    """Set the classifier's last layer to L2-regularised logistic regression, solved to convergence.

    The strength of the L2 penalty is the one with the lowest cross-validated log loss on these examples;
    validation data is not touched. With several labels an example each label has a regression and a strength of its
    own. The start of fine-tuning that distorts the backbone least (LP-FT, Kumar et
    al. 2022, section 3; Kornblith et al. 2019, appendix A.5 for the search, by L-BFGS). Of regression it is ridge
    regression on the standardized target (Hoerl and Kennard 1970), in closed form.

    Args:
        model: From `build_classifier`; its `Head` is set.
        features: `(N, features)` of the training examples, from `extract_features`.
        labels: As `Examples.labels`: int `(N,)`, or of multi-label classification 0 or 1 `(N, C)`.
        class_weight: As in `class_weights`. Defaults to `None`.
        label_smoothing: Share of each target spread over all classes, in [0, 1). Defaults to 0.
        task: What the labels are of. Defaults to `"single_label"`.
        seed: Of the folds. Defaults to 0.

    Returns:
        `{"l2": strength for each example, "log_loss": cross-validated, "folds": their number}`; of several strengths
        `l2` is the geometric mean.

    Raises:
        DataError: A class has no example.

    Example:

        solve_head(model, *extract_features(model, train))
    """
    task = get_task(task)
    standardise_features(model, features)
    head = Head.of(model)
    mean, variance = head.scaling
    inputs = features - mean
    inputs /= np.sqrt(variance)
    classes = model.output.shape[-1]
    counts = task.counts(labels, classes)
    if task.every_class and counts.min() == 0:
        raise DataError(f"Expected an example of every class, got {counts.tolist()} examples by class.")
    problem = _problem(task, labels, classes, class_weight, label_smoothing, seed)
    # Products this small lose more by waiting for other threads than they gain: 0.3 s instead of 5.
    with threadpool_limits(1):
        inputs, basis = _in_span(inputs)
        strengths, loss, folds = problem.choose_strengths(inputs)
        solution = problem.solve(inputs, strengths)
    kernel, bias = solution[:-1], solution[-1]
    kernel = kernel if basis is None else basis.T @ kernel
    head.set_weights(kernel, bias)
    one = len(set(strengths)) == 1
    l2 = float(strengths[0] if one else np.exp(np.log(strengths).mean()))
    return {"l2": l2, "log_loss": loss, "folds": folds}


def solve_rows(
    model: keras.Model,
    features: np.ndarray,
    row_labels: np.ndarray,
    *,
    class_weight: str | Mapping[int, float] | None = None,
    label_smoothing: float = 0.0,
    task: str | Task = SINGLE_LABEL,
    seed: int = 0,
) -> dict[str, Any]:
    """`solve_head` on the rows of a task's examples: all of them, or of the words of texts those that it chooses.

    Args:
        model: From `build_classifier` or `build_text_classifier`; its `Head` is set.
        features: `(R, features)`, from `FrozenFeatures.pooled`.
        row_labels: As `Preprocessing.row_labels` gives them.
        class_weight, label_smoothing, seed: As in `solve_head`.
        task: Of the examples. Defaults to `"single_label"`.

    Returns:
        As `solve_head`, and `rows`, how many there were.

    Raises:
        DataError: A class has no example, of a task that needs one of each.

    Example:

        solve_rows(model, features.pooled(), preprocessing.row_labels(train), task="ner")
    """
    task = get_task(task)
    chosen, added = task.head_rows(row_labels, class_weight, seed=seed)
    options: dict[str, Any] = {
        "class_weight": class_weight,
        "label_smoothing": label_smoothing,
        "seed": seed,
    }
    if len(chosen) < len(row_labels):
        features, row_labels = features[chosen], row_labels[chosen]
    found = solve_head(model, features, row_labels, task=task.row_task, **options)
    if added:
        kernel, bias = Head.of(model).weights
        for output, amount in added.items():
            bias[output] += amount
        Head.of(model).set_weights(kernel, bias)
    return {**found, "rows": len(chosen)}


def out_of_fold_logits(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    class_weight: str | Mapping[int, float] | None = None,
    label_smoothing: float = 0.0,
    task: str | Task = SINGLE_LABEL,
    seed: int = 0,
    classes: int | None = None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Logits of a solved head for each example, from the fold that left it out, and from all examples.

    What the first say of an example was learned without it, so that decisions can be made on all training
    examples and the validation examples are not touched. The folds are those of `solve_head`, whose strength
    of the L2 penalty is found in the same way.

    Args:
        features: `(N, features)`, of any scale.
        labels, class_weight, label_smoothing, task, seed: As in `solve_head`.
        classes: How many there are. Defaults to `None`, as many as the labels show.

    Returns:
        Two float64 `(N, classes)`: out of fold, and of the head that is solved on all of them. `None` where a
        class has one example only, so that there are no folds.

    Example:

        held_out, fitted = out_of_fold_logits(features, labels)
    """
    task = get_task(task)
    classes = classes or (int(labels.max()) + 1 if labels.ndim == 1 else labels.shape[1])
    problem = _problem(task, labels, classes, class_weight, label_smoothing, seed)
    folds = task.folds(labels, seed=seed)
    if folds is None:
        return None
    mean, variance = _standardisation(features)
    inputs = (features - mean) / np.sqrt(variance)
    with threadpool_limits(1):
        inputs, _ = _in_span(inputs)
        strengths, _, _ = problem.choose_strengths(inputs)
        held_out = np.zeros((len(labels), classes))
        for rest, held in folds:
            held_out[held] = _logits(inputs[held], problem.solve(inputs, strengths, rows=rest))
        return held_out, _logits(inputs, problem.solve(inputs, strengths))


def head_logits(model: keras.Model, features: np.ndarray) -> np.ndarray:
    """The current head's logits of pooled features: `(N, classes)`.

    Example:

        head_logits(model, features.pooled("validation"))
    """
    head = Head.of(model)
    (mean, variance), (kernel, bias) = head.scaling, head.weights
    return (features - mean) / np.sqrt(variance) @ kernel + bias


def head_score(
    model: keras.Model, features: np.ndarray, labels: np.ndarray, *, task: str | Task = SINGLE_LABEL
) -> float:
    """The task's metric, such as the accuracy, of the classifier's head on pooled features.

    Example:

        head_score(model, *extract_features(model, validation))
    """
    return score(get_task(task), head_logits(model, features), labels)


def score(task: Task, logits: np.ndarray, labels: np.ndarray) -> float:
    """The metric by which epochs are compared, of logits `(N, C)`.

    Example:

        score(get_task("single_label"), np.array([[2.0, 1.0]]), np.array([0]))   # 1.0
    """
    metric = task.metric()
    metric.update_state(task.targets(labels, logits.shape[1]), np.asarray(logits, "float32"))
    return float(keras.ops.convert_to_numpy(metric.result()))


def class_weights(labels: np.ndarray, classes: int, choice: str | Mapping[int, float] | None) -> np.ndarray:
    """The weight of an example of each class.

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
        # A tag of a word may have none.
        return len(labels) / (classes * np.maximum(np.bincount(labels, minlength=classes), 1))
    weights = choice if isinstance(choice, Mapping) else {}
    return np.array([weights.get(index, 1.0) for index in range(classes)], "float64")


def _problem(task: Task, *given: Any) -> _Problem:
    return (_LeastSquares if task.least_squares else _Problem)(task, *given)


class _Problem:
    """Regularised logistic regressions of one task on one set of labels."""

    def __init__(
        self,
        task: Task,
        labels: Array,
        classes: int,
        class_weight: str | Mapping[int, float] | None,
        label_smoothing: float,
        seed: int,
    ) -> None:
        self._task, self._labels, self._seed, self._classes = task, labels, seed, classes
        self._true = task.targets(labels, classes).astype("float64")
        self._targets = task.smoothed(self._true, label_smoothing)
        self._weights = task.example_weights(labels, classes, class_weight)

    def choose_strengths(self, inputs: Array) -> tuple[Array, float | None, int]:
        """Strengths of the penalty, one for all columns or one a column; the log loss; and how many folds."""
        task, labels, seed, rows = self._task, self._labels, self._seed, np.arange(len(self._labels))
        folds = task.folds(labels, seed=seed)
        if folds is None:
            return np.array([1e-2]), None, 0
        if len(labels) > _SEARCH_EXAMPLES:
            chosen = task.sample(labels, _SEARCH_EXAMPLES, seed=seed)
            found = task.folds(labels[chosen], seed=seed)
            present = not task.every_class or task.counts(labels[chosen], self._classes).all()
            if present and found is not None and len(found) == len(folds):
                rows, folds = chosen, found
        return self._search(inputs, [(rows[rest], rows[held]) for rest, held in folds])

    def _search(self, inputs: Array, folds: Sequence[tuple[Array, Array]]) -> tuple[Array, float, int]:
        """The strengths of the lowest mean loss on what each fold leaves out."""
        task = self._task
        losses, least = [], np.inf
        # From strong to weak, each started from the one before; past the minimum it gets worse and slower.
        starts: list[Array | None] = [None] * len(folds)
        for strength in _STRENGTHS[::-1]:
            solutions = [
                self.solve(inputs, np.array([strength]), rows=rest, start=start)
                for (rest, _), start in zip(folds, starts, strict=True)
            ]
            means = [
                np.average(
                    task.likelihoods(_logits(inputs[held], solution), self._true[held])[0],
                    axis=0,
                    weights=self._weights[held],
                )
                for solution, (_, held) in zip(solutions, folds, strict=True)
            ]
            starts = list(solutions)
            losses.append(np.mean(means, axis=0))
            loss = float(losses[-1].sum())
            if loss > least * 1.02:
                break
            least = min(least, loss)
        best = np.argmin(losses, axis=0)
        return _STRENGTHS[::-1][best], float(np.min(losses, axis=0).sum()), len(folds)

    def solve(
        self,
        inputs: Array,
        strengths: Array,
        *,
        rows: Array | slice = slice(None),
        start: Array | None = None,
    ) -> Array:
        """Kernel and, as the last row, bias that minimise weighted cross-entropy + strength/2 |kernel|^2."""
        inputs, targets, weights = inputs[rows], self._targets[rows], self._weights[rows]
        shape = (inputs.shape[1] + 1, self._classes)
        share = (weights / len(weights))[:, None]

        def objective(flat: Array) -> tuple[float, Array]:
            solution = flat.reshape(shape)
            losses, errors = self._task.likelihoods(_logits(inputs, solution), targets)
            penalty = strengths * np.sum(solution[:-1] ** 2, axis=0)
            error = share * errors
            gradient = np.vstack([inputs.T @ error.astype(inputs.dtype), error.sum(axis=0)])
            gradient[:-1] += strengths * solution[:-1]
            return np.sum(share * losses) + np.sum(penalty) / 2, gradient.ravel()

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


class _LeastSquares(_Problem):
    """Ridge regression in closed form, by one eigendecomposition for all strengths."""

    def _search(self, inputs: Array, folds: Sequence[tuple[Array, Array]]) -> tuple[Array, float, int]:
        losses = np.zeros((len(_RIDGE_STRENGTHS), self._targets.shape[1]))
        for rest, held in folds:
            solve = self._solver(inputs[rest], rest)
            for place, strength in enumerate(_RIDGE_STRENGTHS):
                answers = _logits(inputs[held], solve(strength))
                losses[place] += self._task.likelihoods(answers, self._true[held])[0].mean(axis=0) / len(
                    folds
                )
        best = np.argmin(losses, axis=0)
        return _RIDGE_STRENGTHS[best], float(losses.min(axis=0).sum()), len(folds)

    def solve(
        self,
        inputs: Array,
        strengths: Array,
        *,
        rows: Array | slice = slice(None),
        start: Array | None = None,
    ) -> Array:
        """Kernel and, as the last row, bias that minimize half the mean squared error + strength/2 |kernel|^2."""
        return self._solver(inputs[rows], rows)(strengths)

    def _solver(self, inputs: Array, rows: Array | slice) -> Callable[[Array], Array]:
        """From strengths to the solution on some rows."""
        inputs, targets = np.asarray(inputs, "float64"), self._targets[rows]
        means, offset = inputs.mean(axis=0), targets.mean(axis=0)
        centered = inputs - means
        values, vectors = np.linalg.eigh(centered.T @ centered)
        projected = vectors.T @ (centered.T @ (targets - offset))

        def solution(strength: Array) -> Array:
            # Rounding leaves eigenvalues a little below 0.
            scale = np.maximum(values, 0)[:, None] + len(inputs) * np.asarray(strength)
            kernel = vectors @ (projected / scale)
            return np.vstack([kernel, offset - means @ kernel])

        return solution


def _logits(inputs: Array, solution: Array) -> Array:
    return (inputs @ solution[:-1].astype(inputs.dtype)).astype("float64") + solution[-1]
