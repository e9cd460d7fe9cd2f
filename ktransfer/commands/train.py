"""`ktransfer train`: data and a backbone to a run folder, and on with one that was interrupted."""

import dataclasses
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import keras

from ktransfer.commands.audit import audit_before_training
from ktransfer.commands.checks import refuse_others
from ktransfer.commands.fit import finish
from ktransfer.commands.splits import (
    Say,
    feature_store,
    fingerprints,
    hint_at_classes,
    parts,
    read_splits,
    readable,
)
from ktransfer.core.modality import Augmentation
from ktransfer.data.modality import find_modality
from ktransfer.errors import RecipeError, RunError
from ktransfer.exporting.export_model import FORMATS, check_formats
from ktransfer.models.blocks import find_blocks
from ktransfer.models.freezing import resolve_depth
from ktransfer.models.locate import find_backbone
from ktransfer.recipes.default_recipes import BALANCED, BEST, check_preset, preset_recipe
from ktransfer.recipes.recipe import Recipe
from ktransfer.recipes.time_budget import TimeBudget, parse_duration
from ktransfer.runs.provenance import (
    RECIPE,
    absolute,
    arguments,
    command,
    machine,
    read_arguments,
    require_same,
)
from ktransfer.runs.run import Run
from ktransfer.utils.files import write_text
from ktransfer.utils.machine import has_gpu
from ktransfer.utils.terminal import print_line

_FEW = 2_000
BEGINNING = "beginning"  # the status of a run whose model is not written yet


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
    text_column: str | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    task: str | None = None,
    group_column: str | None = None,
    encoding: str | None = None,
    sequence_length: int | None = None,
    preset: str | None = None,
    budget: float | str | None = None,
    refit: bool | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    recipe: Recipe | None = None,
    class_weight: str | None = None,
    loss: str | None = None,
    augmentation: Augmentation | None = None,
    quantization_aware: int | None = None,
    random_weights: bool = False,
    fast_depthwise: bool = True,
    skip_corrupt: bool = False,
    exclude: str | Path | None = None,
    allow_leakage: bool = False,
    overwrite: bool = False,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    formats: Sequence[str] = FORMATS,
    say: Say = print_line,
    verbose: int | str = 1,
) -> Run:
    """Train a classifier on labelled images or texts, evaluate it, export it, and keep all in a run folder.

    Args:
        data: Images: a folder of class folders, or one that holds `train/` (and `val/`, `test/`). Texts: a
            table (CSV, TSV, JSON, JSON lines, Parquet), a folder with `train.csv` and so on, or folders of
            `.txt` files. Either: `tfds:NAME`.
        backbone: As in `load_backbone`, or for texts as in `load_text_backbone`.
        out: The run folder to make.
        validation: Data of the same kind to validate on instead of a part of `data`.
        validation_fraction: The share of each class to hold out where there is no validation part.
        data_dir: Where TensorFlow Datasets keeps its data.
        image_size: Pixels; `None` takes the preset's own.
        scaling: As in `load_backbone`, for a `.keras` file.
        text_column, file_column: Column of a table with the texts, or with the names of image files; `None` guesses it.
        label_column: Column of the labels, or several columns of 0 and 1 with commas between their names; `None`
            guesses it.
        label_separator: What stands between the labels of a cell, such as `"|"`; `None` guesses it.
        task: `"single_label"` or `"multi_label"`; `None` takes what the labels look like.
        group_column: Column with what an example belongs to, such as a patient: validation has other groups than
            training. Defaults to `None`.
        encoding: Of tables and text files; `None` takes UTF-8.
        sequence_length: Tokens that a longer text is cut to; `None` takes what 95 of 100 texts fit into.
        preset: `"fast"`, `"balanced"` or `"best"`: how much time accuracy is worth (see `preset_recipe`); all but
            the first decide by evidence how much of the backbone is fine-tuned. Not with `recipe`. Defaults to
            `"balanced"`.
        budget: Time that all of it may take, export included: seconds, or a text such as `"10m"`; fewer epochs are
            trained where there is no time for all of the preset's. Not with `recipe`. Defaults to no limit.
        refit: Train once more on training and validation examples together, with what was chosen, and keep that
            model; the metrics stay those of the model before, and are an estimate. Not with `budget`. `None` does so
            with the preset `"best"` and no budget, if validation was held out of fewer than 2,000 training examples.
            Defaults to `None`.
        epochs: Of fine-tuning by the preset; 0 keeps the solved head. Not with `recipe`.
        seed: Of everything random; `None` takes the recipe's, which is 0 by default.
        recipe: How to train; `None` takes that of the preset.
        class_weight, loss, augmentation, quantization_aware: As in `Recipe`; `None` takes the recipe's.
        random_weights: Start from a random backbone, to see what the pretrained one is worth.
        fast_depthwise: Compute depthwise convolutions as such (see `ktransfer.use_depthwise`).
        skip_corrupt: Leave out images that cannot be read.
        exclude: An exclusion list that `ktransfer audit --fix` wrote; what it names is left out.
        allow_leakage: Train although examples to judge by are trained on as well; it is said.
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
        run = ktransfer.train("reviews.csv", "bert_tiny_en_uncased", "runs/reviews")
    """
    formats = check_formats(formats)
    given = arguments(locals())
    Run.check_free(out, overwrite=overwrite)
    if recipe is not None and epochs is not None:
        received = f"Received: a recipe and epochs={epochs}. Leave one out."
        raise RecipeError(f"A recipe brings its own epochs. {received}")
    if recipe is not None and preset is not None:
        raise RecipeError(f"Expected a recipe or a preset, got both, preset={preset!r}. Leave one out.")
    if recipe is not None and budget is not None:
        raise RecipeError(f"Expected a recipe or a budget, got both, budget={budget!r}. Leave one out.")
    if budget is not None:
        seconds, clock = parse_duration(budget), time.monotonic
        TimeBudget(seconds, formats=len(formats))  # refuses what is too short for any backbone
        begun = clock()
    preset = preset or BALANCED
    check_preset(preset)
    modality = find_modality(data, data_dir=data_dir)
    options = {"image_size": image_size, "scaling": scaling, "skip_corrupt": skip_corrupt}
    options |= {
        "text_column": text_column,
        "file_column": file_column,
        "label_column": label_column,
        "label_separator": label_separator,
        "task": task,
        "group_column": group_column,
        "encoding": encoding,
    }
    options |= {"sequence_length": sequence_length}
    refuse_others(options, modality, data)
    changes = {"seed": seed, "class_weight": class_weight, "loss": loss, "augmentation": augmentation}
    changes |= {"quantization_aware": quantization_aware}
    if refit and budget is not None:
        raise RecipeError(
            f"Expected a budget or refit, which takes as long again, got both, budget={budget!r}. Leave one out."
        )
    if refit and quantization_aware:
        raise RecipeError(
            f"Expected refit or quantization_aware epochs, got both, quantization_aware={quantization_aware}. "
            "Leave one out."
        )
    asked = _recipe(
        recipe, preset, modality, 2, epochs, changes
    )  # refuses what cannot be before anything is read
    facts = {
        "source": absolute(data),
        "validation": validation and absolute(validation),
        "validation_fraction": validation_fraction,
        "data_dir": data_dir and absolute(data_dir),
        "exclude": exclude and absolute(exclude),
        **{name: options.get(name) for name in (*modality.facts, *modality.columns)},
    }
    splits, columns = read_splits(facts, asked.seed)
    for note in splits.notes:
        say(f"note       {note}")
    if columns is not None:
        facts |= columns.facts()
        say(f"columns    {columns.line()}")
    if refit is None:
        refit = (
            preset == BEST
            and budget is None
            and splits.held_out
            and len(splits.train) < _FEW
            and not quantization_aware
        )
    chosen_by_preset = recipe is None
    recipe = _recipe(recipe, preset, modality, len(splits.train), epochs, changes)
    splits.train.task.check_recipe(recipe)
    keras.utils.set_random_seed(recipe.seed)
    classes = splits.train.class_names
    options |= {"random_weights": random_weights, "fast_depthwise": fast_depthwise}
    network = modality.network(backbone, splits.train, recipe, **options)
    model, inner = network.model, find_backbone(network.model)
    blocks = find_blocks(inner)
    for stage in recipe.stages:
        resolve_depth(stage.depth, blocks)
    limit = None
    if budget is not None:
        left = seconds - (clock() - begun)
        limit = TimeBudget(left, formats=len(formats), weights=model.count_params())
    _require_room(out, model)
    found = audit_before_training(
        splits, facts["source"], allow_leakage=allow_leakage, say=say, verbose=verbose
    )
    if found.of("unreadable"):
        splits = readable(splits, facts, say, verbose=verbose)
    counts = {name: len(part) for name, part in parts(splits)}
    shown = ", ".join(f"{count} {name}" for name, count in counts.items())
    say(f"data       {shown}; {len(classes)} {splits.train.task.label_noun}")
    hint_at_classes(splits, recipe, say)
    size = f"{inner.count_params():,} parameters in {len(blocks)} blocks"
    say(f"backbone   {inner.name}, {size}; {network.size}")
    run = Run.create(
        out,
        {
            "status": BEGINNING,
            "modality": modality.name,
            "task": splits.train.task.name,
            "labels": list(classes),
            "preprocessing": network.preprocessing.to_dict(),
            "backbone": {
                "name": str(backbone),
                "layer": inner.name,
                "parameters": inner.count_params(),
                "random_weights": random_weights,
                **network.facts,
            },
            "recipe": dataclasses.asdict(recipe),
            **({"preset": preset, "epochs_asked": epochs} if chosen_by_preset else {}),
            **({"refit": True} if refit else {}),
            **({"budget_seconds": seconds} if budget is not None else {}),
            "formats": list(formats),
            "data": {**facts, "examples": counts, "fingerprint": fingerprints(splits)},
            "reproduce": {"command": command(given, Path(absolute(out))), "arguments": given},
            "machine": machine(),
        },
        overwrite=overwrite,
    )
    run.preprocessing = network.preprocessing
    write_text(run.path / RECIPE, recipe.to_json() + "\n")
    modality.save_preprocessing(network.preprocessing, run)
    run.save_model(model)
    run.update(status="training")
    store = feature_store(cache_dir) if cache else None
    return finish(run, model, splits, store, formats, say, verbose, budget=limit)


def _recipe(given, preset, modality, examples, epochs, changes):
    """The recipe given, or the preset's for so many examples, with what was chosen apart from it."""
    if given is None:
        # Until it is decided it is the short one, so that one pass gives the cached features of its stage as well.
        facts = {"examples": examples, "gpu": has_gpu(), "epochs": epochs}
        given = preset_recipe(modality.noun, preset=preset, long=preset == BEST, **facts)
    changes = {name: value for name, value in changes.items() if value is not None}
    recipe = dataclasses.replace(given, **changes)
    kind = modality.augmentation
    if not isinstance(recipe.augmentation, kind):
        raise RecipeError(
            f"{kind.__name__} was expected as the augmentation for {modality.task}. "
            f"Received: {recipe.augmentation!r}. Set augmentation={kind.__name__}(...) in the recipe."
        )
    return recipe


def resume(
    out: str | Path,
    *,
    data: str | Path | None = None,
    backbone: str | None = None,
    cache: bool | None = None,
    cache_dir: str | Path | None = None,
    formats: Sequence[str] | None = None,
    say: Say = print_line,
    verbose: int | str = 1,
) -> Run:
    """Go on with a run that was interrupted, or killed, at whatever it was doing.

    Training goes on from its last whole epoch, with the same data; what is done and whole is not done again.
    The result is that of a run that was never interrupted.

    Args:
        out: The run folder.
        data, backbone: Of the run; refused where it was begun with others.
        formats: What to export; `None` takes what the run was begun with. What is there and whole stays.
        cache, cache_dir: As in `train`; `None` takes what the run was begun with.
        say, verbose: As in `train`.

    Returns:
        The finished `Run`.

    Raises:
        RunError: There is no such run, it was begun with other data or another backbone, or its data has
            changed.

    Example:

        ktransfer.resume("runs/flowers")
    """
    run = Run.load(out)
    formats = run.manifest.get("formats", FORMATS) if formats is None else formats
    formats = check_formats(formats)
    given = read_arguments(run.manifest) if "reproduce" in run.manifest else {}
    require_same(given, data, backbone)
    if run.manifest["status"] == BEGINNING:
        # Not decided yet: a preset decides anew.
        how = {"recipe": run.recipe}
        if preset := run.manifest.get("preset"):
            chosen = ("seed", "class_weight", "loss", "augmentation", "quantization_aware")
            how = {"preset": preset, "epochs": run.manifest["epochs_asked"]}
            how |= {name: getattr(run.recipe, name) for name in chosen}
        again = given | {"formats": formats, "refit": run.manifest.get("refit", False)} | how
        return train(out=out, overwrite=True, say=say, verbose=verbose, **again)
    cache = given.get("cache", True) if cache is None else cache
    cache_dir = given.get("cache_dir") if cache_dir is None else cache_dir
    facts = run.manifest.get("data", {})
    keras.utils.set_random_seed(run.recipe.seed)
    splits = readable(read_splits(facts, run.recipe.seed)[0], facts, say, verbose=verbose)
    if fingerprints(splits) != facts.get("fingerprint"):
        raise RunError(
            f"The data that the run began with was expected in {facts['source']}. Received: other files. "
            "Put it back, or train a new run."
        )
    store = feature_store(cache_dir) if cache else None
    return finish(run, run.model, splits, store, formats, say, verbose)


def _require_room(out, model):
    """Say before training that the disk is too small; Keras' own writes end badly when it fills up."""
    weights = sum(math.prod(v.shape) * 4 for v in model.variables)
    # The model, a checkpoint and the next one (weights, two slots of the optimizer, best ones), artefacts.
    needed = 11 * weights
    folder = next(parent for parent in (Path(out).resolve(), *Path(out).resolve().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunError(
            f"About {needed / 2**20:.0f} MiB of free disk were expected for the run and its checkpoints. "
            f"Received: {free / 2**20:.0f} MiB in {folder}. Make room, or choose another --out."
        )
