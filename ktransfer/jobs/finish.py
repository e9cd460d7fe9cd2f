"""Everything after the backbone is loaded: the head, fine-tuning, judgement, artefacts."""

import contextlib
import dataclasses

import numpy as np

from ktransfer.cache_plan import can_cache
from ktransfer.cached_training import fine_tune_cached
from ktransfer.checkpoint import Checkpoint
from ktransfer.data.examples import Splits
from ktransfer.exporters.artefact import fingerprint
from ktransfer.feature_store import FeatureStore
from ktransfer.frozen_features import FrozenFeatures
from ktransfer.head import (
    class_weights,
    extract_features,
    head_accuracy,
    solve_head,
    standardise_features,
)
from ktransfer.jobs.evaluate import judge_parts
from ktransfer.jobs.export import export
from ktransfer.jobs.interrupts import between_batches
from ktransfer.jobs.parts import Say, dataset, progress_bar
from ktransfer.jobs.report import REPORT, write_report
from ktransfer.quantization_aware import fine_tune_quantized
from ktransfer.run import Run
from ktransfer.terminal import shortened
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
                if _checkpoint(run).is_file():  # before there is one, the run goes on from the model as it is
                    run.save_model(model)
            with contextlib.suppress(OSError):
                run.update(status="interrupted")
            raise
        run.save_model(model)
        run.update(status="fitted")
    _checkpoint(run).unlink(missing_ok=True)
    answers = None
    if run.manifest["status"] != "trained":
        answers = judge_parts(run, splits, say=say)
        run.update(status="trained")
    if missing := [name for name in formats if not _is_written(run, name)]:
        export(run, missing, validation=splits.validation, say=say)
    if answers or missing or not (run.path / REPORT).is_file():
        _report(run, splits, answers, say)
    return run


def _checkpoint(run):
    return run.path / "checkpoint.npz"


def _report(run, splits, answers, say):
    try:
        write_report(run, splits, answers or judge_parts(run, splits, say=say), say=say)
    except Exception as error:  # noqa: BLE001  whatever fails, the run is trained, exported and of use
        say(f"warning    no report ({shortened(str(error))}); make it with `ktransfer report {run.path}`")


def _is_written(run, format):
    """Whether an artefact is there as it was entered when it was proved."""
    return any(
        entry["format"] == format
        and (path := run.path / entry["path"]).exists()
        and fingerprint(path) == (entry["sha256"], entry["size_bytes"])
        for entry in run.manifest.get("artefacts", [])
    )


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
    recipe = run.recipe
    # Where nothing but the head was trained there is no checkpoint of before the quantization-aware epochs.
    if "head" not in run.manifest or (recipe.quantization_aware and not recipe.stages):
        _fit_head(run, splits, features, track, say)
    bar.stop()  # Keras draws its own
    if recipe.stages:
        _fine_tune(run, splits, features, interrupts, say, verbose)
    if recipe.quantization_aware:
        found = fine_tune_quantized(
            run.model,
            **_training_data(run, splits, passed=recipe.epochs),
            callbacks=[interrupts],
            on_trouble=_trouble(run, say),
            verbose=verbose,
        )
        say(f"quantized  {found}")
        run.update(quantization_aware=dataclasses.asdict(found))


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


def _fine_tune(run: Run, splits: Splits, features: FrozenFeatures | None, interrupts, say: Say, verbose):
    checkpoint = Checkpoint(_checkpoint(run), history=run.path / "history.csv")
    checkpoint.write_history()
    options = {"checkpoint": checkpoint, "on_trouble": _trouble(run, say), "verbose": verbose}
    if features is not None and can_cache(run.recipe):
        fine_tune_cached(
            run.model,
            features,
            baseline=run.manifest["head"].get("validation"),
            callbacks=lambda stage: [interrupts],
            **options,
        )
    else:
        fine_tune(run.model, **_training_data(run, splits), callbacks=[interrupts], **options)


def _training_data(run, splits, *, passed=0):
    """What a `fit` on the examples themselves is given, of which so many passes were made before."""
    recipe, train = run.recipe, splits.train
    weights = class_weights(train.labels, len(train.class_names), recipe.class_weight)
    return {
        "train": lambda epoch: dataset(
            train, run, training=True, augmentation=recipe.augmentation, first_pass=passed + epoch
        ),
        "validation": dataset(splits.validation, run),
        "recipe": recipe,
        "class_weight": dict(enumerate(weights)) if recipe.class_weight else None,
        "examples": len(train),
    }


def _trouble(run, say):
    def on_trouble(text):
        say(f"trouble    {text}")
        said = run.manifest.get("trouble", [])
        if text not in said:  # an epoch that is run again has the same
            run.update(trouble=[*said, text])

    return on_trouble
