"""TFLite files that MediaPipe reads by itself: what is in them, what is refused, and in the slow suite its answers."""

import json
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from clients import interpreter_with
from exporting import CLASSES, SIZE, multi_label_model, pixels, small_model
from images import draw
from test_tflite import at, metadata, text
from text_zoo import write_preset

from ktransfer.core.task import get_task
from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import ExportOptions, export_model
from ktransfer.image.decoding import Resize, as_mediapipe, read_pixels
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.client_tokenizer import ClientTokenizer, word_pieces
from ktransfer.text.tokenizer_texts import NASTY_TEXTS

SHARED = Path(__file__).resolve().parents[3] / "shared"
LENGTH = 16  # tokens
MEDIAPIPE = ExportOptions(client="mediapipe")
TEXTS = ["the quick brown fox", "you", "", "the fox! " * 9]
# MediaPipe 1.2 prints errors at its end, which are not the program's.
ANSWERS = """
import json, sys
from mediapipe.tasks.python import text
from mediapipe.tasks.python.core.base_options import BaseOptions
options = text.TextClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]), max_results=-1)
with text.TextClassifier.create_from_options(options) as classifier:
    for given in json.load(open(sys.argv[2])):
        found = classifier.classify(given).classifications[0].categories
        print("ANSWER", json.dumps({each.category_name: each.score for each in found}), flush=True)
"""


def text_model(folder, family="Bert"):
    backbone, preset = write_preset(family, folder)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=LENGTH)
    model = build_text_classifier(backbone, 3, preprocessing)
    head = model.layers[-1]
    head.set_weights([3 * weight for weight in head.get_weights()])
    return model, preprocessing


def exported(folder, model, preprocessing=None, examples=TEXTS, **options):
    options = {"class_names": CLASSES, "options": MEDIAPIPE, **options}
    given = {"examples": examples, "preprocessing": preprocessing}
    return export_model(model, folder / "artifacts", "tflite", **given, **options)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    model, preprocessing = text_model(folder)
    return exported(folder, model, preprocessing), folder, model, preprocessing


def test_the_file_has_the_tokenizer_and_takes_texts_of_one_length(bert):
    artifact, folder, _, preprocessing = bert
    assert (artifact.batch, artifact.sequence) == (1, LENGTH)
    assert artifact.client == {"name": "mediapipe", "compared_texts": 4, "differing_texts": 0}
    path = folder / artifact.path
    graph = at(metadata(path), (3, True))
    unit = at(graph, (5, True))
    assert unit.Bytes[unit.Pos + unit.Offset(4)] == 4  # BertTokenizerOptions
    vocabulary = at(unit, (1, False), (0, True))
    assert text(vocabulary, 0) == "vocab.txt"
    with zipfile.ZipFile(path) as archive:
        assert tuple(archive.read("vocab.txt").decode().splitlines()) == word_pieces(preprocessing.tokenizer)
        assert archive.read("labels.txt").decode().splitlines() == CLASSES
    start = graph.Vector(graph.Offset(4 + 2 * 2))
    inputs = [type(graph)(graph.Bytes, graph.Indirect(start + 4 * index)) for index in range(3)]
    about = {text(given, 0): text(given, 1) for given in inputs}
    assert about == {
        "ids": "Ids that tokenizer.json gives",
        "segment_ids": "Zeros",
        "mask": "1 on tokens, 0 on padding",
    }
    assert text(metadata(path), 7) == "1.1.0"


def test_the_threshold_of_several_labels_is_the_lowest_of_theirs(tmp_path):
    decision = {"thresholds": [0.5, 0.25, 0.75]}
    artifact = exported(
        tmp_path, multi_label_model(), examples=pixels(2), task="multi_label", decision=decision
    )
    assert artifact.client == {"name": "mediapipe"}
    unit = at(metadata(tmp_path / artifact.path), (3, True), (3, True), (4, True))
    assert unit.Bytes[unit.Pos + unit.Offset(4)] == 3  # ScoreThresholdingOptions
    options = at(unit, (1, False))
    assert np.frombuffer(options.Bytes, "<f4", 1, options.Pos + options.Offset(4)) == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"client": "coreml"}, "Expected mediapipe for --client"),
        ({"client": "mediapipe", "dynamic_batch": True}, "got --dynamic-batch"),
        ({"client": "mediapipe", "allow_flex": True}, "got --allow-flex"),
    ],
)
def test_an_option_that_no_client_takes_is_refused(options, message):
    with pytest.raises(ExportError, match=message):
        ExportOptions(**options)


def test_a_client_is_for_tflite_alone():
    with pytest.raises(ExportError, match=r"a TFLite format with --client \(client\), got"):
        MEDIAPIPE.check(["onnx"], "text-classification")


def test_what_the_client_cannot_hold_is_refused_and_nothing_is_written(bert, tmp_path):
    with pytest.raises(ExportError, match=r"with --client .*, got the tokenizer RobertaTokenizer;"):
        exported(tmp_path, *text_model(tmp_path, "Roberta"))
    _, _, model, preprocessing = bert
    with pytest.raises(ExportError, match="got other ids of 1, such as 'ÉÉ"):
        exported(tmp_path, model, preprocessing, [*TEXTS, "ÉÉ\x07É"])
    assert not [*tmp_path.rglob("*.tflite")]


def test_a_number_is_refused(bert, tmp_path):
    _, _, model, preprocessing = bert
    with pytest.raises(ExportError, match="which has no labels"):
        exported(tmp_path, model, preprocessing, task="regression")


def answers_of_mediapipe(path, texts, folder, program=ANSWERS):
    python = interpreter_with("mediapipe")
    given = folder / "texts.json"
    given.write_text(json.dumps(texts))
    done = subprocess.run([python, "-c", program, path, given], capture_output=True, text=True, check=False)
    found = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert len(found) == len(texts), done.stderr[-2000:]
    return np.array([[each[name] for name in CLASSES] for each in found])


@pytest.mark.slow
def test_mediapipe_makes_the_ids_that_are_foretold_on_nasty_texts(bert, tmp_path):
    artifact, folder, model, preprocessing = bert
    texts = [text.encode("utf-8", "replace").decode() for text in NASTY_TEXTS if "\0" not in text]
    tokenizer = ClientTokenizer(word_pieces(preprocessing.tokenizer))
    ids = [np.array(tokenizer.ids(text, LENGTH)) for text in texts]
    expected = get_task("single_label").probabilities(model.predict_on_batch(preprocessing.pack(ids)))
    found = answers_of_mediapipe(folder / artifact.path, texts, tmp_path)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.1  # other ids would show


IMAGES = """
import json, sys
import mediapipe, numpy
from mediapipe.tasks.python import vision
from mediapipe.tasks.python.core.base_options import BaseOptions
options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]), max_results=-1)
with vision.ImageClassifier.create_from_options(options) as classifier:
    for name in json.load(open(sys.argv[2])):
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=numpy.load(name))
        found = classifier.classify(image).classifications[0].categories
        print("ANSWER", json.dumps({each.category_name: each.score for each in found}), flush=True)
"""


@pytest.mark.slow
def test_mediapipe_sizes_images_as_a_run_that_was_trained_so(tmp_path):
    resize = as_mediapipe(Resize(SIZE, SIZE))
    preprocessing, model, arrays = Preprocessing(resize, 1.0, 0.0), small_model(), []
    paths = [str(draw(tmp_path / f"{size}.png", size=(size, 90 - size))) for size in (5, 33, 40, 61)]
    artifact = exported(tmp_path, model, preprocessing, paths)
    for path in paths:
        arrays.append(f"{path}.npy")
        np.save(arrays[-1], read_pixels(path))
    expected = get_task("single_label").probabilities(model.predict_on_batch(preprocessing(paths)))
    found = answers_of_mediapipe(tmp_path / artifact.path, arrays, tmp_path, IMAGES)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.01
