"""`ktransfer train`: data and a backbone to a run folder, and on with one that was interrupted."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from ktransfer.commands.audit import audit_before_training
from ktransfer.commands.checks import check_client, refuse_others
from ktransfer.commands.fit import finish
from ktransfer.commands.splits import (
    Say,
    feature_store,
    fingerprints,
    hint_at_classes,
    named_splits,
    read_splits,
    readable,
)
from ktransfer.commands.train_options import TrainOptions
from ktransfer.core.task import SINGLE_LABEL
from ktransfer.data.modality import find_modality
from ktransfer.distillation.teachers import Distillation
from ktransfer.errors import RecipeError, RunError
from ktransfer.exporting.export_model import FORMATS, check_formats
from ktransfer.exporting.registry import get_format
from ktransfer.models.adapters import plan_adapters
from ktransfer.models.blocks import find_blocks
from ktransfer.models.freezing import resolve_depth
from ktransfer.models.locate import find_backbone
from ktransfer.recipes.default_recipes import BALANCED, BEST, preset_recipe, with_adapter
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
from ktransfer.runs.run import GROUPS, Run
from ktransfer.training.distribution import current, require_batch, require_same_everywhere
from ktransfer.utils.files import write_json, write_text
from ktransfer.utils.machine import has_gpu
from ktransfer.utils.terminal import print_line

if TYPE_CHECKING:
    from ktransfer.core.modality import Modality
    from ktransfer.core.typing import PathLike
    from ktransfer.data.examples import Splits
    from ktransfer.models.network import Network


ReadExamples = tuple["Splits", dict[str, Any], dict[str, str]]

_FEW = 2_000
BEGINNING = "beginning"  # the status of a run whose model is not written yet


def train(
    data: str | Path,
    backbone: str,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    options: TrainOptions | None = None,
    formats: Sequence[str] = FORMATS,
    overwrite: bool = False,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    say: Say = print_line,
    verbose: int | str = 1,
    **changes: Any,
) -> Run:
    """Train a classifier on labeled images or texts, evaluate it, export it, and keep all in a run folder.

    Args:
        data: Images: a folder of class folders, one that holds `train/` (and `val/`, `test/`), or a table that names
            files. Texts: a table (CSV, TSV, JSON, JSON lines, Parquet), or folders of `.txt` files. Either: a folder
            with `train.csv` and so on, or `tfds:NAME`.
        backbone: As in `load_backbone`, or for texts as in `load_text_backbone`.
        out: The run folder to make.
        recipe: How to train. Defaults to `None`, that of the preset.
        options: `TrainOptions`. Defaults to `None`, those by default.
        formats: What to export, of `FORMATS`. Defaults to all in float32.
        overwrite: Replace a run that lies at `out`. Defaults to `False`.
        cache: Run the frozen part of the backbone once and cache its features, where the recipe allows it.
            Defaults to `True`.
        cache_dir: Where to keep it. Defaults to `None`, which takes `KTRANSFER_CACHE` or `~/.cache/ktransfer`.
        callbacks: Further ones of Keras for fine-tuning, of which each stage may be a `fit` of its own. Defaults to
            none.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.
        verbose: Of Keras' progress, as in `keras.Model.fit`. Defaults to 1.
        **changes: Fields of `TrainOptions`, in place of those of `options`: `image_size=160`, `preset="fast"`, ...

    Returns:
        The `Run`.

    Raises:
        KTransferError: The data, the backbone, the recipe or the folder will not do; the message says how
            to fix it. What was trained until then is in the run folder.
        TypeError: There is no such option.

    Example:

        run = ktransfer.train("flowers", "resnet_50_imagenet", "runs/flowers", image_size=160)
        run = ktransfer.train("reviews.csv", "bert_tiny_en_uncased", "runs/reviews")
    """
    return train_on(
        None,
        data,
        backbone,
        out,
        recipe=recipe,
        options=TrainOptions.of(options, changes),
        formats=formats,
        overwrite=overwrite,
        cache=cache,
        cache_dir=cache_dir,
        callbacks=callbacks,
        say=say,
        verbose=verbose,
    )


def train_on(
    read: ReadExamples | None,
    data: str | Path,
    backbone: str,
    out: str | Path,
    *,
    recipe: Recipe | None,
    options: TrainOptions,
    formats: Sequence[str],
    overwrite: bool = False,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    report: bool = True,
    distillation: Distillation | None = None,
    network: Network | None = None,
    facts: Mapping[str, Any] | None = None,
    reproduce: Mapping[str, Any] | None = None,
    say: Say = print_line,
    verbose: int | str = 1,
) -> Run:
    """`train` on examples that were read and audited before, for several runs on the same.

    Args:
        read: From `read_examples` with the same options; `None` reads and audits them.
        data, backbone, out, recipe, options, formats, overwrite, cache, cache_dir, callbacks, say, verbose: As in
            `train`.
        report: Whether `report.html` is written. Defaults to `True`.
        distillation: The teachers. Defaults to `None`, the labels alone.
        network: The network to train in place of one on `backbone`, whose name is then that in the manifest.
            Defaults to `None`.
        facts: More fields of the manifest. Defaults to none.
        reproduce: Fields of the manifest's `reproduce`, such as the `command` that does the same again. Defaults to
            `None`, that of `ktransfer train`.

    Returns:
        The `Run`.

    Raises:
        KTransferError: As in `train`.

    Example:

        train_on(None, "flowers", "resnet_50_imagenet", "runs/a", recipe=None, options=TrainOptions(), formats=())
    """
    formats = check_formats(formats)
    given = arguments(
        {"data": data, "backbone": backbone, "cache": cache, "cache_dir": cache_dir, "formats": formats}
        | vars(options)
    )
    Run.check_free(out, overwrite=overwrite)
    options.check_recipe(recipe)
    clock = _Clock(options.budget, formats)
    preset = options.preset or BALANCED
    modality = find_modality(data, data_dir=options.data_dir)
    refuse_others(options.reading(), modality, data)
    # Refuses what cannot be before anything is read.
    asked = _recipe(recipe, preset, modality, 2, options)
    if asked.adapter is None and (apart := [name for name in formats if get_format(name).family.adapters]):
        raise RecipeError(
            f"Expected an adapter in a run whose formats have it apart, {apart[0]}, got none. Pass --adapter lora, or "
            "other formats."
        )
    splits, data_facts, groups = read or read_examples(data, modality, options, asked.seed, say)
    data_facts = dict(data_facts)
    refit = options.refit
    if refit is None:
        refit = (
            preset == BEST
            and options.budget is None
            and splits.held_out
            and len(splits.train) < _FEW
            and not options.quantization_aware
        )
    chosen_by_preset = recipe is None
    recipe = _recipe(recipe, preset, modality, len(splits.train), options, task=splits.train.task.name)
    recipe = splits.train.task.adapted(recipe)
    splits.train.task.check_recipe(recipe)
    check_client(options.client, splits.train.task)
    keras.utils.set_random_seed(recipe.seed)
    network = network or modality.network(
        backbone,
        splits.train,
        recipe,
        random_weights=options.random_weights,
        fast_depthwise=options.fast_depthwise,
        **options.reading(),
    )
    model, inner = network.model, find_backbone(network.model)
    blocks = find_blocks(inner)
    depth = max((resolve_depth(stage.depth, blocks) for stage in recipe.stages), default=0)
    if recipe.adapter is not None:
        plan_adapters(blocks, depth, recipe.adapter)
    limit = clock.limit(model)
    _require_room(out, model)
    if read is None:
        splits = audited(splits, data_facts, options, say, verbose=verbose)
    classes, counts = splits.train.class_names, {name: len(split) for name, split in named_splits(splits)}
    shown = ", ".join(f"{count} {name}" for name, count in counts.items())
    say(f"data       {shown}; {len(classes)} {splits.train.task.label_noun}")
    for line in splits.train.task.hints(splits.train.labels):
        say(f"hint       {line}")
    hint_at_classes(splits, recipe, say)
    size = f"{inner.count_params():,} parameters in {len(blocks)} blocks"
    say(f"backbone   {inner.name}, {size}; {network.size}")
    data_prints = fingerprints(splits)
    _require_same_everywhere(recipe, data_prints, network.facts, inner)
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
                "random_weights": options.random_weights,
                **network.facts,
            },
            "recipe": dataclasses.asdict(recipe),
            **({"preset": preset, "epochs_asked": options.epochs} if chosen_by_preset else {}),
            **({"refit": True} if refit else {}),
            **({"budget_seconds": clock.seconds} if clock.seconds is not None else {}),
            "formats": list(formats),
            "data": {**data_facts, "examples": counts, "fingerprint": data_prints},
            **({} if distillation is None else {"distillation": distillation.to_dict()}),
            **(facts or {}),
            # No option is a function.
            "reproduce": {
                "command": None if options.group_by else command(given, Path(absolute(out))),
                "arguments": given,
                **(reproduce or {}),
            },
            "machine": machine(),
        },
        overwrite=overwrite,
    )
    run.preprocessing = network.preprocessing
    write_text(run.path / RECIPE, recipe.to_json() + "\n")
    if groups:
        write_json(run.path / GROUPS, groups)
    modality.save_preprocessing(network.preprocessing, run)
    run.save_model(model)
    run.update(status="training")
    store = feature_store(cache_dir) if cache else None
    return finish(
        run,
        model,
        splits,
        store,
        formats,
        say,
        verbose,
        budget=limit,
        callbacks=callbacks,
        report=report,
        distillation=distillation,
    )


def _require_same_everywhere(
    recipe: Recipe, data: dict[str, str], facts: dict[str, Any], backbone: keras.Model
) -> None:
    """Compare what processes train with; one is enough to have nothing to compare."""
    distribution = current()
    if distribution is None:
        return
    require_batch(recipe.batch_size, distribution.count)
    require_same_everywhere(
        {
            "recipe": recipe.to_json(),
            "versions": json.dumps({name: importlib.metadata.version(name) for name in _COMPARED}),
            "backbone": json.dumps([backbone.name, backbone.count_params(), str(facts)]),
            **{f"{name} data": digest for name, digest in data.items()},
        }
    )


_COMPARED = ("ktransfer", "keras", "keras-hub", "jax", "numpy")


class _Clock:
    """The time budget of training, counted from the start of the command."""

    def __init__(self, budget: str | float | None, formats: Sequence[str]) -> None:
        self.seconds = None if budget is None else parse_duration(budget)
        self._formats, self._clock = formats, time.monotonic
        if self.seconds is not None:
            TimeBudget(self.seconds, formats=len(formats))  # refuses what is too short for any backbone
            self._begun = self._clock()

    def limit(self, model: keras.Model) -> TimeBudget | None:
        """Seconds left for a model; `None` without a budget."""
        if self.seconds is None:
            return None
        left = self.seconds - (self._clock() - self._begun)
        return TimeBudget(left, formats=len(self._formats), weights=model.count_params())


def audited(
    splits: Splits, facts: dict[str, Any], options: TrainOptions, say: Say, *, verbose: int | str = 0
) -> Splits:
    """The splits after the audit before training, without what cannot be read where that may be left out."""
    found = audit_before_training(
        splits, facts["source"], allow_leakage=options.allow_leakage, say=say, verbose=verbose
    )
    return readable(splits, facts, say, verbose=verbose) if found.of("unreadable") else splits


def read_examples(
    data: PathLike, modality: Modality, options: TrainOptions, seed: int, say: Say
) -> ReadExamples:
    """The splits, the manifest's `data`, and the groups of the examples by name if a function gives them."""
    reading, group_by = options.reading(), options.group_by
    facts = {
        "source": absolute(data),
        "validation": options.validation and absolute(options.validation),
        "validation_fraction": options.validation_fraction,
        "data_dir": options.data_dir and absolute(options.data_dir),
        "exclude": options.exclude and absolute(options.exclude),
        **{name: reading.get(name) for name in (*modality.facts, *modality.columns)},
    }
    if options.test_fraction is not None:
        facts["test_fraction"] = options.test_fraction
    if not options.evaluate_test:
        facts["evaluate_test"] = False
    if options.target_transform is not None:
        facts["target_transform"] = options.target_transform
    groups: dict[str, str] = {}

    def recorded(name: str) -> str:
        groups[name] = group_by(name) if group_by else ""
        return groups[name]

    splits, columns = read_splits(facts | ({"group_by": recorded} if group_by else {}), seed)
    check_client(options.client, splits.train.task)
    if (target := splits.train.task.facts()) is not None:
        facts["target"] = target
    if group_by:
        facts["grouped"] = True
    for note in splits.notes:
        say(f"note       {note}")
    if columns is not None:
        facts |= columns.facts()
        say(f"columns    {columns.line()}")
    return splits, facts, groups


def _recipe(
    given: Recipe | None,
    preset: str,
    modality: Modality,
    examples: int,
    options: TrainOptions,
    *,
    task: str = SINGLE_LABEL,
) -> Recipe:
    """The recipe given, or the preset's for so many examples, with what was chosen apart from it."""
    if given is None:
        # Until it is decided it is the short one, so that one pass gives the cached features of its stage as well.
        given = preset_recipe(
            modality.noun,
            examples=examples,
            preset=preset,
            long=preset == BEST,
            gpu=has_gpu(),
            epochs=options.epochs,
            task=task,
        )
        given = with_adapter(given, options.adapter)
    recipe = dataclasses.replace(given, **options.changes())
    kind = modality.augmentation
    if not isinstance(recipe.augmentation, kind):
        raise RecipeError(
            f"Expected {kind.__name__} as the augmentation for {modality.task}, got {recipe.augmentation!r}. "
            f"Set augmentation={kind.__name__}(...) in the recipe."
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
    """Resume a run that was interrupted or killed, at any step.

    Training resumes after its last whole epoch, with the same data; what is done and whole is not done again.
    The result is that of a run that was never interrupted.

    Args:
        out: The run folder.
        data: Of the run; refused where it was begun with other data. Defaults to `None`, the run's.
        backbone: Of the run; refused where it was begun with another one. Defaults to `None`, the run's.
        formats: What to export; `None` takes what the run was begun with. What is there and whole stays.
        cache: As in `train`. Defaults to `None`, what the run was begun with.
        cache_dir: As in `train`. Defaults to `None`, what the run was begun with.
        say: As in `train`.
        verbose: As in `train`.

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
    if run.manifest["status"] == BEGINNING and "distillation" in run.manifest:
        raise RunError(
            f"Expected a run whose model was written, got {run.path}, which stopped before. Repeat the command that "
            "began it; nothing is lost."
        )
    if run.manifest["status"] == BEGINNING:
        # Not decided yet: a preset decides anew.
        how: dict[str, Any] = {"recipe": run.recipe}
        if preset := run.manifest.get("preset"):
            chosen = (
                "batch_size",
                "seed",
                "class_weight",
                "loss",
                "augmentation",
                "quantization_aware",
                "adapter",
            )
            how = {"preset": preset, "epochs": run.manifest["epochs_asked"]}
            how |= {name: getattr(run.recipe, name) for name in chosen}
        how |= {"group_by": run.data.get("group_by")}
        again = given | {"formats": formats, "refit": run.manifest.get("refit", False)} | how
        return train(out=out, overwrite=True, say=say, verbose=verbose, **again)
    cache = given.get("cache", True) if cache is None else cache
    cache_dir = given.get("cache_dir") if cache_dir is None else cache_dir
    facts = run.data
    keras.utils.set_random_seed(run.recipe.seed)
    splits = readable(read_splits(facts, run.recipe.seed)[0], facts, say, verbose=verbose)
    if fingerprints(splits) != facts.get("fingerprint"):
        raise RunError(
            f"Expected the data that the run began with in {facts['source']}, got other files. Put it back, "
            "or train a new run."
        )
    store = feature_store(cache_dir) if cache else None
    taught = run.manifest.get("distillation")
    distillation = None if taught is None else Distillation.from_dict(taught)
    return finish(run, run.model, splits, store, formats, say, verbose, distillation=distillation)


def _require_room(out: PathLike, model: keras.Model) -> None:
    """Raise before training if the disk is too small, since a full disk breaks Keras' own writes."""
    weights = sum(math.prod(v.shape) * 4 for v in model.variables)
    # The model, a checkpoint and the next one (weights, two slots of the optimizer, best ones), artifacts.
    needed = 11 * weights
    folder = next(parent for parent in (Path(out).resolve(), *Path(out).resolve().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunError(
            f"Expected about {needed / 2**20:.0f} MiB of free disk for the run and its checkpoints, got "
            f"{free / 2**20:.0f} MiB in {folder}. Make room, or choose another --out."
        )
