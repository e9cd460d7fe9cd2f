"""Entities by the deployment kit: the programs of each format and the ONNX server answer as the run does."""

import json

import numpy as np
import pytest
from exporting import KIT, exported_to, kit_answers
from ner_data import write_folder
from onnx_server.entities import best_tags, words_of
from onnx_server_runs import serving
from text_zoo import NASTY, write_preset

from ktransfer.commands.train import train
from ktransfer.data.entities import words
from ktransfer.recipes.recipe import Recipe
from ktransfer.tasks import token_classification
from ktransfer.text.augmentation import TextAugmentation
from ktransfer.text.tokenizer_texts import NASTY_TEXTS

FORMATS = ("onnx", "tflite", "savedmodel")
COPIES = ("onnx", "tflite", "savedmodel", "onnx_server")
# Of a command line no text has a NUL, and none half a surrogate pair.
TEXTS = [text for text in (*NASTY_TEXTS, *NASTY) if text.isprintable() and text.strip()]
MODEL = "/v2/models/classifier"
LONG = "the quick you " * 30 + "brown fox at the café"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of SentencePiece, whose ids XLM-RoBERTa moves; the head alone is trained."""
    folder = tmp_path_factory.mktemp("run")
    preset = write_preset("XLMRoberta", folder, hidden_dim=32)[1]
    recipe = Recipe(stages=(), batch_size=16, augmentation=TextAugmentation())
    data = write_folder(folder / "data")
    options = {"recipe": recipe, "formats": ("tflite", "onnx"), "verbose": 0}
    return train(data, preset, folder / "run", **options, say=lambda line: None)


def same(found, expected):
    assert [[(each["label"], each["start"], each["end"], each["text"]) for each in one] for one in found] == [
        [(each["label"], each["start"], each["end"], each["text"]) for each in one] for one in expected
    ]
    for one, other in zip(found, expected, strict=True):
        for each, wanted in zip(one, other, strict=True):
            assert each["probability"] == pytest.approx(wanted["probability"], abs=1e-4)


def test_every_program_has_the_same_file():
    first, *others = ((KIT / name / "entities.py").read_bytes() for name in COPIES)
    assert all(other == first for other in others)


@pytest.mark.parametrize("text", [*NASTY_TEXTS, *NASTY])
def test_words_are_those_of_training(text):
    assert words_of(text) == words.words_of(text)


def test_tags_are_decoded_as_in_training():
    random = np.random.default_rng(0)
    for count in (0, 1, 7, 40):
        probabilities = random.dirichlet(np.ones(7), count) if count else np.zeros((0, 7))
        assert best_tags(probabilities).tolist() == token_classification.best_tags(probabilities).tolist()


@pytest.mark.spread("onnx", "tflite")
@pytest.mark.parametrize("format", FORMATS)
def test_a_program_answers_with_the_entities_of_the_run(format, run):
    texts = [LONG, "a café, the fox!", *TEXTS]
    exported_to(run, format)
    found = [answer["entities"] for answer in kit_answers(format, run.path, *texts)]
    expected = run.predict(texts)
    assert sum(map(len, expected)) > 5
    same(found, expected)
    assert all(
        text[each["start"] : each["end"]] == each["text"]
        for text, one in zip(texts, found, strict=True)
        for each in one
    )


def post(client, path, body):
    """Half a surrogate pair, which some texts have, is no UTF-8; JSON escapes it."""
    return client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})


def test_the_server_answers_with_the_entities_of_the_run(run):
    texts = [LONG, "", *NASTY_TEXTS]
    expected = run.predict(texts)
    with serving(run.path) as (client, _):
        answer = post(client, "/predict", {"text": texts})
        assert answer.status_code == 200, answer.text
        same(answer.json()["results"], expected)
        # By the Open Inference Protocol as JSON in a tensor of strings.
        given = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
        answer = post(client, f"{MODEL}/infer", {"inputs": [given]})
        assert answer.status_code == 200, answer.text
        [output] = answer.json()["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("entities", "BYTES", [len(texts), 1])
        same([json.loads(each) for each in output["data"]], expected)
        outputs = client.get(MODEL).json()["outputs"]
        assert [each["name"] for each in outputs] == ["probabilities", "entities"]


def test_the_server_answers_tensors_with_probabilities_of_tokens(run):
    ids = run.preprocessing(["the fox", "a café here"])
    inputs = [
        {"name": name, "datatype": "INT32", "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in ids.items()
    ]
    with serving(run.path) as (client, _):
        [output] = client.post(f"{MODEL}/infer", json={"inputs": inputs}).json()["outputs"]
        assert output["shape"] == [*ids["token_ids"].shape, 5]
        refused = client.post(f"{MODEL}/infer", json={"inputs": inputs, "outputs": [{"name": "entities"}]})
        assert refused.status_code == 400
        assert "Expected the output 'probabilities' for tensors" in refused.text


def test_the_load_test_compares_entities(run, tmp_path):
    from onnx_server.load_test import Load, prepare

    (tmp_path / "texts.txt").write_text(f"{LONG}\na caf\u00e9, the fox!\n", encoding="utf-8")
    requests, facts = prepare(run.path, tmp_path / "texts.txt")
    assert facts == {"task": "ner", "thresholds": None}
    kind, body, expected = requests[0]
    assert expected
    with serving(run.path) as (client, _):
        for wrong, answers in (
            (0, expected),
            (4, [{**expected[0], "end": expected[0]["end"] + 1}, *expected[1:]]),
        ):
            load = Load(client.base_url.port, [(kind, body, answers), *requests[1:]], **facts)
            load.run(8, 2)
            assert (len(load.latencies), load.errors, load.wrong) == (8, 0, wrong)
