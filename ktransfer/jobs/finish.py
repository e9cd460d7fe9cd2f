"""Everything after the backbone is loaded: the head, fine-tuning, judgement, artefacts."""

import contextlib
import shutil

import keras
import numpy as np

from ktransfer.cache_plan import can_cache
from ktransfer.cached_training import fine_tune_cached
from ktransfer.data.examples import Splits
from ktransfer.evaluation import evaluate
from ktransfer.feature_store import FeatureStore
from ktransfer.files import write_json
from ktransfer.frozen_features import FrozenFeatures
from ktransfer.head import (
    class_weights,
    extract_features,
    head_accuracy,
    solve_head,
    standardise_features,
)
from ktransfer.jobs.export import export
from ktransfer.jobs.interrupts import between_batches
from ktransfer.jobs.parts import Say, dataset, parts, progress_bar
from ktransfer.run import Run
from ktransfer.training import fine_tune


def finish(run: Run, model, splits: Splits, store, formats, say: Say, verbose) -> Run:
    """Train, judge and export; where it is cut off, `ktransfer.resume` begins."""
    run.model = model
    if run.manifest["status"] not in ("fitted", "trained"):
        try:
            with between_batches() as interrupts, progress_bar(verbose) as bar:
                _fit(run, splits, store, say, verbose, interrupts, bar)
        except BaseException:
            # Ctrl-C, a full disk, no memory: what was trained until here loads, and the run can go on.
            with contextlib.suppress(OSError, RuntimeError):  # the disk may be what is full
                run.save_model(model)
            with contextlib.suppress(OSError):
                run.update(status="interrupted")
            raise
        run.save_model(model)
        run.update(status="fitted")
        shutil.rmtree(run.path / "checkpoint", ignore_errors=True)
    metrics = {}
    for name, part in list(parts(splits))[1:]:
        result = evaluate(run.predict_probabilities(part.inputs), part.labels, run.labels)
        metrics[name] = result.to_dict()
        scores = f"accuracy {result.accuracy:.3f}, macro F1 {result.macro.f1:.3f}"
        say(f"{name:<11}{scores} on {result.examples} {part.noun}")
    result.save_confusion(run.path / "confusion.png")
    write_json(run.path / "metrics.json", metrics)
    run.update(status="trained", metrics={name: m["accuracy"] for name, m in metrics.items()})
    if formats:
        export(run, formats, validation=splits.validation, say=say)
    return run


def _fit(run: Run, splits: Splits, store: FeatureStore | None, say: Say, verbose, interrupts, bar):
    def track(batches, total, description):
        for batch in bar.track(batches, total=total, description=description):
            interrupts.check()
            yield batch

    features = None
    if store is not None:
        features = FrozenFeatures(
            run.model,
            splits.train,
            splits.validation,
            run.recipe,
            preprocessing=run.preprocessing,
            store=store,
            track=track,
            say=say,
        )
    if "head" not in run.manifest:
        _fit_head(run, splits, features, track, say)
    if run.recipe.stages:
        bar.stop()  # Keras draws its own
        _fine_tune(run, splits, features, interrupts, verbose)


def _fit_head(run: Run, splits: Splits, features: FrozenFeatures | None, track, say: Say):
    train, validation = splits.train, splits.validation
    if features is None:
        order = run.preprocessing.order(train.inputs)
        batches = dataset(train.subset(order), run, keep=False)
        pooled, _ = extract_features(run.model, track(batches, len(batches), "running the backbone"))
        pooled = pooled[np.argsort(order)]
    else:
        pooled = features.pooled()
    recipe = run.recipe
    if recipe.head == "solve":
        found = solve_head(
            run.model,
            pooled,
            train.labels,
            class_weight=recipe.class_weight,
            label_smoothing=recipe.label_smoothing,
            seed=recipe.seed,
        )
        shape = f"{len(pooled)} {train.noun} x {pooled.shape[1]} features"
        line = f"head       solved on {shape}, L2 {found['l2']:.2g}"
        if features is not None:
            found["validation"] = head_accuracy(run.model, features.pooled("validation"), validation.labels)
            line += f"; validation accuracy {found['validation']:.3f}"
        say(line)
    else:
        standardise_features(run.model, pooled)
        found = {"standardised": len(pooled)}
    run.save_model(run.model)
    run.update(head=found)


def _fine_tune(run: Run, splits: Splits, features: FrozenFeatures | None, interrupts, verbose):
    history, best_path = run.path / "history.csv", run.path / "checkpoint" / "best.npz"

    def callbacks(stage):
        return [
            keras.callbacks.BackupAndRestore(run.path / "checkpoint" / str(stage), double_checkpoint=True),
            keras.callbacks.CSVLogger(history, append=history.exists()),
            interrupts,
        ]

    def on_stage_end(stage):
        if stage + 1 < len(run.recipe.stages):  # what follows the last one saves it
            run.save_model(run.model)
            run.update(stages_done=stage + 1)

    if features is not None and can_cache(run.recipe):
        done = run.manifest.get("stages_done", 0)
        fine_tune_cached(
            run.model,
            features,
            first_stage=done,
            baseline=None if done else run.manifest["head"].get("validation"),
            callbacks=callbacks,
            on_stage_end=on_stage_end,
            best_path=best_path,
            verbose=verbose,
        )
    else:
        recipe, train = run.recipe, splits.train
        weights = class_weights(train.labels, len(train.class_names), recipe.class_weight)
        fine_tune(
            run.model,
            dataset(train, run, training=True, augmentation=recipe.augmentation),
            dataset(splits.validation, run),
            recipe,
            class_weight=dict(enumerate(weights)) if recipe.class_weight else None,
            callbacks=callbacks("all"),
            best_path=best_path,
            verbose=verbose,
        )
