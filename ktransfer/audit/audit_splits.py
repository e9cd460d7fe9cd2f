"""Find problems in the data before anything is trained on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ktransfer.audit.class_names import doubtful_names
from ktransfer.audit.duplicates import duplicate_findings
from ktransfer.audit.findings import SPLITS, Audit, Finding, Item, in_order, list_items
from ktransfer.data.examples import Splits

if TYPE_CHECKING:
    from ktransfer.data.examples import Examples


# Below it the folds of a cross-validation see a class once or not at all.
_FEW = {"train": 10, "validation": 1, "test": 1}
_UNEVEN = 3  # times as many examples as the rarest class


def audit_splits(
    splits: Splits,
    *,
    root: str | os.PathLike[str] | None = None,
    near: bool = True,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Look at every example of every split once; nothing is changed.

    Of images: what cannot be decoded, is one colour, of odd size or mode. Of both: duplicates and
    near-duplicates, within a split, across splits and across classes; classes of few examples or uneven size,
    or whose names may not be meant as such.
    20,000 images take about 100 MiB in addition to the one that each thread decodes.

    Args:
        splits: From `read_data` or `read_texts`.
        root: The data's folder, which keys are relative to.
        near: Whether to look for near-duplicates; of texts that needs the extra `audit`.
        workers: Threads that decode; None takes one for each core, at most 8.
        progress: Called as `progress(done, total)` after each image.

    Returns:
        `Audit`.

    Raises:
        DataError: Near-duplicate texts are to be found and the extra is missing.

    Example:
        >>> audit_splits(read_data("flowers"), root="flowers").is_severe  # doctest: +SKIP
        False
    """
    items = list_items(splits, root=root)
    examined, contents, usable, find = splits.train.modality.examine(
        items, workers=workers, progress=progress
    )
    hint = splits.train.groups is None and splits.train.modality.group_hint(splits.train)
    findings = [*_class_findings(splits), *_task_findings(splits, items), *examined]
    findings += [Finding("groups", (), hint)] if hint else []
    findings += [Finding("class_names", (), line) for line in doubtful_names(splits)]
    findings += [Finding("layout", (), note) for note in splits.notes]
    groups = np.arange(len(items))
    if near and usable:
        # Of identical ones the first; the rest goes with it.
        first = {contents[index]: index for index in reversed(usable)}
        chosen = sorted(first.values())
        groups[chosen] = len(items) + find(chosen)
    findings += duplicate_findings(items, contents, groups)
    counts = {name: split.counts() for name, split in _named_splits(splits)}
    return Audit(splits.train.kind, counts, in_order(findings), len(items))


def _named_splits(splits: Splits) -> list[tuple[str, Examples]]:
    return [(name, split) for name in SPLITS if (split := getattr(splits, name)) is not None]


def _task_findings(splits: Splits, items: Sequence[Item]) -> Iterator[Finding]:
    begin = 0
    for _, split in _named_splits(splits):
        for kind, indices, detail in split.task.findings(split.inputs, split.labels, split.class_names):
            yield Finding(kind, tuple(items[begin + index] for index in indices), detail)
        begin += len(split)


def _class_findings(splits: Splits) -> Iterator[Finding]:
    for name, split in _named_splits(splits):
        for label, count in split.counts().items():
            if count < _FEW[name]:
                yield Finding(
                    "few_examples", (), f"{name}: {f'only {count}' if count else 'none'} of {label}"
                )
    counts = splits.train.counts()
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= _UNEVEN * counts[least]:
        detail = f"train: {counts[most]:,} of {most} and {counts[least]:,} of {least}"
        yield Finding("imbalance", (), detail)
