"""The protocol of a task, such as single-label classification, and the registry of tasks.

A task says what labels look like, how a head is solved and trained for them, and how numbers become answers. It is
a module in `ktransfer/tasks`, named here; nothing else chooses between tasks.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import keras

    from ktransfer.core.typing import Array, PathLike
    from ktransfer.evaluation.calibration import Calibration
    from ktransfer.recipes.recipe import Recipe

# By name, where each is implemented, as `TASK`. They are imported when they are first asked for.
_HOMES = {
    "single_label": "ktransfer.tasks.single_label",
    "multi_label": "ktransfer.tasks.multi_label",
    "ner": "ktransfer.tasks.token_classification",
    "regression": "ktransfer.tasks.regression",
    "ordinal": "ktransfer.tasks.ordinal",
}
SINGLE_LABEL = "single_label"


class Task(Protocol):
    """One way of labelling examples.

    Shapes: N examples, C classes. `labels` are an array whose first axis is N, as `check_labels` returns it;
    `targets` are float32 `(N, C)`, what a loss compares logits with; `logits` and `probabilities` are `(N, C)`.
    `decision` is what is stored in a run and its artifacts to get from probabilities to answers, JSON-able.

    What a model gives has rows: one an example, or one a word. Where `per_token` is true, `probabilities` are one value
    an example, in which its rows are, `targets`, `logits` and `likelihoods` are those of rows, and the metric, the
    solved head and the parity of artifacts are those of the `row_task`.

    Attributes:
        name: As `_HOMES` has it.
        title: For a heading, such as `"single-label classification"`.
        reads: `"single_label"` where an example is labelled with one class, `"multi_label"` with any number of labels,
            `"spans"` with entities in a text, `"regression"` with a number.
        label_noun: What the classes are called, such as `"classes"`.
        activation: The name of the function of `tf.nn` that makes probabilities of logits; empty where `in_graph` does.
        score: The name of the metric by which epochs are compared, as `history.csv` has it; higher is better.
        score_title: The same for a line that is printed, such as `"accuracy"`.
        hit_title: What the mean of `hits` is called, such as `"accuracy"`.
        loss_title: What the mean of `likelihoods` is called, such as `"log loss"`.
        output_title: What the numbers are that an artifact answers, for its metadata.
        compared_title: What `compared` gives first, such as `"probabilities"`.
        agreement_title: What answers are that agree, such as `"with the same label"`.
        picture: The file in a run folder that `Evaluation.save_picture` is written to.
        uneven_hint: What a person can do about classes of uneven size.
        template: The file of `reporting` that holds the parts of a report that depend on the task.
        per_token: Whether each word of a text has an answer, by its first token.
        every_class: Whether a head is solved only where every class has an example.
        weights_in_loss: Whether the weights of classes are given to `loss`, not to `fit`.
        tempered: Whether dividing logits by a temperature calibrates the probabilities.
        least_squares: Whether `likelihoods` are half the squared errors, so that a head is solved in closed form.
        only_gains: Whether fine-tuned weights are kept only where their validation loss is below the solved head's.
        answer_fields: The keys of each of `answers` and what they hold: `"text"`, `"float"`, `"floats"`, `"int"` or
            `"bool"`; a key may be left out.
        row_task: The task of one row: this one, or that of a word's tag.
    """

    name: str
    title: str
    reads: str
    label_noun: str
    activation: str
    score: str
    score_title: str
    hit_title: str
    loss_title: str
    output_title: str
    compared_title: str
    agreement_title: str
    picture: str
    uneven_hint: str
    template: str
    per_token: bool
    every_class: bool
    weights_in_loss: bool
    tempered: bool
    least_squares: bool
    only_gains: bool
    answer_fields: Mapping[str, str]

    @property
    def row_task(self) -> Task: ...

    def output_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """The names of a model's outputs, such as the classes themselves, or the tags of types."""

    def output_axes(self, input_axes: Sequence[Any], outputs: int) -> tuple[Any, ...]:
        """The axes of what a model gives, by those of its first input and the number of outputs."""

    # What a task takes from the training labels, such as the scale of a number.

    def fit(self, labels: Array, *, transform: str | None = None) -> Task:
        """The task for models of these training labels; most tasks stay as they are.

        Args:
            labels: Of the training examples.
            transform: `"log"`, or `None` for none.

        Raises:
            DataError: Nothing can be learned of the labels, or the transform does not fit them.
        """

    def hints(self, labels: Array) -> list[str]:
        """Hints on training labels that may have another meaning, or that another option suits better."""

    def facts(self) -> dict[str, Any] | None:
        """JSON-able results of `fit`; `None` if there are none."""

    def with_facts(self, facts: Mapping[str, Any] | None) -> Task:
        """The task that `facts` was asked of.

        Raises:
            RunError: They are none.
        """

    def adapted(self, recipe: Recipe) -> Recipe:
        """The recipe with the task's own loss, where it has that of a classifier by default."""

    # Labels.

    def check_class_names(self, class_names: Sequence[str]) -> None:
        """Raise `DataError` for classes of data that the task has no use for, such as ones without an order."""

    def check_labels(self, labels: Any, *, examples: int, classes: int) -> Array:
        """The labels as a read-only array.

        Raises:
            DataError: They are not labels of so many examples and classes.
        """

    def counts(self, labels: Array, classes: int) -> Array:
        """The number of examples of each class: int `(C,)`."""

    def keys(self, labels: Array) -> list[Hashable]:
        """For each example a value that is equal for equal labels, and can be sorted."""

    def name_of(self, key: Any, class_names: Sequence[str]) -> str:
        """The display name of one of `keys`."""

    def hold_out(
        self, labels: Array, alike: Sequence[Sequence[int]], fraction: float, *, seed: int
    ) -> tuple[list[int], int | None]:
        """Choose examples to validate on.

        Args:
            labels: Of all examples.
            alike: Sets of examples that stay on one side.
            fraction: The share to hold out, between 0 and 1.
            seed: Any non-negative integer.

        Returns:
            Indices of what is held out, and the class of which nothing can be held out or `None`.
        """

    def targets(self, labels: Array, classes: int) -> Array:
        """float32 `(N, C)`."""

    def labels_of(self, targets: Array) -> Array:
        """The inverse of `targets`."""

    def folds(self, labels: Array, *, seed: int) -> list[tuple[Array, Array]] | None:
        """Folds of a cross-validation as `(rest, held out)` indices; `None` where there are too few examples."""

    def sample(self, labels: Array, count: int, *, seed: int) -> Array:
        """Indices of about `count` examples, each class by its share."""

    # Training.

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise `RecipeError` for what a recipe asks that the task cannot do."""

    def loss(self, recipe: Recipe, *, one_hot: bool = True) -> keras.losses.Loss:
        """The Keras loss of logits; where `weights_in_loss` it takes `class_weight`, by the index of an output."""

    def head_rows(
        self, row_labels: Array, class_weight: str | Mapping[int, float] | None, *, seed: int
    ) -> tuple[Array, Mapping[int, float] | None]:
        """Indices of the rows that the head is solved on, and what is added to its biases then, by output."""

    def metric(self, *, one_hot: bool = True) -> keras.metrics.Metric:
        """The Keras metric called `score`, of logits."""

    def smoothed(self, targets: Array, smoothing: float) -> Array:
        """Targets after label smoothing."""

    def likelihoods(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        """Negative log likelihoods, `(N, 1)` or `(N, C)`, and their derivatives by the logits, `(N, C)`."""

    def example_weights(self, labels: Array, classes: int, choice: str | Mapping[int, float] | None) -> Array:
        """The weight of each example: float64 `(N,)`; `choice` is `Recipe.class_weight`."""

    def better_biases(self, probabilities: Array, labels: Array) -> tuple[Array, str] | None:
        """Numbers to add to the head's biases `(C,)` for a better score, and why in words; `None` where nothing gains.

        Args:
            probabilities: Of the validation examples.
            labels: Theirs.
        """

    # Answers.

    def probabilities(self, logits: Array) -> Array:
        """The probabilities of logits, float64."""

    def in_graph(self, logits: Any) -> Any:
        """Probabilities of logits in Keras operations, for a task without `activation`."""

    def compared(self, probabilities: Array) -> tuple[Array, Array]:
        """Answers on the scales on which two models are compared: one for a tolerance, one that is of logits.

        Of classes these are probabilities and their logarithms.
        """

    def decide(self, probabilities: Array, decision: Mapping[str, Any] | None = None) -> Array:
        """The labels that probabilities stand for, as `check_labels` returns them."""

    def hits(self, decided: Array, labels: Array) -> Array:
        """The correctness of each answer, in [0, 1]: float `(N,)`."""

    def agreement(self, decided: Array, other: Array) -> Array:
        """The agreement of two answers, in [0, 1]: float `(N,)`."""

    def look_like_probabilities(self, logits: Array) -> bool:
        """Whether what a model answers as logits are probabilities."""

    def answers(
        self,
        probabilities: Array,
        class_names: Sequence[str],
        decision: Mapping[str, Any] | None = None,
        *,
        top_k: int,
    ) -> list[dict[str, Any]]:
        """The result of `predict` for one example, from its probabilities `(C,)`."""

    def at_temperature(self, decision: dict[str, Any], temperature: float) -> dict[str, Any]:
        """The decision adapted to probabilities whose logits were divided by a temperature."""

    def answer_line(self, answers: Sequence[Mapping[str, Any]]) -> str:
        """These answers as a line of text."""

    # Evaluation.

    def evaluate(
        self,
        probabilities: Array,
        labels: Array,
        class_names: Sequence[str],
        *,
        fitted: Mapping[str, Any] | None = None,
    ) -> Evaluation:
        """Compare answers with the truth.

        Args:
            probabilities: `(N, C)`.
            labels: The truth.
            class_names: C names.
            fitted: What `Evaluation.fitted` was on other examples; `None` fits it on these.

        Returns:
            An `Evaluation` of the task.
        """

    # Reports.

    def explained(
        self, probabilities: Array, labels: Array, decision: Mapping[str, Any] | None, most: int
    ) -> tuple[list[int], list[int], list[list[int]]]:
        """Choose the answers to explain in a report: at most so many wrong and right ones, with their classes."""

    def log_odds(self, probabilities: Array, classes: Sequence[int]) -> Array:
        """`log(p / (1 - p))` of one class in each row of probabilities: `(N,)`."""

    def worst(self, probabilities: Array, labels: Array, most: int) -> list[int]:
        """Examples whose truth is given least, at most so many, the worst first."""

    def card(
        self,
        probabilities: Array,
        label: Any,
        class_names: Sequence[str],
        decision: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The contents of an answer's card: `truth`, `answer`, `right`, `sure` in [0, 1], and `loss` in nats."""

    def findings(
        self, inputs: Sequence[str], labels: Array, class_names: Sequence[str]
    ) -> list[tuple[str, list[int], str]]:
        """Findings on labels: the kind of each `Finding`, its examples, and the detail."""

    def confidence(self, probabilities: Array) -> float:
        """The mean of the highest probability of each row."""

    def reliability(self, evaluation: Any) -> tuple[Calibration, Calibration, bool] | None:
        """`Calibration` of probabilities as they are and after temperature scaling; whether that is cross-fitted.

        `None` of a task whose answers are no probabilities.
        """

    def report(self, evaluation: Any, counts: Mapping[str, int]) -> dict[str, Any]:
        """Values for `template` from an evaluation, given the number of training examples by class."""


class Evaluation(Protocol):
    """The metrics of a task on labelled examples.

    Attributes:
        examples: How many.
        value: The number that the manifest has as the metric of a split, higher is better.
        value_title: Its name in messages.
        fitted: What was fitted and stays fixed on other examples, JSON-able: `temperature`, and `decision`.
    """

    @property
    def examples(self) -> int: ...

    @property
    def value(self) -> float: ...

    @property
    def value_title(self) -> str: ...

    @property
    def fitted(self) -> dict[str, Any]: ...

    def to_dict(self) -> dict[str, Any]:
        """The metrics as JSON values, as in `metrics.json`."""

    def line(self) -> str:
        """The metrics as one line, printed after the name of a split."""

    def tables(self, noun: str) -> list[list[list[str]]]:
        """Tables for a terminal, each a list of rows of which the first is the heading."""

    def save_picture(self, path: PathLike) -> None:
        """Draw it as a PNG."""


@functools.cache
def _load(name: str) -> Task:
    return importlib.import_module(_HOMES[name]).TASK


def get_task(name: str | Task) -> Task:
    """The task of a name; a task is returned as it is.

    Raises:
        ValueError: There is no such task.

    Example:
        >>> get_task("multi_label").activation
        'sigmoid'
    """
    if not isinstance(name, str):
        return name
    if name not in _HOMES:
        raise ValueError(f"Expected a task out of {', '.join(_HOMES)}, got {name!r}. Pass one of them.")
    return _load(name)


def task_names() -> tuple[str, ...]:
    """The names of all tasks, the usual one first.

    Example:
        >>> task_names()
        ('single_label', 'multi_label', 'ner', 'regression', 'ordinal')
    """
    return tuple(_HOMES)
