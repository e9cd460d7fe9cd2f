"""A folder that Hugging Face's transformers loads by itself answers as the model; what it cannot hold is refused."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import keras
import keras_hub
import numpy as np
import pytest
from exporting import CLASSES, KIT, between, small_model
from images import draw
from safetensors.numpy import load_file
from text_zoo import FAMILIES, WORDS, write_preset

from ktransfer.core.modality import modality_of
from ktransfer.core.task import get_task
from ktransfer.data.pairs import Pair
from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import export_model
from ktransfer.exporting.hf.exporter import write
from ktransfer.image.decoding import Resize
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.models.heads import Head
from ktransfer.models.locate import find_backbone
from ktransfer.tasks.regression import Regression, TargetScale
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.pair_preprocessing import pair_preprocessing
from ktransfer.text.token_preprocessing import preprocessing_of
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


SIZES = {"Electra": {"embedding_dim": 4}}  # projected to the features
NASTY = [text for text in NASTY_TEXTS if text.encode("utf-8", "replace").decode() == text]
KNOWN = ["Bert", "DistilBert", "Electra", "Roberta", "XLMRoberta"]


def classifier(family, folder, task="single_label", classes=3, **options):
    backbone, preset = write_preset(family, folder, num_layers=2, **SIZES.get(family, {}))
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=16)
    preprocessing = preprocessing_of(get_task(task), preprocessing)
    model = build_text_classifier(backbone, classes, preprocessing, **options)
    random, head = np.random.default_rng(0), Head.of(model)
    mean, variance = head.scaling
    head.set_scaling(random.normal(size=mean.shape) * 0.1, random.uniform(0.5, 2.0, variance.shape))
    head.set_weights(head.weights[0], random.normal(size=classes))
    return model, preprocessing


def export(model, preprocessing, folder, **options):
    given = {"class_names": CLASSES, "examples": TEXTS, "preprocessing": preprocessing} | options
    return export_model(model, folder / "artifacts", "transformers", **given)


def written(model, preprocessing, folder, *, task="single_label", class_names=CLASSES, examples=TEXTS):
    """The folder as the exporter writes it, where PyTorch need not be; its configuration and weights."""
    serving = modality_of(preprocessing).serving(model, class_names, examples, preprocessing)
    serving = dataclasses.replace(serving, task=get_task(task))
    write(serving, folder / "written", fixed={})
    config = json.loads((folder / "written" / "config.json").read_text(encoding="utf-8"))
    return config, load_file(folder / "written" / "model.safetensors")


def ask(tmp_path, *jobs):
    """`[labels, ids, logits]` of each `(folder, texts)`, by transformers alone.

    In a subprocess, as PyTorch next to TensorFlow may crash; one for all, since its imports take seconds.
    """
    (tmp_path / "jobs.json").write_text(
        json.dumps([[str(folder), texts] for folder, texts in jobs]), encoding="utf-8"
    )
    script = (
        "import json, sys, torch, transformers\n"
        "for folder, texts in json.load(open(sys.argv[1])):\n"
        "    kind = 'Token' if isinstance(texts[0], list) else 'Sequence'\n"
        "    model = getattr(transformers, f'AutoModelFor{kind}Classification').from_pretrained(folder).eval()\n"
        "    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)\n"
        "    options = {'is_split_into_words': True} if kind == 'Token' else {}\n"
        "    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors='pt', **options)\n"
        "    with torch.no_grad(): logits = model(**inputs).logits.tolist()\n"
        "    print(json.dumps([model.config.id2label, inputs['input_ids'].tolist(), logits]))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_same_ids(ids, rows, pad):
    assert [row[: len(one)] for row, one in zip(ids, rows, strict=True)] == [one.tolist() for one in rows]
    assert {each for row, one in zip(ids, rows, strict=True) for each in row[len(one) :]} <= {pad}


@HERE
def test_transformers_alone_answers_as_the_model(tmp_path):
    model, preprocessing = classifier("Bert", tmp_path)
    artifact = export(model, preprocessing, tmp_path)
    assert artifact.parity.max_abs_delta < 1e-4
    assert artifact.raw_parity.max_abs_delta < 1e-4
    [[labels, ids, logits]] = ask(tmp_path, (tmp_path / artifact.path, NASTY))
    assert list(labels.values()) == CLASSES
    assert_same_ids(ids, preprocessing.tokenize(NASTY), preprocessing.tokenizer.pad_token_id)
    np.testing.assert_allclose(logits, model.predict_on_batch(preprocessing(NASTY)), atol=1e-4)


@HERE
def test_every_architecture_and_numbers_are_answered_alike(tmp_path):
    families, expected, jobs = KNOWN[1:], [], []
    for family in families:
        folder = tmp_path / family
        folder.mkdir()
        model, preprocessing = classifier(family, folder)
        written(model, preprocessing, folder)
        expected.append((preprocessing, model.predict_on_batch(preprocessing(NASTY))))
        jobs.append((folder / "written", NASTY))
    number, preprocessing = classifier("DistilBert", tmp_path, "regression", 1)
    task = Regression(TargetScale(200_000.0, 50_000.0))
    written(number, preprocessing, tmp_path, task=task, class_names=["price"])
    *found, [labels, _, prices] = ask(tmp_path, *jobs, (tmp_path / "written", NASTY))
    for family, (each, logits), (_, ids, answered) in zip(families, expected, found, strict=True):
        rows, pad = each.tokenize(NASTY), each.tokenizer.pad_token_id
        assert_same_ids(ids, rows, pad)
        # RoBERTa's positions there skip a <pad> that a text spells out.
        kept = [index for index, row in enumerate(rows) if pad not in row]
        assert len(kept) > 0.9 * len(rows)
        np.testing.assert_allclose(np.array(answered)[kept], logits[kept], atol=1e-4, err_msg=family)
    assert labels == {"0": "price"}
    in_its_unit = task.probabilities(number.predict_on_batch(preprocessing(NASTY)))
    np.testing.assert_allclose(prices, in_its_unit, rtol=1e-4)


@pytest.mark.parametrize("family", KNOWN)
def test_names_and_sizes_are_those_of_the_architecture(family, tmp_path):
    model, preprocessing = classifier(family, tmp_path)
    config, weights = written(model, preprocessing, tmp_path)
    kind, prefix, layer, head = {
        "Bert": ("Bert", "bert", "encoder.layer.0.attention.self.query", "classifier"),
        "DistilBert": ("DistilBert", "distilbert", "transformer.layer.0.attention.q_lin", "classifier"),
        "Electra": ("Electra", "electra", "encoder.layer.0.attention.self.query", "classifier.out_proj"),
        "Roberta": ("Roberta", "roberta", "encoder.layer.0.attention.self.query", "classifier.out_proj"),
        "XLMRoberta": (
            "XLMRoberta",
            "roberta",
            "encoder.layer.0.attention.self.query",
            "classifier.out_proj",
        ),
    }[family]
    assert config["architectures"] == [f"{kind}ForSequenceClassification"]
    assert config["problem_type"] == "single_label_classification"
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    assert layers == 3  # two, and the one that averages
    first = find_backbone(model).get_layer("transformer_layer_0")
    query = np.asarray(first.weights[0]).reshape(8, 8)
    np.testing.assert_array_equal(weights[f"{prefix}.{layer}.weight"], query.T)
    assert weights[f"{head}.weight"].shape == (len(CLASSES), 8)
    positions = weights[f"{prefix}.embeddings.position_embeddings.weight"]
    assert len(positions) == config["max_position_embeddings"] == 64 + 2 * (prefix == "roberta")
    assert weights[f"{prefix}.embeddings.word_embeddings.weight"].shape[0] == config["vocab_size"]
    assert ("electra.embeddings_project.weight" in weights) == (family == "Electra")


@HERE
def test_entities_are_a_classification_of_tokens_there(tmp_path):
    types = ["PLACE"]
    tags = get_task("ner").output_names(types)
    model, preprocessing = classifier("Bert", tmp_path, "ner", len(tags), per_token=True)
    texts = ["the quick brown fox", "you the café", "fox you!"]
    artifact = export(model, preprocessing, tmp_path, task="ner", class_names=tags, examples=texts)
    assert artifact.raw_parity is None
    words = [text.split() for text in texts]
    [[labels, ids, logits]] = ask(tmp_path, (tmp_path / artifact.path, words))
    assert tuple(labels.values()) == tags
    rows = preprocessing.tokenize([" ".join(each) for each in words])
    assert_same_ids(ids, rows, preprocessing.tokenizer.pad_token_id)
    expected = model.predict_on_batch(preprocessing.pack(rows))
    for row, found, wanted in zip(rows, logits, expected, strict=True):
        np.testing.assert_allclose(found[: len(row)], wanted[: len(row)], atol=1e-4)


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


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {*KNOWN}))
def test_another_backbone_is_refused_by_name(family, tmp_path):
    model, preprocessing = classifier(family, tmp_path)
    with pytest.raises(
        ExportError, match=r"Expected a backbone of BERT, DistilBERT, .*got \w+ with \w+"
    ) as raised:
        written(model, preprocessing, tmp_path)
    assert type(preprocessing.tokenizer).__name__ in str(raised.value)


def test_tasks_and_examples_that_it_cannot_hold_are_refused(tmp_path):
    model, preprocessing = classifier("Bert", tmp_path)
    with pytest.raises(ExportError, match="got ordinal classification"):
        written(model, preprocessing, tmp_path, task="ordinal")
    pairs = pair_preprocessing(preprocessing)
    with pytest.raises(ExportError, match="got pairs of texts"):
        written(model, pairs, tmp_path, examples=[Pair("the fox", "you")])
    number, preprocessing = classifier("DistilBert", tmp_path, "regression", 1)
    with pytest.raises(ExportError, match="got --target-transform log"):
        written(
            number,
            preprocessing,
            tmp_path,
            task=Regression(TargetScale(3.0, 1.0, "log")),
            class_names=["price"],
        )


def test_words_that_are_read_after_a_space_are_refused(tmp_path):
    tags = get_task("ner").output_names(["PLACE"])
    model, preprocessing = classifier("Roberta", tmp_path, "ner", len(tags), per_token=True)
    with pytest.raises(ExportError, match="got RobertaTokenizer, which reads it after ' '"):
        written(model, preprocessing, tmp_path, task="ner", class_names=tags)


def test_layers_of_different_sizes_are_refused(tmp_path):
    """As after `ktransfer prune`."""
    _, preprocessing = classifier("DistilBert", tmp_path)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in preprocessing.inputs}
    tokens = keras_hub.layers.TokenAndPositionEmbedding(
        len(WORDS) + 5, 64, 8, name="token_and_position_embedding"
    )(inputs["token_ids"])
    for index, units in enumerate((16, 12)):
        encoder = keras_hub.layers.TransformerEncoder(units, 2, name=f"transformer_layer_{index}")
        tokens = encoder(tokens, padding_mask=inputs["padding_mask"])
    model = build_text_classifier(keras.Model(inputs, tokens, name="smaller"), len(CLASSES), preprocessing)
    with pytest.raises(ExportError, match="got smaller with others, as after pruning"):
        written(model, preprocessing, tmp_path)


def test_the_runtime_imports_no_tensorflow():
    """PyTorch in a process with TensorFlow may crash."""
    script = (
        "import sys, ktransfer.exporting.hf.runtime\n"
        "from ktransfer.core.task import get_task\n"
        "[get_task(name) for name in ('single_label', 'multi_label', 'regression', 'ner')]\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]


@HERE
def test_images_are_refused_and_leave_nothing(tmp_path):
    files = [draw(tmp_path / "a.png", seed=1, size=(40, 40))]
    with pytest.raises(ExportError, match="a run on texts"):
        export(small_model(), Preprocessing(Resize(32, 32), 1.0, 0.0), tmp_path, examples=files)
    assert not list((tmp_path / "artifacts").glob("*"))
