"""The demo's drawings and the preset that ships with the package."""

import numpy as np
import pytest
from PIL import Image

from ktransfer.demo import DEMO_CLASSES, DEMO_IMAGE_SIZE, PRESET_PATH
from ktransfer.demo.corpus import PRETRAINING_KINDS, draw_pretraining
from ktransfer.demo.drawing import draw_target, write_target_task
from ktransfer.errors import DataError


def read_task(folder):
    return {str(p.relative_to(folder)): np.asarray(Image.open(p)) for p in sorted(folder.rglob("*.png"))}


@pytest.mark.parametrize(
    ("draw", "kinds"), [(draw_target, DEMO_CLASSES), (draw_pretraining, PRETRAINING_KINDS)]
)
def test_an_image_follows_from_its_seed_alone(draw, kinds):
    for kind in kinds:
        first, again, other = (draw(kind, np.random.default_rng(seed), 48) for seed in (5, 5, 6))
        assert first.shape == (48, 48, 3), kind
        assert first.dtype == np.uint8, kind
        assert np.array_equal(first, again), kind
        assert not np.array_equal(first, other), kind


@pytest.mark.parametrize(
    ("draw", "kinds"), [(draw_target, DEMO_CLASSES), (draw_pretraining, PRETRAINING_KINDS)]
)
def test_two_kinds_drawn_from_one_seed_differ(draw, kinds):
    images = {draw(kind, np.random.default_rng(3)).tobytes() for kind in kinds}
    assert len(images) == len(kinds)


def test_the_target_task_has_the_asked_counts_and_sizes(tmp_path):
    folder = write_target_task(tmp_path / "task", train_per_class=3, validation_per_class=2, size=40)
    images = read_task(folder)
    expected = [
        (split, kind) for split, n in [("train", 3), ("val", 2)] for kind in DEMO_CLASSES for _ in range(n)
    ]
    assert sorted(tuple(name.split("/")[:2]) for name in images) == sorted(expected)
    assert {image.shape for image in images.values()} == {(40, 40, 3)}
    assert [p.name for p in tmp_path.iterdir()] == ["task"]


def test_no_validation_image_is_a_training_image(tmp_path):
    images = read_task(write_target_task(tmp_path / "task", train_per_class=3, validation_per_class=3))
    assert len({image.tobytes() for image in images.values()}) == len(images)


def test_a_larger_task_of_the_same_seed_contains_the_smaller(tmp_path):
    small = read_task(
        write_target_task(tmp_path / "small", train_per_class=1, validation_per_class=1, seed=7)
    )
    large = read_task(
        write_target_task(tmp_path / "large", train_per_class=2, validation_per_class=2, seed=7)
    )
    assert len(large) == 2 * len(small)
    assert all(np.array_equal(image, large[name]) for name, image in small.items())


def test_another_seed_gives_another_task(tmp_path):
    first, second = (
        read_task(write_target_task(tmp_path / str(s), train_per_class=1, validation_per_class=1, seed=s))
        for s in (0, 1)
    )
    assert not any(np.array_equal(first[name], second[name]) for name in first)


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match=", got "):
        write_target_task(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("draw", [draw_target, draw_pretraining])
def test_an_unknown_kind_is_named_in_the_error(draw):
    with pytest.raises(DataError, match="got 'teapot'"):
        draw("teapot", np.random.default_rng(0))


def test_no_class_of_the_target_task_was_seen_in_pretraining():
    assert len(set(PRETRAINING_KINDS)) == len(PRETRAINING_KINDS)
    assert not set(DEMO_CLASSES) & set(PRETRAINING_KINDS)


def test_every_file_of_the_preset_is_small_enough_to_ship():
    sizes = {p.name: p.stat().st_size for p in PRESET_PATH.iterdir()}
    assert {"config.json", "model.weights.h5", "image_converter.json", "README.txt"} <= set(sizes)
    assert sum(sizes.values()) < 3_000_000


def test_the_preset_scales_pixels_to_minus_one_to_one_and_tells_images_apart():
    import keras_hub

    backbone = keras_hub.models.Backbone.from_preset(str(PRESET_PATH))
    converter = keras_hub.layers.ImageConverter.from_preset(str(PRESET_PATH))
    assert converter.image_size == (DEMO_IMAGE_SIZE, DEMO_IMAGE_SIZE)
    levels = np.stack([np.full((DEMO_IMAGE_SIZE, DEMO_IMAGE_SIZE, 3), grey, "float32") for grey in (0, 255)])
    scaled = np.asarray(converter(levels))
    np.testing.assert_allclose(scaled[0], -1, atol=1e-6)
    np.testing.assert_allclose(scaled[1], 1, atol=1e-6)

    images = np.stack([draw_target(kind, np.random.default_rng(0)) for kind in DEMO_CLASSES]).astype(
        "float32"
    )
    pooled = np.asarray(backbone(converter(images), training=False)).mean(axis=(1, 2))
    assert pooled.shape == (len(DEMO_CLASSES), 128)
    assert np.isfinite(pooled).all()
    assert pooled.std(axis=0).mean() > 0.01
