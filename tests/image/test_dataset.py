import dataclasses
import errno
import io
import os

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from images import FLOWERS, class_folders, draw
from PIL import Image

from ktransfer.errors import DataError, RecipeError
from ktransfer.image.augmentation import Augmentation
from ktransfer.image.augmentation_ops import augment
from ktransfer.image.dataset import image_dataset
from ktransfer.image.decoding import Resize, load_image
from ktransfer.image.sources import read_data

SMALL = Resize(8, 12)


@pytest.fixture
def examples(tmp_path):
    return read_data(class_folders(tmp_path, {"a": 5, "b": 6})).train


def passed(dataset):
    """One pass: images (n, H, W, 3) and labels."""
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def as_file(array, format="PNG", **options):
    file = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(file, format, **options)
    file.seek(0)
    return file


# One image.


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"height": 0}, "at least 1"),
        ({"mode": "fit"}, "mode out of crop"),
        ({"interpolation": "area"}, "'area'"),
    ],
)
def test_a_resize_that_cannot_be_is_refused(values, error):
    with pytest.raises(RecipeError, match=error):
        Resize(**{"height": 8, "width": 8, **values})


def test_lanczos_without_antialias_is_refused():
    with pytest.raises(RecipeError, match="antialias"):
        Resize(8, 8, interpolation="lanczos3", antialias=False)


def test_a_crop_takes_the_middle_and_a_pad_adds_black_bars_and_a_stretch_takes_all():
    # Columns of 10, 20, ... 60.
    wide = np.broadcast_to(np.arange(10, 70, 10, dtype=np.uint8)[None, :, None], (2, 6, 3)).copy()
    assert load_image(as_file(wide), Resize(2, 2))[0, :, 0].tolist() == [30, 40]
    stretched = load_image(as_file(wide), Resize(2, 3, "stretch"))[0, :, 0]
    # (3 * 10 + 3 * 20 + 1 * 30) / 7: a triangle twice as wide, as there are two pixels to one.
    assert stretched.tolist() == [17, 35, 53]
    padded = load_image(as_file(wide), Resize(6, 6, "pad"))[:, 0, 0]
    assert padded.tolist() == [0, 0, 10, 10, 0, 0]


PHOTOGRAPHS = sorted(FLOWERS.glob("train/*/*.jpg"))[::100]


@pytest.mark.skipif(not PHOTOGRAPHS, reason="needs ../shared/data/flowers")
@pytest.mark.parametrize(
    "resize",
    [
        Resize(96, 96),
        Resize(40, 40),  # decoded at half size
        Resize(97, 150, "pad"),
        Resize(40, 40, "pad"),
        Resize(97, 151, "stretch", antialias=False),
        Resize(96, 64, interpolation="bicubic"),
        Resize(600, 500, interpolation="bicubic", antialias=False),
        Resize(96, 64, "stretch", "lanczos3"),
        Resize(64, 96, interpolation="nearest", antialias=False),
    ],
    ids=str,
)
def test_a_photograph_comes_out_as_from_the_image_converter(resize):
    converter = keras_hub.layers.ImageConverter(
        image_size=(resize.height, resize.width),
        crop_to_aspect_ratio=resize.mode == "crop",
        pad_to_aspect_ratio=resize.mode == "pad",
        interpolation=resize.interpolation,
        antialias=resize.antialias,
    )
    for path in PHOTOGRAPHS:
        with Image.open(path) as image:
            whole = np.asarray(image.convert("RGB"), np.float32)
        expected = np.clip(keras.ops.convert_to_numpy(converter(whole)), 0, 255)
        assert np.abs(load_image(path, resize) - expected).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied(orientation):
    # A white corner that every orientation has to bring to the upper left.
    stored = {1: (0, 0), 2: (0, 2), 3: (1, 2), 4: (1, 0), 5: (0, 0), 6: (2, 0), 7: (2, 1), 8: (0, 1)}[
        orientation
    ]
    pixels = np.zeros((3, 2, 3) if orientation >= 5 else (2, 3, 3), np.uint8)
    pixels[stored] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = load_image(as_file(pixels, exif=exif), Resize(2, 3))
    assert np.argwhere(upright[..., 0]).tolist() == [[0, 0]]


def test_transparent_parts_come_out_white_and_half_transparent_ones_half():
    pixels = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 51]]], np.uint8)
    assert load_image(as_file(pixels), Resize(1, 3))[0, :, 0].tolist() == [255, 0, 204]


def test_a_transparent_palette_colour_comes_out_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    file = as_file(image, transparency=1)
    assert load_image(file, Resize(1, 2)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_sixteen_bits_are_scaled_and_not_clipped():
    grey = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert load_image(as_file(grey), Resize(1, 4))[0, :, 1].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK"])
def test_other_colour_modes_become_rgb(mode):
    image = Image.new("RGB", (4, 4), "white").convert(mode)
    pixels = load_image(as_file(image, "JPEG" if mode == "CMYK" else "PNG"), Resize(4, 4))
    assert pixels.shape == (4, 4, 3)
    assert pixels.min() >= 254


def test_of_an_animation_the_first_frame_is_taken():
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    file = as_file(red, "GIF", save_all=True, append_images=[blue])
    assert load_image(file, Resize(1, 1)).tolist() == [[[255, 0, 0]]]


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"x\.jpg, which cannot be decoded \(empty file\)"):
        load_image(tmp_path / "x.jpg", SMALL)
    with pytest.raises(DataError, match=r"which cannot be decoded \(not an image: it starts with text\)"):
        load_image(io.BytesIO(b"hello, hello, hello"), SMALL)


# The configuration.


@pytest.mark.parametrize(
    "values",
    [
        {"crop": (0.0, 1.0)},
        {"crop": (0.9, 0.5)},
        {"crop": (0.5, 1.1)},
        {"rotation": 181},
        {"mixup": -1},
        {"contrast": 2},
    ],
)
def test_an_augmentation_out_of_range_is_refused(values):
    with pytest.raises(RecipeError, match=f"Expected {next(iter(values))}"):
        Augmentation(**values)


def test_an_augmentation_survives_json_and_unknown_keys_are_named():
    augmentation = Augmentation(crop=(0.3, 0.9), mixup=0.2)
    assert Augmentation.from_dict(augmentation.to_dict()) == augmentation
    with pytest.raises(RecipeError, match="'zoom'"):
        Augmentation.from_dict({"zoom": 1})


# Varying a batch.

BATCH = np.random.default_rng(0).integers(0, 256, (16, 10, 12, 3), dtype=np.uint8)
NONE = Augmentation.none()


def varied(seed=(1, 2), images=BATCH, labels=(), **values):
    return augment(images, labels, seed, dataclasses.replace(NONE, **values))


def test_no_augmentation_only_converts():
    images, _ = varied()
    assert images.dtype == tf.float32
    np.testing.assert_array_equal(images, BATCH)


def test_a_flip_mirrors_some_images_exactly_and_leaves_the_others():
    images, _ = varied(flip=True)
    images = images.numpy()
    same = [np.array_equal(x, y) for x, y in zip(images, BATCH, strict=True)]
    mirrored = [np.array_equal(x, y[:, ::-1]) for x, y in zip(images, BATCH, strict=True)]
    assert all(np.logical_xor(same, mirrored))
    assert any(same)
    assert any(mirrored)


def test_a_crop_keeps_a_window_of_the_stated_area():
    # On a plane the step between pixels is the side of the window over the side of the image.
    plane = np.broadcast_to(np.arange(20.0, 220, 10)[None, :, None], (8, 20, 20, 3)).astype(np.float32)
    images, _ = varied(images=plane, crop=(0.25, 0.25))
    np.testing.assert_allclose(np.diff(images[:, :, 2:-2, 0], axis=2), 5, atol=1e-3)
    windows = images[:, 0, 10, 0].numpy()
    assert len(np.unique(windows.round(3))) == 8
    assert images.numpy().min() >= 15


def test_a_rotation_turns_no_further_than_stated_and_fills_the_corners():
    bright = np.full((64, 31, 31, 3), 200, np.uint8)
    bright[:, 15, 25:] = 0
    images, _ = varied(images=bright, rotation=45)
    images = images.numpy()
    # The dark bar pointed right: how far has its middle turned?
    y, x = np.mgrid[-15:16, -15:16]
    inside = (x**2 + y**2 > 81) & (x**2 + y**2 < 169)
    dark = (200 - images[..., 0]) * inside
    angles = np.degrees(np.arctan2((dark * y).sum((1, 2)), (dark * x).sum((1, 2))))
    assert np.abs(angles).max() < 46
    assert angles.min() < -25
    assert angles.max() > 25
    assert images[:, [0, 0, -1], [0, -1, 0]].min() > 100


def test_brightness_multiplies_contrast_keeps_the_mean_and_saturation_keeps_the_grey():
    middle = (BATCH // 4 + 96).astype(np.float32)
    bright = varied(images=middle, brightness=0.2)[0].numpy()
    ratio = bright / middle
    np.testing.assert_allclose(ratio, ratio[:, :1, :1, :1] * np.ones_like(ratio), rtol=1e-4)
    assert len(np.unique(ratio[:, 0, 0, 0].round(5))) == 16
    assert 0.79 < ratio.min() < ratio.max() < 1.21
    grey = tf.image.rgb_to_grayscale(middle).numpy()
    saturated = varied(images=middle, saturation=0.5)[0]
    np.testing.assert_allclose(tf.image.rgb_to_grayscale(saturated), grey, atol=0.05)
    contrasted = varied(images=middle, contrast=0.5)[0]
    means = tf.image.rgb_to_grayscale(contrasted).numpy().mean((1, 2, 3))
    np.testing.assert_allclose(means, grey.mean((1, 2, 3)), atol=0.05)
    assert np.abs(contrasted - middle).max() > 5


def test_everything_at_once_stays_in_0_to_255():
    full = Augmentation(True, (0.2, 1.0), 180, 1.0, 1.0, 1.0, 0.4, 1.0)
    images, _ = augment(BATCH, np.eye(16, dtype=np.float32), (3, 4), full)
    assert np.isfinite(images).all()
    assert images.numpy().min() >= 0
    assert images.numpy().max() <= 255


def test_mixup_shares_the_labels_as_it_shares_the_pixels():
    shades = np.arange(0, 160, 10, dtype=np.float32)
    flat = np.broadcast_to(shades[:, None, None, None], (16, 6, 6, 3))
    images, labels = varied(images=flat, labels=np.eye(16, dtype=np.float32), mixup=1.0)
    own = labels.numpy().diagonal()
    np.testing.assert_allclose(images[:, 2, 3, 1], labels.numpy() @ shades, atol=1e-3)
    np.testing.assert_allclose(labels.numpy().sum(1), 1, atol=1e-6)
    assert 0.5 <= own.min() < own.max() <= 1


def test_cutmix_pastes_a_box_and_shares_the_labels_by_its_area():
    shades = np.arange(16, dtype=np.float32)[:, None, None, None] * np.ones((1, 10, 10, 3), np.float32)
    images, labels = varied(images=shades, labels=np.eye(16, dtype=np.float32), cutmix=1.0)
    for index, (image, label) in enumerate(zip(images.numpy()[..., 0], labels.numpy(), strict=True)):
        pasted = image == (index - 1) % 16
        np.testing.assert_allclose(label[index - 1], pasted.mean(), atol=1e-6)
        box = pasted[np.ix_(pasted.any(1), pasted.any(0))]
        assert box.all()
        assert ((image == index) | pasted).all()


# The dataset.


def test_validation_keeps_the_order_drops_nothing_and_is_never_augmented(examples):
    dataset = image_dataset(examples, resize=SMALL, batch_size=4, augmentation=Augmentation())
    assert dataset.cardinality() == 3
    images, labels = passed(dataset)
    assert labels.tolist() == [0] * 5 + [1] * 6
    np.testing.assert_array_equal(images, np.stack([load_image(path, SMALL) for path in examples.inputs]))
    np.testing.assert_array_equal(passed(dataset)[0], images)


def test_the_types_and_shapes_are_those_of_the_contract(examples):
    contract = (tf.TensorSpec((None, 8, 12, 3)), tf.TensorSpec((None,), tf.int32))
    assert image_dataset(examples, resize=SMALL, batch_size=4).element_spec == contract
    training = image_dataset(examples, resize=SMALL, batch_size=4, training=True, augmentation=Augmentation())
    assert training.element_spec == contract
    mixed = Augmentation(mixup=0.2)
    for options in ({"one_hot": True}, {"training": True, "augmentation": mixed}):
        images, labels = next(iter(image_dataset(examples, resize=SMALL, batch_size=4, **options)))
        assert (labels.dtype, labels.shape, images.dtype) == (tf.float32, (4, 2), tf.float32)


@pytest.mark.parametrize("cache", [True, False])
def test_training_shuffles_each_pass_anew_and_sees_each_example_once(examples, cache):
    dataset = image_dataset(examples, resize=SMALL, batch_size=4, training=True, cache=cache)
    whole = {load_image(path, SMALL).tobytes() for path in examples.inputs}
    one, two = ([x.astype(np.uint8).tobytes() for x in passed(dataset)[0]] for _ in range(2))
    assert set(one) == set(two) == whole
    assert len(one) == len(two) == len(whole) == 11
    assert one != two


def test_the_labels_stay_with_their_images(examples):
    images, labels = passed(image_dataset(examples, resize=SMALL, batch_size=4, training=True))
    label_of = {
        load_image(p, SMALL).tobytes(): y for p, y in zip(examples.inputs, examples.labels, strict=True)
    }
    assert [label_of[x.astype(np.uint8).tobytes()] for x in images] == labels.tolist()


def test_one_seed_gives_the_same_passes_and_another_seed_others(examples):
    def two_passes(seed):
        dataset = image_dataset(
            examples,
            resize=SMALL,
            batch_size=4,
            training=True,
            augmentation=Augmentation(mixup=0.3),
            seed=seed,
        )
        return [passed(dataset) for _ in range(2)]

    once, other = two_passes(5), two_passes(6)
    tf.random.set_seed(99)
    for (images, labels), (images_again, labels_again) in zip(once, two_passes(5), strict=True):
        np.testing.assert_array_equal(images, images_again)
        np.testing.assert_array_equal(labels, labels_again)
    assert not np.array_equal(once[0][0], other[0][0])


def test_augmentation_differs_between_examples_and_between_passes(tmp_path):
    same = read_data(class_folders(tmp_path, {"a": 1, "b": 1})).train.subset([0] * 6)
    dataset = image_dataset(same, resize=SMALL, batch_size=3, training=True, augmentation=Augmentation())
    images = np.concatenate([passed(dataset)[0], passed(dataset)[0]])
    assert len({image.tobytes() for image in images}) == 12


def test_with_a_cache_files_are_read_once_and_without_it_each_time(examples):
    kept = image_dataset(examples, resize=SMALL, batch_size=4, cache="auto")
    read = image_dataset(examples, resize=SMALL, batch_size=4, cache=False)
    images = passed(kept)[0]
    passed(read)
    for path in examples.inputs:
        os.unlink(path)
    np.testing.assert_array_equal(passed(kept)[0], images)
    with pytest.raises(tf.errors.OpError, match="cannot be decoded"):
        passed(read)


def test_a_cache_over_the_budget_is_not_kept(examples, monkeypatch):
    monkeypatch.setattr("ktransfer.image.dataset.CACHE_SHARE", 0)
    dataset = image_dataset(examples, resize=SMALL, batch_size=4)
    passed(dataset)
    os.unlink(examples.inputs[0])
    with pytest.raises(tf.errors.OpError, match=r"000\.png, which cannot be decoded"):
        passed(dataset)


def test_a_disk_that_fills_up_costs_the_cache_and_nothing_else(examples, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    expected = passed(image_dataset(examples, resize=SMALL, batch_size=4))[0]
    monkeypatch.setattr("ktransfer.utils.files.os.pwrite", full)
    dataset = image_dataset(examples, resize=SMALL, batch_size=4)
    for _ in range(2):
        np.testing.assert_array_equal(passed(dataset)[0], expected)


def test_a_cache_folder_that_cannot_be_written_costs_the_cache_and_nothing_else(
    examples, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KTRANSFER_CACHE", str(tmp_path / "file" / "cache"))
    dataset = image_dataset(examples, resize=SMALL, batch_size=4, cache=True)
    for _ in range(2):
        assert len(passed(dataset)[0]) == len(examples)


def test_no_kept_pixels_are_left_behind(examples, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("KTRANSFER_CACHE", str(folder))
    dataset = image_dataset(examples, resize=SMALL, batch_size=4)
    passed(dataset)
    assert list(folder.iterdir()) == []  # it has no name while it is in use, so a kill leaves none


@pytest.mark.parametrize("first", [0, 2])
def test_passes_can_begin_at_a_later_epoch(examples, first):
    options = {"resize": SMALL, "batch_size": 4, "training": True, "augmentation": Augmentation()}
    whole, later = image_dataset(examples, **options), image_dataset(examples, first_pass=first, **options)
    for _ in range(first):
        passed(whole)
    np.testing.assert_array_equal(passed(later)[0], passed(whole)[0])


def test_file_names_that_are_not_utf8_are_read(tmp_path):
    class_folders(tmp_path, {"b": 1})
    try:
        draw(tmp_path / "a" / os.fsdecode(b"\xe9 \xff.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert len(passed(image_dataset(read_data(tmp_path).train, resize=SMALL, batch_size=2))[0]) == 2


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 2, "cache": "disk"}])
def test_options_that_cannot_be_are_refused(examples, options):
    with pytest.raises(DataError, match=", got "):
        image_dataset(examples, resize=SMALL, **options)
