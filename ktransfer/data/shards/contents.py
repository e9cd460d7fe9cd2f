"""The kind of example that shards hold: which field has it, and whether a value is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ktransfer.errors import DataError, did_you_mean, listed

# What a field holds, as far as its format says it.
BYTES, TEXT, NUMBER, OTHER = "bytes", "text", "number", "other"
# Of fields with labels: in tables, in TFRecord files of TensorFlow Datasets, in tar shards.
LABEL_FIELDS = (
    *("label", "labels", "class", "category", "target", "cls"),
    *("image/class/label", "image/class/text", "fine_label", "coarse_label"),
)


@dataclass(frozen=True)
class ShardContents:
    """The kind of example in a shard.

    Args:
        noun: For messages, such as `"images"`.
        holds: `BYTES` or `TEXT`: what a field with examples holds.
        customary: Names of such fields, the usual one first. In tar shards a field is called as its suffix.
        option: The option that names the field.
        as_content: Callable from a value of the field and the name of the example to what a preprocessing takes.
            It raises `ValueError` with the reason for what is no example.
        width: Fields of an example: 2 of pairs. Defaults to 1.

    Example:
        >>> ShardContents("texts", TEXT, ("text",), "--text-column", lambda value, name: value).width
        1
    """

    noun: str
    holds: str
    customary: tuple[str, ...]
    option: str
    as_content: Callable[[Any, str], Any]
    width: int = 1


def is_content(fields: Mapping[str, str], contents: ShardContents) -> bool:
    """Whether a shard may hold such examples: a field is called so, or nothing else in it is a text.

    Example:
        >>> kind = ShardContents("images", BYTES, ("image",), "--file-column", lambda value, name: value)
        >>> is_content({"image": BYTES}, kind), is_content({"text": TEXT, "embedding": BYTES}, kind)
        (True, False)
    """
    holds = {name for name, kind in fields.items() if kind == contents.holds}
    return bool(holds & set(contents.customary)) or (bool(holds) and TEXT not in fields.values())


def content_fields(
    fields: Mapping[str, str], contents: ShardContents, asked: Sequence[str], path: str
) -> tuple[str, ...]:
    """The fields of a shard that hold the examples.

    Args:
        fields: What each holds, by name.
        contents: The kind of example.
        asked: Names that were given; none chooses by customary names, or the only field that holds such values.
        path: For messages.

    Returns:
        As many as an example has.

    Raises:
        DataError: A field is not there or holds something else, or several may be meant.

    Example:
        >>> kind = ShardContents("texts", TEXT, ("text",), "--text-column", lambda value, name: value)
        >>> content_fields({"text": TEXT, "label": NUMBER}, kind, (), "a.parquet")
        ('text',)
    """
    shown = listed(map(repr, list(fields)[:20])) or "no field"
    for name in asked:
        if name not in fields:
            raise DataError(
                f"Expected a field {name!r} in {path}, got {shown}. {did_you_mean(name, fields)}Pass one of them as "
                f"{contents.option}."
            )
        if fields[name] != contents.holds:
            raise DataError(
                f"Expected {contents.noun} in the field {name!r} of {path}, got values of the kind {fields[name]}. "
                f"Pass another field as {contents.option}."
            )
    if asked:
        return tuple(asked)
    fitting = [name for name, holds in fields.items() if holds == contents.holds]
    named = [name for name in contents.customary if name in fitting]
    if contents.width == 1 and named:
        return (named[0],)
    if len(fitting) == contents.width:
        return tuple(fitting)
    raise DataError(
        f"Expected a field of {contents.noun} in {path}, got {shown}, of which {len(fitting)} can hold them. Pass its "
        f"name as {contents.option}."
    )


def label_field(fields: Mapping[str, str], asked: str | None, path: str) -> str:
    """The field of a shard that holds the labels.

    Args:
        fields: What each holds, by name.
        asked: A name that was given.
        path: For messages.

    Raises:
        DataError: It is not there, or none is called as labels are.

    Example:
        >>> label_field({"image": BYTES, "label": NUMBER}, None, "a.parquet")
        'label'
    """
    shown = listed(map(repr, list(fields)[:20])) or "no field"
    if asked is not None and asked not in fields:
        raise DataError(
            f"Expected a field {asked!r} in {path}, got {shown}. {did_you_mean(asked, fields)}Pass one of them as "
            "--label-column."
        )
    found = asked or next((name for name in LABEL_FIELDS if name in fields), None)
    if found is None:
        raise DataError(
            f"Expected a field of labels in {path}, such as 'label', got {shown}. Pass its name as --label-column."
        )
    return found


def bytes_of(value: Any) -> bytes:
    """The bytes of a value of a shard: alone, or in the hub's `{"bytes": ..., "path": ...}`.

    Raises:
        ValueError: There are none; the message has the reason.

    Example:
        >>> bytes_of({"bytes": b"GIF89a", "path": "a.gif"})
        b'GIF89a'
    """
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            raise ValueError(f"the name of a file, {value['path']!r:.60}, and not its bytes")
        value = value.get("bytes")
    if isinstance(value, str):  # a TFRecord does not say what its bytes are
        value = value.encode("utf-8")
    if not isinstance(value, bytes) or not value:
        raise ValueError("no bytes of an image")
    return value
