"""Texts to ids where each word gets an answer: words one by one, windows of long texts, targets of tokens."""

from __future__ import annotations

import dataclasses
from collections import ChainMap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import keras
import keras_hub
import numpy as np

from ktransfer.core.task import Task
from ktransfer.data.entities.words import words_of
from ktransfer.data.examples import Examples
from ktransfer.models.predict import predict_in_batches
from ktransfer.tasks.token_classification import WordAnswers, tags_of
from ktransfer.text.preprocessing import TextPreprocessing

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


_RULE = "unicode-1"  # of `words_of`; a program that reads a manifest has to know it
_TOKENS_OF_WORD = 32
# What a word is encoded as of which a tokenizer makes nothing, such as an invisible character.
_NOTHING = "?"
# Share of a window that the next one has as well.
_OVERLAP = 0.5
_MOST_KNOWN = 200_000  # words whose ids are kept in memory
_ALL = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Tokenized:
    """A text, word by word.

    Attributes:
        words: `(start, end)` of each in characters.
        ids: Of each int32 `(tokens,)`, at least one and at most 32.
    """

    words: list[tuple[int, int]]
    ids: list[np.ndarray]

    def window(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids of the words from `first` up to `last`, without special tokens, and the place of each word's first."""
        chosen = self.ids[first:last]
        lengths = np.array([len(ids) for ids in chosen], int)
        places = np.cumsum(lengths) - lengths
        return np.concatenate([np.zeros(0, np.int32), *chosen]), places


@dataclass(frozen=True, eq=False)
class TokenPreprocessing(TextPreprocessing):
    """Preprocessing of texts whose words are classified one by one.

    Words are those of `words_of`. Each is tokenized by itself, whatever stands around it (for byte pairs with a space
    before it), so that a word's tokens are its own for every kind of tokenizer; a word of more than 32 tokens has its
    first 32. Its answer is that of its first token. A text that is longer than `sequence_length` is answered in windows
    that overlap by a half: each word by the window in which it has more context on its narrower side.

    Example:

        preprocessing.tokenized(["In Rome"])[0].words   # [(0, 2), (3, 7)]
    """

    raw_in_graph = False

    _known: dict[str, np.ndarray] = dataclasses.field(default_factory=dict, init=False, repr=False)
    _of_examples: WeakKeyDictionary[Examples, list[tuple[np.ndarray, np.ndarray]]] = dataclasses.field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )
    _pieces: WeakKeyDictionary[Examples, Examples] = dataclasses.field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )

    @property
    def capacity(self) -> int:
        """Tokens of words that a window has room for."""
        return self.sequence_length - 2

    @property
    def word_prefix(self) -> str:
        """The prefix of a word when it is tokenized."""
        return " " if isinstance(self.tokenizer, keras_hub.tokenizers.BytePairTokenizer) else ""

    def tokenized(self, texts: Sequence[str]) -> list[Tokenized]:
        """Texts word by word, not cut.

        Args:
            texts: Any texts.
        """
        words = [words_of(text) for text in texts]
        cut = [[text[start:end] for start, end in each] for text, each in zip(texts, words, strict=True)]
        # Of more words than that, those that were seen first are kept.
        known = self._known if len(self._known) < _MOST_KNOWN else ChainMap({}, self._known)
        new = sorted({word for each in cut for word in each} - known.keys())
        most = min(_TOKENS_OF_WORD, self.capacity)
        if new:
            found = self._ids([self.word_prefix + word for word in new])
            [nothing] = self._ids([self.word_prefix + _NOTHING])
            for word, ids in zip(new, found, strict=True):
                known[word] = np.array(ids if len(ids) else nothing, np.int32)[:most]
        return [
            Tokenized(each, [known[word] for word in names]) for each, names in zip(words, cut, strict=True)
        ]

    def tokenize(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of the first window of each text, special tokens included: int32 `(tokens,)`."""
        return [self._first_window(each)[0] for each in self.tokenized(texts)]

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """The number of ids of each text before it is cut into windows, with special tokens: int `(n,)`."""
        return np.array([2 + sum(map(len, each.ids)) for each in self.tokenized(texts)], int)

    def ids(self, examples: Examples) -> list[np.ndarray]:
        return [ids for ids, _ in self._windows_of(examples)]

    def positions(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The token of each word in the first window of each text: int `(words,)`."""
        return [self._first_window(each)[1] for each in self.tokenized(texts)]

    def _windows_of(self, examples: Examples) -> list[tuple[Array, Array]]:
        if examples not in self._of_examples:
            self._of_examples[examples] = [
                self._first_window(each) for each in self.tokenized(examples.inputs)
            ]
        return self._of_examples[examples]

    def _first_window(self, tokenized: Tokenized) -> tuple[Array, Array]:
        return self._packed(tokenized, *self.windows(tokenized)[0])

    def _packed(self, tokenized: Tokenized, first: int, last: int) -> tuple[Array, Array]:
        ids, places = tokenized.window(first, last)
        start, end = self.tokenizer.start_token_id, self.tokenizer.end_token_id
        return np.concatenate([[start], ids, [end]]).astype(np.int32), places + 1

    def windows(self, tokenized: Tokenized) -> list[tuple[int, int]]:
        """The words of each window of a text: from the first up to the last."""
        lengths = np.array([len(ids) for ids in tokenized.ids], int)
        ends = np.cumsum(lengths)
        found, first = [], 0
        while True:
            before = ends[first - 1] if first else 0
            last = int(np.searchsorted(ends, before + self.capacity, side="right"))
            found.append((first, last))
            if last >= len(lengths):
                return found
            # Far enough that the next one has half of this one's tokens, and at least one word more.
            wanted = before + self.capacity * (1 - _OVERLAP)
            first = min(max(int(np.searchsorted(ends, wanted, side="right")), first + 1), last)

    def pieces(self, examples: Examples) -> Examples:
        """The texts cut into pieces that fit the window, between words and where possible outside of entities.

        Every word of a text is in one piece. Texts that fit stay as they are.
        """
        if examples not in self._pieces:
            self._pieces[examples] = self._cut(examples)
        return self._pieces[examples]

    def _cut(self, examples: Examples) -> Examples:
        tokenized = self.tokenized(examples.inputs)
        if all(sum(map(len, each.ids)) <= self.capacity for each in tokenized):
            return examples
        texts, labels, groups = [], [], []
        for index, (text, spans, each) in enumerate(
            zip(examples.inputs, examples.labels, tokenized, strict=True)
        ):
            for first, last in self._piece_bounds(each, spans):
                # White space around it goes to no piece.
                start, end = each.words[first][0], each.words[last - 1][1]
                inside = [(max(a, start), min(b, end), kind) for a, b, kind in spans if a < end and b > start]
                texts.append(text[start:end])
                labels.append(tuple((a - start, b - start, kind) for a, b, kind in inside))
                if examples.groups is not None:
                    groups.append(examples.groups[index])
        return dataclasses.replace(
            examples,
            inputs=tuple(texts),
            labels=cast("Array", labels),  # made an array by the task
            groups=tuple(groups) if examples.groups is not None else None,
        )

    def _piece_bounds(
        self, tokenized: Tokenized, spans: Sequence[tuple[int, int, int]]
    ) -> Iterator[tuple[int, int]]:
        lengths, words = [len(ids) for ids in tokenized.ids], tokenized.words
        inside = {
            index for start, end, _ in spans for index, (first, _) in enumerate(words) if start < first < end
        }
        first = 0
        while first < len(words):
            last, total = first, 0
            while last < len(words) and total + lengths[last] <= self.capacity:
                total += lengths[last]
                last += 1
            cut = last
            while last < len(words) and cut > first and cut in inside:
                cut -= 1
            cut = last if cut == first else cut
            yield first, cut
            first = cut

    def rows(self, values: Any, examples: Examples, indices: Sequence[int] | Array) -> list[Array]:
        windows = self._windows_of(examples)
        return [value[windows[index][1]] for value, index in zip(values, indices, strict=True)]

    def row_labels(self, examples: Examples) -> Array:
        tags = [
            tags_of(spans, each.words)[: len(places)]
            for spans, each, (_, places) in zip(
                examples.labels, self.tokenized(examples.inputs), self._windows_of(examples), strict=True
            )
        ]
        return np.concatenate([np.zeros(0, np.int32), *tags])

    def targets(self, examples: Examples) -> Array:
        outputs = len(examples.task.output_names(examples.class_names))
        tags, found = self.row_labels(examples), np.empty(len(examples), object)
        begin = 0
        for index, (ids, places) in enumerate(self._windows_of(examples)):
            found[index] = np.zeros((len(ids), outputs), np.float32)
            found[index][places, tags[begin : begin + len(places)]] = 1
            begin += len(places)
        return found

    def probabilities(
        self, model: keras.Model, inputs: Sequence[str], outputs: int, task: Task, *, batch_size: int = 32
    ) -> np.ndarray:
        """The probabilities of the tags of all words of each text: objects `(N,)`, each `WordAnswers`."""
        encoded, _ = self.encode(inputs)
        return self.encoded_probabilities(model, encoded, outputs, task, exact=False, batch_size=batch_size)

    def encode(self, inputs: Sequence[str]) -> tuple[list[Any], np.ndarray]:
        tokenized = self.tokenized(inputs)
        order = np.argsort([sum(map(len, each.ids)) for each in tokenized], kind="stable")
        return list(zip(inputs, tokenized, strict=True)), order

    def encoded_probabilities(
        self,
        model: keras.Model,
        encoded: Sequence[Any],
        outputs: int,
        task: Task,
        *,
        exact: bool,
        batch_size: int = 32,
    ) -> np.ndarray:
        tokenized = [each for _, each in encoded]
        windows = [
            (index, first, last)
            for index, each in enumerate(tokenized)
            for first, last in self.windows(each)
            if last > first
        ]
        windows.sort(key=lambda window: sum(map(len, tokenized[window[0]].ids[window[1] : window[2]])))
        packed = [self._packed(tokenized[index], first, last) for index, first, last in windows]
        batches = (
            self.batch([ids for ids, _ in packed[start : start + batch_size]], exact=exact)
            for start in range(0, len(packed), batch_size)
        )
        merger = [WindowMerger(each, outputs) for each in tokenized]
        answers = (row for batch in predict_in_batches(model, batches) for row in batch)
        for (index, first, last), (_, places), logits in zip(windows, packed, answers, strict=False):
            merger[index].add(first, last, task.probabilities(logits[places]))
        found = np.empty(len(encoded), object)
        for index, (text, each) in enumerate(encoded):
            found[index] = WordAnswers(text, each.words, merger[index].probabilities)
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            **super().to_dict(),
            "words": {
                "rule": _RULE,
                "prefix": self.word_prefix,
                "nothing": _NOTHING,
                "tokens": _TOKENS_OF_WORD,
                "overlap": _OVERLAP,
            },
        }

    def encoded(self, texts: Sequence[str]) -> list[str]:
        """The different words of texts, as they are given to the tokenizer."""
        words = dict.fromkeys(text[start:end] for text in texts for start, end in words_of(text))
        return [self.word_prefix + word for word in words]

    def as_tokenizer(self) -> TextPreprocessing:
        """The tokenizer for texts as a whole, as which a word is tokenized."""
        fields = (field.name for field in dataclasses.fields(TextPreprocessing) if field.init)
        return TextPreprocessing(**{name: getattr(self, name) for name in fields})


class WindowMerger:
    """Puts the answers of a text's windows together: each word's of the window with the larger context.

    Args:
        tokenized: The text.
        outputs: How many tags there are.

    Attributes:
        probabilities: float32 `(words, outputs)`.
    """

    def __init__(self, tokenized: Tokenized, outputs: int) -> None:
        self._ends = np.cumsum([len(ids) for ids in tokenized.ids]) if tokenized.ids else np.zeros(0, int)
        self._context = np.full(len(tokenized.words), -1)
        self.probabilities = np.zeros((len(tokenized.words), outputs), np.float32)

    def add(self, first: int, last: int, probabilities: np.ndarray) -> None:
        """Take the answers `(last - first, outputs)` to the words of one window."""
        ends = self._ends[first:last]
        begin = self._ends[first - 1] if first else 0
        starts = np.concatenate([[begin], ends[:-1]])
        # Where the text itself begins or ends nothing is lacking.
        left = starts - begin if first else _ALL
        right = ends[-1] - ends if last < len(self._ends) else _ALL
        context = np.broadcast_to(np.minimum(left, right), ends.shape)
        better = context > self._context[first:last]
        self._context[first:last][better] = context[better]
        self.probabilities[first:last][better] = probabilities[better]


def preprocessing_of(task: Task, preprocessing: TextPreprocessing) -> TextPreprocessing:
    """The preprocessing of a task, with the tokenizer and the lengths of another."""
    if not task.per_token:
        return preprocessing
    fields = (field.name for field in dataclasses.fields(TextPreprocessing) if field.init)
    return TokenPreprocessing(**{name: getattr(preprocessing, name) for name in fields})
