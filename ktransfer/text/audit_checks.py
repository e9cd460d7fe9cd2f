"""Audit texts: duplicates up to case and white space, and near-duplicates."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from ktransfer.audit.findings import Finding, Item
from ktransfer.data.examples import normalised

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


def examine_texts(
    items: Sequence[Item],
) -> tuple[list[Finding], list[Hashable | None], Sequence[int], Callable[[Sequence[int]], Array]]:
    """`Modality.examine` for texts.

    Example:
        >>> examine_texts(list_items(splits))[1]  # doctest: +SKIP
        ['win a prize', 'see you at six']
    """
    contents = [normalised(item.input) for item in items]

    def near(indices: Sequence[int]) -> Array:
        from ktransfer.audit.near_duplicates import near_texts

        return near_texts([contents[index] for index in indices])

    return [], list(contents), range(len(items)), near


def text_keys() -> Callable[[str, str], str]:
    """A function from a text and its class to a digest, with a number that tells identical ones apart.

    Example:
        >>> key = text_keys()
        >>> key("hello", "ham")[-2:], key("hello", "ham")[-2:]
        ('-1', '-2')
    """
    seen: Counter[str] = Counter()

    def key(content: str, label: str) -> str:
        digest = hashlib.sha256(f"{label}\0{content}".encode()).hexdigest()[:16]
        seen[digest] += 1
        return f"{digest}-{seen[digest]}"

    return key
