"""A backbone for images, its preprocessing and a classifier on it."""

import dataclasses
from pathlib import Path

from ktransfer.image.backbones import load_backbone
from ktransfer.image.classifier import build_classifier
from ktransfer.image.decoding import as_mediapipe
from ktransfer.image.modality import MODALITY
from ktransfer.models.network import Network
from ktransfer.recipes.recipe import Recipe


def image_network(
    name: str | Path,
    classes: int,
    recipe: Recipe,
    *,
    random_weights: bool,
    image_size: int | tuple[int, int] | None,
    scaling: str | None,
    fast_depthwise: bool,
    client: str | None = None,
) -> Network:
    """A classifier of images on the backbone `name` (see `load_backbone`), read as `client` reads them."""
    backbone, preprocessing = load_backbone(
        str(name),
        image_size=image_size,
        scaling=scaling,
        load_weights=not random_weights,
        dtype=recipe.precision,
        fast_depthwise=fast_depthwise,
    )
    if client is not None:
        preprocessing = dataclasses.replace(preprocessing, resize=as_mediapipe(preprocessing.resize))
    model = build_classifier(backbone, classes, preprocessing, dropout=recipe.dropout, seed=recipe.seed)
    return Network(
        model,
        preprocessing,
        {"fast_depthwise": fast_depthwise},
        MODALITY.reads(preprocessing.to_dict()),
    )
