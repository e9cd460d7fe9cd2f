import dataclasses
import errno
import json
import os

import keras
import numpy as np
import pytest
from unfreezing import OutOfMemory

from ktransfer.data.examples import Splits
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import RecipeError
from ktransfer.features.cached_features import FrozenFeatures
from ktransfer.features.extract import extract_features
from ktransfer.features.store import FeatureStore
from ktransfer.image.augmentation import Augmentation
from ktransfer.image.backbones import load_backbone
from ktransfer.image.classifier import build_classifier
from ktransfer.image.dataset import image_dataset
from ktransfer.image.sources import load_splits
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.training.fine_tune import fine_tune
from ktransfer.training.fine_tune_cached import fine_tune_cached
from ktransfer.training.linear_probe import class_weights, solve_head

RECIPE = Recipe(
    stages=(
        Stage(depth=1, epochs=2, learning_rate=1e-3, warmup=1),
        Stage(depth=3, epochs=2, learning_rate=3e-4, schedule="cosine"),
    ),
    batch_size=8,
    weight_decay=0.01,
    augmentation=Augmentation.none(),
)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load_splits(
        write_target_task(tmp_path_factory.mktemp("d") / "things", train_per_class=4, validation_per_class=3)
    )


def classifier(splits, precision=None):
    backbone, preprocessing = load_backbone(str(PRESET_PATH), dtype=precision)
    model = build_classifier(backbone, 6, preprocessing)
    batches = image_dataset(splits.train, resize=preprocessing.resize, batch_size=8)
    solve_head(model, *extract_features(model, batches))
    return model, preprocessing


def cached(splits, store, recipe=RECIPE, prepared=None, **options):
    model, preprocessing = prepared or classifier(splits, recipe.precision)
    lines = []
    features = FrozenFeatures(
        model,
        splits.train,
        splits.validation,
        recipe,
        preprocessing=preprocessing,
        store=store,
        say=lines.append,
    )
    history = fine_tune_cached(model, features, verbose=0, **options)
    return model, history, lines


def plain(splits, recipe=RECIPE, prepared=None):
    """The same without the cache."""
    model, preprocessing = prepared or classifier(splits, recipe.precision)
    options = {"batch_size": recipe.batch_size, "one_hot": True}
    weights = class_weights(splits.train.labels, len(splits.train.class_names), recipe.class_weight)
    history = fine_tune(
        model,
        preprocessing.dataset(splits.train, training=True, augmentation=recipe.augmentation, **options),
        preprocessing.dataset(splits.validation, **options),
        recipe,
        class_weight=dict(enumerate(weights)) if recipe.class_weight else None,
        verbose=0,
    ).history
    return model, history


def assert_equal(one, other, tolerance=2e-4):
    (model, history, _), (expected_model, expected) = one, other
    assert history["stage"] == expected["stage"]
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=10 * tolerance)
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=10 * tolerance)
    for mine, theirs in zip(model.weights, expected_model.weights, strict=True):
        values = [keras.ops.convert_to_numpy(keras.ops.cast(v, "float32")) for v in (mine, theirs)]
        np.testing.assert_allclose(*values, atol=tolerance, err_msg=mine.path)


def test_the_weights_are_those_of_training_without_the_cache(splits, tmp_path):
    found = cached(splits, FeatureStore(tmp_path))
    assert found[1]["stage"] == [0, 0, 1, 1]
    assert_equal(found, plain(splits))


@pytest.mark.slow
def test_with_a_view_for_each_epoch_augmented_training_comes_out_equal_too(splits, tmp_path):
    recipe = dataclasses.replace(RECIPE, augmentation=Augmentation(), cached_views=4)
    found = cached(splits, FeatureStore(tmp_path), recipe)
    assert "4 views of each" in found[2][0]
    assert_equal(found, plain(splits, recipe))


@pytest.mark.slow
def test_class_weights_count_in_cached_training_as_in_the_other(splits, tmp_path):
    uneven = Splits(splits.train.subset([i for i in range(24) if i not in (0, 1, 2)]), splits.validation)
    recipe = dataclasses.replace(RECIPE, class_weight="balanced")
    found = cached(uneven, FeatureStore(tmp_path), recipe)
    assert_equal(found, plain(uneven, recipe))
    assert found[1]["loss"] != pytest.approx(cached(uneven, FeatureStore(tmp_path))[1]["loss"], rel=1e-3)


@pytest.mark.slow
def test_mixed_precision_is_kept_in_half_precision_and_comes_out_equal(splits, tmp_path):
    recipe = dataclasses.replace(RECIPE, precision="mixed_float16")
    found = cached(splits, FeatureStore(tmp_path), recipe)
    assert {json.loads(path.read_text())["dtype"] for path in tmp_path.glob("*/meta.json")} == {"float16"}
    assert_equal(found, plain(splits, recipe), tolerance=5e-3)


@pytest.mark.slow
def test_half_precision_by_option_takes_half_the_space_and_trains_alike(splits, tmp_path):
    whole = cached(splits, FeatureStore(tmp_path / "whole"))
    half = cached(splits, FeatureStore(tmp_path / "half"), dataclasses.replace(RECIPE, cache_dtype="float16"))
    sizes = [
        sum(entry.size_bytes for entry in FeatureStore(tmp_path / name).entries())
        for name in ("whole", "half")
    ]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.05)
    np.testing.assert_allclose(half[1]["loss"], whole[1]["loss"], rtol=0.05)


def test_a_second_run_finds_what_the_first_kept(splits, tmp_path):
    first = cached(splits, FeatureStore(tmp_path))
    second = cached(splits, FeatureStore(tmp_path))
    assert sum("computed in" in line for line in first[2]) == 2
    assert "kept from before" in second[2][0]
    np.testing.assert_array_equal(first[0].get_weights()[-1], second[0].get_weights()[-1])


def test_other_weights_or_other_files_are_never_served_what_was_kept(splits, tmp_path):
    store = FeatureStore(tmp_path)
    cached(splits, store)
    assert (
        "computed"
        in cached(Splits(splits.train.subset(range(len(splits.train) - 1)), splits.validation), store)[2][0]
    )
    prepared = classifier(splits)
    lowest = next(v for v in prepared[0].weights if "conv" in v.path)
    lowest.assign(lowest + 1e-3)
    assert "computed" in cached(splits, store, prepared=prepared)[2][0]
    assert "kept from before" in cached(splits, store)[2][0]


def test_a_head_trained_by_gradient_needs_the_pooled_features_only(splits, tmp_path):
    recipe = Recipe(
        stages=(Stage(depth=0, epochs=3, learning_rate=1e-2),), head="train", augmentation=Augmentation.none()
    )
    _, history, lines = cached(splits, FeatureStore(tmp_path), recipe)
    assert "below head: 128 for each image" in lines[0]
    assert "over 100 times faster" in lines[0]
    assert len(history["loss"]) == 3


def test_a_stage_that_ends_early_lets_the_next_one_run_its_whole_length(splits, tmp_path):
    stages = (
        Stage(depth=1, epochs=4, learning_rate=1e-9, patience=1),
        Stage(depth=2, epochs=2, learning_rate=1e-4),
    )
    _, history, _ = cached(
        splits, FeatureStore(tmp_path), Recipe(stages=stages, batch_size=8, augmentation=Augmentation.none())
    )
    assert history["stage"] == [0, 1, 1]  # the solved head is the best already


def test_out_of_memory_ends_with_the_weights_of_whole_batches(splits, tmp_path):
    told, store = [], FeatureStore(tmp_path)
    found = cached(
        splits,
        store,
        callbacks=lambda stage: [OutOfMemory(4, place=(1, 1), examples=24)],
        on_trouble=told.append,
    )
    assert_equal(found, cached(splits, store)[:2])
    assert told == [
        "out of memory in batches of 8: trained on in parts of 4, whose gradients add up to batches of 8"
    ]


def test_a_full_disk_warns_and_trains_on_the_images(splits, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(FeatureStore, "writer", full)
    with pytest.warns(UserWarning, match="No space left"):
        _, history, lines = cached(splits, FeatureStore(tmp_path))
    assert history["stage"] == [0, 0, 1, 1]
    assert lines == []


def test_a_folder_that_cannot_be_written_warns_and_trains_on_the_images(splits, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="pass --cache-dir"):
        _, history, _ = cached(splits, FeatureStore(tmp_path / "file" / "features"))
    assert history["stage"] == [0, 0, 1, 1]


def test_a_stage_that_trains_all_has_nothing_to_keep(splits, tmp_path):
    recipe = Recipe(
        stages=(Stage(depth="all", epochs=1, learning_rate=1e-4),), augmentation=Augmentation.none()
    )
    assert cached(splits, FeatureStore(tmp_path), recipe)[1]["stage"] == [0]
    assert list(tmp_path.iterdir()) == []


def test_images_that_vary_at_every_epoch_cannot_be_cached(splits, tmp_path):
    with pytest.raises(RecipeError, match="Set cached_views, or use fine_tune"):
        cached(splits, FeatureStore(tmp_path), Recipe(stages=RECIPE.stages))


def test_afterwards_the_whole_model_answers_with_what_was_trained(splits, tmp_path):
    model, history, _ = cached(splits, FeatureStore(tmp_path))
    options = {
        "resize": model and load_backbone(str(PRESET_PATH))[1].resize,
        "batch_size": 8,
        "one_hot": True,
    }
    model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    judged = model.evaluate(image_dataset(splits.validation, **options), verbose=0, return_dict=True)
    assert judged["accuracy"] == pytest.approx(max(history["val_accuracy"]), abs=0.06)
