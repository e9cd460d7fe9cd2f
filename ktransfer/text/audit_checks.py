"""Audit texts: duplicates up to case and white space, and near-duplicates."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from ktransfer.audit.findings import Finding, Item
from ktransfer.data.examples import normalised
from ktransfer.data.pairs import Pair, sides

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


_SHOWN = 3  # labels that a line names


def examine_texts(
    items: Sequence[Item],
) -> tuple[list[Finding], list[Hashable | None], Sequence[int], Callable[[Sequence[int]], Array]]:
    """`Modality.examine` for texts.

    Example:
        >>> examine_texts(list_items(splits))[1]  # doctest: +SKIP
        ['win a prize', 'see you at six']
    """
    # A pair and its mirror image are of the same content.
    contents = ["\n".join(sorted(map(normalised, sides(item.input)))) for item in items]

    def near(indices: Sequence[int]) -> Array:
        from ktransfer.audit.near_duplicates import near_texts

        return near_texts([contents[index] for index in indices])

    return pair_findings(items), list(contents), range(len(items)), near


def pair_findings(items: Sequence[Item]) -> list[Finding]:
    """Findings on single pairs of texts: equal sides and empty ones.

    Example:
        >>> pair_findings([Item("train", "yes", Pair("One", "one "), "1")])[0].kind
        'same_sides'
    """
    found: dict[str, list[Item]] = {"empty_side": [], "same_sides": []}
    for item in items:
        texts = [normalised(text) for text in sides(item.input)]
        if len(texts) < 2:
            continue
        if not all(texts):
            found["empty_side"].append(item)
        elif texts[0] == texts[1]:
            found["same_sides"].append(item)
    details = {
        "empty_side": "one text of the pair is empty",
        "same_sides": "both texts are the same but for case and white space, labelled {labels}",
    }
    return [
        Finding(kind, tuple(chosen), details[kind].format(labels=_labels(chosen)))
        for kind, chosen in found.items()
        if chosen
    ]


def _labels(items: Sequence[Item]) -> str:
    counts = Counter(item.label for item in items)
    shown = [f"{label} {count:,} times" for label, count in counts.most_common(_SHOWN)]
    return ", ".join(shown) + (", ..." if len(counts) > _SHOWN else "")


def text_keys() -> Callable[[str | Pair, str], str]:
    """A function from a text or a pair and its class to a digest, with a number that tells identical ones apart.

    Example:
        >>> key = text_keys()
        >>> key("hello", "ham")[-2:], key("hello", "ham")[-2:]
        ('-1', '-2')
    """
    seen: Counter[str] = Counter()

    def key(content: str | Pair, label: str) -> str:
        whole = "\0".join((label, *sides(content)))
        digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
        seen[digest] += 1
        return f"{digest}-{seen[digest]}"

    return key
