"""`ktransfer lr-find` on drawn images and on texts."""

import json
import subprocess
import sys

import pytest
from PIL import Image
from text_zoo import write_preset

from ktransfer.commands.lr_find import lr_find
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import RecipeError, RunError
from ktransfer.training.lr_curve import LearningRateCurve

COMMAND = (sys.executable, "-c", "from ktransfer.cli import main; main()", "lr-find")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_target_task(
        tmp_path_factory.mktemp("data") / "things", train_per_class=4, validation_per_class=2
    )


def test_the_command_prints_one_line_and_writes_a_plot(tmp_path, data):
    out = tmp_path / "new" / "lr"
    options = ("--backbone", PRESET_PATH, "--depth", "0.5", "--steps", "20", "--out", out)
    done = subprocess.run([*COMMAND, data, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line, written = done.stdout.splitlines()
    assert line.startswith("suggested learning rate ")
    assert str(out) in written
    values = json.loads((out / "lr_find.json").read_text(encoding="utf-8"))
    assert values["reason"] in line
    assert values["depth"] == 0.5
    assert values["blocks"] >= 1
    with Image.open(out / "lr_find.png") as picture:
        assert picture.format == "PNG"


def test_one_seed_gives_one_curve_and_writes_nothing(data):
    options = {"depth": 1, "steps": 12, "verbose": 0}
    first, second = (lr_find(data, PRESET_PATH, **options) for _ in range(2))
    assert isinstance(first, LearningRateCurve)
    assert first.losses == second.losses


def test_texts_go_the_same_way(tmp_path):
    _, preset = write_preset("Bert", tmp_path)
    rows = [f"the quick fox {n},animal\ncafé you {n},place" for n in range(12)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    curve = lr_find(tmp_path / "a.csv", preset, steps=12, verbose=0)
    assert len(curve.losses) >= 1


def test_it_reads_as_a_client_does_and_refuses_a_task_without_labels(tmp_path):
    _, preset = write_preset("Bert", tmp_path)
    rows = [f"the quick fox {n},{n}.5" for n in range(12)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    with pytest.raises(RecipeError, match="labels for --client mediapipe, got regression"):
        lr_find(tmp_path / "a.csv", preset, task="regression", client="mediapipe", verbose=0)


def test_a_depth_that_the_backbone_lacks_is_refused(data):
    with pytest.raises(RecipeError, match="at most"):
        lr_find(data, PRESET_PATH, depth=1000, verbose=0)


def test_a_file_instead_of_a_folder_is_refused(tmp_path, data):
    (tmp_path / "a").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="is a file"):
        lr_find(data, PRESET_PATH, out=tmp_path / "a" / "b", verbose=0)
