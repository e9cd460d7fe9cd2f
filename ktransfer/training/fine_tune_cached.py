"""Fine-tuning on cached features: train, in each stage, only the layers above its lowest unfrozen block."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import keras

from ktransfer.errors import RecipeError
from ktransfer.features.cached_features import FrozenFeatures
from ktransfer.features.plan import can_cache
from ktransfer.features.split_model import FeatureBatches
from ktransfer.models.adapters import adapted_kernels, attach_adapters
from ktransfer.models.blocks import find_blocks
from ktransfer.models.freezing import AdapterFreezing, located_alone, resolve_depth, set_depth
from ktransfer.models.locate import Located, find_backbone
from ktransfer.training.checkpoint import Checkpoint
from ktransfer.training.distribution import fitting, split_data
from ktransfer.training.fine_tune import WholeHistory, compile_classifier, warn
from ktransfer.training.layerwise_optimizer import LayerwiseOptimizer
from ktransfer.training.linear_probe import class_weights
from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing
from ktransfer.training.random_state import SeededDraws
from ktransfer.training.soft_targets import hard_labels
from ktransfer.utils.oom import in_smaller_batches

_HEAD_STEPS = 32


def fine_tune_cached(
    model: keras.Model,
    features: FrozenFeatures,
    *,
    callbacks: Callable[[int], Sequence[keras.callbacks.Callback]] = lambda stage: (),
    baseline: float | None = None,
    checkpoint: Checkpoint | None = None,
    on_trouble: Callable[[str], None] = warn,
    verbose: int | str = 1,
) -> dict[str, list[float]]:
    """Do what `fine_tune` does, with the frozen part of the backbone run once for each stage.

    The weights are equal to those of `fine_tune` on the same examples, to float tolerance: the frozen
    part runs in inference mode in both, and the batches come in the same order. With augmentation that holds
    as long as there is a view for each epoch. A stage that trains everything, or whose features cannot be
    kept, is trained on the examples themselves.

    Args:
        model: A classifier whose head is trained; trained in place.
        features: Of this model, with the examples and the recipe; one that `can_cache`.
        callbacks: Further ones for the `fit` of a stage, by its index.
        baseline: Validation metric of the solved head; `None` evaluates it.
        checkpoint: As in `fine_tune`.
        on_trouble: As in `fine_tune`.
        verbose: As in `keras.Model.fit`.

    Returns:
        The history over all stages. Where one ended early the epoch numbers of the next are its own, so
        there is a gap in them.

    Raises:
        RecipeError: The recipe cannot be cached, or a stage does not fit the backbone.
        RunError: One example at a time does not fit into memory.

    Example:

        features = FrozenFeatures(
            model, train, validation, recipe, preprocessing=preprocessing, store=store
        )
        fine_tune_cached(model, features)
    """
    recipe = features.recipe
    if not can_cache(recipe):
        raise RecipeError(
            "Expected examples that are the same at every epoch and frozen BatchNorm for cached features, "
            f"got {recipe.augmentation}, cached_views={recipe.cached_views}, "
            f"batch_norm={recipe.batch_norm!r}. Set cached_views, or use fine_tune."
        )
    backbone = find_backbone(model)
    blocks = find_blocks(backbone)
    depths = [resolve_depth(stage.depth, blocks) for stage in recipe.stages]
    train = features.examples["train"]
    task = train.task
    task.check_recipe(recipe)
    weights = None
    if recipe.class_weight:
        labels = hard_labels(train, features.preprocessing.row_labels(train))
        outputs = len(task.output_names(train.class_names))
        weights = dict(enumerate(class_weights(labels, outputs, recipe.class_weight)))
    train_top: Callable[[int], None]
    if recipe.adapter is None:
        train_top = functools.partial(set_depth, backbone, blocks)
    else:
        set_depth(backbone, blocks, 0)
        attach_adapters(blocks, max(depths), recipe.adapter, seed=recipe.seed, models=[model])
        train_top = AdapterFreezing(located_alone(backbone, blocks)).set_depth
    train_top(max(depths))
    compile_classifier(model, recipe, one_hot=True, task=task, class_weight=weights)
    # One optimizer throughout, whose state is kept from one stage to the next.
    optimizer = model.optimizer
    layerwise = LayerwiseOptimizer(optimizer)
    plan = layerwise.add_plan([block.weights for block in blocks])
    history, part_size, done = WholeHistory(), recipe.batch_size, 0
    if checkpoint:
        # All that any stage trains, and what the adapters will be added to.
        checkpoint.restore([*model.trainable_variables, *adapted_kernels(blocks)])
        done = checkpoint.epoch
        baseline = checkpoint.best if checkpoint.found else baseline
    for index, stage in enumerate(recipe.stages):
        start = sum(before.epochs for before in recipe.stages[:index])
        end = start + stage.epochs
        if done >= end:
            continue
        begin = max(start, done)
        # As many passes as have gone by, which are fewer than planned where a stage ended early.
        passed = begin - len(checkpoint.rows if checkpoint else history.epoch)
        unfreezing = _OneStage(
            backbone,
            recipe.stages[: index + 1],
            monitor=f"val_{task.score}",
            restore_best_weights=recipe.final_weights == "best",
            baseline=baseline,
            on_divergence=on_trouble,
            adapter=recipe.adapter,
            verbose=int(bool(verbose)),
        )
        unfreezing.use(layerwise, plan)
        if checkpoint:
            checkpoint.watch(unfreezing)

        def fit(
            size: int,
            index: int = index,
            begin: int = begin,
            end: int = end,
            passed: int = passed,
            unfreezing: ProgressiveUnfreezing = unfreezing,
        ) -> int:
            broken_off = unfreezing.go_back()
            first = begin if broken_off is None else broken_off
            train_top(depths[index])
            stage_callbacks = [unfreezing, SeededDraws(model, recipe.seed, passed=passed)]
            stage_callbacks += [checkpoint] if checkpoint else []
            kept = features.batches(index, batch_size=size)
            if kept:
                part, order, _ = kept
                batches, validating = (each.data for each in kept[1:])
                stage_callbacks.append(_EpochOrder(order, passed))
            else:
                part = model
                batches = features.dataset("train", batch_size=size, first_pass=first - passed)
                validating = features.dataset("validation", batch_size=size)
            if size < recipe.batch_size:
                unfreezing.parts = recipe.batch_size, size, len(train)
            part.compile(
                optimizer=optimizer,
                loss=model.loss,
                metrics=[task.metric()],
                # Where only a head trains, calling into the backend costs more than the step itself.
                steps_per_execution=min(len(batches), _HEAD_STEPS) if kept and not depths[index] else 1,
            )
            if unfreezing.baseline is None and recipe.head == "solve" and recipe.final_weights == "best":
                with fitting():
                    found = part.evaluate(split_data(validating), verbose=0, return_dict=True)
                unfreezing.baseline = found[task.score]
            with fitting():
                part.fit(
                    split_data(batches),
                    validation_data=split_data(validating),
                    initial_epoch=first,
                    epochs=end,
                    shuffle=False,
                    class_weight=None if task.weights_in_loss else weights,
                    callbacks=[*stage_callbacks, *callbacks(index), history],
                    verbose=verbose,
                )
            return size

        part_size = in_smaller_batches(fit, recipe.batch_size, on_trouble, start=part_size)
        baseline = unfreezing.best
    return history.history


class _OneStage(ProgressiveUnfreezing):
    """The last of `stages`, on a classifier or its upper part, of which the backbone is a part.

    Its `fit` counts epochs as they are planned: those that an earlier stage left out have passed.
    """

    def resume(self, counters: Mapping[str, Any]) -> None:
        super().resume({**counters, "skipped": 0})

    def _locate(self, model: keras.Model) -> Located:
        backbone = cast(
            "keras.Model", self.backbone
        )  # the whole one, of which an upper part holds some layers
        return located_alone(backbone, find_blocks(backbone))

    def _check_head(self, model: keras.Model, located: Located, depth: int) -> None:
        pass


class _EpochOrder(keras.callbacks.Callback):
    """Tells `FeatureBatches` which epoch begins; Keras' own hooks fire more often than there are epochs."""

    def __init__(self, batches: FeatureBatches, first: int) -> None:
        super().__init__()
        self._batches, self._first = batches, first

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches.begin_epoch(epoch - self._first)
