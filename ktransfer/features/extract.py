"""One pass of the frozen part over the examples: what is missing is computed and kept, the rest is opened."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.core.modality import Preprocessing
from ktransfer.core.task import SINGLE_LABEL, Task, get_task
from ktransfer.data.examples import Examples
from ktransfer.errors import RecipeError
from ktransfer.features.cache_key import FeatureKeys
from ktransfer.features.plan import kept_dtype, kept_shape
from ktransfer.features.split_model import Cut, cuts_below, lower_part, with_ids
from ktransfer.features.store import FeatureStore, Rows
from ktransfer.models.blocks import Block
from ktransfer.models.heads import Head
from ktransfer.models.predict import predict_in_batches
from ktransfer.recipes.recipe import Recipe
from ktransfer.utils.machine import has_gpu

if TYPE_CHECKING:
    import tensorflow as tf


Track = Callable[[Iterable[Any], int, str], Iterable[Any]]


def untracked(batches: Iterable[Any], total: int, description: str) -> Iterable[Any]:
    """A `Track` that shows nothing."""
    return batches


class FrozenPass:
    """Runs the frozen part of a classifier over its examples (see `FrozenFeatures`, whose part this is).

    Args:
        model, backbone, blocks: The classifier, its backbone, and the blocks of that.
        examples: By the name of their split.
        recipe: Whose augmentation, batches and dtype they are varied and kept with.
        preprocessing: How they are read.
        store: Where features are kept.
        track: Wraps the batches of a pass: `track(batches, total, description)`.

    Example:

        rows, computed = frozen_pass.rows({("train", None): [HEAD]})
    """

    def __init__(
        self,
        model: keras.Model,
        backbone: keras.Model,
        blocks: tuple[Block, ...],
        examples: Mapping[str, Examples],
        recipe: Recipe,
        preprocessing: Preprocessing,
        store: FeatureStore,
        track: Track = untracked,
    ) -> None:
        self._model, self._backbone, self._blocks = model, backbone, blocks
        self._examples, self._recipe, self._preprocessing = examples, recipe, preprocessing
        self._store: FeatureStore | None = store
        self._track = track
        self._key = FeatureKeys(model, backbone, blocks, examples, recipe, preprocessing)
        self._lower: dict[tuple[Any, ...], keras.Model] = {}

    def order(self, split: str, view: int | None) -> np.ndarray:
        """The examples in the order of the rows that are kept of them: of a view that of its epoch."""
        examples, recipe = self._examples[split], self._recipe
        if view is None:
            return self._preprocessing.order(examples.inputs)
        return self._preprocessing.epoch_order(
            examples, batch_size=recipe.batch_size, seed=recipe.seed, epoch=view
        )

    @property
    def _batch_size(self) -> int:
        return 256 if has_gpu() else 32

    def rows(
        self, wanted: Mapping[tuple[str, int | None], Sequence[Cut]]
    ) -> tuple[dict[tuple[Any, ...], Rows] | None, bool]:
        """The rows of each split, view and cut, and whether any were computed; `None` if none can be kept.

        Args:
            wanted: The cuts by split of the data and view; without a view the examples are as they are.
        """
        if self._store is None:
            return None, False
        found, computed = {}, False
        self._key.read_weights()
        for (split, view), cuts in wanted.items():
            missing = []
            for cut in cuts:
                rows = self._store.open(self._key(cut, split, view))
                if rows is None:
                    missing.append(cut)
                else:
                    found[split, view, cut.name] = rows
            if missing:
                computed = True
                try:
                    self._compute(self._store, split, view, missing)
                    for cut in missing:
                        rows = self._store.open(self._key(cut, split, view))
                        if rows is None:
                            raise OSError("something else removed what was just kept")
                        found[split, view, cut.name] = rows
                except OSError as error:
                    warnings.warn(
                        f"ktransfer: features cannot be kept in {self._store.folder} "
                        f"({error.strerror or error}); every epoch runs the whole backbone instead. "
                        "Make room there, or pass --cache-dir.",
                        stacklevel=3,
                    )
                    self._store = None
                    return None, False
                except ValueError as error:
                    raise RecipeError(
                        f'Expected features that fit into the cache, got {error}. Set cache_dtype="float32" '
                        "in the recipe."
                    ) from error
        self._lower = {}
        return found, computed

    def _compute(self, store: FeatureStore, split: str, view: int | None, missing: list[Cut]) -> None:
        # The lowest is entered first and so kept last: were it kept without the others, these would be
        # computed from it after a kill, and differ in their last bits.
        missing = sorted(missing, key=lambda cut: -cut.above)
        rows: Rows | None = None
        for start in cuts_below(self._blocks, max(cut.above for cut in missing)):
            if rows := store.open(self._key(start, split, view)):
                lower = self._lower_part(missing, start, rows.shape[1:])
                break
        whole: Any
        if rows:
            size, order = self._batch_size, self.order(split, view)
            whole = [np.arange(i, min(i + size, len(rows))) for i in range(0, len(rows), size)]
        else:
            lower = self._lower_part(missing)
            whole = self.inputs(split, view)
        description = f"running the frozen backbone, {split} {self._examples[split].noun}"
        batches = self._track(whole, len(whole), description)

        def given(batch: Any) -> Any:
            if not rows:
                return batch[0]
            ids = self._preprocessing.extra_inputs(self._examples[split], order[batch])
            return with_ids(rows.read(batch), ids) if ids else rows.read(batch)

        shapes = [kept_shape(tensor, self._preprocessing.sequence_length) for tensor in lower.outputs]
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(
                    store.writer(
                        self._key(cut, split, view),
                        (len(self._examples[split]), *shape),
                        kept_dtype(tensor, self._recipe),
                        {"cut": cut.name, "split": split} | ({} if view is None else {"view": view}),
                    )
                )
                for cut, tensor, shape in zip(missing, lower.outputs, shapes, strict=True)
            ]
            for outputs in predict_in_batches(lower, map(given, batches)):
                for append, output, shape in zip(writers, keras.tree.flatten(outputs), shapes, strict=True):
                    sides = zip(shape, output.shape[1:], strict=True)
                    append(np.pad(output, [(0, 0), *((0, whole - side) for whole, side in sides)]))

    def _lower_part(
        self, cuts: list[Cut], start: Cut | None = None, shape: tuple[int, ...] | None = None
    ) -> keras.Model:
        """The lower part of the model, shared by all splits so that it is compiled once."""
        names = (*(cut.name for cut in cuts), *(cut.name for cut in (start,) if cut))
        if names not in self._lower:
            self._lower[names] = lower_part(self._model, self._backbone, cuts, start, shape)
        return self._lower[names]

    def inputs(self, split: str, view: int | None) -> tf.data.Dataset:
        """Batches of `(what the classifier takes, labels)` in the order in which their features are kept."""
        if view is None:
            return self._preprocessing.dataset(
                self._examples[split].subset(self.order(split, view)),
                batch_size=self._batch_size,
                keep=False,
            )
        return self._preprocessing.dataset(
            self._examples[split],
            batch_size=self._recipe.batch_size,  # the random state of an epoch follows its batches
            training=True,
            augmentation=self._recipe.augmentation,
            seed=self._recipe.seed,
            first_pass=view,
            keep=False,
        )


def extract_features(
    model: keras.Model, dataset: tf.data.Dataset, *, task: str | Task = SINGLE_LABEL
) -> tuple[np.ndarray, np.ndarray]:
    """Pooled features of a classifier's backbone, in inference mode, and their labels.

    Args:
        model: From `build_classifier`.
        dataset: Batches of `(images, labels)`, not augmented; labels as indices or as targets `(B, classes)`.
        task: What the labels are of. Defaults to `"single_label"`.

    Returns:
        float32 `(N, features)`, and the labels as `Examples.labels` has them.

    Example:

        features, labels = extract_features(model, train)
    """
    task = get_task(task)
    pooled = keras.Model(model.input, Head.of(model).features)
    labels = []

    def images() -> Iterator[Any]:
        for batch, targets in dataset:
            labels.append(task.labels_of(np.asarray(targets)))
            yield batch

    return np.concatenate(list(predict_in_batches(pooled, images()))), np.concatenate(labels)
