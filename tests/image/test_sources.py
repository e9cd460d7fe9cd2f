import os
import shutil
import sys

import numpy as np
import pytest
from images import class_folders, draw

from ktransfer.errors import DataError
from ktransfer.image.sources import load_splits, read_data


def names_of(examples):
    return [os.path.basename(path) for path in examples.inputs]


def test_class_folders_become_sorted_classes_and_labels(tmp_path):
    splits = read_data(class_folders(tmp_path, {"tulips": 1, "daisy": 2}))
    assert splits.train.class_names == ("daisy", "tulips")
    assert splits.train.labels.tolist() == [0, 0, 1]
    assert names_of(splits.train) == ["000.png", "001.png", "000.png"]
    assert (splits.validation, splits.test) == (None, None)


def test_every_image_extension_counts_in_any_case_and_other_files_do_not(tmp_path):
    class_folders(tmp_path, {"a": 0, "b": 1})
    for name in ("1.JPG", "2.jpeg", "3.Png", "4.bmp", "5.gif", "6.webp"):
        draw(tmp_path / "a" / name)
    for name in ("notes.txt", "Thumbs.db", ".hidden.png", "._1.jpg"):
        (tmp_path / "a" / name).write_bytes(b"")
    draw(tmp_path / ".cache" / "x.png")
    draw(tmp_path / "a" / ".thumbnails" / "x.png")
    train = read_data(tmp_path).train
    assert names_of(train)[:-1] == ["1.JPG", "2.jpeg", "3.Png", "4.bmp", "5.gif", "6.webp"]
    assert train.class_names == ("a", "b")


def test_names_with_spaces_and_other_scripts_and_nested_folders_are_read(tmp_path):
    draw(tmp_path / "fleur d'été" / "2024 mai" / "grande photo.png")
    draw(tmp_path / "バラ" / "赤 い.png")
    assert read_data(tmp_path).train.counts() == {"fleur d'été": 1, "バラ": 1}


def test_a_decomposed_class_name_is_the_same_class(tmp_path):
    draw(tmp_path / "e\u0301te\u0301" / "1.png")
    draw(tmp_path / "b" / "1.png")
    assert read_data(tmp_path, class_names=["été", "b"]).train.class_names == ("été", "b")


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_a_folder_of_parts_is_read_as_such(tmp_path, validation):
    for part, count in (("train", 3), (validation, 2), ("test", 1)):
        class_folders(tmp_path / part, {"a": count, "b": count})
    splits = read_data(tmp_path)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [6, 4, 2]


def test_a_class_called_train_is_a_class(tmp_path):
    draw(tmp_path / "train" / "night" / "1.png")
    splits = read_data(class_folders(tmp_path, {"bus": 1, "test": 1, "train": 1}))
    assert splits.train.class_names == ("bus", "test", "train")


def test_parts_without_train_or_twice_are_refused(tmp_path):
    class_folders(tmp_path / "val", {"a": 1, "b": 1})
    with pytest.raises(DataError, match="Expected train/ with class folders, as in val/"):
        read_data(tmp_path)
    class_folders(tmp_path / "train", {"a": 1, "b": 1})
    class_folders(tmp_path / "validation", {"a": 1, "b": 1})
    with pytest.raises(DataError, match=r"one validation folder.*got val/ and validation/"):
        read_data(tmp_path)


def test_a_validation_class_that_training_lacks_is_named(tmp_path):
    class_folders(tmp_path / "train", {"a": 1, "b": 1})
    class_folders(tmp_path / "val", {"a": 1, "c": 1})
    with pytest.raises(DataError, match=r"out of a, b, got 'c'"):
        read_data(tmp_path)


def test_given_class_names_fix_the_labels_and_unknown_folders_are_named(tmp_path):
    class_folders(tmp_path, {"a": 1, "b": 1})
    train = read_data(tmp_path, class_names=["b", "x", "a"]).train
    assert train.class_names == ("b", "x", "a")
    assert train.labels.tolist() == [2, 0]
    with pytest.raises(DataError, match="got 'b'"):
        read_data(tmp_path, class_names=["a", "x"])


def test_what_is_no_data_is_refused_in_one_sentence_each(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    empty = tmp_path / "empty"
    empty.mkdir()
    one = class_folders(tmp_path / "one", {"only": 3})
    loose = tmp_path / "loose"
    draw(loose / "1.png")
    hollow = class_folders(tmp_path / "hollow", {"a": 1})
    (hollow / "b").mkdir()
    (hollow / "b" / "notes.txt").write_text("x")
    for data, message in (
        (tmp_path / "missing", "missing, which does not exist"),
        (file, "got the file"),
        (empty, "got an empty folder"),
        (one, "got only only in"),
        (loose, r"got 1 \.png"),
        (hollow, r"hollow/b, got 1 \.txt"),
    ):
        with pytest.raises(DataError, match=message):
            read_data(data)


def test_linked_files_and_folders_are_followed(tmp_path):
    outside = class_folders(tmp_path / "outside", {"a": 2})
    data = class_folders(tmp_path / "data", {"b": 1})
    (data / "a").symlink_to(outside / "a", target_is_directory=True)
    (data / "b" / "linked.png").symlink_to(outside / "a" / "000.png")
    assert read_data(data).train.counts() == {"a": 2, "b": 2}


def test_a_link_to_a_folder_above_does_not_loop_and_does_not_bring_in_other_classes(tmp_path):
    data = class_folders(tmp_path, {"a": 1, "b": 1})
    for target, name in ((data, "up"), (data / "a", "self")):
        (data / "a" / name).symlink_to(target, target_is_directory=True)
    assert read_data(data).train.counts() == {"a": 1, "b": 1}


def test_a_link_to_nothing_is_named(tmp_path):
    data = class_folders(tmp_path, {"a": 1, "b": 1})
    (data / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png, a link to nothing"):
        read_data(data)


def test_a_class_folder_that_is_not_utf8_is_refused(tmp_path):
    try:
        draw(tmp_path / os.fsdecode(b"ros\xe9") / "1.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match="named in UTF-8"):
        read_data(tmp_path)


def test_validation_is_split_off_when_there_is_none(tmp_path):
    class_folders(tmp_path, {"a": 10, "b": 10})
    splits = load_splits(tmp_path, validation_fraction=0.3, seed=1)
    assert splits.validation.counts() == {"a": 3, "b": 3}
    assert not set(splits.train.inputs) & set(splits.validation.inputs)
    assert (
        load_splits(tmp_path, validation_fraction=0.3, seed=1).validation.inputs == splits.validation.inputs
    )


def test_the_datas_own_validation_is_taken_and_a_given_folder_goes_before_it(tmp_path):
    for part, count in (("data/train", 4), ("data/val", 2), ("other", 1)):
        class_folders(tmp_path / part, {"a": count, "b": count})
    assert len(load_splits(tmp_path / "data").validation) == 4
    splits = load_splits(tmp_path / "data", validation=tmp_path / "other")
    assert (len(splits.train), len(splits.validation)) == (8, 2)
    class_folders(tmp_path / "other", {"c": 1})
    with pytest.raises(DataError, match="got 'c'"):
        load_splits(tmp_path / "data", validation=tmp_path / "other")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data_dir with `blots` 1.9.0 and 1.10.0: train 3 n/a and 2 dot, test 1 dot and 1 unlabelled."""
    tfds = pytest.importorskip("tensorflow_datasets")
    root = tmp_path_factory.mktemp("tfds")
    image = draw(root / "source.png", size=(8, 6))

    class Blots(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.9.0")
        SUPPORTED_VERSIONS = [tfds.core.Version("1.10.0")]  # noqa: RUF012

        def _info(self):
            label = tfds.features.ClassLabel(names=["n/a", "dot"])
            features = {"image": tfds.features.Image(shape=(None, None, 3)), "label": label}
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples([0, 0, 0, 1, 1]),
                "test": self._generate_examples([1, -1]),
            }

        def _generate_examples(self, labels):
            for index, label in enumerate(labels):
                yield index, {"image": image, "label": label}

    for version in ("1.9.0", "1.10.0"):
        builder = Blots(data_dir=str(root), version=version, file_format="tfrecord")
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False, register_checksums=False)
        )
    return root


def test_a_prepared_tfds_data_set_becomes_files_with_its_own_bytes(prepared, tmp_path):
    splits = read_data("tfds:blots", data_dir=prepared, cache_dir=tmp_path)
    assert splits.train.counts() == {"dot": 2, "n/a": 3}
    assert splits.test.counts() == {"dot": 1, "n/a": 0}
    path = splits.train.inputs[0]
    assert path.startswith(str(tmp_path / "tfds" / "blots" / "1.10.0-"))
    with open(path, "rb") as file:
        assert file.read() == (prepared / "source.png").read_bytes()


def test_a_tfds_data_set_is_laid_out_once_and_whole(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("KTRANSFER_CACHE", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    before = read_data("tfds:blots:1.9.0").train
    times = [os.stat(path).st_mtime_ns for path in before.inputs]
    assert [os.stat(path).st_mtime_ns for path in read_data("tfds:blots:1.9.0").train.inputs] == times
    assert [folder.name[:6] for folder in (tmp_path / "tfds" / "blots").iterdir()] == ["1.9.0-"]


def test_a_failed_layout_leaves_nothing_behind(prepared, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("ktransfer.data.tfds.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        read_data("tfds:blots", data_dir=prepared, cache_dir=tmp_path)
    assert list((tmp_path / "tfds" / "blots").iterdir()) == []


def test_a_data_set_prepared_anew_is_laid_out_anew(prepared, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "copy")
    first = read_data("tfds:blots", data_dir=copy, cache_dir=tmp_path).train
    os.utime(copy / "blots/1.10.0/dataset_info.json", ns=(1, 1))
    assert read_data("tfds:blots", data_dir=copy, cache_dir=tmp_path).train.inputs != first.inputs


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing", "tfds build nothing"),
        ("blots:9.0.0", "to be prepared"),
        ("blots/big", "to be prepared"),
        ("../blots", "tfds:NAME"),
    ],
)
def test_a_tfds_data_set_that_is_not_prepared_says_how_to_get_it(prepared, tmp_path, spec, message):
    with pytest.raises(DataError, match=message):
        read_data(f"tfds:{spec}", data_dir=prepared, cache_dir=tmp_path)


def test_without_tfds_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DataError, match=r'pip install "ktransfer\[tfds\]"'):
        read_data("tfds:blots", data_dir=tmp_path)


def test_labels_of_a_tfds_data_set_follow_given_class_names(prepared, tmp_path):
    splits = read_data("tfds:blots", class_names=["n/a", "dot"], data_dir=prepared, cache_dir=tmp_path)
    assert np.bincount(splits.train.labels).tolist() == [3, 2]


def test_class_folders_that_are_numbers_sort_by_value_and_any_name_is_a_class(tmp_path):
    for name in ("10", "9", "1", "0"):
        draw(tmp_path / "numbers" / name / "1.png")
    for name in ("nan", "None", "NA", "1.0", "1"):
        draw(tmp_path / "names" / name / "1.png")
    assert read_data(tmp_path / "numbers").train.class_names == ("0", "1", "9", "10")
    assert read_data(tmp_path / "names").train.class_names == ("1", "1.0", "NA", "None", "nan")
