"""Numbers to predict, the whole way: tables, training, evaluation, artifacts, report, resume."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from text_zoo import write_preset
from typer.testing import CliRunner

from ktransfer.cli import app
from ktransfer.commands.benchmark import benchmark
from ktransfer.commands.evaluate import evaluate
from ktransfer.commands.train import resume, train
from ktransfer.commands.verify import verify
from ktransfer.demo import PRESET_PATH
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run
from ktransfer.text.augmentation import TextAugmentation

STAGES = (Stage(depth="all", epochs=2, learning_rate=1e-4, warmup=0.5, schedule="linear"),)
TEXTS = Recipe(stages=STAGES, batch_size=16, augmentation=TextAugmentation(), final_weights="interpolated")
IMAGES = Recipe(stages=(), batch_size=16, augmentation=Augmentation.none())


def write_texts(path, count=120, seed=0, slope=0.8):
    """Texts, and a price that grows with how often they say fox, far from 0 and skewed."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        foxes = int(random.integers(0, 5))
        words = [*random.choice(["the", "quick", "you", "a"], 6).tolist(), *["fox"] * foxes]
        random.shuffle(words)
        rows.append(
            (f"{' '.join(words)} {index}", round(50_000 * np.exp(slope * foxes + random.normal(0, 0.1)), 2))
        )
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "price"), *rows])
    return path


def write_images(folder, count=60, seed=0):
    """Pictures of coarse patches, and how bright they are in a column of a table."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    rows = []
    for index in range(count):
        brightness = random.uniform(0.2, 1.0)
        grey = random.integers(90, 250, (8, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
        Image.fromarray((grey * brightness).astype("uint8")).save(folder / f"{index:03}.png")
        rows.append((f"{index:03}.png", round(100 * brightness, 3)))
    with (folder / "light.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "brightness"), *rows])
    return folder / "light.csv"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_preset("Bert", tmp_path_factory.mktemp("bert"))[1]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts") / "prices.csv")


@pytest.fixture(scope="module")
def of_texts(tmp_path_factory, bert, table):
    lines = []
    out = tmp_path_factory.mktemp("runs") / "texts"
    options = {"task": "regression", "label_column": "price", "target_transform": "log", "recipe": TEXTS}
    return train(table, bert, out, **options, verbose=0, say=lines.append), lines


@pytest.fixture(scope="module")
def of_images(tmp_path_factory):
    lines = []
    table = write_images(tmp_path_factory.mktemp("pictures") / "light")
    options = {"task": "regression", "recipe": IMAGES, "formats": ["onnx", "onnx-int8"], "image_size": 64}
    out = tmp_path_factory.mktemp("runs") / "images"
    return train(table, PRESET_PATH, out, **options, verbose=0, say=lines.append), lines


def test_a_table_of_numbers_leads_to_three_verified_artifacts(of_texts):
    run, lines = of_texts
    manifest = json.loads((run.path / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["modality"], manifest["task"], manifest["labels"]) == ("text", "regression", ["price"])
    assert manifest["data"]["target"]["transform"] == "log"
    assert manifest["recipe"]["loss"] == "huber"
    assert [entry["format"] for entry in manifest["artifacts"]] == ["savedmodel", "tflite", "onnx"]
    for entry in manifest["artifacts"]:
        assert entry["parity"]["max_abs_delta"] < 1e-4
        assert entry["parity"]["compared"] == "standard deviations of the target"
    interval = manifest["fitted"]["decision"]["interval"]
    assert interval["coverage"] == 0.9
    assert interval["transform"] == "log"
    assert (run.path / "residuals.png").is_file()
    assert not [line for line in lines if "no report" in line]
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Prediction intervals" in page
    assert "Residuals" in page
    with (run.path / "history.csv").open(encoding="utf-8") as file:
        assert "val_r2" in next(csv.reader(file))


def test_answers_are_in_the_unit_of_the_target(of_texts):
    run = Run.load(of_texts[0].path)
    [[few], [many]] = run.predict(["the quick you a the a 7", "the fox fox fox fox quick you a the 8"])
    assert few["label"] == "price"
    assert 20_000 < few["value"] < many["value"] < 5_000_000
    low, high = many["interval"]
    assert low < many["value"] < high
    assert high / many["value"] == pytest.approx(many["value"] / low)


def test_validation_is_better_than_the_median_and_intervals_hold(of_texts):
    metrics = json.loads((of_texts[0].path / "metrics.json").read_text(encoding="utf-8"))["validation"]
    assert metrics["spearman"]["value"] > 0.5
    assert metrics["mae"]["value"] < metrics["baseline"]
    assert 0.7 <= metrics["coverage"] <= 1.0


def test_new_data_is_evaluated_with_the_interval_of_the_run(of_texts, tmp_path):
    run = of_texts[0]
    found, split = evaluate(run, write_texts(tmp_path / "new.csv", 60, seed=5), say=lambda line: None)
    assert split
    assert not found.cross_fitted
    assert found.interval.width == run.manifest["fitted"]["decision"]["interval"]["width"]
    assert 0.7 <= found.coverage <= 1.0


@pytest.mark.slow
def test_artifacts_of_numbers_are_verified_and_measured(of_images):
    run, lines = of_images
    assert any("standard deviations of the target" in line for line in lines)
    assert verify(run, say=lambda line: None).ok
    found = {each.format: each for each in benchmark(run, rounds=1, examples=8).measured}
    assert found["onnx"].max_abs_delta < 1e-4
    assert found["onnx-int8"].label_agreement >= 0.5


def test_an_artifact_answers_in_the_unit_of_the_target(of_images):
    import onnxruntime

    run = of_images[0]
    session = onnxruntime.InferenceSession(str(run.path / "artifacts/model.onnx"))
    path = run.manifest["data"]["source"].replace("light.csv", "000.png")
    pixels = run.preprocessing([path])
    [value] = session.run(None, {"image": np.asarray(pixels)})
    assert value[0, 0] == pytest.approx(run.predict([path])[0][0]["value"], rel=1e-3)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["task"]) == "regression"
    assert json.loads(metadata["interval"]) == run.manifest["fitted"]["decision"]["interval"]


@pytest.mark.slow
def test_a_run_that_is_cut_off_ends_as_one_that_was_not(bert, table, tmp_path):
    options = {"task": "regression", "label_column": "price", "recipe": TEXTS, "formats": (), "verbose": 0}
    whole = train(table, bert, tmp_path / "whole", **options, say=lambda line: None)

    class CutOff(Exception):
        pass

    def cut_off(line):
        if line.startswith("head "):
            raise CutOff

    with pytest.raises(CutOff):
        train(table, bert, tmp_path / "cut", **options, say=cut_off)
    found = resume(tmp_path / "cut", say=lambda line: None, verbose=0)
    for one, other in zip(whole.model.get_weights(), found.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.manifest["fitted"] == whole.manifest["fitted"]


@pytest.mark.slow
def test_fine_tuning_that_is_worse_than_ridge_is_not_kept(bert, tmp_path):
    table, lines = write_texts(tmp_path / "skewed.csv", slope=1.5), []
    stages = (Stage(depth="all", epochs=1, learning_rate=0.5),)
    recipe = dataclasses.replace(TEXTS, stages=stages)
    options = {"task": "regression", "label_column": "price", "recipe": recipe, "formats": (), "verbose": 0}
    run = train(table, bert, tmp_path / "run", **options, say=lines.append)
    assert run.manifest["decision"]["chosen"] == 0.0
    assert any(
        "the solved head, which fine-tuning did not beat (half squared error" in line for line in lines
    )
    assert any("--target-transform log" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target-transform", "sqrt"], "--target-transform"),
        (["--loss", "focal"], 'Expected the loss "squared_error" or "huber" for regression'),
    ],
)
def test_bad_options_are_one_line_on_the_command_line(bert, table, tmp_path, options, message):
    arguments = ["train", str(table), "--backbone", str(bert), "--out", str(tmp_path / "run")]
    arguments += ["--task", "regression", "--label-column", "price", *options]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code != 0
    assert message in f"{done.output}{done.exception}"
    assert not (tmp_path / "run").exists()
