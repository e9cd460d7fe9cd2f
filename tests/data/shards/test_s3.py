"""Shards in S3, by a local server of moto's."""

import urllib.request

import pytest
from shard_files import FIELDS, WRITERS, picture

from ktransfer.commands.batch_sources import Columns, blocks, find_sources
from ktransfer.data.shards.shard import example_of, open_shard
from ktransfer.data.shards.storage import list_files, version_of
from ktransfer.errors import DataError
from ktransfer.image.modality import MODALITY
from ktransfer.image.shards import IMAGE_SHARDS
from ktransfer.image.sources import load_splits

pytestmark = pytest.mark.slow
ROWS = [(picture((at, 200 - at, 7)), at % 3) for at in range(11)]


def ask(address, data=b""):
    request = urllib.request.Request(
        address, data=data, headers={"Content-Type": "text/plain"}, method="POST"
    )
    urllib.request.urlopen(request).close()


@pytest.fixture
def bucket(monkeypatch):
    """`(file system, address of the server)`, with an empty bucket named bucket."""
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    import s3fs

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem(use_listings_cache=False)
    files.mkdir("bucket")
    yield files, f"http://{host}:{port}"
    ask(f"http://{host}:{port}/moto-api/reset-auth", b"inf")
    ask(f"http://{host}:{port}/moto-api/reset")
    running.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("kind", WRITERS)
def test_shards_are_listed_and_read(bucket, tmp_path, kind):
    files, _ = bucket
    content = WRITERS[kind](tmp_path / f"a.{kind}", ROWS).read_bytes()
    for name in ("train-0", "train-1"):
        files.pipe(f"bucket/data/{name}.{kind}", content)
    urls = list_files(f"s3://bucket/data/train-*.{kind}")
    assert urls == list_files("s3://bucket/data")
    assert urls == [f"s3://bucket/data/train-{at}.{kind}" for at in range(2)]
    image, label = FIELDS[kind]
    found = list(open_shard(urls[1]).records([image], 3))
    assert [example_of(record, IMAGE_SHARDS).read() for record in found] == [row[0] for row in ROWS[3:]]
    places = list(open_shard(urls[0]).places(image, label))
    assert [int(value) for _, _, value in places] == [row[1] for row in ROWS]
    sources, _ = find_sources(["s3://bucket/data"], MODALITY, Columns())
    assert [len(block) for source in sources for block in blocks(source.rows(0))] == [11, 11]
    files.pipe(f"bucket/data/train-0.{kind}", content + b"\0")
    assert list_files("s3://bucket/data") == urls
    assert version_of(urls[0]) != version_of(urls[1])


def test_training_and_validation_are_read_from_a_bucket(bucket, tmp_path):
    files, _ = bucket
    content = WRITERS["parquet"](tmp_path / "a.parquet", ROWS).read_bytes()
    files.pipe({f"bucket/birds/{name}-0.parquet": content for name in ("train", "validation")})
    splits = load_splits("s3://bucket/birds")
    assert [len(splits.train), len(splits.validation)] == [11, 11]


def test_what_is_not_there_or_truncated_or_forbidden_is_one_message(bucket, tmp_path):
    files, address = bucket
    for url in ("s3://bucket/none", "s3://nobucket/a.parquet"):
        with pytest.raises(DataError, match=r"Expected .*bucket.*, got .*\."):
            list_files(url)
    content = WRITERS["parquet"](tmp_path / "a.parquet", ROWS).read_bytes()
    files.pipe("bucket/cut.parquet", content[: len(content) // 2])
    with pytest.raises(DataError, match=r"s3://bucket/cut\.parquet"):
        list(open_shard("s3://bucket/cut.parquet").records(["image"]))
    ask(f"{address}/moto-api/reset-auth", b"0")  # from now on keys are checked
    with pytest.raises(DataError, match=r"Check the path, and who may read it\."):
        list_files("s3://bucket/data")
