"""Bad input of every format: what is in the way of its file, and what it cannot hold. A new format needs a row."""

import keras
import numpy as np
import pytest
from exporting import CLASSES, SIZE, classifier, small_model
from images import draw

from ktransfer.errors import ExportError
from ktransfer.exporting import export_model as module
from ktransfer.exporting.export_model import export_model
from ktransfer.exporting.formats import ALL_FORMATS
from ktransfer.exporting.registry import formats, get_format
from ktransfer.image.decoding import Resize
from ktransfer.image.preprocessing import Preprocessing

PIXELS = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype("float32")
ANY_MODEL = {"savedmodel", "tflite", "onnx"}
# Of a model of images that is none of keras-hub's.
REFUSED = {
    "onnx-strings": "a run on texts",
    "keras-hub": "of which keras-hub has an ImageClassifier, got own",
    "transformers": "a run on texts",
    "onnx-adapters": "a run with adapters",
    "peft": "a run with adapters",
    "web": "bicubic without antialias",
}


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """What is refused is refused before the packages of a format are wanted."""
    monkeypatch.setattr(module, "need_modules", lambda modules, purpose: None)


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.mark.parametrize("format", ALL_FORMATS)
def test_what_is_in_the_way_is_named_and_stays(format, model, tmp_path):
    name = get_format(format).file_name
    place = tmp_path / "artifacts" / name
    place.parent.mkdir()
    (place.mkdir if "." in name else place.touch)()
    options = {"class_names": CLASSES, "examples": PIXELS, "calibration": PIXELS}
    with pytest.raises(ExportError, match=rf"or nothing at .*{name}, got a f\w+\. Move it away\.") as raised:
        export_model(model, tmp_path / "artifacts", format, **options)
    assert "\n" not in str(raised.value)
    assert [each.name for each in place.parent.iterdir()] == [name]


@pytest.mark.parametrize("format", [each.name for each in formats() if each.name not in ANY_MODEL])
def test_a_model_that_a_format_cannot_hold_is_refused_in_one_line(format, tmp_path):
    image = keras.Input((SIZE, SIZE, 3))
    model = classifier(keras.Model(image, keras.layers.Conv2D(8, 3)(image), name="own"))
    resize = Resize(SIZE, SIZE, "crop", "bicubic", False) if format == "web" else Resize(SIZE, SIZE)
    files = [draw(tmp_path / "a.png", seed=1, size=(40, 40))]
    preprocessing = Preprocessing(resize, 1.0, 0.0)
    options = {"class_names": CLASSES, "examples": files, "preprocessing": preprocessing}
    with pytest.raises(ExportError, match=REFUSED[format]) as raised:
        export_model(model, tmp_path / "artifacts", format, **options)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "artifacts").glob("*"))
