"""Which part of a backbone trains: its blocks thawed from the top, BatchNorm kept."""

import keras

from ktransfer.blocks import Block, sublayers
from ktransfer.errors import RecipeError, did_you_mean, listed


def resolve_depth(depth: int | float | str, blocks: tuple[Block, ...]) -> int:
    """How many blocks, counted from the top, a stage's `depth` means on this backbone.

    Args:
        depth: A number of blocks, a share of them in (0, 1], `"all"`, or the name of the lowest one.
        blocks: What `find_blocks` returned.

    Returns:
        A number of blocks from 0 (all frozen) to `len(blocks)`.

    Raises:
        RecipeError: The backbone has no such depth.

    Example:

        resolve_depth(0.5, blocks)
    """
    if depth == "all":
        return len(blocks)
    if isinstance(depth, str):
        names = [block.name for block in blocks]
        if depth not in names:
            raise RecipeError(
                f"A stage's depth must be a block of the backbone. Received: {depth!r}. "
                f"{did_you_mean(depth, names)}From the top, it has {listed(names)}."
            )
        return names.index(depth) + 1
    if isinstance(depth, float):
        return max(1, round(depth * len(blocks)))
    if depth > len(blocks):
        raise RecipeError(
            f"A stage's depth must be at most {len(blocks)}, the number of the backbone's blocks. "
            f'Received: {depth}. Use "all" for the whole backbone.'
        )
    return depth


def set_depth(
    backbone: keras.Model, blocks: tuple[Block, ...], depth: int, *, batch_norm: str = "frozen"
) -> None:
    """Let the top `depth` blocks of the backbone train and freeze the rest.

    BatchNorm layers stay frozen, and so in inference mode with their moving statistics as they are, in
    thawed blocks as well: statistics of a small data set are worse than those of pretraining (the Keras
    guide to fine-tuning, "Important notes about BatchNormalization layer").

    Args:
        backbone: The backbone that `blocks` came from; changed in place.
        blocks: What `find_blocks` returned.
        depth: How many blocks train, from the top; 0 freezes all.
        batch_norm: `"frozen"`, or `"adapt"` to let BatchNorm in thawed blocks train and track.

    Example:

        set_depth(backbone, find_blocks(backbone), 2)
    """
    # The parent first: setting it cascades to every layer below, and a frozen parent hides thawed children.
    backbone.trainable = depth > 0
    if depth == 0:
        return
    for index, block in enumerate(blocks):
        for layer in block.layers:
            layer.trainable = index < depth
        for variable in block.own_variables:
            variable.trainable = index < depth
    if batch_norm == "frozen":
        for layer in sublayers(backbone):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
