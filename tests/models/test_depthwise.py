import exporting
import keras
import numpy as np
import pytest
import zoo

from ktransfer.exporting.export_model import FORMATS, export_model
from ktransfer.image.backbones import load_backbone
from ktransfer.models.depthwise import use_depthwise

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(2, 32, 32, 3)).astype("float32")


def grouped(filters, channels=6, **options):
    inputs = keras.Input((9, 9, channels))
    options = {"groups": channels, "kernel_size": 3, "padding": "same"} | options
    return keras.Model(inputs, keras.layers.Conv2D(filters, bias_initializer="ones", **options)(inputs))


@pytest.mark.parametrize(
    "name", ["mobilenet", "cspnet", "hgnetv2", "efficientnet_v1", "xception", "resnet_v1"]
)
def test_a_backbone_answers_as_before(name):
    network = zoo.BACKBONES[name]()
    before = keras.tree.map_structure(keras.ops.convert_to_numpy, network(IMAGES, training=False))
    count = use_depthwise(network)
    after = keras.tree.map_structure(keras.ops.convert_to_numpy, network(IMAGES, training=False))
    keras.tree.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), before, after)
    assert count == {"mobilenet": 5, "hgnetv2": 1}.get(name, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"filters": 6},
        {"filters": 12},
        {"filters": 6, "strides": 2},
        {"filters": 6, "padding": "valid", "kernel_size": (3, 5)},
        {"filters": 6, "dilation_rate": 2},
        {"filters": 6, "activation": "relu"},
    ],
)
def test_a_grouped_convolution_of_one_channel_each_is_a_depthwise_one(options):
    model = grouped(**options)
    inputs = rng.normal(size=(2, 9, 9, 6)).astype("float32")
    before = keras.ops.convert_to_numpy(model(inputs))
    assert use_depthwise(model) == 1
    np.testing.assert_allclose(model(inputs), before, atol=1e-5)


@pytest.mark.parametrize("options", [{"filters": 6, "groups": 3}, {"filters": 6, "groups": 1}])
def test_other_convolutions_are_left_alone(options):
    model = grouped(**options)
    assert use_depthwise(model) == 0
    assert "convolution_op" not in vars(model.layers[-1])


def test_a_stride_tensorflow_has_no_depthwise_kernel_for_is_left_alone():
    assert use_depthwise(grouped(6, strides=(1, 2))) == 0


def test_a_training_step_gives_the_same_weights():
    plain, fast = grouped(12), grouped(12)
    fast.set_weights(plain.get_weights())
    use_depthwise(fast)
    inputs, targets = rng.normal(size=(4, 9, 9, 6)), rng.normal(size=(4, 9, 9, 12))
    for model in (plain, fast):
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(inputs.astype("float32"), targets.astype("float32"))
    for one, other in zip(plain.get_weights(), fast.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_is_saved_is_what_would_have_been_saved(tmp_path):
    network = zoo.mobilenet()
    config, answer = network.get_config(), keras.ops.convert_to_numpy(network(IMAGES, training=False))
    use_depthwise(network)
    assert network.get_config() == config
    network.save(tmp_path / "network.keras")
    again = keras.models.load_model(tmp_path / "network.keras")
    assert not any("convolution_op" in vars(layer) for layer in again._flatten_layers())
    np.testing.assert_allclose(again(IMAGES, training=False), answer, atol=1e-5)


@pytest.mark.spread("onnx")
@pytest.mark.parametrize("format", FORMATS)
def test_no_exported_format_is_worse_for_it(format, tmp_path):
    sizes = []
    for fast in (False, True):
        network = zoo.mobilenet()
        if fast:
            use_depthwise(network)
        # Raises where the artifact answers otherwise than the model.
        artifact = export_model(
            exporting.classifier(network),
            tmp_path / str(fast),
            format,
            class_names=exporting.CLASSES,
            examples=exporting.pixels(4),
        )
        sizes.append(artifact.size_bytes)
    assert sizes[1] < sizes[0] + 2_500 * 5  # of five convolutions the description, not the weights


def test_a_loaded_preset_has_it_unless_refused(mobilenet_preset):
    images = rng.normal(size=(1, 96, 96, 3)).astype("float32")
    fast = load_backbone(str(mobilenet_preset))[0]
    plain = load_backbone(str(mobilenet_preset), fast_depthwise=False)[0]
    assert use_depthwise(fast) == 18
    expected = keras.ops.convert_to_numpy(plain(images, training=False))
    np.testing.assert_allclose(fast(images, training=False), expected, atol=1e-5 * np.abs(expected).max())
    assert not any("convolution_op" in vars(layer) for layer in plain._flatten_layers())
