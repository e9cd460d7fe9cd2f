"""A preset folder that keras-hub loads by itself answers as the model; what it cannot hold is refused."""

import json
import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest
from exporting import CLASSES, SIZE, multi_label_model, small_model
from images import draw
from text_zoo import FAMILIES, write_preset
from zoo import BACKBONES

from ktransfer.core.task import get_task
from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import ExportOptions, export_model
from ktransfer.exporting.formats import ALL_FORMATS, FORMATS
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.image.classifier import build_classifier
from ktransfer.image.decoding import Resize, load_image
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.models.heads import Head
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier

TEXTS = ["the quick brown fox", "you", "the fox", "fox " * 30]
PREPROCESSING = Preprocessing(Resize(SIZE, SIZE), [1 / 127.5, 1 / 100, 1 / 90], [-1.0, -0.9, -0.8])
# Their classifier in keras-hub has layers between pooling and logits, or there is none.
REFUSED = {"hgnetv2", "hgnetv2_light", "vgg", "dinov2"}
# What keras-hub saves of their classifiers it does not load again.
REFUSED |= {"efficientnet_v1", "efficientnet_v2", "efficientnet_lite"}
SLOW = pytest.mark.slow


def standardized(model):
    """The model with a head that shifts and scales features, as a solved one does."""
    random, head = np.random.default_rng(0), Head.of(model)
    mean, variance = head.scaling
    head.set_scaling(random.normal(size=mean.shape) * 0.1, random.uniform(0.5, 2.0, variance.shape))
    kernel, bias = head.weights
    head.set_weights(kernel, random.normal(size=bias.shape))
    return model


def image_classifier(name):
    return standardized(build_classifier(BACKBONES[name](), len(CLASSES), PREPROCESSING))


def files(folder, sizes=((48, 30), (30, 48), (SIZE, SIZE), (64, 64))):
    return [draw(folder / f"{seed}.png", seed=seed, size=size) for seed, size in enumerate(sizes)]


def export(model, folder, examples, preprocessing, **options):
    return export_model(
        model,
        folder / "artifacts",
        "keras-hub",
        class_names=CLASSES,
        examples=examples,
        preprocessing=preprocessing,
        **options,
    )


def test_it_is_written_only_when_asked_for():
    assert "keras-hub" in ALL_FORMATS
    assert "keras-hub" not in FORMATS


@pytest.mark.parametrize(
    "name",
    [
        name if name == "resnet_v2" else pytest.param(name, marks=SLOW)
        for name in BACKBONES
        if name not in REFUSED
    ],
)
def test_images_are_answered_as_by_the_model(name, tmp_path):
    model, names = image_classifier(name), files(tmp_path)
    artifact = export(model, tmp_path, names, PREPROCESSING)
    assert artifact.signature["output"]["name"] == "logits"
    task = keras_hub.models.ImageClassifier.from_preset(str(tmp_path / artifact.path))
    pixels = np.float32([load_image(each, PREPROCESSING.resize) for each in names])
    expected = model.predict(pixels, verbose=0)
    np.testing.assert_allclose(
        task.predict(pixels, verbose=0), expected, atol=1e-4 * max(1, np.abs(expected).max())
    )
    assert artifact.raw_parity.examples == len(names)


@pytest.mark.parametrize(
    "name", [name if name == "hgnetv2" else pytest.param(name, marks=SLOW) for name in sorted(REFUSED)]
)
def test_a_classifier_with_other_layers_is_refused_in_one_line(name, tmp_path):
    with pytest.raises(ExportError, match=r"Expected a (classifier|backbone) of") as raised:
        export(image_classifier(name), tmp_path, files(tmp_path), PREPROCESSING)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "artifacts").iterdir())


def text_classifier(name, folder, **options):
    backbone, preset = write_preset(name, folder)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=16)
    return standardized(
        build_text_classifier(backbone, len(CLASSES), preprocessing, **options)
    ), preprocessing


def test_texts_are_answered_as_by_the_model(tmp_path):
    model, preprocessing = text_classifier("Bert", tmp_path)
    artifact = export(model, tmp_path, TEXTS, preprocessing)
    assert artifact.raw_parity.max_abs_delta < 1e-5
    task = keras_hub.models.TextClassifier.from_preset(str(tmp_path / artifact.path))
    expected = model.predict_on_batch(preprocessing(TEXTS))
    np.testing.assert_allclose(task.predict(TEXTS, verbose=0), expected, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "Bert"])
def test_texts_of_another_architecture_are_refused(name, tmp_path):
    model, preprocessing = text_classifier(name, tmp_path)
    with pytest.raises(ExportError, match="Expected a backbone of BERT's architecture"):
        export(model, tmp_path, TEXTS, preprocessing)


def test_too_many_classes_for_the_features_are_refused(tmp_path):
    backbone, preset = write_preset("Bert", tmp_path)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=16)
    model = build_text_classifier(backbone, 4, preprocessing)
    options = {"class_names": list("abcd"), "examples": TEXTS, "preprocessing": preprocessing}
    with pytest.raises(ExportError, match="at most 3 classes of a backbone with 8 features"):
        export_model(model, tmp_path / "artifacts", "keras-hub", **options)


@pytest.mark.parametrize("task", ["regression"])
def test_a_task_that_keras_hub_lacks_is_refused(task, tmp_path):
    model = build_classifier(BACKBONES["resnet_v1"](), 1, PREPROCESSING)
    options = {
        "class_names": ["price"],
        "examples": files(tmp_path),
        "preprocessing": PREPROCESSING,
        "task": task,
    }
    with pytest.raises(ExportError, match="Expected single-label or multi-label"):
        export_model(model, tmp_path / "artifacts", "keras-hub", **options)


def test_a_cut_backbone_is_refused(tmp_path):
    whole = BACKBONES["resnet_v1"]()
    cut = keras.Model(whole.input, whole.layers[-3].output, name="cut")
    model = build_classifier(cut, len(CLASSES), PREPROCESSING)
    with pytest.raises(ExportError, match="of which keras-hub has an ImageClassifier, got cut"):
        export(model, tmp_path, files(tmp_path), PREPROCESSING)


@pytest.mark.parametrize("make", [small_model, multi_label_model])
def test_pixels_without_a_way_to_read_files_are_refused(make, tmp_path):
    with pytest.raises(ExportError, match="got neither how it resizes"):
        export(make(), tmp_path, np.zeros((1, SIZE, SIZE, 3), "float32"), None)


def test_several_labels_and_a_temperature_are_those_of_the_model(tmp_path):
    model, names = image_classifier("resnet_v1"), files(tmp_path)
    options = {"task": "multi_label", "decision": {"thresholds": [0.5, 0.4, 0.3]}}
    artifact = export(
        model, tmp_path, names, PREPROCESSING, options=ExportOptions(temperature=2.0), **options
    )
    pixels = np.float32([load_image(each, PREPROCESSING.resize) for each in names])
    opened = open_artifact("keras-hub", tmp_path / artifact.path)
    expected = get_task("multi_label").probabilities(model.predict(pixels, verbose=0) / 2)
    np.testing.assert_allclose(opened.answer({"image": pixels}), expected, atol=1e-5)
    assert opened.labels == CLASSES
    facts = json.loads((tmp_path / artifact.path / "ktransfer.json").read_text())
    assert (facts["temperature"], len(facts["thresholds"])) == (2.0, 3)


@SLOW
def test_a_preset_loads_where_ktransfer_is_not(tmp_path):
    model, names = image_classifier("resnet_v1"), files(tmp_path)
    artifact = export(model, tmp_path, names, PREPROCESSING)
    pixels = np.float32([load_image(each, PREPROCESSING.resize) for each in names])
    np.save(tmp_path / "pixels.npy", pixels)
    script = (
        "import sys; sys.modules['ktransfer'] = None\n"
        "import keras_hub, numpy as np\n"
        f"task = keras_hub.models.ImageClassifier.from_preset({str(tmp_path / artifact.path)!r})\n"
        f"np.save({str(tmp_path / 'found.npy')!r}, task.predict(np.load({str(tmp_path / 'pixels.npy')!r}), verbose=0))"
    )
    subprocess.run([sys.executable, "-I", "-c", script], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), model.predict(pixels, verbose=0), atol=1e-4)
