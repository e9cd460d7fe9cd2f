"""Single-label classification: each example has one class out of several."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ktransfer.errors import DataError, RecipeError
from ktransfer.tasks.one_answer import OneAnswer

if TYPE_CHECKING:
    import keras

    from ktransfer.core.typing import Array
    from ktransfer.evaluation.calibration import Calibration
    from ktransfer.evaluation.metrics import Evaluation
    from ktransfer.recipes.recipe import Recipe


_FOLDS = 5
_LARGEST_MATRIX = 20  # classes that a table of all pairs can be read with


class SingleLabel(OneAnswer):
    """Classes exclude each other: softmax, cross-entropy, and the most probable class as the answer.

    Implements `ktransfer.core.task.Task`. Labels are int32 `(N,)`, indices of classes.
    """

    name = "single_label"
    title = "single-label classification"
    reads, label_noun = "single_label", "classes"
    activation = "softmax"
    score, score_title, hit_title = "accuracy", "accuracy", "accuracy"
    output_title = "Probability of each label; their sum is 1"
    answer_fields: ClassVar[Mapping[str, str]] = {"label": "text", "probability": "float"}
    template = "single_label.html"
    uneven_hint = "with --class-weight balanced or --loss focal the rare ones count for more"

    # Labels.

    def check_labels(self, labels: Any, *, examples: int, classes: int) -> Array:
        labels = np.array(labels)
        if labels.shape != (examples,):
            raise DataError(
                f"Expected at least one example and one label for each, got {examples} inputs, labels of "
                f"shape {labels.shape}. Pass as many of each."
            )
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
            raise DataError(
                f"Expected integer labels from 0 to {classes - 1}, one for each class name, got "
                f"{labels.dtype} from {labels.min()} to {labels.max()}. Pass each class's position."
            )
        labels = labels.astype(np.int32)
        labels.setflags(write=False)
        return labels

    def counts(self, labels: Array, classes: int) -> Array:
        return np.bincount(labels, minlength=classes)

    def keys(self, labels: Array) -> list[Hashable]:
        return labels.tolist()

    def name_of(self, key: int, class_names: Sequence[str]) -> str:
        return class_names[key]

    def hold_out(
        self, labels: Array, alike: Sequence[Sequence[int]], fraction: float, *, seed: int
    ) -> tuple[list[int], int | None]:
        units: dict[int, list[Sequence[int]]] = {label: [] for label in np.unique(labels).tolist()}
        contradicted = set()
        for unit in alike:
            found = set(labels[unit].tolist())
            if len(found) == 1:
                units[found.pop()].append(unit)
            else:  # it contradicts itself, and is never held out
                contradicted |= found
        held_out: list[int] = []
        for label, choices in units.items():
            # An example that other classes have too already keeps this class on the other side.
            most = len(choices) - (label not in contradicted)
            if most < 1:
                return [], label
            order = np.random.default_rng([seed, label]).permutation(len(choices))
            taken = min(max(round(fraction * len(choices)), 1), most)
            held_out += [index for unit in order[:taken] for index in choices[unit]]
        return held_out, None

    def targets(self, labels: Array, classes: int) -> Array:
        return np.eye(classes, dtype=np.float32)[labels]

    def labels_of(self, targets: Array) -> Array:
        targets = np.asarray(targets)
        return targets.argmax(axis=-1) if targets.ndim == 2 else targets

    def folds(self, labels: Array, *, seed: int) -> list[tuple[Array, Array]] | None:
        from sklearn.model_selection import StratifiedKFold

        count = int(min(_FOLDS, np.bincount(labels).min()))
        if count < 2:
            return None
        folds = StratifiedKFold(count, shuffle=True, random_state=seed)
        return list(folds.split(labels, labels))

    def sample(self, labels: Array, count: int, *, seed: int) -> Array:
        from sklearn.model_selection import StratifiedKFold

        # The first fold of a split into that many.
        counts = np.bincount(labels)
        parts = max(2, min(len(labels) // count, int(counts.min())))
        folds = StratifiedKFold(parts, shuffle=True, random_state=seed)
        return next(iter(folds.split(labels, labels)))[1]

    # Training.

    def loss(self, recipe: Recipe, *, one_hot: bool = True) -> keras.losses.Loss:
        import keras

        if not one_hot:
            if recipe.label_smoothing or recipe.loss == "focal":
                raise RecipeError(
                    "Expected labels as shares of the classes for label smoothing or focal loss, got labels "
                    "as indices. Pass one_hot=True to the dataset, or set label_smoothing=0 and "
                    'loss="cross_entropy".'
                )
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        smoothing = recipe.label_smoothing
        if recipe.loss == "focal":
            # Keras' own alpha of 0.25 for every class would only make the learning rate smaller.
            return keras.losses.CategoricalFocalCrossentropy(
                alpha=1.0, gamma=recipe.focal_gamma, from_logits=True, label_smoothing=smoothing
            )
        return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)

    def metric(self, *, one_hot: bool = True) -> keras.metrics.Metric:
        import keras

        kind = keras.metrics.CategoricalAccuracy if one_hot else keras.metrics.SparseCategoricalAccuracy
        return kind(name=self.score)

    def smoothed(self, targets: Array, smoothing: float) -> Array:
        return targets * (1 - smoothing) + smoothing / targets.shape[1]

    def likelihoods(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        from scipy.special import log_softmax

        logs = log_softmax(logits, axis=1)
        return -(targets * logs).sum(axis=1, keepdims=True), np.exp(logs) - targets

    def example_weights(self, labels: Array, classes: int, choice: str | Mapping[int, float] | None) -> Array:
        if choice is None:
            return np.ones(len(labels))
        from ktransfer.training.linear_probe import class_weights

        return class_weights(labels, classes, choice)[labels]

    # Answers.

    def probabilities(self, logits: Array) -> Array:
        powers = np.exp(np.float64(logits) - np.max(logits, axis=-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    def decide(self, probabilities: Array, decision: Mapping[str, Any] | None = None) -> Array:
        return np.asarray(probabilities).argmax(axis=-1)

    def hits(self, decided: Array, labels: Array) -> Array:
        return (decided == labels).astype(float)

    agreement = hits

    def look_like_probabilities(self, logits: Array) -> bool:
        return bool((logits >= 0).all() and np.allclose(logits.sum(-1), 1, atol=1e-5))

    def answers(
        self,
        probabilities: Array,
        class_names: Sequence[str],
        decision: Mapping[str, Any] | None = None,
        *,
        top_k: int,
    ) -> list[dict[str, Any]]:
        return [
            {"label": class_names[i], "probability": float(probabilities[i])}
            for i in np.argsort(-probabilities, kind="stable")[:top_k]
        ]

    def at_temperature(self, decision: dict[str, Any], temperature: float) -> dict[str, Any]:
        return decision

    def answer_line(self, answers: Sequence[Mapping[str, Any]]) -> str:
        return ", ".join(f"{each['label']} {each['probability']:.1%}" for each in answers)

    # Evaluation.

    def evaluate(
        self,
        probabilities: Array,
        labels: Array,
        class_names: Sequence[str],
        *,
        fitted: Mapping[str, Any] | None = None,
    ) -> Evaluation:
        from ktransfer.evaluation.metrics import evaluate

        temperature = None if fitted is None else fitted.get("temperature")
        predicted = self.decide(probabilities)
        return evaluate(probabilities, labels, class_names, temperature=temperature, predicted=predicted)

    def report(self, evaluation: Evaluation, counts: Mapping[str, int]) -> dict[str, Any]:
        from ktransfer.evaluation.metrics import confusions

        scores = [(name, score) for name, score in evaluation.per_class.items() if score.support]
        name, weakest = min(scores, key=lambda entry: entry[1].f1)
        usual = max(counts, key=counts.__getitem__)
        names = list(evaluation.per_class)
        return {
            "right": round(evaluation.accuracy * evaluation.examples),
            "weakest": {"name": name, "f1": weakest.f1, "recall": weakest.recall},
            "baseline": {
                "name": usual,
                "accuracy": evaluation.per_class[usual].support / evaluation.examples,
            },
            "per_class": sorted(evaluation.per_class.items(), key=lambda entry: entry[1].f1),
            "names": names,
            "confusion": evaluation.confusion if len(names) <= _LARGEST_MATRIX else None,
            "mistakes": confusions(evaluation.confusion, names),
        }

    def reliability(self, evaluation: Evaluation) -> tuple[Calibration, Calibration, bool]:
        return evaluation, evaluation.calibrated, evaluation.calibrated.cross_fitted

    def explained(
        self, probabilities: Array, labels: Array, decision: Mapping[str, Any] | None, most: int
    ) -> tuple[list[int], list[int], list[list[int]]]:
        """Choose the examples to explain in a report: wrong ones, right ones, and the classes of each in order."""
        from ktransfer.evaluation.explanations import choose_examples

        answers = self.decide(probabilities)
        wrong, right = choose_examples(probabilities, labels, most, answers=answers)
        classes = [list(dict.fromkeys([int(answers[i]), int(labels[i])])) for i in [*wrong, *right]]
        return wrong, right, classes

    def log_odds(self, probabilities: Array, classes: Sequence[int]) -> Array:
        """`log(p / (1 - p))` of one class in each row, where `p` may be so close to 1 that `1 - p` is lost."""
        from ktransfer.evaluation.explanations import log_odds

        return log_odds(probabilities, classes)

    def card(
        self,
        probabilities: Array,
        label: Any,
        class_names: Sequence[str],
        decision: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The contents of a report's card for the answer to one example."""
        label, answer = int(label), int(self.decide(probabilities))
        return {
            "truth": class_names[label],
            "answer": class_names[answer],
            "right": label == answer,
            "sure": min(float(probabilities[answer]), 0.99999),  # float32 rounds up to 1
            "loss": float(-np.log(max(float(probabilities[label]), 1e-12))),
        }

    def worst(self, probabilities: Array, labels: Array, most: int) -> list[int]:
        """The examples whose truth was given least, below one half; the worst first."""
        given = probabilities[np.arange(len(labels)), labels]
        return [int(i) for i in np.argsort(given, kind="stable")[:most] if given[i] < 0.5]


TASK = SingleLabel()
