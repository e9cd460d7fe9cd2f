"""Choose the stages of a recipe that train on cached features, by benefit and disk space."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ktransfer.features.split_model import Cut, find_cut, last_output, lower_part
from ktransfer.models.blocks import Block
from ktransfer.models.flops import multiply_adds
from ktransfer.models.freezing import resolve_depth
from ktransfer.recipes.recipe import Recipe

# Below this the space and the reading cost more than they save.
_WORTH = 1.2


@dataclass(frozen=True)
class PlannedStage:
    """The cut of a stage, or the reason for none.

    Attributes:
        cut: `None` where the stage runs on the images or texts themselves.
        expected: How many times fewer multiplications an epoch has than on them.
        reason: In a few words why there is no cut.
    """

    cut: Cut | None
    expected: float = 1.0
    reason: str = ""


def can_cache(recipe: Recipe) -> bool:
    """Whether the frozen part sees the same at every epoch, or takes turns with a few versions."""
    return recipe.batch_norm == "frozen" and (not recipe.augmentation.is_on or recipe.cached_views > 0)


def kept_dtype(tensor: keras.KerasTensor, recipe: Recipe) -> str:
    """The dtype of cached features; those computed in half precision lose nothing when stored in it."""
    return "float16" if tensor.dtype == "float16" else recipe.cache_dtype


def kept_shape(tensor: keras.KerasTensor, sequence_length: int | None) -> tuple[int, ...]:
    """The shape of one example's features; those of a text have the length that all texts are cut to."""
    sides: tuple[Any, ...] = tuple(tensor.shape[1:])
    return sides if sequence_length is None else tuple(sequence_length if s is None else s for s in sides)


def plan_stages(
    model: keras.Model,
    backbone: keras.Model,
    blocks: tuple[Block, ...],
    recipe: Recipe,
    counts: Mapping[str, int],
    room: int,
    sequence_length: int | None = None,
) -> list[PlannedStage]:
    """Choose for each stage of a recipe between cached features and the examples themselves.

    Args:
        model: From `build_classifier`.
        backbone: The layer of it.
        blocks: `find_blocks(backbone)`.
        recipe: One that `can_cache`; with another nothing is cut.
        counts: Examples in `"train"`, all views of them, and in `"validation"`.
        room: Bytes that may be kept.
        sequence_length: Tokens that texts are kept at; `None` for images.

    Returns:
        One for each stage.

    Example:

        plan_stages(model, backbone, blocks, recipe, {"train": 500, "validation": 130}, 20 * 2**30)
    """
    if not can_cache(recipe):
        return [PlannedStage(None, reason="the examples vary at every epoch") for _ in recipe.stages]
    cuts = [find_cut(blocks, resolve_depth(stage.depth, blocks)) for stage in recipe.stages]
    distinct = {cut.name: cut for cut in cuts if cut}
    tensors = {}
    if distinct:
        outputs = lower_part(model, backbone, list(distinct.values())).outputs
        tensors = dict(zip(distinct, outputs, strict=True))

    def cost(output: keras.KerasTensor) -> int:
        inputs, given = keras.tree.flatten(backbone.input), keras.tree.flatten(model.input)
        # The same pixels go into every input of a backbone for images.
        return multiply_adds(
            keras.Model(backbone.input, output), given if len(given) == len(inputs) else given * len(inputs)
        )

    whole = cost(last_output(backbone))
    planned, taken = [], set()
    for cut in cuts:
        if cut is None:
            planned.append(PlannedStage(None, reason="nothing lies below what it trains"))
            continue
        tensor = tensors[cut.name]
        elements = sum(counts.values()) * math.prod(kept_shape(tensor, sequence_length))
        size = elements * np.dtype(kept_dtype(tensor, recipe)).itemsize
        above = tensor.shape[-1] * model.output.shape[-1] if cut.entry is None else whole - cost(cut.entry)
        expected = _faster(whole, max(1, above), counts)
        if expected < _WORTH:
            planned.append(PlannedStage(None, reason=f"it would be {expected:.2f} times faster only"))
        elif cut.name not in taken and size > room:
            planned.append(
                PlannedStage(None, reason=f"its features take {size >> 20:,} MiB of {room >> 20:,} MiB free")
            )
        else:
            room -= size * (cut.name not in taken)
            taken.add(cut.name)
            planned.append(PlannedStage(cut, expected))
    return planned


def _faster(whole: int, above: int, counts: Mapping[str, int]) -> float:
    """A training step costs the forward pass of what trains three times, of what is frozen once."""
    train, validation = counts["train"], counts["validation"]
    uncached = train * (whole + 2 * above) + validation * whole
    return uncached / (above * (3 * train + validation))
