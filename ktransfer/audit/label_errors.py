"""Find suspect labels by a classifier of frozen features, and outliers by nearest neighbors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ktransfer.audit.findings import Finding, Item
from ktransfer.data.examples import Examples

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


_FOLDS = 5
# Enough for a linear classifier to find outliers; 20,000 examples are solved in seconds.
_DIMENSIONS = 256
_STRENGTHS = (1e-3, 1e-2, 0.1, 0.3, 1.0)  # of the L2 penalty, in the mean loss of an example
_REPEATS = 4  # cross-validations to average, where examples are few
_FEW_EXAMPLES = 5_000
# Times as likely as the label. Of 20 wrong labels among 630 photographs, planted anew 12 times, 15 to 20 were
# among the first 40, and 15 to 20 among the 60 to 80 that another class is twice as likely for.
_ODDS = 2.0
_NEIGHBOURS = 10


def label_findings(
    items: Sequence[Item], features: np.ndarray, groups: np.ndarray, *, examples: Examples | None = None
) -> list[Finding]:
    """Suspect labels and outliers among examples, by the features of a pretrained backbone.

    Args:
        items: `N` examples.
        features: float `(N, D)`, pooled features of the frozen backbone.
        groups: int `(N,)`; examples of a group, such as duplicates, are never used to predict each other.
        examples: The same `N` as `Examples`, whose labels are looked at. Defaults to `None`: each item has one label.

    Returns:
        Findings `suspect_label` and `outlier`, each the worst first.

    Example:
        >>> label_findings(items, features, np.arange(len(items)))  # doctest: +SKIP
    """
    if examples is not None and examples.task.least_squares:
        findings = list(_suspect_targets(items, features, groups, examples.labels))
    elif examples is None or examples.labels.ndim == 1:
        findings = list(_suspect_classes(items, features, groups))
    else:
        findings = list(_suspect_label_sets(items, features, groups, examples))
    for index, distance in outliers(features):
        detail = f"mean distance {distance:.2f} to its {_NEIGHBOURS} nearest"
        findings.append(Finding("outlier", (items[index],), detail, distance))
    return findings


def _suspect_classes(items: Sequence[Item], features: Array, groups: Array) -> Iterator[Finding]:
    names = sorted({item.label for item in items})
    labels = np.array([names.index(item.label) for item in items])
    probabilities = out_of_fold_probabilities(features, labels, groups)
    if probabilities is None:
        return
    for index, score in suspects(probabilities, labels):
        other = int(probabilities[index].argmax())
        detail = (
            f"labelled {names[labels[index]]} ({probabilities[index, labels[index]]:.2f}), "
            f"looks like {names[other]} ({probabilities[index, other]:.2f})"
        )
        yield Finding("suspect_label", (items[index],), detail, score)


def _suspect_label_sets(
    items: Sequence[Item], features: Array, groups: Array, examples: Examples
) -> Iterator[Finding]:
    """Suspect labels of multi-label examples: missing where likely, or the reverse."""
    found = []
    for column, name in enumerate(examples.class_names):
        labels = examples.labels[:, column].astype(int)
        if labels.min() == labels.max():
            continue
        probabilities = out_of_fold_probabilities(features, labels, groups)
        if probabilities is None:
            continue
        for index, score in suspects(probabilities, labels):
            likely = probabilities[index, 1]
            how = (
                f"has {name} ({likely:.2f} likely)"
                if labels[index]
                else f"lacks {name} ({likely:.2f} likely)"
            )
            found.append((score, index, f"labelled {items[index].label}: {how}"))
    for score, index, detail in sorted(found, key=lambda each: (-each[0], each[1])):
        yield Finding("suspect_label", (items[index],), detail, score)


def _suspect_targets(
    items: Sequence[Item], features: Array, groups: Array, targets: Array
) -> Iterator[Finding]:
    """Targets far from the prediction of ridge regression on the other examples: beyond Tukey's outer fence."""
    folds = min(_FOLDS, len(np.unique(groups)))
    if folds < 2:
        return
    inputs = StandardScaler().fit_transform(np.asarray(features, "float64"))
    inputs = PCA(min(_DIMENSIONS, *inputs.shape), random_state=0).fit_transform(inputs)
    predicted = np.zeros(len(targets))
    with threadpool_limits(1):
        for rest, held in GroupKFold(folds).split(inputs, groups=groups):
            model = RidgeCV(alphas=np.logspace(0, 6, 13)).fit(inputs[rest], targets[rest])
            predicted[held] = model.predict(inputs[held])
    errors = targets - predicted
    low, high = np.percentile(errors, [25, 75])
    beyond = np.maximum(errors - high, low - errors) / max(high - low, 1e-12)
    for index in np.argsort(-beyond, kind="stable"):
        if beyond[index] <= 3:
            return
        detail = f"target {targets[index]:.6g}, {predicted[index]:.6g} by examples like it"
        yield Finding("suspect_label", (items[index],), detail, round(float(beyond[index]), 3))


def out_of_fold_probabilities(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int = 0
) -> np.ndarray | None:
    """Probabilities of each example by logistic regression on the others.

    Args:
        features: float `(N, D)`.
        labels: int `(N,)`, from 0 on without a gap.
        groups: int `(N,)`; a group is held out together.
        seed: Of the folds.

    Returns:
        float64 `(N, C)`, or None where a class has only one example.

    Example:
        >>> out_of_fold_probabilities(features, labels, np.arange(len(labels)))  # doctest: +SKIP
    """
    folds = int(min(_FOLDS, np.bincount(labels).min()))
    if folds < 2 or len(np.unique(groups)) < folds:
        return None
    with threadpool_limits(1):  # products this small lose more by waiting for other threads than they gain
        inputs = StandardScaler().fit_transform(np.asarray(features, "float64"))
        inputs = PCA(min(_DIMENSIONS, *inputs.shape), random_state=seed).fit_transform(inputs)

        def held_out(strength: float, seed: int = seed) -> Array:
            splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            return _held_out(inputs, labels, splits.split(inputs, labels, groups), strength)

        found = {strength: held_out(strength) for strength in _STRENGTHS}
        best = min(found, key=lambda strength: log_loss(labels, found[strength]))
        repeats = _REPEATS if len(labels) <= _FEW_EXAMPLES else 1
        return np.mean([found[best], *(held_out(best, seed + n) for n in range(1, repeats))], axis=0)


def suspects(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[int, float]]:
    """Examples whose label is probably wrong: another class is at least twice as likely for them.

    Out-of-fold probabilities ranked, as in confident learning (Northcutt et al. 2021, section 3.2). Its own
    thresholds are not used: of a class whose examples are predicted with confidence they let few suspects through,
    here 11 of 20 wrong labels where the first 40 of the ranking have 17.

    Args:
        probabilities: float `(N, C)`, out of fold.
        labels: int `(N,)`.

    Returns:
        `(index, log odds)`, the worst first; the natural logarithm of how many times as likely as its label
        the likeliest other class is.

    Example:
        >>> suspects(np.array([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1]]), np.array([0, 0, 1]))
        [(2, 2.197)]
    """
    rows = np.arange(len(labels))
    logs = np.log(np.maximum(probabilities, 1e-9))
    own = logs[rows, labels]
    logs[rows, labels] = -np.inf
    odds = logs.max(axis=1) - own
    found = np.flatnonzero(odds >= np.log(_ODDS))
    return [(int(index), round(float(odds[index]), 3)) for index in found[np.argsort(-odds[found])]]


def outliers(features: np.ndarray) -> list[tuple[int, float]]:
    """Examples far from their nearest neighbours (Ramaswamy et al. 2000), by cosine distance.

    Args:
        features: float `(N, D)`.

    Returns:
        `(index, mean distance)` of those beyond the upper quartile by three times the quartiles' distance
        (Tukey's outer fence), the farthest first.

    Example:
        >>> outliers(features)[:1]  # doctest: +SKIP
        [(17, 0.61)]
    """
    neighbours = min(_NEIGHBOURS, len(features) - 1)
    if neighbours < 1:
        return []
    inputs = StandardScaler().fit_transform(features)
    inputs /= np.maximum(np.linalg.norm(inputs, axis=1, keepdims=True), 1e-12)
    # Neighbours come in blocks of bounded memory; the first of each is the example itself.
    search = NearestNeighbors(n_neighbors=neighbours, metric="cosine", algorithm="brute").fit(inputs)
    distances = search.kneighbors()[0].mean(axis=1)
    low, high = np.percentile(distances, [25, 75])
    far = np.flatnonzero(distances > high + 3 * (high - low))
    return [(int(i), round(float(distances[i]), 4)) for i in far[np.argsort(-distances[far], kind="stable")]]


def _held_out(inputs: Array, labels: Array, parts: Iterable[tuple[Array, Array]], strength: float) -> Array:
    """Probabilities of each example by what was learnt without its fold."""
    classes = int(labels.max()) + 1
    probabilities = np.full((len(labels), classes), 1 / classes)
    for rest, held in parts:
        if len(np.unique(labels[rest])) < 2:
            continue
        model = LogisticRegression(C=1 / (strength * len(rest)), max_iter=500)
        model.fit(inputs[rest], labels[rest])
        probabilities[held] = 0.0
        probabilities[np.ix_(held, model.classes_)] = model.predict_proba(inputs[held])
    return probabilities
