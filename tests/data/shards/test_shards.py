"""Each kind of shard, read by rows and by places; what is truncated, of another schema or packed is refused."""

import sys

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_files import FIELDS, WRITERS, picture, write_parquet, write_tar

from ktransfer.data.shards.contents import content_fields, label_field
from ktransfer.data.shards.shard import example_of, is_shard, open_shard
from ktransfer.data.shards.storage import file_system, list_files, open_file, size_of, version_of
from ktransfer.errors import DataError, MissingExtraError
from ktransfer.image.shards import IMAGE_SHARDS
from ktransfer.text.shards import TEXT_SHARDS

ROWS = [(picture((at, 200 - at, 7)), at % 3) for at in range(11)]


@pytest.fixture(params=WRITERS)
def kind(request):
    return request.param


@pytest.fixture
def shard(kind, tmp_path):
    return open_shard(str(WRITERS[kind](tmp_path / f"a.{kind}", ROWS)))


@pytest.mark.parametrize("start", [0, 1, 3, 10, 11, 40])
def test_records_are_read_in_order_from_any_row(shard, kind, start):
    image, label = FIELDS[kind]
    found = list(shard.records([image, label], start))
    assert [record.row for record in found] == list(range(start, 11))
    assert [example_of(_first(record), IMAGE_SHARDS).read() for record in found] == [
        row[0] for row in ROWS[start:]
    ]
    assert [int(record.values[1]) for record in found] == [row[1] for row in ROWS[start:]]


def _first(record):
    return type(record)(record.row, record.place, record.key, record.values[:1])


def test_a_value_is_found_by_its_place_in_any_order(shard, kind):
    image, label = FIELDS[kind]
    places = list(shard.places(image, label))
    assert [int(value) for _, _, value in places] == [row[1] for row in ROWS]
    for at in (10, 0, 5, 3, 5):
        assert IMAGE_SHARDS.as_content(shard.value(places[at][0], image), "").read() == ROWS[at][0]


def test_the_fields_of_images_and_labels_are_found_by_name(shard, kind):
    assert content_fields(shard.fields, IMAGE_SHARDS, (), "a") == FIELDS[kind][:1]
    assert label_field(shard.fields, None, "a") == FIELDS[kind][1]


def test_a_shard_cut_anywhere_is_refused_by_name(kind, tmp_path):
    content = WRITERS[kind](tmp_path / f"a.{kind}", ROWS).read_bytes()
    # tar files end in blocks of zeros, of which some may be missing.
    end = len(content) - (9000 if kind == "tar" else 1)
    for cut in {1, 30, len(content) // 3, len(content) // 2, end}:
        path = tmp_path / f"cut-{cut}.{kind}"
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match=rf"cut-{cut}\.{kind}, got .*again\."):
            list(open_shard(str(path)).records(FIELDS[kind]))


def test_what_is_no_shard_is_refused(kind, tmp_path):
    for name, content in (("empty", b""), ("text", b"text,label\n" * 400)):
        path = tmp_path / f"{name}.{kind}"
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}\.{kind}"):
            list(open_shard(str(path)).records(FIELDS[kind]))


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tfrecord.gz", "a.tfrecords-00000-of-00010.gz"])
def test_a_shard_packed_as_a_whole_is_refused(name):
    with pytest.raises(DataError, match="Unpack it"):
        open_shard(name)


def test_files_are_shards_by_their_names():
    names = (
        "a.PARQUET",
        "a.pq",
        "a.tfrecord",
        "train.tfrecord-00000-of-00010",
        "a.tfrec",
        "a.tar",
        "a.csv",
        "tar",
    )
    assert [is_shard(name) for name in names] == [True] * 6 + [False] * 2


def test_shards_are_read_from_a_store(kind, tmp_path):
    content = WRITERS[kind](tmp_path / f"a.{kind}", ROWS).read_bytes()
    files = fsspec.filesystem("memory")
    files.pipe(f"/store-{kind}/a.{kind}", content)
    [url] = list_files(f"memory://store-{kind}")
    assert list_files(f"memory://store-{kind}/*.{kind}") == [url]
    assert size_of(url) == len(content)
    before = version_of(url)
    assert [int(record.values[1]) for record in open_shard(url).records(FIELDS[kind])] == [
        row[1] for row in ROWS
    ]
    files.pipe(f"/store-{kind}/a.{kind}", content + b"\0")
    assert version_of(url) != before
    assert open_file(url).read(2) == content[:2]


@pytest.mark.parametrize(("url", "extra"), [("s3://bucket/a.parquet", "s3"), ("gs://bucket/a.parquet", "gs")])
def test_a_store_without_its_package_names_the_extra(url, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, {"s3": "s3fs", "gs": "gcsfs"}[extra], None)
    with pytest.raises(MissingExtraError, match=rf"ktransfer\[{extra}\]"):
        file_system(url)


@pytest.mark.parametrize("url", ["memory://nothing/here", "nostore://a/b.parquet"])
def test_a_store_without_the_file_is_one_message(url):
    with pytest.raises((DataError, MissingExtraError), match=r"Expected .*, got .*\."):
        list_files(url)


def test_a_file_that_may_not_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.parquet, got No such file"):
        open_file(str(tmp_path / "none.parquet"))


def test_names_of_classes_are_those_of_the_hub(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", ROWS, names=("x", "y", "z"))
    assert open_shard(str(path)).class_names == {"label": ["x", "y", "z"]}


@pytest.mark.parametrize(
    ("fields", "asked", "message"),
    [
        ({"a": "bytes", "b": "bytes"}, (), "2 can hold them"),
        ({"a": "number"}, (), "0 can hold them"),
        ({"image": "bytes"}, ("picture",), "a field 'picture'"),
        ({"image": "bytes", "label": "number"}, ("label",), "the kind number"),
    ],
)
def test_a_field_that_is_not_clear_is_refused(fields, asked, message):
    with pytest.raises(DataError, match=message):
        content_fields(fields, IMAGE_SHARDS, asked, "a.parquet")


def test_labels_that_are_not_named_are_refused():
    with pytest.raises(DataError, match="--label-column"):
        label_field({"image": "bytes", "species": "text"}, None, "a.parquet")
    assert label_field({"image": "bytes", "species": "text"}, "species", "a.parquet") == "species"


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        ({"bytes": None, "path": "a.jpg"}, IMAGE_SHARDS, "the name of a file"),
        ({"bytes": b"", "path": None}, IMAGE_SHARDS, "no bytes"),
        (b"", IMAGE_SHARDS, "no bytes"),
        ("", TEXT_SHARDS, "an empty text"),
        (b"\xff", TEXT_SHARDS, "no text"),
        (7, TEXT_SHARDS, "no text"),
    ],
)
def test_a_value_that_is_no_example_says_why(value, kind, reason):
    with pytest.raises(ValueError, match=reason):
        kind.as_content(value, "row 1")


def test_members_of_a_tar_file_are_grouped_by_their_names(tmp_path):
    shard = open_shard(str(write_tar(tmp_path / "a.tar", ROWS)))
    assert [record.key for record in shard.records(["png"])][:2] == ["0000", "0001"]


def test_a_parquet_file_with_row_groups_of_any_size_is_read(tmp_path):
    for size in (1, 2, 5, 1000):
        path = tmp_path / f"{size}.parquet"
        pq.write_table(pa.table({"text": [str(at) for at in range(700)]}), path, row_group_size=size)
        for start in (0, 1, 6, 255, 699):
            found = [record.values[0] for record in open_shard(str(path)).records(["text"], start)]
            assert found == [str(at) for at in range(start, 700)]
