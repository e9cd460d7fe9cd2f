import keras
import numpy as np
import pytest

from ktransfer.models.predict import predict_in_batches
from ktransfer.utils.oom import halved, in_smaller_batches, is_out_of_memory


class XlaRuntimeError(RuntimeError):
    """JAX's, by another module."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 64 bytes."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("something else"), False),
        (ValueError("the memory of a word"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) == expected


def test_tensorflows_own_error_is_out_of_memory():
    tf = pytest.importorskip("tensorflow")
    assert is_out_of_memory(tf.errors.ResourceExhaustedError(None, None, "failed to allocate"))


def test_parts_divide_the_batch():
    assert [halved(32, 32), halved(10, 10), halved(5, 10), halved(7, 7), halved(6, 24)] == [16, 5, 2, 1, 3]


def test_an_attempt_is_repeated_until_it_fits_and_each_size_is_told():
    told = []

    def attempt(size):
        if size > 4:
            raise MemoryError
        return size

    assert in_smaller_batches(attempt, 16, told.append) == 4
    assert [line.split(": ")[0] for line in told] == [
        "out of memory in batches of 16",
        "out of memory in batches of 8",
    ]
    assert in_smaller_batches(attempt, 16, told.append, start=2) == 2


def test_another_error_is_raised_as_it_is():
    def attempt(size):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_smaller_batches(attempt, 4, print)


def test_prediction_that_runs_out_of_memory_answers_the_same_in_smaller_batches(monkeypatch):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, [keras.layers.Rescaling(2.0)(inputs), keras.layers.Rescaling(3.0)(inputs)])
    sizes, predict = [], model.predict_on_batch

    def limited(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise MemoryError
        return predict(batch)

    monkeypatch.setattr(model, "predict_on_batch", limited)
    rows = np.arange(22.0, dtype="float32").reshape(11, 2)
    with pytest.warns(UserWarning, match="run in parts of") as said:
        answers = list(predict_in_batches(model, [rows[:8], rows[8:]]))
    assert sizes == [8, 4, *[2] * 4, *[2] * 2]
    assert [str(warning.message).split()[-1] for warning in said] == ["4", "2"]
    np.testing.assert_array_equal(np.concatenate([twice for twice, _ in answers]), 2 * rows)
    np.testing.assert_array_equal(np.concatenate([thrice for _, thrice in answers]), 3 * rows)
