"""The examples in docstrings run, all in one process.

Examples may use what a reader would have: `model`, `images`, `serving`, files. `NAMES` and `folder` provide these. An
example that needs a data set or a long run is marked `# doctest: +SKIP` in place.
"""

import doctest
import importlib
import io
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_architecture import MODULES

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FINDER = doctest.DocTestFinder(exclude_empty=True)
WITH_EXAMPLES = [
    module
    for module, path in MODULES.items()
    if ">>> " in path.read_text(encoding="utf-8") and module != "__main__"
]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with an image and exported files, and names for image and text examples."""
    import keras
    import numpy as np
    import tensorflow as tf
    from PIL import Image

    from ktransfer.demo.texts import write_text_preset
    from ktransfer.exporting.export_model import export_model
    from ktransfer.exporting.saved_model.exporter import write
    from ktransfer.image.serving import serve_images
    from ktransfer.text.backbones import load_text_backbone, load_text_preprocessing
    from ktransfer.text.classifier import build_text_classifier

    folder = tmp_path_factory.mktemp("examples")
    Image.new("RGB", (640, 480), (200, 30, 30)).save(folder / "rose.jpg")
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    )
    images = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype("float32")
    serving = serve_images(model, ["cat", "dog"], images)
    for format in ("onnx", "tflite"):
        export_model(model, folder / "run" / "artifacts", format, class_names=["cat", "dog"], examples=images)
    write(serving, folder / "savedmodel", fixed={"batch": 1})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "savedmodel"))
    (folder / "plain.tflite").write_bytes(converter.convert())
    names = {"Path": Path, "io": io, "keras": keras, "np": np, "tf": tf, "zipfile": zipfile}
    preset = write_text_preset(folder / "tiny_bert", hidden_dim=8)
    backbone = load_text_backbone(str(preset))
    preprocessing = load_text_preprocessing(str(preset), backbone, sequence_length=16)
    texts = {"model": build_text_classifier(backbone, 2, preprocessing), "preprocessing": preprocessing}
    return SimpleNamespace(
        folder=folder,
        image=names | {"model": model, "images": images, "serving": serving},
        text=names | texts,
    )


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_of_a_module_run(module, request, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    loaded, names = importlib.import_module(f"ktransfer.{module}"), {}
    if module.startswith(("exporting.", "image.", "text.")):
        given = request.getfixturevalue("given")
        monkeypatch.chdir(given.folder)
        names = given.text if module.startswith("text.") else given.image
    names = {name: value for name, value in names.items() if name not in vars(loaded)}
    said = []
    for test in FINDER.find(loaded, loaded.__name__, extraglobs=names):
        doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


def test_most_examples_run():
    parser = doctest.DocTestParser()
    texts = [MODULES[module].read_text(encoding="utf-8") for module in WITH_EXAMPLES]
    skipped = sum(text.count("# doctest: +SKIP") for text in texts)
    assert sum(text.count(">>> ") for text in texts) > 3 * skipped
    assert parser.get_examples(">>> 1  # doctest: +SKIP\n1\n")[0].options[doctest.SKIP]
