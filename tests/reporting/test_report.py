"""The report of a run, as a file and in a browser, where classes are called what a stranger may call them."""

import json
import re
import shutil

import browser
import numpy as np
import pytest
from images import draw
from text_zoo import write_preset
from typer.testing import CliRunner

from ktransfer.cli import app
from ktransfer.commands.evaluate import evaluate, evaluate_splits
from ktransfer.commands.report import report, write_report
from ktransfer.commands.splits import read_splits
from ktransfer.commands.train import resume, train
from ktransfer.data.examples import Splits
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import RunError
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run

SECTIONS = (
    *("result", "data", "training", "classes", "calibration"),
    *("worst", "why", "artifacts", "reproduce"),
)
EVIL = "<script>alert(1)</script>"
EVIL_CLASS = '<img src=x onerror="alert(2)">&$x_1$'


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    data = write_target_task(
        tmp_path_factory.mktemp("data") / "drawn", train_per_class=6, validation_per_class=4
    )
    for part in ("train", "val"):
        (data / part / "mug").rename(data / part / EVIL_CLASS)
    return data


@pytest.fixture(scope="module")
def image_run(tmp_path_factory, drawn):
    lines, out = [], tmp_path_factory.mktemp("runs") / "images"
    stage = Stage(depth=0.5, epochs=2, learning_rate=1e-4, warmup=0.5, schedule="cosine")
    recipe = Recipe(stages=(stage,), batch_size=16)
    run = train(drawn, PRESET_PATH, out, recipe=recipe, formats=["onnx"], verbose=0, say=lines.append)
    assert not [line for line in lines if "no report" in line]
    return run


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    random = np.random.default_rng(0)
    table = tmp_path_factory.mktemp("data") / "texts.jsonl"
    rows = []
    for index in range(80):
        words = random.choice(["the", "quick", "brown", "you"], random.integers(2, 12)).tolist()
        label = ("other", EVIL_CLASS)[index % 2]
        # Half of them are labelled at odds with what they say, so that some answers are wrong.
        words.insert(0, "fox" if index % 4 else EVIL)
        rows.append(json.dumps({"text": f"{' '.join(words)} {index} {EVIL}", "label": label}))
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    preset = write_preset("Bert", tmp_path_factory.mktemp("bert"))[1]
    lines, out = [], tmp_path_factory.mktemp("runs") / "texts"
    run = train(table, preset, out, epochs=0, formats=(), verbose=0, say=lines.append)
    assert not [line for line in lines if "no report" in line]
    return run


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


def page(run):
    return (run.path / "report.html").read_text(encoding="utf-8")


def test_training_ends_with_a_page_and_the_logs_of_tensorboard(image_run):
    html = page(image_run)
    assert all(f'id="{name}"' in html for name in SECTIONS)
    assert {path.name for path in (image_run.path / "tensorboard").iterdir()} == {"train", "validation"}


def test_the_numbers_of_the_page_are_those_of_the_run(image_run):
    html = page(image_run)
    metrics = json.loads((image_run.path / "metrics.json").read_text())["validation"]
    low, high = metrics["accuracy_interval"]
    assert f"<b>{100 * metrics['accuracy']:.1f} %</b>" in html
    assert f"95 % interval {100 * low:.1f} % to {100 * high:.1f} %" in html
    assert f"{metrics['macro']['f1']:.3f}" in html
    (artifact,) = image_run.manifest["artifacts"]
    assert artifact["sha256"][:12] in html
    assert f"{artifact['parity']['max_abs_delta']:.1e}" in html


def test_what_is_measured_of_the_probabilities_is_kept_for_programs(image_run):
    metrics = json.loads((image_run.path / "metrics.json").read_text())["validation"]
    assert {"ece", "brier", "log_loss", "reliability", "accuracy_interval", "per_class"} <= set(metrics)
    assert metrics["calibrated"]["cross_fitted"] is True
    assert metrics["calibrated"]["temperature"] == image_run.manifest["temperature"] > 0


def test_nothing_that_a_stranger_named_or_wrote_becomes_markup(image_run, text_run):
    for run in (image_run, text_run):
        html = page(run)
        assert "<script" not in html
        assert "<img src=x" not in html
        assert "&lt;img src=x onerror=" in html
        assert "default-src 'none'" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page(text_run)


def test_the_page_loads_nothing(image_run, text_run):
    for run in (image_run, text_run):
        found = re.findall(r'(?:src|href)="([^"]*)"', page(run))
        assert found
        assert not [url for url in found if not url.startswith(("data:", "#"))]


def test_a_run_without_epochs_says_so(text_run):
    assert "No epochs were trained" in page(text_run)
    assert not (text_run.path / "tensorboard").exists()


def test_only_numbers_are_told_of_a_test_part(image_run, tmp_path):
    shutil.copytree(image_run.path, tmp_path / "run")
    run = Run.load(tmp_path / "run")
    splits = read_splits(run.manifest["data"], run.recipe.seed)[0]
    splits = Splits(splits.train, splits.validation, splits.validation.subset([0, 8, 16]))
    lines = []
    answers = evaluate_splits(run, splits, say=lines.append)
    assert [line.split()[0] for line in lines] == ["validation", "test"]
    calibrated = answers["test"].evaluation.calibrated
    assert not calibrated.cross_fitted
    assert calibrated.temperature == answers["validation"].evaluation.calibrated.temperature
    write_report(run, splits, answers, say=lines.append)
    html = page(run)
    assert "accuracy on 3 test images" in html
    assert "There is no test split" not in html
    assert "The temperature was fitted on the validation split." in html


def test_evaluate_takes_the_temperature_of_the_run(image_run, drawn):
    result, _ = evaluate(image_run, drawn, say=lambda line: None)
    assert not result.calibrated.cross_fitted
    assert result.calibrated.temperature == image_run.manifest["temperature"]


def test_the_command_makes_the_page_anew_from_data_that_was_moved(image_run, drawn, tmp_path):
    shutil.copytree(image_run.path, tmp_path / "run")
    shutil.copytree(drawn, tmp_path / "moved")
    (tmp_path / "run" / "report.html").unlink()
    done = CliRunner().invoke(app, ["report", str(tmp_path / "run"), "--data", str(tmp_path / "moved")])
    assert done.exit_code == 0, done.output
    numbers = [re.findall(r"\d+\.\d+", page(run)) for run in (Run.load(tmp_path / "run"), image_run)]
    assert numbers[0] == numbers[1]
    assert len(numbers[0]) > 100


def test_other_data_than_that_of_the_run_is_refused(image_run, drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "other")
    draw(tmp_path / "other" / "val" / "fish" / "new.png", size=(64, 64))
    with pytest.raises(RunError, match=r"other files\. Pass its path with --data"):
        report(image_run, data=tmp_path / "other", say=lambda line: None)


def test_a_report_that_fails_does_not_cost_the_run(image_run, tmp_path, monkeypatch):
    shutil.copytree(image_run.path, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()

    def fail(*args, **kwargs):
        raise ZeroDivisionError("a bug\nof ours")

    monkeypatch.setattr("ktransfer.commands.fit.write_report", fail)
    lines = []
    run = resume(tmp_path / "run", say=lines.append, verbose=0)
    assert run.manifest["status"] == "trained"
    assert lines[-1] == f"warning    no report (a bug of ours); make it with `ktransfer report {run.path}`"


def test_an_unfinished_report_is_made_when_the_run_is_resumed(image_run, tmp_path):
    shutil.copytree(image_run.path, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    run = resume(tmp_path / "run", say=lambda line: None, verbose=0)
    assert "Worst answers" in page(run)


@pytest.mark.parametrize("kind", ["image_run", "text_run"])
def test_a_browser_shows_every_section_and_has_nothing_to_complain_of(kind, chromium, request):
    run = request.getfixturevalue(kind)
    browser.show(chromium, run.path / "report.html")
    for name in SECTIONS:
        assert chromium.find_element("id", name).is_displayed()
        assert chromium.find_element("id", name).size["height"] > 40
    assert browser.complaints(chromium) == []
    assert browser.requests(chromium) == [(run.path / "report.html").as_uri()]
    assert browser.broken_images(chromium) == 0
    assert browser.without_alt(chromium) == 0
    shown = chromium.find_element("tag name", "body").text
    assert EVIL_CLASS in shown
    if kind == "text_run":
        assert EVIL in shown
    assert chromium.execute_script("return document.scripts.length") == 0


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("kind", ["image_run", "text_run"])
def test_the_page_fits_every_window_in_light_and_dark(kind, width, dark, chromium, request):
    browser.show(chromium, request.getfixturevalue(kind).path / "report.html", width=width, dark=dark)
    assert browser.overflow(chromium) <= 0
    ink, paper = browser.colours(chromium)
    assert (ink < paper) != dark
    assert abs(ink - paper) > 150


def test_what_is_wider_than_the_window_is_reached_by_keyboard(image_run, chromium):
    browser.show(chromium, image_run.path / "report.html", width=400)
    unreachable = chromium.execute_script(
        "return [...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1"
        " && getComputedStyle(e).overflowX == 'auto' && e.tabIndex < 0).length"
    )
    assert unreachable == 0
