"""Under which key the features of a cut are kept: a digest of all that they follow from."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from ktransfer.core.modality import Preprocessing
from ktransfer.data.examples import Examples
from ktransfer.data.shards.listing import ShardInputs
from ktransfer.features.split_model import Cut, layers_before
from ktransfer.models.adapters import idle_variables
from ktransfer.models.blocks import Block
from ktransfer.recipes.recipe import Recipe


class FeatureKeys:
    """Keys of one classifier's features: call it with a cut, a split of the data and a view.

    Args:
        model, backbone, blocks: The classifier, its backbone, and the blocks of that.
        examples: By the name of their split.
        recipe: Whose augmentation and dtype they are kept with.
        preprocessing: How the examples are read.

    Example:

        key = FeatureKeys(model, backbone, blocks, {"train": train}, recipe, preprocessing)
        key(HEAD, "train", None)   # 64 hexadecimal digits
    """

    def __init__(
        self,
        model: keras.Model,
        backbone: keras.Model,
        blocks: tuple[Block, ...],
        examples: Mapping[str, Examples],
        recipe: Recipe,
        preprocessing: Preprocessing,
    ) -> None:
        self._blocks, self._recipe = blocks, recipe
        self._examples = {
            name: [split.fingerprint(), _listed(split.inputs)] for name, split in examples.items()
        }
        self._reading = [
            keras.__version__,
            preprocessing.digest(),
            [layer.get_config() for layer in layers_before(model)],
            _without_given_names(backbone.get_config()),
            recipe.cache_dtype,
        ]
        self.read_weights()

    def read_weights(self) -> None:
        """Take the weights as they are now, block by block."""
        self._weights = []
        for block in self._blocks:
            digest, idle = hashlib.sha256(), idle_variables(block)
            for variable in block.weights:
                if id(variable) in idle:  # an adapter that adds nothing yet
                    continue
                digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).data)
            self._weights.append(digest.hexdigest())

    def __call__(self, cut: Cut, split: str, view: int | None) -> str:
        recipe = self._recipe
        varied = view is not None and [
            dataclasses.asdict(recipe.augmentation),
            recipe.seed,
            recipe.batch_size,
            view,
        ]
        below = self._weights[cut.above :]
        facts = [cut.name, below, self._reading, self._examples[split], varied]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _without_given_names(config: Mapping[str, Any]) -> Any:
    """A functional model's config with its layers numbered: names that Keras gives count up in a process."""
    names = {layer["name"]: f"layer {place}" for place, layer in enumerate(config.get("layers", ()))}
    names[config.get("name")] = "backbone"

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replaced(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [replaced(inner) for inner in value]
        return names.get(value, value) if isinstance(value, str) else value

    return replaced(config)


def _listed(inputs: Sequence[Any]) -> Sequence[Any]:
    """Inputs as JSON takes them; of shards a digest of all addresses."""
    return inputs.facts() if isinstance(inputs, ShardInputs) else inputs
