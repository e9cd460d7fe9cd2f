"""Data between processes."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from ktransfer.exporting.processes.ipc import receive, send


def test_a_message_comes_as_it_was_sent():
    stream = io.BytesIO()
    texts = np.array([b"x", "caf\u00e9"], object)
    send(
        stream,
        (["a", None, True, 2.5], {"image": np.arange(6.0).reshape(2, 3), "text": texts}, Path("/x"), b"\0"),
    )
    stream.seek(0)
    listed, arrays, path, content = receive(stream)
    assert (listed, path, content) == (["a", None, True, 2.5], Path("/x"), b"\0")
    np.testing.assert_array_equal(arrays["image"], np.arange(6.0).reshape(2, 3))
    assert arrays["text"].tolist() == texts.tolist()


def test_a_message_is_data_and_one_cut_off_is_none():
    with pytest.raises(TypeError, match="a message of data"):
        send(io.BytesIO(), print)
    stream = io.BytesIO()
    send(stream, [1, 2])
    with pytest.raises(EOFError):
        receive(io.BytesIO(stream.getvalue()[:-1]))
    with pytest.raises(ValueError, match="no message"):
        receive(io.BytesIO(struct.pack("<Q", 4) + b"abcd"))
