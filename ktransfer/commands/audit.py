"""`ktransfer audit`: find problems of a data set, and the short form before training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import Progress

from ktransfer.audit.audit_splits import audit_splits
from ktransfer.audit.exclusions import choose_exclusions, write_exclusions
from ktransfer.audit.findings import Audit, Item, list_items
from ktransfer.audit.html_page import write_page
from ktransfer.data.examples import Examples, Splits, printable
from ktransfer.data.modality import find_modality
from ktransfer.data.tables.columns import as_reference
from ktransfer.errors import DataError
from ktransfer.utils.files import write_json
from ktransfer.utils.terminal import console, print_line

if TYPE_CHECKING:
    import tensorflow as tf

    from ktransfer.audit.findings import Finding
    from ktransfer.core.typing import Array, OnProgress, PathLike


_REPEATED = ("leak", "near_leak", "duplicate", "near_duplicate")


def audit(
    data: str | Path,
    *,
    backbone: str | None = None,
    out: str | Path | None = None,
    fix: bool = False,
    image_size: int | tuple[int, int] | None = None,
    scaling: str | None = None,
    text_column: str | None = None,
    text_columns: str | Sequence[str] | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    task: str | None = None,
    encoding: str | None = None,
    data_dir: str | Path | None = None,
    verbose: int | str = 1,
) -> Audit:
    """Find problems of images or texts before training, without changing any of them.

    Args:
        data: As in `train`.
        backbone: As in `train`; with it, labels that look wrong and examples unlike all others are found by
            the features of the frozen backbone.
        out: A folder for `audit.json`, `audit.html` and, with `fix`, `exclude.txt`; None writes nothing.
        fix: Write the exclusion list (see `choose_exclusions`), which `train` reads.
        image_size, scaling: Of the backbone, as in `train`; pixels.
        text_column, text_columns, file_column, label_column, label_separator, task, encoding: As in `train`.
        data_dir: Where TensorFlow Datasets keeps its data.
        verbose: Whether progress is shown, on standard error.

    Returns:
        The `Audit`.

    Raises:
        DataError: The data cannot be read at all, `fix` has no `out`, or `out` lies in the data.

    Example:

        audit("flowers", backbone="resnet_50_imagenet", out="audit", fix=True).of("suspect_label")[:3]
    """
    if fix and out is None:
        raise DataError("Expected a folder for the exclusion list, got --fix alone. Pass --out FOLDER.")
    root = None if str(data).startswith("tfds:") else Path(data).expanduser()
    if out is not None and root is not None and Path(out).resolve().is_relative_to(root.resolve()):
        raise DataError(f"Expected a folder outside the data, got --out {out}, in {data}. Pass another one.")
    columns = {
        "text_column": text_column,
        "text_columns": as_reference(text_columns),
        "file_column": file_column,
        "label_column": label_column,
        "label_separator": label_separator,
        "task": task,
        "encoding": encoding,
    }
    splits, _ = find_modality(data, data_dir=data_dir).read(data, data_dir=data_dir, **columns)
    if backbone is not None and splits.train.task.per_token:
        raise DataError(
            f"Expected an audit of {splits.train.task.title} without a backbone, got {backbone}. Leave --backbone "
            "out: labels that look wrong are found for whole examples only."
        )
    with _progress(verbose, "reading every example") as progress:
        found = audit_splits(splits, root=root, progress=progress)
    if backbone is not None:
        found = found.with_findings(
            _label_findings(splits, found, root, backbone, image_size, scaling, verbose)
        )
    if out is not None:
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "audit.json", {"data": printable(str(data)), **found.to_dict()})
        write_page(found, out / "audit.html", title=str(data))
        if fix:
            write_exclusions(out / "exclude.txt", choose_exclusions(found))
    return found


def audit_before_training(
    splits: Splits,
    data: str | Path,
    *,
    allow_leakage: bool = False,
    say: Callable[[str], None] = print_line,
    verbose: int | str = 0,
) -> Audit:
    """The short form: leakage stops, the rest is a line each.

    Of texts only those count as leaking that differ in case and white space at most, so that no extra is
    needed and no common phrase stops a training.

    Args:
        splits: The splits for training and evaluation.
        data: Where it came from.
        allow_leakage: Say it instead.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.
        verbose: Whether progress is shown.

    Returns:
        The `Audit`; the caller refuses or leaves out unreadable files.

    Raises:
        DataError: Examples of one split are in another as well.

    Example:

        audit_before_training(load_splits("flowers"), "flowers")
    """
    root = None if str(data).startswith("tfds:") else Path(data).expanduser()
    with _progress(verbose, f"checking {splits.train.noun}") as progress:
        found = audit_splits(
            splits, root=root, near=splits.train.modality.near_before_training, progress=progress
        )
    leaks = found.of("leak", "near_leak")
    if leaks:
        first = leaks[0]
        by_split = {item.split: item for item in reversed(first.items)}
        named = " and ".join(found.modality.named(by_split[name]) for name in sorted(by_split))
        received = f"{len(leaks)} {'leaks' if len(leaks) > 1 else 'leak'}, such as {named}, {first.detail}"
        if not allow_leakage:
            raise DataError(
                f"Expected evaluation examples that are not in the training data, got {received}. Run "
                "`ktransfer audit DATA --fix --out AUDIT` and pass --exclude AUDIT/exclude.txt, or pass "
                "--allow-leakage."
            )
        say(f"warning    {received}; they make the result look better than it is")
    for kind in ("contradiction", "constant"):
        if some := found.of(kind):
            named = found.modality.named(some[0].items[0])
            say(f"warning    {len(some)} times {kind}, such as {named}; see `ktransfer audit`")
    return found


def _label_findings(
    splits: Splits,
    found: Audit,
    root: PathLike | None,
    backbone: str,
    image_size: int | tuple[int, int] | None,
    scaling: str | None,
    verbose: int | str,
) -> list[Finding]:
    # Here, as only this needs Keras, which takes seconds to load, and scikit-learn.
    from ktransfer.audit.label_errors import label_findings

    unreadable = {item.key for finding in found.of("unreadable") for item in finding.items}
    items = list_items(splits, root=root)
    usable = [index for index, item in enumerate(items) if item.key not in unreadable]
    items = [items[index] for index in usable]
    names = splits.train.class_names
    found_splits = (splits.train, splits.validation, splits.test)
    examples = Examples(
        tuple(item.input for item in items),
        np.concatenate([split.labels for split in found_splits if split is not None])[usable],
        names,
        kind=splits.train.kind,
        task=splits.train.task,
    )
    features = _features(examples, backbone, image_size, scaling, verbose)
    return label_findings(items, features, _groups(items, found), examples=examples)


def _groups(items: Sequence[Item], found: Audit) -> np.ndarray:
    """A group number for each item, equal for duplicates; the largest group of an item counts."""
    places = {item.key: index for index, item in enumerate(items)}
    groups = np.arange(len(items))
    for finding in sorted(found.of(*_REPEATED), key=lambda finding: len(finding.items)):
        members = [places[item.key] for item in finding.items]
        groups[members] = members[0]
    return groups


def _features(
    examples: Examples,
    backbone: str,
    image_size: int | tuple[int, int] | None,
    scaling: str | None,
    verbose: int | str,
) -> Array:
    from ktransfer.features.extract import extract_features
    from ktransfer.utils.machine import has_gpu

    recipe = examples.modality.default_recipe(examples=len(examples), gpu=has_gpu(), epochs=0)
    network = examples.modality.network(backbone, examples, recipe, image_size=image_size, scaling=scaling)
    # Texts in the order in which they run fastest; features are put back into that of the examples.
    order = network.preprocessing.order(examples.inputs)
    batches = network.preprocessing.dataset(examples.subset(order), batch_size=recipe.batch_size, keep=False)
    with _progress(verbose, "running the frozen backbone") as progress:
        counted = _counted(batches, progress)
        features, _ = extract_features(network.model, counted)
    return features[np.argsort(order)]


def _counted(batches: tf.data.Dataset, progress: OnProgress) -> Iterator[Any]:
    total = len(batches)
    for done, batch in enumerate(batches, start=1):
        yield batch
        progress(done, total)


@contextlib.contextmanager
def _progress(verbose: int | str, description: str) -> Iterator[OnProgress]:
    """`progress(done, total)` that moves a bar on standard error; nothing where it is not a terminal."""
    shown = console(stderr=True)
    disable = not verbose or not shown.is_terminal
    with Progress(console=shown, transient=True, disable=disable) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
