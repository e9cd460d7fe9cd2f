"""Images in shards: listed, split, fingerprinted, audited and read as images in files are."""

import gc
import tracemalloc

import fsspec
import numpy as np
import pytest
from shard_files import FIELDS, WRITERS, picture, write_parquet, write_tar, write_tfrecord

from ktransfer import load_splits, read_data
from ktransfer.commands.audit import audit
from ktransfer.commands.checks import check_data
from ktransfer.data.examples import Examples
from ktransfer.data.modality import find_task
from ktransfer.data.shards.address import open_example, parsed
from ktransfer.data.shards.listing import ShardInputs
from ktransfer.errors import DataError
from ktransfer.image.dataset import image_dataset
from ktransfer.image.decoding import Resize, load_image, unreadable_reason

COUNT = 24


def color(at):
    """A different color for each example; one color of each class is the larger."""
    return (9 * at + 7, 60 + at, 30) if at % 2 else (30, 60 + at, 9 * at + 7)


ROWS = [(picture(color(at)), "red" if at % 2 else "blue") for at in range(COUNT)]


@pytest.fixture(params=WRITERS)
def kind(request):
    return request.param


@pytest.fixture
def shards(kind, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for at in range(3):
        WRITERS[kind](folder / f"train-{at:05}-of-00003.{kind}", ROWS[at::3])
    return folder


def labels_by_pixels(examples):
    """The class of each color."""
    found = {}
    for path, name in zip(examples.inputs, examples.label_names, strict=True):
        found[tuple(load_image(path, Resize(4, 4))[0, 0].tolist())] = name
    return found


EXPECTED = {color(at): "red" if at % 2 else "blue" for at in range(COUNT)}


def test_all_examples_are_listed_with_their_labels(shards):
    train = read_data(shards).train
    assert train.class_names == ("blue", "red")
    assert train.counts() == {"blue": 12, "red": 12}
    assert labels_by_pixels(train) == EXPECTED
    assert find_task(shards) == "image-classification"


def test_files_patterns_and_stores_name_the_same_examples(shards, kind):
    files = fsspec.filesystem("memory")
    for path in shards.iterdir():
        files.pipe(f"/images-{kind}/{path.name}", path.read_bytes())
    for data in (f"{shards}/*.{kind}", f"memory://images-{kind}", f"memory://images-{kind}/*.{kind}"):
        check_data(data)
        assert find_task(data) == "image-classification"
        train = read_data(data).train
        assert labels_by_pixels(train) == EXPECTED
        assert train.fingerprint() == read_data(shards).train.fingerprint()


def test_a_split_is_fixed_by_its_seed_and_loses_nothing(shards):
    one, again = (load_splits(shards, validation_fraction=0.25, seed=3) for _ in range(2))
    assert one.train.inputs == again.train.inputs
    assert one.validation.inputs == again.validation.inputs
    assert one.validation.counts() == {"blue": 3, "red": 3}
    assert sorted([*one.train.inputs, *one.validation.inputs]) == sorted(read_data(shards).train.inputs)
    assert one.train.joined(one.validation).fingerprint() == read_data(shards).train.fingerprint()


def test_copies_of_an_image_stay_on_one_side(kind, tmp_path):
    rows = [ROWS[at % 8] for at in range(24)]
    path = WRITERS[kind](tmp_path / f"a.{kind}", rows)
    splits = load_splits(path, validation_fraction=0.25, seed=0)
    sides = [set(labels_by_pixels(split)) for split in (splits.train, splits.validation)]
    assert not sides[0] & sides[1]


def test_a_fingerprint_changes_with_an_image_or_a_label(kind, tmp_path):
    found = set()
    other = (picture((1, 2, 3)), "red")
    relabeled = (ROWS[5][0], "blue")
    for at, rows in enumerate((ROWS, [*ROWS[:5], other, *ROWS[6:]], [*ROWS[:5], relabeled, *ROWS[6:]])):
        (tmp_path / str(at)).mkdir()
        found.add(read_data(WRITERS[kind](tmp_path / str(at) / f"a.{kind}", rows)).train.fingerprint())
    assert len(found) == 3


def test_a_dataset_of_shards_gives_each_image_once_an_epoch(shards):
    train = read_data(shards).train
    dataset = image_dataset(train, resize=Resize(4, 4), batch_size=5, training=True, seed=1)
    for _ in range(2):
        seen = [
            tuple(image[0, 0].astype(int).tolist())
            for images, _ in dataset.as_numpy_iterator()
            for image in images
        ]
        assert sorted(seen) == sorted(EXPECTED)


def test_an_image_that_cannot_be_decoded_is_named_by_its_place(kind, tmp_path):
    rows = [*ROWS[:3], (b"\x89no image", "red"), *ROWS[4:]]
    train = read_data(WRITERS[kind](tmp_path / f"a.{kind}", rows)).train
    reasons = [unreadable_reason(path) for path in train.inputs]
    assert [at for at, reason in enumerate(reasons) if reason] == [3]
    with pytest.raises(DataError, match=rf"a\.{kind}::"):
        load_image(train.inputs[3], Resize(4, 4))


def test_the_audit_finds_leaks_and_broken_images_in_shards(kind, tmp_path):
    for split, rows in (
        ("train", [*ROWS[:12], (b"\x89broken", "red")]),
        ("validation", [*ROWS[12:], ROWS[2]]),
    ):
        (tmp_path / split).mkdir()
        WRITERS[kind](tmp_path / split / f"0000.{kind}", rows)
    found = audit(tmp_path)
    kinds = {finding.kind for finding in found.findings}
    assert {"leak", "unreadable"} <= kinds


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train-00000-of-00001", "validation-00000-of-00001", "test-00000-of-00001"), (True, True)),
        (("train/0000", "val/0000", "test/0000"), (True, True)),
        (("data/train-00000-of-00001", "data/test-00000-of-00001"), (False, True)),
        (("part-0", "part-1"), (False, False)),
    ],
)
def test_the_split_of_a_shard_is_that_of_its_name(tmp_path, names, splits):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_parquet(tmp_path / f"{name}.parquet", ROWS)
    found = read_data(tmp_path)
    assert (found.validation is not None, found.test is not None) == splits
    assert len(found.train) == (COUNT if any(splits) else 2 * COUNT)


def test_tfrecord_shards_may_have_their_number_at_the_end(tmp_path):
    for name in (
        "train.tfrecord-00000-of-00002",
        "train.tfrecord-00001-of-00002",
        "test.tfrecord-00000-of-00001",
    ):
        write_tfrecord(tmp_path / name, ROWS)
    found = read_data(tmp_path)
    assert (len(found.train), len(found.test)) == (2 * COUNT, COUNT)


def test_numbers_are_the_classes_that_the_schema_names(tmp_path):
    rows = [(content, int(name == "red")) for content, name in ROWS]
    write_parquet(tmp_path / "a.parquet", rows, names=("blue", "red"))
    assert labels_by_pixels(read_data(tmp_path).train) == EXPECTED
    (tmp_path / "b").mkdir()
    write_parquet(tmp_path / "b" / "b.parquet", rows)
    assert read_data(tmp_path / "b").train.class_names == ("0", "1")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: write_parquet(path / "b.parquet", [(1, "x")] * 3), r"b\.parquet, 'image' with values"),
        (
            lambda path: write_parquet(path / "b.parquet", ROWS, names=("blue", "red")),
            r"b\.parquet, got others",
        ),
        (lambda path: write_tar(path / "b.tar", ROWS), r"b\.tar, 'image' with values"),
        (lambda path: write_parquet(path / "b.parquet", [(ROWS[0][0], None)]), r"b\.parquet"),
        (
            lambda path: (path / "b.parquet").write_bytes((path / "a.parquet").read_bytes()[:-20]),
            r"b\.parquet",
        ),
        (lambda path: (path / "b.tar.gz").write_bytes(b""), "Unpack it"),
        (
            lambda path: write_parquet(path / "val.parquet", [(ROWS[0][0], "green")] * 2),
            r"val\.parquet, got 'green'",
        ),
    ],
)
def test_shards_of_another_schema_are_refused_by_name(tmp_path, write, message):
    write_parquet(tmp_path / "a.parquet", ROWS)
    write(tmp_path)
    with pytest.raises(DataError, match=message):
        read_data(tmp_path)


@pytest.mark.parametrize(
    "options",
    [{"group_column": "x"}, {"task": "multi_label"}, {"task": "regression"}, {"label_separator": "|"}],
)
def test_what_only_tables_have_is_refused(tmp_path, options):
    write_parquet(tmp_path / "a.parquet", ROWS)
    with pytest.raises(DataError, match=f"a table for {next(iter(options))}"):
        read_data(tmp_path, **options)


def test_labels_in_a_field_of_any_name_are_read_when_it_is_named(tmp_path):
    write_parquet(tmp_path / "a.parquet", ROWS)
    with pytest.raises(DataError, match="a field 'kind'"):
        read_data(tmp_path, label_column="kind")
    with pytest.raises(DataError, match="a field 'photo'"):
        read_data(tmp_path, file_column="photo")
    assert read_data(tmp_path, file_column="image", label_column="label").train.counts()["red"] == 12


def test_an_address_is_read_back_and_a_path_is_none():
    for path in ("a.tar", "s3://b/x-00001-of-00002.parquet", "/d/a::b.tfrecord"):
        assert parsed(f"{path}::12+34::image/encoded") == (path, (12, 34), "image/encoded")
    for path in ("rose.jpg", "a.tar", "a::1+2::x.jpg", "a.tar::1::jpg"):
        assert parsed(path) is None
        assert open_example(path) == path


def test_ten_million_examples_take_few_bytes_each():
    count = 10_000_000
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    shards = [(f"train-{at:05}.tar", "jpg") for at in range(1000)]
    index = np.repeat(np.arange(1000, dtype=np.int32), count // 1000)
    first = np.arange(count, dtype=np.int64) * 1536
    inputs = ShardInputs(shards, index, first, np.full(count, 700, np.uint32))
    examples = Examples(inputs, (np.arange(count) % 10).astype(np.int32), tuple("abcdefghij"))
    del index, first
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held <= 32 * count
    assert len(examples) == count
    assert examples.inputs[count - 1] == f"train-00999.tar::{(count - 1) * 1536}+700::jpg"
    assert list(examples.subset([5, 3]).inputs) == [inputs[5], inputs[3]]


def test_fields_are_those_of_each_kind():
    assert set(FIELDS) == set(WRITERS)
