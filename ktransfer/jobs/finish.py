"""Everything after the backbone is loaded: the head, fine-tuning, judgement, artefacts."""

import contextlib
import shutil

import keras

from ktransfer.cached_training import can_cache, fine_tune_cached
from ktransfer.data.examples import Examples, Splits
from ktransfer.evaluation import evaluate
from ktransfer.feature_store import FeatureStore
from ktransfer.files import write_json
from ktransfer.head import extract_features, solve_head, standardise_features
from ktransfer.jobs.export import export
from ktransfer.jobs.interrupts import between_batches
from ktransfer.jobs.parts import Say, dataset, parity_images, parts, progress_bar
from ktransfer.run import Run
from ktransfer.training import fine_tune


def finish(run: Run, model, splits: Splits, store, formats, say: Say, verbose) -> Run:
    """Train, judge and export; where it is cut off, `ktransfer.resume` begins."""
    run.model = model
    if run.manifest["status"] not in ("fitted", "trained"):
        try:
            if "head" not in run.manifest:
                _fit_head(run, splits.train, say, verbose)
            if run.recipe.stages:
                with between_batches() as interrupts:
                    _fine_tune(run, splits, store, say, verbose, interrupts)
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


def _fine_tune(run: Run, splits: Splits, store: FeatureStore | None, say: Say, verbose, interrupts):
    history, best_path = run.path / "history.csv", run.path / "checkpoint" / "best.npz"

    def callbacks(stage):
        return [
            keras.callbacks.BackupAndRestore(run.path / "checkpoint" / str(stage), double_checkpoint=True),
            keras.callbacks.CSVLogger(history, append=history.exists()),
            interrupts,
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
            best_path=best_path,
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
            best_path=best_path,
            verbose=verbose,
        )
