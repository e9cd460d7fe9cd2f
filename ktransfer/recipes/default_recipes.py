"""The recipes that `ktransfer train` takes where none is given: pure functions of facts."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ktransfer.errors import RecipeError, did_you_mean
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.text.augmentation import TextAugmentation

FAST, BALANCED, BEST = PRESETS = ("fast", "balanced", "best")
# The sum of the learning rates over the steps, which bounds how far Adam moves a weight: the middle of what
# published fine-tuning comes to, 0.03 to 0.12.
_DISPLACEMENT = {FAST: 0.0, BALANCED: 0.05, BEST: 0.1}
_EPOCHS = {"images": {BALANCED: (4, 8), BEST: (8, 16)}, "texts": {BALANCED: (3, 6), BEST: (5, 10)}}
_IMAGE_RATE, _TEXT_RATE = 5e-4, 2e-4


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


def worth_fine_tuning(evidence: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether fine-tuning all blocks for long is worth its time, from what the frozen features know of the task.

    It is not where the solved head leaves little to gain, or where the outputs of the lower blocks tell no more of the
    task than those of the topmost: then the task is like that of pretraining.

    Args:
        evidence: Fields of an `Evidence`.

    Returns:
        The answer, and why, in one line.

    Example:

        worth_fine_tuning({"log_loss": 0.4, "taps_gain": 0.1, "taps_error": 0.02})   # (True, "...")
    """
    loss, gain, error = (evidence.get(name) for name in ("log_loss", "taps_gain", "taps_error"))
    if loss is None:
        return True, "too few examples for cross-validation, so all blocks train"
    held_out = f"log loss {loss:.3f} of the solved head on examples left out"
    if loss < _SOLVED:
        return False, f"{held_out}: little to gain, so fine-tuning is short"
    if gain is None:
        return True, f"{held_out}: all blocks train"
    lower = f"falls by {gain:.3f} (standard error {error:.3f}) with the outputs of lower blocks"
    if gain > error:
        return True, f"{held_out} {lower}: all blocks train"
    return False, f"{held_out} {lower}: they know no more of the task, so fine-tuning is short"


def preset_recipe(
    kind: str,
    *,
    examples: int,
    preset: str = BALANCED,
    long: bool = True,
    gpu: bool = False,
    epochs: int | None = None,
    seed: int = 0,
) -> Recipe:
    """The recipe of a preset, for so many examples.

    `"fast"` is `image_recipe` or `text_recipe`. The others train one stage from the solved head: all blocks, or with
    `"balanced"` the upper half for texts. It is as long as the sum of its learning rates over the steps needs to come
    to 0.05 (balanced) or 0.1 (best), within 4 to 8 and 8 to 16 epochs for images, 3 to 6 and 5 to 10 for texts, at a
    peak of 5e-4 and 2e-4, the lowest block at 0.3 of it, with half an epoch of warmup and a cosine (images) or linear
    (texts) decay to zero. Weights between the solved head and the last epoch are kept by their log loss on validation.

    Args:
        kind: `"images"` or `"texts"`.
        examples: Training examples.
        preset: One of `PRESETS`.
        long: Whether `worth_fine_tuning` said so; without, the stages are those of `"fast"`.
        gpu: There is a GPU: larger batches, mixed precision.
        epochs: Instead of the preset's; 0 keeps the solved head.
        seed: See `Recipe`.

    Returns:
        A `Recipe`.

    Raises:
        RecipeError: There is no such preset, or `epochs` is negative.

    Example:

        preset_recipe("images", examples=500, preset="balanced")
    """
    check_preset(preset)
    facts = {"gpu": gpu, "epochs": epochs, "seed": seed}
    of_images = kind == "images"
    if preset == FAST or not long:
        fast = image_recipe(images=examples, **facts) if of_images else text_recipe(texts=examples, **facts)
        if preset == FAST or not fast.stages:
            return fast
        plain = {"augmentation": Augmentation.none()} if of_images else {}
        plain |= {"label_smoothing": 0.0, "dropout": 0.0, "final_weights": "interpolated"}
        return dataclasses.replace(fast, **plain)
    rate, batch_size = _IMAGE_RATE if of_images else _TEXT_RATE, 64 if gpu else 32
    if epochs is None:
        least, most = _EPOCHS[kind][preset]
        # A decay to zero halves the sum.
        needed = _DISPLACEMENT[preset] / (rate / 2 * math.ceil(examples / batch_size))
        epochs = min(most, max(least, round(needed)))
    stage = {
        # Of texts the upper half gains as much, on cached features in less time.
        "depth": 0.5 if not of_images and preset == BALANCED else "all",
        "learning_rate": rate,
        "lowest_rate": 0.3,
        "schedule": "cosine" if of_images else "linear",
    }
    return Recipe(
        stages=(Stage(epochs=epochs, warmup=min(0.5, epochs), **stage),) if epochs else (),
        batch_size=batch_size,
        weight_decay=1e-4 if of_images else 0.01,
        augmentation=Augmentation.none() if of_images else TextAugmentation(),
        precision="mixed_float16" if gpu else "float32",
        final_weights="interpolated" if epochs else "best",
        seed=seed,
    )


# A log loss out of fold below which fine-tuning has little left to gain.
_SOLVED = 0.05


def image_recipe(
    *,
    images: int,
    gpu: bool = False,
    epochs: int | None = None,
    seed: int = 0,
) -> Recipe:
    """The default recipe for images, a pure function of facts about the data and the device.

    The head is solved on the frozen backbone, so fine-tuning starts where it can only refine: at a rate well
    below a new head's (LP-FT, Kumar et al. 2022, section 4.2), with warmup and cosine; weights that do not
    beat the solved head on validation are not kept. The schedule grows with the data (BiT-HyperRule,
    Kolesnikov et al. 2020, section 3.3): with few images a sixth of the blocks for two epochs, else the upper
    third and then all (Howard and Ruder 2018, section 3.3). With few images there is no label smoothing and
    no dropout, which work against a head that has converged, and no augmentation, without which the frozen
    part is run only once.

    Measured with few images, without augmentation, seed 0, accuracy of the solved head and of the last epoch.
    630 flowers at 160 px, 130 of them for validation, means of three splits: MobileNetV2 0.895, then 0.882 by
    two epochs of a sixth of the blocks at 1e-4, and 0.880 to 0.900 by other depths (0.3), rates (3e-5) and
    epochs (4); at 3e-4 0.831 to 0.877. ResNet-50 V2 without its last stage 0.844, then 0.838, and 0.826 to
    0.843. The demo's drawings, 240 for validation: 0.946, then 0.950 at 3e-5, 0.963 in four epochs at 1e-4.
    So fine-tuning is short, and worth more the less the images are like those of pretraining.
    `python benchmarks/time_to_accuracy.py` measures the whole.

    Args:
        images: Training images.
        gpu: There is a GPU: larger batches, mixed precision.
        epochs: Total epochs of fine-tuning, instead of the default for this number of images; 0 keeps the
            solved head.
        seed: See `Recipe`.

    Returns:
        A `Recipe`.
    """
    few = images < 2_000
    epochs = (2 if few else 8) if epochs is None else epochs
    lengths = {0.15: epochs} if few else {0.3: (epochs + 1) // 2, "all": epochs // 2}
    return Recipe(
        stages=tuple(
            Stage(
                depth=depth,
                epochs=length,
                learning_rate=1e-4 if few else 3e-5,
                warmup=min(1.0, length / 4),
                schedule="cosine",
                patience=max(5, length // 3),
            )
            for depth, length in lengths.items()
            if length
        ),
        batch_size=64 if gpu else 32,
        label_smoothing=0.0 if few else 0.1,
        dropout=0.0 if few else 0.2,
        augmentation=Augmentation.none() if few else Augmentation(),
        precision="mixed_float16" if gpu else "float32",
        seed=seed,
    )


def text_recipe(
    *,
    texts: int,
    gpu: bool = False,
    epochs: int | None = None,
    seed: int = 0,
) -> Recipe:
    """The default recipe for texts, a pure function of facts about the data and the device.

    Unlike with images, a frozen backbone is no place to stay: training only the head for long is the poorest
    way to tune a language model (Howard and Ruder 2018, table 7), since what a text means for the task is not
    yet in its features. So the head is solved, which takes no epoch, and the upper half of the blocks trains
    from the first step on, at rates that fall with depth, with a short warmup and then linearly to zero
    (Howard and Ruder 2018, section 3.2; Devlin et al. 2019, appendix A.3). Weights that do not beat the
    solved head on validation are not kept.

    Measured with MiniLM, 6 layers of 384 features, batches of 32, accuracy of the solved head and of the one
    epoch after it. sms_spam, 4,470 texts and 1,104 for validation, splits by seeds 0, 1 and 2: 0.991, 0.989
    and 0.982, then 0.987, 0.994 and 0.987; F1 of spam, of what is kept, 0.964, 0.976 and 0.950. Snips, 13,784
    and 700: 0.979, then 0.989. What else was tried lies within a few texts of these: on snips 5e-5 gave 0.986
    and 2e-4 0.993, with three layers on seed 0 of sms_spam 0.991 and 0.987; all six layers gave snips 0.990
    in a quarter more time, the embeddings as well seed 0 of sms_spam 0.988 in a fifth more. With 500 texts
    more epochs pay: sms_spam 0.969, 0.976 by one and 0.988 by three; Snips 0.960, 0.966 and 0.974.
    `python benchmarks/text_accuracy.py` measures the whole.

    Args:
        texts: Training texts.
        gpu: There is a GPU: larger batches, mixed precision.
        epochs: Total epochs of fine-tuning, instead of the default for this number of texts; 0 keeps the
            solved head.
        seed: See `Recipe`.

    Returns:
        A `Recipe`.

    Example:

        text_recipe(texts=4_000)
    """
    epochs = (3 if texts < 2_000 else 1) if epochs is None else epochs
    half = {"depth": 0.5, "learning_rate": 1e-4, "lowest_rate": 0.3, "schedule": "linear"}
    return Recipe(
        stages=(Stage(epochs=epochs, warmup=epochs / 10, **half),) if epochs else (),
        batch_size=64 if gpu else 32,
        weight_decay=0.01,
        augmentation=TextAugmentation(),
        precision="mixed_float16" if gpu else "float32",
        seed=seed,
    )
