"""Fine-tuning on kept features: each stage trains only what lies above its lowest trained block."""

import dataclasses
import math
import os
import time
import warnings
from collections.abc import Callable, Sequence

import keras
import numpy as np

from ktransfer.callbacks import ProgressiveUnfreezing
from ktransfer.classifier import predict_in_batches
from ktransfer.data.augmentation import Augmentation
from ktransfer.data.examples import Examples
from ktransfer.data.images import Resize
from ktransfer.data.pipeline import image_dataset
from ktransfer.errors import RecipeError
from ktransfer.feature_cache import FeatureBatches, features_key, split_classifier
from ktransfer.feature_store import FeatureStore
from ktransfer.freezing import find_blocks, resolve_depth, set_depth
from ktransfer.optimizers import GroupedOptimizer
from ktransfer.recipe import Recipe
from ktransfer.training import compile_classifier, find_backbone


def can_cache(recipe: Recipe) -> bool:
    """Whether a recipe shows the frozen part the same pixels at every epoch, so that one pass is enough."""
    return (
        recipe.augmentation == Augmentation.none()
        and recipe.batch_norm == "frozen"
        and recipe.precision == "float32"
    )


def fine_tune_cached(
    model: keras.Model,
    train: Examples,
    validation: Examples,
    recipe: Recipe,
    *,
    resize: Resize,
    store: FeatureStore,
    first_stage: int = 0,
    callbacks: Callable[[int], Sequence[keras.callbacks.Callback]] = lambda stage: (),
    on_stage_end: Callable[[int], None] = lambda stage: None,
    best_path: str | os.PathLike | None = None,
    say: Callable[[str], None] = print,
    verbose: int | str = 1,
) -> dict[str, list[float]]:
    """Do what `fine_tune` does, with the frozen part of the backbone run once for each stage.

    The weights come out equal to those of `fine_tune` on the same examples, to float tolerance: the frozen
    part runs in inference mode in both, and the batches come in the same order. A stage that trains
    everything, or whose features cannot be kept, is trained on the images.

    Args:
        model: A classifier from `build_classifier` whose head is trained; trained in place.
        train, validation: Examples of images.
        recipe: One that `can_cache`.
        resize: How images are read.
        store: Where features are kept.
        first_stage: Where to begin; the stages before it are done.
        callbacks: Further ones for the `fit` of a stage, by its index.
        on_stage_end: Called with the index of a stage that is done.
        best_path: As in `ProgressiveUnfreezing`.
        say: Where the line about what is kept goes.
        verbose: As in `keras.Model.fit`.

    Returns:
        The history over all stages. Where one ended early the epoch numbers of the next are its own, so
        there is a gap in them.

    Raises:
        RecipeError: The recipe cannot be cached, or a stage does not fit the backbone.

    Example:

        fine_tune_cached(model, train, validation, recipe, resize=resize, store=FeatureStore("features"))
    """
    if not can_cache(recipe):
        raise RecipeError(
            "Only a recipe without augmentation, in float32, with frozen BatchNorm trains on kept features. "
            f"Received: {recipe.augmentation}, {recipe.precision}, {recipe.batch_norm}. Use fine_tune."
        )
    backbone = find_backbone(model)
    blocks = find_blocks(backbone)
    depths = [resolve_depth(stage.depth, blocks) for stage in recipe.stages]
    examples = {"train": train, "validation": validation}
    optimizer = _optimizer_for_all_stages(model, backbone, blocks, max(depths), recipe)
    history: dict[str, list[float]] = {}
    baseline = None
    for index in range(first_stage, len(depths)):
        set_depth(backbone, blocks, depths[index])
        split = split_classifier(model, backbone, blocks, depths[index])
        rows = split and _keep(split, examples, resize, store, model, backbone, recipe.batch_size, say)
        part, batches, judged = _source(model, split, rows, examples, resize, recipe)
        part.compile(
            optimizer=optimizer, loss=model.loss, metrics=[keras.metrics.CategoricalAccuracy("accuracy")]
        )
        if baseline is None and recipe.head == "solve":
            baseline = part.evaluate(judged, verbose=0, return_dict=True)["accuracy"]
        start = sum(stage.epochs for stage in recipe.stages[:index])
        stage_callbacks = [
            _OneStage(
                backbone,
                recipe.stages[: index + 1],
                monitor="val_accuracy",
                baseline=baseline,
                best_path=best_path,
                verbose=int(bool(verbose)),
            )
        ]
        if rows:
            # As many epochs as have gone by, which are fewer than planned where a stage ended early.
            stage_callbacks.append(_EpochOrder(batches, start - len(history.get("loss", ()))))
        found = part.fit(
            batches,
            validation_data=judged,
            initial_epoch=start,
            epochs=start + recipe.stages[index].epochs,
            shuffle=False,
            callbacks=[*stage_callbacks, *callbacks(index)],
            verbose=verbose,
        )
        baseline = stage_callbacks[0].best
        optimizer.skipped_epochs.assign(0)
        for name, values in found.history.items():
            history.setdefault(name, []).extend(values)
        on_stage_end(index)
    return history


class _OneStage(ProgressiveUnfreezing):
    """The last of `stages`, on a classifier or its upper part; the optimizer stays for the next stage."""

    def _find_backbone(self, model):
        return self.backbone  # the whole one, of which an upper part holds some layers

    def on_train_end(self, logs=None):
        self._end_training()


class _EpochOrder(keras.callbacks.Callback):
    """Tells `FeatureBatches` which epoch begins; Keras' own hooks fire more often than there are epochs."""

    def __init__(self, batches: FeatureBatches, first: int):
        super().__init__()
        self._batches, self._first = batches, first

    def on_epoch_begin(self, epoch, logs=None):
        self._batches.begin_epoch(epoch - self._first)


def _optimizer_for_all_stages(model, backbone, blocks, depth, recipe):
    """One that is built on whatever trains in any stage, so that its state goes on from one to the next."""
    set_depth(backbone, blocks, depth)
    compile_classifier(model, recipe, one_hot=True)
    held = {id(variable) for variable in backbone.weights}
    head = [variable.path for variable in model.variables if id(variable) not in held]
    optimizer = GroupedOptimizer(model.optimizer, [head, *([v.path for v in b.weights] for b in blocks)])
    optimizer.build(model.trainable_variables)
    return optimizer


def _source(model, split, rows, examples, resize, recipe):
    """What a stage trains, and its batches for training and for validation."""
    options = {"batch_size": recipe.batch_size, "seed": recipe.seed}
    found = []
    for name, part in examples.items():
        if rows:
            targets = np.eye(len(part.class_names), dtype="float32")[part.labels]
            found.append(FeatureBatches(rows[name], targets, training=name == "train", **options))
        else:
            found.append(
                image_dataset(part, resize=resize, training=name == "train", one_hot=True, **options)
            )
    return split.upper if rows else model, *found


def _keep(split, examples, resize, store, model, backbone, batch_size, say):
    """The rows of each part by name, or `None` where they cannot be kept."""
    reading = [dataclasses.asdict(resize), model.get_layer("scaling").get_config(), backbone.get_config()]
    kept, size, seconds = {}, 0, 0.0
    for name, part in examples.items():
        key = features_key(split, [part.fingerprint(), part.inputs, reading])
        if (rows := store.open(key)) is None:
            start = time.perf_counter()
            images = image_dataset(part, resize=resize, batch_size=batch_size, cache=False)
            shape = (len(part), *split.lower.output.shape[1:])
            facts = {"cut": split.cut, "part": name}
            try:
                rows = store.write(
                    key,
                    shape,
                    "float32",
                    predict_in_batches(split.lower, (batch for batch, _ in images)),
                    facts,
                )
            except OSError as error:
                warnings.warn(
                    f"ktransfer: features cannot be kept in {store.folder} ({error.strerror or error}); "
                    "every epoch runs the whole backbone instead. Make room there, or pass --cache-dir.",
                    stacklevel=3,
                )
                return None
            seconds += time.perf_counter() - start
        kept[name] = rows
        size += math.prod(rows.shape) * 4
    shape = " x ".join(map(str, kept["train"].shape[1:]))
    took = f"computed in {seconds:.1f} s" if seconds else "kept from before"
    say(f"cache      below {split.cut}: {shape} for each image, {size / 2**20:.0f} MiB, {took}")
    return kept
