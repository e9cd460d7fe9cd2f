"""Regression: each example has a number, such as a price."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ktransfer.errors import DataError, RecipeError, RunError
from ktransfer.tasks.one_answer import OneAnswer

if TYPE_CHECKING:
    import keras

    from ktransfer.core.typing import Array, PathLike
    from ktransfer.recipes.recipe import Recipe

LOG = "log"
TRANSFORMS = (LOG,)
COVERAGE = 0.9  # nominal coverage of prediction intervals
_FOLDS = 5
_RESAMPLES, _CONFIDENCE = 1_000, 0.95
# Each resample ranks all answers: of more examples fewer are made.
_MANY, _FEWER_RESAMPLES = 5_000, 200
# Answers that differ by no more than this many standard deviations of the target agree.
_ALIKE = 0.25
# Standard deviations beyond which half the squared error is no longer what the Huber loss takes (Huber 1964).
_HUBER_DELTA = 1.0
_SKEWED = 1.0  # of a normal distribution it is 0, of an exponential one 2
_FEW_DIGITS = 1e-4  # of the mean, below which a deviation uses few of the seven digits of a float32
_POINTS = 500  # that a plot shows
_AXIS_SHARE = 0.04


@dataclass(frozen=True)
class TargetScale:
    """The scale of a target: to the values that a network is trained on, and back.

    Attributes:
        mean: Of the training targets, after the transform. Defaults to 0.
        deviation: Their standard deviation. Defaults to 1.
        transform: `"log"` for the natural logarithm. Defaults to `None`.

    Example:
        >>> TargetScale(mean=100.0, deviation=10.0).standardized(np.array([90.0, 110.0])).tolist()
        [-1.0, 1.0]
    """

    mean: float = 0.0
    deviation: float = 1.0
    transform: str | None = None

    def transformed(self, values: Array) -> Array:
        """The target, or its logarithm, float64."""
        values = np.asarray(values, np.float64)
        if self.transform is None:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(values)

    def standardized(self, values: Array) -> Array:
        """A target as a network is trained on it: mean 0 and standard deviation 1 on the training examples."""
        return (self.transformed(values) - self.mean) / self.deviation

    def restored(self, values: Array) -> Array:
        """The inverse of `standardized`, float64."""
        found = np.asarray(values, np.float64) * self.deviation + self.mean
        return found if self.transform is None else np.exp(found)


@dataclass(frozen=True)
class Interval:
    """Prediction interval around an answer, by split conformal prediction (Lei et al. 2018, section 2.2).

    Attributes:
        coverage: Nominal coverage of the intervals, in (0, 1).
        width: Half the width of the interval, in the target's unit; with `transform` of its logarithm, so that the
            interval is from `answer / exp(width)` to `answer * exp(width)`.
        transform: As in `TargetScale`.
    """

    coverage: float
    width: float
    transform: str | None = None

    @classmethod
    def of(cls, decision: Mapping[str, Any] | None) -> Interval | None:
        """The interval of a decision; `None` if it has none."""
        facts = (decision or {}).get("interval")
        return None if facts is None else cls(facts["coverage"], facts["width"], facts.get("transform"))

    def around(self, answers: Array) -> tuple[Array, Array]:
        """Lower and upper bounds.

        Example:
            >>> low, high = Interval(0.9, 5.0).around(np.array([10.0]))
            >>> low.tolist(), high.tolist()
            ([5.0], [15.0])
        """
        answers = np.asarray(answers, np.float64)
        if self.transform is None:
            return answers - self.width, answers + self.width
        return answers / np.exp(self.width), answers * np.exp(self.width)


@dataclass(frozen=True)
class Measure:
    """A measure and the middle 95 % of its values on 1,000 bootstrap resamples of the examples (Efron 1979).

    Of more than 5,000 examples there are 200 resamples.
    """

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class RegressionEvaluation:
    """The metrics of regression.

    Attributes:
        examples: How many.
        target: The name of the number.
        mae: Mean absolute error, in the target's unit.
        rmse: Root of the mean squared error, in the target's unit.
        r2: Share of the target's variance that the answers explain: 1 is perfect, 0 as good as the mean.
        spearman: Rank correlation of answers and truth, in [-1, 1]; 0 where all answers are the same.
        log_error: Mean absolute difference of the natural logarithms; `None` where a number is not positive.
        baseline: Mean absolute error of the median of these examples.
        interval: The prediction interval, `None` where fewer than nine examples were there to fit it on.
        coverage: Share of the examples whose interval holds the truth; `None` where there is no interval, or there are
            too few examples to fit it on four fifths of them.
        mean_width: Mean width of the intervals, in the target's unit.
        cross_fitted: Whether the interval was fitted on these examples; coverage and width are then those that each
            fifth of them gets by the other four.
        answers, truth: By which it is drawn; not in `to_dict`.
    """

    examples: int
    target: str
    mae: Measure
    rmse: Measure
    r2: Measure
    spearman: Measure
    log_error: Measure | None
    baseline: float
    interval: Interval | None
    coverage: float | None
    mean_width: float | None
    cross_fitted: bool
    answers: Array = field(repr=False, compare=False)
    truth: Array = field(repr=False, compare=False)

    value_title = "R2"

    @property
    def value(self) -> float:
        """The R2."""
        return self.r2.value

    @property
    def fitted(self) -> dict[str, Any]:
        """The prediction interval; numbers have no temperature."""
        interval = self.interval and dataclasses.asdict(self.interval)
        return {"temperature": None, "decision": {"interval": interval}}

    def to_dict(self) -> dict[str, Any]:
        """The metrics as JSON values, as in `metrics.json`."""
        found = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        del found["answers"], found["truth"]
        return {
            name: dataclasses.asdict(value)
            if dataclasses.is_dataclass(value) and not isinstance(value, type)
            else value
            for name, value in found.items()
        }

    def line(self) -> str:
        """The metrics as one line, printed after the name of a split."""
        low, high = self.r2.interval
        line = (
            f"R2 {self.r2.value:.3f} (95 % interval {low:.3f} to {high:.3f}), mean absolute error "
            f"{number(self.mae.value)} (of the median {number(self.baseline)}), RMSE {number(self.rmse.value)}, "
            f"Spearman {self.spearman.value:.3f}"
        )
        if self.interval is None:
            return f"{line}; too few examples for prediction intervals"
        if self.coverage is None:
            share = f"{self.interval.coverage:.0%}"
            return f"{line}; too few examples to measure the coverage of {share} prediction intervals"
        return (
            f"{line}; {self.interval.coverage:.0%} prediction intervals hold the truth of {self.coverage:.1%}"
        )

    def tables(self, noun: str) -> list[list[list[str]]]:
        """Tables for a terminal, each a list of rows of which the first is the heading."""
        rows = [["measure", self.target, "95 % interval"]]
        for name, found in (
            ("mean absolute error", self.mae),
            ("root mean squared error", self.rmse),
            ("mean absolute error of the logarithm", self.log_error),
            ("R2", self.r2),
            ("Spearman", self.spearman),
        ):
            if found is not None:
                shown = [number(each) for each in (found.value, *found.interval)]
                rows.append([name, shown[0], f"{shown[1]} to {shown[2]}"])
        if self.interval is not None and self.coverage is not None:
            name = f"prediction intervals of {self.interval.coverage:.0%} that hold the truth"
            rows.append([name, f"{self.coverage:.1%}", ""])
            rows.append(["their mean width", number(self.mean_width or 0.0), ""])
        rows.append([noun, f"{self.examples:,}", ""])
        return [rows]

    def save_picture(self, path: PathLike) -> None:
        """Draw answers against the truth, and errors against answers, as a PNG."""
        # Its own canvas: pyplot would keep the figure and may want a screen.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        from ktransfer.utils.files import replacing

        figure = Figure(figsize=(10, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        against, errors = figure.subplots(1, 2)
        logarithmic = self.interval is not None and self.interval.transform == LOG
        against.plot(self.truth, self.answers, ".", ms=4, alpha=0.6)
        ends = [float(np.min(self.truth)), float(np.max(self.truth))]
        against.plot(ends, ends, ":", color="gray")
        if self.interval is not None:
            line = (np.geomspace if logarithmic else np.linspace)(ends[0], ends[1], 50)
            for bound in self.interval.around(line):
                against.plot(bound, line, "-", color="gray", lw=0.8)
        against.set_xlabel(f"true {self.target}")
        against.set_ylabel("answered")
        errors.plot(self.answers, self.truth - self.answers, ".", ms=4, alpha=0.6)
        errors.axhline(0, ls=":", color="gray")
        errors.set_xlabel("answered")
        errors.set_ylabel("true less answered")
        if logarithmic:
            against.set_xscale("log")
            against.set_yscale("log")
            errors.set_xscale("log")
        with replacing(path) as partial:
            figure.savefig(partial, dpi=120)


@dataclass(frozen=True)
class Regression(OneAnswer):
    """One number an example: a linear output, squared error or Huber loss, and a prediction interval.

    Implements `ktransfer.core.task.Task`. Labels are float64 `(N,)`, in the target's own unit, and so are
    `probabilities`, `(N, 1)`; logits are standardized, as `scale` has it. The only class name is that of the target.

    Attributes:
        scale: Of the training targets. Defaults to none: logits are answers.
    """

    scale: TargetScale = TargetScale()

    name = "regression"
    title = "regression"
    reads, label_noun = "regression", "target"
    activation = ""
    score, score_title = "r2", "R2"
    loss_title, compared_title = "half squared error", "standard deviations of the target"
    hit_title = "one less the mean absolute error in standard deviations of the target"
    output_title = "Predicted number, in the unit of the target"
    agreement_title = f"within {_ALIKE:g} standard deviations of the target"
    answer_fields: ClassVar[Mapping[str, str]] = {
        "label": "text",
        "value": "float",
        "interval": "floats",
        "coverage": "float",
    }
    template, picture = "regression.html", "residuals.png"
    uneven_hint = ""
    tempered, least_squares, only_gains = False, True, True

    # What is taken from the training labels.

    def fit(self, labels: Array, *, transform: str | None = None) -> Regression:
        if transform not in (None, *TRANSFORMS):
            raise DataError(
                f"Expected the target transform {LOG!r} or none, got {transform!r}. Pass one of these."
            )
        labels = np.asarray(labels, np.float64)
        if transform == LOG and (labels <= 0).any():
            raise DataError(
                f"Expected targets above 0 for their logarithm, got {number(labels.min())} and {(labels <= 0).sum():,} "
                f"of {len(labels):,} that are not above 0. Leave out target_transform (--target-transform)."
            )
        if len(np.unique(labels)) < 2:
            raise DataError(
                f"Expected targets that differ, got {number(labels[0])} {len(labels):,} times. Pass another "
                "--label-column, or add examples."
            )
        values = TargetScale(transform=transform).transformed(labels)
        return Regression(TargetScale(float(values.mean()), float(values.std()), transform))

    def hints(self, labels: Array) -> list[str]:
        from scipy.stats import skew

        labels, found = np.asarray(labels, np.float64), []
        spread = f"from {number(labels.min())} to {number(labels.max())}"
        if self.scale.transform is None and len(labels) > 2 and (labels > 0).all():
            plain, logarithm = float(skew(labels)), float(skew(np.log(labels)))
            if plain > _SKEWED and abs(logarithm) < plain / 2:
                found.append(
                    f"the target is positive and skewed, {spread} (skewness {plain:.1f}, of its logarithm "
                    f"{logarithm:.1f}); --target-transform log trains on the logarithm"
                )
        if self.scale.transform is None and labels.std() < _FEW_DIGITS * abs(labels.mean()):
            found.append(
                f"the target hardly varies for its size, {spread}, and answers have seven digits; subtract a constant "
                "from the column"
            )
        return found

    def facts(self) -> dict[str, Any]:
        return dataclasses.asdict(self.scale)

    def with_facts(self, facts: Mapping[str, Any] | None) -> Regression:
        try:
            scale = TargetScale(**(facts or {}))
            numbers = (scale.mean, scale.deviation)
            holds = all(isinstance(each, int | float) and math.isfinite(each) for each in numbers)
            holds = holds and scale.deviation > 0 and scale.transform in (None, *TRANSFORMS)
        except TypeError:
            holds = False
        if not holds:
            raise RunError(
                f"Expected mean, deviation and transform of the target, got {facts!r:.80}. Train again."
            )
        return Regression(scale)

    def adapted(self, recipe: Recipe) -> Recipe:
        if recipe.loss != "cross_entropy":
            return recipe
        return dataclasses.replace(recipe, loss="huber")

    # Labels.

    def check_labels(self, labels: Any, *, examples: int, classes: int) -> Array:
        if classes != 1:
            raise DataError(
                f"Expected the name of one target for regression, got {classes} class names. Pass one."
            )
        try:
            found = np.array(labels, np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"Expected a number for each example, got {error}. Pass numbers.") from error
        if found.shape != (examples,):
            raise DataError(
                f"Expected {examples} numbers, one an example, got shape {found.shape}. Pass as many of each."
            )
        if wrong := np.flatnonzero(~np.isfinite(found)).tolist():
            raise DataError(
                f"Expected finite numbers, got {found[wrong[0]]} for example {wrong[0]} (counted from 0). Leave such "
                "examples out."
            )
        found.setflags(write=False)
        return found

    def counts(self, labels: Array, classes: int) -> Array:
        return np.array([len(labels)])

    def keys(self, labels: Array) -> list[float]:
        return labels.tolist()

    def name_of(self, key: Any, class_names: Sequence[str]) -> str:
        return f"{key:.10g}"

    def hold_out(
        self, labels: Array, alike: Sequence[Sequence[int]], fraction: float, *, seed: int
    ) -> tuple[list[int], int | None]:
        """One set out of each so many neighbors in the order of the target: every range of it is held out alike."""
        if len(alike) < 2:
            return [], 0
        random = np.random.default_rng([seed, 0])
        means = np.array([labels[list(unit)].mean() for unit in alike])
        order = np.lexsort((random.permutation(len(alike)), means))
        count = min(max(round(fraction * len(alike)), 1), len(alike) - 1)
        chosen = [random.choice(stratum) for stratum in np.array_split(order, count)]
        return [index for unit in chosen for index in alike[unit]], None

    def targets(self, labels: Array, classes: int) -> Array:
        return self.scale.standardized(labels)[:, None].astype(np.float32)

    def labels_of(self, targets: Array) -> Array:
        targets = np.asarray(targets)
        if targets.ndim == 1:  # the numbers themselves, as `Preprocessing.dataset` gives them
            return targets.astype(np.float64)
        return self.scale.restored(targets[:, 0])

    def folds(self, labels: Array, *, seed: int) -> list[tuple[Array, Array]] | None:
        count = min(_FOLDS, len(labels) // 2)
        if count < 2:
            return None
        fold = _strata(labels, count, seed)
        return [(np.flatnonzero(fold != each), np.flatnonzero(fold == each)) for each in range(count)]

    def sample(self, labels: Array, count: int, *, seed: int) -> Array:
        random = np.random.default_rng(seed)
        order = np.lexsort((random.permutation(len(labels)), labels))
        return np.sort([random.choice(stratum) for stratum in np.array_split(order, min(count, len(labels)))])

    # Training.

    def check_recipe(self, recipe: Recipe) -> None:
        for name, given, fits in (
            ("loss", recipe.loss, recipe.loss in ("squared_error", "huber", "cross_entropy")),
            ("class_weight", recipe.class_weight, recipe.class_weight is None),
            ("label_smoothing", recipe.label_smoothing, not recipe.label_smoothing),
            ("quantization_aware", recipe.quantization_aware, not recipe.quantization_aware),
        ):
            if not fits:
                expected = 'the loss "squared_error" or "huber"' if name == "loss" else f"no {name}"
                raise RecipeError(f"Expected {expected} for regression, got {given!r}. Leave it out.")

    def loss(self, recipe: Recipe, *, one_hot: bool = True) -> keras.losses.Loss:
        import keras

        if recipe.loss == "squared_error":
            return keras.losses.MeanSquaredError()
        return keras.losses.Huber(delta=_HUBER_DELTA)

    def metric(self, *, one_hot: bool = True) -> keras.metrics.Metric:
        import keras

        return keras.metrics.R2Score(name=self.score)

    def smoothed(self, targets: Array, smoothing: float) -> Array:
        return targets

    def likelihoods(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        """Half the squared errors: what a normal distribution of deviation 1 gives, but for a constant."""
        errors = np.asarray(logits, np.float64) - targets
        return errors**2 / 2, errors

    def example_weights(self, labels: Array, classes: int, choice: str | Mapping[int, float] | None) -> Array:
        return np.ones(len(labels))

    # Answers.

    def probabilities(self, logits: Array) -> Array:
        """The answers in the target's unit, float64."""
        return self.scale.restored(logits)

    def in_graph(self, logits: Any) -> Any:
        import keras

        found = logits * self.scale.deviation + self.scale.mean
        return found if self.scale.transform is None else keras.ops.exp(found)

    def compared(self, probabilities: Array) -> tuple[Array, Array]:
        """In standard deviations of the target, both."""
        found = self.scale.standardized(probabilities)
        return found, found

    def decide(self, probabilities: Array, decision: Mapping[str, Any] | None = None) -> Array:
        return np.asarray(probabilities, np.float64)[:, 0]

    def hits(self, decided: Array, labels: Array) -> Array:
        """One less the absolute error in standard deviations; below 0 where that is more than one."""
        return 1 - np.abs(self.scale.standardized(decided) - self.scale.standardized(labels))

    def agreement(self, decided: Array, other: Array) -> Array:
        difference = np.abs(self.scale.standardized(decided) - self.scale.standardized(other))
        return (difference <= _ALIKE).astype(float)

    def look_like_probabilities(self, logits: Array) -> bool:
        return False

    def answers(
        self,
        probabilities: Array,
        class_names: Sequence[str],
        decision: Mapping[str, Any] | None = None,
        *,
        top_k: int,
    ) -> list[dict[str, Any]]:
        """The number, its name, and where there is one the prediction interval and its coverage."""
        found: dict[str, Any] = {"label": class_names[0], "value": float(probabilities[0])}
        if (interval := Interval.of(decision)) is not None:
            low, high = interval.around(np.asarray(probabilities)[:1])
            found |= {"interval": [float(low[0]), float(high[0])], "coverage": interval.coverage}
        return [found]

    def at_temperature(self, decision: dict[str, Any], temperature: float) -> dict[str, Any]:
        return decision

    def answer_line(self, answers: Sequence[Mapping[str, Any]]) -> str:
        [answer] = answers
        shown = f"{answer['label']} {number(answer['value'])}"
        if "interval" not in answer:
            return shown
        low, high = map(number, answer["interval"])
        return f"{shown} ({answer['coverage']:.0%} interval {low} to {high})"

    # Evaluation.

    def evaluate(
        self,
        probabilities: Array,
        labels: Array,
        class_names: Sequence[str],
        *,
        fitted: Mapping[str, Any] | None = None,
    ) -> RegressionEvaluation:
        answers, truth = self.decide(probabilities), np.asarray(labels, np.float64)
        errors = np.abs(self.scale.transformed(truth) - self.scale.transformed(answers))
        if fitted is None:
            interval = self._interval(errors)
            widths = self._cross_fitted(errors, truth)
        else:
            interval = Interval.of(fitted.get("decision"))
            widths = None if interval is None else np.full(len(truth), interval.width)
        low, high = (None, None)
        if widths is not None:
            low, high = _spread(answers, widths, self.scale.transform)
        positive = bool((truth > 0).all() and (answers > 0).all())
        return RegressionEvaluation(
            examples=len(truth),
            target=class_names[0],
            baseline=float(np.abs(truth - np.median(truth)).mean()),
            interval=interval,
            coverage=None
            if low is None or high is None
            else float(((low <= truth) & (truth <= high)).mean()),
            mean_width=None if low is None or high is None else float((high - low).mean()),
            cross_fitted=fitted is None,
            answers=answers,
            truth=truth,
            **_measures(answers, truth, positive=positive),
        )

    def _interval(self, errors: Array) -> Interval | None:
        width = conformal_width(errors, COVERAGE)
        return None if width is None else Interval(COVERAGE, width, self.scale.transform)

    def _cross_fitted(self, errors: Array, truth: Array) -> Array | None:
        """The width that each example gets from the others; `None` where these are too few."""
        widths = np.full(len(errors), np.nan)
        fold = _strata(truth, _FOLDS, 0)
        for each in range(_FOLDS):
            found = conformal_width(errors[fold != each], COVERAGE)
            if found is None:
                return None
            widths[fold == each] = found
        return widths

    # Reports.

    def report(self, evaluation: RegressionEvaluation, counts: Mapping[str, int]) -> dict[str, Any]:
        answers, truth = evaluation.answers, evaluation.truth
        chosen = np.random.default_rng(0).permutation(len(truth))[:_POINTS]
        logarithmic = self.scale.transform == LOG
        spread = _Axis.of(np.concatenate([answers, truth]), logarithmic=logarithmic)
        errors = _Axis.of(truth - answers)
        return {
            "target": evaluation.target,
            "rows": evaluation.tables("examples")[0][1:],
            "logarithmic": logarithmic,
            "factor": math.exp(evaluation.interval.width) if evaluation.interval and logarithmic else None,
            "shown": len(chosen),
            "against": {
                "points": [(spread(truth[i]), 100 - spread(answers[i])) for i in chosen],
                "axis": spread.ends(),
            },
            "residuals": {
                "points": [(spread(answers[i]), 100 - errors(truth[i] - answers[i])) for i in chosen],
                "axis": spread.ends(),
                "errors": errors.ends(),
                "zero": 100 - errors(0.0),
            },
        }

    def reliability(self, evaluation: Any) -> None:
        return None  # there are no probabilities

    def confidence(self, probabilities: Array) -> float:
        raise TypeError("Expected a task with probabilities, got regression. Use its values.")

    def explained(
        self, probabilities: Array, labels: Array, decision: Mapping[str, Any] | None, most: int
    ) -> tuple[list[int], list[int], list[list[int]]]:
        return [], [], []  # there are no classes that something speaks for

    def log_odds(self, probabilities: Array, classes: Sequence[int]) -> Array:
        raise TypeError("Expected a task with log odds, got regression. Use its values.")

    def worst(self, probabilities: Array, labels: Array, most: int) -> list[int]:
        """The examples with the largest errors on the scale that is trained on, outside of a deviation."""
        hits = self.hits(self.decide(probabilities), labels)
        return [int(i) for i in np.argsort(hits, kind="stable")[:most] if hits[i] < 0]

    def card(
        self,
        probabilities: Array,
        label: Any,
        class_names: Sequence[str],
        decision: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The contents of a report's card for the answer to one example: `verdict` in words."""
        answer, interval = float(probabilities[0]), Interval.of(decision)
        low, high = (-math.inf, math.inf) if interval is None else interval.around(np.array(answer))
        deviations = float(self.hits(np.array([answer]), np.array([label]))[0])
        return {
            "truth": number(float(label)),
            "answer": number(answer),
            "right": bool(low <= float(label) <= high),
            "sure": 0.0,
            "loss": (1 - deviations) ** 2 / 2,
            "verdict": (
                f"true {number(float(label))}, answered {number(answer)}, {1 - deviations:.1f} standard deviations "
                "apart"
            ),
        }


def number(value: float) -> str:
    """A number for display: three digits, or all before the point.

    Example:
        >>> number(312345.678), number(0.012345), number(-2.0)
        ('312,346', '0.0123', '-2')
    """
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def conformal_width(errors: Array, coverage: float) -> float | None:
    """The half width of split conformal intervals from absolute errors on examples that were not trained on.

    The k-th smallest error of n, k being (n + 1) times the coverage rounded up: on other examples of the same kind the
    truth is within it with at least that probability (Lei et al. 2018, theorem 2.2).

    Args:
        errors: `(N,)`, at least 0.
        coverage: In (0, 1).

    Returns:
        The width; `None` where there are too few errors.

    Example:
        >>> conformal_width(np.arange(1.0, 20.0), 0.9), conformal_width(np.arange(8.0), 0.9)
        (18.0, None)
    """
    # Less what (n + 1) times a share such as 0.9 is too large in binary.
    place = math.ceil((len(errors) + 1) * coverage - 1e-9)
    return float(np.sort(errors)[place - 1]) if 1 <= place <= len(errors) else None


def _spread(answers: Array, widths: Array, transform: str | None) -> tuple[Array, Array]:
    """The bounds of intervals of a width each."""
    if transform is None:
        return answers - widths, answers + widths
    return answers / np.exp(widths), answers * np.exp(widths)


def _strata(labels: Array, count: int, seed: int) -> Array:
    """The fold of each example: of each so many neighbors in the order of the labels one is in each fold."""
    random = np.random.default_rng(seed)
    order = np.lexsort((random.permutation(len(labels)), labels))
    fold = np.empty(len(labels), int)
    for start in range(0, len(labels), count):
        block = order[start : start + count]
        fold[block] = random.permutation(count)[: len(block)]
    return fold


def _measures(answers: Array, truth: Array, *, positive: bool) -> dict[str, Any]:
    from scipy.stats import rankdata

    def ranks(values: Array) -> Array:
        return rankdata(values, axis=-1)

    def mae(answers: Array, truth: Array) -> Array:
        return np.abs(truth - answers).mean(-1)

    def rmse(answers: Array, truth: Array) -> Array:
        return np.sqrt(((truth - answers) ** 2).mean(-1))

    def r2(answers: Array, truth: Array) -> Array:
        total = ((truth - truth.mean(-1, keepdims=True)) ** 2).mean(-1)
        return 1 - ((truth - answers) ** 2).mean(-1) / np.maximum(total, np.finfo(float).tiny)

    def spearman(answers: Array, truth: Array) -> Array:
        one, other = (each - each.mean(-1, keepdims=True) for each in (ranks(answers), ranks(truth)))
        lengths = np.sqrt((one**2).sum(-1) * (other**2).sum(-1))
        return (one * other).sum(-1) / np.maximum(lengths, 1e-300)

    def log_error(answers: Array, truth: Array) -> Array:
        return np.abs(np.log(truth) - np.log(answers)).mean(-1)

    measures: dict[str, Callable[[Array, Array], Array]] = {
        "mae": mae,
        "rmse": rmse,
        "r2": r2,
        "spearman": spearman,
    }
    if positive:
        measures["log_error"] = log_error
    random = np.random.default_rng(0)
    values: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(_RESAMPLES if len(truth) <= _MANY else _FEWER_RESAMPLES):
        drawn = random.integers(len(truth), size=len(truth))
        if len(truth) > 1 and (truth[drawn] == truth[drawn[0]]).all():
            continue  # without a spread there is no R2
        for name, measure in measures.items():
            values[name].append(float(measure(answers[drawn], truth[drawn])))
    tail = (1 - _CONFIDENCE) / 2
    found: dict[str, Any] = {"log_error": None}
    for name, measure in measures.items():
        value = float(measure(answers, truth))
        ends = np.quantile(values[name], [tail, 1 - tail]).tolist() if values[name] else [value, value]
        found[name] = Measure(value, (ends[0], ends[1]))
    return found


@dataclass(frozen=True)
class _Axis:
    """From a number to a place in percent."""

    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def of(cls, values: Array, *, logarithmic: bool = False) -> _Axis:
        values = np.log(values) if logarithmic else values
        low, high = float(values.min()), float(values.max())
        margin = _AXIS_SHARE * (high - low) or 1.0
        return cls(low - margin, high + margin, logarithmic)

    def __call__(self, value: float) -> float:
        value = math.log(value) if self.logarithmic else value
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def ends(self) -> tuple[str, str]:
        ends = (self.low, self.high)
        return number(math.exp(ends[0]) if self.logarithmic else ends[0]), number(
            math.exp(ends[1]) if self.logarithmic else ends[1]
        )


TASK = Regression()
