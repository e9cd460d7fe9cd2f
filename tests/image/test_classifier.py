import keras
import numpy as np
import pytest
import zoo

from ktransfer.errors import BackboneError
from ktransfer.image.backbones import Preprocessing
from ktransfer.image.classifier import backbone_features, build_classifier
from ktransfer.image.decoding import Resize
from ktransfer.models.predict import predict_in_batches

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
UNIT = Preprocessing(Resize(32, 32), 1 / 255, 0.0)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def pass_through(shape=(32, 32, 3)):
    """A backbone whose features are the pixels it is given."""
    images = keras.Input(shape)
    return keras.Model(images, keras.layers.Identity()(images))


@pytest.mark.spread(6)
@pytest.mark.parametrize("name", sorted(zoo.BACKBONES))
def test_raw_pixels_become_logits_through_the_right_pooling(name):
    backbone = zoo.BACKBONES[name]()
    model = build_classifier(backbone, 3, UNIT)
    assert numpy(model(IMAGES, training=False)).shape == (2, 3)
    assert np.isfinite(numpy(model(IMAGES, training=False))).all()

    features = numpy(backbone_features(backbone, keras.ops.convert_to_tensor(IMAGES / 255)))
    if name in ("vit", "deit", "dinov2"):
        expected = features[:, 0]  # the class token
    elif name == "swin":
        expected = features.mean(axis=1)
    else:
        expected = features.mean(axis=(1, 2))
    pooled = keras.Model(model.input, model.get_layer("pooled").output)
    np.testing.assert_allclose(numpy(pooled(IMAGES, training=False)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 64), (48, 80)])
def test_a_class_token_is_told_from_patches_of_images_that_are_not_square(size):
    options = {"image_shape": (*size, 3), "hidden_dim": 4, "num_heads": 1, "num_layers": 1}
    vit = zoo.keras_hub.models.ViTBackbone(patch_size=16, mlp_dim=4, **options)
    swin = zoo.keras_hub.models.SwinTransformerBackbone(
        image_shape=(*size, 3), embed_dim=4, depths=(1,), num_heads=(1,), window_size=4
    )
    preprocessing = Preprocessing(Resize(*size), 1 / 255, 0.0)
    images = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype("float32")
    for backbone, expected in ((vit, lambda f: f[:, 0]), (swin, lambda f: f.mean(axis=1))):
        model = build_classifier(backbone, 2, preprocessing)
        pooled = keras.Model(model.input, model.get_layer("pooled").output)
        features = numpy(backbone(keras.ops.convert_to_tensor(images / 255)))
        np.testing.assert_allclose(numpy(pooled(images)), expected(features), rtol=1e-4, atol=1e-5)


def test_scaling_happens_inside_and_is_the_one_worked_out_by_hand():
    preprocessing = Preprocessing(Resize(32, 32), [0.01, 0.02, 0.04], [-1.0, 0.0, 0.5])
    model = build_classifier(pass_through(), 3, preprocessing)
    model.get_layer("logits").set_weights([np.eye(3), np.zeros(3)])
    pixels = np.broadcast_to(np.array([0, 100, 255], "float32"), (1, 32, 32, 3))
    np.testing.assert_allclose(numpy(model(pixels)), [[-1.0, 2.0, 10.7]], rtol=1e-4)


def test_features_are_standardised_before_the_last_layer():
    model = build_classifier(pass_through(), 3, Preprocessing(Resize(32, 32), 1.0, 0.0))
    model.get_layer("feature_norm").set_weights([np.array([100.0, 0, 0]), np.array([25.0, 1, 1])])
    model.get_layer("logits").set_weights([np.eye(3), np.zeros(3)])
    pixels = np.broadcast_to(np.array([110, 7, 0], "float32"), (1, 32, 32, 3))
    np.testing.assert_allclose(numpy(model(pixels, training=True)), [[2.0, 7.0, 0.0]], rtol=1e-5)


def test_dropout_acts_in_training_only():
    model = build_classifier(pass_through(), 3, UNIT, dropout=0.5)
    calm = [numpy(model(IMAGES, training=False)) for _ in range(2)]
    shaken = [numpy(model(IMAGES, training=True)) for _ in range(4)]
    np.testing.assert_array_equal(*calm)
    assert any(not np.allclose(outputs, calm[0]) for outputs in shaken)
    assert "dropout" not in [layer.name for layer in build_classifier(pass_through(), 3, UNIT).layers]


def test_the_seed_decides_the_first_weights_of_the_head():
    def kernel(seed):
        return numpy(build_classifier(pass_through(), 3, UNIT, seed=seed).get_layer("logits").kernel)

    np.testing.assert_array_equal(kernel(1), kernel(1))
    assert not np.array_equal(kernel(1), kernel(2))


@pytest.mark.parametrize(
    "name",
    [
        "resnet_v2",
        "mobilenet",
        "vit",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("dinov2", "swin")),
    ],
)
def test_a_saved_classifier_answers_as_before(tmp_path, name):
    model = build_classifier(zoo.BACKBONES[name](), 3, UNIT, dropout=0.1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(
        numpy(loaded(IMAGES, training=False)), numpy(model(IMAGES, training=False)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["mobilenet", "vit"])
def test_under_mixed_precision_the_backbone_is_half_and_the_head_whole(name):
    keras.config.set_dtype_policy("mixed_float16")
    backbone = zoo.BACKBONES[name]()
    model = build_classifier(backbone, 3, UNIT)
    assert str(keras.backend.standardize_dtype(backbone_features(backbone, IMAGES).dtype)) == "float16"
    logits = numpy(model(IMAGES, training=False))
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()
    assert model.get_layer("feature_norm").compute_dtype == "float32"


def test_of_several_outputs_the_deepest_is_taken():
    images = keras.Input((32, 32, 3))
    shallow = keras.layers.Conv2D(4, 1)(images)
    deep = keras.layers.Conv2D(6, 1)(shallow)
    for outputs in ({"z_shallow": shallow, "a_deep": deep}, [shallow, deep]):
        assert backbone_features(keras.Model(images, outputs), IMAGES).shape[-1] == 6


def test_batches_of_any_length_are_answered_in_order_and_one_size_is_compiled():
    images = keras.Input((2,))
    model = keras.Model(images, keras.layers.Rescaling(2.0)(images))
    sizes, predict = [], model.predict_on_batch
    model.predict_on_batch = lambda batch: sizes.append(len(batch)) or predict(batch)
    rows = np.arange(14, dtype="float32").reshape(7, 2)
    np.testing.assert_array_equal(
        np.concatenate(list(predict_in_batches(model, [rows[:3], rows[3:6], rows[6:]]))), 2 * rows
    )
    assert sizes == [3, 3, 3]


def test_features_that_cannot_be_pooled_are_refused_by_shape():
    images = keras.Input((32, 32, 3))
    backbone = keras.Model(images, keras.layers.Reshape((32, 4, 8, 3))(images))
    with pytest.raises(BackboneError, match=r"got shape \(None, 32, 4, 8, 3\)"):
        build_classifier(backbone, 3, UNIT)
