"""Unlabeled texts for pretraining: read, cleaned, and compared with labeled ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ktransfer.data.examples import normalised, printable
from ktransfer.data.inputs import files_below, kinds_of, left_out
from ktransfer.data.split_names import parse_split_name
from ktransfer.data.tables.table import read_input_column
from ktransfer.data.tables.table_files import read_records, read_text
from ktransfer.data.tables.text_cells import TEXT_CELLS
from ktransfer.errors import DataError
from ktransfer.text.modality import MODALITY
from ktransfer.utils.terminal import shortened

if TYPE_CHECKING:
    from ktransfer.core.typing import PathLike
    from ktransfer.data.examples import Examples

FEWEST = 20  # different texts
_HELD_OUT = 0.1  # share
_MOST_HELD_OUT = 1_000  # texts: enough for a loss to two digits


@dataclass(frozen=True)
class Corpus:
    """Unlabeled texts, each once.

    Attributes:
        train: Texts to train on.
        held_out: Texts to measure on.
        notes: What was left out, a line each.
        fingerprint: SHA-256 of all texts in their order.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    notes: tuple[str, ...]
    fingerprint: str


def read_corpus(
    data: PathLike, *, text_column: str | None = None, encoding: str | None = None, seed: int = 0
) -> Corpus:
    """Read unlabeled texts and hold some of them out.

    Texts that are empty, or differ from an earlier one in case and white space only, are left out.

    Args:
        data: A table with a column of texts, whose other columns are not used; a `.txt` file of one text a line; or a
            folder of tables and `.txt` files of one text each, at any depth, without those that are named as validation
            or test splits.
        text_column: Of tables, its name or number. Defaults to `None`, the customary one.
        encoding: Of files. Defaults to `None`, UTF-8.
        seed: Fixes which texts are held out, a tenth, at most 1,000. Defaults to 0.

    Returns:
        A `Corpus`.

    Raises:
        DataError: It cannot be read, or has fewer than 20 different texts.

    Example:
        >>> len(read_corpus("messages.txt").train)  # doctest: +SKIP
        4500
    """
    found, notes = _found(str(Path(data).expanduser()), text_column, encoding)
    texts: dict[str, str] = {}
    empty = 0
    for text in found:
        if text.strip():
            texts.setdefault(normalised(text), text)
        else:
            empty += 1
    repeated = len(found) - empty - len(texts)
    if empty:
        notes.append(f"left out   {empty:,} empty texts")
    if repeated:
        notes.append(f"left out   {repeated:,} texts that repeat an earlier one")
    if len(texts) < FEWEST:
        raise DataError(
            f"Expected at least {FEWEST} different texts to learn from in {printable(str(data))}, got {len(texts)} of "
            f"{len(found):,}. Add some, or name another --text-column."
        )
    kept = list(texts.values())
    held_out = min(_MOST_HELD_OUT, max(2, round(_HELD_OUT * len(kept))))
    order = np.random.default_rng([seed, 3]).permutation(len(kept))
    digest = hashlib.sha256("\0".join(kept).encode("utf-8", "surrogatepass")).hexdigest()
    return Corpus(
        tuple(kept[index] for index in order[held_out:]),
        tuple(kept[index] for index in order[:held_out]),
        tuple(notes),
        digest,
    )


def without_leaks(
    corpus: Corpus, labeled: Mapping[str, Examples | None], *, leave_out: bool = False
) -> tuple[Corpus, tuple[str, ...]]:
    """Compare unlabeled texts with the labeled ones that a model will be evaluated on.

    Args:
        corpus: The unlabeled texts.
        labeled: Splits by their name: `"train"`, whose texts may be in the corpus, without their labels;
            `"validation"` and `"test"`, whose texts may not.
        leave_out: Leave these out of the corpus. Defaults to `False`, which refuses them.

    Returns:
        The corpus, and lines on what was found.

    Raises:
        DataError: Texts of validation or test are in the corpus; or hardly any others are.

    Example:
        >>> without_leaks(corpus, {"validation": splits.validation})  # doctest: +SKIP
    """
    known: dict[str, str] = {}
    for name in ("train", "validation", "test"):
        examples = labeled.get(name)
        for content in examples.inputs if examples is not None else ():
            for text in (content,) if isinstance(content, str) else content:
                known[normalised(text)] = name
    every = corpus.train + corpus.held_out
    homes = [known.get(normalised(text)) for text in every]
    lines = []
    if trained := homes.count("train"):
        lines.append(
            f"labeled    {trained:,} texts are labeled training texts too; their labels are not used"
        )
    leaks = [(text, home) for text, home in zip(every, homes, strict=True) if home in ("validation", "test")]
    if not leaks:
        return corpus, tuple(lines)
    counts = " and ".join(
        f"{count:,} of {name}"
        for name in ("validation", "test")
        if (count := sum(home == name for _, home in leaks))
    )
    if not leave_out:
        raise DataError(
            f"Expected unlabeled texts without those that the model is evaluated on, got {counts}, such as "
            f"{shortened(leaks[0][0])!r}. Remove them, or pass --leave-out-leaks."
        )
    lines.append(f"left out   {counts}, which the model is evaluated on")
    evaluated = {text for text, _ in leaks}
    train = tuple(text for text in corpus.train if text not in evaluated)
    held_out = tuple(text for text in corpus.held_out if text not in evaluated)
    if len(train) + len(held_out) < FEWEST or len(held_out) < 2:
        raise DataError(
            f"Expected at least {FEWEST} texts next to those that the model is evaluated on, got "
            f"{len(train) + len(held_out)} ({counts} left out). Add unlabeled texts."
        )
    return Corpus(train, held_out, corpus.notes, corpus.fingerprint), tuple(lines)


def _found(data: str, column: str | None, encoding: str | None) -> tuple[list[str], list[str]]:
    if data.startswith("tfds:"):
        raise DataError(
            f"Expected a table, a .txt file or a folder of texts, got {data}. Write its texts to one of these."
        )
    if not os.path.exists(data):
        raise DataError(
            f"Expected a table, a .txt file or a folder of texts, got {printable(data)}, which does not exist. "
            "Check the path."
        )
    if not os.path.isdir(data):
        if data.lower().endswith(".txt"):
            return read_text(data, encoding).splitlines(), []
        return list(_table_texts(data, column, encoding)), []
    files, others, junk = files_below(data, MODALITY.suffixes)
    notes = left_out(data, others, "neither tables nor .txt files") + left_out(
        data, junk, "left by other programs"
    )
    evaluated = [path for path in files if _is_evaluated(os.path.relpath(path, data))]
    notes += left_out(data, evaluated, "named as validation or test")
    used = [path for path in files if path not in set(evaluated)]
    if not used:
        raise DataError(
            f"Expected tables or .txt files of unlabeled texts in the folder {printable(data)}, got "
            f"{kinds_of([*others, *junk, *evaluated], ())}. Pass a folder that holds some."
        )
    texts: list[str] = []
    for path in used:
        if path.lower().endswith(".txt"):
            texts.append(read_text(path, encoding))
        else:
            texts += _table_texts(path, column, encoding)
    return texts, notes


def _table_texts(path: str, column: str | None, encoding: str | None) -> Sequence[str]:
    """The texts of a table, whose other columns are not used."""
    if column is None:
        names, records, _ = read_records(Path(path), encoding, least=1)
        first = [str(name).strip() for name in (names if names is not None else records[0])]
        customary = [name for name in first if name.casefold() in TEXT_CELLS.customary]
        column = customary[0] if len(customary) == 1 else None
    return read_input_column(path, input_column=column, encoding=encoding)


def _is_evaluated(path: str) -> bool:
    """Whether a folder or file of the path is named as a validation or test split."""
    names = [*Path(path).parts[:-1], Path(path).name.partition(".")[0]]
    found: Sequence[str | None] = [parse_split_name(name).split for name in names]
    return any(split in ("validation", "test") for split in found)
