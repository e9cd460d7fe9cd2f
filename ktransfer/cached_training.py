"""Fine-tuning on kept features: each stage trains only what lies above its lowest trained block."""

import os
from collections.abc import Callable, Sequence

import keras

from ktransfer.blocks import find_blocks
from ktransfer.cache_plan import can_cache
from ktransfer.callbacks import ProgressiveUnfreezing
from ktransfer.errors import RecipeError
from ktransfer.feature_cache import FeatureBatches
from ktransfer.freezing import resolve_depth, set_depth
from ktransfer.frozen_features import FrozenFeatures
from ktransfer.head import class_weights
from ktransfer.optimizers import GroupedOptimizer
from ktransfer.training import compile_classifier, find_backbone

_HEAD_STEPS = 32


def fine_tune_cached(
    model: keras.Model,
    features: FrozenFeatures,
    *,
    first_stage: int = 0,
    callbacks: Callable[[int], Sequence[keras.callbacks.Callback]] = lambda stage: (),
    on_stage_end: Callable[[int], None] = lambda stage: None,
    baseline: float | None = None,
    best_path: str | os.PathLike | None = None,
    verbose: int | str = 1,
) -> dict[str, list[float]]:
    """Do what `fine_tune` does, with the frozen part of the backbone run once for each stage.

    The weights come out equal to those of `fine_tune` on the same examples, to float tolerance: the frozen
    part runs in inference mode in both, and the batches come in the same order. With augmentation that holds
    as long as there is a view for each epoch. A stage that trains everything, or whose features cannot be
    kept, is trained on the examples themselves.

    Args:
        model: A classifier whose head is trained; trained in place.
        features: Of this model, with the examples and the recipe; one that `can_cache`.
        first_stage: Where to begin; the stages before it are done.
        callbacks: Further ones for the `fit` of a stage, by its index.
        on_stage_end: Called with the index of a stage that is done.
        baseline: Validation accuracy of the solved head that `first_stage` starts from; `None` judges it.
        best_path: As in `ProgressiveUnfreezing`.
        verbose: As in `keras.Model.fit`.

    Returns:
        The history over all stages. Where one ended early the epoch numbers of the next are its own, so
        there is a gap in them.

    Raises:
        RecipeError: The recipe cannot be cached, or a stage does not fit the backbone.

    Example:

        features = FrozenFeatures(
            model, train, validation, recipe, preprocessing=preprocessing, store=store
        )
        fine_tune_cached(model, features)
    """
    recipe = features.recipe
    if not can_cache(recipe):
        raise RecipeError(
            "Kept features need examples that are the same at every epoch and frozen BatchNorm. "
            f"Received: {recipe.augmentation}, cached_views={recipe.cached_views}, "
            f"batch_norm={recipe.batch_norm!r}. Set cached_views, or use fine_tune."
        )
    backbone = find_backbone(model)
    blocks = find_blocks(backbone)
    depths = [resolve_depth(stage.depth, blocks) for stage in recipe.stages]
    train = features.examples["train"]
    weights = class_weights(train.labels, len(train.class_names), recipe.class_weight)
    optimizer = _optimizer_for_all_stages(model, backbone, blocks, max(depths), recipe)
    history: dict[str, list[float]] = {}
    for index in range(first_stage, len(depths)):
        set_depth(backbone, blocks, depths[index])
        kept = features.batches(index)
        if kept:
            part, order, _ = kept
            batches, judged = (each.data for each in kept[1:])
        else:
            part, order = model, None
            batches, judged = map(features.dataset, ("train", "validation"))
        part.compile(
            optimizer=optimizer,
            loss=model.loss,
            metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
            # Where only a head trains, calling into the backend costs more than the step itself.
            steps_per_execution=min(len(batches), _HEAD_STEPS) if kept and not depths[index] else 1,
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
        if order:
            # As many epochs as have gone by, which are fewer than planned where a stage ended early.
            stage_callbacks.append(_EpochOrder(order, start - len(history.get("loss", ()))))
        found = part.fit(
            batches,
            validation_data=judged,
            initial_epoch=start,
            epochs=start + recipe.stages[index].epochs,
            shuffle=False,
            class_weight=dict(enumerate(weights)) if recipe.class_weight else None,
            callbacks=[*stage_callbacks, *callbacks(index)],
            verbose=verbose,
        )
        baseline = stage_callbacks[0].best
        stage_callbacks[0].forget_skipped_epochs()
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

    def forget_skipped_epochs(self):
        """The next stage has a `fit` of its own, which begins at its own epoch."""
        self._grouped.skipped_epochs.assign(0)


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
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    optimizer = GroupedOptimizer(inner, [head, *([v.path for v in b.weights] for b in blocks)])
    if inner is not model.optimizer:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer
