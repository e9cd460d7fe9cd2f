"""`ktransfer rank` on drawn images, texts, and tasks of every kind, with tiny backbones."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ner_data import sentences, write_conll
from text_zoo import write_preset

import ktransfer
from ktransfer.commands.rank import rank
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import BackboneError, DataError, KTransferError, RecipeError, RunError

COMMAND = (sys.executable, "-c", "from ktransfer.cli import main; main()", "rank")
QUIET = {"verbose": 0, "say": lambda line: None}
CHEAP = {**QUIET, "train_best": 0, "latency": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_target_task(
        tmp_path_factory.mktemp("data") / "things", train_per_class=8, validation_per_class=3
    )


@pytest.mark.slow
def test_the_whole_way_by_the_command(tmp_path, data):
    out = tmp_path / "ranked"
    names = ["--backbone", PRESET_PATH, "--backbone", f"{PRESET_PATH}@0.5", "--backbone", "no_such_preset"]
    options = ["--out", out, "--train-budget", "60s", "--train-best", "1"]
    done = subprocess.run([*COMMAND, data, *names, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no_such_preset is left out" in done.stdout
    assert "rank.html" in done.stdout
    found = json.loads((out / "rank.json").read_text(encoding="utf-8"))
    assert list(found["left_out"]) == ["no_such_preset"]
    first, second = found["candidates"]
    assert first["loss"] <= second["loss"]
    assert first["trained"]["title"] == "accuracy"
    assert second["trained"] is None
    assert found["best"] == first["name"]
    for each in found["candidates"]:
        assert set(each["latency_ms"]) == {"tflite", "onnx"}
        assert min(each["size_bytes"].values()) > 0
    whole, cut = sorted(found["candidates"], key=lambda each: -each["parameters"])
    assert whole["blocks"] > cut["blocks"] > 0
    assert whole["multiply_adds"] > cut["multiply_adds"]
    page = (out / "rank.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "no_such_preset" in page
    assert ktransfer.Run.load(next((out / "runs").iterdir())).manifest["status"] == "trained"


@pytest.mark.slow
def test_a_second_ranking_reads_the_cache_and_says_the_same(tmp_path, data):
    names = [PRESET_PATH, f"{PRESET_PATH}@0.5", f"{PRESET_PATH}@1.5", f"{PRESET_PATH}@1"]
    lines = []
    one, other = (rank(data, names, cache_dir=tmp_path, **CHEAP | {"say": lines.append}) for _ in range(2))
    assert "(0, 1]" in one.left_out[f"{PRESET_PATH}@1.5"]
    assert sum(line.startswith("left out") for line in lines) == 2
    assert one.notes == (f"{PRESET_PATH}@1 is the same network as {PRESET_PATH}",)
    assert [each.loss for each in one.candidates] == [each.loss for each in other.candidates]
    assert [each.h_score for each in one.candidates] == [each.h_score for each in other.candidates]
    assert one.candidates[0].behind == 0
    assert one.candidates[1].behind >= 0


def test_the_sample_is_bounded_and_has_every_class(data):
    ranking = rank(data, [PRESET_PATH, f"{PRESET_PATH}@0.5"], sample=20, **CHEAP)
    assert 10 <= ranking.examples <= 25
    assert ranking.of > ranking.examples


def text_table(folder, columns, rows):
    path = folder / "a.csv"
    path.write_text("\n".join([columns, *rows]), encoding="utf-8")
    return path


TASKS = {
    "single_label": ("text,label", [f"word {n} {'fox' if n % 2 else 'dog'},{n % 2}x" for n in range(24)]),
    "multi_label": ("text,a,b", [f"quick fox {n},{n % 2},{n % 3 // 2}" for n in range(40)]),
    "regression": ("text,price", [f"the dog {n},{n}.5" for n in range(30)]),
}


@pytest.mark.spread("multi_label", "regression")
@pytest.mark.parametrize("task", TASKS)
def test_texts_of_every_task_are_ranked(tmp_path, task):
    _, preset = write_preset("Bert", tmp_path)
    table = text_table(tmp_path, *TASKS[task])
    columns = {"label_column": "a,b"} if task == "multi_label" else {}
    ranking = rank(table, [preset, f"{preset}@0.5"], task=task, **columns, **CHEAP)
    assert len(ranking.candidates) == 2
    for each in ranking.candidates:
        assert np.isfinite([each.loss, each.score, each.logme]).all()
        assert (each.h_score is None) == (task == "regression")


def test_entities_are_ranked_by_their_words(tmp_path):
    _, preset = write_preset("Bert", tmp_path)
    data = write_conll(tmp_path / "train.conll", sentences(40))
    ranking = rank(data, [preset, f"{preset}@0.5"], **CHEAP)
    assert ranking.score_title == "accuracy of the words"


def test_a_class_of_one_example_is_left_out_and_said(tmp_path):
    _, preset = write_preset("Bert", tmp_path)
    rows = [f"word {n} fox,{n % 2}x" for n in range(24)] + ["rare one,rare", "rare two,rare"]
    ranking = rank(text_table(tmp_path, "text,label", rows), [preset, f"{preset}@0.5"], **CHEAP)
    assert len(ranking.candidates) == 2
    assert ranking.notes
    assert "fewer than 2" in ranking.notes[0]


@pytest.mark.parametrize(
    ("names", "options", "error", "said"),
    [
        ([PRESET_PATH], {}, BackboneError, "two or more different"),
        ([PRESET_PATH, PRESET_PATH], {}, BackboneError, "two or more different"),
        (["nothing_1", "nothing_2"], {}, BackboneError, "none of 2"),
        ([PRESET_PATH, f"{PRESET_PATH}@0.5"], {"sample": 3}, RunError, "--sample"),
        ([PRESET_PATH, f"{PRESET_PATH}@0.5"], {"train_best": -1}, RunError, "--train-best"),
        (
            [PRESET_PATH, f"{PRESET_PATH}@0.5"],
            {"train_best": 1, "train_budget": "2s"},
            RecipeError,
            "at least",
        ),
        (
            [PRESET_PATH, f"{PRESET_PATH}@0.5"],
            {"train_best": 1, "train_budget": "soon"},
            RecipeError,
            "duration",
        ),
        ([PRESET_PATH, f"{PRESET_PATH}@0.5"], {"text_column": "a"}, DataError, "--text-column"),
    ],
)
def test_what_cannot_be_ranked_is_refused(data, names, options, error, said):
    with pytest.raises(error, match=said):
        rank(data, names, **{**CHEAP, **options})


def test_a_missing_runtime_is_said_in_one_line(data, monkeypatch):
    from ktransfer.commands import costs as module
    from ktransfer.errors import MissingExtraError

    def missing(modules, purpose):
        raise MissingExtraError(f"Expected the package for {purpose}, got none.")

    monkeypatch.setattr(module, "need_modules", missing)
    lines = []
    names = [PRESET_PATH, f"{PRESET_PATH}@0.5"]
    ranking = rank(data, names, verbose=0, say=lines.append, train_best=0)
    assert sum("no latency of" in line for line in lines) == 2
    assert not ranking.candidates[0].latency_ms


def test_errors_of_a_ranking_are_ours():
    with pytest.raises(KTransferError):
        rank("nowhere", [PRESET_PATH, f"{PRESET_PATH}@0.5"], **CHEAP)
