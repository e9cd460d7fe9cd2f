"""Read and check the splits of a data set for every command, as the run reads them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress, TaskID

from ktransfer.audit.class_names import doubtful_names
from ktransfer.audit.exclusions import leave_out
from ktransfer.core.modality import modality_of_facts
from ktransfer.data.examples import Examples, Splits, printable
from ktransfer.errors import RunError
from ktransfer.features.store import FeatureStore
from ktransfer.recipes.recipe import Recipe
from ktransfer.runs.run import Run
from ktransfer.utils.files import cache_folder
from ktransfer.utils.terminal import console

if TYPE_CHECKING:
    import tensorflow as tf

    from ktransfer.core.modality import ColumnsRead


# Float32 artifacts are proved on so many examples.
PARITY_EXAMPLES = 100
# Examples to evaluate quantized artifacts and accuracy on: one percentage point is five of them.
EVALUATION_EXAMPLES = 500
# Log a hint where a class has so many times the examples of another.
_UNEVEN = 3

# Facts of the data that a manifest has where they are not the default.
_LATER_FACTS: dict[str, Any] = {"test_fraction": float | int, "evaluate_test": bool}

Say = Callable[[str], None]


def named_splits(splits: Splits) -> Iterator[tuple[str, Examples]]:
    """`(name, examples)` of the splits that there are: train, validation, test."""
    for name in ("train", "validation", "test"):
        if (split := getattr(splits, name)) is not None:
            yield name, split


def feature_store(cache_dir: str | Path | None) -> FeatureStore:
    """The store of cached features, which runs share."""
    return FeatureStore((Path(cache_dir) if cache_dir else cache_folder()) / "features")


def progress_bar(verbose: int | str) -> Progress:
    """A bar on standard error that goes when it is done; nothing where it is not a terminal."""
    shown = console(stderr=True)
    return Progress(console=shown, transient=True, disable=not verbose or not shown.is_terminal)


def read_splits(facts: dict[str, Any], seed: int) -> tuple[Splits, ColumnsRead | None]:
    """The examples that the `data` of a run names, and of a table its columns.

    Args:
        facts: `Run.data`, or the same before there is a run; `group_by` may be a callable.
        seed: Of the split.

    Raises:
        DataError: Nothing usable is there, or `target_transform` does not fit the labels.
    """
    modality = modality_of_facts(facts)
    names = ("validation", "data_dir")
    # Manifests of the first runs have fewer columns.
    given = [name for name in (*modality.columns, "exclude") if name in facts]
    _check_facts(facts, (*names, *given))
    options = {name: facts[name] for name in (*names, "validation_fraction")} | {"seed": seed}
    options |= {name: facts.get(name) for name in modality.columns}
    if (group_by := facts.get("group_by")) is not None:
        options["group_by"] = group_by
    splits, columns = modality.load_splits(facts["source"], **options)
    if facts.get("exclude"):
        splits = leave_out(splits, facts["exclude"], root=data_root(facts["source"]))
    return _of_task(_with_test(splits, facts, seed), facts), columns


def _with_test(splits: Splits, facts: Mapping[str, Any], seed: int) -> Splits:
    """The splits with a test split held out first, or without the one that they have, as the facts say."""
    fraction = facts.get("test_fraction")
    if fraction is not None and splits.test is not None:
        splits = _noted(splits, "the data has a test split, so none is held out")
    elif fraction is not None:
        if splits.held_out:
            # As if the test split had never been there: validation is held out of the rest.
            rest, test = splits.train.joined(splits.require_validation()).split(fraction, seed=seed)
            train, validation = rest.split(facts["validation_fraction"], seed=seed)
            splits = dataclasses.replace(splits, train=train, validation=validation, test=test)
        else:
            train, test = splits.train.split(fraction, seed=seed)
            splits = dataclasses.replace(splits, train=train, test=test)
        splits = _noted(splits, f"{len(test)} {test.noun} are held out as the test split")
    return splits if facts.get("evaluate_test", True) else dataclasses.replace(splits, test=None)


def _noted(splits: Splits, note: str) -> Splits:
    return dataclasses.replace(splits, notes=(*splits.notes, note))


def _of_task(splits: Splits, facts: Mapping[str, Any]) -> Splits:
    """The splits with the task that was, or is now, fitted to the labels that are trained on."""
    train = splits.train
    if (known := facts.get("target")) is not None:
        task = train.task.with_facts(known)
    else:
        task = train.task.fit(train.labels, transform=facts.get("target_transform"))
    fitted: dict[str, Any] = {
        name: dataclasses.replace(split, task=task) for name, split in named_splits(splits)
    }
    return dataclasses.replace(splits, **fitted)


def _check_facts(facts: Any, names: Iterable[str]) -> None:
    """The manifest is untrusted input and may be damaged."""
    for name, kind in {
        **dict.fromkeys(names, str | None),
        "source": str,
        "validation_fraction": float | int,
        **{name: kind for name, kind in _LATER_FACTS.items() if name in facts},
    }.items():
        if name not in facts or not isinstance(facts[name], kind):
            raise RunError(
                f"Expected what a run was trained on in its manifest, data with {name}, got "
                f"{facts.get(name)!r:.80}. Train again."
            )


def data_root(source: str) -> str | None:
    """The folder that names of examples are relative to; a TFDS data set has none."""
    return None if source.startswith("tfds:") else source


def _moved(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done)


def readable(splits: Splits, facts: dict[str, Any], say: Say, *, verbose: int | str = 0) -> Splits:
    """Splits whose examples were decoded once; unreadable ones raise, or are left out by `skip_corrupt`."""
    found: dict[str, Any] = {}
    noun = splits.train.noun
    with progress_bar(verbose) as bar:
        for name, split in named_splits(splits):
            task = bar.add_task(f"checking {name} {noun}", total=len(split))
            found[name] = split.modality.readable(
                split,
                facts,
                progress=functools.partial(_moved, bar, task),
            )
    for name, split in found.items():
        before = getattr(splits, name)
        skipped = sorted(set(before.inputs) - set(split.inputs)) if len(split) < len(before) else []
        if skipped:
            named = ", ".join(map(printable, skipped[:3])) + (", ..." if len(skipped) > 3 else "")
            say(f"skipped    {len(skipped)} {name} {noun} that cannot be read: {named}")
    return dataclasses.replace(splits, **found)


def fingerprints(splits: Splits) -> dict[str, str]:
    return {name: split.fingerprint() for name, split in named_splits(splits)}


def hint_at_classes(splits: Splits, recipe: Recipe, say: Say) -> None:
    """Log a hint on doubtful class names, and on uneven classes that the recipe does not balance."""
    if splits.held_out and splits.train.groups is None:
        whole = splits.train.joined(splits.require_validation())
        if line := whole.modality.group_hint(whole):
            say(f"hint       {line}")
    for line in doubtful_names(splits):
        say(f"hint       {line}")
    for name, split in list(named_splits(splits))[1:]:
        missing = [label for label, count in split.counts().items() if not count]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            say(f"note       {name} has no {split.noun} of {', '.join(missing[:3])}{more}")
    counts = splits.train.counts()
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= _UNEVEN * counts[least] and not (recipe.class_weight or recipe.loss == "focal"):
        say(
            f"hint       {splits.train.task.label_noun} are uneven, {most} has {counts[most]:,} examples and {least} "
            f"{counts[least]:,}; {splits.train.task.uneven_hint}"
        )


def dataset(examples: Examples, run: Run, **options: Any) -> tf.data.Dataset:
    """A `dataset` with the preprocessing, the batches and the seed of a run."""
    return run.preprocessing.dataset(
        examples, batch_size=run.recipe.batch_size, one_hot=True, seed=run.recipe.seed, **options
    )


def evenly(examples: Examples, count: int) -> Examples:
    """At most so many, evenly over the examples and so over the classes.

    Example:

        len(evenly(validation, 100))   # 100
    """
    return examples.evenly(count)


def readable_split(examples: Examples, facts: dict[str, Any]) -> Examples:
    """The readable examples of a run; unreadable ones raise unless the run leaves them out."""
    return examples.modality.readable(examples, facts)
