import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ktransfer.commands.evaluate import evaluate
from ktransfer.commands.export import export
from ktransfer.commands.splits import evenly
from ktransfer.commands.train import resume, train
from ktransfer.data.examples import Examples
from ktransfer.demo import DEMO_CLASSES, PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import DataError, RunError
from ktransfer.exporting.artifact import Artifact, fingerprint
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run
from ktransfer.training.checkpoint import Checkpoint

RECIPE = Recipe(stages=(Stage(depth=1, epochs=2, learning_rate=1e-5),), batch_size=16)
QUIET = {"verbose": 0, "say": lambda line: None}
# tests/reporting has the reports of runs.
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_target_task(
        tmp_path_factory.mktemp("data") / "drawn things", train_per_class=6, validation_per_class=4
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    """Without a SavedModel, which takes as long as the rest: `tests/exporting` has those of images."""
    lines, out = [], tmp_path_factory.mktemp("runs") / "run"
    options = {"recipe": RECIPE, "formats": ("tflite", "onnx"), "verbose": 0}
    return train(data, PRESET_PATH, out, **options, say=lines.append), lines


@pytest.mark.slow
def test_one_call_leads_from_a_folder_to_three_verified_artifacts(data, tmp_path):
    lines = []
    run = train(data, PRESET_PATH, tmp_path / "run", recipe=RECIPE, verbose=0, say=lines.append)
    assert_exported(run, lines, ["onnx", "savedmodel", "tflite"])


def test_one_call_leads_from_a_folder_to_verified_artifacts(finished):
    assert_exported(*finished, ["onnx", "tflite"])


def assert_exported(run, lines, formats):
    manifest = json.loads((run.path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["status"] == "trained"
    assert manifest["labels"] == list(DEMO_CLASSES)
    assert manifest["data"]["examples"] == {"train": 36, "validation": 24}
    artifacts = {entry["format"]: Artifact.from_dict(entry) for entry in manifest["artifacts"]}
    assert sorted(artifacts) == formats
    for artifact in artifacts.values():
        assert fingerprint(run.path / artifact.path) == (artifact.sha256, artifact.size_bytes)
        assert artifact.parity.max_abs_delta < 1e-4
        assert artifact.parity.examples == 24
    assert sum("largest difference" in line for line in lines) == len(formats)
    assert not (run.path / "checkpoint.npz").exists()
    assert (run.path / "history.csv").read_text().count("\n") == 3


def test_a_trained_run_is_better_than_chance_on_held_out_images(finished):
    run, _ = finished
    assert run.manifest["metrics"]["validation"] > 0.4  # chance is 0.17


def test_an_artifact_answers_one_file_as_the_run_does(finished, data):
    """Without ktransfer, by the kit's own script."""
    run, _ = finished
    picture = next((data / "val" / "mug").iterdir())
    expected = run.predict([picture], top_k=1)[0][0]
    script = Path(__file__).parents[2] / "export" / "onnx" / "predict.py"
    answer = subprocess.run(
        [sys.executable, script, run.path, picture], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(answer)["label"] == expected["label"]
    assert json.loads(answer)["probability"] == pytest.approx(expected["probability"], abs=1e-4)


def test_evaluate_judges_the_part_that_was_not_trained_on(finished, data):
    run, _ = finished
    result, split = evaluate(run, data, say=lambda line: None)
    assert (split, result.examples) == ("validation", 24)
    assert result.accuracy == pytest.approx(run.manifest["metrics"]["validation"])


def test_evaluate_says_so_when_it_is_shown_the_training_images(finished, data):
    run, _ = finished
    lines = []
    evaluate(run, data / "train", say=lines.append)
    assert any("trained on 36 of these images" in line for line in lines)


def test_evaluate_refuses_a_class_the_run_does_not_know(finished, data, tmp_path):
    run, _ = finished
    shutil.copytree(data / "val", tmp_path / "val")
    shutil.copytree(tmp_path / "val" / "mug", tmp_path / "val" / "teapot")
    with pytest.raises(DataError, match="teapot"):
        evaluate(run, tmp_path / "val", say=lambda line: None)


@pytest.mark.slow
def test_a_run_answers_the_same_in_another_process_under_jax(finished, data):
    run, _ = finished
    pictures = sorted(str(path) for path in (data / "val" / "fish").iterdir())
    script = (
        "import sys, json, ktransfer; run = ktransfer.Run.load(sys.argv[1]);"
        "print(json.dumps(run.predict_probabilities(sys.argv[2:]).tolist()))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script, run.path, *pictures],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    np.testing.assert_allclose(json.loads(output), run.predict_probabilities(pictures), atol=1e-4)


def test_export_again_replaces_the_artifact_and_its_entry(finished):
    run, _ = finished
    (artifact,) = export(Run.load(run.path), ["onnx"], say=lambda line: None)
    formats = [entry["format"] for entry in Run.load(run.path).manifest["artifacts"]]
    assert sorted(formats) == ["onnx", "tflite"]
    assert fingerprint(run.path / artifact.path)[0] == artifact.sha256


def test_a_run_that_exists_is_not_touched(finished, data):
    run, _ = finished
    before = fingerprint(run.path)
    with pytest.raises(RunError, match="--overwrite"):
        train(data, PRESET_PATH, run.path, recipe=RECIPE, verbose=0)
    assert fingerprint(run.path) == before


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model_and_a_random_backbone_a_worse_one(data, tmp_path):
    options = {"recipe": Recipe(stages=(), seed=3), "formats": (), "verbose": 0, "say": lambda line: None}
    first = train(data, PRESET_PATH, tmp_path / "a", **options)
    second = train(data, PRESET_PATH, tmp_path / "b", **options)
    rival = train(data, PRESET_PATH, tmp_path / "c", random_weights=True, **options)
    for one, other in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert rival.manifest["metrics"]["validation"] < first.manifest["metrics"]["validation"]


@pytest.mark.slow
def test_a_head_trained_by_gradient_learns_at_any_scale_of_the_features(data, tmp_path):
    recipe = Recipe(
        stages=(Stage(depth=0, epochs=15, learning_rate=3e-2),),
        head="train",
        batch_size=16,
        augmentation=RECIPE.augmentation.none(),
    )
    run = train(data, PRESET_PATH, tmp_path / "run", recipe=recipe, formats=(), **QUIET)
    assert run.manifest["metrics"]["validation"] > 0.4


@pytest.mark.slow
def test_a_full_disk_ends_clearly_and_what_was_trained_loads(data, tmp_path, monkeypatch):
    def full(self, epoch, logs=None):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    monkeypatch.setattr(Checkpoint, "on_epoch_end", full)
    with pytest.raises(OSError, match="No space left"):
        train(data, PRESET_PATH, tmp_path / "run", recipe=RECIPE, formats=(), **QUIET)
    monkeypatch.undo()
    run = Run.load(tmp_path / "run")
    assert run.manifest["status"] == "interrupted"
    assert run.model.output.shape == (None, 6)
    done = resume(tmp_path / "run", formats=(), **QUIET)
    assert done.manifest["status"] == "trained"


@pytest.fixture(scope="module")
def solved(tmp_path_factory, data):
    """A run whose head alone is trained, on a copy of the data."""
    folder = tmp_path_factory.mktemp("solved")
    copy = shutil.copytree(data, folder / "data")
    return train(copy, PRESET_PATH, folder / "run", recipe=Recipe(stages=()), formats=(), **QUIET)


def test_a_disk_that_fills_up_during_the_export_leaves_no_half_artifact(solved, monkeypatch):
    import onnx

    def full(graph, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(OSError, match="No space left"):
        export(solved, ["onnx"], say=lambda line: None)
    assert list((solved.path / "artifacts").iterdir()) == []
    assert "artifacts" not in Run.load(solved.path).manifest


def test_resume_refuses_data_that_has_changed(solved):
    solved.update(status="interrupted")
    Image.new("RGB", (64, 64), "red").save(solved.path.parent / "data" / "train" / "mug" / "new.png")
    with pytest.raises(RunError, match="other files"):
        resume(solved.path, **QUIET)


@pytest.mark.slow
@pytest.mark.parametrize(
    "augmentation",
    [
        pytest.param(Augmentation(), id="images"),
        pytest.param(Augmentation.none(), id="cached", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_says_how_to_go_on_and_resume_still_knows_the_best_weights(data, tmp_path, augmentation):
    # A rate that ruins what the head knew: the solved head has to come back, after the interruption too.
    stages = (Stage(depth=1, epochs=40, learning_rate=0.05),)
    recipe = Recipe(stages=stages, batch_size=8, augmentation=augmentation)
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    solved = train(
        data,
        PRESET_PATH,
        tmp_path / "head",
        recipe=Recipe(stages=()),
        formats=(),
        **QUIET,
    )
    command = [
        Path(sys.executable).with_name("ktransfer"),
        "train",
        data,
        "--backbone",
        PRESET_PATH,
        "--no-export",
    ]
    process = subprocess.Popen(
        [*command, "--out", tmp_path / "run", "--recipe", tmp_path / "recipe.json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in its background with SIGINT ignored, and children inherit it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if line.startswith("Epoch 4/40"):
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert f"ktransfer train --resume --out {tmp_path / 'run'}" in errors
    assert "Traceback" not in errors
    run = Run.load(tmp_path / "run")
    assert run.manifest["status"] == "interrupted"
    assert run.predict(sorted((data / "val" / "key").iterdir()))
    done = resume(run.path, **QUIET)
    assert done.manifest["status"] == "trained"
    assert done.manifest["metrics"]["validation"] >= solved.manifest["metrics"]["validation"]
    assert "artifacts" not in done.manifest  # as it was begun
    assert not (run.path / "checkpoint.npz").exists()
    epochs = [row.split(",")[0] for row in (run.path / "history.csv").read_text().splitlines()[1:]]
    assert epochs == [str(epoch) for epoch in range(40)]


@pytest.mark.slow
def test_what_is_fitted_is_not_fitted_again(data, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("ktransfer.commands.fit.evaluate_splits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(data, PRESET_PATH, tmp_path / "run", recipe=RECIPE, formats=(), **QUIET)
    monkeypatch.undo()
    resume(tmp_path / "run", formats=(), **QUIET)
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 3


def test_parity_is_measured_on_examples_of_all_classes():
    examples = Examples(tuple(f"{i}.png" for i in range(500)), np.repeat(np.arange(5), 100), tuple("abcde"))
    chosen = evenly(examples, 100)
    assert np.bincount(chosen.labels).tolist() == [20] * 5
    assert len(evenly(examples, 1000)) == 500


@pytest.mark.slow
def test_a_mixed_precision_run_exports_in_float32(data, tmp_path):
    recipe = dataclasses.replace(
        RECIPE, precision="mixed_float16", stages=(Stage(depth=1, epochs=1, learning_rate=1e-5),)
    )
    run = train(
        data,
        PRESET_PATH,
        tmp_path / "run",
        recipe=recipe,
        formats=["tflite"],
        **QUIET,
    )
    assert run.model.get_layer(run.manifest["backbone"]["layer"]).dtype_policy.name == "mixed_float16"
    (artifact,) = run.manifest["artifacts"]
    assert artifact["parity"]["label_agreement"] == 1


@pytest.mark.slow
def test_quantization_aware_epochs_are_said_and_in_the_manifest(tmp_path, data):
    lines, recipe = [], dataclasses.replace(RECIPE, stages=())
    options = {"recipe": recipe, "quantization_aware": 1, "formats": (), "verbose": 0, "say": lines.append}
    run = train(data, PRESET_PATH, tmp_path / "run", **options)
    found = run.manifest["quantization_aware"]
    assert found["int8_after"] >= found["int8_before"] or not found["kept"]
    assert run.recipe.quantization_aware == 1
    said = f"quantized  accuracy in int8 {found['int8_before']:.3f} -> {found['int8_after']:.3f}, in"
    assert [line for line in lines if line.startswith(said)]
