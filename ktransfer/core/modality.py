"""What the package asks of images, of texts, or of any other kind of example: a protocol, and who has which.

This module, and `find_modality` in `data/modality.py`, are the only places that choose between modalities. All
others are given one and call it.
"""

import functools
import importlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Protocol

# By name, where each is implemented. They are imported when they are first asked for. Pixels alone, without a
# preprocessing, are of the first.
_HOMES = {"image": "ktransfer.image.modality", "text": "ktransfer.text.modality"}


class Augmentation(Protocol):
    """How training examples are varied: a frozen dataclass of plain values."""

    @property
    def is_on(self) -> bool:
        """Whether anything is varied."""

    @property
    def mixes_labels(self) -> bool:
        """Whether labels become shares of classes."""

    def to_dict(self) -> dict:
        """As JSON has it."""


class Preprocessing(Protocol):
    """What becomes of an example before the backbone, and how a run reads examples.

    Attributes:
        task: Of the modality.
        sequence_length: Tokens that an example is cut to; `None` of what is no sequence.
    """

    task: ClassVar[str]
    sequence_length: int | None

    def __call__(self, inputs: Sequence[str]) -> Any:
        """What the model takes: an array `(B, ...)`, or arrays by the names of its inputs."""

    def order(self, inputs: Sequence[str]) -> Any:
        """The order in which a model runs over them fastest: int `(n,)`."""

    def dataset(self, examples: Any, *, keep: bool | str = "auto", **options: Any) -> Any:
        """Batches of `(inputs, labels)` for `fit`."""

    def epoch_order(self, examples: Any, *, batch_size: int, seed: int, epoch: int) -> Any:
        """The order of an epoch of a training `dataset`: int `(n,)`."""

    def beside(self, examples: Any, indices: Any) -> dict[str, Any]:
        """What goes into every part of the model as well as features of these examples."""

    def digest(self) -> dict:
        """JSON-able facts of which one differs wherever the backbone would be given anything else."""

    def to_dict(self) -> dict:
        """As the manifest holds it."""


class Modality(Protocol):
    """One kind of examples, such as images.

    Attributes:
        name: `"image"` or `"text"`.
        kind: Of `Examples`: what their `inputs` are, `"file"` or `"text"`.
        task: As a manifest has it, such as `"image-classification"`.
        noun: What to call examples in a line for a person, such as `"images"`.
        holder: What examples lie in: `"folder"` or `"file"`.
    """

    name: str
    kind: str
    task: str
    noun: str
    holder: str

    def identity(self, content: str) -> Any:
        """What tells an example from others, cheaply: equal for what is the same example."""

    def content_keys(self, inputs: Sequence[str]) -> Iterable:
        """For each example a key; equal for those that have to stay on one side of a split."""

    def digests(self, inputs: Sequence[str]) -> tuple[Iterable[str], Iterable[bytes]]:
        """For each example its name, and a digest of all of its content."""

    def load_preprocessing(self, run: Any) -> Preprocessing:
        """How a run's examples are read.

        Args:
            run: A `Run`.

        Raises:
            RunError: What its folder says of it is damaged.
        """


@functools.cache
def modality(name: str) -> Modality:
    """The modality of a name.

    Example:
        >>> modality("text").noun
        'texts'
    """
    return importlib.import_module(_HOMES[name]).MODALITY


def modalities() -> tuple[Modality, ...]:
    """All modalities, the usual one first.

    Example:
        >>> [each.noun for each in modalities()]
        ['images', 'texts']
    """
    return tuple(map(modality, _HOMES))


def modality_of_task(task: str | None) -> Modality:
    """The modality of a manifest's `task`; manifests of the first runs have none.

    Raises:
        ValueError: There is no such task.

    Example:
        >>> modality_of_task("text-classification").name
        'text'
    """
    return modalities()[0] if task is None else _the_one("task", task)


def modality_of_kind(kind: str) -> Modality:
    """The modality of `Examples.kind`.

    Raises:
        ValueError: There is no such kind.

    Example:
        >>> modality_of_kind("file").name
        'image'
    """
    return _the_one("kind", kind)


def modality_of(preprocessing: Preprocessing | None) -> Modality:
    """The modality of what a model is given; `None` for a model of pixels alone.

    Example:
        >>> modality_of(None).name
        'image'
    """
    return modality_of_task(None if preprocessing is None else preprocessing.task)


def _the_one(attribute, value):
    found = [each for each in modalities() if getattr(each, attribute) == value]
    if not found:
        known = ", ".join(repr(getattr(each, attribute)) for each in modalities())
        raise ValueError(f"Expected a {attribute} of {known}, got {value!r}.")
    return found[0]
