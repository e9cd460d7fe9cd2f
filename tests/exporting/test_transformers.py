"""A folder that Hugging Face's transformers loads by itself answers as the model; what it cannot hold is refused."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from exporting import CLASSES, KIT, between, small_model
from images import draw
from safetensors.numpy import load_file
from text_zoo import write_preset

from ktransfer.core.task import get_task
from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import export_model
from ktransfer.image.decoding import Resize
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.tokenizer_texts import NASTY_TEXTS

TEXTS = ["the quick brown fox", "you", "the fox", "fox " * 30, "[SEP] the [PAD] fox"]
HERE = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("torch", "transformers")),
    reason="PyTorch and transformers are not installed: pip install ktransfer[transformers]",
)


@pytest.fixture(autouse=True)
def without_the_kit(monkeypatch):
    """A folder of the kit is called triton, as is a package that PyTorch looks for."""
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(KIT)])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


def classifier(family, folder):
    backbone, preset = write_preset(family, folder)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=16)
    return build_text_classifier(backbone, len(CLASSES), preprocessing), preprocessing


def export(model, preprocessing, folder, **options):
    given = {"class_names": CLASSES, "examples": TEXTS, "preprocessing": preprocessing} | options
    return export_model(model, folder / "artifacts", "transformers", **given)


@HERE
def test_transformers_alone_answers_as_the_model(tmp_path):
    model, preprocessing = classifier("Bert", tmp_path)
    artifact = export(model, preprocessing, tmp_path)
    assert artifact.parity.max_abs_delta < 1e-4
    assert artifact.raw_parity.max_abs_delta < 1e-4
    texts = [text for text in NASTY_TEXTS if text.encode("utf-8", "replace").decode() == text]
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    script = (
        "import json, sys, torch\n"
        "from transformers import AutoModelForSequenceClassification as Model, AutoTokenizer\n"
        "model, tokenizer = Model.from_pretrained(sys.argv[1]).eval(), AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "inputs = tokenizer(json.load(open(sys.argv[2])), padding=True, truncation=True, return_tensors='pt')\n"
        "with torch.no_grad(): logits = model(**inputs).logits.tolist()\n"
        "print(json.dumps([model.config.id2label, inputs['input_ids'].tolist(), logits]))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / artifact.path), str(tmp_path / "texts.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    labels, ids, logits = json.loads(done.stdout)
    assert list(labels.values()) == CLASSES
    pad = preprocessing.tokenizer.pad_token_id
    rows = preprocessing.tokenize(texts)
    assert [row[: len(one)] for row, one in zip(ids, rows, strict=True)] == [one.tolist() for one in rows]
    assert {each for row, one in zip(ids, rows, strict=True) for each in row[len(one) :]} <= {pad}
    np.testing.assert_allclose(logits, model.predict_on_batch(preprocessing(texts)), atol=1e-4)


@HERE
def test_several_labels_are_a_task_of_their_own_there(tmp_path):
    model, preprocessing = classifier("Bert", tmp_path)
    task = get_task("multi_label")
    probabilities = task.probabilities(model.predict_on_batch(preprocessing(TEXTS)))
    decision = {"thresholds": between(probabilities)}
    artifact = export(model, preprocessing, tmp_path, task="multi_label", decision=decision)
    config = json.loads((tmp_path / artifact.path / "config.json").read_text(encoding="utf-8"))
    assert config["problem_type"] == "multi_label_classification"
    weights = load_file(tmp_path / artifact.path / "model.safetensors")
    assert weights["classifier.weight"].shape == (len(CLASSES), config["hidden_size"])
    facts = json.loads((tmp_path / artifact.path / "ktransfer.json").read_text(encoding="utf-8"))
    assert facts["thresholds"] == decision["thresholds"]


@HERE
def test_what_it_cannot_hold_is_refused_and_leaves_nothing(tmp_path):
    model, preprocessing = classifier("Roberta", tmp_path)
    with pytest.raises(ExportError, match="a backbone of BERT's architecture"):
        export(model, preprocessing, tmp_path)
    files = [draw(tmp_path / "a.png", seed=1, size=(40, 40))]
    with pytest.raises(ExportError, match="a run on texts"):
        export(small_model(), Preprocessing(Resize(32, 32), 1.0, 0.0), tmp_path, examples=files)
    assert not list((tmp_path / "artifacts").glob("*"))
