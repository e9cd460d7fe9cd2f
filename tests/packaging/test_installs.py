"""Each way to install ktransfer, in an environment of its own, does what it is for. Needs a package registry."""

import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]

CALLBACK = """
    import keras, numpy as np, ktransfer
    backbone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(4)], name="base")
    model = keras.Sequential([keras.Input((8,)), backbone, keras.layers.Dense(2)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    stages = [ktransfer.Stage(depth=0, epochs=1), ktransfer.Stage(depth="all", epochs=1)]
    x, y = np.random.default_rng(0).normal(size=(16, 8)), np.arange(16) % 2
    history = model.fit(x, y, epochs=2, verbose=0, callbacks=[ktransfer.ProgressiveUnfreezing(backbone, stages)])
    assert history.history["stage"] == [0, 1]
    try:
        ktransfer.load_backbone
    except ktransfer.MissingExtraError as error:
        print(error)
"""
TRAIN = """
    import ktransfer
    from ktransfer.demo import PRESET_PATH
    from ktransfer.demo.drawing import write_target_task
    data = write_target_task("things", train_per_class=4, validation_per_class=2)
    run = ktransfer.train(data, PRESET_PATH, "run", epochs=0, formats={formats!r}, verbose=0)
    print(sorted(entry["format"] for entry in run.manifest["artifacts"]))
    try:
        ktransfer.export(run, ["onnx"])
    except ktransfer.MissingExtraError as error:
        print(error)
"""
INSTALLS = {
    "callback": (["jax"], CALLBACK, 'pip install "ktransfer[train]"', "jax"),
    "train": (
        ["train"],
        TRAIN.format(formats=["savedmodel"]),
        'pip install "ktransfer[export]"',
        "tensorflow",
    ),
    "export": (["export"], TRAIN.format(formats=["tflite", "onnx"]), "['onnx', 'tflite']", "tensorflow"),
}


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "ktransfer", source / "ktransfer", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        ROOT / "export", source / "export", ignore=shutil.ignore_patterns("__pycache__", "node_modules")
    )
    for name in ("pyproject.toml", "setup.cfg", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    return next(folder.glob("*.whl"))


def test_the_wheel_has_the_deployment_kit(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.removeprefix("ktransfer/kit/") for name in archive.namelist() if "/kit/" in name}
    listed = subprocess.run(
        ["git", "ls-files", "export"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert packed == {name.removeprefix("export/") for name in listed.stdout.splitlines()}


@pytest.mark.parametrize("name", INSTALLS)
def test_an_install_does_what_it_is_for_and_names_what_is_missing(name, wheel, tmp_path):
    extras, script, expected, backend = INSTALLS[name]
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    # Nothing of this environment but how pip finds its registry.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))
    }
    environment |= {"KERAS_BACKEND": backend}
    reached = subprocess.run(
        [python, "-m", "pip", "download", "--no-deps", "--dest", tmp_path, "filelock"],
        capture_output=True,
        env=environment,
    )
    if reached.returncode:
        pytest.skip("no package registry is reached")
    packages = (f"{wheel}[{','.join(extras)}]", "backports-strenum<1.3")
    run(python, "-m", "pip", "install", "--quiet", *packages, env=environment)
    (tmp_path / "work").mkdir()
    found = run(python, "-c", textwrap.dedent(script), cwd=tmp_path / "work", env=environment)
    assert expected in found
