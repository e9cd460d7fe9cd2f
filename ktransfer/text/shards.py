"""Texts and pairs of texts in shards."""

from __future__ import annotations

from typing import Any

from ktransfer.data.shards.contents import TEXT, ShardContents
from ktransfer.data.tables.columns import TEXT_NAMES


def text_content(value: Any, name: str) -> str:
    """The text of a value of a shard.

    Args:
        value: As the shard has it.
        name: Not used.

    Raises:
        ValueError: It is none, or empty.

    Example:
        >>> text_content("see you at six", "3")
        'see you at six'
    """
    if not isinstance(value, str):
        raise ValueError("no text in UTF-8")
    if not value.strip():
        raise ValueError("an empty text")
    return value


TEXT_SHARDS = ShardContents("texts", TEXT, (*TEXT_NAMES, "txt"), "--text-column", text_content)
PAIR_SHARDS = ShardContents("texts", TEXT, (), "--text-columns", text_content, width=2)
