"""A backbone for texts, its preprocessing and a classifier on it."""

from collections.abc import Sequence
from pathlib import Path

from ktransfer.core.task import Task
from ktransfer.models.network import Network
from ktransfer.recipes.recipe import Recipe
from ktransfer.text.backbones import load_text_backbone, load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.client_tokenizer import read_as
from ktransfer.text.modality import MODALITY
from ktransfer.text.pair_preprocessing import pair_preprocessing
from ktransfer.text.sequence_length import choose_sequence_length
from ktransfer.text.token_preprocessing import preprocessing_of


def text_network(
    name: str | Path,
    outputs: int,
    recipe: Recipe,
    *,
    random_weights: bool,
    texts: Sequence[str],
    sequence_length: int | None,
    task: Task,
    pairs: bool = False,
    client: str | None = None,
) -> Network:
    """A classifier of texts on the backbone `name`; without a length, `texts` determine it."""
    backbone = load_text_backbone(str(name), load_weights=not random_weights, dtype=recipe.precision)
    preprocessing = load_text_preprocessing(str(name), backbone, sequence_length=sequence_length)
    if client is not None:
        preprocessing = read_as(client, preprocessing, rows_an_example=not task.per_token, pairs=pairs)
    preprocessing = pair_preprocessing(preprocessing) if pairs else preprocessing_of(task, preprocessing)
    length = choose_sequence_length(preprocessing, texts)
    if sequence_length is None:
        preprocessing = preprocessing.with_sequence_length(length.sequence_length)
    model = build_text_classifier(
        backbone, outputs, preprocessing, dropout=recipe.dropout, seed=recipe.seed, per_token=task.per_token
    )
    return Network(
        model,
        preprocessing,
        {},
        f"{MODALITY.reads(preprocessing.to_dict())} (median {length.median}, 95 of 100 up to "
        f"{length.percentile_95}, longest {length.longest})",
    )
