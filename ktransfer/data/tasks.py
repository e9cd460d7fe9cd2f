"""Read examples for any task by readers of two kinds of labels: one class, or any number of labels."""

import dataclasses
from collections.abc import Callable
from typing import Any

from ktransfer.core.task import get_task, task_names
from ktransfer.errors import DataError, did_you_mean


def read_as(
    read: Callable[..., tuple[Any, Any]], source: Any, *, task: str | None, **options: Any
) -> tuple[Any, ...]:
    """Read splits, and let their examples be of a task.

    Args:
        read: Callable from a source, `task` and further options to `(Splits, Columns | None)`; its `task` is
            `"single_label"`, `"multi_label"` or `None`, which takes what the labels look like.
        source: What to read.
        task: The name of any task; `None` leaves the choice to `read`.
        **options: Of `read`.

    Returns:
        As `read`.

    Raises:
        DataError: There is no such task, or what `read` raises.

    Example:
        >>> read_as(read_texts, "reviews.csv", task="single_label")  # doctest: +SKIP
    """
    if task is None:
        return read(source, task=None, **options)
    if task not in task_names():
        raise DataError(
            f"Expected a task of {', '.join(task_names())}, got {task!r}. "
            f"{did_you_mean(str(task), task_names())}Pass one of these, or none."
        )
    splits, columns = read(source, task=get_task(task).reads, **options)
    get_task(task).check_class_names(splits.train.class_names)
    if get_task(task).reads == task:
        return splits, columns
    converted = {
        name: dataclasses.replace(split, task=task)
        for name in ("train", "validation", "test")
        if (split := getattr(splits, name)) is not None
    }
    columns = columns and dataclasses.replace(columns, task=task)
    return dataclasses.replace(splits, **converted), columns
