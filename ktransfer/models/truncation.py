"""A backbone without its upper blocks: `NAME@0.6` is the lowest 60 % of the blocks of `NAME`."""

import os
import re

import keras

from ktransfer.errors import BackboneError, listed
from ktransfer.models.backbone_names import split_share
from ktransfer.models.blocks import find_blocks

# How far from the share that is asked for a cut may lie, as a share of the blocks; or one block.
_NEAR = 0.05


def truncated(backbone: keras.Model, share: float | None, name: str | os.PathLike[str]) -> keras.Model:
    """The lowest share of a backbone's blocks.

    It ends at the tensor through which everything passes into the first block that is left out.

    Args:
        backbone: Functional, as from `load_backbone`.
        share: In (0, 1]; `None` and 1 give the backbone as it is.
        name: Of the backbone, for messages.

    Returns:
        A functional model that shares the layers of `backbone`.

    Raises:
        BackboneError: The backbone cannot be cut there.

    Example:

        truncated(backbone, 0.6, "resnet_50_imagenet")
    """
    if share is None or share == 1:
        return backbone
    blocks = find_blocks(backbone)
    whole = len(blocks)
    # Where a block is entered, all below it are kept.
    cuts = {whole - 1 - index: block.entry for index, block in enumerate(blocks) if block.entry is not None}
    wanted = share * whole
    kept = min(cuts, key=lambda count: (abs(count - wanted), count), default=0)
    if not cuts or abs(kept - wanted) > max(1.0, _NEAR * whole):
        where = f"cuts at {listed(f'{count / whole:.2g}' for count in sorted(cuts))}" if cuts else "none"
        raise BackboneError(
            f"Expected a backbone that can be cut at {share:g} of its {whole} blocks, got {name} with {where}. "
            "Choose one of these, or the whole backbone."
        )
    lower = keras.Model(backbone.input, cuts[kept], name=re.sub(r"\W", "_", backbone.name))
    if (longest := getattr(backbone, "max_sequence_length", None)) is not None:
        lower.max_sequence_length = longest
    return lower


__all__ = ["split_share", "truncated"]
