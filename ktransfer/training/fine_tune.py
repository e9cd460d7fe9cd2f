"""Train a classifier by a recipe: the head first, then the backbone from the top."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from ktransfer.core.task import SINGLE_LABEL, Task, get_task
from ktransfer.data.rebatching import rebatched
from ktransfer.errors import RecipeError
from ktransfer.models.adapters import attach_adapters
from ktransfer.models.blocks import find_blocks
from ktransfer.models.freezing import resolve_depth, set_depth
from ktransfer.models.locate import find_backbone
from ktransfer.recipes.recipe import Recipe
from ktransfer.training.checkpoint import Checkpoint
from ktransfer.training.distribution import fitting, split_data
from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing
from ktransfer.training.random_state import SeededDraws
from ktransfer.utils.oom import in_smaller_batches


def warn(text: str) -> None:
    """Report a problem as a warning; the default of `on_trouble`."""
    warnings.warn(f"ktransfer: {text}", stacklevel=2)


def compile_classifier(
    model: keras.Model,
    recipe: Recipe,
    *,
    one_hot: bool = False,
    task: str | Task = SINGLE_LABEL,
    class_weight: Mapping[int, float] | None = None,
) -> None:
    """Compile a classifier for `recipe`: optimizer, loss on logits, and the metric of the task.

    Args:
        model: From `build_classifier` or `build_text_classifier`.
        recipe: Its optimizer, weight decay, loss and label smoothing.
        one_hot: Labels come as `(B, classes)` shares rather than indices `(B,)`. Defaults to `False`.
        task: What the labels are of. Defaults to `"single_label"`.
        class_weight: How much each output counts, where the task has that in its loss; others leave it to `fit`.
            Defaults to `None`.

    Raises:
        RecipeError: Label smoothing or focal loss with labels as indices, or the task cannot do what the recipe asks.

    Example:

        compile_classifier(model, recipe)
    """
    task = get_task(task)
    task.check_recipe(recipe)
    weights = {"class_weight": class_weight} if task.weights_in_loss else {}
    loss, metric = task.loss(recipe, one_hot=one_hot, **weights), task.metric(one_hot=one_hot)
    rate = recipe.stages[0].learning_rate if recipe.stages else 1e-3
    optimizer = {
        "adamw": lambda: keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay),
        "adam": lambda: keras.optimizers.Adam(rate),
        "sgd": lambda: keras.optimizers.SGD(rate, momentum=0.9, weight_decay=recipe.weight_decay or None),
    }[recipe.optimizer]()
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.variables if len(v.shape) < 2])
    if recipe.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer=optimizer, loss=loss, metrics=[metric])


def fine_tune(
    model: keras.Model,
    train: Any,
    validation: Any,
    recipe: Recipe,
    *,
    backbone: keras.Model | None = None,
    class_weight: Mapping[int, float] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Checkpoint | None = None,
    examples: int | None = None,
    task: str | Task = SINGLE_LABEL,
    on_trouble: Callable[[str], None] = warn,
    verbose: int | str = 1,
) -> keras.callbacks.History:
    """Train `model` through every stage of `recipe`, in one `fit`.

    Each stage unfreezes deeper blocks at lower learning rates (Howard and Ruder 2018, section 3.3); the
    weights that were best on `validation` are put back at the end of each, unless the recipe's `final_weights`
    are `"interpolated"`: then the last ones stay, for `ktransfer.training.candidates.choose_weights`. With
    `recipe.head == "solve"` call `ktransfer.solve_head` before. Where the loss is NaN or infinite it does as
    `ProgressiveUnfreezing` says; with `recipe.adapter` the adapters are attached at the end, and
    `ktransfer.merge_adapters` adds them to the kernels. Where memory runs out the epoch begins again with parts of the
    batches (`ktransfer.training.gradient_accumulation`).

    Args:
        model: A classifier from `build_classifier` or `build_text_classifier`; trained in place.
        train: `tf.data.Dataset` of `(inputs, labels)`: images float32 `(B, H, W, 3)` in 0-255, or the ids of
            texts int32 `(B, L)` by name; and int `(B,)` or shares of the classes `(B, classes)`. Its length
            must be known. Or a function from the epoch that comes first to such a dataset.
        validation: The same, not augmented; or `None`.
        recipe: What to do.
        backbone: The layer of `model` that unfreezes; `None` finds it.
        class_weight: How much an example of each class index counts, as in `keras.Model.fit`; the recipe's
            own is for those who know the labels.
        callbacks: Further ones.
        checkpoint: Keeps the state that an interrupted call resumes from, and resumes; `train` must then be a function.
        examples: How many `train` has, in batches of `recipe.batch_size`; `None` lets out of memory raise.
        task: What the labels are of, whose metric is watched. Defaults to `"single_label"`.
        on_trouble: Callable that receives a sentence when the loss is NaN or infinite, or memory runs out.
        verbose: As in `keras.Model.fit`.

    Returns:
        `keras.callbacks.History` over all stages, with `stage` and `learning_rate` as well as the metrics.

    Raises:
        RecipeError: A stage names a depth that the backbone does not have, there are no stages, or label
            smoothing or focal loss meets labels as indices.
        RunError: One example at a time does not fit into memory.

    Example:

        history = fine_tune(model, train, validation, image_recipe(images=500))
    """
    if not recipe.stages:
        raise RecipeError("Expected a recipe with stages, got none. Pass stages=progressive_stages(epochs).")
    task = get_task(task)
    backbone = find_backbone(model) if backbone is None else backbone
    blocks = find_blocks(backbone)
    set_depth(backbone, blocks, 0)  # a saved model says in part what trained; stages decide
    if recipe.adapter is not None:
        depth = max(resolve_depth(stage.depth, blocks) for stage in recipe.stages)
        attach_adapters(blocks, depth, recipe.adapter, seed=recipe.seed, models=[model])
    data = train if callable(train) else lambda epoch: train
    one_hot = len(data(0).element_spec[1].shape) >= 2
    compile_classifier(model, recipe, one_hot=one_hot, task=task, class_weight=class_weight)
    if task.weights_in_loss:
        class_weight = None
    unfreezing = ProgressiveUnfreezing(
        backbone,
        recipe.stages,
        batch_norm=recipe.batch_norm,
        adapter=recipe.adapter,
        # Label smoothing makes the loss fall with confidence while fewer labels are right.
        monitor=f"val_{task.score}",
        restore_best_weights=recipe.final_weights == "best",
        on_divergence=on_trouble,
        verbose=int(bool(verbose)),
    )
    history, begin, kept = WholeHistory(), 0, []
    if checkpoint:
        checkpoint.restore(model.weights)
        checkpoint.watch(unfreezing)
        begin = len(checkpoint.rows) if checkpoint.epoch < recipe.epochs else recipe.epochs
        kept = [checkpoint]

    def fit(part_size: int) -> keras.callbacks.History:
        broken_off = unfreezing.go_back()
        first = begin if broken_off is None else broken_off
        batches, validating = data(first), validation
        if examples is not None and part_size < recipe.batch_size:
            unfreezing.parts = recipe.batch_size, part_size, examples
            batches, validating = rebatched(batches, part_size, examples), rebatched(validating, part_size)
        best = recipe.final_weights == "best"
        if best and recipe.head == "solve" and validating is not None and unfreezing.baseline is None:
            # A solved head is worth keeping, should fine-tuning not beat it. Measured when resumed as well,
            # although the checkpoint knows: on JAX a `fit` before which nothing ran takes one pass more.
            with fitting():
                found = model.evaluate(split_data(validating), verbose=0, return_dict=True)
            unfreezing.baseline = found[task.score]
        with fitting():
            return model.fit(
                split_data(batches),
                validation_data=split_data(validating),
                initial_epoch=first,
                epochs=recipe.epochs,
                shuffle=False,  # the dataset shuffles itself
                class_weight=class_weight and dict(class_weight),
                callbacks=[unfreezing, SeededDraws(model, recipe.seed), *kept, *callbacks, history],
                verbose=verbose,
            )

    return in_smaller_batches(fit, recipe.batch_size, on_trouble) if examples else fit(recipe.batch_size)


class WholeHistory(keras.callbacks.History):
    """A history that continues after an interrupted `fit`."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        pass
