"""Examples: file paths or texts with labels and class names; splitting and fingerprints."""

import dataclasses
import hashlib
import os
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ktransfer.core.modality import Modality, modalities, modality_of_kind
from ktransfer.core.task import SINGLE_LABEL, Task, get_task
from ktransfer.data.pairs import Pair, as_content, require_kind
from ktransfer.data.shards.listing import ShardInputs
from ktransfer.data.stratification import connected, held_out_units
from ktransfer.errors import DataError, listed
from ktransfer.security.safe_io import is_line, visible

_DEFAULT_TASK = cast("Task", SINGLE_LABEL)  # a name, which is replaced by its task


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled examples of a classification task, in a fixed order.

    Args:
        inputs: `n` paths of image files or addresses in shards, `n` texts, or `n` pairs of texts, which two strings in
            a tuple become.
        labels: As the task has them, kept as a read-only copy: of single-label classification int `(n,)`, each an
            index into `class_names`; of multi-label classification 0 or 1 `(n, classes)`.
        class_names: The classes in the order of the model's outputs; a class may have no example here.
        kind: What `inputs` are: `"file"` or `"text"`. Defaults to `"file"`.
        task: The task or its name, such as `"multi_label"`. Defaults to `"single_label"`.
        groups: For each example what it belongs to, such as a patient: `split` keeps a group on one side. Defaults
            to `None`, every example for itself.

    Raises:
        DataError: There is no example, a label has no class name, the lengths differ, the kind is unknown, or
            a class name is empty, given twice or longer than a line.

    Example:
        >>> examples = Examples(("a.jpg", "b.jpg"), np.array([0, 1]), ("daisy", "rose"))
        >>> examples.counts()
        {'daisy': 1, 'rose': 1}
    """

    inputs: Sequence[Any]
    labels: np.ndarray
    class_names: tuple[str, ...]
    kind: str = "file"
    task: Task = _DEFAULT_TASK
    groups: tuple[Hashable, ...] | None = None

    def __post_init__(self) -> None:
        kinds = [each.kind for each in modalities()]
        if self.kind not in kinds:
            known = " or ".join(f'"{kind}"' for kind in kinds)
            raise DataError(f"Expected examples of kind {known}, got {self.kind!r}. Pass one.")
        task = get_task(self.task)
        if not len(self.inputs):
            raise DataError(
                "Expected at least one example and one label for each, got 0 inputs. Pass as many of each."
            )
        if self.groups is not None and len(self.groups) != len(self.inputs):
            raise DataError(
                f"Expected a group for each of {len(self.inputs)} examples, got {len(self.groups)}. Pass as many."
            )
        # Exported label files hold one name a line.
        repeated = {name for name, count in Counter(self.class_names).items() if count > 1}
        wrong = [name for name in self.class_names if not is_line(name) or name in repeated]
        if wrong:
            raise DataError(
                "Expected class names of one line without control characters, each given once, got "
                f"{wrong[0]!r}. Rename that class."
            )
        labels = task.check_labels(self.labels, examples=len(self.inputs), classes=len(self.class_names))
        inputs = self.inputs
        if not isinstance(inputs, ShardInputs):
            inputs = tuple(as_content(each) if isinstance(each, tuple | list) else each for each in inputs)
            require_kind(inputs, pairs=isinstance(inputs[0], Pair))
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "task", task)
        object.__setattr__(self, "groups", None if self.groups is None else tuple(self.groups))

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def noun(self) -> str:
        """The noun for messages: `"images"`, `"texts"` or `"pairs"`."""
        return "pairs" if self.are_pairs else self.modality.noun

    @property
    def are_pairs(self) -> bool:
        """Whether each is a pair of texts."""
        return isinstance(self.inputs[0], Pair)

    @property
    def modality(self) -> Modality:
        """The modality that reads, augments, exports and displays examples of this kind."""
        return modality_of_kind(self.kind)

    def counts(self) -> dict[str, int]:
        """The number of examples of each class, in the order of `class_names`.

        Example:
            >>> Examples(("a.jpg",), np.array([1]), ("daisy", "rose")).counts()
            {'daisy': 0, 'rose': 1}
        """
        counts = self.task.counts(self.labels, len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    @property
    def targets(self) -> np.ndarray:
        """The targets of a loss: float32 `(n, classes)`.

        Example:
            >>> Examples(("a.jpg",), np.array([1]), ("daisy", "rose")).targets.tolist()
            [[0.0, 1.0]]
        """
        return self.task.targets(self.labels, len(self.class_names))

    @property
    def label_names(self) -> list[str]:
        """For each example the name of its class, or the names of its labels.

        Example:
            >>> Examples(("a.jpg",), np.array([1]), ("daisy", "rose")).label_names
            ['rose']
        """
        return [self.task.name_of(key, self.class_names) for key in self.task.keys(self.labels)]

    def subset(self, indices: Sequence[int] | np.ndarray) -> "Examples":
        """The examples at `indices`, in that order, with the same class names.

        Raises:
            DataError: `indices` is empty.

        Example:
            >>> Examples(("a.jpg", "b.jpg"), np.array([0, 1]), ("daisy", "rose")).subset([1]).inputs
            ('b.jpg',)
        """
        chosen = np.asarray(indices, dtype=np.int64)
        if isinstance(self.inputs, ShardInputs):
            inputs: Sequence[Any] = self.inputs.chosen(chosen)
        else:
            inputs = tuple(self.inputs[i] for i in chosen.tolist())
        groups = self.groups and tuple(self.groups[i] for i in chosen.tolist())
        return dataclasses.replace(self, inputs=inputs, labels=self.labels[chosen], groups=groups)

    def evenly(self, count: int) -> "Examples":
        """At most `count` of them, evenly over the examples and so over the classes.

        Example:
            >>> Examples(("a.jpg", "b.jpg", "c.jpg"), np.array([0, 1, 1]), ("daisy", "rose")).evenly(2).inputs
            ('a.jpg', 'c.jpg')
        """
        return self.subset(np.linspace(0, len(self) - 1, min(len(self), count)).round().astype(int))

    def joined(self, other: "Examples") -> "Examples":
        """These examples and then those of `other`, which has the same classes.

        Example:
            >>> one = Examples(("a.jpg",), np.array([0]), ("daisy", "rose"))
            >>> one.joined(Examples(("b.jpg",), np.array([1]), ("daisy", "rose"))).inputs
            ('a.jpg', 'b.jpg')
        """
        alike = (self.class_names, self.kind, self.task) == (other.class_names, other.kind, other.task)
        if not alike:
            raise DataError(
                f"Expected examples of the classes {listed(self.class_names)}, got {listed(other.class_names)}. "
                "Read both with the same class_names."
            )
        labels = np.concatenate([self.labels, other.labels])
        groups = self.groups + other.groups if self.groups and other.groups else None
        return dataclasses.replace(
            self, inputs=cast("Any", self.inputs) + other.inputs, labels=labels, groups=groups
        )

    def split(self, fraction: float, *, seed: int) -> tuple["Examples", "Examples"]:
        """Hold out `fraction` of each class, the same examples for the same seed.

        Byte-identical files stay on one side, and so do texts that differ in case and white space only, and pairs of
        the same two texts in either order. What
        lies in several classes contradicts itself and is never held out.

        Args:
            fraction: The share to hold out, between 0 and 1; every class gives at least one and keeps one.
            seed: Any non-negative integer.

        Returns:
            `(rest, held_out)`, each in this order of examples and with all class names.

        Raises:
            DataError: `fraction` is out of range, a file cannot be read, or a class has only one distinct
                example.

        Example:
            >>> rest, held_out = examples.split(0.2, seed=0)  # doctest: +SKIP
        """
        if not 0 < fraction < 1:
            raise DataError(
                f"Expected a fraction between 0 and 1, got {fraction}. Pass 0.2 to hold out a fifth."
            )
        contents = self.modality.content_keys(self.inputs)
        if self.groups is not None:
            held_out = self._hold_out_groups(self.groups, connected(contents, self.groups), fraction, seed)
        else:
            alike = connected(contents)
            held_out, lacking = self.task.hold_out(self.labels, alike, fraction, seed=seed)
            if lacking is not None:
                noun, place, classes = self.noun, self.modality.holder, len(self.class_names)
                distinct = sum(bool(self.task.counts(self.labels[unit], classes)[lacking]) for unit in alike)
                name = self.class_names[lacking]
                raise DataError(
                    f"Expected at least two different {noun} of each class, one to train on and one to hold "
                    f"out, got {self.counts()[name]} of class {name!r}, {distinct} to choose from without "
                    f"repeats. Add {noun} to that class, remove it, or pass a validation {place}."
                )
        held = np.isin(np.arange(len(self)), held_out)
        return self.subset(np.flatnonzero(~held)), self.subset(np.flatnonzero(held))

    def _hold_out_groups(
        self, groups: Sequence[Hashable], units: list[list[int]], fraction: float, seed: int
    ) -> list[int]:
        classes = len(self.class_names)
        counts = np.array([self.task.counts(self.labels[unit], classes) for unit in units])
        held = held_out_units(counts, np.array([len(unit) for unit in units]), fraction, seed=seed)
        if held is None:
            raise DataError(
                f"Expected groups of which some can be held out, and the others have {self.noun} of every class, got "
                f"{len(set(groups))} groups, {len(units)} without examples in common. Use smaller groups, or pass "
                f"a validation {self.modality.holder}."
            )
        return [index for unit, out in zip(units, held, strict=True) if out for index in unit]

    def fingerprint(self) -> str:
        """A digest that changes when a file, its name, its class or the classes' order does; or a text.

        It reads every file's bytes: times and sizes would change with a copy and miss an edit, and one pass
        of reading costs less than one epoch of decoding. The order of the examples and the folder
        they lie in do not matter.

        Returns:
            64 hexadecimal digits (SHA-256).

        Raises:
            DataError: A file cannot be read.

        Example:
            >>> examples.fingerprint()[:8]  # doctest: +SKIP
            '9f2c1d07'
        """
        total = hashlib.sha256("\0".join(self.class_names).encode("utf-8", "surrogateescape"))
        names, digests = self.modality.digests(self.inputs)
        rows = zip(self.task.keys(self.labels), names, digests, strict=True)
        for label, name, digest in sorted(rows):
            total.update(b"\0%b\0%b\0%b" % (str(label).encode(), os.fsencode(name), digest))
        return total.hexdigest()


@dataclass(frozen=True)
class Splits:
    """The examples for training, for validation during training, and for the final test.

    Args:
        train: What is trained on.
        validation: What is evaluated after each epoch. Defaults to `None`.
        test: What is evaluated at the end. Defaults to `None`.
        notes: Lines on how the data was read and what in it is not used. Defaults to none.
        held_out: Whether `validation` is a split that was held out of the training data. Defaults to `False`.

    Raises:
        DataError: The splits do not have the same class names in the same order.

    Example:
        >>> Splits(train=examples, validation=None, test=None)  # doctest: +SKIP
    """

    train: Examples
    validation: Examples | None = None
    test: Examples | None = None
    notes: tuple[str, ...] = ()
    held_out: bool = False

    def __post_init__(self) -> None:
        for split in (self.validation, self.test):
            if split is not None and split.class_names != self.train.class_names:
                raise DataError(
                    f"Expected the same classes in each split: {listed(self.train.class_names)}, got "
                    f"{listed(split.class_names)}. Read the splits with the same class_names."
                )

    def require_validation(self) -> Examples:
        """The validation split, which data that is trained on always has.

        Returns:
            `validation`.

        Raises:
            DataError: There is none.

        Example:
            >>> Splits(train=examples).require_validation()  # doctest: +SKIP
            Traceback (most recent call last):
            ktransfer.errors.DataError: Expected a validation split, got training data alone. Hold out a part of it.
        """
        if self.validation is None:
            raise DataError("Expected a validation split, got training data alone. Hold out a part of it.")
        return self.validation


def printable(path: str) -> str:
    """`path` as it can be printed: replacement characters for what is no UTF-8, `\\x1b` for a control."""
    return visible(re.sub("[\ud800-\udfff]", "\ufffd", os.fspath(path)))


def normalised(text: str) -> str:
    """`text` without what does not make it another one: case, and how much white space of which kind.

    Example:
        >>> normalised("Win  a PRIZE\\n") == normalised("win a prize")
        True
    """
    return " ".join(text.split()).casefold()
