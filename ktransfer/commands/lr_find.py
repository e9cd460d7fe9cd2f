"""`ktransfer lr-find`: the learning-rate finder on a classifier whose head is solved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from ktransfer.commands.checks import check_client, check_folder_to_write, refuse_others
from ktransfer.commands.splits import feature_store, progress_bar, read_splits, readable
from ktransfer.data.modality import find_modality
from ktransfer.data.tables.columns import as_reference
from ktransfer.errors import RunError
from ktransfer.features.cached_features import FrozenFeatures
from ktransfer.models.blocks import find_blocks
from ktransfer.models.freezing import resolve_depth, set_depth
from ktransfer.models.locate import find_backbone
from ktransfer.recipes.default_recipes import preset_recipe
from ktransfer.runs.provenance import absolute
from ktransfer.training.fine_tune import compile_classifier
from ktransfer.training.linear_probe import solve_rows
from ktransfer.training.lr_curve import LearningRateCurve
from ktransfer.training.lr_finder import find_learning_rate
from ktransfer.utils.files import write_json
from ktransfer.utils.machine import has_gpu
from ktransfer.utils.oom import is_out_of_memory
from ktransfer.utils.terminal import print_line

if TYPE_CHECKING:
    from rich.progress import Progress

    from ktransfer.data.examples import Splits
    from ktransfer.features.store import FeatureStore
    from ktransfer.models.network import Network
    from ktransfer.recipes.recipe import Recipe


JSON, PLOT = "lr_find.json", "lr_find.png"


def lr_find(
    data: str | Path,
    backbone: str,
    *,
    depth: int | float | str = "all",
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    scaling: str | None = None,
    text_column: str | None = None,
    text_columns: str | Sequence[str] | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    task: str | None = None,
    group_column: str | None = None,
    encoding: str | None = None,
    sequence_length: int | None = None,
    client: str | None = None,
    lowest: float = 1e-7,
    highest: float = 1.0,
    steps: int = 100,
    seed: int = 0,
    skip_corrupt: bool = False,
    exclude: str | Path | None = None,
    cache_dir: str | Path | None = None,
    say: Callable[[str], None] = print_line,
    verbose: int | str = 1,
) -> LearningRateCurve:
    """Solve the head as `train` does it, unfreeze the backbone, and raise the learning rate from batch to batch.

    The optimizer, the batches and the loss are those of the preset `"balanced"`; every block has the same learning
    rate, while the recipes of `train` lower it with depth.

    Args:
        data: As in `train`, which trains on the same examples with the same seed.
        backbone: As in `train`.
        depth: How much of the backbone trains: `"all"`, a number of blocks from the top, or a share of them in (0, 1].
            Defaults to `"all"`.
        out: A folder for `lr_find.json` and `lr_find.png`. Defaults to `None`, which writes nothing.
        data_dir, image_size, scaling, text_column, text_columns, file_column, label_column, label_separator, task,
            group_column, encoding, sequence_length, client: As in `train`.
        lowest, highest, steps: As in `find_learning_rate`.
        seed: Of the split, the order of the examples and what is drawn in training. Defaults to 0.
        skip_corrupt, exclude, cache_dir: As in `train`.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.
        verbose: Whether progress is shown, on standard error. Defaults to 1.

    Returns:
        The `LearningRateCurve`.

    Raises:
        KTransferError: The data, the backbone, the depth or the folder cannot be used, or memory runs out.

    Example:

        lr_find("flowers", "resnet_50_imagenet", image_size=160, out="lr").suggestion
    """
    if out is not None:
        check_folder_to_write(out, "--out")
    modality = find_modality(data, data_dir=data_dir)
    options: dict[str, Any] = {"image_size": image_size, "scaling": scaling, "skip_corrupt": skip_corrupt}
    options |= {
        "text_column": text_column,
        "text_columns": as_reference(text_columns),
        "file_column": file_column,
        "label_column": label_column,
        "label_separator": label_separator,
        "task": task,
        "group_column": group_column,
        "encoding": encoding,
    }
    options |= {"sequence_length": sequence_length, "client": client}
    refuse_others(options, modality, data)
    facts = {
        "source": absolute(data),
        "validation": None,
        "validation_fraction": 0.2,
        "data_dir": data_dir and absolute(data_dir),
        "exclude": exclude and absolute(exclude),
        **{name: options.get(name) for name in (*modality.facts, *modality.columns)},
    }
    splits, _ = read_splits(facts, seed)
    check_client(client, splits.train.task)
    for note in splits.notes:
        say(f"note       {note}")
    keras.utils.set_random_seed(seed)
    task = splits.train.task.name
    recipe = preset_recipe(modality.noun, examples=len(splits.train), gpu=has_gpu(), seed=seed, task=task)
    network = modality.network(backbone, splits.train, recipe, **options)
    recipe = splits.train.task.adapted(recipe)
    model, inner = network.model, find_backbone(network.model)
    blocks = find_blocks(inner)
    unfrozen = resolve_depth(depth, blocks)
    splits = readable(splits, facts, say, verbose=verbose)
    cut: dict[str, Any] = {
        name: network.preprocessing.pieces(getattr(splits, name)) for name in ("train", "validation")
    }
    splits = dataclasses.replace(splits, **cut)
    with progress_bar(verbose) as bar:
        _solve(network, splits, recipe, feature_store(cache_dir), bar)
        set_depth(inner, blocks, unfrozen)
        compile_classifier(model, recipe, one_hot=True, task=splits.train.task)
        shown = bar.add_task("raising the learning rate", total=steps)

        try:
            curve = find_learning_rate(
                model,
                network.preprocessing.dataset(
                    splits.train,
                    batch_size=recipe.batch_size,
                    training=True,
                    augmentation=recipe.augmentation,
                    one_hot=True,
                    seed=seed,
                ),
                on_step=lambda step, rate, loss: bar.update(shown, completed=step + 1),
                lowest=lowest,
                highest=highest,
                steps=steps,
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise RunError(
                f"Expected memory for batches of {recipe.batch_size}, got out of memory. Choose a smaller image size, "
                "sequence length, depth or backbone."
            ) from error
    if out is not None:
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        asked = {
            "data": str(data),
            "backbone": str(backbone),
            "depth": depth,
            "blocks": unfrozen,
            "seed": seed,
        }
        write_json(out / JSON, {**curve.to_dict(), **asked, "batch_size": recipe.batch_size})
        curve.save_plot(out / PLOT)
    return curve


def _solve(network: Network, splits: Splits, recipe: Recipe, store: FeatureStore, bar: Progress) -> None:
    features = FrozenFeatures(
        network.model,
        splits.train,
        splits.require_validation(),
        dataclasses.replace(recipe, stages=()),  # no stage is cached, only what the head needs
        preprocessing=network.preprocessing,
        store=store,
        track=lambda batches, total, description: bar.track(batches, total=total, description=description),
        say=lambda line: None,
    )
    labels = network.preprocessing.row_labels(splits.train)
    solve_rows(network.model, features.pooled(), labels, task=splits.train.task, seed=recipe.seed)
