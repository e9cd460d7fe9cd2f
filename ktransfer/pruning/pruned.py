"""A network without some of its channels, and the same one with them masked."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransfer.errors import BackboneError
from ktransfer.models.rebuild import rebuilt
from ktransfer.pruning.dependencies import Dependencies, Slices
from ktransfer.security.keras_archive import load_keras_file

# Runtimes compute channels in vectors of so many.
_MULTIPLE = 8


def choose(
    dependencies: Dependencies,
    importance: Mapping[int, float],
    keep: float,
    *,
    multiple: int = _MULTIPLE,
    whole: Mapping[str, int] | None = None,
) -> set[int]:
    """The channels to remove: of each group the units that count least, so that a share is kept.

    Args:
        dependencies: Of the network.
        importance: By the root of each channel.
        keep: Share to keep, in (0, 1].
        multiple: Groups of eight times as many channels keep a multiple of it. Defaults to 8.
        whole: The units of each group that the share is of, where some were removed before. Defaults to `None`, those
            that are there.

    Returns:
        Their numbers.

    Example:

        choose(dependencies, importance, 0.5)
    """
    removed: set[int] = set()
    for name, units in dependencies.groups.items():
        size = len(units) if whole is None else whole[name]
        count = max(1, round(keep * size))
        if size >= 8 * multiple:
            count = max(multiple, round(count / multiple) * multiple)
        worth = [importance.get(dependencies.root(unit[0]), 0.0) for unit in units]
        order = np.argsort(-np.array(worth), kind="stable")
        for index in order[count:]:
            removed |= set(units[index])
    return removed


def pruned(model: keras.Model, dependencies: Dependencies, removed: set[int]) -> keras.Model:
    """A plain functional model without the removed channels, with the weights of those that stay.

    Args:
        model: Whose `dependencies` they are.
        dependencies: Of it.
        removed: Numbers of channels.

    Returns:
        A model with layers of its own.

    Raises:
        BackboneError: It has layers that cannot be made from their configuration, and so not saved in such a model.

    Example:

        pruned(model, dependencies, choose(dependencies, importance, 0.5))
    """
    gone = {dependencies.root(number) for number in removed}

    def kept(channels: np.ndarray) -> np.ndarray:
        stays = [dependencies.root(number) not in gone for number in channels.tolist()]
        return np.flatnonzero(stays)

    pairs: list[tuple[Any, Any]] = []

    def layer_of(layer: Any) -> Any:
        slices = dependencies.slices.get(id(layer), Slices())
        try:
            config = layer.get_config()
        except Exception as error:
            raise _not_made(layer, model, error) from error
        for name, channels in slices.sizes.items():
            count = len(kept(channels))
            if name in ("target_shape", "newshape"):
                config[name] = [*list(config[name])[:-1], count]
            else:
                config[name] = count
        try:
            new = layer.__class__.from_config(config)
        except Exception as error:
            raise _not_made(layer, model, error) from error
        pairs.append((layer, new))
        return new

    found = rebuilt(model, layer_of=layer_of, copied=False)
    for layer, new in pairs:
        if not isinstance(new, keras.layers.Layer) or not new.weights:
            continue
        slices = dependencies.slices.get(id(layer), Slices())
        new.set_weights(_sliced(layer.get_weights(), slices, kept))
        new.trainable = layer.trainable
    return found


def require_loadable(model: keras.Model) -> None:
    """Raise `BackboneError` for a model that Keras saves but does not load, as with layers that build others late.

    Args:
        model: As `pruned` made it, or a classifier on it.

    Example:

        require_loadable(pruned(model, dependencies, removed))
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        try:
            load_keras_file(path)
        except ValueError as error:
            raise BackboneError(
                f"Expected a backbone that loads without its original layers, got {model.name}, which does not "
                f"({' '.join(str(error).split()):.150}). Distill to a smaller backbone instead."
            ) from error


def mask(dependencies: Dependencies, removed: set[int]) -> None:
    """Set to zero in place every weight that makes or reads a removed channel: the network answers as without them.

    Args:
        dependencies: Of the network.
        removed: Numbers of channels.

    Example:

        mask(dependencies, choose(dependencies, importance, 0.5))
    """
    gone = {dependencies.root(number) for number in removed}
    for key, slices in dependencies.slices.items():
        layer = dependencies.layers[key]
        if not getattr(layer, "weights", None) or isinstance(layer, keras.layers.BatchNormalization):
            continue
        values = layer.get_weights()
        for place, axis, channels in slices.axes:
            out = [dependencies.root(number) in gone for number in channels.tolist()]
            index: list[Any] = [slice(None)] * values[place].ndim
            index[axis] = np.flatnonzero(out)
            values[place][tuple(index)] = 0.0
        layer.set_weights(values)


def _not_made(layer: Any, model: keras.Model, error: Exception) -> BackboneError:
    return BackboneError(
        f"Expected layers that Keras can make from their configuration, got {type(layer).__name__} in {model.name}, "
        f"which cannot ({' '.join(str(error).split()):.100}). Distill to a smaller backbone instead."
    )


def _sliced(values: Sequence[np.ndarray], slices: Slices, kept: Any) -> list[np.ndarray]:
    found = list(values)
    for place, axis, channels in slices.axes:
        found[place] = np.take(found[place], kept(channels), axis=axis)
    return found
