"""A trained run without half of its channels or heads is a run that every command takes."""

import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from test_text_commands import RECIPE as TEXT_RECIPE
from test_text_commands import write_table
from text_zoo import write_preset

from ktransfer.commands.prunable import Prunable
from ktransfer.commands.prune import prune
from ktransfer.commands.splits import read_splits
from ktransfer.commands.taught import Taught
from ktransfer.commands.train import train
from ktransfer.commands.verify import verify
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import KTransferError, RecipeError
from ktransfer.models.locate import find_backbone
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run

RECIPE = Recipe(stages=(Stage(depth="all", epochs=1, learning_rate=1e-4),), batch_size=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("prune")


@pytest.fixture(scope="module")
def images(folder):
    data = write_target_task(folder / "drawn", train_per_class=6, validation_per_class=4)
    recipe = dataclasses.replace(RECIPE, stages=())
    return train(
        data, PRESET_PATH, folder / "images", recipe=recipe, formats=(), verbose=0, say=lambda _: None
    )


@pytest.fixture(scope="module")
def texts(folder):
    (folder / "bert").mkdir()
    preset = write_preset("Bert", folder / "bert", num_layers=2)[1]
    table = write_table(folder / "animals.csv", count=60)
    recipe = dataclasses.replace(TEXT_RECIPE, stages=())
    return train(table, preset, folder / "texts", recipe=recipe, formats=(), verbose=0, say=lambda _: None)


def smaller(run, out, **options):
    lines = []
    options = {"recipe": RECIPE, "formats": (), "verbose": 0, "report": False, **options}
    return prune(run.path, out, say=lines.append, **options), lines


@pytest.mark.slow
def test_a_pruned_run_of_images_is_exported_and_verified(images, folder):
    run, lines = smaller(
        images, folder / "half", keep=0.5, formats=("savedmodel", "tflite", "onnx"), report=True
    )
    before, after = run.manifest["pruning"]["parameters"]
    assert find_backbone(run.model).count_params() == after < 0.6 * before
    assert any(line.startswith("pruned     50% of each of") for line in lines)
    loaded = Run.load(run.path)
    verify(loaded, say=lambda _: None)
    assert (run.path / "report.html").is_file()
    assert "ktransfer prune" in run.manifest["reproduce"]["command"]
    assert all("mask" not in layer.name for layer in loaded.model.layers)


def test_heads_and_units_of_a_transformer_are_removed(texts, folder):
    run, _ = smaller(texts, folder / "heads", keep=0.5, recipe=TEXT_RECIPE)
    attention = [
        layer
        for layer in find_backbone(run.model).layers
        if isinstance(layer, keras.layers.MultiHeadAttention)
    ]
    assert [layer.num_heads for layer in attention] == [1, 1]
    assert Run.load(run.path).predict(["the quick fox"])


@pytest.mark.parametrize("cost", ["parameters", "multiply_adds"])
def test_a_target_is_met_by_the_largest_network_that_fits(images, folder, cost):
    splits = read_splits(images.data, images.recipe.seed)[0]
    prunable = Prunable(images, splits, importance="magnitude")
    found, share = prunable.within(cost, 0.5)
    assert found.share(cost) == share <= 0.5
    assert prunable.to(min(1.0, found.keep + 0.15)).share(cost) > 0.5


def test_all_that_is_kept_answers_as_before(images):
    splits = read_splits(images.data, images.recipe.seed)[0]
    found = Prunable(images, splits, importance="magnitude").to(1.0)
    given = np.random.default_rng(0).uniform(0, 255, (2, *images.model.input.shape[1:])).astype("float32")
    np.testing.assert_allclose(found.model(given), images.model(given), atol=1e-4)
    assert found.parameters[0] == found.parameters[1]


@pytest.mark.slow
def test_gradual_pruning_ends_at_the_same_size_and_leaves_no_other_run(images, folder):
    run, lines = smaller(images, folder / "gradual", keep=0.5, steps=2)
    assert sum(line.startswith("pruned") for line in lines) == 2
    assert [path.name for path in folder.glob("gradual*")] == ["gradual"]
    assert run.manifest["distillation"]["teachers"] == [str(images.path)]


@pytest.mark.slow
def test_a_target_out_of_reach_keeps_the_smallest_under_another_name(images, tmp_path):
    recipe = dataclasses.replace(RECIPE, stages=())
    with pytest.raises(
        RecipeError, match=r"the smallest network, with 5% of each group, .* kept in .*out\.best"
    ):
        smaller(images, tmp_path / "out", parameters=0.0001, recipe=recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["out.best"]
    best = Run.load(tmp_path / "out.best")
    assert best.manifest["status"] == "trained"
    assert best.manifest["pruning"]["keep"] == 0.05


@pytest.mark.slow
def test_a_latency_is_met_by_the_exported_file(images, tmp_path):
    recipe, lines = dataclasses.replace(RECIPE, stages=()), []
    options = {"recipe": recipe, "verbose": 0, "report": False, "formats": ("tflite",)}
    run = prune(images.path, tmp_path / "out", latency=1e6, say=lines.append, **options)
    facts = run.manifest["pruning"]
    assert facts["keep"] > 0.95
    assert facts["format"] == "tflite"
    assert 0 < facts["latency_ms"] < 1e6
    assert any(line.startswith("measured") for line in lines)
    with pytest.raises(RecipeError, match="latency that can be reached"):
        prune(images.path, tmp_path / "fast", latency="0.001us", say=lines.append, **options)
    assert Run.load(tmp_path / "fast.best").manifest["artifacts"]


@pytest.mark.slow
def test_steps_that_were_killed_are_not_trained_again(images, tmp_path, monkeypatch):
    import ktransfer.commands.taught as taught_module

    trained, whole = [], taught_module.train_on

    def train_on(read, data, backbone, out, **options):
        trained.append(Path(out).name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return whole(read, data, backbone, out, **options)

    monkeypatch.setattr(taught_module, "train_on", train_on)
    recipe = dataclasses.replace(RECIPE, stages=())
    with pytest.raises(KeyboardInterrupt):
        smaller(images, tmp_path / "out", keep=0.5, steps=2, recipe=recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["out.step1"]
    with pytest.raises(KTransferError, match="begun with"):
        smaller(images, tmp_path / "out", keep=0.4, steps=2, recipe=recipe)
    run, _ = smaller(images, tmp_path / "out", keep=0.5, steps=2, recipe=recipe)
    assert trained == ["out.step1", "out", "out"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert run.manifest["pruning"]["steps"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0}, "keep as a share above 0"),
        ({"keep": 1}, "keep as a share above 0"),
        ({"keep": 2.0}, "keep as a share above 0"),
        ({"keep": 0.5, "parameters": 0.5}, "one target"),
        ({"importance": "luck"}, "importance taylor or magnitude"),
        ({"steps": 0}, "steps of pruning"),
        ({"latency": "soon"}, "a latency such as"),
        ({"latency": "5ms", "keep": 0.5}, "one target"),
        ({"latency": "5ms", "formats": ("tflite", "onnx")}, "one format"),
        ({"latency": "5ms", "threads": 0}, "at least one thread"),
        ({"keep": 0.5, "seed": 9}, "teacher's seed"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(images, tmp_path, options, message):
    with pytest.raises(KTransferError, match=message):
        smaller(images, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_weights_of_a_run_that_was_refit_are_warned_of(images, tmp_path):
    copy = Run.load(shutil.copytree(images.path, tmp_path / "refit"))
    for refit, warned in ((True, 1), (False, 0)):
        copy.update(refit=refit)
        lines = []
        Taught.of(copy.path, tmp_path / "out", recipe=RECIPE, say=lines.append, verbose=0).warn_of_refit()
        assert sum("refit on its validation examples" in line for line in lines) == warned


def test_a_failing_call_leaves_the_run_as_it_was(images, folder, tmp_path):
    copy = shutil.copytree(images.path, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    (tmp_path / "out.best").mkdir()
    (tmp_path / "out.best" / "mine.txt").write_text("mine")
    with pytest.raises(KTransferError, match="holds other files"):  # after the search for the target
        smaller(Run.load(copy), tmp_path / "out", parameters=0.0001, importance="magnitude")
    assert (tmp_path / "out.best" / "mine.txt").read_text() == "mine"
    assert {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()} == before
