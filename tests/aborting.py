"""A converter that ends its process as some do: without a word, at one operation."""

import os
from pathlib import Path


def convert(source, *_):
    if b"Roll" in Path(source, "saved_model.pb").read_bytes():
        os.abort()
    return b"converted"
