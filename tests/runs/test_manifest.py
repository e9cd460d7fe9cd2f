"""A manifest of anybody's."""

import json

import keras
import pytest

from ktransfer.commands.artifacts import artifacts
from ktransfer.core.task import get_task
from ktransfer.errors import RunError
from ktransfer.image.decoding import Resize
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run


@pytest.fixture
def manifest():
    return {
        "format": 1,
        "status": "trained",
        "labels": ["daisy", "rose"],
        "preprocessing": Preprocessing(Resize(8, 8), 1.0, 0.0).to_dict(),
        "recipe": json.loads(Recipe(stages=[Stage(depth=1, epochs=1, learning_rate=1e-3)]).to_json()),
    }


@pytest.fixture
def run_of(tmp_path, manifest):
    folder = tmp_path / "run"
    folder.mkdir()

    def write(**changes):
        (folder / "manifest.json").write_text(json.dumps(manifest | changes))
        return folder

    return write


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"labels": "rose"}, "labels as list"),
        ({"labels": []}, "each once"),
        ({"labels": ["rose", "rose"]}, "each once"),
        ({"labels": ["rose", "\x1b[2J"]}, "control characters"),
        ({"labels": ["rose", 3]}, "labels of one line"),
        ({"recipe": []}, "recipe as dict"),
        ({"task": "shell"}, "a task of"),
        ({"data": "x"}, "data as dict"),
    ],
)
def test_a_manifest_of_other_types_is_a_run_error(run_of, changes, expected):
    with pytest.raises(RunError, match=expected):
        Run.load(run_of(**changes))


@pytest.mark.parametrize(
    ("task", "modality"),
    [({}, "image"), ({"task": "image-classification"}, "image"), ({"task": "text-classification"}, "text")],
)
def test_manifests_that_name_a_task_alone_are_of_its_modality(run_of, task, modality):
    run = Run.load(run_of(**task))
    assert run.modality.name == modality
    assert run.task is get_task("single_label")


def test_a_run_with_a_way_out_is_not_loaded(run_of, tmp_path):
    folder = run_of()
    Run.load(folder)
    (folder / "history.csv").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match=r"'history.csv' is a link that leads out"):
        Run.load(folder)


@pytest.mark.parametrize("size", [1_000_000, 8.5, True, "8"])
def test_a_picture_of_any_size_is_not_made_for_a_manifest(run_of, manifest, size):
    run = Run.load(run_of(preprocessing=manifest["preprocessing"] | {"height": size}))
    with pytest.raises(RunError, match="how images are read"):
        run.preprocessing  # noqa: B018


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "artifacts/../../secret"])
def test_an_artifact_outside_of_its_run_is_not_opened(run_of, path):
    tensor = {"name": "image", "shape": [1], "dtype": "float32"}
    entry = {"format": "onnx", "path": path, "sha256": "9f", "size_bytes": 1, "batch": 1}
    entry |= {"signature": {"inputs": [tensor], "output": tensor}}
    parity = {"max_abs_delta": 0, "mean_abs_delta": 0, "max_logit_delta": 0, "logit_scale": 1}
    parity |= {"label_agreement": 1, "examples": 1, "batch_sizes": [1]}
    parity |= {"wrong_input_delta": 1, "wrong_input_delta_of_model": 1}
    with pytest.raises(RunError, match=r"leads out of the folder"):
        artifacts(Run.load(run_of(artifacts=[entry | {"parity": parity}])))
    inner = entry | {"parity": parity, "path": "artifacts/model.onnx"}
    assert artifacts(Run.load(run_of(artifacts=[inner])))[0].path == inner["path"]


def test_a_run_with_a_model_of_other_labels_is_refused(run_of):
    folder = run_of(labels=["a", "b", "c"])
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    keras.Model(model.inputs, model.outputs).save(folder / "model.keras")
    with pytest.raises(RunError, match="classifier of the 3 labels"):
        Run.load(folder).model  # noqa: B018
