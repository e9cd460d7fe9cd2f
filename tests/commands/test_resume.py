"""A run that is cut off at any moment goes on and ends as the one that was not."""

import dataclasses
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from test_text_commands import write_table
from text_zoo import write_preset
from typer.testing import CliRunner

from ktransfer.cli import app
from ktransfer.commands.train import resume, train
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import RunError
from ktransfer.exporting.artifact import fingerprint
from ktransfer.features.store import FeatureStore
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.adapter import LoRA
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.provenance import arguments, command, read_arguments
from ktransfer.runs.run import Run
from ktransfer.text.augmentation import TextAugmentation

# Dropout draws, patience ends the first stage early, and the optimizer's state goes over to the next.
RECIPE = Recipe(
    stages=(
        Stage(depth=1, epochs=5, learning_rate=1e-3, patience=2),
        Stage(depth=2, epochs=2, learning_rate=1e-3, schedule="cosine"),
    ),
    batch_size=8,
    dropout=0.3,
    seed=5,
)
PLAIN = dataclasses.replace(RECIPE, augmentation=Augmentation.none())
RECIPES = {
    "cached": PLAIN,
    "augmented": RECIPE,
    "views": dataclasses.replace(RECIPE, cached_views=2),
    "adapting": dataclasses.replace(RECIPE, batch_norm="adapt"),
    "mixed": dataclasses.replace(PLAIN, precision="mixed_float16"),
    "texts": dataclasses.replace(RECIPE, augmentation=TextAugmentation(0.1, 0.1, 0.1)),
    "quantized": dataclasses.replace(PLAIN, stages=RECIPE.stages[1:], quantization_aware=2),
    "adapters": dataclasses.replace(PLAIN, adapter=LoRA(rank=2)),
    "adapters, augmented": dataclasses.replace(RECIPE, adapter=LoRA(rank=2)),
    "head only": dataclasses.replace(PLAIN, stages=(), quantization_aware=2),
}
# What decides by evidence, and keeps weights between the solved head and the last epoch.
PRESETS = {
    "balanced": {"preset": "balanced", "epochs": 3, "seed": 4},
    "refit": {"preset": "balanced", "epochs": 3, "refit": True},
    "best": {"preset": "best", "epochs": 2, "refit": True},
    "balanced texts": {"preset": "balanced", "epochs": 2},
    "adapters, refit": {"preset": "balanced", "epochs": 3, "refit": True, "adapter": LoRA(rank=2)},
    "adapters of texts": {"preset": "balanced", "epochs": 2, "adapter": LoRA(rank=2)},
}
QUIET = {"verbose": 0, "say": lambda line: None}
# tests/reporting has the reports of runs.
pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_target_task(
        # Of fewer than 20 validation images the solved head is kept, and a refit has no epochs.
        tmp_path_factory.mktemp("data") / "things",
        train_per_class=4,
        validation_per_class=4,
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("data") / "animals.csv", 60)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """With dropout of its own, as the published ones have."""
    folder = Path(write_preset("Bert", tmp_path_factory.mktemp("bert"))[1])
    config = json.loads((folder / "config.json").read_text())
    config["config"]["dropout"] = 0.1
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory, images, texts, bert):
    """Of each case the run that was not cut off, and copies of its folder as a kill would have left it.

    A copy is made just before a file gets its name: `"checkpoint.npz 3"` is before its fourth version.
    """
    done = {}

    def begun(case):
        if case not in done:
            folder, rename = tmp_path_factory.mktemp(case), os.replace
            whole, counts, copies = folder / "whole", {}, {}

            def replace(source, target):
                if Path(target).parent == whole:
                    name = Path(target).name
                    count = counts[name] = counts.get(name, -1) + 1
                    copies[f"{name} {count}"] = copy = folder / f"copy {len(copies)}"
                    shutil.copytree(whole, copy / "run")
                    shutil.copytree(folder / "cache", copy / "cache", dirs_exist_ok=True)
                rename(source, target)

            (folder / "cache").mkdir()
            data, backbone = (texts, str(bert)) if "texts" in case else (images, PRESET_PATH)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "replace", replace)
                how = {"recipe": RECIPES[case]} if case in RECIPES else PRESETS[case]
                train(data, backbone, whole, formats=(), cache_dir=folder / "cache", **how, **QUIET)
            done[case] = whole, copies
        return done[case]

    return begun


def same_weights(one, other):
    first, second = (keras.models.load_model(run / "model.keras", compile=False) for run in (one, other))
    for mine, theirs in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), err_msg=mine.path)


def assert_same_result(run, whole):
    same_weights(run, whole)
    for name in ("history.csv", "metrics.json"):
        if (whole / name).is_file():  # no history where nothing but the head is trained
            assert (run / name).read_text() == (whole / name).read_text(), name
    manifest = Run.load(run).manifest
    assert manifest["status"] == "trained"
    if (whole / "adapters.safetensors").is_file():
        assert (run / "adapters.safetensors").read_bytes() == (whole / "adapters.safetensors").read_bytes()
    for name in ("quantization_aware", "decision", "recipe", "adapter"):
        assert manifest.get(name) == Run.load(whole).manifest.get(name), name
    left = [
        path.name
        for path in run.iterdir()
        if path.name.startswith((".", "checkpoint", "solved", "refit", "tuned", "zero"))
    ]
    assert left == []


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.spread("cached-manifest.json 2", "balanced-recipe.json 1", "adapters-checkpoint.npz 3")
@pytest.mark.parametrize(
    ("case", "moment"),
    [
        ("cached", "manifest.json 2"),  # the head is solved and saved, the manifest does not know
        slow("cached", "history.csv 1"),  # amid patience; the history lacks the checkpoint's last row
        ("cached", "history.csv 3"),  # patience has ended the first stage
        ("augmented", "checkpoint.npz 3"),  # there are four at least, whatever ends early
        ("balanced", "recipe.json 1"),  # it is decided, the manifest does not know
        slow("balanced", "checkpoint.npz 2"),  # in the last epoch
        slow("balanced", "recipe.json 0"),  # nothing is decided, nor any head solved
        slow("balanced", "solved.npz 0"),  # decided, not trained
        slow("balanced", "checkpoint.npz 0"),
        slow("balanced", "manifest.json 5"),  # the weights are chosen, the manifest does not know
        slow("balanced", "model.keras 2"),  # the manifest knows, the model is not saved
        slow("balanced texts", "checkpoint.npz 1"),
        ("refit", "refit.npz 1"),
        ("best", "zero_head.npz 1"),
        slow("best", "checkpoint.npz 1"),
        slow("best", "tuned.npz 0"),  # the first arm is trained, the second is not begun
        slow("best", "zero_head.npz 0"),
        slow("best", "model.keras 2"),  # the weights are chosen, the model is not saved
        slow("best", "model.keras 3"),  # it is refitted, the model is not saved
        ("adapters", "checkpoint.npz 3"),
        ("adapters", "manifest.json 5"),  # the adapters are merged and saved, the manifest does not know
        slow("adapters", "adapters.safetensors 0"),
        slow("adapters, augmented", "checkpoint.npz 2"),
        slow("adapters of texts", "checkpoint.npz 1"),
        slow("adapters, refit", "refit.npz 1"),
        slow("adapters, refit", "model.keras 3"),
        slow("refit", "model.keras 3"),  # it is refitted, the model is not saved
        slow("quantized", "manifest.json 3"),  # those epochs are done, the manifest does not know
        slow("quantized", "model.keras 2"),  # the manifest knows, the model is not saved
        slow("head only", "manifest.json 4"),  # the model is saved, and not what it was before
        slow("cached", "recipe.json 0"),  # the manifest is there, and nothing else
        slow("cached", "checkpoint.npz 0"),  # in the first epoch
        slow("cached", "manifest.json 4"),  # all is trained, the manifest does not know
        slow("augmented", "checkpoint.npz 1"),
        slow("views", "checkpoint.npz 2"),
        slow("adapting", "checkpoint.npz 2"),
        slow("mixed", "checkpoint.npz 2"),
        slow("texts", "checkpoint.npz 2"),
        slow("texts", "checkpoint.npz 3"),
    ],
)
def test_a_run_killed_at_this_moment_ends_as_the_one_that_was_not(cut_off, case, moment):
    whole, copies = cut_off(case)
    copy = copies[moment]
    resume(copy / "run", cache_dir=copy / "cache", **QUIET)
    assert_same_result(copy / "run", whole)


def test_the_case_that_is_cut_off_has_a_stage_that_ended_early(cut_off):
    whole, _ = cut_off("cached")
    rows = (whole / "history.csv").read_text().splitlines()
    epochs = [int(row.split(",")[0]) for row in rows[1:]]
    assert epochs[-2:] == [5, 6]
    assert len(epochs) < 7


@pytest.mark.slow
def test_ctrl_c_in_the_first_epoch_leaves_the_model_that_the_run_goes_on_from(
    cut_off, images, tmp_path, monkeypatch
):
    from ktransfer.training.checkpoint import Checkpoint

    def interrupted(self, epoch, logs=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "on_epoch_end", interrupted)
    options = {"recipe": RECIPES["cached"], "formats": (), "cache_dir": tmp_path / "cache"}
    with pytest.raises(KeyboardInterrupt):
        train(images, PRESET_PATH, tmp_path / "run", **options, **QUIET)
    monkeypatch.undo()
    assert Run.load(tmp_path / "run").manifest["status"] == "interrupted"
    resume(tmp_path / "run", **QUIET)
    assert_same_result(tmp_path / "run", cut_off("cached")[0])


def test_what_is_exported_and_whole_is_not_exported_again(cut_off, tmp_path, monkeypatch):
    copy = shutil.copytree(cut_off("cached")[0], tmp_path / "run")
    (copy / "artifacts").mkdir()
    entries = []
    for name in ("tflite", "onnx"):
        (copy / "artifacts" / name).write_bytes(b"all of it")
        sha256, size = fingerprint(copy / "artifacts" / name)
        entries.append({"format": name, "path": f"artifacts/{name}", "sha256": sha256, "size_bytes": size})
    Run.load(copy).update(artifacts=entries)
    (copy / "artifacts" / "onnx").write_bytes(b"half of it")
    asked = []
    monkeypatch.setattr(
        "ktransfer.commands.fit.export", lambda run, formats, **options: asked.append(formats)
    )
    resume(copy, formats=["tflite", "savedmodel", "onnx"], **QUIET)
    assert asked == [["savedmodel", "onnx"]]


def test_a_damaged_checkpoint_is_named_with_what_to_do(cut_off, tmp_path):
    _, copies = cut_off("cached")
    run = shutil.copytree(copies["checkpoint.npz 2"] / "run", tmp_path / "run")
    content = (run / "checkpoint.npz").read_bytes()
    (run / "checkpoint.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=r"checkpoint\.npz.*Remove it to train again from model"):
        resume(run, cache_dir=tmp_path / "cache", **QUIET)


@pytest.mark.slow
def test_the_manifest_has_the_command_that_trains_the_same_again(cut_off, tmp_path):
    whole, _ = cut_off("augmented")
    manifest = Run.load(whole).manifest
    program, *words = shlex.split(manifest["reproduce"]["command"])
    assert program == "ktransfer"
    words[words.index("NEW")] = str(tmp_path / "again")
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    same_weights(tmp_path / "again", whole)
    assert manifest["machine"]["cores"] >= 1


def test_resume_refuses_other_data_than_the_run_was_begun_with(cut_off, texts):
    whole, _ = cut_off("cached")
    with pytest.raises(RunError, match=r"data that the run was begun with.*animals\.csv"):
        resume(whole, data=texts, **QUIET)


GIVEN = {
    "data": "tfds:mnist",
    "backbone": "resnet_50_imagenet",
    "validation": None,
    "validation_fraction": 0.2,
    "data_dir": None,
    "image_size": 96,
    "scaling": None,
    "text_column": "the text",
    "label_column": None,
    "encoding": None,
    "sequence_length": None,
    "random_weights": True,
    "fast_depthwise": False,
    "skip_corrupt": False,
    "exclude": None,
    "allow_leakage": False,
    "cache": True,
    "cache_dir": None,
    "formats": ("onnx", "onnx-int8"),
}


def test_the_command_says_what_differs_from_what_it_takes_by_itself():
    expected = (
        "ktransfer train tfds:mnist --recipe /r/recipe.json --backbone resnet_50_imagenet "
        "--validation-split 0.2 --image-size 96 --text-column 'the text' --random-weights "
        "--no-fast-depthwise --format onnx --format onnx-int8 --out NEW"
    )
    assert command(arguments(GIVEN), Path("/r")) == expected
    assert command(arguments(GIVEN | {"formats": ()}), Path("/r")).endswith("--no-export --out NEW")
    assert command(arguments(GIVEN | {"image_size": (96, 64)}), Path("/r")) is None


@pytest.mark.parametrize("changes", [{"image_size": "large"}, {"formats": None}, {"data": ["a"]}])
def test_arguments_in_a_manifest_that_nobody_gave_are_refused(changes):
    manifest = {"reproduce": {"arguments": arguments(GIVEN) | changes}}
    with pytest.raises(RunError, match=f"with {next(iter(changes))}"):
        read_arguments(manifest)
    given = json.loads(json.dumps({"reproduce": {"arguments": arguments(GIVEN | {"image_size": (96, 64)})}}))
    assert read_arguments(given)["image_size"] == (96, 64)


def test_a_writer_of_features_at_work_is_not_taken_for_one_that_was_killed(tmp_path):
    store = FeatureStore(tmp_path)
    with store.writer("slow", (1, 2), "float32", {}) as append:
        (partial,) = tmp_path.glob(".slow.*.partial")
        os.utime(partial, (0, 0))
        store.write("quick", (1, 2), "float32", [np.zeros((1, 2))], {})
        append(np.ones((1, 2)))
    assert store.open("slow") is not None


@pytest.mark.slow
def test_runs_killed_at_random_moments_lose_nothing(images, texts, bert, tmp_path):
    """Children ended by SIGKILL, some while a cache, a checkpoint, the model or an artifact is written."""
    draws, moments = random.Random(0), []
    for case in ("cached", "augmented", "texts"):
        data, backbone = (texts, bert) if case == "texts" else (images, PRESET_PATH)
        (tmp_path / f"{case}.json").write_text(RECIPES[case].to_json())
        command = ["train", data, "--backbone", backbone, "--recipe", tmp_path / f"{case}.json", "--resume"]
        command += ["--format", "onnx"]

        def start(out, command=command):
            """A child, past the imports."""
            child = subprocess.Popen(
                [sys.executable, "-c", _CHILD, out.with_suffix(".ready"), *command, "--out", out],
                env=os.environ | {"KTRANSFER_CACHE": str(out.with_suffix(".cache"))},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            while not out.with_suffix(".ready").exists() and child.poll() is None:
                time.sleep(0.01)
            out.with_suffix(".ready").unlink(missing_ok=True)
            return child

        whole = tmp_path / case
        child, began = start(whole), time.monotonic()
        output, _ = child.communicate()
        assert child.returncode == 0, output
        took = time.monotonic() - began
        for index in range(3):
            run, left = tmp_path / f"{case} {index}", took
            for _ in range(3):
                child, moment = start(run), draws.uniform(0, 0.6 * left)
                time.sleep(moment)
                child.send_signal(signal.SIGKILL)
                output, _ = child.communicate()
                assert child.returncode in (0, -signal.SIGKILL), output
                left -= moment
                if child.returncode:
                    manifest = run / "manifest.json"
                    status = json.loads(manifest.read_text())["status"] if manifest.exists() else "nothing"
                    amid = " amid its epochs" * (run / "checkpoint.npz").exists()
                    moments.append(f"{case} {index}: after {moment:.1f} s, {status}{amid}")
            child = start(run)
            output, _ = child.communicate()
            assert child.returncode == 0, output
            assert_same_result(run, whole)
            entries = Run.load(run).manifest["artifacts"]
            assert [entry["format"] for entry in entries] == ["onnx"]
            path = run / entries[0]["path"]
            assert fingerprint(path) == (entries[0]["sha256"], entries[0]["size_bytes"])
    (tmp_path / "kills.txt").write_text("\n".join(moments))  # to see where they hit
    assert len(moments) >= 20


_CHILD = """
import pathlib, sys
import ktransfer.commands.train, ktransfer.exporting.onnx.exporter, ktransfer.exporting.tflite.exporter
from ktransfer.cli import main
pathlib.Path(sys.argv.pop(1)).touch()
main()
"""
