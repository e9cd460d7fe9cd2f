import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ktransfer.features.store import FeatureStore
from ktransfer.utils.files import cache_folder

ROWS = np.random.default_rng(0).normal(size=(10, 3, 2)).astype("float32")


def write(store, key="k", rows=ROWS, dtype="float32"):
    return store.write(
        key, rows.shape, dtype, (rows[i : i + 4] for i in range(0, len(rows), 4)), {"cut": "x"}
    )


def test_rows_come_back_in_any_order(tmp_path):
    write(FeatureStore(tmp_path))
    rows = FeatureStore(tmp_path).open("k")
    np.testing.assert_array_equal(rows.read(np.array([7, 0, 7, 9])), ROWS[[7, 0, 7, 9]])
    assert len(rows) == 10


def test_half_precision_is_stored_in_half_the_bytes_and_read_as_float32(tmp_path):
    store = FeatureStore(tmp_path)
    rows = write(store, dtype="float16")
    assert rows.read(np.arange(10)).dtype == np.float32
    np.testing.assert_allclose(rows.read(np.arange(10)), ROWS, atol=2e-3)
    assert (tmp_path / "k" / "rows.bin").stat().st_size == ROWS.nbytes // 2


def test_what_was_never_written_is_missing(tmp_path):
    assert FeatureStore(tmp_path / "nowhere").open("k") is None


@pytest.mark.parametrize("fault", ["truncated", "changed", "version", "no meta", "nonsense"])
def test_a_damaged_entry_is_removed_and_missing(tmp_path, fault):
    store = FeatureStore(tmp_path)
    write(store)
    data, meta = tmp_path / "k" / "rows.bin", tmp_path / "k" / "meta.json"
    if fault == "truncated":
        data.write_bytes(data.read_bytes()[:-1])
    elif fault == "changed":
        content = bytearray(data.read_bytes())
        content[5] ^= 1
        data.write_bytes(content)
    elif fault == "version":
        meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format": 99}))
    elif fault == "no meta":
        meta.unlink()
    else:
        meta.write_text("{")
    assert store.open("k") is None
    np.testing.assert_array_equal(write(store).read(np.arange(10)), ROWS)


def test_a_full_disk_leaves_nothing(tmp_path):
    def batches():
        yield ROWS[:4]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = FeatureStore(tmp_path)
    with pytest.raises(OSError, match="No space"):
        store.write("k", ROWS.shape, "float32", batches(), {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [ROWS[:9], np.zeros((10, 3, 3), "float32")])
def test_rows_that_do_not_add_up_are_refused(tmp_path, rows):
    with pytest.raises(ValueError, match="Expected"):
        FeatureStore(tmp_path).write("k", ROWS.shape, "float32", [rows], {})
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_nothing_under_the_key(tmp_path):
    script = (
        "import sys, os, signal, numpy as np; from ktransfer.features.store import FeatureStore\n"
        "def batches():\n"
        "    yield np.zeros((4, 3, 2), 'float32')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "FeatureStore(sys.argv[1]).write('k', (10, 3, 2), 'float32', batches(), {})"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=False)
    store = FeatureStore(tmp_path)
    assert store.open("k") is None
    assert store.entries() == []
    np.testing.assert_array_equal(write(store).read(np.arange(10)), ROWS)
    partial = next(tmp_path.glob(".*.partial"))
    os.utime(partial, (0, 0))
    write(store, "other")
    assert not partial.exists()


def test_the_second_of_two_writers_takes_the_first_ones_rows(tmp_path):
    store = FeatureStore(tmp_path)

    def batches():
        write(FeatureStore(tmp_path))  # meanwhile
        yield ROWS

    rows = store.write("k", ROWS.shape, "float32", batches(), {})
    np.testing.assert_array_equal(rows.read(np.arange(10)), ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_past_the_limit_the_longest_unused_goes(tmp_path):
    store = FeatureStore(tmp_path, limit_gib=2.5 * ROWS.nbytes * 2 / 2**30)
    for age, key in enumerate("ab"):
        write(store, key)
        os.utime(tmp_path / key / "meta.json", (age, age))
    store.open("a")  # used now
    write(store, "c")
    write(store, "d")
    kept = {entry.key for entry in store.entries()}
    assert "d" in kept
    assert "b" not in kept


def test_clear_removes_all_and_says_how_much(tmp_path):
    store = FeatureStore(tmp_path / "features")
    write(store)
    assert store.entries()[0].facts == {"cut": "x"}
    assert store.clear() > ROWS.nbytes
    assert store.entries() == []


def test_the_folder_is_the_environments_or_the_users_cache(monkeypatch):
    monkeypatch.setenv("KTRANSFER_CACHE", "/somewhere")
    assert str(cache_folder()) == "/somewhere"
    monkeypatch.delenv("KTRANSFER_CACHE")
    assert cache_folder().parts[-2:] == (".cache", "ktransfer")


def test_features_are_kept_where_there_is_no_fcntl(tmp_path):
    script = (
        "import os, sys\n"
        "sys.modules['fcntl'] = None\n"
        "del os.preadv, os.pwrite\n"
        "import numpy as np\n"
        "import ktransfer\n"
        "from ktransfer.features.store import FeatureStore\n"
        "rows = np.arange(24, dtype='float32').reshape(4, 3, 2)\n"
        "store = FeatureStore(sys.argv[1])\n"
        "store.write('k', rows.shape, 'float32', [rows[:3], rows[3:]], {})\n"
        "assert (store.open('k').read(np.arange(4)) == rows).all()\n"
        "assert os.listdir(sys.argv[1]) == ['k']\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], check=True)


def test_a_writer_at_work_is_not_swept_away(tmp_path):
    store = FeatureStore(tmp_path)
    with store.writer("k", (1, 2), "float32", {}) as append:
        partial = next(tmp_path.glob(".*.partial"))
        os.utime(partial, (0, 0))
        write(store, "other")
        assert partial.exists()
        append(np.ones((1, 2), "float32"))
    assert store.open("k").read(np.array([0])).tolist() == [[1, 1]]
