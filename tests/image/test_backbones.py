import json
import zipfile

import keras
import keras_hub
import numpy as np
import pytest
import zoo

from ktransfer.errors import BackboneError, RecipeError
from ktransfer.image.backbones import SCALINGS, Preprocessing, load_backbone
from ktransfer.image.decoding import Resize
from ktransfer.models.presets import list_backbones

CONVERTERS = {
    "cspnet": keras_hub.layers.CSPNetImageConverter,
    "deit": keras_hub.layers.DeiTImageConverter,
    "densenet": keras_hub.layers.DenseNetImageConverter,
    "dinov2": keras_hub.layers.DINOV2ImageConverter,
    "efficientnet_v1": keras_hub.layers.EfficientNetImageConverter,
    "hgnetv2": keras_hub.layers.HGNetV2ImageConverter,
    "mit": keras_hub.layers.MiTImageConverter,
    "mobilenet": keras_hub.layers.MobileNetImageConverter,
    "resnet_v2": keras_hub.layers.ResNetImageConverter,
    "swin": keras_hub.layers.SwinTransformerImageConverter,
    "vgg": keras_hub.layers.VGGImageConverter,
    "vit": keras_hub.layers.ViTImageConverter,
    "xception": keras_hub.layers.XceptionImageConverter,
}
SCALE, OFFSET = [0.01, 0.02, 0.03], [-1.0, 0.0, 0.5]


def save_preset(folder, name="resnet_v2", **options):
    """A preset folder around a tiny backbone, as its own `save_to_preset` writes it."""
    options = {"image_size": (32, 32), "scale": SCALE, "offset": OFFSET} | options
    backbone = zoo.BACKBONES[name]()
    # As its configuration describes it: EfficientNet's leaves `num_features` out, and reads back the default.
    backbone = type(backbone).from_config(backbone.get_config())
    backbone.save_to_preset(str(folder))
    CONVERTERS[name](**options).save_to_preset(str(folder))
    return backbone


def save_file(path, *layers, size=None):
    images = keras.Input((size, size, 3))
    features = keras.layers.Conv2D(4, 3)(images)
    for layer in layers:
        features = layer(features)
    keras.Model(images, features).save(path)
    return path


def assert_same_weights(ours, theirs):
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        a, expected = keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b)
        np.testing.assert_array_equal(a, expected, err_msg=b.path)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resnet")
    save_preset(folder, image_size=(48, 40))
    return folder


@pytest.mark.spread(5)
@pytest.mark.parametrize("name", sorted(CONVERTERS))
def test_a_preset_folder_gives_its_weights_and_what_its_converter_does_to_pixels(tmp_path, name):
    saved = save_preset(tmp_path, name)
    backbone, preprocessing = load_backbone(str(tmp_path))
    assert_same_weights(backbone, saved)
    converter = keras_hub.layers.ImageConverter.from_preset(str(tmp_path))
    assert type(converter) is CONVERTERS[name]
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(
        pixels * preprocessing.scale + preprocessing.offset,
        keras.ops.convert_to_numpy(converter(pixels)),
        atol=1e-5,
    )
    assert preprocessing == Preprocessing(
        Resize(32, 32, mode="crop", interpolation="bilinear", antialias=False), SCALE, OFFSET
    )


def test_a_preset_gives_its_own_size_unless_another_is_asked_for(preset):
    def size(**options):
        resize = load_backbone(preset, **options)[1].resize
        return resize.height, resize.width

    assert size() == (48, 40)
    assert size(image_size=64) == (64, 64)
    assert size(image_size=(64, 32)) == (64, 32)


@pytest.mark.parametrize("size", ["large", [48], [48, "40"], 48])
def test_a_preset_whose_size_is_none_is_refused(tmp_path, size):
    save_preset(tmp_path)
    path = tmp_path / "image_converter.json"
    values = json.loads(path.read_text())
    values["config"]["image_size"] = size
    path.write_text(json.dumps(values))
    with pytest.raises(BackboneError, match=r"image converter"):
        load_backbone(tmp_path)


def test_a_preset_whose_converter_is_of_no_class_is_refused(tmp_path):
    save_preset(tmp_path)
    (tmp_path / "image_converter.json").write_text('{"image_size": [48, 40]}')
    with pytest.raises(BackboneError, match=r"Expected an image converter in the preset"):
        load_backbone(tmp_path)


def test_a_converter_that_names_no_figures_leaves_pixels_alone(tmp_path):
    save_preset(tmp_path, scale=None, offset=None, image_size=None)
    preprocessing = load_backbone(tmp_path)[1]
    assert (preprocessing.scale, preprocessing.offset) == ([1.0] * 3, [0.0] * 3)
    assert (preprocessing.resize.height, preprocessing.resize.width) == (224, 224)


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({"crop_to_aspect_ratio": True}, "crop"),
        ({"crop_to_aspect_ratio": False, "pad_to_aspect_ratio": True}, "pad"),
        ({"crop_to_aspect_ratio": False}, "stretch"),
    ],
)
def test_the_way_a_preset_resizes_is_kept(tmp_path, options, mode):
    save_preset(tmp_path, interpolation="bicubic", antialias=True, **options)
    resize = load_backbone(tmp_path)[1].resize
    assert resize == Resize(32, 32, mode=mode, interpolation="bicubic", antialias=True)


def test_the_resnet_preset_scales_as_worked_out_by_hand(resnet_preset):
    """Its own mean and deviation: red 0 goes to -0.45222 / 0.28551, red 255 to 0.54778 / 0.28551."""
    preprocessing = load_backbone(resnet_preset)[1]
    scale, offset = np.array(preprocessing.scale), np.array(preprocessing.offset)
    np.testing.assert_allclose(offset, [-1.583894, -1.526455, -1.337424], atol=1e-5)
    np.testing.assert_allclose(255 * scale + offset, [1.918567, 2.059256, 2.204778], atol=1e-5)


def test_the_mobilenet_preset_scales_as_worked_out_by_hand(mobilenet_preset):
    """ImageNet's mean and standard deviation: red 0 goes to -0.485 / 0.229, 255 to 0.515 / 0.229."""
    preprocessing = load_backbone(mobilenet_preset)[1]
    scale, offset = np.array(preprocessing.scale), np.array(preprocessing.offset)
    np.testing.assert_allclose(offset, [-2.117904, -2.035714, -1.804444], atol=1e-5)
    np.testing.assert_allclose(255 * scale + offset, [2.248908, 2.428571, 2.640000], atol=1e-5)
    np.testing.assert_allclose(
        np.array([124, 116, 104]) * scale + offset, [0.005565, -0.004902, 0.008192], atol=1e-5
    )


@pytest.mark.parametrize(
    ("scaling", "pixel", "expected"),
    [
        ("none", (124, 116, 104), (124, 116, 104)),
        ("0..1", (0, 51, 255), (0, 0.2, 1)),
        ("-1..1", (0, 127.5, 255), (-1, 0, 1)),
        ("imagenet", (0, 0, 0), (-2.117904, -2.035714, -1.804444)),
        ("imagenet", (124, 116, 104), (0.005565, -0.004902, 0.008192)),
        ("imagenet", (255, 255, 255), (2.248908, 2.428571, 2.640000)),
    ],
)
def test_the_named_scalings_are_what_was_worked_out_by_hand(scaling, pixel, expected):
    scale, offset = SCALINGS[scaling]
    np.testing.assert_allclose(np.array(pixel) * scale + offset, expected, atol=1e-5)


def test_preprocessing_survives_json():
    before = Preprocessing(Resize(32, 48, mode="pad"), SCALE, OFFSET)
    assert Preprocessing.from_dict(json.loads(json.dumps(before.to_dict()))) == before


def test_random_weights_are_not_the_presets(preset):
    def kernel(**options):
        return keras.ops.convert_to_numpy(load_backbone(preset, **options)[0].weights[0])

    assert np.array_equal(kernel(), kernel())
    assert not np.array_equal(kernel(), kernel(load_weights=False))


def test_a_vit_takes_its_own_size_and_refuses_one_its_weights_do_not_fit(tmp_path):
    save_preset(tmp_path, "vit")
    assert load_backbone(tmp_path, image_size=32)[0].input.shape[1:3] == (32, 32)
    with pytest.raises(BackboneError, match=r"images of 32 by 32 pixels for .*, got 64 by 64"):
        load_backbone(tmp_path, image_size=64)


def test_a_vit_without_weights_is_built_for_the_size_asked_for(tmp_path):
    save_preset(tmp_path, "vit")
    backbone, preprocessing = load_backbone(tmp_path, image_size=64, load_weights=False)
    assert backbone.input.shape[1:3] == (64, 64)
    assert preprocessing.resize.height == 64


def test_a_fixed_size_that_the_weights_do_not_depend_on_is_rebuilt_with_them(tmp_path):
    saved = save_preset(tmp_path, "mit")
    backbone, _ = load_backbone(tmp_path, image_size=64)
    assert backbone.input.shape[1:3] == (64, 64)
    assert_same_weights(backbone, saved)


@pytest.mark.parametrize("size", [0, -5, (32, 0)])
def test_a_size_that_is_not_positive_is_refused(preset, size):
    with pytest.raises(RecipeError, match="at least 1 by 1 pixels"):
        load_backbone(preset, image_size=size)


def test_a_misspelt_name_is_answered_with_the_nearest_ones():
    with pytest.raises(BackboneError, match=r"'resnet_50_imagnet'.*Did you mean resnet_50_imagenet"):
        load_backbone("resnet_50_imagnet")


def test_a_name_like_no_other_is_answered_with_where_to_look():
    with pytest.raises(BackboneError, match="`ktransfer backbones` lists the names"):
        load_backbone("no/such/folder")


def test_a_hub_handle_without_network_is_one_sentence(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BackboneError, match=r"'hf://x/y'.*Check the name, the network") as raised:
        load_backbone("hf://x/y")
    assert "\n" not in str(raised.value)
    assert ".." not in str(raised.value)


def test_a_text_preset_is_refused_by_name_before_anything_is_fetched():
    with pytest.raises(BackboneError, match=r"image preset.*'bert_tiny_en_uncased'"):
        load_backbone("bert_tiny_en_uncased")


def test_a_text_backbone_is_refused(tmp_path):
    keras_hub.models.BertBackbone(
        vocabulary_size=9, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
    ).save_to_preset(str(tmp_path))
    with pytest.raises(BackboneError, match=r"image converter.*BertBackbone"):
        load_backbone(tmp_path)


def test_a_folder_that_is_no_preset_is_refused(tmp_path):
    with pytest.raises(BackboneError, match=r"folder with config\.json.*save_to_preset"):
        load_backbone(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "image_converter.json"])
@pytest.mark.parametrize("text", ["{not json", "[]", "{}"])
def test_a_broken_json_file_of_a_preset_is_a_backbone_error(tmp_path, file, text):
    save_preset(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(BackboneError, match=f"{tmp_path.name}.*files of a local folder"):
        load_backbone(tmp_path)


def test_truncated_weights_are_a_backbone_error(tmp_path):
    save_preset(tmp_path)
    weights = tmp_path / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(BackboneError, match=r"Expected a backbone .*truncated"):
        load_backbone(tmp_path)


def test_a_preset_does_not_take_a_scaling(preset):
    with pytest.raises(BackboneError, match=r"no scaling for a preset.*'0..1'"):
        load_backbone(preset, scaling="0..1")


def test_a_converter_that_mixes_pixels_is_refused(tmp_path, monkeypatch):
    save_preset(tmp_path)
    call = keras_hub.layers.ResNetImageConverter.call
    monkeypatch.setattr(
        keras_hub.layers.ResNetImageConverter, "call", lambda self, x: keras.ops.square(call(self, x))
    )
    with pytest.raises(BackboneError, match=r"scales each channel by itself.*ResNetImageConverter"):
        load_backbone(tmp_path)


def test_a_keras_file_brings_its_size_and_the_scaling_that_is_said(tmp_path):
    path = save_file(tmp_path / "net.keras", size=32)
    backbone, preprocessing = load_backbone(path, scaling="-1..1")
    assert backbone.output.shape == (None, 30, 30, 4)
    assert preprocessing == Preprocessing(Resize(32, 32, mode="crop", antialias=True), 1 / 127.5, -1.0)


def test_a_keras_file_of_any_size_takes_the_one_asked_for(tmp_path):
    path = save_file(tmp_path / "net.keras")
    assert load_backbone(path, scaling="none")[1].resize.height == 224
    assert load_backbone(path, scaling="none", image_size=96)[1].resize.height == 96


def test_a_keras_file_of_one_size_refuses_another(tmp_path):
    path = save_file(tmp_path / "net.keras", size=32)
    with pytest.raises(BackboneError, match=r"images of 32 by 32 pixels for .*, got 64 by 64"):
        load_backbone(path, scaling="none", image_size=64)


@pytest.mark.parametrize("scaling", [None, "caffe"])
def test_a_keras_file_without_a_known_scaling_is_refused(tmp_path, scaling):
    path = save_file(tmp_path / "net.keras")
    with pytest.raises(BackboneError, match=r"none, 0..1, -1..1, imagenet"):
        load_backbone(path, scaling=scaling)


@pytest.mark.parametrize("last", [keras.layers.Dense(3, name="top"), keras.layers.Softmax(name="top")])
def test_a_keras_file_with_its_classifier_is_refused(tmp_path, last):
    path = save_file(tmp_path / "net.keras", keras.layers.GlobalAveragePooling2D(), last)
    with pytest.raises(BackboneError, match=r"without its classifier.*ends in top"):
        load_backbone(path, scaling="none")


def test_a_keras_file_for_grey_images_is_refused(tmp_path):
    images = keras.Input((8, 8, 1))
    keras.Model(images, keras.layers.Conv2D(4, 3)(images)).save(tmp_path / "grey.keras")
    with pytest.raises(BackboneError, match=r"RGB images.*\(None, 8, 8, 1\)"):
        load_backbone(tmp_path / "grey.keras", scaling="none")


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_keras_file_of_an_unbuilt_model_is_refused(tmp_path):
    keras.Sequential([keras.layers.Conv2D(4, 3)]).save(tmp_path / "net.keras")
    with pytest.raises(BackboneError, match=r"RGB images.*no known input"):
        load_backbone(tmp_path / "net.keras", scaling="none")


def test_a_missing_keras_file_is_named(tmp_path):
    with pytest.raises(BackboneError, match=r"net\.keras, which does not exist"):
        load_backbone(tmp_path / "net.keras", scaling="none")


def test_a_damaged_keras_file_is_a_backbone_error(tmp_path):
    path = save_file(tmp_path / "net.keras")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BackboneError, match=r"Expected a Keras model in .*net\.keras"):
        load_backbone(path, scaling="none")


def test_a_keras_file_with_a_flipped_byte_is_a_backbone_error(tmp_path):
    path = save_file(tmp_path / "net.keras")
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("model.weights.h5").header_offset
    content = bytearray(path.read_bytes())
    content[start + 500] ^= 255
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=r"Expected a Keras model in .*net\.keras"):
        load_backbone(path, scaling="none")


def test_the_list_is_sorted_complete_and_within_the_limit():
    rows = list_backbones()
    assert [row["parameters"] for row in rows] == sorted(row["parameters"] for row in rows)
    assert {"resnet_50_imagenet", "dinov2_small", "mobilenet_v3_small_050_imagenet"} <= {
        r["name"] for r in rows
    }
    assert set(rows[0]) == {"name", "family", "parameters", "description"}
    few = list_backbones(max_params=3_000_000)
    assert 0 < len(few) < len(rows)
    assert few == [row for row in rows if row["parameters"] <= 3_000_000]


def test_every_listed_image_backbone_is_a_name_that_can_be_loaded():
    known = set(keras_hub.layers.ImageConverter.presets)
    assert {row["name"] for row in list_backbones()} <= known


def test_text_backbones_are_listed_apart():
    families = {row["family"] for row in list_backbones("text")}
    assert "bert" in families
    assert "resnet" not in families


def test_an_unknown_task_is_refused():
    with pytest.raises(BackboneError, match=r'"image" or "text", got \'audio\''):
        list_backbones("audio")
