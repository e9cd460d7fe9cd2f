"""What the verbs share: the parts of a data set, checked, and read the way a run reads them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from ktransfer.data.checks import require_readable
from ktransfer.data.examples import Examples, Splits, printable
from ktransfer.data.images import load_images
from ktransfer.data.pipeline import image_dataset
from ktransfer.data.sources import load_splits
from ktransfer.feature_store import FeatureStore
from ktransfer.files import cache_folder
from ktransfer.run import Run

PARITY_IMAGES = 100

Say = Callable[[str], None]


def parts(splits: Splits) -> Iterator[tuple[str, Examples]]:
    """`(name, examples)` of the parts that there are: train, validation, test."""
    for name in ("train", "validation", "test"):
        if (part := getattr(splits, name)) is not None:
            yield name, part


def feature_store(cache_dir: str | Path | None) -> FeatureStore:
    """Where features are kept, shared between runs."""
    return FeatureStore((Path(cache_dir) if cache_dir else cache_folder()) / "features")


def progress_bar(verbose: int | str) -> Progress:
    """A bar on standard error that goes when it is done; nothing where nobody looks."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not verbose or not console.is_terminal)


def list_splits(facts: dict, seed: int) -> Splits:
    """The examples of a run, from the `data` entry of its manifest; nothing is decoded."""
    return load_splits(
        facts["source"],
        validation=facts["validation"],
        validation_fraction=facts["validation_fraction"],
        seed=seed,
        data_dir=facts["data_dir"],
    )


def readable(splits: Splits, facts: dict, say: Say, *, verbose: int | str = 0) -> Splits:
    """The same with each image decoded once; what cannot be is an error, or left out if the facts say so."""
    found = {}
    with progress_bar(verbose) as bar:
        for name, part in parts(splits):
            task = bar.add_task(f"checking {name} images", total=len(part))
            found[name] = require_readable(
                part,
                skip_corrupt=facts["skip_corrupt"],
                progress=lambda done, total, task=task: bar.update(task, completed=done),
            )
    for name, part in found.items():
        skipped = sorted(set(getattr(splits, name).inputs) - set(part.inputs))
        if skipped:
            named = ", ".join(map(printable, skipped[:3])) + (", ..." if len(skipped) > 3 else "")
            say(f"skipped    {len(skipped)} {name} images that cannot be read: {named}")
    return Splits(**found)


def fingerprints(splits: Splits) -> dict[str, str]:
    return {name: part.fingerprint() for name, part in parts(splits)}


def dataset(examples: Examples, run: Run, **options):
    """`image_dataset` with the size, the batches and the seed of a run."""
    return image_dataset(
        examples,
        resize=run.preprocessing.resize,
        batch_size=run.recipe.batch_size,
        one_hot=True,
        seed=run.recipe.seed,
        **options,
    )


def parity_images(examples: Examples, run: Run) -> np.ndarray:
    """At most `PARITY_IMAGES` images, evenly over the examples and so over the classes; float32, 0-255."""
    chosen = np.linspace(0, len(examples) - 1, min(len(examples), PARITY_IMAGES)).round().astype(int)
    return load_images([examples.inputs[index] for index in chosen], run.preprocessing.resize)
