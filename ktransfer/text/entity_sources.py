"""Read texts with marked entities from a file or a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ktransfer.core.task import get_task
from ktransfer.data.entities.annotated import Annotated
from ktransfer.data.entities.files import find_annotated, is_annotated, read_annotated
from ktransfer.data.examples import Examples, Splits, printable
from ktransfer.errors import DataError, did_you_mean, listed
from ktransfer.text.modality import MODALITY

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


_TASK = "ner"


@dataclass(frozen=True)
class EntityColumns:
    """The place of texts and entities in a file.

    Attributes:
        layout: In words.
        text_column, label_column: As they were asked for.
    """

    layout: str
    text_column: str | None = None
    label_column: str | None = None

    def facts(self) -> dict[str, str | None]:
        """The options by which the same data is read the same way again."""
        return {"text_column": self.text_column, "label_column": self.label_column, "task": _TASK}

    def line(self) -> str:
        """A line about them for the log."""
        return self.layout


def has_entities(source: str | os.PathLike[str], task: str | None) -> bool:
    """Whether data is texts with marked entities, by the task, or without one by the files.

    Example:
        >>> has_entities("reviews.csv", "single_label")
        False
    """
    if task is not None:
        return task == _TASK
    path = Path(source).expanduser()
    if path.is_dir():
        return bool(find_annotated(path))
    return path.is_file() and is_annotated(path)


def read_entities(
    source: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    encoding: str | None = None,
    **others: object,
) -> tuple[Splits, EntityColumns]:
    """Read texts with marked entities.

    Args:
        source: A file of CoNLL columns, JSON, JSON lines or Parquet, or a folder that has one for each split.
        class_names: The types in the order of their labels; `None` takes those of the training split, sorted.
        text_column: The key of the text in records. Defaults to the usual ones.
        label_column: The key of the spans, or the number of the column of tags. Defaults to the usual ones.
        encoding: As Python names it. Defaults to UTF-8.
        **others: Options for other tasks, which have to be `None`.

    Returns:
        `(splits, columns)`: what has no splits is all `train`.

    Raises:
        DataError: There is nothing usable; the message names the line or row of what is wrong.

    Example:
        >>> splits, columns = read_entities("wnut17")  # doctest: +SKIP
        >>> splits.train.counts()["person"]  # doctest: +SKIP
        660
    """
    _refuse(others)
    path = Path(source).expanduser()
    files = find_annotated(path) if path.is_dir() else {"train": path}
    if not files:
        raise DataError(
            f"Expected files with marked entities in {printable(str(source))}, such as train.conll or train.jsonl, got "
            "none. Pass such a folder or file, or leave out --task ner."
        )
    options = {"text_column": text_column, "column": label_column, "encoding": encoding}
    found = {split: read_annotated(file, **options) for split, file in files.items()}
    names = tuple(class_names) if class_names is not None else tuple(found["train"].types)
    if not names:
        raise DataError(
            f"Expected at least one entity in {found['train'].source}, got none. Mark some, or name another column."
        )
    by_split = {split: examples_of(each, names) for split, each in found.items()}
    layouts = dict.fromkeys(each.layout for each in found.values())
    notes = tuple(note for each in found.values() for note in each.notes)
    if len(files) > 1 or path.is_dir():
        read = ", ".join(f"{printable(file.name)} as {split}" for split, file in files.items())
        notes = (f"read {read}", *notes)
    found_splits = Splits(by_split["train"], by_split.get("validation"), by_split.get("test"), notes)
    return found_splits, EntityColumns("; ".join(layouts), text_column, label_column)


def load_entity_splits(
    source: str | os.PathLike[str],
    *,
    validation: str | os.PathLike[str] | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    group_by: Callable[[str], str] | None = None,
    **options: Any,
) -> tuple[Splits, EntityColumns]:
    """Read texts with marked entities for training, with a validation split in any case.

    Args:
        source: As in `read_entities`.
        validation: A file to validate on instead of the data's own split.
        validation_fraction: The share to hold out where there is no validation split, of every type.
        seed: Fixes which texts are held out.
        group_by: Not for entities.
        **options: Of `read_entities`.

    Returns:
        As `read_entities`, with `splits.validation` filled.

    Raises:
        DataError: As in `read_entities` and `Examples.split`, or validation has a type that training lacks.

    Example:
        >>> splits, _ = load_entity_splits("train.conll", seed=7)  # doctest: +SKIP
    """
    _refuse({"group_by": group_by})
    splits, columns = read_entities(source, **options)
    train, held_out, notes = splits.train, splits.validation, splits.notes
    if validation is not None:
        if held_out is not None:
            notes += (
                f"not used: the data's own validation split, as {printable(str(validation))} was given",
            )
        reading = {"text_column": options.get("text_column"), "column": options.get("label_column")}
        found = read_annotated(Path(validation).expanduser(), **reading, encoding=options.get("encoding"))
        held_out, notes = examples_of(found, train.class_names), notes + tuple(found.notes)
    elif held_out is None:
        train, held_out = train.split(validation_fraction, seed=seed)
        return Splits(train, held_out, splits.test, notes, held_out=True), columns
    return Splits(train, held_out, splits.test, notes), columns


def examples_of(found: Annotated, names: Sequence[str]) -> Examples:
    """Examples of texts with marked entities of these types.

    Raises:
        DataError: There is another type.

    Example:
        >>> examples_of(Annotated("a", ["In Rome"], [((3, 7, "LOC"),)], [1], "spans"), ["LOC"]).counts()
        {'LOC': 1}
    """
    places = {name: index for index, name in enumerate(names)}
    unknown = [kind for kind in found.types if kind not in places]
    if unknown:
        raise DataError(
            f"Expected entities of the types {listed(names)} in {found.source}, got {unknown[0]!r}. "
            f"{did_you_mean(unknown[0], names)}Rename that type, or train on data that has it."
        )
    # Made an array by the task.
    labels = cast(
        "Array",
        [tuple((start, end, places[kind]) for start, end, kind in spans) for spans in found.spans],
    )
    return Examples(tuple(found.texts), labels, tuple(names), kind=MODALITY.kind, task=get_task(_TASK))


def _refuse(others: Mapping[str, Any]) -> None:
    for name, value in others.items():
        if value is not None and name not in ("data_dir", "validation", "validation_fraction", "seed"):
            raise DataError(
                f"Expected no {name} for texts with marked entities, got {value!r:.80}. Leave it out."
            )
