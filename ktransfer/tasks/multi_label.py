"""Multi-label classification: each example has any number of labels, also none."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ktransfer.data.stratification import held_out_units, stratified_folds
from ktransfer.errors import DataError, RecipeError
from ktransfer.tasks.one_answer import OneAnswer

if TYPE_CHECKING:
    import keras

    from ktransfer.core.typing import Array, PathLike
    from ktransfer.evaluation.calibration import Calibration
    from ktransfer.recipes.recipe import Recipe

_FOLDS = 5
# A label of fewer examples than this has no threshold of its own.
_FEW = 5
# The least F1 out of fold for which a label gets a threshold of its own: below it nearly all its answers are wrong.
_USEFUL = 0.1
_RESAMPLES, _CONFIDENCE = 1_000, 0.95
_BINS = 15
_TINY = 1e-12


@dataclass(frozen=True)
class LabelScore:
    """Scores of one label, each in [0, 1].

    Attributes:
        precision, recall, f1: Of the answers by the threshold.
        average_precision: Of the ranking by probability; `None` where no example has the label.
        support: Examples with the label.
        threshold: The least probability with which the label is answered.
    """

    precision: float
    recall: float
    f1: float
    average_precision: float | None
    support: int
    threshold: float


@dataclass(frozen=True)
class Averages:
    """Precision, recall and F1 over labels, each in [0, 1].

    Attributes:
        interval: Of the F1: the middle 95 % of 1,000 bootstrap resamples of the examples (Efron 1979).
    """

    precision: float
    recall: float
    f1: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class MultiLabelEvaluation:
    """The metrics of multi-label classification.

    Attributes:
        examples: How many.
        micro: Over all pairs of an example and a label.
        macro: Means over the labels that have examples.
        mean_average_precision: Mean over the same labels of the average precision, which needs no threshold.
        mean_average_precision_interval: As `Averages.interval`.
        subset_accuracy: Share of the examples all of whose labels are right.
        samples_f1: Mean of the F1 of each example; 1 where it has no label and none is answered.
        per_label: Scores by label.
        calibration: How far probabilities are from what they say, over all pairs of an example and a label.
        calibrated: The same after temperature scaling; where `cross_fitted` by a temperature from the other examples.
        temperature: By which the logits are divided then.
        thresholds: The least probability of each label with which it is answered.
        cross_fitted: Whether thresholds and temperature were fitted on these examples: what is measured then is what
            each fifth of them gets by those of the other four.
    """

    examples: int
    micro: Averages
    macro: Averages
    mean_average_precision: float
    mean_average_precision_interval: tuple[float, float]
    subset_accuracy: float
    samples_f1: float
    per_label: dict[str, LabelScore]
    calibration: Calibration
    calibrated: Calibration
    temperature: float
    thresholds: tuple[float, ...]
    cross_fitted: bool

    value_title = "macro F1"

    @property
    def value(self) -> float:
        """The macro F1."""
        return self.macro.f1

    @property
    def fitted(self) -> dict[str, Any]:
        """Temperature and thresholds."""
        return {"temperature": self.temperature, "decision": {"thresholds": list(self.thresholds)}}

    def to_dict(self) -> dict[str, Any]:
        """The metrics as JSON values, as in `metrics.json`."""
        return dataclasses.asdict(self)

    def line(self) -> str:
        """The metrics as one line, printed after the name of a split."""
        low, high = self.macro.interval
        return (
            f"macro F1 {self.macro.f1:.3f} (95 % interval {low:.3f} to {high:.3f}), micro F1 {self.micro.f1:.3f}, mean "
            f"average precision {self.mean_average_precision:.3f}, all labels right {self.subset_accuracy:.3f}"
        )

    def tables(self, noun: str) -> list[list[list[str]]]:
        """Tables for a terminal, each a list of rows of which the first is the heading."""
        rows = [["label", "precision", "recall", "F1", "average precision", "threshold", noun]]
        for name, score in self.per_label.items():
            ranked = "" if score.average_precision is None else f"{score.average_precision:.3f}"
            values = (f"{each:.3f}" for each in (score.precision, score.recall, score.f1))
            rows.append([name, *values, ranked, f"{score.threshold:.3f}", str(score.support)])
        for name, mean in (("macro mean", self.macro), ("micro mean", self.micro)):
            ranked = f"{self.mean_average_precision:.3f}" if mean is self.macro else ""
            values = (f"{each:.3f}" for each in (mean.precision, mean.recall, mean.f1))
            rows.append([name, *values, ranked, "", str(self.examples)])
        return [rows]

    def save_picture(self, path: PathLike) -> None:
        """Draw precision, recall and F1 of each label as a PNG."""
        # Its own canvas: pyplot would keep the figure and may want a screen.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        from ktransfer.utils.files import replacing

        ranked = sorted(self.per_label.items(), key=lambda entry: entry[1].f1)[:60]
        figure = Figure(figsize=(8, max(3.0, 0.28 * len(ranked) + 1.2)), layout="constrained")
        FigureCanvasAgg(figure)
        axes, places = figure.subplots(), np.arange(len(ranked))
        axes.barh(places, [score.f1 for _, score in ranked], color="#9ec5e8", label="F1")
        for name, marker in (("precision", ">"), ("recall", "o")):
            axes.plot([getattr(score, name) for _, score in ranked], places, marker, ms=5, label=name)
        axes.set_yticks(places, [f"{name} ({score.support})" for name, score in ranked])
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("score; behind each label its number of examples")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
        with replacing(path) as partial, warnings.catch_warnings():
            # A script that the plot's font lacks comes out as boxes; the names are in the JSON next to it.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(partial, dpi=120)


class MultiLabel(OneAnswer):
    """Labels do not exclude each other: sigmoids, one binary cross-entropy a label, and a threshold a label.

    Implements `ktransfer.core.task.Task`. Labels are uint8 `(N, C)`, 1 where an example has the label.
    """

    name = "multi_label"
    title = "multi-label classification"
    reads, label_noun = "multi_label", "labels"
    activation = "sigmoid"
    score, score_title = "pr_auc", "area under the precision-recall curve"
    hit_title = "F1 of an example"
    output_title = "Probability of each label, independent of the others"
    answer_fields: ClassVar[Mapping[str, str]] = {"label": "text", "probability": "float", "chosen": "bool"}
    template = "multi_label.html"
    uneven_hint = "each label gets a threshold of its own; with --loss focal what is hard counts for more"

    # Labels.

    def check_labels(self, labels: Any, *, examples: int, classes: int) -> Array:
        labels = np.array(labels)
        if labels.shape != (examples, classes):
            raise DataError(
                f"Expected labels of shape {(examples, classes)}, one row an example and one column a label, got "
                f"{labels.shape}. Pass 1 where an example has a label, else 0."
            )
        if not np.isin(labels, (0, 1)).all():
            wrong = labels[~np.isin(labels, (0, 1))].flat[0]
            raise DataError(
                f"Expected labels of 0 and 1, got {wrong}. Pass 1 where an example has a label, else 0."
            )
        labels = labels.astype(np.uint8)
        labels.setflags(write=False)
        return labels

    def counts(self, labels: Array, classes: int) -> Array:
        return labels.sum(axis=0, dtype=np.int64)

    def keys(self, labels: Array) -> list[Hashable]:
        return [tuple(np.flatnonzero(row).tolist()) for row in labels]

    def name_of(self, key: Any, class_names: Sequence[str]) -> str:
        return " | ".join(class_names[index] for index in key) or "(no label)"

    def hold_out(
        self, labels: Array, alike: Sequence[Sequence[int]], fraction: float, *, seed: int
    ) -> tuple[list[int], int | None]:
        counts = np.array([labels[unit].sum(axis=0, dtype=np.int64) for unit in alike])
        sizes = np.array([len(unit) for unit in alike])
        held = held_out_units(counts, sizes, fraction, seed=seed)
        if held is None:
            return [], int(np.argmin(np.where(counts.any(axis=0), (counts > 0).sum(axis=0), len(labels) + 1)))
        return [index for unit, out in zip(alike, held, strict=True) if out for index in unit], None

    def targets(self, labels: Array, classes: int) -> Array:
        return labels.astype(np.float32)

    def labels_of(self, targets: Array) -> Array:
        return (np.asarray(targets) > 0.5).astype(np.uint8)

    def folds(self, labels: Array, *, seed: int) -> list[tuple[Array, Array]] | None:
        if len(labels) < 2 * _FOLDS:
            return None
        fold = stratified_folds(labels, np.ones(len(labels), int), [1 / _FOLDS] * _FOLDS, seed=seed)
        return [(np.flatnonzero(fold != each), np.flatnonzero(fold == each)) for each in range(_FOLDS)]

    def sample(self, labels: Array, count: int, *, seed: int) -> Array:
        share = count / len(labels)
        fold = stratified_folds(labels, np.ones(len(labels), int), [share, 1 - share], seed=seed)
        return np.flatnonzero(fold == 0)

    # Training.

    def check_recipe(self, recipe: Recipe) -> None:
        super().check_recipe(recipe)
        if recipe.class_weight is not None:
            raise RecipeError(
                f"Expected no class_weight with several labels an example, got {recipe.class_weight!r}. Leave it out: "
                "each label has a threshold of its own, fitted for its F1."
            )

    def loss(self, recipe: Recipe, *, one_hot: bool = True) -> keras.losses.Loss:
        import keras

        smoothing = recipe.label_smoothing
        if recipe.loss == "focal":
            return keras.losses.BinaryFocalCrossentropy(
                gamma=recipe.focal_gamma, from_logits=True, label_smoothing=smoothing
            )
        return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)

    def metric(self, *, one_hot: bool = True) -> keras.metrics.Metric:
        import keras

        return keras.metrics.AUC(curve="PR", multi_label=True, from_logits=True, name=self.score)

    def smoothed(self, targets: Array, smoothing: float) -> Array:
        return targets * (1 - smoothing) + smoothing / 2

    def likelihoods(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        from scipy.special import expit

        return np.logaddexp(0, logits) - targets * logits, expit(logits) - targets

    def example_weights(self, labels: Array, classes: int, choice: str | Mapping[int, float] | None) -> Array:
        return np.ones(len(labels))

    # Answers.

    def probabilities(self, logits: Array) -> Array:
        from scipy.special import expit

        return expit(np.float64(logits))

    def decide(self, probabilities: Array, decision: Mapping[str, Any] | None = None) -> Array:
        return (np.asarray(probabilities) >= self._thresholds(decision)).astype(np.uint8)

    def hits(self, decided: Array, labels: Array) -> Array:
        """The F1 of each example."""
        both = np.logical_and(decided, labels).sum(axis=1)
        either = decided.sum(axis=1, dtype=int) + labels.sum(axis=1, dtype=int)
        return np.where(either == 0, 1.0, 2 * both / np.maximum(either, 1))

    def agreement(self, decided: Array, other: Array) -> Array:
        """The share of the labels of each example that are answered alike."""
        return (decided == other).mean(axis=1)

    def look_like_probabilities(self, logits: Array) -> bool:
        return bool(((logits >= 0) & (logits <= 1)).all())

    def answers(
        self,
        probabilities: Array,
        class_names: Sequence[str],
        decision: Mapping[str, Any] | None = None,
        *,
        top_k: int,
    ) -> list[dict[str, Any]]:
        chosen = self.decide(probabilities[None], decision)[0]
        # All that are answered, and of the others the most probable.
        ranked = np.lexsort((-probabilities, -chosen.astype(int)))
        return [
            {
                "label": class_names[i],
                "probability": float(probabilities[i]),
                "chosen": bool(chosen[i]),
            }
            for i in ranked[: max(top_k, int(chosen.sum()))]
        ]

    def answer_line(self, answers: Sequence[Mapping[str, Any]]) -> str:
        chosen = [each for each in answers if each["chosen"]]
        if chosen:
            return ", ".join(f"{each['label']} {each['probability']:.1%}" for each in chosen)
        first = f"; the nearest is {answers[0]['label']} {answers[0]['probability']:.1%}" if answers else ""
        return f"no label{first}"

    def at_temperature(self, decision: dict[str, Any], temperature: float) -> dict[str, Any]:
        """The decision adapted to probabilities whose logits were divided by a temperature."""
        thresholds = _scaled(np.array(decision["thresholds"]), temperature)
        return {**decision, "thresholds": thresholds.tolist()}

    @staticmethod
    def _thresholds(decision: Mapping[str, Any] | None) -> Array | float:
        return np.array(decision["thresholds"]) if decision else 0.5

    # Evaluation.

    def evaluate(
        self,
        probabilities: Array,
        labels: Array,
        class_names: Sequence[str],
        *,
        fitted: Mapping[str, Any] | None = None,
    ) -> MultiLabelEvaluation:
        probabilities, labels = np.asarray(probabilities, float), np.asarray(labels)
        if fitted is None:
            thresholds, temperature = (
                fit_thresholds(probabilities, labels),
                _temperature(probabilities, labels),
            )
            decided, scaled = self._cross_fitted(probabilities, labels, thresholds, temperature)
        else:
            thresholds = np.array(fitted["decision"]["thresholds"])
            temperature = fitted.get("temperature") or 1.0
            decided = (probabilities >= thresholds).astype(np.uint8)
            scaled = _scaled(probabilities, temperature)
        true, answered, both = (
            labels.sum(0, dtype=int),
            decided.sum(0, dtype=int),
            (labels & decided).sum(0, dtype=int),
        )
        present = true > 0
        averages = [_average_precision(labels[:, c], probabilities[:, c]) for c in range(labels.shape[1])]
        precision, recall, f1 = _scores(true, answered, both)
        per_label = {
            name: LabelScore(
                float(precision[c]),
                float(recall[c]),
                float(f1[c]),
                averages[c],
                int(true[c]),
                float(thresholds[c]),
            )
            for c, name in enumerate(class_names)
        }
        spread = _resampled(labels, decided, present)
        micro = [float(each) for each in _scores(true.sum(), answered.sum(), both.sum())]
        macro = [float(each[present].mean()) if present.any() else 0.0 for each in (precision, recall, f1)]
        ranked = [value for value in averages if value is not None]
        return MultiLabelEvaluation(
            examples=len(labels),
            micro=Averages(micro[0], micro[1], micro[2], spread["micro"]),
            macro=Averages(macro[0], macro[1], macro[2], spread["macro"]),
            mean_average_precision=float(np.mean(ranked)) if ranked else 0.0,
            mean_average_precision_interval=_ranking_interval(labels, probabilities, present),
            subset_accuracy=float((decided == labels).all(axis=1).mean()),
            samples_f1=float(self.hits(decided, labels).mean()),
            per_label=per_label,
            calibration=_calibration(probabilities, labels),
            calibrated=_calibration(scaled, labels),
            temperature=float(temperature),
            thresholds=tuple(float(each) for each in thresholds),
            cross_fitted=fitted is None,
        )

    def _cross_fitted(
        self, probabilities: Array, labels: Array, thresholds: Array, temperature: float
    ) -> tuple[Array, Array]:
        folds = self.folds(labels, seed=0)
        if folds is None:  # too few to leave any out
            return (probabilities >= thresholds).astype(np.uint8), _scaled(probabilities, temperature)
        decided, scaled = np.zeros_like(labels), np.zeros_like(probabilities)
        for rest, held in folds:
            found = fit_thresholds(probabilities[rest], labels[rest])
            decided[held] = probabilities[held] >= found
            scaled[held] = _scaled(probabilities[held], _temperature(probabilities[rest], labels[rest]))
        return decided, scaled

    def report(self, evaluation: MultiLabelEvaluation, counts: Mapping[str, int]) -> dict[str, Any]:
        scores = [(name, score) for name, score in evaluation.per_label.items() if score.support]
        name, weakest = min(scores, key=lambda entry: entry[1].f1, default=("", None))
        total = sum(counts.values())
        return {
            "weakest": {"name": name, "f1": weakest.f1 if weakest else 0.0},
            "per_label": sorted(evaluation.per_label.items(), key=lambda entry: entry[1].f1),
            "labels_each": sum(score.support for _, score in scores) / evaluation.examples,
            "training_labels": total,
        }

    def reliability(self, evaluation: MultiLabelEvaluation) -> tuple[Calibration, Calibration, bool]:
        return evaluation.calibration, evaluation.calibrated, evaluation.cross_fitted

    def explained(
        self, probabilities: Array, labels: Array, decision: Mapping[str, Any] | None, most: int
    ) -> tuple[list[int], list[int], list[list[int]]]:
        """Choose the examples to explain in a report: wrong ones, right ones, and the labels of each in order."""
        decided = self.decide(probabilities, decision)
        hits = self.hits(decided, labels)
        order = np.argsort(-np.max(probabilities, axis=1), kind="stable")
        wrong = [int(i) for i in order if hits[i] < 1][:most]
        right = [int(i) for i in order if hits[i] == 1 and labels[i].any()][:most]
        classes = []
        for i in [*wrong, *right]:
            missed = np.flatnonzero(labels[i] & ~decided[i].astype(bool))
            chosen = [int(np.argmax(probabilities[i]))]
            chosen += [int(missed[np.argmin(probabilities[i][missed])])] if len(missed) else []
            classes.append(list(dict.fromkeys(chosen)))
        return wrong, right, classes

    def log_odds(self, probabilities: Array, classes: Sequence[int]) -> Array:
        """`log(p / (1 - p))` of one label in each row."""
        chosen = np.asarray(probabilities, float)[np.arange(len(classes)), classes]
        return np.log(np.maximum(chosen, 1e-30)) - np.log(np.maximum(1 - chosen, 1e-30))

    def card(
        self,
        probabilities: Array,
        label: Any,
        class_names: Sequence[str],
        decision: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The contents of a report's card for the answer to one example."""
        decided = self.decide(probabilities[None], decision)[0]
        given = np.where(label, probabilities, 1 - probabilities)
        [answer] = self.keys(decided[None])
        [truth] = self.keys(np.asarray(label)[None])
        return {
            "truth": self.name_of(truth, class_names),
            "answer": self.name_of(answer, class_names),
            "right": truth == answer,
            "sure": min(float(np.max(probabilities)), 0.99999),
            "loss": float(-np.log(np.maximum(given, _TINY)).sum()),
        }

    def worst(self, probabilities: Array, labels: Array, most: int) -> list[int]:
        """The examples whose labels were given least, all together; the worst first."""
        given = np.where(labels, probabilities, 1 - probabilities)
        losses = -np.log(np.maximum(given, _TINY)).sum(axis=1)
        return [int(i) for i in np.argsort(-losses, kind="stable")[:most] if losses[i] > np.log(2)]


def fit_thresholds(probabilities: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """The least probability of each label with which it is answered, chosen for its F1.

    The threshold of a label is the mean, on the scale of log odds, of those that are best for four fifths of the
    examples, in five turns. Where one threshold for all labels, the best for the micro F1, serves a label as well on
    the fifths left out, or the label's own gets no F1 of 0.1 there, or fewer than five examples have it, the label gets
    that one.

    Args:
        probabilities: `(N, C)`.
        labels: 0 or 1 `(N, C)`.
        seed: Of the folds.

    Returns:
        float64 `(C,)`, in (0, 1).

    Example:
        >>> fit_thresholds(np.array([[0.1], [0.2], [0.3], [0.4]]), np.array([[0], [0], [1], [1]])).round(2).tolist()
        [0.25]

    Source: Fan and Lin 2007, "A study on threshold selection for multi-label classification", sections 2 and 3
    (threshold by cross-validation, with a fallback for rare labels).
    """
    probabilities, labels = np.asarray(probabilities, float), np.asarray(labels)
    overall = _best_thresholds(probabilities.reshape(-1, 1), labels.reshape(-1, 1))[0]
    folds = TASK.folds(labels, seed=seed)
    if folds is None:
        own = np.where(labels.any(axis=0), _best_thresholds(probabilities, labels), overall)
        return own if len(labels) < _FEW or labels.shape[1] == 1 else np.full(labels.shape[1], overall)
    found, own_answers, shared_answers = [], np.zeros_like(labels), np.zeros_like(labels)
    for rest, held in folds:
        each = _best_thresholds(probabilities[rest], labels[rest])
        shared = _best_thresholds(probabilities[rest].reshape(-1, 1), labels[rest].reshape(-1, 1))[0]
        found.append(np.where(labels[rest].any(axis=0), each, shared))
        own_answers[held] = probabilities[held] >= found[-1]
        shared_answers[held] = probabilities[held] >= shared
    true = labels.sum(0, dtype=int)
    own, shared = (
        _scores(true, answers.sum(0, dtype=int), (labels & answers).sum(0, dtype=int))[2]
        for answers in (own_answers, shared_answers)
    )
    odds = np.mean([np.log(each) - np.log1p(-each) for each in found], axis=0)
    return np.where((own > shared) & (own >= _USEFUL) & (true >= _FEW), 1 / (1 + np.exp(-odds)), overall)


def _best_thresholds(probabilities: Array, labels: Array) -> Array:
    """The threshold of each column with the highest F1: between two probabilities, in (0, 1)."""
    found = np.empty(probabilities.shape[1])
    for column, (values, truth) in enumerate(zip(probabilities.T, labels.T, strict=True)):
        order = np.argsort(-values, kind="stable")
        ranked, hits = values[order], np.cumsum(truth[order])
        counts = np.arange(1, len(ranked) + 1)
        scores = 2 * hits / (counts + max(int(truth.sum()), 1))
        scores[:-1][ranked[:-1] == ranked[1:]] = -1  # equal probabilities are answered alike
        best = int(np.argmax(scores))
        below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
        found[column] = (ranked[best] + below) / 2
    return np.clip(found, 1e-6, 1 - 1e-6)


def _scores(true: Any, answered: Any, both: Any) -> tuple[Array, Array, Array]:
    """Precision, recall and F1; 0 where there is nothing to divide by."""
    return (
        both / np.maximum(answered, 1),
        both / np.maximum(true, 1),
        2 * both / np.maximum(true + answered, 1),
    )


def _average_precision(truth: Array, values: Array) -> float | None:
    if not truth.any():
        return None
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, values))


def _resample_counts(count: int) -> Array:
    """The count of each example in each resample: `(resamples, N)`."""
    random = np.random.default_rng(0)
    return random.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES).astype(np.float32)


def _interval(values: Array | Sequence[float]) -> tuple[float, float]:
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(labels: Array, decided: Array, present: Array) -> dict[str, tuple[float, float]]:
    counts_in_resamples = _resample_counts(len(labels))
    true, answered, both = (
        counts_in_resamples @ each.astype(np.float32) for each in (labels, decided, labels & decided)
    )
    micro = _scores(true.sum(1), answered.sum(1), both.sum(1))[2]
    f1 = _scores(true, answered, both)[2][:, present]
    return {"micro": _interval(micro), "macro": _interval(f1.mean(axis=1)) if present.any() else (0.0, 1.0)}


def _ranking_interval(labels: Array, probabilities: Array, present: Array) -> tuple[float, float]:
    """Bootstrap interval of the mean average precision, over a tenth of the resamples: each is a sort."""
    counts_in_resamples, means = _resample_counts(len(labels))[: _RESAMPLES // 10], []
    if not present.any():
        return (0.0, 1.0)
    order = np.argsort(-probabilities, axis=0, kind="stable")
    for weights in counts_in_resamples:
        values = []
        for column in np.flatnonzero(present):
            weight, truth = weights[order[:, column]], labels[order[:, column], column]
            hits = np.cumsum(weight * truth)
            if hits[-1]:
                values.append(
                    float((weight * truth * hits / np.maximum(np.cumsum(weight), 1)).sum() / hits[-1])
                )
        means.append(float(np.mean(values)) if values else 0.0)
    return _interval(means)


def _calibration(probabilities: Array, labels: Array) -> Calibration:
    from ktransfer.evaluation.calibration import Bin, Calibration

    chance, truth = probabilities.ravel(), labels.ravel().astype(float)
    place = np.clip(np.ceil(chance * _BINS).astype(int) - 1, 0, _BINS - 1)
    bins = tuple(
        Bin(
            index / _BINS,
            (index + 1) / _BINS,
            int(inside.sum()),
            float(chance[inside].mean()),
            float(truth[inside].mean()),
        )
        for index in range(_BINS)
        if (inside := place == index).any()
    )
    given = np.where(truth > 0, chance, 1 - chance)
    return Calibration(
        log_loss=float(-np.log(np.maximum(given, _TINY)).mean()),
        brier=float(np.square(chance - truth).mean()),
        ece=sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / len(chance),
        reliability=bins,
    )


def _odds(probabilities: Array) -> Array:
    clipped = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return np.log(clipped) - np.log1p(-clipped)


def _scaled(probabilities: Array, temperature: float) -> Array:
    return 1 / (1 + np.exp(-_odds(probabilities) / temperature))


def _temperature(probabilities: Array, labels: Array) -> float:
    """The number by which to divide the logits so that the log loss is least; 1 where all answers are right."""
    from scipy.optimize import minimize_scalar

    odds = _odds(probabilities)
    if ((odds > 0) == labels.astype(bool)).all():
        return 1.0

    def loss(log_temperature: float) -> float:
        return TASK.likelihoods(odds / np.exp(log_temperature), labels)[0].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


TASK = MultiLabel()
