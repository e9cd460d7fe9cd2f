"""`ktransfer train`: data and a backbone to a run folder, and on with one that was interrupted."""

import dataclasses
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras

from ktransfer.backbones import load_backbone
from ktransfer.classifier import build_classifier
from ktransfer.default_recipes import image_recipe
from ktransfer.errors import RecipeError, RunError
from ktransfer.exporters import FORMATS, check_formats
from ktransfer.freezing import find_blocks, resolve_depth
from ktransfer.jobs.finish import finish
from ktransfer.jobs.parts import Say, feature_store, fingerprints, list_splits, parts, readable
from ktransfer.recipe import Recipe
from ktransfer.run import Run
from ktransfer.training import has_gpu


def train(
    data: str | Path,
    backbone: str,
    out: str | Path,
    *,
    validation: str | Path | None = None,
    validation_fraction: float = 0.2,
    data_dir: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    scaling: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    recipe: Recipe | None = None,
    random_weights: bool = False,
    fast_depthwise: bool = True,
    skip_corrupt: bool = False,
    overwrite: bool = False,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    formats: Sequence[str] = FORMATS,
    say: Say = print,
    verbose: int | str = 1,
) -> Run:
    """Train a classifier on labelled images, evaluate it, export it, and keep all of it in a run folder.

    Args:
        data: A folder of class folders, one that holds `train/` (and `val/`, `test/`), or `tfds:NAME`.
        backbone: As in `load_backbone`.
        out: The run folder to make.
        validation: A folder of class folders to validate on instead of a part of `data`.
        validation_fraction: The share of each class to hold out where there is no validation part.
        data_dir: Where TensorFlow Datasets keeps its data.
        image_size: Pixels; `None` takes the preset's own.
        scaling: As in `load_backbone`, for a `.keras` file.
        epochs: Of fine-tuning by the default recipe; 0 keeps the solved head. Not with `recipe`.
        seed: Of everything random; `None` takes the recipe's, which is 0 by default.
        recipe: How to train; `None` takes `image_recipe` for these facts.
        random_weights: Start from a random backbone, to see what the pretrained one is worth.
        fast_depthwise: Compute depthwise convolutions as such (see `ktransfer.use_depthwise`).
        skip_corrupt: Leave out images that cannot be read.
        overwrite: Replace a run that lies at `out`.
        cache: Run the frozen part of the backbone once and keep what it gives, where the recipe allows it.
        cache_dir: Where to keep it; `None` takes `KTRANSFER_CACHE` or `~/.cache/ktransfer`.
        formats: What to export, of `FORMATS`.
        say: Where lines for a person go.
        verbose: Of Keras' progress, as in `keras.Model.fit`.

    Returns:
        The `Run`.

    Raises:
        KTransferError: The data, the backbone, the recipe or the folder will not do; the message says how
            to mend it. What was trained until then is in the run folder.

    Example:

        run = ktransfer.train("flowers", "resnet_50_imagenet", "runs/flowers", image_size=160)
    """
    Run.check_free(out, overwrite=overwrite)
    check_formats(formats)
    if recipe is not None and epochs is not None:
        raise RecipeError(
            f"A recipe brings its own epochs. Received: a recipe and epochs={epochs}. Leave one out."
        )
    facts = {
        "source": _absolute(data),
        "validation": validation and _absolute(validation),
        "validation_fraction": validation_fraction,
        "data_dir": data_dir and _absolute(data_dir),
        "skip_corrupt": skip_corrupt,
    }
    if recipe is None:
        recipe = image_recipe(images=2, epochs=epochs, seed=seed or 0)  # checks what was asked for
        splits = list_splits(facts, recipe.seed)
        recipe = image_recipe(images=len(splits.train), gpu=has_gpu(), epochs=epochs, seed=seed or 0)
    else:
        recipe = recipe if seed is None else dataclasses.replace(recipe, seed=seed)
        splits = list_splits(facts, recipe.seed)
    keras.utils.set_random_seed(recipe.seed)
    network, preprocessing = load_backbone(
        backbone,
        image_size=image_size,
        scaling=scaling,
        load_weights=not random_weights,
        dtype=recipe.precision,
        fast_depthwise=fast_depthwise,
    )
    blocks = find_blocks(network)
    for stage in recipe.stages:
        resolve_depth(stage.depth, blocks)
    classes, resize = splits.train.class_names, preprocessing.resize
    model = build_classifier(network, len(classes), preprocessing, dropout=recipe.dropout, seed=recipe.seed)
    _require_room(out, model)
    splits = readable(splits, facts, say, verbose=verbose)
    counts = {name: len(part) for name, part in parts(splits)}
    say(f"data       {', '.join(f'{n} {name}' for name, n in counts.items())}; {len(classes)} classes")
    say(
        f"backbone   {network.name}, {network.count_params():,} parameters in {len(blocks)} blocks; "
        f"images of {resize.height} x {resize.width} pixels"
    )
    run = Run.create(
        out,
        {
            "status": "training",
            "task": "image-classification",
            "labels": list(classes),
            "preprocessing": preprocessing.to_dict(),
            "backbone": {
                "name": str(backbone),
                "layer": network.name,
                "parameters": network.count_params(),
                "random_weights": random_weights,
                "fast_depthwise": fast_depthwise,
            },
            "recipe": dataclasses.asdict(recipe),
            "formats": list(formats),
            "data": {**facts, "examples": counts, "fingerprint": fingerprints(splits)},
        },
        overwrite=overwrite,
    )
    run.save_model(model)
    store = feature_store(cache_dir) if cache else None
    return finish(run, model, splits, store, formats, say, verbose)


def resume(
    out: str | Path,
    *,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    formats: Sequence[str] | None = None,
    say: Say = print,
    verbose: int | str = 1,
) -> Run:
    """Go on with a run that was interrupted, on the same data, from its last whole epoch.

    Args:
        out: The run folder.
        formats: What to export; `None` takes what the run was begun with.
        cache, cache_dir, say, verbose: As in `train`.

    Returns:
        The finished `Run`.

    Raises:
        RunError: There is no such run, or its data has changed.

    Example:

        ktransfer.resume("runs/flowers")
    """
    run = Run.load(out)
    formats = run.manifest.get("formats", FORMATS) if formats is None else formats
    check_formats(formats)
    facts = run.manifest["data"]
    keras.utils.set_random_seed(run.recipe.seed)
    splits = readable(list_splits(facts, run.recipe.seed), facts, say, verbose=verbose)
    if fingerprints(splits) != facts["fingerprint"]:
        raise RunError(
            f"The data that the run began with was expected in {facts['source']}. Received: other files. "
            "Put it back, or train a new run."
        )
    store = feature_store(cache_dir) if cache else None
    return finish(run, run.model, splits, store, formats, say, verbose)


def _require_room(out, model):
    """Say before training that the disk is too small; Keras' own writes end badly when it fills up."""
    weights = sum(math.prod(v.shape) * 4 for v in model.variables)
    # The model, two checkpoints with the optimizer's two slots each, the best weights, three artefacts.
    needed = 11 * weights
    folder = next(parent for parent in (Path(out).resolve(), *Path(out).resolve().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunError(
            f"About {needed / 2**20:.0f} MiB of free disk were expected for the run and its checkpoints. "
            f"Received: {free / 2**20:.0f} MiB in {folder}. Make room, or choose another --out."
        )


def _absolute(data):
    return str(data) if str(data).startswith("tfds:") else str(Path(data).expanduser().resolve())
