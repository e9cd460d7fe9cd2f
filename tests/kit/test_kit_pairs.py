"""Pairs of texts by the deployment kit: the programs of each format and the ONNX server answer as the run does."""

import csv
import json

import pytest
from exporting import KIT, exported_to, kit_answers
from onnx_server.pairs import Pairs
from onnx_server_runs import serving
from text_zoo import FAMILIES, NASTY, write_preset
from tokenizers import Tokenizer

from ktransfer.commands.train import train
from ktransfer.data.pairs import Pair
from ktransfer.recipes.recipe import Recipe
from ktransfer.text.augmentation import TextAugmentation
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.pair_preprocessing import pair_preprocessing
from ktransfer.text.tokenizer_json import write_tokenizer
from ktransfer.text.tokenizer_texts import NASTY_TEXTS

FORMATS = ("onnx", "tflite", "savedmodel")
COPIES = ("onnx", "tflite", "onnx_server")
MODEL = "/v2/models/classifier"
# Of a command line no text has a NUL, and none half a surrogate pair.
TEXTS = [text for text in (*NASTY_TEXTS, *NASTY) if text.isprintable() and text.strip()]
PAIRS = [*zip(TEXTS, reversed(TEXTS), strict=True), ("the fox " * 40, "you"), ("you", "a fox " * 40)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of BERT, which has segments; the head alone is trained."""
    folder = tmp_path_factory.mktemp("run")
    preset = write_preset("Bert", folder, hidden_dim=32)[1]
    recipe = Recipe(stages=(), batch_size=16, augmentation=TextAugmentation())
    words = ["the", "quick", "brown", "fox", "you"]
    rows = [
        (f"{one} {index}", f"{other} fox {index}", "yes" if one == other else "no")
        for index in range(4)
        for one in words
        for other in words
    ]
    with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("premise", "hypothesis", "label"), *rows])
    options = {"recipe": recipe, "formats": ("tflite", "onnx"), "verbose": 0}
    return train(folder / "pairs.csv", preset, folder / "run", **options, say=lambda line: None)


def test_every_program_has_the_same_file():
    first, *others = ((KIT / name / "pairs.py").read_bytes() for name in COPIES)
    assert all(other == first for other in others)


@pytest.mark.spread(3)
@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_are_packed_as_in_training(family, tmp_path):
    backbone, preset = write_preset(family, tmp_path)
    for length in (23, 24):  # of which one is odd without special tokens
        ours = pair_preprocessing(load_text_preprocessing(preset, backbone, sequence_length=length))
        pair = ours.to_dict()["pair"]
        facts = write_tokenizer(ours.as_tokenizer(), tmp_path / str(length), pair=pair)
        theirs = Pairs(Tokenizer.from_file(str(tmp_path / str(length) / "tokenizer.json")), facts)
        lengths = [*range(12), 30]
        for first, second in [(one, other) for one in lengths for other in lengths]:
            texts = Pair("the " * first, "fox " * second)
            expected = ours.pack(ours.tokenize([texts]), len(ours.tokenize([texts])[0]))
            for name, ids in theirs(*texts).items():
                assert ids.tolist() == expected[name][0].tolist(), (name, first, second)


@pytest.mark.spread("onnx", "tflite")
@pytest.mark.parametrize("format", FORMATS)
def test_a_program_answers_as_the_run(format, run):
    exported_to(run, format)
    found = kit_answers(format, run.path, *(text for pair in PAIRS for text in pair))
    expected = [answers[0] for answers in run.predict(PAIRS)]
    assert [each["label"] for each in found] == [each["label"] for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


def same(results, expected):
    assert len(results) == len(expected)
    for one, other in zip(results, expected, strict=True):
        assert [each["label"] for each in one] == [each["label"] for each in other]
        assert one[0]["probability"] == pytest.approx(other[0]["probability"], abs=1e-4)


def test_the_server_takes_pairs_in_every_form(run):
    pairs = [list(pair) for pair in PAIRS]
    expected = run.predict(PAIRS)
    first, second = zip(*pairs, strict=True)
    with serving(run.path) as (client, _):
        for body in ({"text": pairs}, {"text_a": first, "text_b": second}):
            answers = client.post("/predict", json=body).json()
            same(answers["results"], expected)
            assert {len(PAIRS) - 2, len(PAIRS) - 1} <= set(answers["cut_texts"])
        for body in ({"text": pairs[0]}, {"text_a": first[0], "text_b": second[0]}):
            same(client.post("/predict", json=body).json()["results"], expected[:1])
        given = {"name": "text", "datatype": "BYTES", "shape": [len(pairs), 2]}
        for data in (pairs, [text for pair in pairs for text in pair]):
            done = client.post(f"{MODEL}/infer", json={"inputs": [{**given, "data": data}]})
            assert done.status_code == 200, done.text
            [output] = done.json()["outputs"]
            assert output["shape"] == [len(pairs), 2]
        asked = client.get(MODEL).json()["parameters"]["instead_of_inputs"]
        assert asked == [{"name": "text", "datatype": "BYTES", "shape": [-1, 2]}]
        assert client.get("/openapi.json").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"text": "one"},
        {"text": []},
        {"text": ["one"]},
        {"text": ["one", "two", "three"]},
        {"text": [["one", "two"], ["three"]]},
        {"text": [["one", 2]]},
        {"text_a": "one"},
        {"text_a": "one", "text_b": ["two"]},
        {"text_a": ["one", "two"], "text_b": ["three"]},
        {"text": ["one", "two"], "text_a": "one", "text_b": "two"},
        {"text_a": "one", "text_b": "two", "top": 1},
        {"text_a": 1, "text_b": 2},
        {"text_a": [], "text_b": []},
    ],
)
def test_the_server_refuses_what_is_no_pair(run, body):
    with serving(run.path) as (client, _):
        done = client.post("/predict", json=body)
    assert done.status_code == 400, done.text
    assert "Send" in done.text or "Remove" in done.text


def test_the_server_refuses_tensors_of_single_strings(run):
    given = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["one", "two"]}
    with serving(run.path) as (client, _):
        done = client.post(f"{MODEL}/infer", json={"inputs": [given]})
    assert done.status_code == 400
    assert "[-1, 2]" in json.dumps(done.json())
