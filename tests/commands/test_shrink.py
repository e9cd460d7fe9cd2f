"""A run made smaller by measuring: the result is a run that every command takes, with all that was tried."""

import dataclasses
import json
import shutil

import pytest

import ktransfer.commands.shrink as shrink_module
from ktransfer.commands.shrink import shrink
from ktransfer.commands.train import train
from ktransfer.commands.verify import verify
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import KTransferError, RecipeError, RunError
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run
from ktransfer.shrinking.candidates import Candidate

RECIPE = Recipe(stages=(Stage(depth="all", epochs=1, learning_rate=1e-4),), batch_size=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shrink")


@pytest.fixture(scope="module")
def run(folder):
    data = write_target_task(folder / "drawn", train_per_class=6, validation_per_class=4)
    recipe = dataclasses.replace(RECIPE, stages=())
    options = {"image_size": 48, "formats": (), "verbose": 0, "say": lambda _: None, "test_fraction": 0.2}
    return train(data, PRESET_PATH, folder / "run", recipe=recipe, **options)


def smaller(run, out, **options):
    lines = []
    options = {"recipe": RECIPE, "verbose": 0, "trials": 1, **options}
    return shrink(run.path, out, say=lines.append, **options), lines


def files(path):
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


@pytest.mark.slow
def test_the_result_is_a_run_with_all_that_was_tried(run, folder):
    before = files(run.path)
    found, lines = smaller(run, folder / "small", drop=0.99, backbone=PRESET_PATH, image_size=32)
    assert files(run.path) == before
    loaded = Run.load(found.path)
    verify(loaded, say=lambda _: None)
    tried = json.loads((found.path / "shrink.json").read_text())
    candidates = [Candidate.from_dict(each) for each in tried["candidates"]]
    assert {each.start for each in candidates} == {"run", "student"}
    assert {each.keep for each in candidates} == {1.0, 0.5}
    chosen = Candidate.from_dict(tried["chosen"])
    assert chosen.size_bytes == min(each.size_bytes for each in candidates)
    assert (found.path / loaded.manifest["shrink"]["path"]).stat().st_size == chosen.size_bytes
    assert sum(line.startswith("front") for line in lines) >= 1
    assert set(loaded.manifest["metrics"]) == set(run.manifest["metrics"])  # the test split as well
    assert (found.path / "report.html").is_file()
    assert (found.path / "shrink.png").is_file()
    assert "Pareto front" in (found.path / "shrink.html").read_text()
    assert not (folder / "small.trials").exists()
    assert loaded.manifest["data"]["fingerprint"] == run.manifest["data"]["fingerprint"]


@pytest.mark.slow
def test_no_trial_reads_the_test_split_and_a_killed_search_goes_on(run, folder, monkeypatch):
    out, ends = folder / "killed", []
    whole = shrink_module._Search._level

    def level(self, start, *given):
        ends.append(start)
        if len(ends) == 2:
            raise KeyboardInterrupt
        whole(self, start, *given)
        trained = Run.load(next(self.folder.glob("run-*")))
        assert set(trained.manifest["metrics"]) == {"validation"}

    monkeypatch.setattr(shrink_module._Search, "_level", level)
    with pytest.raises(KeyboardInterrupt):
        smaller(run, out, drop=0.99, trials=2, formats=["tflite"])
    assert not out.exists()
    with pytest.raises(RunError, match="begun with"):
        smaller(run, out, drop=0.5, trials=2, formats=["tflite"])
    found, lines = smaller(run, out, drop=0.99, trials=2, formats=["tflite"])
    assert lines.count(next(line for line in lines if line.startswith("resumed"))) == 1
    assert ends == ["run", "run", "run"]  # the first was not trained again
    tried = json.loads((found.path / "shrink.json").read_text())["candidates"]
    assert sorted(each["keep"] for each in tried) == [0.25, 0.5, 1.0]


@pytest.mark.slow
def test_limits_that_cannot_be_reached_keep_the_nearest_under_another_name(run, folder):
    with pytest.raises(RecipeError, match=r"nearest .*far\.best"):
        smaller(run, folder / "far", size="2kB", formats=["tflite"])
    assert not (folder / "far").exists()
    best = Run.load(folder / "far.best")
    assert best.manifest["shrink"]["reached"] is False
    tried = json.loads((best.path / "shrink.json").read_text())
    assert tried["chosen"]["size_bytes"] == min(each["size_bytes"] for each in tried["candidates"])
    verify(best, say=lambda _: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": 2}, "from 0 to below 1"),
        ({"latency": "soon"}, "a latency such as"),
        ({"size": "0MB"}, "a size such as"),
        ({"formats": ["keras-hub"]}, "formats that have a runtime"),
        ({"formats": []}, "formats to measure"),
        ({"trials": 0}, "at least one trial"),
        ({"threads": 0}, "at least one thread"),
        ({"importance": "luck"}, "importance taylor or magnitude"),
        ({"layers": 2, "backbone": "bert"}, "one student"),
        ({"seed": 9}, "teacher's seed"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(run, tmp_path, options, message):
    with pytest.raises(KTransferError, match=message):
        smaller(run, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_trained_on_its_validation_examples_is_refused(run, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "refit")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"refit": True}))
    with pytest.raises(RunError, match="refit on them"):
        smaller(Run.load(copy), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_of_others_are_left_alone(run, tmp_path):
    (tmp_path / "out.trials").mkdir()
    (tmp_path / "out.trials" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="holds files"):
        smaller(run, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out.trials" / "mine.txt").read_text() == "mine"
