import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from images import class_folders, draw

from ktransfer.data.examples import Examples, Splits
from ktransfer.errors import DataError
from ktransfer.image.sources import read_data


def made_of(root, counts):
    return read_data(class_folders(root, counts)).train


@pytest.mark.parametrize(
    ("inputs", "labels", "names"),
    [
        ((), [], ("a", "b")),
        (("x",), [0, 1], ("a", "b")),
        (("x",), [2], ("a", "b")),
        (("x",), [-1], ("a", "b")),
        (("x",), [0.0], ("a", "b")),
        (("x",), [0], ("a", "a")),
        (("x",), [0], ("a", "b\nc")),
        (("x",), [0], ("a", "")),
    ],
)
def test_examples_that_contradict_themselves_cannot_be_made(inputs, labels, names):
    with pytest.raises(DataError, match=", got "):
        Examples(inputs, np.array(labels), names)


def test_labels_are_a_read_only_int32_copy():
    given = np.array([0, 1])
    examples = Examples(("x", "y"), given, ("a", "b"))
    given[0] = 1
    assert examples.labels.dtype == np.int32
    assert examples.labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        examples.labels[0] = 1


def test_counts_and_subset_keep_classes_without_examples():
    examples = Examples(("x", "y", "z"), np.array([0, 2, 2]), ("a", "b", "c"))
    assert examples.counts() == {"a": 1, "b": 0, "c": 2}
    part = examples.subset([2, 0])
    assert (part.inputs, part.labels.tolist(), part.class_names) == (("z", "x"), [2, 0], ("a", "b", "c"))


def test_a_split_takes_the_fraction_of_each_class_and_at_least_one(tmp_path):
    examples = made_of(tmp_path, {"many": 20, "few": 2})
    rest, held_out = examples.split(0.25, seed=0)
    assert held_out.counts() == {"few": 1, "many": 5}
    assert rest.counts() == {"few": 1, "many": 15}
    assert sorted(rest.inputs + held_out.inputs) == sorted(examples.inputs)


def test_a_high_fraction_leaves_one_of_each_class(tmp_path):
    rest, _ = made_of(tmp_path, {"a": 3, "b": 2}).split(0.99, seed=0)
    assert rest.counts() == {"a": 1, "b": 1}


def test_a_split_follows_from_its_seed(tmp_path):
    examples = made_of(tmp_path, {"a": 12, "b": 12})
    once, again, other = (examples.split(0.5, seed=seed)[1].inputs for seed in (3, 3, 4))
    assert once == again
    assert once != other


@pytest.mark.parametrize("seed", range(8))
def test_identical_files_stay_on_one_side(tmp_path, seed):
    made_of(tmp_path, {"a": 4, "b": 4})
    for copy in ("x.png", "y.png"):
        shutil.copy(tmp_path / "a/000.png", tmp_path / "a" / copy)
    _, held_out = read_data(tmp_path).train.split(0.5, seed=seed)
    copies = {str(tmp_path / "a" / name) for name in ("000.png", "x.png", "y.png")}
    assert len(copies & set(held_out.inputs)) in (0, 3)


@pytest.mark.parametrize("seed", range(8))
def test_a_file_that_lies_in_two_classes_is_never_held_out(tmp_path, seed):
    made_of(tmp_path, {"a": 2, "b": 2})
    shutil.copy(tmp_path / "a/000.png", tmp_path / "b/copy.png")
    _, held_out = read_data(tmp_path).train.split(0.5, seed=seed)
    assert str(tmp_path / "a/001.png") in held_out.inputs
    assert not {str(tmp_path / "a/000.png"), str(tmp_path / "b/copy.png")} & set(held_out.inputs)


def test_a_class_with_one_image_cannot_be_split_and_is_named(tmp_path):
    with pytest.raises(DataError, match=r"two different images.*got 1 of class 'rare'.*Add images"):
        made_of(tmp_path, {"common": 5, "rare": 1}).split(0.2, seed=0)


def test_a_class_of_copies_counts_as_one_image(tmp_path):
    made_of(tmp_path, {"a": 1, "b": 3})
    shutil.copy(tmp_path / "a/000.png", tmp_path / "a/001.png")
    with pytest.raises(DataError, match="got 2 of class 'a', 1 to choose from"):
        read_data(tmp_path).train.split(0.2, seed=0)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(tmp_path, fraction):
    with pytest.raises(DataError, match="between 0 and 1"):
        made_of(tmp_path, {"a": 2, "b": 2}).split(fraction, seed=0)


def test_the_fingerprint_survives_a_copy_and_another_order(tmp_path):
    examples = made_of(tmp_path / "one", {"a": 3, "b": 2})
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copy)
    assert read_data(tmp_path / "two").train.fingerprint() == examples.fingerprint()
    assert examples.subset([4, 2, 0, 1, 3]).fingerprint() == examples.fingerprint()


def test_the_fingerprint_sees_an_edit_of_the_same_size_and_time(tmp_path):
    before = made_of(tmp_path, {"a": 2, "b": 2})
    first = before.fingerprint()
    path = tmp_path / "a/000.png"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert before.fingerprint() != first


def test_the_fingerprint_sees_a_rename_another_label_and_another_class_order(tmp_path):
    examples = made_of(tmp_path, {"a": 2, "b": 2})
    fingerprints = {examples.fingerprint()}
    fingerprints.add(Examples(examples.inputs, np.array([0, 1, 1, 1]), ("a", "b")).fingerprint())
    fingerprints.add(Examples(examples.inputs, examples.labels, ("b", "a")).fingerprint())
    (tmp_path / "a/000.png").rename(tmp_path / "a/renamed.png")
    fingerprints.add(read_data(tmp_path).train.fingerprint())
    assert len(fingerprints) == 4


def test_a_file_that_is_gone_is_named(tmp_path):
    examples = made_of(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "b/001.png").unlink()
    with pytest.raises(DataError, match=r"b/001\.png \(No such file or directory\)"):
        examples.fingerprint()


def test_parts_with_other_classes_cannot_be_splits():
    one = Examples(("x",), np.array([0]), ("a", "b"))
    two = Examples(("x",), np.array([0]), ("b", "a"))
    with pytest.raises(DataError, match=r"same classes.*got b, a"):
        Splits(one, validation=two)


def test_a_name_that_is_not_utf8_is_read_split_and_fingerprinted(tmp_path):
    made_of(tmp_path, {"a": 1, "b": 2})
    name = os.fsdecode(b"ros\xe9.png")
    try:
        draw(tmp_path / "a" / name, seed=7)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    examples = read_data(tmp_path).train
    rest, held_out = examples.split(0.5, seed=0)
    assert len(rest) + len(held_out) == 4
    assert len(examples.fingerprint()) == 64


def texts_of(*pairs):
    texts, labels = zip(*pairs, strict=True)
    return Examples(texts, np.array(labels), ("ham", "spam"), kind="text")


def test_an_unknown_kind_is_refused_and_a_subset_keeps_its_kind():
    with pytest.raises(DataError, match=r'"file" or "text", got \'texts\''):
        Examples(("x",), np.array([0]), ("a", "b"), kind="texts")
    assert texts_of(("x", 0), ("y", 1)).subset([1]).kind == "text"


@pytest.mark.parametrize("seed", range(8))
def test_texts_that_differ_in_case_and_white_space_stay_on_one_side(seed):
    same = ("Win a prize", "win  a\nPRIZE ", "WIN A PRIZE")
    examples = texts_of(*((text, 1) for text in same), ("free", 1), ("now", 1), ("hi", 0), ("bye", 0))
    _, held_out = examples.split(0.5, seed=seed)
    assert len(set(same) & set(held_out.inputs)) in (0, 3)


@pytest.mark.parametrize("seed", range(8))
def test_a_text_of_two_classes_is_never_held_out(seed):
    examples = texts_of(("Hello", 0), ("hello", 1), ("a", 0), ("b", 0), ("c", 1), ("d", 1))
    assert not {"Hello", "hello"} & set(examples.split(0.5, seed=seed)[1].inputs)


def test_a_class_of_one_text_cannot_be_split_and_texts_are_spoken_of():
    with pytest.raises(DataError, match=r"two different texts.*2 of class 'spam', 1 to.*validation file"):
        texts_of(("a", 0), ("b", 0), ("c", 1), ("C", 1)).split(0.5, seed=0)


def test_the_fingerprint_of_texts_sees_an_edit_and_a_label_and_not_the_order():
    one = texts_of(("a", 0), ("b", 1))
    assert one.fingerprint() == texts_of(("b", 1), ("a", 0)).fingerprint()
    others = (texts_of(("a", 0), ("B", 1)), texts_of(("a", 1), ("b", 0)), texts_of(("a", 0)))
    assert len({one.fingerprint(), *(other.fingerprint() for other in others)}) == 4


def test_reading_data_loads_no_tensorflow():
    modules = ["data.examples", "data.tables.table_files", "data.tfds"]
    modules += [f"image.{name}" for name in ("augmentation", "checks", "decoding", "sources")]
    modules += ["text.augmentation", "text.sources"]
    code = "import sys\n" + "".join(f"import ktransfer.{name}\n" for name in modules)
    code += "raise SystemExit(bool({'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
