"""`ktransfer train`: data and a backbone to a run folder, and on with one that was interrupted."""

import contextlib
import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras

from ktransfer.backbones import load_backbone
from ktransfer.cached_training import can_cache, fine_tune_cached
from ktransfer.classifier import build_classifier
from ktransfer.data.examples import Examples, Splits
from ktransfer.errors import RunError
from ktransfer.evaluation import evaluate
from ktransfer.exporters import FORMATS
from ktransfer.feature_store import FeatureStore
from ktransfer.files import write_json
from ktransfer.freezing import find_blocks
from ktransfer.head import extract_features, solve_head, standardise_features
from ktransfer.jobs.export import export
from ktransfer.jobs.parts import (
    Say,
    dataset,
    feature_store,
    fingerprints,
    parity_images,
    parts,
    progress_bar,
    read_splits,
)
from ktransfer.recipe import Recipe, image_recipe
from ktransfer.run import Run
from ktransfer.training import fine_tune


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
    seed: int = 0,
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
        epochs: Of fine-tuning; `None` takes the recipe's. 0 keeps the solved head.
        seed: Of everything random.
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
    keras.utils.set_random_seed(seed)
    facts = {
        "source": _absolute(data),
        "validation": validation and _absolute(validation),
        "validation_fraction": validation_fraction,
        "data_dir": data_dir and _absolute(data_dir),
        "skip_corrupt": skip_corrupt,
    }
    splits = read_splits(facts, seed, verbose=verbose)
    counts = {name: len(part) for name, part in parts(splits)}
    classes = splits.train.class_names
    say(f"data       {', '.join(f'{n} {name}' for name, n in counts.items())}; {len(classes)} classes")

    if recipe is None:
        gpu = bool(keras.distribution.list_devices("gpu"))
        recipe = image_recipe(images=len(splits.train), gpu=gpu, epochs=epochs, seed=seed)
    network, preprocessing = load_backbone(
        backbone,
        image_size=image_size,
        scaling=scaling,
        load_weights=not random_weights,
        dtype=recipe.precision,
        fast_depthwise=fast_depthwise,
    )
    model = build_classifier(network, len(classes), preprocessing, dropout=recipe.dropout, seed=seed)
    resize, blocks = preprocessing.resize, find_blocks(network)
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
            "data": {**facts, "examples": counts, "fingerprint": fingerprints(splits)},
        },
        overwrite=overwrite,
    )
    run.save_model(model)
    store = feature_store(cache_dir) if cache else None
    return _finish(run, model, splits, store, formats, say, verbose)


def resume(
    out: str | Path,
    *,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    formats: Sequence[str] = FORMATS,
    say: Say = print,
    verbose: int | str = 1,
) -> Run:
    """Go on with a run that was interrupted, on the same data, from its last whole epoch.

    Args:
        out: The run folder.
        cache, cache_dir, formats, say, verbose: As in `train`.

    Returns:
        The finished `Run`.

    Raises:
        RunError: There is no such run, or its data has changed.

    Example:

        ktransfer.resume("runs/flowers")
    """
    run = Run.load(out)
    facts = run.manifest["data"]
    keras.utils.set_random_seed(run.recipe.seed)
    splits = read_splits(facts, run.recipe.seed, verbose=verbose)
    if fingerprints(splits) != facts["fingerprint"]:
        raise RunError(
            f"The data that the run began with was expected in {facts['source']}. Received: other files. "
            "Put it back, or train a new run."
        )
    store = feature_store(cache_dir) if cache else None
    return _finish(run, run.model, splits, store, formats, say, verbose)


def _finish(run: Run, model, splits: Splits, store, formats, say: Say, verbose) -> Run:
    """Everything after the backbone is loaded. Where it is cut off, `resume` begins."""
    run.model = model
    if run.manifest["status"] != "trained":
        try:
            if "head" not in run.manifest:
                _fit_head(run, splits.train, say, verbose)
            if run.recipe.stages:
                _fine_tune(run, splits, store, say, verbose)
        except BaseException:
            # Ctrl-C, a full disk, no memory: what was trained until here loads, and the run can go on.
            with contextlib.suppress(OSError):  # the disk may be what is full
                run.save_model(model)
                run.update(status="interrupted")
            raise
        run.save_model(model)
    metrics = {}
    for name, part in list(parts(splits))[1:]:
        result = evaluate(run.predict_probabilities(part.inputs), part.labels, run.labels)
        metrics[name] = result.to_dict()
        scores = f"accuracy {result.accuracy:.3f}, macro F1 {result.macro.f1:.3f}"
        say(f"{name:<11}{scores} on {result.examples} images")
    result.save_confusion(run.path / "confusion.png")
    write_json(run.path / "metrics.json", metrics)
    run.update(status="trained", metrics={name: m["accuracy"] for name, m in metrics.items()})
    if formats:
        export(run, formats, images=parity_images(splits.validation, run), say=say)
    return run


def _fit_head(run: Run, train: Examples, say: Say, verbose):
    batches = dataset(train, run)
    with progress_bar(verbose) as bar:
        tracked = bar.track(batches, total=len(batches), description="running the backbone")
        features, labels = extract_features(run.model, tracked)
    if run.recipe.head == "solve":
        found = solve_head(run.model, features, labels, seed=run.recipe.seed)
        say(f"head       solved on {len(labels)} images x {features.shape[1]} features, L2 {found['l2']:.2g}")
    else:
        standardise_features(run.model, features)
        found = {"standardised": len(labels)}
    run.save_model(run.model)
    run.update(head=found)


def _fine_tune(run: Run, splits: Splits, store: FeatureStore | None, say: Say, verbose):
    history = run.path / "history.csv"

    def callbacks(stage):
        return [
            keras.callbacks.BackupAndRestore(run.path / "checkpoint" / str(stage), double_checkpoint=True),
            keras.callbacks.CSVLogger(history, append=history.exists()),
        ]

    def on_stage_end(stage):
        run.save_model(run.model)
        run.update(stages_done=stage + 1)

    if store is not None and can_cache(run.recipe):
        fine_tune_cached(
            run.model,
            splits.train,
            splits.validation,
            run.recipe,
            resize=run.preprocessing.resize,
            store=store,
            first_stage=run.manifest.get("stages_done", 0),
            callbacks=callbacks,
            on_stage_end=on_stage_end,
            say=say,
            verbose=verbose,
        )
    else:
        fine_tune(
            run.model,
            dataset(splits.train, run, training=True, augmentation=run.recipe.augmentation),
            dataset(splits.validation, run),
            run.recipe,
            callbacks=callbacks("all"),
            verbose=verbose,
        )
    shutil.rmtree(run.path / "checkpoint", ignore_errors=True)


def _absolute(data):
    return str(data) if str(data).startswith("tfds:") else str(Path(data).expanduser().resolve())
