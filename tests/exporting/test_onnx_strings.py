"""ONNX files that take a text: their tokenizer makes the ids of the run, their answers are the model's."""

import importlib.util
import json
import subprocess
import sys

import keras_hub
import numpy as np
import pytest
from exporting import CLASSES, KIT, small_model
from images import draw
from text_zoo import FAMILIES, write_preset

from ktransfer.core.task import get_task
from ktransfer.data.pairs import Pair
from ktransfer.errors import ExportError, MissingExtraError
from ktransfer.exporting.export_model import export_model
from ktransfer.exporting.processes.runtime_process import RuntimeProcess
from ktransfer.image.decoding import Resize
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.text import tokenizer_graph
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.pair_preprocessing import pair_preprocessing
from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.text.token_preprocessing import preprocessing_of
from ktransfer.text.tokenizer_texts import NASTY_TEXTS

LENGTH = 16
TEXTS = ["the quick brown fox", "you", "", "The FOX, jumped! over  dogs", "fox " * 30]
HERE = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_extensions") is None,
    reason="onnxruntime-extensions is not installed: pip install ktransfer[strings]",
)


def classifier(family, folder, length=LENGTH):
    backbone, preset = write_preset(family, folder)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=length)
    return build_text_classifier(backbone, len(CLASSES), preprocessing), preprocessing


def export(model, preprocessing, folder, **options):
    given = {"class_names": CLASSES, "examples": TEXTS, "preprocessing": preprocessing} | options
    return export_model(model, folder / "artifacts", "onnx-strings", **given)


def without_nul(texts):
    """ONNX Runtime gives operators of extensions no more of a string than is before a NUL."""
    return [text for text in texts if "\0" not in text]


@HERE
@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({*FAMILIES} - {"RoformerV2", "FNet", "Electra"}))
def test_texts_are_answered_as_by_the_model(family, tmp_path):
    model, preprocessing = classifier(family, tmp_path)
    artifact = export(model, preprocessing, tmp_path, compared=["a fox", "dogs"])
    assert (artifact.batch, artifact.client["name"]) == (1, "onnxruntime-extensions")
    assert artifact.client["compared_texts"] == len(TEXTS) + 2
    assert artifact.client["differing_texts"] == 0
    assert artifact.raw_parity.max_abs_delta < 1e-4
    with RuntimeProcess("onnx-strings", tmp_path / artifact.path) as opened:
        assert opened.labels == CLASSES
        assert opened.signature["inputs"] == artifact.signature["inputs"]
        found = opened({"text": np.array([text.encode() for text in TEXTS], object)})
    expected = get_task("single_label").probabilities(model.predict_on_batch(preprocessing(TEXTS)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@HERE
@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_difficult_texts_have_the_ids_of_the_run(family, tmp_path):
    backbone, preset = write_preset(family, tmp_path)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=64)
    texts = without_nul(NASTY_TEXTS)
    found = tokenizer_graph.ids_in_graph(preprocessing, texts)
    expected = preprocessing.tokenize(texts)
    wrong = [text for text, one, ids in zip(texts, expected, found, strict=True) if one.tolist() != ids]
    assert len(wrong) <= (4 if "Piece" in type(preprocessing.tokenizer).__mro__[1].__name__ else 3), wrong


def words(texts, **options):
    """The ids of a WordPiece tokenizer of these characters and settings, by keras-hub and in a graph."""
    letters = "abcdefghijklmnopqrstuvwxyzßäé,.!日本"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{one}" for one in letters), "the"]
    kind = keras_hub.tokenizers.BertTokenizer
    tokenizer = kind(vocabulary=pieces, **options)
    preprocessing = TextPreprocessing(tokenizer, ("token_ids", "padding_mask"), 64)
    return [row.tolist() for row in preprocessing.tokenize(texts)], tokenizer_graph.ids_in_graph(
        preprocessing, texts
    )


@HERE
@pytest.mark.parametrize(
    ("lowercase", "strip_accents"),
    [
        (True, True),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in ((True, False), (False, True), (False, False))
        ),
    ],
)
def test_words_are_cut_and_folded_as_in_training(lowercase, strip_accents):
    texts = [
        *(
            "The Ä ß É é",
            "a,b.c!",
            "日本 日a本",
            "a\u00a0b c",
            "a\u2028b",
            " a ",
            "  ",
            "a\tb\nc\r",
            "x\u200by",
        ),
        *(
            "a" * 100,
            "a" * 101,
            "ä" * 50,
            "ä" * 51,
            "日" * 40,
            "[CLS] a [SEP]",
            "##a",
            "Ωa b",
            "A\u0301b",
            "e\u0301",
        ),
        *("$1 \\1 a", "ﬁ", "Ａ", "a…b", "\ufeffa", "\ud800a"),
    ]
    expected, found = words(texts, lowercase=lowercase, strip_accents=strip_accents)
    wrong = [text for text, one, ids in zip(texts, expected, found, strict=True) if one != ids]
    # Marks that compose with a letter before them stay apart in the graph, where neither takes them away.
    assert {*wrong} <= (set() if strip_accents else {"A\u0301b", "e\u0301"})


@HERE
def test_a_tokenizer_that_differs_too_often_is_refused_and_leaves_nothing(tmp_path):
    model, preprocessing = classifier("Albert", tmp_path)
    texts = ["a fox \0 and dogs"] * 2 + ["a fox"] * 100
    with pytest.raises(ExportError, match=r"all but 1% of 107 texts, got other ids of 2, .*NUL characters"):
        export(model, preprocessing, tmp_path, compared=texts)
    assert not list((tmp_path / "artifacts").glob("*"))


def test_images_are_refused(tmp_path):
    pytest.importorskip("onnxruntime_extensions")
    files = [draw(tmp_path / "a.png", seed=1, size=(40, 40))]
    options = {
        "class_names": CLASSES,
        "examples": files,
        "preprocessing": Preprocessing(Resize(32, 32), 1.0, 0.0),
    }
    with pytest.raises(ExportError, match="a run on texts"):
        export_model(small_model(), tmp_path / "artifacts", "onnx-strings", **options)


@pytest.mark.parametrize(("task", "got"), [("single_label", "pairs of texts"), ("ner", "named entities")])
def test_pairs_and_entities_are_refused_before_converting(task, got, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime_extensions")
    monkeypatch.delattr("ktransfer.exporting.onnx_strings.exporter.write_onnx")
    backbone, preset = write_preset("Bert", tmp_path)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=LENGTH)
    texts = TEXTS
    if task == "single_label":
        preprocessing, texts = pair_preprocessing(preprocessing), [Pair("the fox", "you")]
    preprocessing = preprocessing_of(get_task(task), preprocessing)
    names = get_task(task).output_names(["a", "b"])
    model = build_text_classifier(backbone, len(names), preprocessing, per_token=task == "ner")
    options = {"class_names": names, "examples": texts, "task": task}
    with pytest.raises(
        ExportError, match=f"one text and one answer an example for onnx-strings, got .*{got}"
    ):
        export(model, preprocessing, tmp_path, **options)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, find=None: None)
    model, preprocessing = classifier("Bert", tmp_path)
    with pytest.raises(MissingExtraError):
        export(model, preprocessing, tmp_path)
    assert not (tmp_path / "artifacts").exists()


@HERE
def test_the_program_of_the_kit_answers_texts_by_the_file(tmp_path):
    model, preprocessing = classifier("Albert", tmp_path)
    compared = ["a fox \0 and dogs", *["a fox"] * 200, *TEXTS]
    artifact = export(model, preprocessing, tmp_path, compared=compared)
    assert artifact.client["differing_texts"] == 1
    assert artifact.client["compared_texts"] == len(compared)  # examples of the run are not counted twice
    assert "NUL characters" in artifact.client["differing_kinds"]
    manifest = {
        "modality": "text",
        "task": "single_label",
        "preprocessing": {},
        "artifacts": [artifact.to_dict()],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    command = [sys.executable, str(KIT / "onnx" / "predict.py"), str(tmp_path), "--format", "onnx-strings"]
    done = subprocess.run([*command, TEXTS[0]], capture_output=True, text=True, check=True)
    expected = get_task("single_label").probabilities(model.predict_on_batch(preprocessing(TEXTS[:1])))[0]
    found = json.loads(done.stdout)
    assert found["label"] == CLASSES[expected.argmax()]
    assert found["probability"] == pytest.approx(expected.max(), abs=1e-4)
