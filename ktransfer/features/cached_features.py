"""Features of the frozen part of a classifier: computed once, cached, served to each stage."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.core.modality import Preprocessing
from ktransfer.data.examples import Examples
from ktransfer.data.rebatching import rebatched
from ktransfer.features.extract import FrozenPass, Track, untracked
from ktransfer.features.plan import plan_stages
from ktransfer.features.split_model import HEAD, FeatureBatches, find_taps, lower_part, upper_part
from ktransfer.features.store import FeatureStore
from ktransfer.models.blocks import find_blocks
from ktransfer.models.inputs import named_inputs
from ktransfer.models.locate import find_backbone
from ktransfer.models.predict import predict_in_batches
from ktransfer.recipes.recipe import Recipe
from ktransfer.utils.terminal import print_line

if TYPE_CHECKING:
    import tensorflow as tf

    from ktransfer.core.typing import Array
    from ktransfer.features.split_model import Cut
    from ktransfer.features.store import Rows
_READ_AT_ONCE = 1024  # examples


class FrozenFeatures:
    """The features of a classifier's training and validation examples at the cuts that its stages need.

    One pass over the examples gives all of them that are not kept yet; where a lower cut is kept, it starts
    there. The key of what is kept is a digest of the files or texts, how they are read, varied and scaled,
    the backbone's config and the weights below the cut, so nothing stale is ever served. The frozen part runs
    in inference mode.

    Args:
        model: From `build_classifier` or `build_text_classifier`.
        train, validation: Examples of images, or of texts.
        recipe: Whose stages need them.
        preprocessing: How they are read.
        store: Where they are kept.
        taps: Whether the pass gives `taps()` as well.
        track: Wraps the batches of a pass, as a progress bar does: `track(batches, total, description)`.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.

    Raises:
        RecipeError: Something in the model varies its input at random.

    Example:

        features = FrozenFeatures(model, train, validation, recipe, preprocessing=preprocessing, store=store)
        solve_head(model, features.pooled(), train.labels)
    """

    def __init__(
        self,
        model: keras.Model,
        train: Examples,
        validation: Examples,
        recipe: Recipe,
        *,
        preprocessing: Preprocessing,
        store: FeatureStore,
        taps: bool = False,
        track: Track = untracked,
        say: Callable[[str], None] = print_line,
    ) -> None:
        self.examples = {"train": train, "validation": validation}
        self.recipe, self.preprocessing = recipe, preprocessing
        self._model, self._say = model, say
        self._backbone = find_backbone(model)
        self._blocks = find_blocks(self._backbone)
        lower_part(model, self._backbone, [HEAD])  # refuses what cannot be kept, before anything runs
        self._taps = find_taps(self._blocks) if taps and not named_inputs(model) else None
        self._views = recipe.cached_views if recipe.augmentation.is_on else 0
        self._pass = FrozenPass(
            model, self._backbone, self._blocks, self.examples, recipe, preprocessing, store, track
        )
        counts = {"train": len(train) * max(1, self._views), "validation": len(validation)}
        self._plan = plan_stages(
            model,
            self._backbone,
            self._blocks,
            recipe,
            counts,
            store.free_bytes(),
            preprocessing.sequence_length,
        )
        for index, stage in enumerate(self._plan):
            if stage.cut is None:
                say(f"cache      none for stage {index}: {stage.reason}")
        self._unsaid = {stage.cut.name: stage.expected for stage in self._plan if stage.cut}

    def pooled(self, split: str = "train") -> np.ndarray:
        """Features of a split without augmentation: float32 `(N, features)`, or of words `(R, features)`.

        Rows are in the order of `Preprocessing.row_labels`.
        """
        wanted: dict[tuple[str, int | None], list[Cut]] = {(split, None): [HEAD]}
        if split == "train":  # one pass for all that will be asked for
            wanted["validation", None] = [HEAD]
            for stage in self._plan:
                if stage.cut is not None:
                    self._want(wanted, stage.cut)
            if self._taps is not None:
                wanted["train", None].append(self._taps)
        found, places = self._rows(wanted), self._places(split, None)
        examples = self.examples[split]
        if found is None:
            order = self._pass.order(split, None)
            return row_features(
                self._model, self._pass.inputs(split, None), self.preprocessing, examples, order, taps=False
            )[0]
        rows, whole = found[split, None, HEAD.name], []
        # Of texts whose words are answered most of what is kept is other tokens.
        for start in range(0, len(examples), _READ_AT_ONCE):
            indices = np.arange(start, min(start + _READ_AT_ONCE, len(examples)))
            whole += self.preprocessing.rows(rows.read(places[indices]), examples, indices)
        return np.concatenate(whole)

    def taps(self) -> np.ndarray | None:
        """Outputs of every block but the topmost for the training images, averaged over each: `(N, F)`.

        `None` for texts, where the graph shows no such tensors, and where nothing can be kept.
        """
        if self._taps is None:
            return None
        found = self._rows({("train", None): [self._taps]})
        return None if found is None else found["train", None, "taps"].read(self._places("train", None))

    def speedup(self, stage: int) -> float:
        """The reduction of multiplications in an epoch of a stage by cached features; 1 without them."""
        return self._plan[stage].expected

    def dataset(self, split: str, *, batch_size: int | None = None, first_pass: int = 0) -> tf.data.Dataset:
        """Batches of the examples themselves, as `split` of a `fit`: `"train"` or `"validation"`.

        Args:
            split: Of the data.
            batch_size: Where not the recipe's.
            first_pass: The order and variation to begin with.
        """
        recipe = self.recipe
        batches = self.preprocessing.dataset(
            self.examples[split],
            batch_size=recipe.batch_size,
            training=split == "train",
            augmentation=recipe.augmentation,
            one_hot=True,
            seed=recipe.seed,
            first_pass=first_pass,
        )
        if batch_size in (None, recipe.batch_size):
            return batches
        return rebatched(batches, batch_size, len(self.examples[split]))

    def batches(
        self, stage: int, *, batch_size: int | None = None
    ) -> tuple[keras.Model, FeatureBatches, FeatureBatches] | None:
        """The upper part that trains in a stage, and its batches for training and validation.

        Their size is the recipe's where it is not given. `None` where the stage has to run on the examples
        themselves, from `dataset`.
        """
        cut = self._plan[stage].cut
        if cut is None:
            return None
        wanted: dict[tuple[str, int | None], list[Cut]] = {}
        batch_size = batch_size or self.recipe.batch_size
        self._want(wanted, cut)
        found = self._rows(wanted)
        if found is None:
            return None
        targets = {name: self.preprocessing.targets(split) for name, split in self.examples.items()}

        def rows(split: str, view: int | None) -> tuple[Rows, Array]:
            return found[split, view, cut.name], self._places(split, view)

        def extra_inputs(split: str) -> Callable[[Array], dict[str, Array]] | None:
            # What is pooled already has no length.
            if cut is HEAD or not named_inputs(self._model):
                return None
            return functools.partial(self.preprocessing.extra_inputs, self.examples[split])

        training = FeatureBatches(
            [rows("train", view) for view in self._training_views()],
            targets["train"],
            batch_size=batch_size,
            order=functools.partial(self._pass.order, "train"),
            extra_inputs=extra_inputs("train"),
        )
        validating = FeatureBatches(
            [rows("validation", None)],
            targets["validation"],
            # Evaluation is the same in batches of any size, and pooled features are small.
            batch_size=1024 if cut is HEAD else batch_size,
            extra_inputs=extra_inputs("validation"),
        )
        return upper_part(self._model, self._backbone, cut), training, validating

    def _training_views(self) -> Sequence[int | None]:
        return range(self._views) if self._views else [None]

    def _places(self, split: str, view: int | None) -> Array:
        """The row of each example."""
        return np.argsort(self._pass.order(split, view))

    def _want(self, wanted: dict[tuple[str, int | None], list[Cut]], cut: Cut) -> None:
        for split, view in [*(("train", view) for view in self._training_views()), ("validation", None)]:
            cuts = wanted.setdefault((split, view), [])
            if cut.name not in [other.name for other in cuts]:
                cuts.append(cut)

    def _rows(
        self, wanted: dict[tuple[str, int | None], list[Cut]]
    ) -> dict[tuple[str, int | None, str], Rows] | None:
        """The result of `FrozenPass.rows`; logs once for each cut what is cached and what it saves."""
        start = time.perf_counter()
        found, computed = self._pass.rows(wanted)
        if found is not None:
            self._report(found, time.perf_counter() - start if computed else 0.0)
        return found

    def _report(self, found: dict[tuple[str, int | None, str], Rows], seconds: float) -> None:
        took = f"computed in {seconds:.1f} s" if seconds else "kept from before"
        for name in list(self._unsaid):
            kept = [rows for (_, _, cut), rows in found.items() if cut == name]
            if not kept:
                continue
            size = sum(math.prod(rows.shape) * rows.dtype.itemsize for rows in kept)
            shape = " x ".join(map(str, kept[0].shape[1:]))
            views = f", {self._views} views of each" if self._views else ""
            factor, noun = self._unsaid.pop(name), self.examples["train"].noun[:-1]
            faster = "over 100" if factor > 100 else f"about {factor:.1f}"
            self._say(
                f"cache      below {name}: {shape} for each {noun}{views}, {size / 2**20:,.0f} MiB, {took}; "
                f"its epochs should be {faster} times faster"
            )


def row_features(
    model: keras.Model,
    batches: Iterable[Any],
    preprocessing: Preprocessing,
    examples: Examples,
    order: np.ndarray,
    *,
    taps: bool = True,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Features of the rows of examples before the head, and the outputs of the backbone's blocks, without a store.

    Args:
        model: From `build_classifier` or `build_text_classifier`.
        batches: Of `(inputs, labels)`, not augmented, in `order`.
        preprocessing: How the examples are read.
        examples: All of them.
        order: int `(N,)`, the example of each place in the batches.
        taps: Whether the outputs of the blocks are wanted.

    Returns:
        float32 `(R, F)` in the order of the examples, R being N unless words are answered; and `(N, G)` as
        `FrozenFeatures.taps` has them, or `None`.

    Example:

        pooled, tapped = row_features(model, batches, preprocessing, examples, np.arange(len(examples)))
    """
    backbone = find_backbone(model)
    cut = find_taps(find_blocks(backbone)) if taps and not named_inputs(model) else None
    lower = lower_part(model, backbone, [HEAD] if cut is None else [HEAD, cut])
    rows: list[Any] = [None] * len(order)
    tapped, place = [], 0
    for outputs in predict_in_batches(lower, (inputs for inputs, *_ in batches)):
        values, *more = keras.tree.flatten(outputs)
        indices = order[place : place + len(values)]
        for index, row in zip(indices, preprocessing.rows(values, examples, indices), strict=True):
            rows[index] = row
        tapped += more
        place += len(values)
    return np.concatenate(rows), np.concatenate(tapped)[np.argsort(order)] if tapped else None
