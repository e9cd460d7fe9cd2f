"""`ktransfer search` on drawn images and on texts, with tiny backbones."""

import contextlib
import json
import subprocess
import sys

import pytest
from text_zoo import write_preset

import ktransfer
from ktransfer.commands import search as module
from ktransfer.commands.search import search, search_space
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import (
    BackboneError,
    DataError,
    KTransferError,
    MissingExtraError,
    RecipeError,
    RunError,
)

COMMAND = (sys.executable, "-c", "from ktransfer.cli import main; main()", "search")
SPACE = {
    "depth": [0, 0.34],
    "epochs": [1],
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "batch_size": [8],
}
QUIET = {"verbose": 0, "formats": (), "space": SPACE}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_target_task(
        tmp_path_factory.mktemp("data") / "things", train_per_class=6, validation_per_class=4
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory, data):
    """A search of three trials, and what it printed."""
    out, lines = tmp_path_factory.mktemp("searches") / "things", []
    search(data, str(PRESET_PATH), out, trials=3, say=lines.append, **QUIET)
    return out, lines


def summary(out):
    return json.loads((out / "search.json").read_text(encoding="utf-8"))


def test_a_search_ends_in_an_ordinary_run_with_the_recipe_of_the_best(done):
    out, _ = done
    found, run = summary(out), ktransfer.Run.load(out / "best")
    complete = [each for each in found["trial_list"] if each["state"] == "complete"]
    best = min(complete, key=lambda each: each["loss"])
    assert found["best"]["trial"] == best["trial"] == run.manifest["search"]["trial"]
    assert run.manifest["status"] == "trained"
    assert (out / "best" / "report.html").is_file()
    depths = [stage.depth for stage in run.recipe.stages] or [0]
    assert depths == [best["values"]["depth"]]
    # What the winner's trial reached is reached again.
    assert run.manifest["metrics"]["validation"] == pytest.approx(best["score"])


def test_no_trial_sees_the_test_split(done):
    out, lines = done
    assert any("held out as the test split" in line for line in lines)
    for trial in (out / "trials").iterdir():
        assert set(json.loads((trial / "metrics.json").read_text(encoding="utf-8"))) == {"validation"}
        manifest = json.loads((trial / "manifest.json").read_text(encoding="utf-8"))
        assert "test" not in manifest["data"]["examples"]
        assert not (trial / "model.keras").exists()
    found = summary(out)["best"]
    assert found["outer"] == "held out before the search"
    assert found["test_examples"] > 0
    assert set(ktransfer.Run.load(out / "best").manifest["metrics"]) == {"validation", "test"}


def test_the_page_says_which_number_is_which(done):
    page = (done[0] / "search.html").read_text(encoding="utf-8")
    assert "held out before the search: no trial saw them" in page
    assert "optimistic" in page
    assert page.count("<svg") >= 3
    assert "<script" not in page


def test_the_same_call_adds_nothing_and_more_trials_are_added(done, data):
    out, _ = done
    before = summary(out)
    lines = []
    search(data, str(PRESET_PATH), out, trials=3, say=lines.append, **QUIET)
    assert not [line for line in lines if line.startswith("trial")]
    search(data, str(PRESET_PATH), out, trials=4, say=lines.append, **QUIET)
    after = summary(out)
    assert len(after["trial_list"]) == 4
    assert after["trial_list"][:3] == before["trial_list"]


@pytest.mark.slow
def test_a_trial_that_runs_out_of_memory_or_diverges_is_marked(tmp_path, data, monkeypatch):
    real = module.train_on
    errors = iter([MemoryError("no room"), RunError("Expected less, got out of memory."), None])

    def train_on(*given, **options):
        error = next(errors, None)
        if error:
            raise error
        return real(*given, **options)

    losses = iter([float("nan")])
    real_loss = module.validation_loss
    monkeypatch.setattr(module, "train_on", train_on)
    monkeypatch.setattr(module, "validation_loss", lambda *given: next(losses, None) or real_loss(*given))
    search(data, str(PRESET_PATH), tmp_path / "s", trials=4, say=lambda line: None, **QUIET)
    trials = summary(tmp_path / "s")["trial_list"]
    assert [each["state"] for each in trials] == ["fail", "fail", "fail", "complete"]
    assert "no room" in trials[0]["error"]
    assert "finite" in trials[2]["error"]
    assert "no room" in (tmp_path / "s" / "search.html").read_text(encoding="utf-8")


def test_a_search_whose_trials_all_fail_says_why(tmp_path, data, monkeypatch):
    def train_on(*given, **options):
        raise MemoryError("no room")

    monkeypatch.setattr(module, "train_on", train_on)
    with pytest.raises(RunError, match="got 2 that failed, the last with: no room"):
        search(data, str(PRESET_PATH), tmp_path / "s", trials=2, say=lambda line: None, **QUIET)


@pytest.mark.slow
def test_a_full_disk_ends_the_search_and_its_trial_is_tried_again(tmp_path, data, monkeypatch):
    real, full = module.train_on, [True]

    def train_on(*given, **options):
        if full:
            raise OSError(28, "No space left on device")
        return real(*given, **options)

    monkeypatch.setattr(module, "train_on", train_on)
    options = {"trials": 1, "say": lambda line: None, **QUIET}
    with pytest.raises(OSError, match="No space left"):
        search(data, str(PRESET_PATH), tmp_path / "s", **options)
    full.clear()
    search(data, str(PRESET_PATH), tmp_path / "s", **options)
    trials = summary(tmp_path / "s")["trial_list"]
    assert [each["state"] for each in trials] == ["left", "complete"]
    assert trials[0]["values"] == trials[1]["values"]


def test_a_budget_that_ends_within_the_first_trial_is_too_small(tmp_path, data, monkeypatch):
    monkeypatch.setattr(module._Clock, "left", property(lambda self: 1.0 if not started else -1.0))
    started = []

    def train_on(*given, callbacks, **options):
        started.append(True)
        for callback in callbacks:
            callback.on_train_batch_end(0)

    monkeypatch.setattr(module, "train_on", train_on)
    with pytest.raises(RunError, match="Expected a budget that one trial fits into"):
        search(data, str(PRESET_PATH), tmp_path / "s", budget="90s", say=lambda line: None, **QUIET)


@pytest.mark.slow
def test_a_backbone_that_does_not_load_is_left_out(tmp_path, data):
    lines = []
    names = [str(PRESET_PATH), f"{PRESET_PATH}@0.5", "no_such_preset"]
    search(data, names, tmp_path / "s", trials=1, say=lines.append, **QUIET)
    assert any(line.startswith("left out   no_such_preset") for line in lines)
    assert summary(tmp_path / "s")["space"]["backbone"] == {"choices": names[:2]}


REFUSED = {
    "an unknown parameter": ({"space": {"learning_rat": [1]}}, RecipeError, "Did you mean learning_rate"),
    "a value that cannot be": ({"space": {"dropout": [2.0]}}, RecipeError, "dropout"),
    "a parameter of texts": ({"space": {"sequence_length": [8]}}, RecipeError, "sequence_length"),
    "a grid without steps": ({"sampler": "grid"}, RecipeError, "step"),
    "an unknown sampler": ({"sampler": "tpee"}, RunError, "Did you mean tpe"),
    "an unknown pruner": ({"pruner": "halfing"}, RunError, "Did you mean halving"),
    "no trials": ({"trials": 0}, RunError, "--trials"),
    "a budget for nothing": ({"budget": "5s"}, RecipeError, "at least"),
    "no duration": ({"budget": "soon"}, RecipeError, "duration"),
    "another search's storage": (
        {"space": {**SPACE, "dropout": [0.1]}, "at": True},
        RunError,
        "another space",
    ),
    "a seed of another search": ({"seed": 5, "at": True}, RunError, "owns"),
    "a storage that cannot be opened": ({"storage": "nonsense"}, RunError, "storage that Optuna can open"),
    "a test split of all": ({"test_fraction": 1.0}, RecipeError, "test_fraction"),
    "an option of texts": ({"text_column": "a"}, DataError, "--text-column"),
    "an unknown option": ({"imagesize": 3}, TypeError, "Did you mean image_size"),
}


@pytest.mark.parametrize("given", REFUSED)
def test_what_cannot_be_searched_is_refused(tmp_path, done, data, given):
    options, error, said = REFUSED[given]
    options = dict(options)
    out = done[0] if options.pop("at", False) else tmp_path / "s"
    with pytest.raises(error, match=said):
        search(data, str(PRESET_PATH), out, **{**QUIET, "say": lambda line: None, **options})


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_names_that_are_none_are_refused(tmp_path, data, names):
    with pytest.raises(BackboneError, match="each once"):
        search(data, names, tmp_path / "s", say=lambda line: None, **QUIET)


def test_a_folder_of_other_files_is_refused(tmp_path, data):
    (tmp_path / "letters.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(RunError, match=r"which holds 'letters\.txt'"):
        search(data, str(PRESET_PATH), tmp_path, say=lambda line: None, **QUIET)


@pytest.mark.slow
def test_texts_are_searched_in_their_length_too(tmp_path):
    _, preset = write_preset("Bert", tmp_path)
    rows = [f"word {n} {'fox' if n % 2 else 'dog'},{n % 2}x" for n in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    space = {"sequence_length": [4, 8], "depth": [0]}
    run = search(
        tmp_path / "a.csv",
        preset,
        tmp_path / "s",
        trials=2,
        say=lambda line: None,
        **QUIET | {"space": space},
    )
    found = summary(tmp_path / "s")
    best = next(each for each in found["trial_list"] if each["trial"] == found["best"]["trial"])
    assert run.preprocessing.sequence_length == best["values"]["sequence_length"]
    assert run.manifest["reproduce"]["arguments"]["sequence_length"] == best["values"]["sequence_length"]


def test_the_default_space_is_printed(data):
    space = search_space(data, str(PRESET_PATH))
    assert {"depth", "epochs", "learning_rate", "lowest_rate", "weight_decay", "dropout"} <= set(space.names)
    assert "backbone" in search_space(data, ["a", "b"]).names


def test_a_missing_extra_names_itself(data, monkeypatch):
    import importlib.util

    from ktransfer.utils import extras

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "ktransfer\[search\]"'):
        extras.need_modules(["optuna"], "a search")


@pytest.mark.slow
def test_two_commands_work_on_one_search(tmp_path, data):
    """Each imports TensorFlow, so this takes a minute."""
    path = tmp_path / "space.json"
    path.write_text(json.dumps(SPACE), encoding="utf-8")
    command = [*COMMAND, data, "--backbone", PRESET_PATH, "--out", tmp_path / "s", "--space", path]
    command = [*map(str, command), "--trials", "5", "--no-export"]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        ]
        said = [process.communicate(timeout=900) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    trials = summary(tmp_path / "s")["trial_list"]
    assert len(trials) == 5
    assert all(each["state"] in ("complete", "pruned") for each in trials)
    printed = [line for out, _ in said for line in out.splitlines() if line.startswith("trial ")]
    assert len(printed) == 5


def test_errors_of_a_search_are_ours(tmp_path):
    with pytest.raises(KTransferError):
        search("nowhere", "a", tmp_path / "s", **QUIET)
