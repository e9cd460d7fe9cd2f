"""The frozen part of a backbone computed once: a classifier cut in two, what lies between on disk."""

import hashlib
import json
from dataclasses import dataclass

import keras
import numpy as np

from ktransfer.feature_store import Rows
from ktransfer.freezing import Block


@dataclass(frozen=True, eq=False)
class Split:
    """A classifier cut in two; both parts share its layers and weights.

    Attributes:
        lower: Images to the tensor at the cut, which nothing that trains lies below.
        upper: That tensor to logits.
        cut: Name of the lowest block in `upper`; `"head"` where it has none.
    """

    lower: keras.Model
    upper: keras.Model
    cut: str


def split_classifier(
    model: keras.Model, backbone: keras.Model, blocks: tuple[Block, ...], depth: int
) -> Split | None:
    """Cut a classifier below the top `depth` blocks of its backbone, at the nearest tensor that can be cut.

    Args:
        model: From `build_classifier`.
        backbone: The layer of it.
        blocks: `find_blocks(backbone)`.
        depth: How many blocks must be in the upper part; with 0 it is the head on pooled features.

    Returns:
        The parts, or `None` where nothing lies below that could be cut off.

    Example:

        split = split_classifier(model, backbone, find_blocks(backbone), depth=4)
        logits = split.upper(split.lower(images))
    """
    pooled = model.get_layer("pooled")
    if depth == 0:
        lower = keras.Model(model.input, pooled.output, name="lower")
        return Split(lower, _chain(lower, _layers_after(model, pooled)), "head")
    cut = next((block for block in blocks[depth - 1 :] if block.entry is not None), None)
    if cut is None:
        return None
    images = keras.Input(model.input.shape[1:], dtype=model.input.dtype, name="image")
    pixels = model.get_layer("scaling")(images)
    inputs = keras.tree.map_structure(lambda _: pixels, backbone.input)
    lower = keras.Model(images, keras.Model(backbone.input, cut.entry)(inputs), name="lower")
    output = (
        backbone.output[list(backbone.output)[-1]] if isinstance(backbone.output, dict) else backbone.output
    )
    top = keras.Model(cut.entry, output, name=backbone.name)
    return Split(lower, _chain(lower, [top, *_layers_after(model, backbone)]), cut.name)


def _layers_after(model, layer):
    return model.layers[model.layers.index(layer) + 1 :]


def _chain(lower, layers):
    features = answers = keras.Input(lower.output.shape[1:], dtype=lower.output.dtype, name="features")
    for layer in layers:
        answers = layer(answers)
    return keras.Model(features, answers, name="upper")


def features_key(split: Split, facts: list) -> str:
    """A digest of everything that features depend on.

    Args:
        split: Whose `lower` computes them; its weights and its cut go in.
        facts: JSON-able: the examples in their order, how they are read and scaled, the backbone's config.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(
        json.dumps([keras.__version__, split.cut, facts], sort_keys=True, default=str).encode()
    )
    for variable in split.lower.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).data)
    return digest.hexdigest()


class FeatureBatches(keras.utils.PyDataset):
    """Batches of kept features for `fit`, in the order in which `image_dataset` gives the images.

    Args:
        rows: The features of all examples.
        targets: `(N, ...)`, one for each.
        batch_size: Examples in a batch; the last may be smaller.
        seed: As of the `image_dataset` that it stands for.
        training: Shuffle, anew at each `begin_epoch`.
    """

    def __init__(
        self,
        rows: Rows,
        targets: np.ndarray,
        *,
        batch_size: int,
        seed: int = 0,
        training: bool = False,
    ):
        super().__init__()
        self._rows, self._targets, self._batch_size = rows, targets, batch_size
        self._seed, self._training = seed, training
        self._order = np.arange(len(targets))

    def __len__(self):
        return -(-len(self._targets) // self._batch_size)

    def __getitem__(self, index):
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return self._rows.read(chosen), self._targets[chosen]

    def begin_epoch(self, epoch: int) -> None:
        """Take the order of that epoch. Keras' own hooks fire more often than there are epochs."""
        if self._training:
            self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._targets))
