"""Models in all the forms in which people write them, through two stages of one `fit`: the same test for each."""

import keras
import numpy as np
import pytest
import text_zoo
from unfreezing import run_eagerly, run_in_graphs, run_under, same, snapshot

from ktransfer.models.blocks import sublayers
from ktransfer.recipes.recipe import Stage
from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing

SIDE, CLASSES, COUNT = 16, 3, 12
rng = np.random.default_rng(1)
IMAGES = rng.uniform(0, 1, (COUNT, SIDE, SIDE, 3)).astype("float32")
LABELS = rng.integers(0, CLASSES, COUNT)
layers = keras.layers
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

# Traced as Keras does by itself; the others without graphs, and with them among the slow tests.
IN_GRAPHS = (
    *(f"test_frozen_stays_unfrozen_moves_and_what_is_saved_loads[{form}]" for form in ("nested", "shared")),
    "test_frozen_stays_unfrozen_moves_and_what_is_saved_loads[sequential_unbuilt]",
    "test_frozen_stays_unfrozen_moves_and_what_is_saved_loads[subclassed_uncalled]",
    "test_every_family",
)


@pytest.fixture(autouse=True)
def _eagerly(request, monkeypatch):
    if not request.node.name.startswith(IN_GRAPHS):
        run_eagerly(monkeypatch)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs are of TensorFlow")
def test_all_of_it_in_graphs():
    run_in_graphs("test_every_model")


def base(name="base", **options):
    """Convolutions with BatchNorm, as keras.applications has them."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = inputs
    for index in range(3):
        x = layers.Conv2D(4, 3, padding="same", name=f"{name}_conv{index}")(x)
        x = layers.BatchNormalization(name=f"{name}_bn{index}")(x)
        x = layers.ELU(name=f"{name}_relu{index}")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D(name=f"{name}_pool")(x), name=name, **options)


def nested():
    inner, images = base(), keras.Input((SIDE, SIDE, 3))
    return keras.Model(images, layers.Dense(CLASSES)(inner(images))), inner, inner


def nested_by_name():
    model, inner, _ = nested()
    return model, "base", inner


def unnested():
    """The Kaggle standard."""
    inner = base()
    return keras.Model(inner.input, layers.Dense(CLASSES)(inner.output)), inner, inner


def unnested_input_tensor():
    """keras-io's EfficientNet example: `input_tensor=inputs`, augmentation in front."""
    images = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1.0)(images)
    inner = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_tensor=x, alpha=0.35, pooling="avg"
    )
    return keras.Model(images, layers.Dense(CLASSES, name="pred")(inner.output)), inner, inner


def unnested_as_layers():
    model, inner, _ = unnested()
    return model, model.layers[:-1], inner


def unnested_as_names():
    model, inner, _ = unnested()
    return model, ("base_conv0", "base_pool"), inner


def sequential():
    inner = base()
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), inner, layers.Dense(CLASSES)]), inner, inner


def sequential_unbuilt():
    inner = base()
    return keras.Sequential([inner, layers.Dropout(0.1), layers.Dense(CLASSES)]), inner, inner


class Subclassed(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.head = inner, layers.Dense(CLASSES)

    def call(self, images, training=None):
        return self.head(self.inner(images, training=training))


def subclassed():
    model = Subclassed(base())
    model(IMAGES[:1])
    return model, model.inner, model.inner


def subclassed_uncalled():
    model = Subclassed(base())
    return model, model.inner, model.inner


def subclassed_by_name():
    model = Subclassed(base())
    model(IMAGES[:1])
    return model, "base", model.inner


def several_inputs_and_outputs():
    inner, image, other = base(), keras.Input((SIDE, SIDE, 3), name="image"), keras.Input((2,), name="other")
    x = layers.Concatenate()([inner(image), other])
    outputs = {"one": layers.Dense(CLASSES, name="one")(x), "two": layers.Dense(CLASSES, name="two")(x)}
    return keras.Model({"image": image, "other": other}, outputs), inner, inner


def shared():
    """Siamese: one backbone, called twice."""
    inner, left, right = base(), keras.Input((SIDE, SIDE, 3)), keras.Input((SIDE, SIDE, 3))
    x = layers.Subtract()([inner(left), inner(right)])
    return keras.Model([left, right], layers.Dense(CLASSES)(x)), inner, inner


def two_of_a_kind():
    """Two views, each with a backbone of the same architecture and the same names."""
    one, other = base(), base()
    other.name = "other"
    left, right = keras.Input((SIDE, SIDE, 3)), keras.Input((SIDE, SIDE, 3))
    x = layers.Concatenate()([one(left), other(right)])
    other.trainable = False
    return keras.Model([left, right], layers.Dense(CLASSES)(x)), one, one


def time_distributed():
    inner, clip = base(), keras.Input((2, SIDE, SIDE, 3))
    x = layers.GlobalAveragePooling1D()(layers.TimeDistributed(inner, name="frames")(clip))
    return keras.Model(clip, layers.Dense(CLASSES)(x)), inner, inner


def time_distributed_frozen_by_name():
    model, inner, _ = time_distributed()
    model.get_layer("frames").trainable = False
    return model, "frames", inner


def one_level_deeper():
    inner, images = base(), keras.Input((SIDE, SIDE, 3))
    encoder = keras.Model(images, layers.Dense(5, name="projection")(inner(images)), name="encoder")
    inputs = keras.Input((SIDE, SIDE, 3))
    return keras.Model(inputs, layers.Dense(CLASSES)(encoder(inputs))), "base", inner


def backbone_is_sequential():
    inner = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalMaxPooling2D(),
        ],
        name="cnn",
    )
    images = keras.Input((SIDE, SIDE, 3))
    return keras.Model(images, layers.Dense(CLASSES)(inner(images))), inner, inner


def pretrained_application():
    inner = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.35, pooling="max"
    )
    images = keras.Input((SIDE, SIDE, 3))
    x = layers.Resizing(32, 32)(images)
    return keras.Model(images, layers.Dense(CLASSES)(inner(x, training=False))), inner, inner


MODELS = [
    *(nested, nested_by_name, unnested, unnested_input_tensor, unnested_as_layers, unnested_as_names),
    *(sequential, sequential_unbuilt, subclassed, subclassed_uncalled, subclassed_by_name),
    *(several_inputs_and_outputs, shared, two_of_a_kind, time_distributed, time_distributed_frozen_by_name),
    *(one_level_deeper, backbone_is_sequential, pretrained_application),
]


def data_for(make):
    inputs, labels = IMAGES, LABELS
    if make in (shared, two_of_a_kind):
        inputs = [IMAGES, IMAGES[::-1].copy()]
    elif make is several_inputs_and_outputs:
        inputs = {"image": IMAGES, "other": rng.normal(size=(COUNT, 2)).astype("float32")}
        labels = {"one": LABELS, "two": LABELS}
    elif make in (time_distributed, time_distributed_frozen_by_name):
        inputs = np.stack([IMAGES, IMAGES[::-1]], axis=1)
    return inputs, labels


class Keep(keras.callbacks.Callback):
    """The backbone's weights at each epoch's beginning, and at its end, before the best ones are restored."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.weights, self.ends = backbone, [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.weights.append(snapshot(self.backbone.weights))

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(snapshot(self.backbone.weights))


def check(model, given, backbone, inputs, labels, tmp_path, *, saved=True, rate=1e-2):
    optimizer = keras.optimizers.Adam(rate)
    model.compile(optimizer, {"one": LOSS, "two": LOSS} if isinstance(labels, dict) else LOSS)
    keep = Keep(backbone)
    stages = [Stage(depth=0, epochs=1), Stage(depth="all", epochs=1)]
    callback = ProgressiveUnfreezing(given, stages, verbose=0)
    history = model.fit(
        inputs,
        labels,
        batch_size=4,
        epochs=2,
        verbose=0,
        callbacks=[keep, callback],
        validation_data=(inputs, labels),
    )
    start, frozen = keep.weights
    end = keep.ends[-1]
    assert history.history["stage"] == [0, 1]
    assert same(start, frozen)
    norms = {
        id(weight)
        for layer in sublayers(backbone)
        if isinstance(layer, layers.BatchNormalization)
        for weight in layer.weights
    }
    moved = {id(w): not np.array_equal(a, b) for w, a, b in zip(backbone.weights, frozen, end, strict=True)}
    assert not [weight.path for weight in backbone.weights if id(weight) in norms and moved[id(weight)]]
    # Of a random MobileNetV2 not every kernel gets a gradient.
    others = [moved[key] for key in moved if key not in norms]
    assert all(others) if len(others) < 20 else np.mean(others) > 0.5
    assert model.optimizer is optimizer
    if saved:
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        for one, other in zip(model.weights, again.weights, strict=True):
            np.testing.assert_array_equal(snapshot([one])[0], snapshot([other])[0])
        again.fit(inputs, labels, batch_size=4, verbose=0)


# The others differ from one of these in the layers of the backbone, or in who has called the model before.
LIKE_ANOTHER = (unnested, unnested_input_tensor, subclassed, time_distributed, pretrained_application)


@pytest.mark.parametrize(
    "make",
    [pytest.param(make, marks=[pytest.mark.slow] if make in LIKE_ANOTHER else []) for make in MODELS],
    ids=lambda make: make.__name__,
)
def test_frozen_stays_unfrozen_moves_and_what_is_saved_loads(make, tmp_path):
    model, given, backbone = make()
    inputs, labels = data_for(make)
    others = [layer for layer in model.layers if layer.name == "other"]
    before = [snapshot(layer.weights) for layer in others]
    saved = not isinstance(model, Subclassed)  # not registered with Keras, so it cannot be loaded
    if make is pretrained_application:
        model.evaluate(inputs, labels, verbose=0) if model.compiled else None
    check(model, given, backbone, inputs, labels, tmp_path, saved=saved)
    for layer, weights in zip(others, before, strict=True):
        assert same(weights, snapshot(layer.weights))


@pytest.mark.parametrize("family", ["Bert", pytest.param("DistilBert", marks=pytest.mark.slow)])
def test_a_keras_hub_classifier_on_raw_strings(family, tmp_path):
    models = text_zoo.models
    backbone = text_zoo.backbone_of(family, len(text_zoo.PIECES))
    preprocessor = getattr(models, f"{family}TextClassifierPreprocessor")(
        getattr(models, f"{family}Tokenizer")(vocabulary=text_zoo.PIECES, lowercase=True), sequence_length=8
    )
    classifier = getattr(models, f"{family}TextClassifier")(backbone, CLASSES, preprocessor, dropout=0.0)
    texts = np.array(["the quick fox", "you and the cafe", "brown fox !"] * 4)
    optimizer = keras.optimizers.Adam(1e-2)
    classifier.compile(optimizer, LOSS)
    keep = Keep(backbone)
    callback = ProgressiveUnfreezing(
        classifier.backbone, [Stage(depth=0, epochs=1), Stage(depth="all", epochs=1)], verbose=0
    )
    classifier.fit(texts, LABELS, batch_size=4, epochs=2, verbose=0, callbacks=[keep, callback])
    start, frozen = keep.weights
    assert same(start, frozen)
    assert not same(frozen, snapshot(backbone.weights))
    assert classifier.optimizer is optimizer
    classifier.save(tmp_path / "classifier.keras")
    again = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(
        again.predict(texts, verbose=0), classifier.predict(texts, verbose=0), atol=1e-5
    )


APPLICATIONS = {
    "MobileNet": {"alpha": 0.25},
    "MobileNetV3Small": {"alpha": 0.75},
    "EfficientNetB0": {},
    "EfficientNetV2B0": {},
    "ResNet50": {},
    "ResNet50V2": {},
    "DenseNet121": {},
    "NASNetMobile": {},
    "Xception": {},
    "InceptionV3": {},
    "InceptionResNetV2": {},
    "VGG16": {},
    "ConvNeXtTiny": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["nested", "unnested"])
@pytest.mark.parametrize("family", APPLICATIONS)
def test_every_family_of_keras_applications(family, form):
    side = 75 if "Inception" in family or family == "Xception" else 32
    inner = getattr(keras.applications, family)(
        include_top=False, weights=None, input_shape=(side, side, 3), pooling="avg", **APPLICATIONS[family]
    )
    if family == "MobileNet":  # else its features are 1e-17 as it is drawn, and no step moves a weight
        for variable in inner.trainable_variables:
            if "kernel" in variable.path:
                variable.assign(4 * variable)
    images = keras.Input((side, side, 3))
    if form == "nested":
        model = keras.Model(images, layers.Dense(CLASSES)(inner(images)))
    else:
        model = keras.Model(inner.input, layers.Dense(CLASSES)(inner.output))
    model.compile(keras.optimizers.SGD(1e-3), LOSS)
    keep = Keep(inner)
    stages = [Stage(depth=0, epochs=1), Stage(depth=0.5, epochs=1)]
    inputs = rng.uniform(0, 1, (2, side, side, 3)).astype("float32")
    callback = ProgressiveUnfreezing(inner, stages, verbose=0)
    model.fit(inputs, LABELS[:2], epochs=2, verbose=0, callbacks=[keep, callback])
    start, frozen = keep.weights
    assert same(start, frozen)
    assert not same(frozen, snapshot(inner.weights))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="this is the other backend")
@pytest.mark.parametrize("backend", [pytest.param("jax", marks=pytest.mark.slow), "torch"])
def test_models_on_the_other_backends(backend):
    run_under(
        backend, "test_every_model", chosen="loads and (-nested] or [nested] or sequential_unbuilt or shared)"
    )


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="this is the other backend")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_all_models_on_the_other_backends(backend):
    run_under(backend, "test_every_model", chosen="what_is_saved_loads", marks="slow or not slow")
