"""What `train`, `evaluate` and `audit` print of the layout of the data and of what they do not use."""

import dataclasses
import os

import pytest
from images import draw

from ktransfer.audit.exclusions import leave_out
from ktransfer.commands.audit import audit
from ktransfer.commands.evaluate import evaluate
from ktransfer.commands.splits import hint_at_classes
from ktransfer.commands.train import train
from ktransfer.demo import PRESET_PATH
from ktransfer.image.sources import load_splits
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.text.sources import load_text_splits

NOTES = [
    "read seg_train/ as train, seg_test/ as test",
    "not used: seg_pred/ (1 image in no class folders, so without labels)",
    "not used: 1 file (seg_train/a/1.svg) in formats that are not read, 1 .svg; convert them to JPEG or PNG",
    "not used: files that are no images, 1 .md",
    "not used: left by other programs, 1 Thumbs.db",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """TIFF images only, in splits with a prefix, with much that is not used."""
    root = tmp_path_factory.mktemp("data")
    for place, count in (("seg_train/a", 4), ("seg_train/b", 4), ("seg_test/a", 2), ("seg_test/b", 2)):
        for index in range(count):
            draw(root / place / f"{index}.TIFF", seed=len(os.listdir(root)) * 100 + hash_of(place, index))
    draw(root / "seg_pred" / "0.tif", seed=99)
    for name in ("seg_train/a/1.svg", "README.md", "seg_train/b/Thumbs.db"):
        (root / name).write_text("x")
    return root


def hash_of(place, index):
    return sum(place.encode()) * 7 + index


def test_train_and_evaluate_print_the_notes_and_images_of_other_formats_train(data, tmp_path):
    lines = []
    recipe = Recipe(stages=(Stage(depth=1, epochs=1, learning_rate=1e-5),), batch_size=4)
    run = train(
        data,
        PRESET_PATH,
        tmp_path / "run",
        recipe=recipe,
        validation_fraction=0.5,
        formats=["savedmodel"],
        verbose=0,
        say=lines.append,
        allow_leakage=True,
    )
    assert [line[11:] for line in lines if line.startswith("note ")] == NOTES
    assert run.manifest["data"]["examples"] == {"train": 4, "validation": 4, "test": 4}
    # The graph of a SavedModel decodes no TIFF; its proof takes the pixels.
    assert any(line.startswith("savedmodel") for line in lines)
    lines.clear()
    assert evaluate(run, data, say=lines.append)[1] == "test"
    assert [line[11:] for line in lines if line.startswith("note ")] == NOTES


def test_an_audit_holds_the_notes(data):
    assert [finding.detail for finding in audit(data, verbose=0).of("layout")] == NOTES


def test_notes_survive_an_exclusion_list(data, tmp_path):
    splits = load_splits(data, validation_fraction=0.5)
    (tmp_path / "x.txt").write_text("# list\n")
    assert leave_out(splits, tmp_path / "x.txt", root=data).notes == tuple(NOTES)


def test_a_given_validation_folder_says_that_the_datas_own_is_not_used(tmp_path):
    for split in ("data/train", "data/val", "other"):
        for name in "ab":
            draw(tmp_path / split / name / "1.png", seed=hash_of(split, ord(name)))
    draw(tmp_path / "other" / "loose.png")
    splits = load_splits(tmp_path / "data", validation=tmp_path / "other")
    own, loose = splits.notes
    assert own == f"not used: the data's own validation split, as {tmp_path / 'other'} was given"
    assert loose.startswith(f"{tmp_path / 'other'}: not used: 1 image (loose.png) directly in")


def test_classes_that_a_split_lacks_are_named(tmp_path):
    rows = [f"{label} {index},{label}" for label in "abcde" for index in range(2)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows]))
    (tmp_path / "dev.csv").write_text("text,label\nhello,a\n")
    splits, _ = load_text_splits(tmp_path)
    lines = []
    recipe = Recipe(stages=(Stage(depth=1, epochs=1, learning_rate=1e-5),))
    hint_at_classes(splits, recipe, lines.append)
    assert lines == ["note       validation has no texts of b, c, d and 1 more"]
    hint_at_classes(dataclasses.replace(splits, validation=None), recipe, pytest.fail)
