"""Classes in order, the whole way, and by the deployment kit: every program answers with the median as the run does."""

import csv
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from exporting import exported_to, kit_answers
from onnx_server.decision import ranked, read_decision
from onnx_server_runs import serving
from PIL import Image
from typer.testing import CliRunner

from ktransfer.cli import app
from ktransfer.commands.train import train
from ktransfer.commands.verify import verify
from ktransfer.core.task import get_task
from ktransfer.demo import PRESET_PATH
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run

KIT = Path(__file__).parents[2] / "export"
RECIPE = Recipe(
    stages=(Stage(depth=1, epochs=1, learning_rate=1e-4),),
    batch_size=16,
    augmentation=Augmentation.none(),
    final_weights="interpolated",
)
LABELS = ["1", "2", "3", "4"]


def write_images(folder, names=LABELS, count=64):
    """Grey pictures whose class is how bright they are, nearly."""
    random = np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for index in range(count):
        rank = index % len(names)
        brightness = (rank + random.uniform(-0.3, 1.3)) / len(names)
        pixels = random.integers(90, 250, (8, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
        Image.fromarray((pixels * np.clip(brightness, 0.1, 1)).astype("uint8")).save(folder / f"{index}.png")
        rows.append((f"{index}.png", names[rank]))
    with (folder / "grades.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "grade"), *rows])
    return folder / "grades.csv"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ordinal")
    table = write_images(folder / "pictures")
    options = {"task": "ordinal", "recipe": RECIPE, "image_size": 64, "verbose": 0}
    options |= {"formats": ("tflite", "onnx")}
    return train(table, PRESET_PATH, folder / "run", **options, say=lambda line: None)


@pytest.fixture(scope="module")
def pictures(run):
    return [str(path) for path in sorted(Path(run.manifest["data"]["source"]).parent.glob("*.png"))[:12]]


def test_a_run_on_classes_in_order_is_measured_by_their_distance(run):
    manifest = json.loads((run.path / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["task"], manifest["labels"]) == ("ordinal", LABELS)
    assert [each["format"] for each in manifest["artifacts"]] == ["tflite", "onnx"]
    metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))["validation"]
    assert metrics["kappa"] > 0.5
    assert metrics["mae"] <= 1 - metrics["accuracy"] + 0.5
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "quadratic weighted kappa" in page
    assert "into 4 classes in order, 1 to 4" in page
    assert "the median of the" in page
    with (run.path / "history.csv").open(encoding="utf-8") as file:
        assert "val_kappa" in next(csv.reader(file))
    assert verify(run, say=lambda line: None).ok


def test_a_loaded_run_answers_with_the_median(run, pictures):
    loaded = Run.load(run.path)
    for answers in loaded.predict(pictures, top_k=4):
        shares = dict.fromkeys(LABELS, 0.0) | {each["label"]: each["probability"] for each in answers}
        middle = LABELS[int((np.cumsum(list(shares.values())) >= 0.5).argmax())]
        assert answers[0]["label"] == middle


@pytest.mark.spread("onnx", "tflite")
@pytest.mark.parametrize("format", ["onnx", "tflite", "savedmodel"])
def test_a_program_answers_with_the_class_of_the_run(format, run, pictures):
    exported_to(run, format)
    found = kit_answers(format, run.path, *pictures)
    expected = [answers[0] for answers in run.predict(pictures)]
    assert [each["label"] for each in found] == [each["label"] for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


@pytest.mark.slow
def test_a_saved_model_of_classes_in_order_is_verified(run):
    assert verify(exported_to(run, "savedmodel"), say=lambda line: None).ok


@pytest.mark.parametrize("program", ["onnx", "onnx_server", "savedmodel", "tflite", "tf_serving"])
def test_every_program_finds_the_median_of_any_probabilities(program):
    rows = np.random.default_rng(0).dirichlet([0.5] * 4, 50)
    rows[0] = [0.5, 0.0, 0.0, 0.5]
    expected = [LABELS[i] for i in get_task("ordinal").decide(rows)]
    if program == "onnx_server":
        found = [ranked(row, LABELS, 1, ordered=True)[0] for row in rows]
    else:
        file = "client.py" if program == "tf_serving" else "predict.py"
        answer = runpy.run_path(str(KIT / program / file))["answer"]
        found = [
            answer(row if file == "predict.py" else row.tolist(), LABELS, None, ordered=True) for row in rows
        ]
    assert [each["label"] for each in found] == expected


def test_the_server_and_its_load_test_know_the_order(run, pictures):
    from onnx_server.load_test import Load, prepare

    requests, facts = prepare(run.path, Path(pictures[0]).parent)
    assert facts["task"] == "ordinal"
    kind, body, expected = requests[0]
    turned = dict(zip(expected, reversed(list(expected.values())), strict=True))
    with serving(run.path) as (client, _):
        for wrong, changed in ((0, expected), (1, turned)):
            load = Load(client.base_url.port, [(kind, body, changed), *requests[1:]], **facts)
            load.run(len(requests), 2)
            assert (len(load.latencies), load.errors, load.wrong) == (len(requests), 0, wrong)
    assert read_decision({"task": '"ordinal"'}, LABELS) == ("ordinal", None)


def test_classes_without_a_rank_are_one_line_on_the_command_line(tmp_path):
    table = write_images(tmp_path / "pictures", ["low", "middle", "high"], 12)
    arguments = ["train", str(table), "--backbone", str(PRESET_PATH), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*arguments, "--task", "ordinal"])
    assert done.exit_code != 0
    assert "Expected classes that begin with their rank" in str(done.exception)
    assert not (tmp_path / "run").exists()
