"""What the frozen part of a classifier makes of the data: computed once, kept, served to each stage."""

import contextlib
import dataclasses
import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable

import keras
import numpy as np

from ktransfer.cache_plan import kept_dtype, plan_stages
from ktransfer.classifier import predict_in_batches
from ktransfer.data.augmentation import Augmentation
from ktransfer.data.examples import Examples
from ktransfer.data.images import Resize
from ktransfer.data.pipeline import image_dataset
from ktransfer.errors import RecipeError
from ktransfer.feature_cache import HEAD, Cut, FeatureBatches, cuts_below, lower_part, upper_part
from ktransfer.feature_store import FeatureStore, Rows
from ktransfer.freezing import find_blocks
from ktransfer.head import extract_features
from ktransfer.recipe import Recipe
from ktransfer.training import find_backbone, has_gpu


def _untracked(batches: Iterable, total: int, description: str) -> Iterable:
    return batches


class FrozenFeatures:
    """The features of a classifier's training and validation examples at the cuts that its stages need.

    One pass over the images gives all of them that are not kept yet; where a lower cut is kept, it starts
    there and not at the pixels. The key of what is kept is a digest of the files, how they are read, varied
    and scaled, the backbone's config and the weights below the cut, so nothing stale is ever served. The
    frozen part runs in inference mode.

    Args:
        model: From `build_classifier`.
        train, validation: Examples of images.
        recipe: Whose stages need them.
        resize: How images are read.
        store: Where they are kept.
        track: Wraps the batches of a pass, as a progress bar does: `track(batches, total, description)`.
        say: Where the lines about what is kept go.

    Raises:
        RecipeError: Something in the model varies its input at random.

    Example:

        features = FrozenFeatures(model, train, validation, recipe, resize=resize, store=store)
        solve_head(model, features.pooled(), train.labels)
    """

    def __init__(
        self,
        model: keras.Model,
        train: Examples,
        validation: Examples,
        recipe: Recipe,
        *,
        resize: Resize,
        store: FeatureStore,
        track: Callable[[Iterable, int, str], Iterable] = _untracked,
        say: Callable[[str], None] = print,
    ):
        self.examples = {"train": train, "validation": validation}
        self.recipe, self.resize = recipe, resize
        self._model, self._store, self._track, self._say = model, store, track, say
        self._backbone = find_backbone(model)
        self._blocks = find_blocks(self._backbone)
        lower_part(model, self._backbone, [HEAD])  # refuses what cannot be kept, before anything runs
        self._views = recipe.cached_views if recipe.augmentation != Augmentation.none() else 0
        self._reading = [
            keras.__version__,
            dataclasses.asdict(resize),
            model.get_layer("scaling").get_config(),
            self._backbone.get_config(),
            recipe.cache_dtype,
        ]
        self._files = {name: [part.fingerprint(), part.inputs] for name, part in self.examples.items()}
        counts = {"train": len(train) * max(1, self._views), "validation": len(validation)}
        self._plan = plan_stages(model, self._backbone, self._blocks, recipe, counts, store.free_bytes())
        for index, stage in enumerate(self._plan):
            if stage.cut is None:
                say(f"cache      none for stage {index}: {stage.reason}")
        self._lower: dict[tuple, keras.Model] = {}
        self._unsaid = {stage.cut.name: stage.expected for stage in self._plan if stage.cut}

    def pooled(self, part: str = "train") -> np.ndarray:
        """Pooled features of the examples of a part as they are, not varied; float32 `(N, features)`."""
        wanted = {(part, None): [HEAD]}
        if part == "train":  # one pass for all that will be asked for
            wanted["validation", None] = [HEAD]
            for stage in self._plan:
                if stage.cut is not None:
                    self._want(wanted, stage.cut)
        found = self._fill(wanted)
        if found is None:
            batches = image_dataset(
                self.examples[part], resize=self.resize, batch_size=self._batch_size, cache=False
            )
            return extract_features(self._model, self._tracked(batches, "running the backbone"))[0]
        return found[part, None, HEAD.name].read(np.arange(len(self.examples[part])))

    def batches(self, stage: int) -> tuple[keras.Model, FeatureBatches, FeatureBatches] | None:
        """The upper part that trains in a stage, and its batches for training and validation.

        `None` where the stage has to run on the images.
        """
        cut = self._plan[stage].cut
        if cut is None:
            return None
        wanted: dict = {}
        self._want(wanted, cut)
        found = self._fill(wanted)
        if found is None:
            return None
        targets = {
            name: np.eye(len(part.class_names), dtype="float32")[part.labels]
            for name, part in self.examples.items()
        }
        views = []
        for view in self._training_views():
            order = slice(None) if view is None else self._order(view)
            views.append((found["train", view, cut.name], targets["train"][order]))
        training = FeatureBatches(
            views,
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            training=True,
            permuted=bool(self._views),
        )
        judged = FeatureBatches(
            [(found["validation", None, cut.name], targets["validation"])],
            # Judging is the same in batches of any size, and pooled features are small.
            batch_size=1024 if cut is HEAD else self.recipe.batch_size,
        )
        return upper_part(self._model, self._backbone, cut), training, judged

    @property
    def _batch_size(self):
        return 256 if has_gpu() else 32

    def _training_views(self):
        return range(self._views) if self._views else [None]

    def _order(self, view):
        return np.random.default_rng([self.recipe.seed, view]).permutation(len(self.examples["train"]))

    def _want(self, wanted, cut):
        for part, view in [*(("train", view) for view in self._training_views()), ("validation", None)]:
            cuts = wanted.setdefault((part, view), [])
            if cut.name not in [other.name for other in cuts]:
                cuts.append(cut)

    def _fill(self, wanted: dict[tuple[str, int | None], list[Cut]]) -> dict[tuple, Rows] | None:
        """The rows of each part, view and cut, computed where missing; `None` if they cannot be kept."""
        if self._store is None:
            return None
        found, seconds = {}, 0.0
        digests = self._weight_digests()
        for (part, view), cuts in wanted.items():
            missing = []
            for cut in cuts:
                rows = self._store.open(self._key(cut, part, view, digests))
                if rows is None:
                    missing.append(cut)
                else:
                    found[part, view, cut.name] = rows
            if missing:
                start = time.perf_counter()
                try:
                    self._compute(part, view, missing, digests)
                    for cut in missing:
                        rows = self._store.open(self._key(cut, part, view, digests))
                        if rows is None:
                            raise OSError("something else removed what was just kept")
                        found[part, view, cut.name] = rows
                except OSError as error:
                    warnings.warn(
                        f"ktransfer: features cannot be kept in {self._store.folder} "
                        f"({error.strerror or error}); every epoch runs the whole backbone instead. "
                        "Make room there, or pass --cache-dir.",
                        stacklevel=3,
                    )
                    self._store = None
                    return None
                except ValueError as error:
                    raise RecipeError(
                        f"Features that fit into the cache were expected. Received: {error}. "
                        'Set cache_dtype="float32" in the recipe.'
                    ) from error
                seconds += time.perf_counter() - start
        self._lower = {}
        self._report(found, seconds)
        return found

    def _compute(self, part, view, missing, digests):
        examples = self.examples[part]
        start = rows = None
        for start in cuts_below(self._blocks, max(cut.above for cut in missing)):
            if rows := self._store.open(self._key(start, part, view, digests)):
                break
        if rows:
            lower = self._lower_part(missing, start, rows.shape[1:])
            size = self._batch_size
            batches = [np.arange(i, min(i + size, len(rows))) for i in range(0, len(rows), size)]
        else:
            lower = self._lower_part(missing)
            batches = self._images(examples, view)
        batches = self._tracked(batches, f"running the frozen backbone, {part} images")
        values = (rows.read(batch) for batch in batches) if rows else (images for images, _ in batches)
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(
                    self._store.writer(
                        self._key(cut, part, view, digests),
                        (len(examples), *tensor.shape[1:]),
                        kept_dtype(tensor, self.recipe),
                        {"cut": cut.name, "part": part} | ({} if view is None else {"view": view}),
                    )
                )
                for cut, tensor in zip(missing, lower.outputs, strict=True)
            ]
            for outputs in predict_in_batches(lower, values):
                for append, output in zip(writers, keras.tree.flatten(outputs), strict=True):
                    append(output)

    def _lower_part(self, cuts, *start):
        """The same for each part of the data, so that it is compiled once."""
        names = (*(cut.name for cut in cuts), *(cut.name for cut in start[:1]))
        if names not in self._lower:
            self._lower[names] = lower_part(self._model, self._backbone, cuts, *start)
        return self._lower[names]

    def _images(self, examples, view):
        if view is None:
            return image_dataset(examples, resize=self.resize, batch_size=self._batch_size, cache=False)
        return image_dataset(
            examples,
            resize=self.resize,
            batch_size=self.recipe.batch_size,  # the draws of an epoch follow its batches
            training=True,
            augmentation=self.recipe.augmentation,
            seed=self.recipe.seed,
            first_pass=view,
            cache=False,
        )

    def _tracked(self, batches, description):
        return self._track(batches, len(batches), description)

    def _weight_digests(self):
        """Of each block, by its place from the top."""
        digests = []
        for block in self._blocks:
            digest = hashlib.sha256()
            for variable in block.weights:
                digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).data)
            digests.append(digest.hexdigest())
        return digests

    def _key(self, cut, part, view, digests):
        varied = view is not None and [
            dataclasses.asdict(self.recipe.augmentation),
            self.recipe.seed,
            self.recipe.batch_size,
            view,
        ]
        facts = [cut.name, digests[cut.above :], self._reading, self._files[part], varied]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def _report(self, found, seconds):
        """Say of each cut, once, what is kept and what it is worth."""
        took = f"computed in {seconds:.1f} s" if seconds else "kept from before"
        for name in list(self._unsaid):
            kept = [rows for (_, _, cut), rows in found.items() if cut == name]
            if not kept:
                continue
            size = sum(math.prod(rows.shape) * rows.dtype.itemsize for rows in kept)
            shape = " x ".join(map(str, kept[0].shape[1:]))
            views = f", {self._views} views of each" if self._views else ""
            factor = self._unsaid.pop(name)
            faster = "over 100" if factor > 100 else f"about {factor:.1f}"
            self._say(
                f"cache      below {name}: {shape} for each image{views}, {size / 2**20:,.0f} MiB, {took}; "
                f"its epochs should be {faster} times faster"
            )
