"""Read labeled images of shards: Parquet as on the Hugging Face hub, TFRecord of `tf.train.Example`, WebDataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ktransfer.data.examples import Examples, Splits, printable
from ktransfer.data.label_names import class_order
from ktransfer.data.shards.contents import content_fields, is_content, label_field
from ktransfer.data.shards.listing import ShardInputs
from ktransfer.data.shards.shard import Shard, damaged, find_shards, open_shard
from ktransfer.data.split_names import parse_split_name, without_shard
from ktransfer.errors import DataError, listed
from ktransfer.image.shards import IMAGE_SHARDS

_READERS = 8  # shards that are listed at once


@dataclass(frozen=True)
class ShardColumns:
    """The fields of shards that were read.

    Args:
        file: With the images.
        label: With the labels.
        shards: How many there are.

    Example:
        >>> ShardColumns("image", "label", 4).line()
        "images 'image', labels 'label', 4 shards"
    """

    file: str
    label: str
    shards: int

    def facts(self) -> dict[str, str | None]:
        """The options by which the same shards are read the same way again."""
        return {"file_column": self.file, "label_column": self.label}

    def line(self) -> str:
        """A line about them for the log."""
        return f"images {self.file!r}, labels {self.label!r}, {self.shards} shards"


def image_shards(data: str | os.PathLike[str]) -> list[str] | None:
    """The shards of data whose records are images; `None` where it has none.

    Raises:
        DataError: A shard cannot be read.
        MissingExtraError: A package is missing that it needs.

    Example:
        >>> image_shards("flowers") is None
        True
    """
    found = find_shards(data)
    if found is None:
        return None
    is_image = is_content(open_shard(found[0]).fields, IMAGE_SHARDS)
    return found if is_image else None


def read_image_shards(
    shards: Sequence[str],
    *,
    class_names: Sequence[str] | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    whole: bool = False,
) -> tuple[Splits, ShardColumns]:
    """List the examples of shards; of the images nothing is read.

    Args:
        shards: Paths and URLs. Their names, or those of their folders, say which split they are of:
            `train-00000-of-00004.parquet`; without such names all are of the training split.
        class_names: The classes in the order of their labels. Defaults to those that the shards name, else the labels
            of the training split, sorted.
        file_column: The field with the images. Defaults to the customary one.
        label_column: The field with the labels. Defaults to the customary one.
        whole: Whether all are of one split, whatever their names. Defaults to `False`.

    Returns:
        `(splits, columns)`.

    Raises:
        DataError: A shard is truncated or of another schema, has no labels, or a label is of no known class.

    Example:
        >>> read_image_shards(["train-00000-of-00001.parquet"])[0].train.counts()  # doctest: +SKIP
        {'cat': 50, 'dog': 50}
    """
    first = open_shard(shards[0])
    [image] = content_fields(
        first.fields, IMAGE_SHARDS, [file_column] if file_column else [], printable(shards[0])
    )
    label = label_field(first.fields, label_column, printable(shards[0]))
    names = list(first.class_names.get(label, ()))
    by_split: dict[str, list[str]] = {}
    # The folder of all of them is called by somebody for another reason.
    folders = len({_folder(path) for path in shards}) > 1
    for path in shards:
        by_split.setdefault("train" if whole else _split_of(path, folders), []).append(path)
    if "train" not in by_split:
        raise DataError(
            f"Expected shards of a training split, got those of {listed(by_split)} only. Pass these by a pattern "
            "such as 'data/*.parquet', or name a split train."
        )

    def listing(path: str) -> _Listing:
        return _list_shard(open_shard(path), first, image, label, names)

    with ThreadPoolExecutor(_READERS) as pool:
        read = {split: list(pool.map(listing, paths)) for split, paths in by_split.items()}
    known = list(class_names or names) or class_order({each for part in read["train"] for each in part.names})
    if len(known) < 2:
        raise DataError(
            f"Expected at least two classes in the field {label!r}, got {listed(known)}. Pass another --label-column."
        )
    splits = {split: _examples(by_split[split], parts, image, label, known) for split, parts in read.items()}
    notes = (f"{len(shards)} shards are read where they lie; nothing is unpacked",)
    found = Splits(splits["train"], splits.get("validation"), splits.get("test"), notes=notes)
    return found, ShardColumns(image, label, len(shards))


@dataclass(frozen=True)
class _Listing:
    first: np.ndarray
    second: np.ndarray
    labels: np.ndarray  # indices into `names`
    names: list[str]


def _list_shard(shard: Shard, like: Shard, image: str, label: str, names: Sequence[str]) -> _Listing:
    for field in (image, label):
        if shard.fields.get(field) != like.fields[field]:
            raise DataError(
                f"Expected the fields of {printable(like.path)} in {printable(shard.path)}, {field!r} with values of "
                f"the kind {like.fields[field]}, got {shard.fields.get(field, 'none')}. Remove that shard, or write it "
                "again."
            )
    if list(shard.class_names.get(label, ())) != list(names):
        raise DataError(
            f"Expected the classes of {printable(like.path)} in {printable(shard.path)}, got others in its schema. "
            "Write the shards with the same classes."
        )
    first, second, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.uint32)], [np.zeros(0, np.int32)]
    known: dict[str, int] = {name: at for at, name in enumerate(names)}
    chunk: list[tuple[int, int, int]] = []

    def flush() -> None:
        rows = np.array(chunk, np.int64).reshape(-1, 3)
        first.append(rows[:, 0])
        second.append(rows[:, 1].astype(np.uint32))
        labels.append(rows[:, 2].astype(np.int32))
        chunk.clear()

    for place, key, value in shard.places(image, label):
        name = _label_name(value, names, shard, key)
        chunk.append((*place, known.setdefault(name, len(known))))
        if len(chunk) == _CHUNK:
            flush()
    flush()
    return _Listing(np.concatenate(first), np.concatenate(second), np.concatenate(labels), list(known))


_CHUNK = 65_536  # rows that are kept as Python's own numbers


def _label_name(value: Any, names: Sequence[str], shard: Shard, key: str) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "" or isinstance(value, float):
        raise damaged(shard.path, f"a class in record {key}", repr(value))
    if names and not isinstance(value, str):
        if not 0 <= int(value) < len(names):
            raise damaged(shard.path, f"a class from 0 to {len(names) - 1} in record {key}", repr(value))
        return names[int(value)]
    return str(int(value)) if isinstance(value, bool) else str(value)


def _examples(
    paths: Sequence[str], parts: Sequence[_Listing], image: str, label: str, known: Sequence[str]
) -> Examples:
    places = {name: at for at, name in enumerate(known)}
    for path, part in zip(paths, parts, strict=True):
        used = {part.names[at] for at in np.unique(part.labels).tolist()}
        if unknown := sorted(used - places.keys()):
            raise DataError(
                f"Expected the classes {listed(known)} in {printable(path)}, got {unknown[0]!r}. Remove such records, "
                "or add the class to the training split."
            )
    index = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.labels) for part in parts])
    labels = [
        np.array([places.get(name, -1) for name in part.names], np.int32)[part.labels] for part in parts
    ]
    inputs = ShardInputs(
        [(path, image) for path in paths],
        index,
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.second for part in parts]),
    )
    return Examples(inputs, np.concatenate(labels), tuple(known), kind="file")


def _folder(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[0]


def _split_of(path: str, folders: bool) -> str:
    stem = path.replace("\\", "/").rpartition("/")[2]
    while "." in stem:
        before, _, suffix = stem.rpartition(".")
        if suffix.split("-")[0].lower() in ("parquet", "pq", "tar", "tfrecord", "tfrecords", "tfrec"):
            # train.tfrecord-00000-of-00010 has the number at its end.
            stem = before
            break
        stem = before
    for name in (without_shard(stem), _folder(path).rpartition("/")[2] if folders else ""):
        found = parse_split_name(name).split if name else None
        if found is not None:
            return found
    return "train"
