"""The findings of an audit, the examples they are about, and both as JSON."""

import dataclasses
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ktransfer.core.modality import Modality, modality_of_kind
from ktransfer.data.examples import Splits, printable

SPLITS = ("train", "validation", "test")

# In the order of display: severity and description.
KINDS = {
    "unreadable": ("error", "cannot be decoded"),
    "leak": ("error", "the same in several splits: the result on them is worth nothing"),
    "near_leak": ("error", "nearly the same in several splits"),
    "contradiction": ("warning", "the same, or nearly, in several classes"),
    "duplicate": ("warning", "the same more than once in one split"),
    "mirrored": ("warning", "the same two texts in the other order with another label"),
    "near_duplicate": ("warning", "nearly the same in one split"),
    "suspect_label": ("warning", "looks like another class than its own, the worst first"),
    "cut_word": ("warning", "entities that begin or end within a word"),
    "surface": ("warning", "the same words as entities of several types"),
    "empty_side": ("warning", "pairs of which one text is empty"),
    "constant": ("warning", "one colour all over"),
    "few_examples": ("warning", "classes with too few examples"),
    "imbalance": ("warning", "classes of uneven size"),
    "groups": ("warning", "names that look as if examples came in groups"),
    "class_names": ("note", "names of classes that may not be meant as such"),
    "same_sides": ("note", "pairs of twice the same text"),
    "outlier": ("note", "unlike everything else, the farthest first"),
    "odd_size": ("note", "much smaller than the others, or very long"),
    "rotated": ("note", "turned by the camera's orientation; ktransfer reads them upright"),
    "cmyk": ("note", "colours for print; converted to RGB"),
    "transparent": ("note", "with transparency; transparent areas come out white"),
    "sixteen_bit": ("note", "16-bit grey; scaled to 8 bits"),
    "animated": ("note", "animations or several pages; the first is taken"),
    "layout": ("note", "how the data was read, and what in it is not used"),
}


@dataclass(frozen=True)
class Item:
    """One example as findings name it.

    Attributes:
        split: `"train"`, `"validation"` or `"test"`.
        label: The name of its class, or the names of its labels.
        input: The path of an image, the text itself, or the pair of texts.
        key: What names it in an exclusion list: the path below the data's folder; of a text a digest.
    """

    split: str
    label: str
    input: Any
    key: str


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with the data, or may be.

    Attributes:
        kind: One of `KINDS`.
        items: The examples it is about; none where it is about classes.
        detail: What was seen, in a few words.
        score: How sure, where findings of the kind are ranked; the first is the worst.

    Example:
        >>> Finding("few_examples", (), "train: only 3 of daisy").severity
        'warning'
    """

    kind: str
    items: tuple[Item, ...]
    detail: str
    score: float | None = None

    @property
    def severity(self) -> str:
        """`"error"`: fix it before training. `"warning"`: check it. `"note"`: for information."""
        return KINDS[self.kind][0]


@dataclass(frozen=True)
class Audit:
    """The findings of a data set.

    Attributes:
        kind: `"file"` for images, `"text"` for texts.
        counts: Of each split, how many examples each class has.
        examples: How many there are in all. Defaults to 0, not counted.
        findings: In the order of `KINDS`, and within a kind the worst first.

    Example:
        >>> Audit("file", {"train": {"daisy": 1}}, ()).is_severe
        False
    """

    kind: str
    counts: dict[str, dict[str, int]]
    findings: tuple[Finding, ...]
    examples: int = 0

    @property
    def modality(self) -> Modality:
        """The modality of the data set."""
        return modality_of_kind(self.kind)

    @property
    def is_severe(self) -> bool:
        """Whether anything is an error: a file that cannot be read, or examples that leak between splits."""
        return any(finding.severity == "error" for finding in self.findings)

    def of(self, *kinds: str) -> list[Finding]:
        """The findings of these kinds.

        Example:
            >>> Audit("file", {}, ()).of("leak", "near_leak")
            []
        """
        return [finding for finding in self.findings if finding.kind in kinds]

    def with_findings(self, findings: list[Finding]) -> "Audit":
        """A copy with further findings."""
        return dataclasses.replace(self, findings=in_order([*self.findings, *findings]))

    def to_dict(self) -> dict[str, Any]:
        """The audit as JSON values, as in `audit.json`."""
        modality = self.modality
        return {
            "severe": self.is_severe,
            "examples": self.counts,
            "summary": dict(Counter(finding.kind for finding in self.findings)),
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "detail": finding.detail,
                    "score": finding.score,
                    "items": [
                        {
                            "split": item.split,
                            "class": item.label,
                            modality.content: modality.shown(item.input),
                            "key": printable(item.key),
                        }
                        for item in finding.items
                    ],
                }
                for finding in self.findings
            ],
        }


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """Sorted by kind; within a kind they keep their order."""
    kinds = list(KINDS)
    return tuple(sorted(findings, key=lambda finding: kinds.index(finding.kind)))


def list_items(splits: Splits, *, root: str | os.PathLike[str] | None = None) -> list[Item]:
    """All examples of all splits, in order.

    The key of an image is its path below `root`, or the whole path where it lies elsewhere. The key of a text
    is a digest of it and its class, with a number that tells identical ones apart; it stays the same when a
    split is held out of `train` afterwards.

    Args:
        splits: The splits.
        root: The data's folder.

    Example:
        >>> list_items(splits, root="flowers")[0].key  # doctest: +SKIP
        'train/daisy/0001.jpg'
    """
    items, key = [], splits.train.modality.item_keys(root)
    for name in SPLITS:
        split = getattr(splits, name)
        if split is None:
            continue
        for content, label in zip(split.inputs, split.label_names, strict=True):
            items.append(Item(name, label, content, key(content, label)))
    return items
