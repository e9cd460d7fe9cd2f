"""A backbone, its preprocessing and a classifier on it, for images or for texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from ktransfer.image.backbones import load_backbone
from ktransfer.image.classifier import build_classifier
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.recipes.recipe import Recipe
from ktransfer.text.backbones import load_text_backbone, load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.text.sequence_length import choose_sequence_length


@dataclass(frozen=True)
class Network:
    """What a run trains.

    Attributes:
        model: The classifier.
        preprocessing: How its examples are read.
        facts: Of the backbone, for the manifest.
        size: What examples are made to fit, in words.
    """

    model: keras.Model
    preprocessing: Preprocessing | TextPreprocessing
    facts: dict
    size: str


def image_network(
    name: str | Path,
    classes: int,
    recipe: Recipe,
    *,
    random_weights: bool,
    image_size: int | tuple[int, int] | None,
    scaling: str | None,
    fast_depthwise: bool,
) -> Network:
    """A classifier of images on the backbone `name` (see `load_backbone`)."""
    backbone, preprocessing = load_backbone(
        name,
        image_size=image_size,
        scaling=scaling,
        load_weights=not random_weights,
        dtype=recipe.precision,
        fast_depthwise=fast_depthwise,
    )
    model = build_classifier(backbone, classes, preprocessing, dropout=recipe.dropout, seed=recipe.seed)
    resize = preprocessing.resize
    return Network(
        model,
        preprocessing,
        {"fast_depthwise": fast_depthwise},
        f"images of {resize.height} x {resize.width} pixels",
    )


def text_network(
    name: str | Path,
    classes: int,
    recipe: Recipe,
    *,
    random_weights: bool,
    texts: Sequence[str],
    sequence_length: int | None,
) -> Network:
    """A classifier of texts on the backbone `name`, as long as `texts` want it where no length is given."""
    backbone = load_text_backbone(str(name), load_weights=not random_weights, dtype=recipe.precision)
    preprocessing = load_text_preprocessing(str(name), backbone, sequence_length=sequence_length)
    length = choose_sequence_length(preprocessing, texts)
    if sequence_length is None:
        preprocessing = preprocessing.with_sequence_length(length.sequence_length)
    model = build_text_classifier(backbone, classes, preprocessing, dropout=recipe.dropout, seed=recipe.seed)
    return Network(
        model,
        preprocessing,
        {},
        f"texts of up to {preprocessing.sequence_length} tokens (median {length.median}, 95 of 100 up to "
        f"{length.percentile_95}, longest {length.longest})",
    )
