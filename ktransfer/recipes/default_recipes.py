"""The presets of `ktransfer train`: recipes as pure functions of facts, for every modality."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ktransfer.core.modality import modality_of_noun
from ktransfer.core.task import SINGLE_LABEL
from ktransfer.errors import RecipeError, did_you_mean
from ktransfer.recipes.adapter import LoRA
from ktransfer.recipes.recipe import Recipe, Stage

FAST, BALANCED, BEST = PRESETS = ("fast", "balanced", "best")
# The sum of the learning rates over the steps, which bounds how far Adam moves a weight: the middle of what
# published fine-tuning comes to, 0.03 to 0.12.
_DISPLACEMENT = {FAST: 0.0, BALANCED: 0.05, BEST: 0.1}


@dataclasses.dataclass(frozen=True)
class WeakHead:
    """Fine-tuning settings for a solved head that is weak, as in `FineTuning`."""

    learning_rate: float
    depth: float | str
    epochs: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """Fine-tuning settings of a modality, from a solved head on.

    Attributes:
        learning_rate: Peak of the head's.
        schedule, lowest_rate: As in `Stage`.
        weight_decay: As in `Recipe`.
        depth: As in `Stage`, by preset.
        epochs: The least and the most, by preset.
        label_smoothing: As in `Recipe`, by the name of the task; none of a task that is not there.
        few: Of fewer examples than this all blocks train, whatever the preset's depth: it costs little time.
        weak: The settings of `"balanced"` for `few` examples or more where the solved head is weak. Defaults to `None`,
            the same.
    """

    learning_rate: float
    schedule: str
    weight_decay: float
    depth: Mapping[str, float | str]
    epochs: Mapping[str, tuple[int, int]]
    lowest_rate: float = 0.3
    few: int = 0
    label_smoothing: Mapping[str, float] = dataclasses.field(default_factory=dict)
    weak: WeakHead | None = None


def check_preset(preset: str) -> None:
    """Refuse a preset that there is not.

    Raises:
        RecipeError: It is none of `PRESETS`.

    Example:

        check_preset("balanced")
    """
    if preset not in PRESETS:
        hint = did_you_mean(str(preset), PRESETS)
        raise RecipeError(f"Expected a preset of {', '.join(PRESETS)}, got {preset!r}. {hint}".rstrip())


def worth_fine_tuning(evidence: Mapping[str, Any], loss_title: str = "log loss") -> tuple[bool, str]:
    """Whether longer fine-tuning of more blocks is worth its time, from evidence of the frozen features.

    It is not where the solved head leaves little to gain, or where the outputs of the lower blocks tell no more of the
    task than those of the topmost: then the task is like that of pretraining.

    Args:
        evidence: Fields of an `Evidence`.
        loss_title: What its `log_loss` is of another task. Defaults to `"log loss"`.

    Returns:
        The answer, and why, in one line.

    Example:

        worth_fine_tuning({"log_loss": 0.4, "taps_gain": 0.1, "taps_error": 0.02})   # (True, "...")
    """
    loss, gain, error = (evidence.get(name) for name in ("log_loss", "taps_gain", "taps_error"))
    if loss is None:
        return True, "too few examples for cross-validation, so fine-tuning is long"
    held_out = f"{loss_title} {loss:.3f} of the solved head on examples left out"
    if loss < _SOLVED:
        return False, f"{held_out}: little to gain, so fine-tuning is short"
    if gain is None:
        return True, f"{held_out}: fine-tuning is long"
    moves = f"{'falls' if gain >= 0 else 'rises'} by {abs(gain):.3f} (standard error {error:.3f})"
    lower = f"{moves} with the outputs of lower blocks"
    if gain > error:
        return True, f"{held_out} {lower}: fine-tuning is long"
    return False, f"{held_out} {lower}: they know no more of the task, so fine-tuning is short"


def head_is_weak(evidence: Mapping[str, Any]) -> bool:
    """Whether the solved head tells less than half of what there is to know.

    By its log loss on examples left out, in units of that of the best answer that is the same for every example; of a
    regression that is an R2 below one half.

    Args:
        evidence: Fields of an `Evidence`.

    Example:

        head_is_weak({"log_loss": 0.4, "constant_log_loss": 0.5})   # True
    """
    loss, constant = evidence.get("log_loss"), evidence.get("constant_log_loss")
    return loss is not None and constant is not None and loss > constant / 2


def with_adapter(recipe: Recipe, adapter: LoRA | None) -> Recipe:
    """A recipe for all weights of the unfrozen blocks, changed to train adapters in them.

    Args:
        recipe: Of a preset.
        adapter: `None` leaves the recipe as it is.

    Returns:
        The recipe with the adapter; its stages have four times the learning rate, since an adapter starts from zero and
        has far fewer weights; other factors were not compared.

    Example:

        with_adapter(preset_recipe("texts", examples=500), LoRA(rank=8))
    """
    if adapter is None:
        return recipe
    stages = [
        dataclasses.replace(stage, learning_rate=(stage.learning_rate or 0) * ADAPTER_RATE)
        for stage in recipe.stages
    ]
    return dataclasses.replace(recipe, stages=tuple(stages), adapter=adapter)


# The learning rate of adapters in units of that of all weights.
ADAPTER_RATE = 4.0


def preset_recipe(
    kind: str,
    *,
    examples: int,
    preset: str = BALANCED,
    long: bool = True,
    gpu: bool = False,
    epochs: int | None = None,
    seed: int = 0,
    task: str = SINGLE_LABEL,
    weak: bool = False,
) -> Recipe:
    """The recipe of a preset, for so many examples.

    `"fast"` is `image_recipe` or `text_recipe`. The others train one stage from the solved head: all blocks, or with
    `"balanced"` the upper half where there are 2,000 texts or more, the upper three quarters where the head is weak. It
    is as long as the sum of its learning rates over the steps needs to come to 0.05 (balanced) or 0.1 (best), within 4
    to 8 and 8 to 16 epochs for images, 4 to 8 (3 to 6 of a weak head) and 6 to 12 for texts, at a peak of 5e-4 and
    1e-4 (2e-4 of a weak head), the lowest block of images at 0.3 of it, with half an epoch of warmup and a cosine
    (images) or linear (texts) decay to zero; where an example has one label it is smoothed by 0.1.
    Weights between the solved head and the last epoch are kept by their log loss on validation.

    Args:
        kind: `"images"` or `"texts"`.
        examples: Training examples.
        preset: One of `PRESETS`.
        long: Whether `worth_fine_tuning` is true; without, the stages are those of `"fast"`.
        gpu: There is a GPU: larger batches, mixed precision.
        epochs: Instead of the preset's; 0 keeps the solved head.
        seed: See `Recipe`.
        task: The name of the task. Defaults to `"single_label"`.
        weak: Whether `head_is_weak`. Defaults to `False`.

    Returns:
        A `Recipe`.

    Raises:
        RecipeError: There is no such preset, or `epochs` is negative.

    Example:

        preset_recipe("images", examples=500, preset="balanced")
    """
    check_preset(preset)
    facts = {"gpu": gpu, "epochs": epochs, "seed": seed}
    modality = modality_of_noun(kind)
    smoothing = modality.fine_tuning.label_smoothing.get(task, 0.0)
    if preset == FAST or not long:
        fast = modality.default_recipe(examples=examples, **facts)
        if preset == FAST or not fast.stages:
            return fast
        return dataclasses.replace(
            fast,
            augmentation=modality.augmentation.none(),
            label_smoothing=smoothing,
            dropout=0.0,
            final_weights="interpolated",
        )
    tuning, batch_size = modality.fine_tuning, 64 if gpu else 32
    depth: float | str = "all" if examples < tuning.few else tuning.depth[preset]
    rate, (least, most) = tuning.learning_rate, tuning.epochs[preset]
    if weak and tuning.weak and preset == BALANCED and examples >= tuning.few:
        depth, rate, (least, most) = tuning.weak.depth, tuning.weak.learning_rate, tuning.weak.epochs
    if epochs is None:
        # A decay to zero halves the sum.
        needed = _DISPLACEMENT[preset] / (rate / 2 * math.ceil(examples / batch_size))
        epochs = min(most, max(least, round(needed)))
    stages: tuple[Stage, ...] = ()
    if epochs:
        stage = Stage(
            depth=depth,
            epochs=epochs,
            learning_rate=rate,
            lowest_rate=tuning.lowest_rate,
            warmup=min(0.5, epochs),
            schedule=tuning.schedule,
        )
        stages = (stage,)
    return Recipe(
        stages=stages,
        batch_size=batch_size,
        weight_decay=tuning.weight_decay,
        label_smoothing=smoothing,
        augmentation=modality.augmentation.none(),
        precision="mixed_float16" if gpu else "float32",
        final_weights="interpolated" if epochs else "best",
        seed=seed,
    )


def what_trains(recipe: Recipe) -> str:
    """The blocks and epochs of a recipe in words.

    Args:
        recipe: Any.

    Returns:
        Such as `"all blocks for 5 epochs"`.

    Example:

        what_trains(preset_recipe("texts", examples=500))   # "all blocks for 8 epochs"
    """
    words = []
    for stage in recipe.stages:
        blocks = f"blocks by depth {stage.depth!r}"
        if stage.depth == "all":
            blocks = "all blocks"
        elif isinstance(stage.depth, float):
            blocks = f"the upper {stage.depth:.0%} of the blocks"
        words.append(f"{blocks} for {stage.epochs} epoch{'s' * (stage.epochs != 1)}")
    return ", then ".join(words) or "the head alone"


# A log loss out of fold below which fine-tuning has little left to gain.
_SOLVED = 0.05
