"""`ktransfer.train` by a preset: what it decides, from what, and what it says and keeps of it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import ktransfer
from ktransfer.cli import app
from ktransfer.commands import fit
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import RecipeError, RunError
from ktransfer.recipes.default_recipes import PRESETS, preset_recipe, worth_fine_tuning
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.recipes.time_budget import TimeBudget

# tests/reporting has the reports of runs.
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_target_task(
        tmp_path_factory.mktemp("data") / "things", train_per_class=10, validation_per_class=5
    )


def train(data, out, lines=None, **options):
    said = [] if lines is None else lines
    options = {"formats": (), "cache_dir": out.parent / "cache", "verbose": 0} | options
    return ktransfer.train(data, PRESET_PATH, out, say=said.append, **options)


@pytest.fixture(scope="module")
def decided(data, tmp_path_factory):
    lines = []
    run = train(data, tmp_path_factory.mktemp("decided") / "run", lines, epochs=2)
    return run, lines


def test_a_run_without_options_decides_and_says_why_in_one_line(decided):
    run, lines = decided
    assert run.manifest["preset"] == "balanced"
    assert sum(line.startswith("decision ") for line in lines) == 1
    assert sum(line.startswith("weights ") for line in lines) == 1


def test_the_manifest_has_the_evidence_and_every_candidate(decided):
    decision = decided[0].manifest["decision"]
    assert decision["evidence"]["examples"] == 60
    assert decision["evidence"]["taps_gain"] is not None
    assert [candidate["share"] for candidate in decision["candidates"]] == [0, 0.25, 0.5, 0.75, 1]
    assert decision["chosen"] in (0, 0.25, 0.5, 0.75, 1)
    chosen = next(c for c in decision["candidates"] if c["share"] == decision["chosen"])
    assert chosen["accuracy"] == pytest.approx(decided[0].manifest["metrics"]["validation"])


def test_the_recipe_of_the_run_is_the_decided_one(decided):
    run, _ = decided
    assert (run.recipe.stages[0].depth == "all") == run.manifest["decision"]["long"]
    assert Recipe.from_json((run.path / "recipe.json").read_bytes()) == run.recipe


@pytest.mark.slow
def test_the_decision_is_the_same_without_the_cache(decided, data, tmp_path):
    run = train(data, tmp_path / "run", epochs=2, cache=False)
    for name, value in decided[0].manifest["decision"]["evidence"].items():
        assert run.manifest["decision"]["evidence"][name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


@pytest.mark.slow
def test_the_recipe_that_was_decided_trains_the_same_again(decided, data, tmp_path):
    again = train(data, tmp_path / "run", recipe=decided[0].recipe)
    assert again.manifest["metrics"] == decided[0].manifest["metrics"]
    assert "preset" not in again.manifest


def test_fast_decides_nothing(data, tmp_path):
    lines = []
    run = train(data, tmp_path / "run", lines, preset="fast", epochs=1)
    assert "decision" not in run.manifest
    assert run.recipe.final_weights == "best"
    assert not any(line.startswith("decision ") for line in lines)


def test_no_epochs_keep_the_solved_head(data, tmp_path):
    run = train(data, tmp_path / "run", epochs=0)
    assert run.recipe.stages == ()
    assert "decision" not in run.manifest


def test_a_recipe_and_a_preset_together_are_refused(data, tmp_path):
    recipe = Recipe(stages=(Stage(depth=1, epochs=1, learning_rate=1e-3),))
    with pytest.raises(RecipeError, match="got both"):
        train(data, tmp_path / "run", recipe=recipe, preset="fast")
    assert not (tmp_path / "run").exists()


def test_an_unknown_preset_is_refused_with_the_nearest(data, tmp_path):
    with pytest.raises(RecipeError, match=r"fast, balanced, best, got 'balancd'.*balanced"):
        train(data, tmp_path / "run", preset="balancd")
    assert not (tmp_path / "run").exists()


def test_what_lower_blocks_know_decides_how_long():
    evidence = {"log_loss": 0.4, "taps_error": 0.02}
    assert worth_fine_tuning({**evidence, "taps_gain": 0.1})[0]
    assert not worth_fine_tuning({**evidence, "taps_gain": 0.01})[0]
    assert not worth_fine_tuning({"log_loss": 0.01, "taps_gain": 0.1, "taps_error": 0.02})[0]
    assert worth_fine_tuning({"log_loss": 0.4, "taps_gain": None, "taps_error": None})[0]  # texts


def test_without_evidence_all_blocks_train():
    assert worth_fine_tuning({"log_loss": None})[0]


def test_a_short_recipe_has_the_stages_of_fast():
    short = preset_recipe("images", examples=500, long=False)
    assert short.stages == preset_recipe("images", examples=500, preset="fast").stages
    assert short.final_weights == "interpolated"
    assert preset_recipe("images", examples=500).stages[0].depth == "all"


@pytest.mark.parametrize("kind", ["images", "texts"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_gives_a_recipe_that_reads_back(kind, preset):
    recipe = preset_recipe(kind, examples=500, preset=preset, seed=3)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.seed == 3
    assert json.loads(recipe.to_json())["stages"]


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_best_trains_longer_than_balanced_and_few_examples_longer_than_many(kind):
    epochs = {
        (preset, count): preset_recipe(kind, examples=count, preset=preset).epochs
        for preset in ("balanced", "best")
        for count in (300, 30_000)
    }
    assert epochs["best", 300] > epochs["balanced", 300]
    assert epochs["balanced", 300] > epochs["balanced", 30_000]


def test_refit_trains_on_validation_as_well_and_keeps_the_estimate(decided, data, tmp_path):
    lines = []
    run = train(data, tmp_path / "run", lines, epochs=2, refit=True)
    assert run.manifest["metrics"] == decided[0].manifest["metrics"]
    assert run.manifest["decision"] == decided[0].manifest["decision"]
    assert run.manifest["refit"] is True
    assert sum(line.startswith("refit ") and "on 90 images" in line for line in lines) == 1
    assert not np.array_equal(
        run.model.get_layer("logits").kernel, decided[0].model.get_layer("logits").kernel
    )
    assert not list(run.path.glob("*.npz"))


def test_evaluate_says_that_a_refitted_run_has_seen_the_validation_images(data, tmp_path):
    run = train(data, tmp_path / "run", epochs=0, refit=True)
    lines = []
    ktransfer.evaluate(run, data, say=lines.append)
    assert any("trained on 30 of these images" in line for line in lines)


@pytest.fixture(scope="module")
def best(data, tmp_path_factory):
    lines = []
    return train(data, tmp_path_factory.mktemp("best") / "run", lines, preset="best", epochs=2), lines


def test_best_fine_tunes_from_a_zero_head_as_well_and_compares_averages(best):
    run, lines = best
    decision = run.manifest["decision"]
    found = [(candidate["share"], candidate["zero_head"]) for candidate in decision["candidates"]]
    assert found[:7] == [*[(share, 0) for share in (0, 0.25, 0.5, 0.75, 1)], (1, 1), (1, 0.5)]
    assert len(found) == 8
    chosen = next(
        c
        for c in decision["candidates"]
        if c["share"] == decision["chosen"] and c["zero_head"] == decision["zero_head"]
    )
    assert chosen["accuracy"] == pytest.approx(run.manifest["metrics"]["validation"])
    assert sum("head of zeros" in line for line in lines) == 1
    assert not list(run.path.glob("*.npz"))


def test_the_zero_head_arm_is_another_training(best):
    losses = [candidate["log_loss"] for candidate in best[0].manifest["decision"]["candidates"]]
    assert len({round(loss, 6) for loss in losses[:7]}) == 7  # the soup may be of three on the way


@pytest.mark.slow
def test_the_second_arm_is_left_out_where_the_budget_has_no_time_for_it(data, tmp_path, monkeypatch):
    monkeypatch.setattr(TimeBudget, "left", lambda self: 1e3 if not fitted else -1.0)
    fitted, lines = [], []
    fine_tune = fit._fine_tune

    def counted(*given, **options):
        found = fine_tune(*given, **options)
        fitted.append(1)
        return found

    monkeypatch.setattr(fit, "_fine_tune", counted)
    run = train(data, tmp_path / "run", lines, preset="best", epochs=1, budget="20m")
    assert len(fitted) == 1
    assert len(run.manifest["decision"]["candidates"]) == 5
    assert sum("too few to fine-tune from a zero head" in line for line in lines) == 1


@pytest.mark.slow
def test_best_refits_by_itself_where_validation_was_held_out(data, tmp_path):
    held_out = train(data / "train", tmp_path / "held out", preset="best", epochs=1)
    given = train(data, tmp_path / "given", preset="best", epochs=1)
    assert (held_out.manifest.get("refit"), given.manifest.get("refit")) == (True, None)


def test_refit_with_quantization_aware_epochs_is_refused(data, tmp_path):
    with pytest.raises(RecipeError, match="refit or quantization_aware"):
        train(data, tmp_path / "run", refit=True, quantization_aware=1)


@pytest.mark.parametrize("option", [["--preset", "best"], ["--refit"], ["--budget", "10m"]])
def test_resume_refuses_another_way_than_the_run_was_begun_with(option, decided):
    run, _ = decided
    before = (run.path / "manifest.json").read_bytes()
    found = CliRunner().invoke(app, ["train", "--resume", "--out", str(run.path), *option])
    assert isinstance(found.exception, RunError)
    assert option[0] in str(found.exception)
    assert (run.path / "manifest.json").read_bytes() == before


def test_refit_with_a_budget_is_refused(data, tmp_path):
    with pytest.raises(RecipeError, match="a budget or refit"):
        train(data, tmp_path / "run", refit=True, budget="10m")


@pytest.mark.slow
def test_a_budget_shortens_the_training_and_says_so(data, tmp_path, monkeypatch):
    lines = []
    run = train(data, tmp_path / "run", lines, budget="10m", epochs=3)
    assert run.manifest["budget_seconds"] == 600
    assert sum(line.startswith("budget ") for line in lines) == 1
    assert run.recipe.epochs <= 3


def test_a_budget_too_small_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(RecipeError, match="at least 40 s"):
        train(tmp_path / "nothing", tmp_path / "run", budget=5)
