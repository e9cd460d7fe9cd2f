"""The rows of a batch that each process takes: all of them, each as often as the others."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from ktransfer.data.rebatching import rows_of_process, split_batches


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("local", [1, 2, 4])
def test_each_row_counts_the_same_in_batches_of_any_size(processes, local):
    devices = processes * local
    for size in range(1, 41):
        rows = [
            rows_of_process(size, devices=devices, processes=processes, index=index)
            for index in range(processes)
        ]
        assert len({len(each) for each in rows}) == 1
        assert len(rows[0]) % local == 0
        counts = Counter(np.concatenate(rows).tolist())
        assert set(counts) == set(range(size))
        assert len(set(counts.values())) == 1
        if size % devices == 0:
            assert set(counts.values()) == {1}


@pytest.mark.parametrize("devices", [2, 4, 6])
def test_a_dataset_gives_the_same_rows(devices):
    inputs = {"a": np.arange(41), "b": np.arange(82).reshape(41, 2)}
    dataset = tf.data.Dataset.from_tensor_slices((inputs, np.arange(41))).batch(8)
    for index in (0, 1):
        split = split_batches(dataset, devices=devices, processes=2, index=index)
        assert split.cardinality() == 6
        for whole, batch in zip(dataset.as_numpy_iterator(), split.as_numpy_iterator(), strict=True):
            rows = rows_of_process(len(whole[1]), devices=devices, processes=2, index=index)
            assert batch[1].tolist() == whole[1][rows].tolist()
            assert batch[0]["b"].tolist() == whole[0]["b"][rows].tolist()
