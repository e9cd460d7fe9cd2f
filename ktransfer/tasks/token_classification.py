"""Token classification: which words of a text are entities, and of which type."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from ktransfer.data.entities.words import is_whole, snapped, words_of
from ktransfer.data.stratification import held_out_units
from ktransfer.errors import DataError, RecipeError
from ktransfer.evaluation.calibration import (
    Calibration,
    calibration,
    cross_fitted,
    fit_temperature,
    with_temperature,
)
from ktransfer.tasks.one_answer import Classes
from ktransfer.tasks.single_label import SingleLabel

if TYPE_CHECKING:
    import keras

    from ktransfer.core.typing import Array, PathLike, Tensor
    from ktransfer.recipes.recipe import Recipe


OUTSIDE = "O"
_FOLDS = 5
_BLOCK = 200  # words that stay in one fold: those of a sentence know of each other
# Words that the head is solved on; what is left out are words outside of entities.
_HEAD_WORDS = 30_000
_RESAMPLES, _CONFIDENCE, _AT_ONCE = 1_000, 0.95, 100
_CONFUSIONS = 20
_FEWEST_ENTITIES = 50  # in validation, for a choice by their F1
_LEAST_GAIN = 0.01
_SURFACES = 50
_MISSED, _INVENTED = "(missed)", "(none)"
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class WordAnswers:
    """The answers of a model to the words of one text.

    Attributes:
        text: The text.
        words: `(start, end)` of each word in characters.
        probabilities: float32 `(words, tags)`.
    """

    text: str
    words: Sequence[tuple[int, int]]
    probabilities: np.ndarray


@dataclass(frozen=True)
class EntityScore:
    """Exact matches of entities, begin, end and type: precision, recall and F1 in [0, 1].

    Attributes:
        support: True entities.
        interval: Of the F1, as in `EntityEvaluation.interval`.
    """

    precision: float
    recall: float
    f1: float
    support: int
    interval: tuple[float, float]


@dataclass(frozen=True)
class EntityEvaluation:
    """The metrics of named entity recognition.

    Attributes:
        examples: Texts.
        micro: Over all entities, as seqeval counts them in its strict mode.
        macro_f1: Mean F1 of the types that have entities.
        per_type: Scores by type.
        interval: Of the micro F1: the middle 95 % of 1,000 bootstrap resamples of the texts (Efron 1979).
        confusions: The most frequent mistakes: `truth`, `answer`, `kind`, `count`, and an `example`.
        word_accuracy: Share of the words with the right tag.
        calibration: How far the probabilities of words' tags are from what they say.
        calibrated: The same after temperature scaling; where `cross_fitted` by a temperature from the other half.
        temperature: By which the logits are divided then.
        cross_fitted: Whether the temperature was fitted on these texts.
    """

    examples: int
    micro: EntityScore
    macro_f1: float
    per_type: dict[str, EntityScore]
    confusions: list[dict[str, Any]]
    word_accuracy: float
    calibration: Calibration
    calibrated: Calibration
    temperature: float
    cross_fitted: bool

    value_title = "entity F1"

    @property
    def value(self) -> float:
        """The micro F1."""
        return self.micro.f1

    @property
    def fitted(self) -> dict[str, Any]:
        """The temperature."""
        return {"temperature": self.temperature}

    def to_dict(self) -> dict[str, Any]:
        """The metrics as JSON values, as in `metrics.json`."""
        return dataclasses.asdict(self)

    def line(self) -> str:
        """The metrics as one line, printed after the name of a split."""
        low, high = self.micro.interval
        return (
            f"entity F1 {self.micro.f1:.3f} (95 % interval {low:.3f} to {high:.3f}), precision "
            f"{self.micro.precision:.3f}, recall {self.micro.recall:.3f}, macro F1 {self.macro_f1:.3f}"
        )

    def tables(self, noun: str) -> list[list[list[str]]]:
        """Tables for a terminal, each a list of rows of which the first is the heading."""
        rows = [["type", "precision", "recall", "F1", "95 % interval", "entities"]]
        for name, score in [*self.per_type.items(), ("all", self.micro)]:
            values = (f"{each:.3f}" for each in (score.precision, score.recall, score.f1))
            low, high = score.interval
            rows.append([name, *values, f"{low:.3f} to {high:.3f}", str(score.support)])
        mistakes = [["truth", "answer", "mistake", "times", "such as"]]
        for each in self.confusions[:10]:
            mistakes.append(
                [each["truth"], each["answer"], each["kind"], str(each["count"]), each["example"]]
            )
        return [rows, mistakes] if self.confusions else [rows]

    def save_picture(self, path: PathLike) -> None:
        """Draw precision, recall and F1 of each type as a PNG."""
        # Its own canvas: pyplot would keep the figure and may want a screen.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        from ktransfer.utils.files import replacing

        ranked = sorted(self.per_type.items(), key=lambda entry: entry[1].f1)[:60]
        figure = Figure(figsize=(8, max(3.0, 0.28 * len(ranked) + 1.2)), layout="constrained")
        FigureCanvasAgg(figure)
        axes, places = figure.subplots(), np.arange(len(ranked))
        axes.barh(places, [score.f1 for _, score in ranked], color="#9ec5e8", label="F1")
        for name, marker in (("precision", ">"), ("recall", "o")):
            axes.plot([getattr(score, name) for _, score in ranked], places, marker, ms=5, label=name)
        axes.set_yticks(places, [f"{name} ({score.support})" for name, score in ranked])
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("exact match of entities; next to each type its number of entities")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
        with replacing(path) as partial, warnings.catch_warnings():
            # A script that the plot's font lacks comes out as boxes; the names are in the JSON as well.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(partial, dpi=120)


class TagOfWord(SingleLabel):
    """The tag of one word: what a row of a token classifier is answered and scored by.

    Labels are int32 `(R,)`, indices of tags, the first of which is `O`; a tag may have no word.
    """

    name = "tag_of_word"
    every_class = False
    score, score_title, hit_title = "tag_f1", "F1 of the tags", "accuracy of the words"

    def metric(self, *, one_hot: bool = True) -> keras.metrics.Metric:
        return _tag_f1(self.score)

    def folds(self, labels: Array, *, seed: int) -> list[tuple[Array, Array]] | None:
        if len(labels) < 2 * _FOLDS or len(np.unique(labels)) < 2:
            return None
        # Neighbors stay together: words of one sentence know of each other.
        block = min(_BLOCK, max(1, len(labels) // (4 * _FOLDS)))
        blocks = np.arange(len(labels)) // block
        fold = np.random.default_rng(seed).permutation(int(blocks[-1]) + 1)[blocks] % _FOLDS
        return [(np.flatnonzero(fold != each), np.flatnonzero(fold == each)) for each in range(_FOLDS)]

    def sample(self, labels: Array, count: int, *, seed: int) -> Array:
        chosen = np.random.default_rng(seed).permutation(len(labels))[:count]
        return np.sort(chosen)


class TokenClassification(Classes):
    """Entities in texts: a softmax over IOB2 tags for the first token of each word, decoded to spans.

    Implements `ktransfer.core.task.Task`. Labels are an array of objects `(N,)`: of each text a tuple of
    `(start, end, type)`, in characters and sorted, none over another; the type is an index of the class names. The tags
    of a model with the types X and Y are `O`, `B-X`, `I-X`, `B-Y`, `I-Y`. Probabilities are an array of objects `(N,)`,
    each `WordAnswers`.
    """

    name = "ner"
    title = "named entities"
    reads, label_noun = "spans", "types of entities"
    activation = "softmax"
    score, score_title = TagOfWord.score, TagOfWord.score_title
    hit_title = "F1 of a text"
    output_title = "Probability of each tag, for each token; their sum is 1"
    answer_fields: ClassVar[Mapping[str, str]] = {
        "label": "text",
        "start": "int",
        "end": "int",
        "text": "text",
        "probability": "float",
    }
    template = "token_classification.html"
    uneven_hint = "with --class-weight balanced or --loss focal the rare ones count for more"
    per_token, every_class, weights_in_loss = True, False, True
    row_task = TagOfWord()

    def output_names(self, class_names: Sequence[str]) -> tuple[str, ...]:
        """The tags, in the order of the model's outputs.

        Example:
            >>> TASK.output_names(["PER"])
            ('O', 'B-PER', 'I-PER')
        """
        return (OUTSIDE, *(f"{letter}-{name}" for name in class_names for letter in "BI"))

    def output_axes(self, input_axes: Sequence[Any], outputs: int) -> tuple[Any, ...]:
        return (*input_axes[:2], outputs)

    # Labels.

    def check_labels(self, labels: Any, *, examples: int, classes: int) -> Array:
        labels = list(labels)
        if len(labels) != examples:
            raise DataError(
                f"Expected the entities of each of {examples} texts, got those of {len(labels)}. Pass as many."
            )
        found = np.empty(examples, object)
        for index, spans in enumerate(labels):
            spans = tuple(sorted(tuple(map(int, span)) for span in spans))
            for before, span in zip([None, *spans], spans, strict=False):
                start, end, kind = span
                if not 0 <= start < end or not 0 <= kind < classes or (before and before[1] > start):
                    raise DataError(
                        f"Expected spans (start, end, type) that do not overlap, with types from 0 to {classes - 1}, "
                        f"got {span} in text {index}. Fix it."
                    )
            found[index] = spans
        found.setflags(write=False)
        return found

    def counts(self, labels: Array, classes: int) -> Array:
        return np.bincount([kind for spans in labels for *_, kind in spans], minlength=classes)

    def keys(self, labels: Array) -> list[Hashable]:
        return list(labels)

    def name_of(self, key: Any, class_names: Sequence[str]) -> str:
        return " | ".join(f"{class_names[kind]} {start}-{end}" for start, end, kind in key) or "(no entity)"

    def hold_out(
        self, labels: Array, alike: Sequence[Sequence[int]], fraction: float, *, seed: int
    ) -> tuple[list[int], int | None]:
        classes = 1 + max((kind for spans in labels for *_, kind in spans), default=0)
        counts = np.array([self.counts(labels[unit], classes) for unit in alike])
        sizes = np.array([len(unit) for unit in alike])
        held = held_out_units(counts, sizes, fraction, seed=seed)
        if held is None:
            return [], int(np.argmin(np.where(counts.any(axis=0), (counts > 0).sum(axis=0), len(labels) + 1)))
        return [index for unit, out in zip(alike, held, strict=True) if out for index in unit], None

    def targets(self, labels: Array, classes: int) -> NoReturn:
        raise TypeError("Expected targets of tokens, got spans of a text. Take them from the preprocessing.")

    def labels_of(self, targets: Array) -> NoReturn:
        raise TypeError("Expected labels of texts, got targets of tokens. Take them from the examples.")

    def folds(self, labels: Array, *, seed: int) -> list[tuple[Array, Array]] | None:
        if len(labels) < 2 * _FOLDS:
            return None
        fold = np.random.default_rng(seed).permutation(len(labels)) % _FOLDS
        return [(np.flatnonzero(fold != each), np.flatnonzero(fold == each)) for each in range(_FOLDS)]

    def sample(self, labels: Array, count: int, *, seed: int) -> Array:
        return np.sort(np.random.default_rng(seed).permutation(len(labels))[:count])

    def head_rows(
        self, row_labels: Array, class_weight: str | Mapping[int, float] | None, *, seed: int
    ) -> tuple[Array, Mapping[int, float] | None]:
        """The words that the head is solved on, and the correction of its bias.

        All words of entities, and as many others as come to 30,000 with them. A class of which a share is taken gets
        the logarithm of that share less (King and Zeng 2001, section 4.1); balanced weights have none of it.
        """
        inside = np.flatnonzero(row_labels)
        outside = np.flatnonzero(row_labels == 0)
        room = max(_HEAD_WORDS - len(inside), len(inside), 1)
        if len(outside) <= room:
            return np.arange(len(row_labels)), None
        chosen = np.random.default_rng(seed).choice(outside, room, replace=False)
        missing = 0.0 if class_weight == "balanced" else float(np.log(len(outside) / room))
        return np.sort(np.concatenate([inside, chosen])), {0: missing}

    # Training.

    def check_recipe(self, recipe: Recipe) -> None:
        super().check_recipe(recipe)
        if recipe.augmentation.is_on:
            raise RecipeError(
                f"Expected no augmentation of texts with marked entities, got {recipe.augmentation}. Leave it out: "
                "words that are moved or left out would no longer be those that are marked."
            )
        if recipe.quantization_aware:
            raise RecipeError(
                f"Expected no quantization_aware epochs for entities, got {recipe.quantization_aware}. Leave them out."
            )

    def loss(
        self, recipe: Recipe, *, one_hot: bool = True, class_weight: Mapping[int, float] | None = None
    ) -> keras.losses.Loss:
        return _word_loss(recipe, class_weight)

    def metric(self, *, one_hot: bool = True) -> keras.metrics.Metric:
        return self.row_task.metric()

    def smoothed(self, targets: Array, smoothing: float) -> Array:
        return self.row_task.smoothed(targets, smoothing)

    def likelihoods(self, logits: Array, targets: Array) -> tuple[Array, Array]:
        return self.row_task.likelihoods(logits, targets)

    def example_weights(self, labels: Array, classes: int, choice: str | Mapping[int, float] | None) -> Array:
        return np.ones(len(labels))

    def better_biases(self, probabilities: Array, labels: Array) -> tuple[Array, str] | None:
        """Most words are O, so that the most probable tags leave entities out that would raise F1 on balance."""
        found = outside_offset(probabilities, labels)
        if found is None:
            return None
        offset, before, after = found
        biases = np.zeros(probabilities[0].probabilities.shape[1])
        biases[0] = -offset
        return biases, f"{offset:+.2f} taken from the logit of O: entity F1 {before:.3f} -> {after:.3f}"

    # Answers.

    def probabilities(self, logits: Array) -> Array:
        return self.row_task.probabilities(logits)

    def decide(
        self, probabilities: Array | Sequence[WordAnswers], decision: Mapping[str, Any] | None = None
    ) -> Array:
        found = np.empty(len(probabilities), object)
        for index, answers in enumerate(probabilities):
            tags = best_tags(answers.probabilities)
            found[index] = tuple(
                (answers.words[first][0], answers.words[last][1], kind)
                for first, last, kind in entities_of_tags(tags)
            )
        return found

    def hits(self, decided: Array, labels: Array) -> Array:
        """The F1 of each text; 1 where it has no entity and none is answered."""
        both = np.array(
            [len(set(one) & set(other)) for one, other in zip(decided, labels, strict=True)], float
        )
        either = np.array([len(one) + len(other) for one, other in zip(decided, labels, strict=True)])
        return np.where(either == 0, 1.0, 2 * both / np.maximum(either, 1))

    def agreement(self, decided: Array, other: Array) -> Array:
        return np.array([float(set(one) == set(two)) for one, two in zip(decided, other, strict=True)])

    def look_like_probabilities(self, logits: Array) -> bool:
        return self.row_task.look_like_probabilities(logits)

    def answers(
        self,
        probabilities: WordAnswers,
        class_names: Sequence[str],
        decision: Mapping[str, Any] | None = None,
        *,
        top_k: int,
    ) -> list[dict[str, Any]]:
        """The entities in the order of the text; `top_k` does not limit them.

        The probability of an entity is the least of its words'.
        """
        tags, found = best_tags(probabilities.probabilities), []
        for first, last, kind in entities_of_tags(tags):
            start, end = probabilities.words[first][0], probabilities.words[last][1]
            each = probabilities.probabilities[np.arange(first, last + 1), tags[first : last + 1]]
            found.append(
                {
                    "label": class_names[kind],
                    "start": int(start),
                    "end": int(end),
                    "text": probabilities.text[start:end],
                    "probability": float(each.min()),
                }
            )
        return found

    def at_temperature(self, decision: dict[str, Any], temperature: float) -> dict[str, Any]:
        return decision

    def answer_line(self, answers: Sequence[Mapping[str, Any]]) -> str:
        return (
            ", ".join(
                f"{each['label']} {each['text']!r} ({each['start']}-{each['end']}) {each['probability']:.1%}"
                for each in answers
            )
            or "no entity"
        )

    # Audit.

    def findings(
        self, inputs: Sequence[str], labels: Array, class_names: Sequence[str]
    ) -> list[tuple[str, list[int], str]]:
        return [*_cut_words(inputs, labels, class_names), *_surfaces(inputs, labels, class_names)]

    # Evaluation.

    def evaluate(
        self,
        probabilities: Array,
        labels: Array,
        class_names: Sequence[str],
        *,
        fitted: Mapping[str, Any] | None = None,
    ) -> EntityEvaluation:
        decided = self.decide(probabilities)
        counted = [_counts(each, len(class_names)) for each in _matched(decided, labels)]
        true, answered, both = (
            np.array(each).reshape(len(labels), -1) for each in zip(*counted, strict=True)
        )
        precision, recall, f1 = _scores(true.sum(0), answered.sum(0), both.sum(0))
        spread = _intervals(true, answered, both)
        support = true.sum(0)
        per_type = {
            name: EntityScore(
                float(precision[c]), float(recall[c]), float(f1[c]), int(support[c]), spread["types"][c]
            )
            for c, name in enumerate(class_names)
        }
        micro = [float(each) for each in _scores(true.sum(), answered.sum(), both.sum())]
        rows = np.concatenate([each.probabilities for each in probabilities])
        truth = np.concatenate(
            [tags_of(spans, each.words) for spans, each in zip(labels, probabilities, strict=True)]
        )
        temperature = (fitted or {}).get("temperature") or None
        if fitted is None or temperature is None:
            temperature, scaled = fit_temperature(rows, truth), cross_fitted(rows, truth)
        else:
            scaled = with_temperature(rows, temperature)
        present = support > 0
        return EntityEvaluation(
            examples=len(labels),
            micro=EntityScore(micro[0], micro[1], micro[2], int(support.sum()), spread["micro"]),
            macro_f1=float(f1[present].mean()) if present.any() else 0.0,
            per_type=per_type,
            confusions=_confusions(probabilities, decided, labels, class_names),
            word_accuracy=float((rows.argmax(axis=-1) == truth).mean()) if len(rows) else 1.0,
            calibration=calibration(rows, truth),
            calibrated=calibration(scaled, truth),
            temperature=float(temperature),
            cross_fitted=fitted is None,
        )

    # Reports.

    def report(self, evaluation: EntityEvaluation, counts: Mapping[str, int]) -> dict[str, Any]:
        scores = [(name, score) for name, score in evaluation.per_type.items() if score.support]
        name, weakest = min(scores, key=lambda entry: entry[1].f1, default=("", None))
        return {
            "weakest": {"name": name, "f1": weakest.f1 if weakest else 0.0},
            "per_type": sorted(evaluation.per_type.items(), key=lambda entry: entry[1].f1),
            "mistakes": evaluation.confusions,
            "training_entities": sum(counts.values()),
        }

    def reliability(self, evaluation: EntityEvaluation) -> tuple[Calibration, Calibration, bool]:
        return evaluation.calibration, evaluation.calibrated, evaluation.cross_fitted

    def confidence(self, probabilities: Array) -> float:
        rows = [each.probabilities.max(axis=-1) for each in probabilities]
        return float(np.concatenate(rows).mean()) if rows else 0.0

    def explained(
        self, probabilities: Array, labels: Array, decision: Mapping[str, Any] | None, most: int
    ) -> tuple[list[int], list[int], list[list[int]]]:
        return [], [], []  # the texts with their entities say it

    def log_odds(self, probabilities: Array, classes: Sequence[int]) -> NoReturn:
        raise TypeError("Expected a task with log odds of a text, got entities. Use their probabilities.")

    def worst(self, probabilities: Array, labels: Array, most: int) -> list[int]:
        """Texts whose entities are not all answered, those with the highest loss first."""
        hits = self.hits(self.decide(probabilities), labels)
        losses = np.array([_loss(each, spans) for each, spans in zip(probabilities, labels, strict=True)])
        return [int(i) for i in np.argsort(-losses, kind="stable") if hits[i] < 1][:most]

    def card(
        self,
        probabilities: WordAnswers,
        label: Any,
        class_names: Sequence[str],
        decision: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The contents of a report's card for one text, `marked` with true and answered entities."""
        [decided] = self.decide([probabilities])
        least = min(
            (each["probability"] for each in self.answers(probabilities, class_names, top_k=1)), default=1.0
        )
        return {
            "truth": _listed(probabilities.text, label, class_names),
            "answer": _listed(probabilities.text, decided, class_names),
            "right": set(label) == set(decided),
            "sure": min(least, 0.99999),
            "loss": _loss(probabilities, label),
            "marked": marked(probabilities.text, label, decided, class_names),
        }


def tags_of(spans: Sequence[tuple[int, int, int]], words: Sequence[tuple[int, int]]) -> np.ndarray:
    """The IOB2 tags of words, by the entities of their text.

    Args:
        spans: `(start, end, type)` in characters; a span that begins or ends within a word has all of it.
        words: `(start, end)` of each.

    Returns:
        int32 `(words,)`: 0 outside, `1 + 2 * type` at the beginning of an entity, `2 + 2 * type` in it.

    Example:
        >>> tags_of([(3, 11, 0)], [(0, 2), (3, 6), (7, 11)]).tolist()
        [0, 1, 2]
    """
    tags = np.zeros(len(words), np.int32)
    words = list(words)
    for start, end, kind in spans:
        found = snapped(start, end, words)
        if found is None:
            continue
        first, last = found
        # Of two that share a word the first has it.
        while first <= last and tags[first]:
            first += 1
        if first <= last:
            tags[first] = 1 + 2 * kind
            tags[first + 1 : last + 1] = 2 + 2 * kind
    return tags


def best_tags(probabilities: np.ndarray) -> np.ndarray:
    """The most probable tags that are valid IOB2: no `I-X` but after `B-X` or `I-X` (Viterbi 1967).

    Args:
        probabilities: `(words, tags)`, tags as `tags_of` numbers them.

    Returns:
        int `(words,)`.

    Example:
        >>> best_tags(np.array([[0.4, 0.3, 0.3], [0.1, 0.2, 0.7]])).tolist()
        [1, 2]
    """
    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-30))
    count, outputs = logs.shape
    if not count:
        return np.zeros(0, np.int64)
    begins, insides = np.arange(1, outputs, 2), np.arange(2, outputs, 2)
    best = logs[0].copy()
    best[insides] = -np.inf
    back = np.zeros((count, outputs), np.int64)
    for word in range(1, count):
        # Anything may come before O and B; before I-X only B-X and I-X.
        highest = int(np.argmax(best))
        back[word] = highest
        before = np.where(best[begins] >= best[insides], begins, insides)
        back[word, insides] = before
        best = best[back[word]] + logs[word]
    tags = np.zeros(count, np.int64)
    tags[-1] = int(np.argmax(best))
    for word in range(count - 1, 0, -1):
        tags[word - 1] = back[word, tags[word]]
    return tags


def outside_offset(answers: Array, labels: Array) -> tuple[float, float, float] | None:
    """The number to take from the logit of O for the best entity F1 on these texts.

    One number for all types, of a grid from -1 to 3, by the mean of each F1 and its two neighbours, so that it is not
    the luck of a few texts; from fewer than 50 entities, or for a gain below 0.01, none is chosen.

    Args:
        answers: `WordAnswers` of texts that the model was not trained on, objects `(N,)`.
        labels: Their spans, `(start, end, type)`, objects `(N,)`.

    Returns:
        The number, and the F1 without and with it; `None` where none is chosen.

    Example:

        outside_offset(run.predict_probabilities(texts), labels)   # (0.75, 0.562, 0.591)

    Source: the choice of a threshold for F1, Lipton et al. 2014, "Optimal thresholding of classifiers to maximize F1
    measure", sections 3 and 4, with one threshold for all.
    """
    if sum(map(len, labels)) < _FEWEST_ENTITIES:
        return None
    grid = np.arange(-1, 3.01, 0.25)
    scores = []
    for offset in grid:
        factors = np.ones(answers[0].probabilities.shape[1])
        factors[0] = np.exp(-offset)
        counts = np.zeros(3)
        for answer, spans in zip(answers, labels, strict=True):
            tags = best_tags(answer.probabilities * factors)
            found = {
                (answer.words[first][0], answer.words[last][1], kind)
                for first, last, kind in entities_of_tags(tags)
            }
            counts += len(spans), len(found), len(found & set(map(tuple, spans)))
        scores.append(float(_scores(*counts)[2]))
    smooth = np.convolve(np.pad(scores, 1, mode="edge"), np.ones(3) / 3, mode="valid")
    best, none = int(np.argmax(smooth)), int(np.argmin(np.abs(grid)))
    if min(scores[best], smooth[best]) - scores[none] < _LEAST_GAIN:
        return None
    return float(grid[best]), scores[none], scores[best]


def entities_of_tags(tags: Sequence[int] | np.ndarray) -> list[tuple[int, int, int]]:
    """The entities of valid IOB2 tags: `(first word, last word, type)`.

    Example:
        >>> entities_of_tags([1, 2, 0, 3])
        [(0, 1, 0), (3, 3, 1)]
    """
    found = []
    for place, tag in enumerate(tags):
        if tag % 2:
            found.append([place, place, int(tag - 1) // 2])
        elif tag and found:
            found[-1][1] = place
    return [(first, last, kind) for first, last, kind in found]


def marked(
    text: str,
    truth: Sequence[tuple[int, int, int]],
    answer: Sequence[tuple[int, int, int]],
    class_names: Sequence[str],
) -> list[dict[str, str]]:
    """A text in pieces, each with what is true of it and what was answered.

    Returns:
        `[{"text", "truth", "answer"}, ...]`, the latter types of entities or empty.

    Example:
        >>> marked("In Rome", [(3, 7, 0)], [], ["LOC"])
        [{'text': 'In ', 'truth': '', 'answer': ''}, {'text': 'Rome', 'truth': 'LOC', 'answer': ''}]
    """
    edges = sorted(
        {0, len(text), *(edge for spans in (truth, answer) for span in spans for edge in span[:2])}
    )

    def name(spans: Sequence[tuple[int, int, int]], start: int, end: int) -> str:
        return next((class_names[kind] for first, last, kind in spans if first <= start and end <= last), "")

    return [
        {"text": text[start:end], "truth": name(truth, start, end), "answer": name(answer, start, end)}
        for start, end in itertools.pairwise(edges)
    ]


def _cut_words(
    inputs: Sequence[str], labels: Array, class_names: Sequence[str]
) -> Iterator[tuple[str, list[int], str]]:
    for index, (text, spans) in enumerate(zip(inputs, labels, strict=True)):
        words = words_of(text)
        for start, end, kind in spans:
            if not is_whole(start, end, words):
                yield "cut_word", [index], f"{class_names[kind]} {text[start:end]!r} from {start} to {end}"


def _surfaces(
    inputs: Sequence[str], labels: Array, class_names: Sequence[str]
) -> list[tuple[str, list[int], str]]:
    """Words that are marked as several types, those with the most of the rarer ones first."""
    found: dict[str, dict[int, list[int]]] = {}
    for index, (text, spans) in enumerate(zip(inputs, labels, strict=True)):
        for start, end, kind in spans:
            surface = " ".join(text[start:end].split())
            found.setdefault(surface, {}).setdefault(kind, []).append(index)
    several = []
    for surface, kinds in found.items():
        if len(kinds) < 2:
            continue
        usual, *others = sorted(kinds, key=lambda kind: -len(kinds[kind]))
        examples = [index for kind in others for index in kinds[kind]]
        counts = ", ".join(f"{class_names[kind]} {len(kinds[kind])}" for kind in (usual, *others))
        several.append(("surface", list(dict.fromkeys(examples)), f"{surface!r} is {counts} times"))
    return sorted(several, key=lambda each: -len(each[1]))[:_SURFACES]


def _listed(text: str, spans: Sequence[tuple[int, int, int]], class_names: Sequence[str]) -> str:
    return ", ".join(f"{class_names[kind]} {text[start:end]!r}" for start, end, kind in spans) or "no entity"


def _loss(answers: WordAnswers, spans: Sequence[tuple[int, int, int]]) -> float:
    tags = tags_of(spans, answers.words)
    given = answers.probabilities[np.arange(len(tags)), tags]
    return float(-np.log(np.maximum(given, _TINY)).sum())


def _matched(decided: Array, labels: Array) -> Iterator[tuple[Any, ...]]:
    for answer, truth in zip(decided, labels, strict=True):
        yield truth, answer, set(truth) & set(answer)


def _counts(spans: Iterable[Any], classes: int) -> tuple[Array, ...]:
    return tuple(np.bincount([kind for *_, kind in each], minlength=classes) for each in spans)


def _scores(true: Any, answered: Any, both: Any) -> tuple[Array, Array, Array]:
    """Precision, recall and F1; 0 where there is nothing to divide by."""
    return (
        both / np.maximum(answered, 1),
        both / np.maximum(true, 1),
        2 * both / np.maximum(true + answered, 1),
    )


def _intervals(true: Array, answered: Array, both: Array) -> dict[str, Any]:
    """Bootstrap intervals over texts of the F1, of all types together and of each."""
    count, random = len(true), np.random.default_rng(0)
    micro, types = [], []
    for _ in range(_RESAMPLES // _AT_ONCE):
        draws = random.multinomial(count, np.full(count, 1 / count), size=_AT_ONCE).astype(np.float64)
        sums = [draws @ each for each in (true, answered, both)]
        types.append(_scores(*sums)[2])
        micro.append(_scores(*(each.sum(axis=1) for each in sums))[2])
    tail = (1 - _CONFIDENCE) / 2

    def middle(values: Array) -> tuple[float, float]:
        low, high = np.quantile(values, [tail, 1 - tail])
        return float(low), float(high)

    by_type = np.concatenate(types)
    return {"micro": middle(np.concatenate(micro)), "types": [middle(column) for column in by_type.T]}


def _confusions(
    probabilities: Array, decided: Array, labels: Array, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    found: Counter[tuple[str, str, str]] = Counter()
    shown: dict[tuple[str, str, str], str] = {}
    for answers, answer, truth in zip(probabilities, decided, labels, strict=True):
        for key, span in _mistakes(truth, answer, class_names):
            found[key] += 1
            shown.setdefault(key, answers.text[span[0] : span[1]])
    return [
        {"truth": key[0], "answer": key[1], "kind": key[2], "count": count, "example": shown[key]}
        for key, count in found.most_common(_CONFUSIONS)
    ]


def _mistakes(
    truth: Sequence[tuple[int, int, int]], answer: Sequence[tuple[int, int, int]], class_names: Sequence[str]
) -> Iterator[tuple[tuple[str, str, str], tuple[int, int]]]:
    """`((truth, answer, kind), span)` of each mistake in one text."""
    wrong = [span for span in answer if span not in truth]
    used = set()
    for start, end, kind in truth:
        if (start, end, kind) in answer:
            continue
        over = [span for span in wrong if span[0] < end and span[1] > start]
        if not over:
            yield (class_names[kind], _MISSED, "missed"), (start, end)
            continue
        other = max(over, key=lambda span: min(span[1], end) - max(span[0], start))
        used.update(over)
        bounds = "other type" if other[:2] == (start, end) else "other bounds"
        what = bounds if other[2] == kind or bounds == "other type" else "other type and bounds"
        yield (class_names[kind], class_names[other[2]], what), (start, end)
    for span in wrong:
        if span not in used:
            yield (_INVENTED, class_names[span[2]], "no entity there"), span[:2]


def _word_loss(recipe: Recipe, class_weight: Mapping[int, float] | None) -> keras.losses.Loss:
    import keras

    class WordCrossentropy(keras.losses.Loss):
        """The mean cross-entropy of the words in a batch; tokens without a target count for nothing."""

        def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
            ops = keras.ops
            y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
            labelled = ops.sum(y_true, axis=-1)
            weights = labelled
            if class_weight:
                each = [class_weight.get(index, 1.0) for index in range(y_pred.shape[-1])]
                weights = ops.sum(y_true * ops.convert_to_tensor(each, "float32"), axis=-1)
            smoothing = recipe.label_smoothing
            targets = y_true * (1 - smoothing) + labelled[..., None] * (smoothing / y_pred.shape[-1])
            logs = ops.log_softmax(y_pred, axis=-1)
            if recipe.loss == "focal":
                targets = targets * ops.power(1 - ops.exp(logs), recipe.focal_gamma)
            losses = -ops.sum(targets * logs, axis=-1) * weights
            # Keras takes the mean over all tokens.
            tokens = ops.cast(ops.prod(ops.shape(losses)), "float32")
            return losses * tokens / ops.maximum(ops.sum(labelled), 1.0)

    return WordCrossentropy(name="word_crossentropy")


def _tag_f1(name: str) -> keras.metrics.Metric:
    import keras

    class TagF1(keras.metrics.Metric):
        """The F1 of words' tags other than `O`, over all of them (micro); tokens without a target do not count."""

        def __init__(self, name: str) -> None:
            super().__init__(name=name)
            self._both = self.add_weight(name="both", initializer="zeros")
            self._either = self.add_weight(name="either", initializer="zeros")

        def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
            ops = keras.ops
            y_true = ops.cast(ops.convert_to_tensor(y_true), "float32")
            labelled = ops.sum(y_true, axis=-1) > 0
            truth, answer = ops.argmax(y_true, axis=-1), ops.argmax(y_pred, axis=-1)
            inside, answered = labelled & (truth > 0), labelled & (answer > 0)
            both = inside & (truth == answer)
            self._both.assign_add(ops.sum(ops.cast(both, "float32")))
            either = ops.sum(ops.cast(inside, "float32")) + ops.sum(ops.cast(answered, "float32"))
            self._either.assign_add(either)

        def result(self) -> Tensor:
            return 2 * self._both / keras.ops.maximum(self._either, 1.0)

    return TagF1(name)


TASK = TokenClassification()
