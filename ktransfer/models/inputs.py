"""The inputs of a model: one tensor, or a dictionary of them."""

from collections.abc import Mapping
from typing import Any

import keras


def named_inputs(model: keras.Model) -> dict[str, Any]:
    """The input tensors by name of a model that takes a dictionary; none of one that takes a single tensor.

    Example:

        list(named_inputs(build_text_classifier(backbone, 2, preprocessing)))   # ["token_ids", "padding_mask"]
    """
    inputs = getattr(model, "input", None)  # a `Sequential` that was not called yet has none
    return inputs if isinstance(inputs, dict) else {}


def as_taken(model: keras.Model, given: Mapping[str, Any]) -> Any:
    """Inputs by name in the form in which a model takes them.

    Example:

        model(as_taken(model, {"image": pixels}))
    """
    return given if named_inputs(model) else next(iter(given.values()))
