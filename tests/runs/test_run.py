import dataclasses
import errno
import json
import os
import subprocess
import sys
import zipfile

import images as drawn
import keras
import numpy as np
import pytest
import zoo

from ktransfer.core.task import get_task
from ktransfer.errors import DataError, RunError
from ktransfer.image.backbones import Preprocessing
from ktransfer.image.classifier import build_classifier
from ktransfer.image.decoding import Resize
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import MANIFEST, Run

LABELS = ("daisy", "rose", "tulip")
PREPROCESSING = Preprocessing(Resize(32, 32), 1 / 255, 0.0)
RECIPE = Recipe(stages=[Stage(depth=1, epochs=2, learning_rate=1e-3)], seed=3)


def facts():
    return {
        "status": "trained",
        "labels": list(LABELS),
        "preprocessing": PREPROCESSING.to_dict(),
        "recipe": dataclasses.asdict(RECIPE),
    }


def classifier():
    return build_classifier(zoo.resnet(), 3, PREPROCESSING)


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", facts())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = Run.create(tmp_path_factory.mktemp("runs") / "run", facts())
    run.save_model(classifier())
    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    return [drawn.draw(folder / f"{i}.png", seed=i) for i in range(5)]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_run_loads_as_what_it_was_made_of(run):
    loaded = Run.load(str(run.path))
    assert loaded.labels == LABELS
    assert loaded.preprocessing == PREPROCESSING
    assert loaded.recipe == RECIPE
    of_images = {"modality": "image", "task": "single_label"}  # where a manifest does not say
    assert loaded.manifest == json.loads(json.dumps(run.manifest)) | of_images
    assert loaded.manifest["versions"]["keras"] == keras.__version__
    assert loaded.manifest["versions"]["backend"] == keras.backend.backend()


def test_an_update_is_on_disk_at_once_and_keeps_the_rest(run):
    run.update(status="interrupted", metrics={"validation": 0.9})
    loaded = Run.load(run.path)
    assert loaded.manifest["status"] == "interrupted"
    assert loaded.manifest["metrics"] == {"validation": 0.9}
    assert loaded.labels == LABELS


def test_a_run_is_not_written_over_a_run_unless_asked(run):
    (run.path / "model.keras").touch()
    (run.path / "artifacts" / "savedmodel").mkdir(parents=True)
    with pytest.raises(RunError, match=r"holds a run.*--resume.*--overwrite"):
        Run.create(run.path, facts())
    assert (run.path / "model.keras").exists()
    Run.create(run.path, facts(), overwrite=True)
    assert names(run.path) == [MANIFEST]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_never_written_over(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"holds other files.*Choose another"):
        Run.create(tmp_path, facts(), overwrite=overwrite)
    assert names(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("text", ['{"name": "my web app", "icons": []}', "[]", "not json"])
def test_a_manifest_of_something_else_does_not_make_a_folder_a_run(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    (tmp_path / "index.html").write_text("years of work")
    with pytest.raises(RunError, match="holds other files"):
        Run.create(tmp_path, facts(), overwrite=True)
    assert names(tmp_path) == ["index.html", MANIFEST]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match="Expected a free path"):
        Run.create(tmp_path / "run", facts(), overwrite=True)


def test_an_empty_folder_and_missing_parents_will_do(tmp_path):
    (tmp_path / "empty").mkdir()
    Run.create(tmp_path / "empty", facts())
    Run.create(tmp_path / "a" / "b", facts())
    assert Run.load(tmp_path / "a" / "b").labels == LABELS


def test_overwriting_removes_a_link_and_not_what_it_points_to(run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rose.png").touch()
    (run.path / "data").symlink_to(tmp_path / "data")
    Run.create(run.path, facts(), overwrite=True)
    assert names(tmp_path / "data") == ["rose.png"]
    assert names(run.path) == [MANIFEST]


def test_a_folder_in_which_a_run_was_killed_before_its_manifest_is_free(tmp_path):
    (tmp_path / ".manifest.partial.json").write_text("half of")
    Run.create(tmp_path, facts())
    assert names(tmp_path) == [MANIFEST]


def test_overwriting_that_is_cut_off_leaves_the_new_run_to_begin_again(run, monkeypatch):
    (run.path / "artifacts").mkdir()

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        Run.create(run.path, facts() | {"status": "beginning"}, overwrite=True)
    monkeypatch.undo()
    assert Run.load(run.path).manifest["status"] == "beginning"
    Run.create(run.path, facts(), overwrite=True)
    assert names(run.path) == [MANIFEST]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RunError, match=f"{path.name}, which has no {MANIFEST}"):
            Run.load(path)


@pytest.mark.parametrize("content", [b"{half", b"", b"\xff\xfe\x00"])
def test_a_manifest_that_cannot_be_read_is_a_run_error(run, content):
    (run.path / MANIFEST).write_bytes(content)
    with pytest.raises(RunError, match=f"readable {MANIFEST}"):
        Run.load(run.path)


@pytest.mark.parametrize(("text", "received"), [('{"format": 3}', "3"), ("{}", "None"), ("[1]", r"\[1\]")])
def test_a_manifest_of_another_format_is_refused(run, text, received):
    (run.path / MANIFEST).write_text(text)
    with pytest.raises(RunError, match=f"format 2 .*got {received}"):
        Run.load(run.path)


def test_a_manifest_that_lacks_something_names_it(run):
    values = json.loads((run.path / MANIFEST).read_text())
    del values["labels"], values["recipe"]
    (run.path / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(RunError, match="Expected labels, recipe in"):
        Run.load(run.path)


def test_predictions_are_the_softmax_of_what_the_model_says(trained, photos):
    pixels = np.stack([trained_pixels(path) for path in photos]).astype("float32")
    logits = keras.ops.convert_to_numpy(Run.load(trained.path).model(pixels, training=False)).astype(
        "float64"
    )
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for batch_size in (2, 5, 32):
        found = trained.predict_probabilities(photos, batch_size=batch_size)
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, expected, atol=1e-5)


def trained_pixels(path):
    from ktransfer.image.decoding import load_image

    return load_image(path, PREPROCESSING.resize)


def test_labels_come_most_probable_first_with_their_probabilities(trained, photos):
    probabilities = trained.predict_probabilities(photos[:1])[0]
    (answer,) = trained.predict(photos[:1])
    assert [row["label"] for row in answer] == [LABELS[i] for i in np.argsort(-probabilities)]
    assert [row["probability"] for row in answer] == sorted(map(float, probabilities), reverse=True)
    assert len(trained.predict(photos[:1], top_k=2)[0]) == 2


def test_no_images_give_no_answers(trained):
    assert trained.predict([]) == []
    assert trained.predict_probabilities([]).shape == (0, 3)


def test_a_file_that_is_no_image_is_named(trained, photos, tmp_path):
    (tmp_path / "notes.jpg").write_text("not an image")
    with pytest.raises(DataError, match=r"notes\.jpg, which cannot be decoded"):
        trained.predict([photos[0], tmp_path / "notes.jpg"])


def test_the_softmax_does_not_overflow():
    found = get_task("single_label").probabilities([[1000.0, 1000.0], [0.0, np.log(3)]])
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.25, 0.75]], rtol=1e-6)


def test_the_optimizer_is_not_saved(run):
    model = classifier()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch(np.zeros((2, 32, 32, 3), "float32"), np.array([0, 1]))
    run.save_model(model)
    assert getattr(keras.models.load_model(run.path / "model.keras"), "optimizer", None) is None
    assert model.optimizer.iterations == 1


@pytest.mark.slow
def test_a_saved_model_answers_the_same_in_another_process_on_jax(trained, photos):
    pytest.importorskip("jax")
    script = (
        "import json, sys, keras, ktransfer; "
        "rows = ktransfer.Run.load(sys.argv[1]).predict_probabilities(sys.argv[2:]); "
        "print(json.dumps([keras.backend.backend(), rows.tolist()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(trained.path), *photos],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=True,
    )
    backend, rows = json.loads(done.stdout.splitlines()[-1])
    assert backend == "jax"
    np.testing.assert_allclose(rows, trained.predict_probabilities(photos), atol=1e-4)


def test_a_run_without_a_model_says_that_it_stopped_early(run):
    with pytest.raises(RunError, match=r"no model\.keras, which a run that stopped early"):
        Run.load(run.path).predict(["rose.png"])


def test_a_damaged_model_is_a_run_error(run):
    run.save_model(classifier())
    path = run.path / "model.keras"
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        weights = archive.getinfo("model.weights.h5").header_offset
    flipped = bytearray(whole)
    flipped[weights + 500] ^= 255
    for content in (whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"readable Keras model in .*model\.keras"):
            Run.load(run.path).model  # noqa: B018


def test_a_full_disk_leaves_the_old_model_and_nothing_half_written(run, monkeypatch):
    run.save_model(classifier())
    before = (run.path / "model.keras").read_bytes()

    def save(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", save)
    with pytest.raises(OSError, match="No space left"):
        run.save_model(classifier())
    assert (run.path / "model.keras").read_bytes() == before
    assert names(run.path) == [MANIFEST, "model.keras"]


def test_a_manifest_that_cannot_be_replaced_stays_as_it_was(run, monkeypatch):
    before = (run.path / MANIFEST).read_bytes()

    def replace(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="No space left"):
        run.update(status="lost")
    assert (run.path / MANIFEST).read_bytes() == before
    assert names(run.path) == [MANIFEST]
