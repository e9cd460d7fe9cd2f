"""A classifier cut in two where nothing trains below: the parts, and batches of what is kept between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.data.rebatching import of_any_length, padded
from ktransfer.errors import RecipeError, listed
from ktransfer.features.store import Rows
from ktransfer.models.blocks import Block, sublayers
from ktransfer.models.heads import Head
from ktransfer.models.inputs import named_inputs

if TYPE_CHECKING:
    import tensorflow as tf

    from ktransfer.core.typing import Array, ModelInputs


@dataclass(frozen=True, eq=False)
class Cut:
    """A tensor below which nothing trains.

    Attributes:
        name: Of the lowest block above it; `"head"` for the pooled features, above all blocks.
        above: How many blocks lie above it.
        entry: The tensor in the backbone's graph; `None` for the pooled features, a tuple of tensors for the
            means of each over an image, side by side.
    """

    name: str
    above: int
    entry: Any = None


HEAD = Cut("head", 0)


def find_taps(blocks: tuple[Block, ...]) -> Cut | None:
    """The outputs of all blocks but the topmost, averaged over the image, as features of lower layers.

    Args:
        blocks: `find_blocks(backbone)`.

    Returns:
        A cut for `lower_part`, of features `(B, F)`; `None` where the graph shows no output of a block.

    Example:

        find_taps(find_blocks(backbone))
    """
    entries = tuple(block.entry for block in blocks if block.entry is not None)
    return Cut("taps", len(blocks), entries) if entries else None


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
    """The model below the cuts; it shares its layers and weights with the classifier.

    Args:
        model: From `build_classifier` or `build_text_classifier`.
        backbone: The layer of it.
        cuts: Whose features come out.
        start: A cut below all of these whose features go in; `None` for what the classifier takes.
        shape: Of the features of one example at `start`.

    Returns:
        A model of one input, or of a dict as in `upper_part`, and a list of outputs, one for each of `cuts`.

    Raises:
        RecipeError: Something in the model varies its input at random, which features that are kept cannot.

    Example:

        pooled, = lower_part(model, backbone, [HEAD])(images)
    """
    _require_repeatable(model, backbone)
    if start is None or shape is None:
        given = keras.tree.map_structure(
            lambda t: keras.Input(t.shape[1:], dtype=t.dtype, name=t.name), model.input
        )
        entry, inputs = backbone.input, given
        for layer in layers_before(model):
            inputs = layer(inputs)
        if not isinstance(given, dict):
            inputs = keras.tree.map_structure(lambda _: inputs, backbone.input)
        ids = given if isinstance(given, dict) else {}
    else:
        given, features, ids = _features_and_ids(model, start.entry, shape)
        entry, inputs = [start.entry, *(backbone.input[name] for name in ids)], [features, *ids.values()]
    taps = next((cut.entry for cut in cuts if isinstance(cut.entry, tuple)), ())
    inner_outputs = [cut.entry for cut in cuts if cut.entry is not None and not isinstance(cut.entry, tuple)]
    inner_outputs.extend(taps)
    headed = any(cut.entry is None for cut in cuts)
    if headed:
        inner_outputs.append(last_output(backbone))
    outputs = keras.tree.flatten(_between(entry, inner_outputs, inputs))
    if headed:
        pooled = _after_backbone(model, outputs.pop(), ids, Head.of(model).features)
    first_tap = len(outputs) - len(taps)
    tapped, inner_values = _side_by_side(outputs[first_tap:]), iter(outputs[:first_tap])

    def value(cut: Cut) -> keras.KerasTensor:
        if cut.entry is None:
            return pooled
        return tapped if isinstance(cut.entry, tuple) else next(inner_values)

    return keras.Model(given, [value(cut) for cut in cuts], name="lower")


def _side_by_side(maps: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
    """Means of feature maps over all but the batch and the last axis, `(B, F)`."""
    means = [keras.ops.mean(each, axis=tuple(range(1, len(each.shape) - 1))) for each in maps]
    return keras.ops.cast(keras.ops.concatenate(means, axis=-1), "float32") if means else None


def upper_part(model: keras.Model, backbone: keras.Model, cut: Cut) -> keras.Model:
    """The model above a cut, features to logits; it shares its layers and weights with the classifier.

    Where the classifier takes ids, all of them ride along, the padding mask among them: below the head it
    takes a dict of `"features"` and these.

    Example:

        logits = upper_part(model, backbone, cut)(features)
    """
    if cut.entry is None:
        pooled = Head.of(model).features
        given = keras.Input(pooled.shape[1:], dtype=pooled.dtype, name="features")
        return keras.Model(given, _between([pooled], model.output, [given]), name="upper")
    given, features, ids = _features_and_ids(model, cut.entry, cut.entry.shape[1:])
    entry = [cut.entry, *(backbone.input[name] for name in ids)]
    top = _between(entry, last_output(backbone), [features, *ids.values()])
    answers = _after_backbone(model, top, ids, model.output)
    return keras.Model(given, answers, name="upper")


def _features_and_ids(
    model: keras.Model, entry: keras.KerasTensor, shape: Sequence[int | None]
) -> tuple[Any, keras.KerasTensor, dict[str, keras.KerasTensor]]:
    """The inputs of a part that starts at `entry`, the features among them, and extra inputs by name."""
    ids = named_inputs(model)
    ids = {name: keras.Input(t.shape[1:], dtype=t.dtype, name=name) for name, t in ids.items()}
    # Of texts a batch is as long as its longest, whatever the length is that they are kept at.
    shape = entry.shape[1:] if ids else shape
    features = keras.Input(shape, dtype=entry.dtype, name="features")
    return ({"features": features, **ids} if ids else features), features, ids


def _after_backbone(
    model: keras.Model,
    features: keras.KerasTensor,
    ids: Mapping[str, keras.KerasTensor],
    output: keras.KerasTensor,
) -> keras.KerasTensor:
    """`output` of the classifier's graph, computed from what its backbone gives."""
    entry = [model.get_layer("features").output, *(model.input[name] for name in ids)]
    return _between(entry, output, [features, *ids.values()])


def _between(entry: Any, outputs: Any, inputs: Any) -> Any:
    """Apply the graph between the tensors `entry` and `outputs` to `inputs`."""
    if isinstance(entry, list) and len(entry) > 1:
        # `keras.Model` of inputs and tensors in the graph together leaves the model they are of without a
        # config (Keras 3.15), and so impossible to save. This calls each layer anew, which takes longer.
        return keras.Function(entry, outputs).call(inputs)
    return keras.Model(entry, outputs)(inputs)


def layers_before(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers before the backbone: pixels are scaled, ids left as they are."""
    return [layer for layer in model.layers if layer.name == "scaling"]


def last_output(backbone: keras.Model) -> keras.KerasTensor:
    """The tensor that a classifier's head sees: of several outputs the deepest, which is named last."""
    output = backbone.output
    if isinstance(output, dict):
        return output[list(output)[-1]]
    return output[-1] if isinstance(output, list | tuple) else output


def _require_repeatable(model: keras.Model, backbone: keras.Model) -> None:
    before = [] if named_inputs(model) else model.layers[: model.layers.index(backbone)]
    layers = [layer for layer in before if not isinstance(layer, keras.layers.InputLayer)]
    for layer in [*layers, *sublayers(backbone)]:
        # Layers with random behavior hold their random state in a variable that is no weight. Dropout is one of
        # them and its frozen part runs in inference mode, where it does nothing.
        if len(layer.variables) > len(layer.weights) and not sublayers(layer) and not hasattr(layer, "rate"):
            raise RecipeError(
                f"Expected a model that gives the same features at every epoch, got {layer.name} "
                f"({type(layer).__name__}) in the model, which is random at each call. Give the variation as "
                "the recipe's augmentation, or train without the cache."
            )
    if before and [layer.name for layer in layers] != ["scaling"]:
        raise RecipeError(
            "Expected a classifier from build_classifier, with its scaling before the backbone, got "
            f"{listed(layer.name for layer in layers) or 'nothing'} there. Train without the cache."
        )


class FeatureBatches(keras.utils.PyDataset):
    """Batches of cached features for `fit`, in the order in which a `dataset` gives the examples.

    Args:
        views: For each view of the examples their features, and int `(N,)`, the row that each example's are
            in; epochs take turns.
        targets: `(N, ...)`, in the order of the examples, or objects `(N,)`, each of the tokens of one.
        batch_size: Examples in a batch; the last may be smaller.
        order: From an epoch to its order of the examples, taken at each `begin_epoch`; `None` leaves them in
            their own.
        extra_inputs: From indices of examples to what else the upper part takes, by name, each `(B, length)`; then
            features are `(B, length, ...)` as well.
    """

    def __init__(
        self,
        views: Sequence[tuple[Rows, np.ndarray]],
        targets: np.ndarray,
        *,
        batch_size: int,
        order: Callable[[int], np.ndarray] | None = None,
        extra_inputs: Callable[[np.ndarray], Mapping[str, np.ndarray]] | None = None,
    ) -> None:
        super().__init__()
        self._views, self._targets, self._batch_size = views, targets, batch_size
        self._epoch_order, self._extra_inputs = order, extra_inputs
        self._view, self._order = 0, np.arange(len(targets))

    def __len__(self) -> int:
        return -(-len(self._targets) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[ModelInputs, Array]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        rows, places = self._views[self._view]
        features = rows.read(places[chosen])
        if self._extra_inputs:
            given = with_ids(features, self._extra_inputs(chosen))
            return given, padded(self._targets[chosen], given["features"].shape[1])
        return features, padded(self._targets[chosen], features.shape[1])

    @property
    def data(self) -> FeatureBatches | tf.data.Dataset:
        """The input of `fit`: this object, or a dataset of the same batches where lengths differ."""
        return of_any_length(self) if self._extra_inputs else self

    def begin_epoch(self, epoch: int) -> None:
        """Take that epoch's view and order. Keras' own hooks fire more often than there are epochs."""
        if self._epoch_order:
            self._view = epoch % len(self._views)
            self._order = self._epoch_order(epoch)


def with_ids(features: np.ndarray, ids: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs of a part of a text classifier: features, cut to the length of the batch, and its ids."""
    return {"features": features[:, : next(iter(ids.values())).shape[1]], **ids}
