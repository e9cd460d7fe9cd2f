"""The protocol of a modality, such as images or texts, and the registry of modalities.

This module, and `find_modality` in `data/modality.py`, are the only places that choose between modalities. All
others are given one and call it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from pathlib import Path

    import keras
    import tensorflow as tf

    from ktransfer.audit.findings import Finding, Item
    from ktransfer.core.pretraining import Pretraining
    from ktransfer.core.task import Task
    from ktransfer.core.typing import Array, ModelInputs, OnProgress, PathLike, Tensor
    from ktransfer.data.examples import Examples, Splits
    from ktransfer.data.inputs import Inputs
    from ktransfer.data.shards.contents import ShardContents
    from ktransfer.evaluation.metrics import Answers
    from ktransfer.exporting.parity import Parity
    from ktransfer.exporting.serving import Serving
    from ktransfer.exporting.web.packages import Package
    from ktransfer.models.network import Network
    from ktransfer.recipes.default_recipes import FineTuning
    from ktransfer.recipes.recipe import Recipe
    from ktransfer.runs.run import Run

# By name, where each is implemented. They are imported when they are first asked for. Pixels alone, without a
# preprocessing, are of the first.
_HOMES = {"image": "ktransfer.image.modality", "text": "ktransfer.text.modality"}


class Augmentation(Protocol):
    """Random changes to training examples: a frozen dataclass of plain values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @classmethod
    def none(cls) -> Self:
        """The augmentation that varies nothing."""

    @property
    def is_on(self) -> bool:
        """Whether anything is varied."""

    @property
    def mixes_labels(self) -> bool:
        """Whether labels become shares of classes."""

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON."""


class Preprocessing(Protocol):
    """Preprocessing of examples before the backbone, and reading them for a run.

    Attributes:
        task: Of the modality.
        sequence_length: Tokens that an example is cut to; `None` of what is no sequence.
        raw_in_graph: Whether an artifact can read examples as people have them.
    """

    task: ClassVar[str]
    raw_in_graph: bool

    @property
    def sequence_length(self) -> int | None: ...

    def __call__(self, inputs: Sequence[str], /) -> ModelInputs:
        """Inputs of the model: an array `(B, ...)`, or arrays by the names of its inputs."""

    def order(self, inputs: Sequence[str], /) -> Array:
        """The order in which a model runs over them fastest: int `(n,)`."""

    def dataset(self, examples: Examples, *, keep: bool | str = "auto", **options: Any) -> tf.data.Dataset:
        """Batches of `(inputs, labels)` for `fit`."""

    def epoch_order(self, examples: Examples, *, batch_size: int, seed: int, epoch: int) -> Array:
        """The order of an epoch of a training `dataset`: int `(n,)`."""

    def extra_inputs(self, examples: Examples, indices: Array) -> dict[str, Array]:
        """Inputs of the model's upper part in addition to features of these examples."""

    def pieces(self, examples: Examples) -> Examples:
        """The examples as a model is trained on them: long texts whose words are answered, in pieces."""

    def rows(self, values: Any, examples: Examples, indices: Sequence[int] | Array) -> list[Array]:
        """The rows `(r, ...)` of each example at `indices`, out of a model's outputs `(B, ...)`."""

    def row_labels(self, examples: Examples) -> Array:
        """The labels of the rows of all examples, as the `row_task` has them."""

    def targets(self, examples: Examples) -> Array:
        """The targets of a loss: `(N, C)`, or objects `(N,)`, each `(tokens, C)`."""

    def positions(self, inputs: Sequence[str]) -> list[Array] | None:
        """The positions of each example's rows in a model's outputs; `None` for one row each."""

    def probabilities(
        self, model: keras.Model, inputs: Sequence[str], outputs: int, task: Task, *, batch_size: int = 32
    ) -> Array:
        """The probabilities of examples, as the task has them."""

    def encode(self, inputs: Sequence[Any]) -> tuple[list[Any], Array]:
        """The examples as `encoded_probabilities` takes them, and the order in which a model is fastest: int `(n,)`.

        Texts are tokenized; images are left as they are, and decoded with their batch.
        """

    def encoded_probabilities(
        self, model: keras.Model, encoded: Sequence[Any], outputs: int, task: Task, *, exact: bool
    ) -> Array:
        """The probabilities of examples that are one batch, from what `encode` gave.

        With `exact` texts are padded no further than to the longest, for a model that is not compiled by shape.
        """

    def digest(self) -> dict[str, Any]:
        """JSON-able facts of which one differs wherever the backbone would be given anything else."""

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON, as in the manifest."""


class ColumnsRead(Protocol):
    """The place of examples and labels in a file, such as the columns of a table."""

    def facts(self) -> dict[str, Any]:
        """The options by which the same data is read the same way again."""

    def line(self) -> str:
        """A line about them for the log."""


class FilesRead(Protocol):
    """The difference between files as read by an artifact and as read by the run.

    Attributes:
        files: How many of the examples were compared.
        refused_files: How many of the examples the artifact refuses, though the run reads them.
        refused_for: Why, each reason once.
    """

    @property
    def files(self) -> int: ...

    @property
    def refused_files(self) -> int: ...

    @property
    def refused_for(self) -> tuple[str, ...]: ...

    def check(self, format: str) -> None:
        """Raise `ExportError` where the difference is more than it may be."""

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON, as in the manifest."""


class Modality(Protocol):
    """One kind of examples, such as images.

    Attributes:
        name: `"image"` or `"text"`.
        kind: Of `Examples`: what their `inputs` are, `"file"` or `"text"`.
        task: As a manifest has it, such as `"image-classification"`.
        noun: The noun for examples in messages, such as `"images"`.
        holder: What examples lie in: `"folder"` or `"file"`.
        raw: The words in messages for examples in their original form, such as image files.
        sample: The argument of a program of the deployment kit that stands for an example.
        fitting: What is done with examples that are larger than a model takes, a clause.
        hub_task: The class of keras-hub's tasks that classify these examples.
        content: What `audit.json` calls an example: `"path"` or `"text"`.
        near_before_training: Whether near-duplicates are looked for before each training.
        wide_cards: Whether an example needs the width of a page.
        options: Which options of the command line and of `train` are for this modality only.
        augmentation: The class of its `Augmentation`.
        fine_tuning: `FineTuning`: how its backbones are fine-tuned by a preset.
        suffixes: What the names of its files end in, lower case.
        columns: Which options of `train` say where in a table examples are found.
        facts: Which options of `train` a manifest has among its `data`, of this modality only.
        export_options: Which fields of `ExportOptions` are for this modality only.
    """

    name: str
    kind: str
    task: str
    noun: str
    holder: str
    raw: str
    sample: str
    fitting: str
    hub_task: str
    content: str
    near_before_training: bool
    wide_cards: bool
    options: tuple[str, ...]
    columns: tuple[str, ...]
    facts: tuple[str, ...]
    export_options: frozenset[str]

    @property
    def augmentation(self) -> type[Augmentation]: ...

    @property
    def fine_tuning(self) -> FineTuning: ...

    @property
    def suffixes(self) -> tuple[str, ...]: ...

    def identity(self, content: str) -> Hashable:
        """A cheap identity of an example: equal for equal examples."""

    def content_keys(self, inputs: Sequence[str]) -> Iterable[Hashable]:
        """A key for each example, equal for those that stay on one side of a split."""

    def digests(self, inputs: Sequence[str]) -> tuple[Iterable[str], Iterable[bytes]]:
        """For each example its name, and a digest of all of its content."""

    def read(
        self,
        data: PathLike,
        *,
        class_names: Sequence[str] | None = None,
        data_dir: PathLike | None = None,
        **columns: str | None,
    ) -> tuple[Splits, ColumnsRead | None]:
        """Read examples as they are.

        Args:
            data: As in `train`.
            class_names: The classes in the order of their labels; `None` takes those of the data.
            data_dir: Where TensorFlow Datasets keeps its data.
            **columns: Options of `train` for tables; those that are not among `columns` are not looked at.

        Returns:
            `Splits`, and of a table `Columns`, of texts with entities `EntityColumns`, else `None`.

        Raises:
            DataError: There is nothing usable.
        """

    def load_splits(self, source: PathLike, **options: Any) -> tuple[Splits, ColumnsRead | None]:
        """Read examples for training, with a validation split in any case.

        Args:
            source: As `data` in `train`.
            **options: Of `train`: `validation`, `validation_fraction`, `seed`, `data_dir`, and `columns`.

        Returns:
            As `read`.

        Raises:
            DataError: There is nothing usable.
        """

    def group_hint(self, examples: Examples) -> str | None:
        """A line where the names of examples look as if they came in groups, such as frames of one drive."""

    def readable(
        self, examples: Examples, facts: Mapping[str, Any], progress: OnProgress | None = None
    ) -> Examples:
        """The readable examples.

        Args:
            examples: `Examples`.
            facts: Of the manifest's `data`, which say whether the others may be left out.
            progress: Callable that receives the number of examples done and their total. Defaults to `None`.

        Raises:
            DataError: One cannot, and they say that it may not be left out.
        """

    def reads_as_missing(self, name: str) -> bool:
        """Whether the name of a class may be what a program wrote for a missing label."""

    def write_sidecars(
        self, preprocessing: Preprocessing, folder: Path, examples: Examples
    ) -> tuple[dict[str, Any], Iterable[str]]:
        """Write into the folder of artifacts whatever all of them need.

        Returns:
            Fields for the manifest, and messages.
        """

    def network(
        self, name: str, examples: Examples, recipe: Recipe, *, random_weights: bool = False, **options: Any
    ) -> Network:
        """A classifier of the examples on a backbone, as `Network`.

        Args:
            name: Of the backbone, as in `train`.
            examples: What it is to be trained on.
            recipe: `Recipe`.
            random_weights: Whether the backbone starts from random weights.
            **options: Of `train`; those of other modalities are not looked at.

        Raises:
            BackboneError: There is no such backbone, or it does not fit.
        """

    def default_recipe(self, *, examples: int, **options: Any) -> Recipe:
        """The `Recipe` for so many training examples.

        Args:
            examples: How many there are.
            **options: `gpu`, `epochs` and `seed`, as in `image_recipe` and `text_recipe`.
        """

    def examine(
        self, items: Sequence[Item], *, workers: int | None = None, progress: OnProgress | None = None
    ) -> tuple[list[Finding], list[Hashable | None], Sequence[int], Callable[[Sequence[int]], Array]]:
        """Look at each example of an audit once.

        Args:
            items: `Item`s.
            workers: Threads; `None` chooses.
            progress: Callable that receives the number of examples done and their total. Defaults to `None`.

        Returns:
            `Finding`s about single examples; for each example a key of its content, `None` where it has none; the
            indices of those of which near-duplicates can be found; and a function from such indices to numbers,
            the same for what is nearly the same.
        """

    def item_keys(self, root: PathLike | None) -> Callable[[str, str], str]:
        """A function from an example and its class to what names it in an exclusion list.

        Args:
            root: The folder of the data, or `None`.
        """

    def shown(self, content: str) -> str | list[str]:
        """An example as JSON holds it."""

    def title(self, item: Item) -> str:
        """The name of an `Item` for display."""

    def named(self, item: Item) -> str:
        """The name of an `Item` within a sentence."""

    def as_html(self, content: str) -> str:
        """An example as an element of a page."""

    def asked_augmentation(self, options: Mapping[str, Any]) -> Augmentation | None:
        """The augmentation that options of the command line ask for; `None` where none does.

        Raises:
            RecipeError: It cannot be.
        """

    def pretraining(
        self,
        data: PathLike,
        backbone: str,
        *,
        seed: int,
        random_weights: bool,
        labeled: Splits | None,
        leave_out_leaks: bool,
        **reading: Any,
    ) -> Pretraining:
        """A self-supervised task on unlabeled examples, `labeled` splits that they are compared with.

        Raises:
            KTransferError: The data or the backbone will not do, or there is no such task.
        """

    def published_backbones(self) -> Mapping[str, Any]:
        """The presets of keras-hub's registry, by name."""

    def find_inputs(
        self,
        inputs: Sequence[str],
        *,
        column: str | Sequence[str] | None = None,
        encoding: str | None = None,
    ) -> Inputs:
        """Find the inputs to predict among names, files and folders, as `Inputs`.

        Args:
            inputs: Examples, files and folders.
            column: Of tables; of pairs of texts a sequence of two.
            encoding: Of tables and text files.

        Raises:
            DataError: There is nothing to predict, or it cannot be read.
        """

    def check_inputs(self, inputs: Sequence[str], *, encoding: str | None = None) -> None:
        """Raise `DataError` if `find_inputs` would, as far as that takes no time."""

    def shard_contents(self, *, pairs: bool = False) -> ShardContents:
        """The kind of example that is looked for in shards; `pairs` of texts have two fields."""

    def check_backbone_name(self, name: str, *, scaling: str | None = None) -> None:
        """Raise `BackboneError` for what cannot be a backbone, by its path alone."""

    def by_name(self, inputs: ModelInputs) -> dict[str, Array]:
        """Preprocessed inputs by the names of an artifact's inputs."""

    def written_sidecars(self, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Manifest entries of the files of `write_sidecars`: `path`, `sha256` and `size_bytes` of each."""

    def verify_sidecars(self, path: PathLike, serving: Serving) -> None:
        """Raise `ExportError` unless what `write_sidecars` wrote does as the model's own preprocessing."""

    def reads(self, preprocessing: Mapping[str, Any]) -> str:
        """A description of the size that examples are brought to, from `Preprocessing.to_dict`."""

    def card(self, content: str, *, picture: bool) -> dict[str, Any]:
        """The contents of an example's card in a report.

        Args:
            content: The example.
            picture: Whether a picture of it is wanted.
        """

    def explained(
        self, run: Run, answers: Answers, card_of: Callable[[int], dict[str, Any]]
    ) -> dict[str, Any]:
        """Cards of wrong and of right answers with what they rest on, and by which method that was found.

        Args:
            run: A `Run`.
            answers: `Answers`.
            card_of: From the index of an answer to a card of it.
        """

    def save_preprocessing(self, preprocessing: Preprocessing, run: Run) -> None:
        """Write what the manifest of a run does not hold of it into the run's folder."""

    def load_preprocessing(self, run: Run) -> Preprocessing:
        """Load the preprocessing of a run.

        Args:
            run: A `Run`.

        Raises:
            RunError: What its folder says of it is damaged.
        """

    def serving(
        self,
        model: keras.Model,
        class_names: Sequence[str],
        examples: Sequence[str] | Array,
        preprocessing: Preprocessing | None,
    ) -> Serving:
        """The `Serving` of a model, after checking that its arguments are consistent.

        Raises:
            ExportError: They do not.
        """

    def as_asked(self, serving: Serving, *, any_size: bool, uint8: bool) -> Serving:
        """The `Serving` that takes examples of any size, or as whole numbers, where that is asked for.

        Raises:
            ExportError: It cannot.
        """

    def client_facts(self, serving: Serving) -> dict[str, Any]:
        """Counts of the examples that the client library of an artifact reads otherwise, as JSON values.

        Raises:
            ExportError: It reads too many of them in another way.
        """

    def saved_model_signatures(
        self, serving: Serving, serve: Callable[..., dict[str, Tensor]], *, default: str, module: tf.Module
    ) -> dict[str, Any]:
        """The functions of a SavedModel by the names of their signatures, those that take raw examples too.

        Args:
            serving: `Serving`.
            serve: From what the model takes to probabilities.
            default: The name of the signature that servers use.
            module: `tf.Module`; holds whatever the functions need.
        """

    def hub_model(self, serving: Serving) -> keras.Model:
        """The classifier as keras-hub's own task, its preprocessor attached.

        Raises:
            ExportError: keras-hub has none that can hold it.
        """

    def hub_facts(self, serving: Serving, folder: Path) -> dict[str, Any]:
        """Facts by which transformers reads examples, with its files, which are written to `folder`.

        Raises:
            ExportError: There is no such classifier of these examples.
        """

    def web_facts(self, serving: Serving, folder: Path) -> tuple[dict[str, Any], tuple[Package, ...]]:
        """Facts by which a page in a browser reads examples, and the packages of npm that it needs for that.

        Files that it needs are written to `folder`.

        Raises:
            ExportError: The page has no way to read such examples.
        """

    def tokenizer_graph(self, serving: Serving, fixed: Mapping[str, int]) -> bytes:
        """An ONNX model that makes the inputs of an artifact of one text.

        Raises:
            ExportError: There are no operators for that.
        """

    def in_graph_facts(self, serving: Serving, further: Sequence[Any]) -> dict[str, Any]:
        """The name of the library that runs `tokenizer_graph`, and of how many examples it makes other inputs.

        Raises:
            ExportError: Of too many, or it cannot be had.
        """

    def described_signatures(self, serving: Serving, signature: dict[str, Any]) -> dict[str, Any]:
        """Manifest entries of these signatures, derived from that of `serve`."""

    def sequence(self, serving: Serving, fixed: Mapping[str, int]) -> int | str | None:
        """The sequence length that an artifact takes, `"dynamic"`, or `None` of what is no sequence."""

    def raw_parity(
        self,
        artifact: Callable[[dict[str, Array]], Array],
        serving: Serving,
        format: str,
        labels: Array | None,
    ) -> tuple[Parity, int | None]:
        """Compare answers to examples as people have them with the model's, which reads them as the run does.

        Args:
            artifact: Inputs by name to probabilities `(B, C)`.
            serving: `Serving` with its preprocessing.
            format: What takes raw examples: `"savedmodel"`, or `"onnx"` those of any size.
            labels: True classes of the examples, int `(N,)`, or `None`.

        Returns:
            `Parity`, and where it is counted how many examples are read otherwise inside the artifact.
        """

    def check_raw_parity(self, parity: Parity, format: str, tolerance: float) -> None:
        """Raise `ExportError` unless these answers are the model's."""

    def files_read(self, artifact: Callable[[dict[str, Array]], Array], serving: Serving) -> FilesRead | None:
        """`FilesRead`: how far what an artifact reads from files is from what the run reads of them."""


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


def augmentations() -> tuple[type[Augmentation], ...]:
    """The class of the `Augmentation` of each modality.

    Example:
        >>> [each.__name__ for each in augmentations()]
        ['Augmentation', 'TextAugmentation']
    """
    return tuple(each.augmentation for each in modalities())


def asked_augmentation(options: Mapping[str, Any]) -> Augmentation | None:
    """The augmentation that options of the command line ask for; `None` where none does.

    Raises:
        RecipeError: It cannot be.

    Example:
        >>> asked_augmentation({"text_augmentation": 0.1}).deletion
        0.1
    """
    found = (each.asked_augmentation(options) for each in modalities())
    return next((augmentation for augmentation in found if augmentation is not None), None)


def modality_of_task(task: str | None) -> Modality:
    """The modality of a manifest's `task`; manifests of the first runs have none.

    Raises:
        ValueError: There is no such task.

    Example:
        >>> modality_of_task("text-classification").name
        'text'
    """
    return modalities()[0] if task is None else _the_one("task", task)


def modality_of_manifest(manifest: Mapping[str, Any]) -> Modality:
    """The modality of a run's manifest, of any format.

    Raises:
        ValueError: There is no such modality.

    Example:
        >>> modality_of_manifest({"modality": "text", "task": "multi_label"}).noun
        'texts'
    """
    name = manifest.get("modality")
    return modality_of_task(manifest.get("task")) if name is None else _the_one("name", name)


def modality_of_kind(kind: str) -> Modality:
    """The modality of `Examples.kind`.

    Raises:
        ValueError: There is no such kind.

    Example:
        >>> modality_of_kind("file").name
        'image'
    """
    return _the_one("kind", kind)


def modality_of_noun(noun: str) -> Modality:
    """The modality of a `Modality.noun`.

    Raises:
        ValueError: There is no such noun.

    Example:
        >>> modality_of_noun("texts").name
        'text'
    """
    return _the_one("noun", noun)


def modality_of_facts(facts: Mapping[str, Any]) -> Modality:
    """The modality of the `data` entry of a manifest: the first all of whose `facts` are there, else the last.

    Example:
        >>> modality_of_facts({"source": "flowers", "skip_corrupt": False}).name
        'image'
    """
    return next((each for each in modalities() if set(each.facts) <= facts.keys()), modalities()[-1])


def modality_of(preprocessing: Preprocessing | None) -> Modality:
    """The modality of what a model is given; `None` for a model of pixels alone.

    Example:
        >>> modality_of(None).name
        'image'
    """
    return modality_of_task(None if preprocessing is None else preprocessing.task)


def _the_one(attribute: str, value: str) -> Modality:
    found = [each for each in modalities() if getattr(each, attribute) == value]
    if not found:
        known = ", ".join(repr(getattr(each, attribute)) for each in modalities())
        raise ValueError(f"Expected a {attribute} out of {known}, got {value!r}. Pass one of them.")
    return found[0]
