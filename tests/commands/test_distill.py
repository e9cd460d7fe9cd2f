"""A trained run as the teacher of a smaller one, which is a run like any other."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from test_text_commands import RECIPE as TEXT_RECIPE
from test_text_commands import write_table
from text_zoo import write_preset

import ktransfer.distillation.teachers as teachers_module
from ktransfer.commands.distill import distill
from ktransfer.commands.export import export
from ktransfer.commands.splits import read_splits
from ktransfer.commands.train import resume, train
from ktransfer.commands.verify import verify
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import DataError, KTransferError, RecipeError, RunError
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.runs.run import Run

RECIPE = Recipe(stages=(Stage(depth=1, epochs=1, learning_rate=1e-4),), batch_size=16)
QUIET = {"verbose": 0, "say": lambda line: None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distill")


@pytest.fixture(scope="module")
def preset(folder):
    (folder / "bert").mkdir()
    return write_preset("Bert", folder / "bert", num_layers=4)[1]


@pytest.fixture(scope="module")
def table(folder):
    return write_table(folder / "animals.csv", count=60)


@pytest.fixture(scope="module")
def more(folder, table):
    """Texts without labels: new ones, and two that are trained on or held out."""
    path = write_table(folder / "whole.csv", count=40, seed=7)
    rows = list(csv.DictReader(path.open()))
    path = folder / "more.csv"
    path.write_text("text\n" + "\n".join(f"{row['text']} more" for row in rows) + "\n")
    return path


@pytest.fixture(scope="module")
def teacher(folder, preset, table):
    return train(table, preset, folder / "teacher", recipe=TEXT_RECIPE, formats=(), **QUIET)


def student_of(teacher, out, **options):
    options = {"recipe": TEXT_RECIPE, "formats": (), "verbose": 0, **options}
    lines = []
    run = distill(teacher.path, out, say=lines.append, **options)
    return run, lines


@pytest.mark.slow
def test_a_student_of_half_the_layers_is_a_run_that_every_command_takes(teacher, more, folder):
    run, lines = student_of(teacher, folder / "half", layers=2, unlabelled=more, report=True)
    assert Run.load(run.path).manifest["status"] == "trained"
    assert run.manifest["distillation"]["unlabelled"] == str(more)
    assert run.manifest["data"]["examples"] == teacher.manifest["data"]["examples"]
    assert run.model.count_params() < teacher.model.count_params()
    assert any(line.startswith("unlabelled 40 texts") for line in lines)
    assert "ktransfer distill" in run.manifest["reproduce"]["command"]
    loaded = Run.load(run.path)
    assert loaded.predict(["the quick fox"])[0][0]["label"] in teacher.labels
    export(loaded, ["onnx"], say=lambda _: None)
    verify(loaded, say=lambda _: None)
    assert (run.path / "report.html").is_file()


def test_layers_that_are_kept_have_the_teachers_weights(teacher, folder):
    recipe = dataclasses.replace(TEXT_RECIPE, stages=())
    run, lines = student_of(teacher, folder / "kept", layers=2, recipe=recipe)
    kept = ("transformer_layer_0/", "transformer_layer_3/")
    named = {weight.path: weight for weight in teacher.model.weights}
    found = [weight for weight in run.model.weights if "transformer_layer" in weight.path]
    assert len(found) == 2 * len([path for path in named if kept[0] in path])
    for weight in found:
        assert weight.path.startswith(kept)
        np.testing.assert_array_equal(np.array(weight), np.array(named[weight.path]))
    assert any("layers     " in line and "2 of the 4" in line for line in lines)


@pytest.mark.slow
def test_another_backbone_tokenizer_and_length_may_be_the_students(teacher, more, folder):
    (folder / "roberta").mkdir()
    other = write_preset("Roberta", folder / "roberta", num_layers=1)[1]
    run, _ = student_of(teacher, folder / "other", backbone=other, sequence_length=9, unlabelled=more)
    assert run.preprocessing.sequence_length == 9
    assert type(run.preprocessing.tokenizer) is not type(teacher.preprocessing.tokenizer)


def test_answers_of_the_teacher_are_computed_once(teacher, more, folder, monkeypatch):
    calls = []
    whole = teachers_module.predict_in_batches
    monkeypatch.setattr(
        teachers_module, "predict_in_batches", lambda *given: calls.append(1) or whole(*given)
    )
    recipe = dataclasses.replace(TEXT_RECIPE, stages=())
    options = {"layers": 1, "unlabelled": more, "cache_dir": folder / "own cache", "recipe": recipe}
    first, _ = student_of(teacher, folder / "first", **options)
    assert len(calls) == 3  # training, validation and unlabelled examples
    second, _ = student_of(teacher, folder / "second", **options)
    assert len(calls) == 3
    assert first.manifest["metrics"] == second.manifest["metrics"]


@pytest.mark.slow
def test_a_student_that_was_interrupted_resumes_to_the_same_weights(teacher, more, folder):
    recipe = dataclasses.replace(TEXT_RECIPE, stages=(dataclasses.replace(TEXT_RECIPE.stages[0], epochs=3),))
    options = {"layers": 2, "unlabelled": more, "recipe": recipe}
    whole, _ = student_of(teacher, folder / "uninterrupted", **options)

    import keras

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        student_of(teacher, folder / "stopped", callbacks=[Stop()], **options)
    again = resume(folder / "stopped", verbose=0, say=lambda _: None)
    for one, other in zip(whole.model.weights, again.model.weights, strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(other))


@pytest.mark.slow
def test_the_same_command_goes_on_with_what_it_began(teacher, folder):
    import keras

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    recipe = dataclasses.replace(TEXT_RECIPE, stages=(dataclasses.replace(TEXT_RECIPE.stages[0], epochs=2),))
    whole, _ = student_of(teacher, folder / "whole again", layers=2, recipe=recipe)
    with pytest.raises(KeyboardInterrupt):
        student_of(teacher, folder / "again", layers=2, recipe=recipe, callbacks=[Stop()])
    with pytest.raises(RunError, match="begun with, got others"):
        student_of(teacher, folder / "again", layers=1, recipe=recipe)
    again, lines = student_of(teacher, folder / "again", layers=2, recipe=recipe)
    assert any(line.startswith("resumed") for line in lines)
    for one, other in zip(whole.model.weights, again.model.weights, strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(other))
    with pytest.raises(RunError, match="pass --overwrite"):
        student_of(teacher, folder / "again", layers=2, recipe=recipe)


def test_a_student_that_was_killed_before_its_model_begins_anew(teacher, folder):
    recipe = dataclasses.replace(TEXT_RECIPE, stages=())
    first, _ = student_of(teacher, folder / "beginning", layers=1, recipe=recipe)
    first.update(status="beginning")
    (first.path / "model.keras").unlink()
    again, _ = student_of(teacher, folder / "beginning", layers=1, recipe=recipe)
    assert Run.load(again.path).manifest["status"] == "trained"


@pytest.fixture(scope="module")
def image_teacher(folder):
    data = write_target_task(folder / "drawn", train_per_class=6, validation_per_class=4)
    return train(data, PRESET_PATH, folder / "images", recipe=RECIPE, formats=(), **QUIET)


@pytest.mark.slow
def test_images_of_another_size_and_unlabelled_folders_are_learned_from(image_teacher, folder, tmp_path):
    write_target_task(tmp_path / "more", train_per_class=5, validation_per_class=2, seed=1000)
    run, lines = student_of(
        image_teacher,
        tmp_path / "student",
        backbone=PRESET_PATH,
        image_size=48,
        unlabelled=tmp_path / "more" / "train",
        recipe=RECIPE,
    )
    assert run.manifest["status"] == "trained"
    assert run.model.input.shape[1:3] == (48, 48)
    assert run.preprocessing.to_dict() != image_teacher.preprocessing.to_dict()
    assert any(line.startswith("unlabelled") for line in lines)


@pytest.mark.slow
def test_the_weight_says_whose_answers_are_learned(image_teacher, tmp_path):
    """The teacher answers with the next class: at weight 1 the student does, at weight 0 it learns the labels."""
    copy = shutil.copytree(image_teacher.path, tmp_path / "shifted")
    shifted = Run.load(copy)
    head = shifted.model.get_layer("logits")
    head.set_weights([np.roll(value, 1, axis=-1) for value in head.get_weights()])
    shifted.save_model(shifted.model)
    recipe = dataclasses.replace(RECIPE, stages=())
    splits = read_splits(image_teacher.data, image_teacher.recipe.seed)[0]
    agreement = {}
    for weight in (0.0, 1.0):
        run, _ = student_of(
            shifted, tmp_path / str(weight), backbone=PRESET_PATH, weight=weight, recipe=recipe
        )
        answers = run.predict_probabilities(splits.train.inputs).argmax(axis=1)
        taught = shifted.predict_probabilities(splits.train.inputs).argmax(axis=1)
        agreement[weight] = float((answers == taught).mean()), float((answers == splits.train.labels).mean())
    assert agreement[1.0][0] > 0.8 > agreement[1.0][1]
    assert agreement[0.0][1] > 0.8 > agreement[0.0][0]


@pytest.mark.slow
def test_an_ensemble_teaches_one_student(image_teacher, tmp_path):
    copy = shutil.copytree(image_teacher.path, tmp_path / "second teacher")
    run, lines = student_of(image_teacher, tmp_path / "plain", backbone=PRESET_PATH, recipe=RECIPE)
    both = distill(
        [image_teacher.path, copy],
        tmp_path / "both",
        backbone=PRESET_PATH,
        recipe=RECIPE,
        formats=(),
        verbose=0,
        report=False,
        say=lines.append,
    )
    assert len(both.manifest["distillation"]["teachers"]) == 2
    # The mean of two equal answers.
    np.testing.assert_allclose(both.model.get_weights()[-1], run.model.get_weights()[-1], atol=1e-4)


def changed(run, to, **fields):
    copy = shutil.copytree(run.path, to)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | fields))
    return copy


def test_unlabelled_data_with_held_out_examples_is_refused(teacher, table, tmp_path):
    with pytest.raises(DataError, match="of the validation split"):
        student_of(teacher, tmp_path / "out", layers=2, unlabelled=table)
    assert not (tmp_path / "out").exists()


def test_teachers_that_do_not_fit_each_other_are_refused(teacher, image_teacher, tmp_path):
    classes = changed(teacher, tmp_path / "classes", labels=["animal", "thing"])
    untrained = changed(teacher, tmp_path / "untrained", status="training")
    data = teacher.manifest["data"]
    elsewhere = changed(
        teacher,
        tmp_path / "elsewhere",
        data=data | {"fingerprint": data["fingerprint"] | {"validation": "0" * 64}},
    )
    for paths, message in (
        ([teacher.path, classes], "teachers of the labels"),
        ([teacher.path, image_teacher.path], "got .* of image-classification"),
        ([untrained], "trained run as the teacher"),
        ([teacher.path, elsewhere], "validated on the same examples"),
    ):
        with pytest.raises(RunError, match=message):
            distill(paths, tmp_path / "out", layers=2, formats=(), say=lambda _: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 4}, "from 1 to 3 layers"),
        ({"layers": 2, "backbone": "bert"}, "Pass one"),
        ({}, "Pass one"),
        ({"layers": 2, "seed": 99}, "teacher's seed"),
        ({"layers": 2, "temperature": 0}, "temperature above 0"),
        ({"layers": 2, "weight": 2}, "weight of the teacher"),
        ({"layers": 2, "validation_fraction": 0.5}, "the teacher's way to read its data"),
        ({"layers": 2, "text_columns": "a,b"}, "the teacher's way to read its data"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(teacher, tmp_path, options, message):
    with pytest.raises(KTransferError, match=message):
        student_of(teacher, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_backbone_of_unlike_layers_has_no_layers_to_choose(image_teacher, tmp_path):
    with pytest.raises(KTransferError, match="row of like transformer layers"):
        student_of(image_teacher, tmp_path / "out", layers=2, recipe=RECIPE)


def test_the_folder_of_the_teacher_is_never_the_students(teacher):
    with pytest.raises(RunError, match="that of the teacher"):
        student_of(teacher, teacher.path, layers=2, overwrite=True)


@pytest.mark.slow
def test_a_student_larger_than_its_teacher_is_warned_of(teacher, folder, preset, tmp_path):
    recipe = dataclasses.replace(TEXT_RECIPE, stages=())
    small, _ = student_of(teacher, tmp_path / "small", layers=1, recipe=recipe)
    _, lines = student_of(small, tmp_path / "large", backbone=preset, recipe=recipe)
    assert any(line.startswith("warning    the student has") for line in lines)


@pytest.mark.slow
def test_data_that_changed_since_the_teacher_is_refused(folder, preset, tmp_path):
    table = write_table(tmp_path / "data.csv", count=60)
    recipe = dataclasses.replace(TEXT_RECIPE, stages=())
    run = train(table, preset, tmp_path / "run", recipe=recipe, formats=(), verbose=0, say=lambda _: None)
    table.write_text(table.read_text().replace("quick", "slow"))
    with pytest.raises(RunError, match="got other examples"):
        student_of(run, tmp_path / "out", layers=2)


def test_an_augmentation_that_mixes_examples_is_refused(image_teacher, tmp_path):
    from ktransfer.image.augmentation import Augmentation

    recipe = dataclasses.replace(RECIPE, augmentation=Augmentation(mixup=0.2))
    with pytest.raises(RecipeError, match="mixes no examples"):
        student_of(image_teacher, tmp_path / "out", backbone=PRESET_PATH, recipe=recipe)
