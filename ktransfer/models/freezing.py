"""Unfreeze the blocks of a backbone from the top; BatchNorm stays frozen."""

import weakref

import keras

from ktransfer.errors import RecipeError, did_you_mean, listed
from ktransfer.models.adapters import adapter_variables
from ktransfer.models.blocks import Block, sublayers
from ktransfer.models.locate import Located

# Layers that were frozen here and not by the user, in this process.
_FROZEN_HERE: "weakref.WeakSet[keras.layers.Layer]" = weakref.WeakSet()


def resolve_depth(depth: int | float | str, blocks: tuple[Block, ...]) -> int:
    """The number of blocks, counted from the top, of a stage's `depth` on this backbone.

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
                f"Expected a block of the backbone as a stage's depth, got {depth!r}. "
                f"{did_you_mean(depth, names)}From the top, it has {listed(names)}."
            )
        return names.index(depth) + 1
    if isinstance(depth, float):
        return max(1, round(depth * len(blocks)))
    if depth > len(blocks):
        raise RecipeError(
            f"Expected a stage's depth of at most {len(blocks)}, the number of the backbone's blocks, got "
            f'{depth}. Use "all" for the whole backbone.'
        )
    return depth


def set_depth(
    backbone: keras.Model, blocks: tuple[Block, ...], depth: int, *, batch_norm: str = "frozen"
) -> None:
    """Let the top `depth` blocks of the backbone train and freeze the rest.

    BatchNorm layers stay frozen, and so in inference mode with their moving statistics as they are, in
    unfrozen blocks as well: statistics of a small data set are worse than those of pretraining (the Keras
    guide to fine-tuning, "Important notes about BatchNormalization layer").

    Args:
        backbone: The backbone that `blocks` came from; changed in place.
        blocks: What `find_blocks` returned.
        depth: How many blocks train, from the top; 0 freezes all.
        batch_norm: `"frozen"`, or `"adapt"` to let BatchNorm in unfrozen blocks train and track.

    Example:

        set_depth(backbone, find_blocks(backbone), 2)
    """
    _set_depth(located_alone(backbone, blocks), depth, batch_norm)


class DepthFreezing:
    """Unfreezes a backbone in a model by depth, and leaves frozen what the user froze.

    Where a backbone trains in part when this is made, the layers and weights that do not train were frozen on
    purpose and stay so; where none of it trains, it is the whole that was frozen, and depth decides. The kernels
    under LoRA adapters stay frozen in any case.

    Args:
        located: The backbone, from `locate`.
        batch_norm: `"frozen"`, or `"adapt"` to let BatchNorm in unfrozen blocks train and track.

    Attributes:
        kept_layers: The layers that the user froze.

    Example:

        freezing = DepthFreezing(locate(model, "backbone"))
        freezing.set_depth(3)
    """

    def __init__(self, located: Located, *, batch_norm: str = "frozen") -> None:
        self._located, self._batch_norm = located, batch_norm
        roots = located.layers if located.root is None else [located.root]
        partly = any(layer.trainable_variables for layer in roots)
        # `enable_lora` freezes every layer, then unfreezes those it adapts: what holds one is frozen only in name.
        frozen = [
            layer
            for layer in located.layers
            if not layer.trainable
            and layer not in _FROZEN_HERE
            and not any(weight.trainable for weight in layer.weights)
        ]
        self.kept_layers = [layer for layer in frozen if partly and layer.weights]
        seen = {id(weight) for layer in frozen for weight in layer.weights}
        self._kept_variables = []
        for layer in located.layers:
            if not partly or layer in _FROZEN_HERE:
                continue
            below = {id(weight) for child in sublayers(layer, recursive=False) for weight in child.weights}
            for weight in layer.weights:
                if not weight.trainable and id(weight) not in below | seen:
                    seen.add(id(weight))
                    self._kept_variables.append(weight)

    def set_depth(self, depth: int) -> None:
        """Let the top `depth` blocks train, but for what the user froze."""
        located = self._located
        if depth:
            for wrapper in located.wrappers:
                _unfreeze_alone(wrapper)
        _set_depth(located, depth, self._batch_norm)
        if depth == 0:
            return
        for layer in self.kept_layers:
            layer.trainable = False
            _FROZEN_HERE.discard(layer)
        for variable in self._kept_variables:
            variable.trainable = False
        for layer in located.layers:
            if getattr(layer, "lora_enabled", False):
                names = {variable.name for variable in layer.variables}
                for variable in layer.variables:
                    if f"lora_{variable.name}_a" in names:
                        variable.trainable = False


class AdapterFreezing(DepthFreezing):
    """Unfreezes a backbone by depth, of which only the adapters train.

    Args:
        located: The backbone, with adapters attached.
        batch_norm: As in `DepthFreezing`.

    Example:

        freezing = AdapterFreezing(locate(model, "backbone"))
        freezing.set_depth(3)
    """

    def set_depth(self, depth: int) -> None:
        """Let the adapters in the top `depth` blocks train, and nothing else of the backbone."""
        super().set_depth(depth)
        trained = {id(variable) for variable in adapter_variables(self._located.blocks[:depth])}
        for variable in self._located.weights:
            if variable.trainable and id(variable) not in trained:
                variable.trainable = False


def located_alone(backbone: keras.Model, blocks: tuple[Block, ...]) -> Located:
    """A backbone as `locate` gives it, without a model around it."""
    return Located(backbone.name, backbone, tuple(sublayers(backbone)), blocks)


def _set_depth(located: Located, depth: int, batch_norm: str) -> None:
    frozen = [layer for layer in (located.root, *located.layers) if layer is not None]
    # Parents first: setting one cascades to every layer below, and a frozen parent hides unfrozen children. Every one,
    # since Keras passes over a value that a layer has already: a loaded backbone is frozen, the layers in it are not.
    for layer in frozen:
        layer.trainable = depth > 0
    if depth == 0:
        _FROZEN_HERE.update(frozen)
        return
    _FROZEN_HERE.difference_update(frozen)
    for index, block in enumerate(located.blocks):
        for layer in block.layers:
            layer.trainable = index < depth
            if index >= depth:
                _FROZEN_HERE.update([layer, *sublayers(layer)])
        for variable in block.own_variables:
            variable.trainable = index < depth
    if batch_norm == "frozen":
        for layer in located.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
                _FROZEN_HERE.add(layer)


def _unfreeze_alone(wrapper: keras.layers.Layer) -> None:
    """Make a layer around the backbone trainable, and nothing else in it."""
    if wrapper.trainable:
        return
    layers = [(layer, layer.trainable) for layer in sublayers(wrapper)]
    variables = [(variable, variable.trainable) for variable in wrapper.variables]
    wrapper.trainable = True
    for layer, trainable in layers:
        layer.trainable = trainable
    for variable, trainable in variables:
        variable.trainable = trainable
