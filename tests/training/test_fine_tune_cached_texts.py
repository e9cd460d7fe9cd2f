"""The frozen part of a text classifier run once; ids and padding mask ride along."""

import dataclasses

import numpy as np
import pytest
import text_zoo
from test_fine_tune_cached import assert_equal, cached, plain
from text_zoo import write_preset

from ktransfer.data.examples import Examples, Splits
from ktransfer.features.cached_features import FrozenFeatures
from ktransfer.features.extract import extract_features
from ktransfer.features.store import FeatureStore
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.text.augmentation import TextAugmentation
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.training.linear_probe import solve_head

RECIPE = Recipe(
    stages=(
        Stage(depth=1, epochs=1, learning_rate=1e-3, warmup=0.5, schedule="linear"),
        Stage(depth=2, epochs=2, learning_rate=1e-3),
    ),
    batch_size=5,
    weight_decay=0.01,
    augmentation=TextAugmentation(),
)


@pytest.fixture(scope="module")
def splits():
    random = np.random.default_rng(0)
    words = ["the", "quick", "brown", "fox", "you"]
    texts = [" ".join(random.choice(words, random.integers(1, 20))) for _ in range(48)]
    labels = np.array(["fox" in text for text in texts], int)
    examples = Examples(tuple(texts), labels, ("a", "b"), kind="text")
    return Splits(examples.subset(range(32)), examples.subset(range(32, 48)))


def classifier(name, folder, splits):
    backbone, preset = write_preset(name, folder)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=16)
    model = build_text_classifier(backbone, 2, preprocessing)
    solve_head(model, *extract_features(model, preprocessing.dataset(splits.train, batch_size=5)))
    return model, preprocessing


def alike(name, folder, splits, monkeypatch):
    """Two classifiers of a family with the same weights."""
    monkeypatch.setitem(text_zoo.SIZES, "num_layers", 3)
    one, other = (classifier(name, folder, splits) for _ in range(2))
    other[0].set_weights(one[0].get_weights())
    return one, other


# A family each for: a mask and BERT's pooler, what looks back only, no mask at all, and one shared layer.
@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        ("Bert", ["transformer_layer_2", "transformer_layer_1"]),
        ("GPT2", ["transformer_layer_2", "transformer_layer_1"]),
        pytest.param("RoformerV2", ["transformer_layer_2", "transformer_layer_1"], marks=pytest.mark.slow),
        pytest.param("Albert", ["group_0_inner_layer_0", "embedding_projection"], marks=pytest.mark.slow),
    ],
)
def test_the_weights_are_those_of_training_without_the_cache(name, cuts, splits, tmp_path, monkeypatch):
    one, other = alike(name, tmp_path, splits, monkeypatch)
    found = cached(splits, FeatureStore(tmp_path / "store"), RECIPE, one)
    kept = [line.split(":")[0].removeprefix("cache      below ") for line in found[2] if "below" in line]
    assert kept == cuts
    assert_equal(found, plain(splits, RECIPE, other))


def test_what_is_kept_of_texts_is_used_by_another_classifier_of_the_same_weights(
    splits, tmp_path, monkeypatch
):
    store = FeatureStore(tmp_path / "store")
    lines = []
    for model, preprocessing in alike("Bert", tmp_path, splits, monkeypatch):
        parts = (splits.train, splits.validation)
        features = FrozenFeatures(
            model, *parts, RECIPE, preprocessing=preprocessing, store=store, say=lines.append
        )
        pooled = features.pooled()
        expected, _ = extract_features(model, preprocessing.dataset(splits.train, batch_size=5))
        np.testing.assert_allclose(pooled, expected, atol=1e-5)
    assert "computed in" in lines[0]
    assert "kept from before" in lines[-1]


def test_a_higher_cut_of_texts_is_computed_from_a_kept_one_below(splits, tmp_path, monkeypatch):
    (model, preprocessing), _ = alike("Bert", tmp_path, splits, monkeypatch)

    def judged(stages, folder):
        recipe = dataclasses.replace(RECIPE, stages=stages)
        features = FrozenFeatures(
            model,
            splits.train,
            splits.validation,
            recipe,
            preprocessing=preprocessing,
            store=FeatureStore(tmp_path / folder),
            say=lambda line: None,
        )
        monkeypatch.setattr(features, "dataset", None)
        return features.batches(0)[2]

    judged(RECIPE.stages[1:], "one")
    reached = judged(RECIPE.stages[:1], "one")
    fresh = judged(RECIPE.stages[:1], "other")
    for index in range(len(fresh)):
        (inputs, targets), (expected, labels) = reached[index], fresh[index]
        np.testing.assert_array_equal(targets, labels)
        real = inputs["padding_mask"][..., None]
        np.testing.assert_allclose(inputs["features"] * real, expected["features"] * real, atol=1e-5)
