"""Numbers by the deployment kit: the programs of each format and the ONNX server answer as the run does."""

import csv

import pytest
from exporting import exported_to, kit_answers
from onnx_server_runs import serving
from text_zoo import write_preset

from ktransfer.commands.train import train
from ktransfer.recipes.recipe import Recipe
from ktransfer.text.augmentation import TextAugmentation

TEXTS = ["the quick fox", "you", "a brown fox and the fox of the fox", "the " * 60]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of prices, by their logarithm; the head alone is trained."""
    folder = tmp_path_factory.mktemp("run")
    preset = write_preset("Bert", folder, hidden_dim=32)[1]
    recipe = Recipe(stages=(), batch_size=16, augmentation=TextAugmentation())
    rows = [("the quick " * (index % 7) + f"fox {index}", 1_000 * 2 ** (index % 7)) for index in range(80)]
    with (folder / "prices.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "price"), *rows])
    facts = {"task": "regression", "label_column": "price", "target_transform": "log"}
    return train(
        folder / "prices.csv",
        preset,
        folder / "run",
        recipe=recipe,
        formats=("tflite", "onnx"),
        verbose=0,
        say=lambda line: None,
        **facts,
    )


def same(found, expected):
    assert [each["label"] for each in found] == ["price"] * len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one["value"] == pytest.approx(other["value"], rel=1e-4)
        assert one["interval"] == pytest.approx(other["interval"], rel=1e-4)
        assert one["coverage"] == other["coverage"] == 0.9


def test_the_file_for_phones_says_that_it_answers_a_number(run):
    content = (run.path / "artifacts" / "model.tflite").read_bytes()
    assert b"Predicted number, in the unit of the target" in content
    assert b"their sum is 1" not in content


@pytest.mark.spread("onnx", "tflite")
@pytest.mark.parametrize("format", ["onnx", "tflite", "savedmodel"])
def test_a_program_answers_with_the_number_of_the_run(format, run):
    exported_to(run, format)
    same(kit_answers(format, run.path, *TEXTS), [answers[0] for answers in run.predict(TEXTS)])


def test_the_server_answers_numbers_and_the_load_test_checks_them(run, tmp_path):
    from onnx_server.load_test import Load, prepare

    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    requests, facts = prepare(run.path, tmp_path / "texts.txt")
    assert facts == {"task": "regression", "thresholds": None}
    same([expected for _, _, expected in requests], [answers[0] for answers in run.predict(TEXTS)])
    kind, body, expected = requests[0]
    with serving(run.path) as (client, _):
        answer = client.post("/predict", json={"text": TEXTS})
        assert answer.status_code == 200, answer.text
        same(answer.json()["results"], [answers[0] for answers in run.predict(TEXTS)])
        for wrong, changed in ((0, expected), (2, expected | {"value": expected["value"] * 1.01})):
            load = Load(client.base_url.port, [(kind, body, changed), *requests[1:]], **facts)
            load.run(8, 2)
            assert (len(load.latencies), load.errors, load.wrong) == (8, 0, wrong)
