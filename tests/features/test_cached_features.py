import keras
import numpy as np
import pytest

from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import RecipeError
from ktransfer.features.cached_features import FrozenFeatures
from ktransfer.features.extract import extract_features
from ktransfer.features.store import FeatureStore
from ktransfer.image import dataset as pipeline
from ktransfer.image.augmentation import Augmentation
from ktransfer.image.backbones import load_backbone
from ktransfer.image.classifier import build_classifier
from ktransfer.image.dataset import image_dataset
from ktransfer.image.sources import load_splits
from ktransfer.recipes.recipe import Recipe, Stage

STAGES = (
    Stage(depth=0, epochs=1, learning_rate=1e-3),
    Stage(depth=1, epochs=1, learning_rate=1e-3),
    Stage(depth=3, epochs=1, learning_rate=1e-3),
)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load_splits(
        write_target_task(tmp_path_factory.mktemp("d") / "things", train_per_class=4, validation_per_class=3)
    )


@pytest.fixture(scope="module")
def model():
    backbone, preprocessing = load_backbone(str(PRESET_PATH))
    return build_classifier(backbone, 6, preprocessing)


def frozen(model, splits, store, stages=STAGES, say=lambda line: None, **options):
    options = {"augmentation": Augmentation.none(), "batch_size": 8} | options
    return FrozenFeatures(
        model,
        splits.train,
        splits.validation,
        Recipe(stages=stages, **options),
        preprocessing=load_backbone(str(PRESET_PATH))[1],
        store=store,
        say=say,
    )


@pytest.fixture
def decoded(monkeypatch):
    paths = []

    def load(path, resize):
        paths.append(path)
        return load_image(path, resize)

    load_image = pipeline.load_image
    monkeypatch.setattr(pipeline, "load_image", load)
    return paths


def test_one_pass_over_the_images_serves_the_head_and_every_stage(model, splits, tmp_path, decoded):
    features = frozen(model, splits, FeatureStore(tmp_path))
    features.pooled()
    for stage in range(3):
        assert features.batches(stage)
    assert sorted(decoded) == sorted((*splits.train.inputs, *splits.validation.inputs))


def test_pooled_features_are_those_of_the_backbone(model, splits, tmp_path):
    features = frozen(model, splits, FeatureStore(tmp_path))
    batches = image_dataset(splits.train, resize=features.preprocessing.resize, batch_size=8)
    np.testing.assert_allclose(features.pooled(), extract_features(model, batches)[0], atol=1e-5)


def test_upper_parts_answer_on_kept_features_as_the_model_does_on_images(model, splits, tmp_path):
    features = frozen(model, splits, FeatureStore(tmp_path))
    images = image_dataset(splits.validation, resize=features.preprocessing.resize, batch_size=32)
    expected = model.predict_on_batch(np.asarray(next(iter(images))[0]))
    for stage in range(3):
        upper, _, judged = features.batches(stage)
        answers = np.concatenate([upper.predict_on_batch(judged[i][0]) for i in range(len(judged))])
        np.testing.assert_allclose(answers, expected, atol=1e-3)


def test_a_higher_cut_is_computed_from_the_nearest_kept_one_below(model, splits, tmp_path, decoded):
    lower = frozen(model, splits, FeatureStore(tmp_path), STAGES[2:])
    lower.batches(0)
    decoded.clear()
    above = frozen(model, splits, FeatureStore(tmp_path), STAGES[:2])
    pooled = above.pooled()
    judged = above.batches(1)[2]
    assert decoded == []
    fresh = frozen(model, splits, FeatureStore(tmp_path / "fresh"), STAGES[:2])
    np.testing.assert_allclose(pooled, fresh.pooled(), atol=1e-5)
    np.testing.assert_allclose(judged[0][0], fresh.batches(1)[2][0][0], atol=1e-4)


def test_epochs_take_turns_with_the_views_and_every_view_is_varied_otherwise(model, splits, tmp_path):
    features = frozen(
        model, splits, FeatureStore(tmp_path), STAGES[:1], augmentation=Augmentation(), cached_views=2
    )
    _, batches, _ = features.batches(0)
    epochs = []
    for epoch in range(3):
        batches.begin_epoch(epoch)
        rows = np.concatenate([batches[i][0] for i in range(len(batches))])
        targets = np.concatenate([batches[i][1] for i in range(len(batches))])
        order = np.random.default_rng([0, epoch]).permutation(len(splits.train))
        np.testing.assert_array_equal(targets.argmax(axis=1), splits.train.labels[order])
        epochs.append(rows[np.argsort(order)])
    np.testing.assert_array_equal(epochs[0], epochs[2])
    assert np.abs(epochs[0] - epochs[1]).max(axis=1).min() > 1e-3
    plain = frozen(model, splits, FeatureStore(tmp_path), STAGES[:1]).pooled()
    assert np.abs(epochs[0] - plain).max() > 1e-3


def test_what_each_stage_gains_is_said_once(model, splits, tmp_path):
    lines = []
    features = frozen(model, splits, FeatureStore(tmp_path), say=lines.append)
    features.pooled()
    features.batches(1)
    assert [line.split(":")[0] for line in lines] == [
        "cache      below head",
        "cache      below stack3_block0",
        "cache      below stack1_block0",
    ]
    assert "128 for each image" in lines[0]
    assert "4 x 4 x 112 for each image" in lines[1]


def test_without_room_a_stage_runs_on_the_images_and_says_why(model, splits, tmp_path):
    lines = []
    features = frozen(model, splits, FeatureStore(tmp_path, limit_gib=1e-4), STAGES[1:], say=lines.append)
    assert "none for stage 0: its features take 0 MiB of 0 MiB free" in lines[0]
    assert features.batches(0) is None
    assert len(features.pooled()) == len(splits.train)


def test_what_is_removed_meanwhile_is_not_missed(model, splits, tmp_path, monkeypatch):
    class Forgetful(FeatureStore):
        def open(self, key):
            return None

    features = frozen(model, splits, Forgetful(tmp_path))
    with pytest.warns(UserWarning, match="removed what was just kept"):
        pooled = features.pooled()
    np.testing.assert_allclose(
        pooled, frozen(model, splits, FeatureStore(tmp_path / "fresh")).pooled(), atol=1e-5
    )
    assert features.batches(1) is None


def test_where_almost_everything_trains_nothing_is_kept(model, splits, tmp_path):
    lines = []
    stages = (Stage(depth="all", epochs=1, learning_rate=1e-3),)
    assert frozen(model, splits, FeatureStore(tmp_path), stages, say=lines.append).batches(0) is None
    assert lines == ["cache      none for stage 0: nothing lies below what it trains"]


def test_a_model_that_draws_anew_at_each_epoch_is_refused_with_the_layer(splits, tmp_path):
    backbone, preprocessing = load_backbone(str(PRESET_PATH))
    plain = build_classifier(backbone, 6, preprocessing)
    images = keras.Input(plain.input.shape[1:])
    values = keras.layers.RandomFlip(name="my_flip")(images)
    for layer in plain.layers[1:]:
        values = layer(values)
    with pytest.raises(RecipeError, match=r"my_flip \(RandomFlip\) in the model, which is random"):
        frozen(keras.Model(images, values), splits, FeatureStore(tmp_path))


def test_a_layer_that_is_not_known_before_the_backbone_is_refused(splits, tmp_path):
    backbone, preprocessing = load_backbone(str(PRESET_PATH))
    plain = build_classifier(backbone, 6, preprocessing)
    images = keras.Input(plain.input.shape[1:])
    values = keras.layers.Rescaling(0.5, name="mine")(images)
    for layer in plain.layers[1:]:
        values = layer(values)
    with pytest.raises(RecipeError, match=r"scaling before the backbone, got mine, scaling"):
        frozen(keras.Model(images, values), splits, FeatureStore(tmp_path))


def test_features_too_large_for_half_precision_are_refused(model, splits, tmp_path):
    backbone, preprocessing = load_backbone(str(PRESET_PATH))
    large = build_classifier(backbone, 6, preprocessing)
    for variable in find_variables(large, "kernel"):
        variable.assign(variable * 50)
    with pytest.raises(RecipeError, match='Set cache_dtype="float32"'):
        frozen(large, splits, FeatureStore(tmp_path), cache_dtype="float16").pooled()


def find_variables(model, name):
    return [variable for variable in model.weights if variable.path.endswith(name)]
