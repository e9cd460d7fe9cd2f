"""Real disks that fill up, go away or become read-only under a run: small file systems in memory."""

import errno
import shutil
import subprocess

import numpy as np
import pytest

from ktransfer.commands.train import resume, train
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run
from ktransfer.training.checkpoint import Checkpoint

RECIPE = Recipe(
    stages=(Stage(depth=1, epochs=2, learning_rate=1e-5),), batch_size=16, augmentation=Augmentation.none()
)


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk):
    def write():
        with open(disk / "other program", "wb") as file:
            while True:
                file.write(bytes(2**16))

    with pytest.raises(OSError, match="No space left"):
        write()


def make_read_only(disk):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def make_writable(disk):
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


def train_until(disk, moment, trouble, monkeypatch):
    """Run `trouble` when the head is solved or the first epoch done; the error that came of it."""
    data = write_target_task(disk.parent / "things", train_per_class=4, validation_per_class=3)
    keep = Checkpoint.on_epoch_end

    def say(line):
        if line.startswith(moment):
            trouble(disk)

    def on_epoch_end(self, epoch, logs=None):
        if moment == f"epoch {epoch}":
            trouble(disk)
        keep(self, epoch, logs)

    monkeypatch.setattr(Checkpoint, "on_epoch_end", on_epoch_end)
    with pytest.raises(OSError) as caught:  # noqa: PT011  which of them, each test says
        train(
            data,
            PRESET_PATH,
            disk / "run",
            recipe=RECIPE,
            formats=(),
            cache_dir=disk.parent / "cache",
            say=say,
            verbose=0,
        )
    monkeypatch.undo()
    return caught.value


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["head", "epoch 0", "epoch 1"])
@pytest.mark.parametrize(
    ("trouble", "mend", "number"),
    [
        (fill, lambda disk: (disk / "other program").unlink(), errno.ENOSPC),
        (make_read_only, make_writable, errno.EROFS),
    ],
)
def test_the_run_ends_with_the_file_named_and_goes_on_when_there_is_room(
    disk, moment, trouble, mend, number, monkeypatch
):
    error = train_until(disk, moment, trouble, monkeypatch)
    assert error.errno == number
    assert error.filename.startswith(str(disk / "run"))
    assert "partial" not in error.filename
    image = np.zeros((1, 64, 64, 3), "float32")
    assert np.isfinite(Run.load(disk / "run").model.predict_on_batch(image)).all()
    mend(disk)
    run = resume(disk / "run", cache_dir=disk.parent / "cache", say=lambda line: None, verbose=0)
    assert run.manifest["status"] == "trained"
    assert not list(run.path.rglob("*partial*"))


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["head", "epoch 0", "epoch 1"])
def test_a_run_folder_that_is_removed_is_not_made_again_half_empty(disk, moment, monkeypatch):
    error = train_until(disk, moment, lambda disk: shutil.rmtree(disk / "run"), monkeypatch)
    assert error.errno == errno.ENOENT
    assert error.filename.startswith(str(disk / "run"))
    assert not (disk / "run").exists()
