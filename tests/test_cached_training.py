import errno
import os

import keras
import numpy as np
import pytest

from ktransfer.backbones import load_backbone
from ktransfer.cached_training import can_cache, fine_tune_cached
from ktransfer.classifier import build_classifier
from ktransfer.data.augmentation import Augmentation
from ktransfer.data.pipeline import image_dataset
from ktransfer.data.sources import load_splits
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import RecipeError
from ktransfer.feature_store import FeatureStore
from ktransfer.head import extract_features, solve_head
from ktransfer.recipe import Recipe, Stage
from ktransfer.training import fine_tune

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


def classifier(splits):
    backbone, preprocessing = load_backbone(str(PRESET_PATH))
    model = build_classifier(backbone, 6, preprocessing)
    batches = image_dataset(splits.train, resize=preprocessing.resize, batch_size=8)
    solve_head(model, *extract_features(model, batches))
    return model, preprocessing.resize


def cached(splits, store, recipe=RECIPE, **options):
    model, resize = classifier(splits)
    lines = []
    history = fine_tune_cached(
        model,
        splits.train,
        splits.validation,
        recipe,
        resize=resize,
        store=store,
        verbose=0,
        say=lines.append,
        **options,
    )
    return model, history, lines


def test_the_weights_are_those_of_training_without_the_cache(splits, tmp_path):
    model, history, _ = cached(splits, FeatureStore(tmp_path))
    plain, resize = classifier(splits)
    options = {"resize": resize, "batch_size": 8, "one_hot": True}
    expected = fine_tune(
        plain,
        image_dataset(splits.train, training=True, **options),
        image_dataset(splits.validation, **options),
        RECIPE,
        verbose=0,
    ).history
    assert history["stage"] == expected["stage"] == [0, 0, 1, 1]
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-3)
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=1e-3)
    for one, other in zip(model.weights, plain.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-4, err_msg=one.path)


def test_a_second_run_finds_what_the_first_kept(splits, tmp_path):
    first = cached(splits, FeatureStore(tmp_path))
    second = cached(splits, FeatureStore(tmp_path))
    assert sum("computed in" in line for line in first[2]) == 2
    assert "kept from before" in second[2][0]
    np.testing.assert_array_equal(first[0].get_weights()[-1], second[0].get_weights()[-1])


def test_other_weights_or_other_files_are_never_served_what_was_kept(splits, tmp_path):
    cached(splits, FeatureStore(tmp_path))
    before = len(FeatureStore(tmp_path).entries())
    changed = splits.train.subset(range(len(splits.train) - 1))
    model, resize = classifier(splits)
    fine_tune_cached(
        model,
        changed,
        splits.validation,
        RECIPE,
        resize=resize,
        store=FeatureStore(tmp_path),
        verbose=0,
        say=print,
    )
    middle = len(FeatureStore(tmp_path).entries())
    assert middle > before
    model, resize = classifier(splits)
    lowest = next(v for v in model.weights if "conv" in v.path)
    lowest.assign(lowest + 1e-3)
    fine_tune_cached(
        model,
        splits.train,
        splits.validation,
        RECIPE,
        resize=resize,
        store=FeatureStore(tmp_path),
        verbose=0,
        say=print,
    )
    assert len(FeatureStore(tmp_path).entries()) > middle


def test_a_head_trained_by_gradient_needs_the_pooled_features_only(splits, tmp_path):
    recipe = Recipe(
        stages=(Stage(depth=0, epochs=3, learning_rate=1e-2),), head="train", augmentation=Augmentation.none()
    )
    _, history, lines = cached(splits, FeatureStore(tmp_path), recipe)
    assert "below head: 128 for each image" in lines[0]
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


def test_a_full_disk_warns_and_trains_on_the_images(splits, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(FeatureStore, "write", full)
    with pytest.warns(UserWarning, match="No space left"):
        _, history, lines = cached(splits, FeatureStore(tmp_path))
    assert history["stage"] == [0, 0, 1, 1]
    assert lines == []


def test_a_stage_that_trains_all_has_nothing_to_keep(splits, tmp_path):
    recipe = Recipe(
        stages=(Stage(depth="all", epochs=1, learning_rate=1e-4),), augmentation=Augmentation.none()
    )
    assert cached(splits, FeatureStore(tmp_path), recipe)[1]["stage"] == [0]
    assert list(tmp_path.iterdir()) == []


def test_random_augmentation_and_adapting_batchnorm_cannot_be_cached():
    assert can_cache(RECIPE)
    assert not can_cache(Recipe(stages=RECIPE.stages))
    assert not can_cache(Recipe(stages=RECIPE.stages, augmentation=Augmentation.none(), batch_norm="adapt"))
    with pytest.raises(RecipeError, match="augmentation"):
        fine_tune_cached(None, None, None, Recipe(stages=RECIPE.stages), resize=None, store=None)


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
