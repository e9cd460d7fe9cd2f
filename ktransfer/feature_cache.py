"""A classifier cut in two where nothing trains below: the parts, and batches of what is kept between."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ktransfer.errors import RecipeError
from ktransfer.feature_store import Rows
from ktransfer.freezing import Block, sublayers


@dataclass(frozen=True, eq=False)
class Cut:
    """A tensor below which nothing trains.

    Attributes:
        name: Of the lowest block above it; `"head"` for the pooled features, above all blocks.
        above: How many blocks lie above it.
        entry: The tensor in the backbone's graph; `None` for the pooled features.
    """

    name: str
    above: int
    entry: Any = None


HEAD = Cut("head", 0)


def find_cut(blocks: tuple[Block, ...], depth: int) -> Cut | None:
    """The nearest place below the top `depth` blocks of a backbone where it can be cut.

    Args:
        blocks: `find_blocks(backbone)`.
        depth: How many blocks must be above it; with 0 it is `HEAD`.

    Returns:
        The cut, or `None` where nothing lies below that could be cut off.

    Example:

        find_cut(find_blocks(backbone), depth=4)
    """
    return HEAD if depth == 0 else next(iter(cuts_below(blocks, depth - 1)), None)


def cuts_below(blocks: tuple[Block, ...], above: int) -> list[Cut]:
    """All cuts with more than `above` blocks above them, the highest first."""
    return [
        Cut(block.name, index + 1, block.entry)
        for index, block in enumerate(blocks)
        if index >= above and block.entry is not None
    ]


def lower_part(
    model: keras.Model,
    backbone: keras.Model,
    cuts: Sequence[Cut],
    start: Cut | None = None,
    shape: tuple[int, ...] | None = None,
) -> keras.Model:
    """What lies below the cuts; it shares its layers and weights with the classifier.

    Args:
        model: From `build_classifier`.
        backbone: The layer of it.
        cuts: Whose features come out.
        start: A cut below all of these whose features go in; `None` for images.
        shape: Of the features of one example at `start`.

    Returns:
        A model of one input and a list of outputs, one for each of `cuts`.

    Raises:
        RecipeError: Something in the model varies its input at random, which features that are kept cannot.

    Example:

        pooled, = lower_part(model, backbone, [HEAD])(images)
    """
    _require_repeatable(model, backbone)
    if start is None:
        given = keras.Input(model.input.shape[1:], dtype=model.input.dtype, name="image")
        pixels = model.get_layer("scaling")(given)
        entry, inputs = backbone.input, keras.tree.map_structure(lambda _: pixels, backbone.input)
    else:
        entry = start.entry
        given = inputs = keras.Input(shape, dtype=entry.dtype, name="features")
    inner_outputs = [cut.entry for cut in cuts if cut.entry is not None]
    headed = any(cut.entry is None for cut in cuts)
    if headed:
        inner_outputs.append(last_output(backbone))
    inner = keras.Model(entry, inner_outputs)
    outputs = keras.tree.flatten(inner(inputs))
    pooled = outputs.pop() if headed else None
    if headed:
        for layer in _layers_after(model, backbone):
            pooled = layer(pooled)
            if layer.name == "pooled":
                break
    inner_values = iter(outputs)
    return keras.Model(
        given, [pooled if cut.entry is None else next(inner_values) for cut in cuts], name="lower"
    )


def upper_part(model: keras.Model, backbone: keras.Model, cut: Cut) -> keras.Model:
    """What lies above a cut, features to logits; it shares its layers and weights with the classifier.

    Example:

        logits = upper_part(model, backbone, cut)(features)
    """
    if cut.entry is None:
        layers = _layers_after(model, model.get_layer("pooled"))
        entry = model.get_layer("pooled").output
    else:
        entry = cut.entry
        top = keras.Model(entry, last_output(backbone), name=backbone.name)
        layers = [top, *_layers_after(model, backbone)]
    features = answers = keras.Input(entry.shape[1:], dtype=entry.dtype, name="features")
    for layer in layers:
        answers = layer(answers)
    return keras.Model(features, answers, name="upper")


def _layers_after(model, layer):
    return model.layers[model.layers.index(layer) + 1 :]


def last_output(backbone: keras.Model):
    """The tensor that a classifier's head sees: of several outputs the deepest, which is named last."""
    output = backbone.output
    if isinstance(output, dict):
        return output[list(output)[-1]]
    return output[-1] if isinstance(output, list | tuple) else output


def _require_repeatable(model, backbone):
    before = model.layers[: model.layers.index(backbone)]
    layers = [layer for layer in before if not isinstance(layer, keras.layers.InputLayer)]
    for layer in [*layers, *sublayers(backbone)]:
        # Layers that draw hold the state of their draws in a variable that is no weight. Dropout is one of
        # them and its frozen part runs in inference mode, where it does nothing.
        if len(layer.variables) > len(layer.weights) and not sublayers(layer) and not hasattr(layer, "rate"):
            raise RecipeError(
                "Features are kept of images that are the same at every epoch. "
                f"Received: {layer.name} ({type(layer).__name__}) in the model, which draws anew each time. "
                "Give the variation as the recipe's augmentation, or train without the cache."
            )
    if [layer.name for layer in layers] != ["scaling"]:
        raise RecipeError(
            "A classifier from build_classifier was expected, with its scaling before the backbone. "
            f"Received: {', '.join(layer.name for layer in layers) or 'nothing'} there. "
            "Train without the cache."
        )


class FeatureBatches(keras.utils.PyDataset):
    """Batches of kept features for `fit`, in the order in which `image_dataset` gives the images.

    Args:
        views: For each view of the examples their features and targets `(N, ...)`, in the order in which they
            were computed; epochs take turns.
        batch_size: Examples in a batch; the last may be smaller.
        seed: As of the `image_dataset` that it stands for.
        training: Shuffle, anew at each `begin_epoch`.
        permuted: The views were computed in the order of that view's epoch, not in that of the examples.
    """

    def __init__(
        self,
        views: Sequence[tuple[Rows, np.ndarray]],
        *,
        batch_size: int,
        seed: int = 0,
        training: bool = False,
        permuted: bool = False,
    ):
        super().__init__()
        self._views, self._batch_size = views, batch_size
        self._seed, self._training, self._permuted = seed, training, permuted
        self._count = len(views[0][1])
        self._view, self._order = 0, np.arange(self._count)

    def __len__(self):
        return -(-self._count // self._batch_size)

    def __getitem__(self, index):
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        rows, targets = self._views[self._view]
        return rows.read(chosen), targets[chosen]

    def begin_epoch(self, epoch: int) -> None:
        """Take that epoch's view and order. Keras' own hooks fire more often than there are epochs."""
        if self._training:
            self._view = epoch % len(self._views)
            self._order = self._permutation(epoch)
            if self._permuted:
                places = np.empty(self._count, int)
                places[self._permutation(self._view)] = np.arange(self._count)
                self._order = places[self._order]

    def _permutation(self, epoch):
        return np.random.default_rng([self._seed, epoch]).permutation(self._count)
