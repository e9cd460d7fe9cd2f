"""Layouts of folders: splits and classes that are found, what is refused, and what is said of the rest."""

import itertools
import re

import pytest

from ktransfer.data.folders import FileKind, read_class_folders, read_folders
from ktransfer.errors import DataError

KIND = FileKind("images", (".jpg",), (".heic", ".svg"), "JPEG or PNG")
TRAINS = ["train", "Train", "TRAINING", "training_set", "train-images", "TrainSet", "train2017"]
VALIDATIONS = [
    "val",
    "valid",
    "Validation",
    "validate",
    "dev",
    "DEV_SET",
    "eval",
    "holdout",
    "hold_out",
    "val2017",
]
TESTS = ["test", "Testing", "test-set", "TestImages", "test1"]


def made(root, *names):
    """A folder with these files; `a/2` is two images `.jpg` in `a`, `a/` is an empty folder."""
    for name in names:
        head, _, count = name.rpartition("/")
        if count.isdecimal():
            for index in range(int(count)):
                made(root, f"{head}/{index}.jpg")
        elif not count:
            (root / head).mkdir(parents=True, exist_ok=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("x")
    return root


def of(*splits, classes=("a", "b"), count=2):
    return [f"{split}/{name}/{count}" for split in splits for name in classes]


def counts(layout):
    return {split: {n: len(paths) for n, paths in found.items()} for split, found in layout.splits.items()}


def read(root, *names, **options):
    return read_folders(made(root, *names), KIND, **options)


TWO = {"a": 2, "b": 2}


# Names of splits.


@pytest.mark.parametrize("train", TRAINS)
@pytest.mark.parametrize("validation", VALIDATIONS)
def test_every_usual_pair_of_names_is_read_as_splits(tmp_path, train, validation):
    layout = read(tmp_path, *of(train, validation))
    assert counts(layout) == {"train": TWO, "validation": TWO}


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("prefix", ["", "seg_", "Flowers-", "my.", "x "])
def test_a_prefix_that_splits_share_is_no_class(tmp_path, test, prefix):
    layout = read(tmp_path, *of(f"{prefix}train", f"{prefix}{test}"))
    assert counts(layout) == {"train": TWO, "test": TWO}
    assert any(note.startswith("read ") for note in layout.notes) == (f"{prefix}{test}" != "test")


def test_a_split_with_its_name_repeated_inside_is_looked_through(tmp_path):
    names = [name.replace("/", "/{0}/", 1).format(name.split("/")[0]) for name in of("seg_train", "seg_test")]
    layout = read(tmp_path, *names, "seg_pred/seg_pred/3")
    assert counts(layout) == {"train": TWO, "test": TWO}
    assert "not used: seg_pred/ (3 images in no class folders, so without labels)" in layout.notes


@pytest.mark.parametrize(
    ("one", "other"),
    [("val", "validation"), ("dev", "eval"), ("train", "Train"), ("train", "training"), ("test", "test_set")],
)
def test_two_folders_for_one_split_are_refused(tmp_path, one, other):
    made(tmp_path, *of("train", one, other))
    if len(list(tmp_path.iterdir())) < len({"train", one, other}):
        pytest.skip("this file system does not tell case apart")
    with pytest.raises(DataError, match=r"Expected one \w+ folder"):
        read_folders(tmp_path, KIND)


@pytest.mark.parametrize("names", [["c/2"], ["bus/x/1", "bus/y/1"], ["c/2", "test/a/1", "test/b/1"]])
def test_a_class_folder_next_to_splits_is_refused(tmp_path, names):
    with pytest.raises(DataError, match=r"splits only next to train/, got \w+/ with 2 images"):
        read(tmp_path, *of("train"), *names)


@pytest.mark.parametrize("name", ["extra", "fold2", "copy"])
def test_a_folder_of_the_same_classes_next_to_splits_is_named(tmp_path, name):
    layout = read(tmp_path, *of("train", name))
    assert counts(layout) == {"train": TWO}
    assert any(f"not used: {name}/ (4 images)" in note for note in layout.notes)


def test_a_copy_of_the_whole_data_next_to_its_splits_is_named(tmp_path):
    layout = read(tmp_path, *of("train", "val", "x/train", "x/val"))
    assert counts(layout) == {"train": TWO, "validation": TWO}
    assert any("not used: x/ (8 images)" in note for note in layout.notes)


# Splits without labels, and classes named as splits.


@pytest.mark.parametrize(
    "names", [["test/3"], ["test/unknown/3"], ["test/test/3"], ["unlabeled/3"], ["pred/x/3"]]
)
def test_a_test_split_without_class_folders_is_named(tmp_path, names):
    layout = read(tmp_path, *of("train", "val"), *names)
    assert counts(layout) == {"train": TWO, "validation": TWO}
    assert any("3 images in no class folders, so without labels" in note for note in layout.notes)


def test_a_validation_split_without_class_folders_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"for each class in val/, got 3 \.jpg"):
        read(tmp_path, *of("train"), "val/3")


@pytest.mark.parametrize(
    "names", [["train/2", "test1/2"], ["train/2", "val/2", "masks/train/2"], ["seg_train/2"]]
)
def test_splits_with_loose_images_only_are_no_classes(tmp_path, names):
    with pytest.raises(DataError, match="named as splits and hold images without class folders"):
        read(tmp_path, *names)


def test_classes_named_as_splits_next_to_other_classes_are_said(tmp_path):
    layout = read(tmp_path, "bus/2", "test/1", "train/1", "train/night/1")
    assert counts(layout) == {"train": {"bus": 2, "test": 1, "train": 2}}
    assert layout.notes[0] == "read test/, train/ as classes like the others, not as splits"


@pytest.mark.parametrize("name", ["bullet_train", "test_tube", "training-plan"])
def test_a_class_with_the_word_of_a_split_in_it_is_a_class(tmp_path, name):
    layout = read(tmp_path, "bus/2", f"{name}/red/1", f"{name}/blue/1")
    assert counts(layout) == {"train": {"bus": 2, name: 2}}


@pytest.mark.parametrize("name", ["unsup", "unlabeled", "Unlabelled"])
def test_a_class_folder_named_as_without_labels_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=rf"train/{name}/, by its name 2 images without labels"):
        read(tmp_path, *of("train", classes=("a", "b", name)), *of("test"))


@pytest.mark.parametrize("name", ["val", "test", "dev_set"])
def test_an_empty_split_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=rf"for each class in {name}/, got an empty folder"):
        read(tmp_path, *of("train"), f"{name}/")


# Nested layouts.


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("names", [of("train", "val"), ["a/2", "b/2"]])
def test_wrapper_folders_are_looked_through_and_named(tmp_path, depth, names):
    inside = "/".join("xyz"[:depth])
    layout = read(tmp_path, *(f"{inside}/{name}" for name in names), "README.md")
    assert counts(layout)["train"] == TWO
    assert f"read from {inside}/, the only folder of images" in layout.notes


def test_a_known_class_is_no_wrapper(tmp_path):
    layout = read(tmp_path, "a/x/1", "a/y/1", known=("a", "b"))
    assert counts(layout) == {"train": {"a": 2}}


def test_splits_below_each_class_are_read(tmp_path):
    layout = read(tmp_path, *(f"{name}/{split}/2" for name in "ab" for split in ("train", "val", "Test")))
    assert counts(layout) == {"train": TWO, "validation": TWO, "test": TWO}
    assert layout.notes[0].startswith("read the splits below each class, such as ")


@pytest.mark.parametrize(
    "names",
    [
        of("p1", "p2", classes=("yes", "no")),
        of("amazon/images", "dslr/images"),
        of("x/train", "y/train", "x/val", "y/val"),
        ["a/train/1", "a/val/1", "a/other/1", "b/train/1", "b/val/1"],
        ["a/train/1", "a/val/1", "b/1"],
        ["a/train/1", "a/val/1", "b/val/1"],
        of("train/x", "train/y"),
        ["dogs/2", "cats/2", "my_test/dogs/2", "my_test/cats/2"],
    ],
)
def test_folders_that_repeat_below_the_top_are_refused_with_the_layout(tmp_path, names):
    with pytest.raises(
        DataError, match=r"Put the images into .*/CLASS/, or into .*/train/CLASS/ and val/CLASS/"
    ):
        read(tmp_path, *names)


def test_folders_below_classes_are_read_with_them_and_said(tmp_path):
    layout = read(tmp_path, "a/1", "a/old/1", "site/x/1", "site/deep/er/1", "b/1")
    assert counts(layout) == {"train": {"a": 2, "b": 1, "site": 2}}
    assert layout.notes == (
        "read the folders below 2 class folders (a/, site/), such as a/old/, as part of their class",
    )


def test_known_classes_may_hold_the_same_folders(tmp_path):
    layout = read(tmp_path, *of("cats", "dogs", classes=("in", "out")), known=("cats", "dogs"))
    assert counts(layout) == {"train": {"cats": 4, "dogs": 4}}


@pytest.mark.parametrize(
    "names",
    [
        ["images/2", "masks/2"],
        ["images/2", "labels/0.txt"],
        ["images/2"],
        ["images/train/2", "images/val/2", "labels/train/0.txt"],
        ["train/images/2", "train/labels/0.txt", "valid/images/2", "valid/labels/0.txt"],
    ],
)
def test_layouts_for_detection_and_segmentation_are_refused(tmp_path, names):
    with pytest.raises(DataError, match=r"Put the images into .*/CLASS/"):
        read(tmp_path, *names)


def test_images_next_to_annotations_are_looked_through(tmp_path):
    layout = read(tmp_path, *of("Images"), "Annotation/a/1.xml")
    assert counts(layout) == {"train": TWO}
    assert "not used: Annotation/, which holds no images" in layout.notes


# Files that are passed over.


def test_junk_is_never_data_and_is_said(tmp_path):
    folders = (
        "__MACOSX",
        "@eaDir",
        ".ipynb_checkpoints",
        ".git",
        "$RECYCLE.BIN",
        "System Volume Information",
    )
    junk = [f"{place}{name}/a/1.jpg" for name in folders for place in ("", "a/")]
    files = ("Thumbs.db", "._1.jpg", ".DS_Store", "desktop.ini", ".hidden.jpg")
    layout = read(tmp_path, "a/2", "b/2", *junk, *(f"a/{name}" for name in files))
    assert counts(layout) == {"train": TWO}
    [note] = layout.notes
    for name in ("2 __MACOSX/", "2 @eaDir/", "2 .git/", "others"):
        assert name in note


@pytest.mark.parametrize(
    "name",
    [
        *("Thumbs.db", "._1.jpg", ".DS_Store", "desktop.ini", "x/@eaDir/1.jpg"),
        *("@Recently-Snapshot/1.jpg", "FOUND.000/1.jpg", "Temporary Items/1.jpg"),
    ],
)
def test_each_kind_of_junk_is_named(tmp_path, name):
    [note] = read(tmp_path, "a/2", "b/2", f"a/{name}").notes
    assert note.startswith("not used: left by other programs, 1 ")


def test_a_wrapper_next_to_junk_is_still_a_wrapper(tmp_path):
    layout = read(tmp_path, *of("x/train", "x/test"), "__MACOSX/x/train/a/._1.jpg", "__MACOSX/x/b.jpg")
    assert counts(layout) == {"train": TWO, "test": TWO}


def test_files_in_formats_that_are_not_read_are_counted_and_named(tmp_path):
    layout = read(tmp_path, "a/2", "b/2", "a/1.HEIC", "a/2.heic", "b/x.svg", "b/notes.md", "b/none")
    assert counts(layout) == {"train": TWO}
    first, second = layout.notes
    assert first == (
        "not used: 3 files (a/1.HEIC, a/2.heic, b/x.svg) in formats that are not read, 2 .heic, 1 .svg; "
        "convert them to JPEG or PNG"
    )
    assert second == "not used: files that are no images, 1 without a suffix, 1 .md"


def test_files_that_an_extra_reads_name_the_extra(tmp_path):
    kind = FileKind("images", (".jpg",), (".heic", ".svg"), "JPEG or PNG", extras={".heic": "heic"})
    install = r'convert them to JPEG or PNG, or run `pip install "ktransfer\[heic\]"` for \.heic'
    [note] = read_folders(made(tmp_path / "a", "a/2", "b/2", "a/x.HEIC", "a/x.svg"), kind).notes
    assert re.search(rf"2 files \(a/x\.HEIC, a/x\.svg\) .*; {install}$", note)
    with pytest.raises(DataError, match="(?i)" + install):
        read_folders(made(tmp_path / "b", "a/2", "b/x.heic"), kind)


def test_a_class_whose_files_are_not_read_says_to_convert_them(tmp_path):
    with pytest.raises(DataError, match=r"c, got 1 \.heic\. Convert them to JPEG or PNG"):
        read(tmp_path, "a/2", "b/2", "c/1.heic")


@pytest.mark.parametrize("place", ["", "train/"])
def test_loose_images_next_to_class_folders_are_named(tmp_path, place):
    names = of("train", "val") if place else ["a/2", "b/2"]
    layout = read(tmp_path, *names, f"{place}x.jpg", f"{place}y.jpg")
    assert counts(layout)["train"] == TWO
    assert any(note.startswith("not used: 2 images (x.jpg, y.jpg) directly in ") for note in layout.notes)


def test_lists_named_as_splits_are_named(tmp_path):
    layout = read(tmp_path, "a/2", "b/2", "train.txt", "meta/test.csv")
    assert any(
        "2 files (meta/test.csv, train.txt) named as splits" in n or "train.txt" in n for n in layout.notes
    )


def test_an_empty_class_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"Expected images in .*c, got an empty folder"):
        read(tmp_path, "a/2", "b/2", "c/")


# Links.


def test_linked_splits_and_classes_are_followed(tmp_path):
    outside = made(tmp_path / "outside", *of("x"))
    data = made(tmp_path / "data", *of("train", classes=("a",)))
    (data / "train" / "b").symlink_to(outside / "x" / "b", target_is_directory=True)
    (data / "val").symlink_to(outside / "x", target_is_directory=True)
    assert counts(read_folders(data, KIND)) == {"train": TWO, "validation": TWO}


def test_links_upwards_do_not_loop_and_are_said(tmp_path):
    data = made(tmp_path / "data", "a/2", "b/2")
    (data / "a" / "up").symlink_to(data, target_is_directory=True)
    (data / "b" / "self").symlink_to(data / "b", target_is_directory=True)
    layout = read_folders(data, KIND)
    assert counts(layout) == {"train": TWO}
    assert layout.notes == ("not used: links to a folder that they lie in, 2 (a/up, b/self)",)


def test_links_that_multiply_are_refused(tmp_path):
    folders = [tmp_path / "data" / "a", *(tmp_path / f"level{index}" for index in range(14))]
    for folder, target in itertools.pairwise(folders):
        made(folder, "x.jpg")
        target.mkdir()
        for name in ("one", "two"):
            (folder / name).symlink_to(target, target_is_directory=True)
    with pytest.raises(DataError, match="links to a folder at most 1,000 times"):
        read_folders(tmp_path / "data", KIND)


def test_splits_where_one_split_is_read_are_refused(tmp_path):
    made(tmp_path, *of("train", "val"))
    with pytest.raises(DataError, match=r"got train/ and val/, which are named as splits\. Put the images"):
        read_class_folders(tmp_path, KIND)


def test_a_folder_read_as_one_split_has_its_own_notes(tmp_path):
    layout = read_class_folders(made(tmp_path, "a/2", "b/2", "x.jpg"), KIND)
    assert counts(layout) == {"train": TWO}
    assert len(layout.notes) == 1
