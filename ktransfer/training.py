"""Train a classifier by a recipe: the head first, then the backbone from the top."""

import os
from collections.abc import Mapping, Sequence

import keras

from ktransfer.callbacks import ProgressiveUnfreezing
from ktransfer.errors import RecipeError
from ktransfer.recipe import Recipe


def compile_classifier(model: keras.Model, recipe: Recipe, *, one_hot: bool = False) -> None:
    """Compile a classifier for `recipe`: optimizer, loss on logits, accuracy.

    Args:
        model: From `build_classifier` or `build_text_classifier`.
        recipe: Its optimizer, weight decay, loss and label smoothing.
        one_hot: Labels come as `(B, classes)` shares rather than indices `(B,)`.

    Raises:
        RecipeError: Label smoothing or focal loss with labels as indices.

    Example:

        compile_classifier(model, recipe)
    """
    rate = recipe.stages[0].learning_rate if recipe.stages else 1e-3
    optimizer = {
        "adamw": lambda: keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay),
        "adam": lambda: keras.optimizers.Adam(rate),
        "sgd": lambda: keras.optimizers.SGD(rate, momentum=0.9, weight_decay=recipe.weight_decay or None),
    }[recipe.optimizer]()
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.variables if len(v.shape) < 2])
    if recipe.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    if one_hot:
        smoothing = recipe.label_smoothing
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
        if recipe.loss == "focal":
            # Keras' own alpha of 0.25 for every class would only make the learning rate smaller.
            loss = keras.losses.CategoricalFocalCrossentropy(
                alpha=1.0, gamma=recipe.focal_gamma, from_logits=True, label_smoothing=smoothing
            )
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    elif recipe.label_smoothing or recipe.loss == "focal":
        raise RecipeError(
            "Label smoothing and focal loss need labels as shares of the classes. "
            "Received: labels as indices. Pass one_hot=True to the dataset, or set label_smoothing=0 and "
            'loss="cross_entropy".'
        )
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile(optimizer=optimizer, loss=loss, metrics=[accuracy])


def fine_tune(
    model: keras.Model,
    train,
    validation,
    recipe: Recipe,
    *,
    backbone: keras.Model | None = None,
    class_weight: Mapping[int, float] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    best_path: str | os.PathLike | None = None,
    verbose: int | str = 1,
) -> keras.callbacks.History:
    """Train `model` through every stage of `recipe`, in one `fit`.

    Each stage unfreezes deeper blocks at lower learning rates (Howard and Ruder 2018, section 3.3); the
    weights that were best on `validation` are put back at the end of each. With `recipe.head == "solve"`
    call `ktransfer.solve_head` before.

    Args:
        model: A classifier from `build_classifier` or `build_text_classifier`; trained in place.
        train: `tf.data.Dataset` of `(inputs, labels)`: images float32 `(B, H, W, 3)` in 0-255, or the ids of
            texts int32 `(B, L)` by name; and int `(B,)` or shares of the classes `(B, classes)`. Its length
            must be known.
        validation: The same, not augmented; or `None`.
        recipe: What to do.
        backbone: The layer of `model` that thaws; `None` finds it.
        class_weight: How much an example of each class index counts, as in `keras.Model.fit`; the recipe's
            own is for those who know the labels.
        callbacks: Further ones.
        best_path: As in `ProgressiveUnfreezing`.
        verbose: As in `keras.Model.fit`.

    Returns:
        `keras.callbacks.History` over all stages, with `stage` and `learning_rate` beside the metrics.

    Raises:
        RecipeError: A stage names a depth that the backbone does not have, there are no stages, or label
            smoothing or focal loss meets labels as indices.

    Example:

        history = fine_tune(model, train, validation, image_recipe(images=500))
    """
    if not recipe.stages:
        raise RecipeError("A recipe with stages was expected. Received: none of them.")
    backbone = find_backbone(model) if backbone is None else backbone
    one_hot = len(train.element_spec[1].shape) == 2
    compile_classifier(model, recipe, one_hot=one_hot)
    baseline = None
    if recipe.head == "solve" and validation is not None:
        # A solved head is worth keeping, should fine-tuning not beat it.
        baseline = model.evaluate(validation, verbose=0, return_dict=True)["accuracy"]
    unfreezing = ProgressiveUnfreezing(
        backbone,
        recipe.stages,
        batch_norm=recipe.batch_norm,
        # Label smoothing makes the loss fall with confidence while fewer labels are right.
        monitor="val_accuracy",
        baseline=baseline,
        best_path=best_path,
        verbose=int(bool(verbose)),
    )
    return model.fit(
        train,
        validation_data=validation,
        epochs=recipe.epochs,
        shuffle=False,  # the dataset shuffles itself
        class_weight=class_weight and dict(class_weight),
        callbacks=[unfreezing, *callbacks],
        verbose=verbose,
    )


def has_gpu() -> bool:
    """Whether Keras' backend sees a GPU.

    Example:

        image_recipe(images=500, gpu=has_gpu())
    """
    return any(name.startswith(("gpu", "cuda")) for name in keras.distribution.list_devices())


def find_backbone(model: keras.Model) -> keras.Model:
    """The one functional model inside `model`.

    Raises:
        RecipeError: There is none, or more than one.

    Example:

        find_backbone(model).name
    """
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model) and layer.weights]
    if len(inner) != 1:
        raise RecipeError(
            "One functional model inside the classifier was expected as its backbone. "
            f"Received: {len(inner)} in {model.name}. Pass backbone=model.get_layer(...)."
        )
    return inner[0]
