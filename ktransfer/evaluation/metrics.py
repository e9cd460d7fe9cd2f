"""Metrics of a classifier on examples that it was not trained on."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from ktransfer.core.task import Evaluation as TaskEvaluation
from ktransfer.data.examples import Examples
from ktransfer.evaluation.calibration import (
    Calibration,
    calibration,
    cross_fitted,
    fit_temperature,
    wilson_interval,
    with_temperature,
)
from ktransfer.utils.files import replacing


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class, each in [0, 1]; `support` counts its examples."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Calibrated(Calibration):
    """The calibration of probabilities after temperature scaling.

    Attributes:
        temperature: By which the logits are divided.
        cross_fitted: Whether it was fitted on these examples. What is measured then is what each half of them
            gets by the temperature of the other half.
    """

    temperature: float
    cross_fitted: bool


@dataclass(frozen=True)
class Evaluation(Calibration):
    """The metrics of `evaluate`, with `log_loss`, `brier`, `ece` and `reliability` of `Calibration`.

    Attributes:
        examples: How many were evaluated.
        accuracy: Share of them whose most probable class is the true one.
        accuracy_interval: Where the true share lies with a confidence of 95 % (Wilson 1927).
        calibrated: The same of the probabilities after temperature scaling, which changes no answer.
        macro: Means over the classes that have examples.
        per_class: Scores by class name.
        confusion: Counts, `confusion[true][predicted]`, in the order of `per_class`.
    """

    examples: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    calibrated: Calibrated
    macro: ClassScore
    per_class: dict[str, ClassScore]
    confusion: list[list[int]]

    value_title: ClassVar[str] = "accuracy"

    @property
    def value(self) -> float:
        """The accuracy."""
        return self.accuracy

    @property
    def fitted(self) -> dict[str, Any]:
        """The temperature."""
        return {"temperature": self.calibrated.temperature}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        """The metrics as one line, printed after the name of a split."""
        low, high = self.accuracy_interval
        return f"accuracy {self.accuracy:.3f} (95 % interval {low:.3f} to {high:.3f}), macro F1 {self.macro.f1:.3f}"

    def tables(self, noun: str) -> list[list[list[str]]]:
        """Tables for a terminal, each a list of rows of which the first is the heading."""
        scores = [["class", "precision", "recall", "F1", noun]]
        for name, score in [*self.per_class.items(), ("macro mean", self.macro)]:
            values = (score.precision, score.recall, score.f1)
            scores.append([name, *(f"{value:.3f}" for value in values), str(score.support)])
        names = list(self.per_class)
        if len(names) > 20:
            return [scores]
        rows = [[name, *map(str, row)] for name, row in zip(names, self.confusion, strict=True)]
        return [scores, [["true \\ predicted", *names], *rows]]

    def save_picture(self, path: str | Path) -> None:
        """Draw the confusion matrix as a PNG."""
        self.save_confusion(path)

    def save_confusion(self, path: str | Path) -> None:
        """Draw the confusion matrix as a PNG."""
        # Its own canvas: pyplot would keep the figure and may want a screen.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from sklearn.metrics import ConfusionMatrixDisplay

        names = list(self.per_class)
        side = min(max(4.0, 0.55 * len(names) + 2), 24)
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        FigureCanvasAgg(figure)
        display = ConfusionMatrixDisplay(np.array(self.confusion), display_labels=names)
        display.plot(
            ax=figure.subplots(),
            cmap="Blues",
            xticks_rotation="vertical" if len(names) > 5 or max(map(len, names)) > 9 else "horizontal",
            include_values=len(names) <= 30,
        )
        figure.suptitle(f"accuracy {self.accuracy:.3f} on {self.examples} examples")
        with replacing(path) as partial, warnings.catch_warnings():
            # A script that the plot's font lacks comes out as boxes; the names are in the JSON next to it.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(partial, dpi=120)


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of a model to a split: probabilities `(N, C)`, and the `Evaluation` of its task."""

    examples: Examples
    probabilities: np.ndarray
    evaluation: TaskEvaluation


def confusions(
    confusion: Sequence[Sequence[int]], names: Sequence[str], most: int = 8
) -> list[dict[str, Any]]:
    """The most frequent mistakes: `{"truth", "answer", "count", "share"}`, the share being of the true class.

    Example:

        confusions([[8, 2], [0, 10]], ["cat", "dog"])   # [{"truth": "cat", "answer": "dog", "count": 2, ...}]
    """
    found: list[dict[str, Any]] = [
        {"truth": names[i], "answer": names[j], "count": count, "share": count / sum(row)}
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(found, key=lambda entry: -entry["count"])[:most]


def evaluate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    temperature: float | None = None,
    predicted: np.ndarray | None = None,
) -> Evaluation:
    """Compare predictions with the truth.

    Args:
        probabilities: `(N, C)`, each row summing to 1.
        labels: int `(N,)`, the true classes.
        class_names: C names.
        temperature: Fitted on other examples; `None` fits it on these.
        predicted: int `(N,)`, the answers. Defaults to `None`, the most probable classes.

    Returns:
        An `Evaluation`.

    Example:

        evaluate(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]), ["cat", "dog"]).accuracy   # 1.0
    """
    indices = np.arange(len(class_names))
    if predicted is None:
        predicted = probabilities.argmax(axis=-1)
    scores = precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0.0)
    per_class = {
        name: ClassScore(float(p), float(r), float(f), int(n))
        for name, p, r, f, n in zip(class_names, *scores, strict=True)
    }
    present = [score for score in per_class.values() if score.support]
    macro = ClassScore(
        precision=float(np.mean([score.precision for score in present])),
        recall=float(np.mean([score.recall for score in present])),
        f1=float(np.mean([score.f1 for score in present])),
        support=len(labels),
    )
    right = int((predicted == labels).sum())
    fit = temperature is None
    if temperature is None:
        temperature = fit_temperature(probabilities, labels)
        softened = cross_fitted(probabilities, labels)
    else:
        softened = with_temperature(probabilities, temperature)
    return Evaluation(
        **vars(calibration(probabilities, labels)),
        examples=len(labels),
        accuracy=right / len(labels),
        accuracy_interval=wilson_interval(right, len(labels)),
        calibrated=Calibrated(
            **vars(calibration(softened, labels)), temperature=temperature, cross_fitted=fit
        ),
        macro=macro,
        per_class=per_class,
        confusion=confusion_matrix(labels, predicted, labels=indices).tolist(),
    )
