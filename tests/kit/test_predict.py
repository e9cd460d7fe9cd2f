"""`predict.py` of each format on a multi-label run, and on manifests of the format before."""

import json
import runpy
import zipfile

import numpy as np
import onnx
import pytest
from exporting import (
    CLASSES,
    KIT,
    SIZE,
    between,
    kit_answers,
    multi_label_model,
    run_kit,
    write_manifest,
    write_text_manifest,
)
from images import draw
from text_zoo import write_preset

from ktransfer.core.task import get_task
from ktransfer.exporting.export_model import ExportOptions, export_model
from ktransfer.image.decoding import Resize, load_image
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.tokenizer_json import write_tokenizer

FORMATS = ("onnx", "tflite", "savedmodel")
TASK = get_task("multi_label")
PREPROCESSING = {
    "height": SIZE,
    "width": SIZE,
    "mode": "crop",
    "interpolation": "bilinear",
    "antialias": True,
}


class Images:
    """A model, images, and what it answers to them."""

    def __init__(self, folder):
        self.folder, self.model = folder, multi_label_model()
        self.files = [str(draw(folder / f"{seed}.png", seed=seed, size=(48, 30 + seed))) for seed in range(6)]
        pixels = np.float32([load_image(path, Resize(SIZE, SIZE)) for path in self.files])
        self.probabilities = TASK.probabilities(self.model.predict(pixels, verbose=0))
        self.decision = {"thresholds": between(self.probabilities)}

    def export(self, folder, format, **options):
        options = {"task": "multi_label", "decision": self.decision, **options}
        return export_model(
            self.model,
            folder / "artifacts",
            format,
            class_names=CLASSES,
            examples=self.files,
            preprocessing=Preprocessing(Resize(SIZE, SIZE), 1.0, 0.0),
            extra={"preprocessing": PREPROCESSING},
            **options,
        )


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return Images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_manifest(folder, *(images.export(folder, each) for each in FORMATS), task="multi_label")
    return folder


def check(answers, probabilities, decision):
    decided = TASK.decide(probabilities, decision)
    assert len(answers) == len(decided)
    for answer, row, found in zip(answers, probabilities, decided, strict=True):
        names = [each["label"] for each in answer["labels"]]
        assert set(names) == {CLASSES[index] for index in np.flatnonzero(found)}
        expected = TASK.answers(row, CLASSES, decision, top_k=5)
        assert [each["label"] for each in answer["predictions"]] == [each["label"] for each in expected]
        assert [each["chosen"] for each in answer["predictions"]] == [each["chosen"] for each in expected]
        given = [each["probability"] for each in answer["predictions"]]
        np.testing.assert_allclose(given, [each["probability"] for each in expected], atol=2e-5)
        assert answer["labels"] == [
            {"label": each["label"], "probability": each["probability"]}
            for each in answer["predictions"][: len(names)]
        ]


@pytest.mark.parametrize("format", FORMATS)
def test_labels_are_those_over_their_thresholds_and_none_is_said(format, images, run):
    decided = TASK.decide(images.probabilities, images.decision)
    assert {0, 2} <= set(decided.sum(axis=1).tolist())  # none, and several
    done = run_kit(format, run, *images.files)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    check(answers, images.probabilities, images.decision)
    for file, row, found in zip(images.files, images.probabilities, decided, strict=True):
        said = f"{file[:60]!r}: no label; the nearest is {CLASSES[int(row.argmax())]} {row.max():.1%}"
        assert (said in done.stderr) == (not found.any())


def test_an_artifact_at_a_temperature_gives_the_same_labels(images, tmp_path):
    artifact = images.export(tmp_path, "onnx", options=ExportOptions(temperature=2.0))
    write_manifest(tmp_path, artifact, task="multi_label")
    answers = kit_answers("onnx", tmp_path, *images.files)
    odds = np.log(images.probabilities) - np.log1p(-images.probabilities)
    scaled = TASK.at_temperature(images.decision, 2.0)
    check(answers, 1 / (1 + np.exp(-odds / 2.0)), scaled)
    assert (
        TASK.decide(1 / (1 + np.exp(-odds / 2.0)), scaled)
        == TASK.decide(images.probabilities, images.decision)
    ).all()


def test_more_labels_than_predictions_are_all_given():
    answer = runpy.run_path(str(KIT / "onnx" / "predict.py"))["answer"]
    found = answer(np.linspace(0.1, 0.9, 8), list("abcdefgh"), np.full(8, 0.25))
    assert [each["label"] for each in found["labels"]] == list("hgfedc")
    assert [each["chosen"] for each in found["predictions"]] == [True] * 6


def test_texts_have_labels_likewise(tmp_path):
    backbone, preset = write_preset("Bert", tmp_path)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=16)
    model = build_text_classifier(backbone, len(CLASSES), preprocessing)
    texts = ["the quick brown fox", "you", "the fox", "jumps over the lazy dog", "fox fox", "quick"]
    probabilities = TASK.probabilities(model.predict_on_batch(preprocessing(texts)))
    decision = {"thresholds": between(probabilities)}
    options = {"class_names": CLASSES, "examples": texts, "preprocessing": preprocessing}
    options |= {"task": "multi_label", "decision": decision}
    artifact = export_model(model, tmp_path / "artifacts", "onnx", **options)
    facts = write_tokenizer(preprocessing, tmp_path / "artifacts")
    write_text_manifest(tmp_path, artifact, preprocessing, facts, task="multi_label")
    check(kit_answers("onnx", tmp_path, *texts), probabilities, decision)


def without_facts(path):
    """Make an artifact what earlier versions wrote, which said nothing of its task."""
    if path.is_dir():
        (path / "assets" / "extra.json").write_text(json.dumps({"preprocessing": PREPROCESSING}))
    elif path.suffix == ".onnx":
        model = onnx.load(path)
        props = {
            each.key: each.value for each in model.metadata_props if each.key in ("labels", "preprocessing")
        }
        onnx.helper.set_model_props(model, props)
        onnx.save(model, path)
    else:
        with zipfile.ZipFile(path) as archive:
            labels, start = archive.read("labels.txt"), min(each.header_offset for each in archive.infolist())
        path.write_bytes(path.read_bytes()[:start])
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("labels.txt", labels)
            archive.writestr("extra.json", json.dumps({"preprocessing": PREPROCESSING}))


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_of_format_1_has_one_label_an_image(format, images, tmp_path):
    artifact = images.export(tmp_path, format, task="single_label", decision=None)
    without_facts(tmp_path / artifact.path)
    write_manifest(tmp_path, artifact, format=1)
    answers = kit_answers(format, tmp_path, *images.files)
    best = images.probabilities.argmax(axis=1)
    assert [answer["label"] for answer in answers] == [CLASSES[index] for index in best]
    assert {tuple(answer) for answer in answers} == {("label", "probability")}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"task": "ranking"},
            "Expected a task of single_label, multi_label, ner, regression or ordinal, got 'ranking'",
        ),
        ({"task": "multi_label", "thresholds": [0.5]}, "Expected 3 thresholds, one a label, got 1"),
    ],
)
def test_facts_that_do_not_fit_are_refused(facts, message):
    with pytest.raises(SystemExit, match=message):
        runpy.run_path(str(KIT / "onnx" / "predict.py"))["thresholds_of"](facts, CLASSES)


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"format": 1, "task": "image-classification"}, "image"),
        ({"format": 1, "task": "text-classification"}, "text"),
        ({"format": 2, "task": "multi_label", "modality": "text"}, "text"),
        ({}, "image"),
    ],
)
def test_the_modality_is_read_from_both_formats(manifest, expected):
    modality_of = runpy.run_path(str(KIT / "onnx" / "predict.py"))["modality_of"]
    assert modality_of(manifest) == expected
    with pytest.raises(SystemExit, match="Expected a modality of image or text, got 'sound'"):
        modality_of({"modality": "sound"})
