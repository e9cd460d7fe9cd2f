"""A recipe in sentences: what was chosen, and why."""

import dataclasses
from typing import Any

from ktransfer.core.modality import modalities
from ktransfer.recipes.recipe import Recipe


def is_default(recipe: Recipe, examples: int) -> bool:
    """Whether it is what `ktransfer train` takes by itself for so many training examples.

    Example:

        is_default(image_recipe(images=500), 500)   # True
    """
    defaults = [
        each.default_recipe(examples=examples, gpu=gpu, seed=recipe.seed)
        for each in modalities()
        for gpu in (False, True)
    ]
    return recipe in defaults


def reasons(recipe: Recipe, head: dict[str, Any]) -> list[tuple[str, str]]:
    """`(what was chosen, why)`, the most important first.

    Args:
        recipe: Of the run.
        head: The manifest's entry on the head.

    Example:

        reasons(run.recipe, run.manifest["head"])[0][0]   # "Head first, solved"
    """
    stages, found = recipe.stages, {}
    if recipe.head == "solve":
        folds = f"; its L2, {head['l2']:.2g}, by {head['folds']} folds" if head.get("folds") else ""
        how = "ridge" if recipe.loss in ("huber", "squared_error") else "logistic"
        found[f"Head first, solved by {how} regression on the frozen backbone{folds}"] = (
            "The large initial gradients of a random head would damage pretrained features (Kumar et al. 2022)."
        )
    if len(stages) > 1:
        found["The backbone unfreezes from the top, stage by stage"] = (
            "Deeper blocks are more general (Howard and Ruder 2018, section 3.3)."
        )
    rates = [stage.lowest_rate for stage in stages if stage.depth and stage.lowest_rate < 1]
    if rates:
        found[f"Lower blocks learn slower, down to {min(rates):g} of the head's learning rate"] = (
            "The lower a block, the less it has to change for a task (Howard and Ruder 2018, section 3.2)."
        )
    if any(stage.warmup for stage in stages):
        found["The learning rate is warmed up before it falls"] = (
            "The first steps of an optimizer are the least stable (Goyal et al. 2017, section 2.2)."
        )
    if stages and recipe.batch_norm == "frozen":
        found["BatchNorm layers stay frozen"] = (
            "Statistics of a small data set are worse than those of pretraining."
        )
    if recipe.adapter is not None and any(stage.depth for stage in stages):
        found[f"Low-rank adapters of rank {recipe.adapter.rank} train, the pretrained weights do not"] = (
            "Far fewer weights learn, and are kept in a small file of their own (Hu et al. 2022)."
        )
    if recipe.class_weight:
        found["Classes weigh the same"] = "Otherwise a rare class counts in proportion to its size."
    if recipe.loss == "focal":
        found[f"Focal loss, gamma {recipe.focal_gamma:g}"] = "Hard examples count more (Lin et al. 2017)."
    if recipe.loss == "huber":
        found["Huber loss on the standardized target"] = (
            "Outliers count linearly, not by their square (Huber 1964)."
        )
    if recipe.label_smoothing:
        found[f"Label smoothing {recipe.label_smoothing:g}"] = (
            "Reduces overconfident answers (Szegedy et al. 2016)."
        )
    if recipe.dropout:
        found[f"Dropout {recipe.dropout:g} before the last layer"] = "Reduces overfitting."
    if not recipe.augmentation.is_on:
        found["No augmentation"] = "So the frozen part of the backbone is run only once, not every epoch."
    else:
        options = dataclasses.asdict(recipe.augmentation).items()
        changed = ", ".join(f"{name} {value}" for name, value in options if value)
        found[f"Augmentation: {changed}"] = "The answer must not depend on such changes."
    if stages and recipe.final_weights == "interpolated":
        found["Weights between the solved head and the last epoch are kept"] = (
            "Interpolated weights have a lower validation loss than either end (Wortsman et al. 2022)."
        )
    elif stages:
        found["The best epoch on validation is kept"] = "Later ones may be worse."
    return list(found.items())
