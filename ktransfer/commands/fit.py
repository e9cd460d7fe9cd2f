"""Train once the backbone is loaded: head, fine-tuning, evaluation, export."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.commands.evaluate import evaluate_splits
from ktransfer.commands.export import export
from ktransfer.commands.report import REPORT, write_report
from ktransfer.commands.splits import Say, dataset, named_splits, progress_bar
from ktransfer.data.examples import Splits
from ktransfer.errors import RecipeError
from ktransfer.exporting.artifact import fingerprint
from ktransfer.exporting.options import ExportOptions
from ktransfer.exporting.registry import get_format
from ktransfer.features.cached_features import FrozenFeatures, row_features
from ktransfer.features.plan import can_cache
from ktransfer.features.store import FeatureStore
from ktransfer.models.adapters import (
    FILE,
    Adapters,
    merge_share,
    plan_adapters,
    take_adapters,
    write_adapters,
)
from ktransfer.models.blocks import find_blocks
from ktransfer.models.freezing import resolve_depth
from ktransfer.models.heads import Head
from ktransfer.models.locate import find_backbone
from ktransfer.models.predict import predict_in_batches
from ktransfer.quantization.qat import fine_tune_quantized
from ktransfer.recipes.default_recipes import (
    BALANCED,
    BEST,
    head_is_weak,
    preset_recipe,
    what_trains,
    with_adapter,
    worth_fine_tuning,
)
from ktransfer.recipes.recipe import Recipe
from ktransfer.recipes.time_budget import TimeBudget
from ktransfer.runs.provenance import RECIPE
from ktransfer.runs.run import Run
from ktransfer.training.candidates import (
    Candidate,
    assign_between,
    choose_weights,
    load_weights,
    read_weights,
    save_weights,
)
from ktransfer.training.checkpoint import Checkpoint
from ktransfer.training.distribution import is_first
from ktransfer.training.end_in_time import EndInTime
from ktransfer.training.evidence import measure_evidence
from ktransfer.training.fine_tune import fine_tune
from ktransfer.training.fine_tune_cached import fine_tune_cached
from ktransfer.training.interrupts import between_batches
from ktransfer.training.linear_probe import class_weights, head_score, solve_rows, standardise_features
from ktransfer.training.soft_targets import hard_labels
from ktransfer.utils.files import write_text
from ktransfer.utils.machine import has_gpu
from ktransfer.utils.terminal import shortened

if TYPE_CHECKING:
    from rich.progress import Progress

    from ktransfer.core.typing import Array
    from ktransfer.data.examples import Examples
    from ktransfer.distillation.teachers import Distillation
    from ktransfer.evaluation.metrics import Answers
    from ktransfer.features.extract import Track
    from ktransfer.training.interrupts import Interrupts


def finish(
    run: Run,
    model: keras.Model,
    splits: Splits,
    store: FeatureStore | None,
    formats: Sequence[str],
    say: Say,
    verbose: int | str,
    *,
    budget: TimeBudget | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    report: bool = True,
    distillation: Distillation | None = None,
) -> Run:
    """Train, evaluate and export; `ktransfer.resume` continues an interrupted run."""
    run.model = model
    if run.manifest["status"] not in ("fitted", "trained"):
        try:
            with between_batches() as interrupts, progress_bar(verbose) as bar:
                _fit(run, splits, store, say, verbose, interrupts, bar, budget, callbacks, distillation)
            _choose_biases(run, splits, say)
        except BaseException:
            # Ctrl-C, a full disk, no memory: what was trained until here loads, and the run can go on.
            with contextlib.suppress(OSError, RuntimeError):  # the disk may be what is full
                if _checkpoint(
                    run
                ).is_file():  # before there is one, training resumes from the model as it is
                    run.save_model(model)
            with contextlib.suppress(OSError):
                run.update(status="interrupted")
            raise
        run.save_model(model)
        run.update(status="fitted")
    _checkpoint(run).unlink(missing_ok=True)
    answers = None
    if run.manifest["status"] != "trained":
        answers = evaluate_splits(run, splits, say=say)
        if run.manifest.get("refit"):
            with between_batches() as interrupts, progress_bar(verbose) as bar:
                _refit(run, splits, store, say, verbose, interrupts, bar, distillation)
            _shift_biases(run, run.manifest.get("biases"))
            run.save_model(model)
        run.update(status="trained")
    for path in (_solved, _tuned, _zero_head_checkpoint, _refit_checkpoint, _refit_zero_head):
        path(run).unlink(missing_ok=True)
    if missing := [name for name in formats if not _is_written(run, name)]:
        client = run.manifest["reproduce"]["arguments"].get("client")
        of_client = client if any("client" in get_format(name).family.options for name in missing) else None
        options = ExportOptions(client=of_client)
        export(run, missing, validation=splits.validation, options=options, say=say)
    if report and is_first() and (answers or missing or not (run.path / REPORT).is_file()):
        _report(run, splits, answers, say)
    return run


def _checkpoint(run: Run) -> Path:
    return run.path / "checkpoint.npz"


def _refit_checkpoint(run: Run) -> Path:
    return run.path / "refit.npz"


def _refit_zero_head(run: Run) -> Path:
    return run.path / "refit_zero_head.npz"


def _solved(run: Run) -> Path:
    """The weights that fine-tuning starts from, until it is decided which are kept."""
    return run.path / "solved.npz"


def _tuned(run: Run) -> Path:
    """The weights that fine-tuning from the solved head ended with, while a second arm trains."""
    return run.path / "tuned.npz"


def _zero_head_checkpoint(run: Run) -> Path:
    return run.path / "zero_head.npz"


def _report(run: Run, splits: Splits, answers: dict[str, Answers] | None, say: Say) -> None:
    try:
        write_report(run, splits, answers or evaluate_splits(run, splits, say=say), say=say)
    except Exception as error:  # noqa: BLE001  a report that fails must not fail the run, which is trained and exported
        say(f"warning    no report ({shortened(str(error))}); make it with `ktransfer report {run.path}`")


def _is_written(run: Run, format: str) -> bool:
    """Whether an artifact is there as it was entered when it was proved."""
    return any(
        entry["format"] == format
        and (path := run.path / entry["path"]).exists()
        and fingerprint(path) == (entry["sha256"], entry["size_bytes"])
        for entry in run.manifest.get("artifacts", [])
    )


def _tracked(bar: Progress, interrupts: Interrupts) -> Track:
    def track(batches: Iterable[Any], total: int, description: str) -> Iterator[Any]:
        for batch in bar.track(batches, total=total, description=description):
            interrupts.check()
            yield batch

    return track


def _pieces(run: Run, splits: Splits) -> Splits:
    """The splits as a model is trained on them."""
    cut: dict[str, Any] = {
        name: run.preprocessing.pieces(split) for name, split in named_splits(splits) if name != "test"
    }
    return dataclasses.replace(splits, **cut)


def _fit(
    run: Run,
    splits: Splits,
    store: FeatureStore | None,
    say: Say,
    verbose: int | str,
    interrupts: Interrupts,
    bar: Progress,
    budget: TimeBudget | None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    distillation: Distillation | None = None,
) -> None:
    track = _tracked(bar, interrupts)
    whole, splits = splits, _pieces(run, splits)
    for name, split in named_splits(splits):
        if len(split) > len(before := getattr(whole, name)):
            length = run.preprocessing.sequence_length
            say(
                f"windows    {name}: {len(before)} {split.noun} are trained on as {len(split)} pieces of up to "
                f"{length} tokens; nothing is cut off"
            )

    labelled = splits
    if distillation is not None:
        splits = distillation.soften(splits, store, track)

    def frozen_features(**options: Any) -> FrozenFeatures | None:
        if store is None:
            return None
        return FrozenFeatures(
            run.model,
            splits.train,
            splits.require_validation(),
            run.recipe,
            preprocessing=run.preprocessing,
            store=store,
            track=track,
            **options,
        )

    recipe, undecided = run.recipe, _is_undecided(run)
    if undecided:
        features = frozen_features(taps=len(splits.train) <= _TAPPED, say=lambda line: None)
    else:
        features = frozen_features(say=say)
    # Where nothing but the head was trained there is no checkpoint of before the quantization-aware epochs.
    if recipe.quantization_aware and not recipe.stages and _solved(run).is_file():
        _assign_all(*read_weights(_solved(run), run.model))
    if "head" not in run.manifest or undecided:
        pooled, taps = _fit_head(run, splits, features, track, say, taps=undecided)
        if undecided:
            count = len(run.preprocessing.row_labels(labelled.train))  # those without labels follow
            _decide(run, labelled.train, pooled[:count], None if taps is None else taps[:count], say)
            recipe, features = run.recipe, frozen_features(say=say)
        if budget is not None and recipe.stages:
            _shorten(run, splits, features, budget, say)
            recipe, features = run.recipe, frozen_features(say=say)
    bar.stop()  # Keras draws its own
    if recipe.stages:
        wanted = recipe.final_weights == "interpolated" or run.manifest.get("refit")
        if wanted and not _solved(run).is_file():
            save_weights(_solved(run), run.model)
        ends = [interrupts] if budget is None else [interrupts, EndInTime(budget, say)]
        watching, zero_head, adapters, start = [*ends, *callbacks], None, None, time.perf_counter()
        if not _tuned(run).is_file():  # else this continues in the second arm
            adapters = _fine_tune(run, splits, features, watching, say, verbose)
        if _has_second_arm(run):
            taken = time.perf_counter() - start
            zero_head = _second_arm(run, splits, features, watching, say, verbose, budget, taken)
        share = 1.0
        if recipe.final_weights == "interpolated":
            share = _choose_weights(run, labelled, zero_head, say)
        _keep_adapters(run, adapters, share, say)
    if recipe.quantization_aware:
        if not recipe.stages and not _solved(run).is_file():
            save_weights(_solved(run), run.model)
        found = fine_tune_quantized(
            run.model,
            **_training_data(run, splits, passed=recipe.epochs),
            task=splits.train.task,
            callbacks=[interrupts],
            on_trouble=_trouble(run, say),
            verbose=verbose,
        )
        say(f"quantized  {found}")
        run.update(quantization_aware=dataclasses.asdict(found))


def _solve_head(run: Run, pooled: Array, train: Examples) -> dict[str, Any]:
    recipe = run.recipe
    return solve_rows(
        run.model,
        pooled,
        run.preprocessing.row_labels(train),
        class_weight=recipe.class_weight,
        label_smoothing=recipe.label_smoothing,
        task=train.task,
        seed=recipe.seed,
    )


def _choose_biases(run: Run, splits: Splits, say: Say) -> None:
    """Shift the head's biases where that makes the answers to the validation examples better, and enter it in the run.

    In the weights, so that every artifact answers so.
    """
    if not run.task.per_token:
        return
    validation = splits.require_validation()
    found = run.task.better_biases(run.predict_probabilities(validation.inputs), validation.labels)
    run.update(biases=None if found is None else found[0].tolist())
    if found is not None:
        say(f"biases     {found[1]} on validation")
        _shift_biases(run, found[0])


def _shift_biases(run: Run, biases: Sequence[float] | Array | None) -> None:
    if biases is not None:
        bias = Head.of(run.model).logits.bias
        bias.assign(keras.ops.convert_to_numpy(bias) + np.asarray(biases, "float32"))


def _refit(
    run: Run,
    splits: Splits,
    store: FeatureStore | None,
    say: Say,
    verbose: int | str,
    interrupts: Interrupts,
    bar: Progress,
    distillation: Distillation | None = None,
) -> None:
    """Train once more, from the pretrained backbone, on training and validation examples together.

    Depth, epochs and what is averaged (the share of the way to the last epoch, the part of a second arm) are those that
    were chosen on validation.
    """
    model, recipe = run.model, run.recipe
    share, zeros = _kept_share(run), run.manifest.get("decision", {}).get("zero_head", 0.0)
    splits = _pieces(run, splits)
    if distillation is not None:
        splits = distillation.soften(splits, store, _tracked(bar, interrupts))
    validation = splits.require_validation()
    whole = dataclasses.replace(splits, train=splits.train.joined(validation))
    say(
        f"refit      on {len(whole.train)} {whole.train.noun}, training and validation; the metrics are an estimate"
    )
    if _solved(run).is_file():
        _assign_all(*load_weights(_solved(run), model))
    stages = recipe.stages if share or zeros else ()
    recipe = dataclasses.replace(recipe, stages=stages, final_weights="interpolated")
    features, track = None, _tracked(bar, interrupts)
    if store is not None:
        features = FrozenFeatures(
            model,
            whole.train,
            validation,
            recipe,
            preprocessing=run.preprocessing,
            store=store,
            track=track,
            say=lambda line: None,
        )
    if recipe.head == "solve":
        _solve_head(run, _pooled(run, whole.train, features, track)[0], whole.train)
    bar.stop()
    if not recipe.stages:
        return
    variables = model.weights
    solved, adapters = _values(variables), None
    arm: dict[str, Any] = {"recipe": recipe}
    given = run, whole, features, [interrupts], say, verbose
    if share and zeros < 1:
        adapters = _fine_tune(*given, checkpoint=Checkpoint(_refit_checkpoint(run)), **arm)
        assign_between(variables, solved, share)
    if zeros:
        on_the_way = _values(variables)
        _assign_all(variables, solved)
        _fine_tune_from_zero_head(*given, checkpoint=Checkpoint(_refit_zero_head(run)), **arm)
        assign_between(variables, on_the_way, zeros)
    _keep_adapters(run, adapters, share, say)


def _kept_share(run: Run) -> float:
    """The position of the kept weights between the solved head (0) and the last epoch (1)."""
    decision = run.manifest.get("decision", {})
    if "chosen" in decision:
        return decision["chosen"]
    # Of the best epoch, or the solved head where none beat it.
    return float(_solved(run).is_file() and bool(load_weights(_solved(run), run.model)[0]))


# Of more examples the outputs of all blocks are not kept: there are enough to fine-tune everything.
_TAPPED = 10_000


def _is_undecided(run: Run) -> bool:
    asked = run.manifest.get("preset") in (BALANCED, BEST)
    return asked and "decision" not in run.manifest and bool(run.recipe.stages)


def _decide(run: Run, train: Examples, pooled: Array, taps: Array | None, say: Say) -> None:
    """Choose how much to fine-tune by evidence from the frozen features, and record that in the run."""
    recipe = run.recipe
    evidence = measure_evidence(
        pooled,
        run.preprocessing.row_labels(train),
        taps,
        class_weight=recipe.class_weight,
        # Not smoothed: a smoothed head is never sure, so its log loss says less of what is left to gain.
        task=train.task.row_task,
        seed=recipe.seed,
        classes=len(run.outputs),
    ).to_dict()
    preset = run.manifest["preset"]
    long, reason = worth_fine_tuning(evidence, run.task.loss_title)
    if preset == BEST:
        long, reason = True, "the preset best fine-tunes for long whatever the evidence"
    facts = {"examples": len(train), "gpu": has_gpu(), "epochs": run.manifest["epochs_asked"]}
    facts |= {"weak": head_is_weak(evidence)}
    decided = preset_recipe(train.modality.noun, preset=preset, long=long, task=train.task.name, **facts)
    decided = with_adapter(decided, recipe.adapter)
    recipe = dataclasses.replace(recipe, stages=decided.stages, final_weights=decided.final_weights)
    reason += f"; {what_trains(recipe)}"
    say(f"decision   {reason}")
    write_text(run.path / RECIPE, recipe.to_json() + "\n")
    run.update(
        recipe=dataclasses.asdict(recipe), decision={"evidence": evidence, "long": long, "reason": reason}
    )


def _shorten(run: Run, splits: Splits, features: FrozenFeatures | None, budget: TimeBudget, say: Say) -> None:
    """Train as many epochs as the budget has time for."""
    train, recipe = splits.train, run.recipe
    batch = next(iter(dataset(train.subset(range(min(len(train), recipe.batch_size))), run, keep=False)))[0]
    taken = []
    for _ in range(3):  # the first compiles
        start = time.perf_counter()
        for _ in predict_in_batches(run.model, [batch]):
            taken.append(time.perf_counter() - start)
    seconds = min(taken) / len(keras.tree.flatten(batch)[0])
    speedup = 1.0 if features is None else features.speedup(0)
    shorter = budget.fit_epochs(recipe, example_seconds=seconds, examples=len(train), speedup=speedup)
    left = f"{budget.left():.0f} s for training"
    if shorter.epochs < recipe.epochs:
        say(f"budget     {left}: {shorter.epochs or 'no'} epochs of {recipe.epochs}")
    else:
        say(f"budget     {left}: all {recipe.epochs} epochs")
    write_text(run.path / RECIPE, shorter.to_json() + "\n")
    run.update(recipe=dataclasses.asdict(shorter))


def _has_second_arm(run: Run) -> bool:
    """Whether the backbone is fine-tuned a second time, from a head of zeros.

    That is plain full fine-tuning. Adapters have none: those of two arms have no average.
    """
    recipe = run.recipe
    return (
        run.manifest.get("preset") == BEST
        and recipe.final_weights == "interpolated"
        and recipe.head == "solve"
        and recipe.adapter is None
    )


def _second_arm(
    run: Run,
    splits: Splits,
    features: FrozenFeatures | None,
    callbacks: Sequence[keras.callbacks.Callback],
    say: Say,
    verbose: int | str,
    budget: TimeBudget | None,
    taken: float,
) -> list[Array] | None:
    """Fine-tune from a zero head; the values of all weights after it. The model has again those from before.

    `None` where the budget has no time for it; `taken` are the seconds of the first arm.
    """
    model, path = run.model, _tuned(run)
    if not path.is_file():
        save_weights(path, model)
    if budget is not None and budget.left() < taken:
        say(f"weights    {budget.left():.0f} s are left: too few to fine-tune from a zero head as well")
        return None
    say("weights    fine-tuning from a head of zeros as well")
    _assign_all(*read_weights(_solved(run), model))
    checkpoint = Checkpoint(_zero_head_checkpoint(run))
    _fine_tune_from_zero_head(run, splits, features, callbacks, say, verbose, checkpoint=checkpoint)
    variables, tuned = read_weights(path, model)
    zero_head = _values(variables)
    _assign_all(variables, tuned)
    return zero_head


def _fine_tune_from_zero_head(run: Run, *given: Any, **options: Any) -> None:
    """`_fine_tune` of the model with its backbone as it is and a head of zeros."""
    for variable in Head.of(run.model).logits.weights:
        variable.assign(np.zeros(variable.shape))
    _fine_tune(run, *given, **options)


def _values(variables: Sequence[keras.Variable]) -> list[Array]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign_all(variables: Sequence[keras.Variable], values: Sequence[Array]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _choose_weights(run: Run, splits: Splits, zero_head: list[Array] | None, say: Say) -> float:
    """Keep the weights on the way from the solved head that validation favours, and enter all in the run.

    With those of a second arm, averages of both are candidates too. Returns the share of the way.
    """
    validation = splits.require_validation()
    if zero_head is None:
        variables, before = load_weights(_solved(run), run.model)
    else:
        variables, before = read_weights(_solved(run), run.model)
    chosen, candidates = choose_weights(
        variables,
        before,
        _answer(run, validation),
        run.preprocessing.row_labels(validation),
        class_weight=_class_weight(run, splits.train),
        task=run.task.row_task,
        zero_head=zero_head,
    )
    kept = _named(chosen)
    if run.task.only_gains and not chosen.share:
        least = min(each.log_loss for each in candidates[1:])
        kept += f", which fine-tuning did not beat ({run.task.loss_title} {least:.3f} at best)"
    say(
        f"weights    {kept}: {run.task.loss_title} {candidates[0].log_loss:.3f} -> {chosen.log_loss:.3f}, "
        f"{run.task.score_title} {candidates[0].accuracy:.3f} -> {chosen.accuracy:.3f} on validation"
    )
    found: dict[str, Any] = {"chosen": chosen.share, "zero_head": chosen.zero_head}
    found["candidates"] = [candidate.to_dict() for candidate in candidates]
    run.update(decision=run.manifest.get("decision", {}) | found)
    return chosen.share


def _named(chosen: Candidate) -> str:
    if not chosen.zero_head:
        return f"{chosen.share:.0%} of the way to the last epoch" if chosen.share else "the solved head"
    if chosen.zero_head == 1:
        return "those from a zero head"
    return f"{chosen.zero_head:.0%} of those from a zero head, the rest {chosen.share:.0%} of the way to the last epoch"


def _answer(run: Run, examples: Examples) -> Callable[[], Array]:
    """A function that gives the logits `(R, C)` of the rows of examples, with the weights as they are then."""
    order = run.preprocessing.order(examples.inputs)
    batches = dataset(examples.subset(order), run, keep=False)

    def answer() -> Array:
        rows: list[Any] = [None] * len(order)
        place = 0
        for answers in predict_in_batches(run.model, (inputs for inputs, *_ in batches)):
            indices = order[place : place + len(answers)]
            for index, row in zip(indices, run.preprocessing.rows(answers, examples, indices), strict=True):
                rows[index] = row
            place += len(answers)
        return np.concatenate(rows)

    return answer


def validation_loss(run: Run, splits: Splits) -> float:
    """The loss on validation of the weights that a run keeps, at the best temperature.

    Args:
        run: Trained.
        splits: What it was trained on.

    Example:

        validation_loss(run, splits)   # 0.31
    """
    decision = run.manifest.get("decision", {})
    for candidate in decision.get("candidates", ()):
        if all(
            candidate.get(name, 0.0) == decision.get(key, 0.0)
            for name, key in (("share", "chosen"), ("zero_head", "zero_head"))
        ):
            return float(candidate["log_loss"])
    validation = _pieces(run, splits).require_validation()
    logits = _answer(run, validation)()
    weights = _class_weight(run, splits.train)
    labels = run.preprocessing.row_labels(validation)
    task = run.task.row_task
    chosen, _ = choose_weights([], [], lambda: logits, labels, class_weight=weights, task=task)
    return chosen.log_loss


def _fit_head(
    run: Run, splits: Splits, features: FrozenFeatures | None, track: Track, say: Say, *, taps: bool
) -> tuple[Array, Array | None]:
    """Solve the head; the pooled features, and where asked for the outputs of all blocks."""
    train, validation = splits.train, splits.require_validation()
    pooled, tapped = _pooled(run, train, features, track, taps=taps)
    recipe = run.recipe
    if recipe.head == "solve":
        found = _solve_head(run, pooled, train)
        words = f"{found['rows']:,} of {len(pooled):,} words of " if run.task.per_token else ""
        shape = f"{words}{len(train)} {train.noun} x {pooled.shape[1]} features"
        line = f"head       solved on {shape}, L2 {found['l2']:.2g}"
        if features is not None:
            pooled_validation = features.pooled("validation")
            labels = run.preprocessing.row_labels(validation)
            found["validation"] = head_score(
                run.model, pooled_validation, labels, task=validation.task.row_task
            )
            line += f"; validation {run.task.score_title} {found['validation']:.3f}"
        say(line)
    else:
        standardise_features(run.model, pooled)
        found = {"standardised": len(pooled)}
    run.save_model(run.model)
    run.update(head=found)
    return pooled, tapped


def _pooled(
    run: Run, train: Examples, features: FrozenFeatures | None, track: Track, *, taps: bool = False
) -> tuple[Array, Array | None]:
    """Pooled features of training examples, and where asked for the outputs of all blocks, else `None`."""
    if features is not None:
        return features.pooled(), features.taps()
    order = run.preprocessing.order(train.inputs)
    batches = dataset(train.subset(order), run, keep=False)
    batches = track(batches, len(batches), "running the backbone")
    taps = taps and len(train) <= _TAPPED
    return row_features(run.model, batches, run.preprocessing, train, order, taps=taps)


def _fine_tune(
    run: Run,
    splits: Splits,
    features: FrozenFeatures | None,
    callbacks: Sequence[keras.callbacks.Callback],
    say: Say,
    verbose: int | str,
    *,
    recipe: Recipe | None = None,
    checkpoint: Checkpoint | None = None,
) -> Adapters | None:
    """Train the stages; with an adapter it is taken out of the model again, and the head and it are what trained."""
    recipe = recipe or run.recipe
    blocks = find_blocks(find_backbone(run.model))
    depth = max(resolve_depth(stage.depth, blocks) for stage in recipe.stages)
    adapter = recipe.adapter if depth else None
    if adapter is not None:
        plan = plan_adapters(blocks, depth, adapter)
        rank, count, layers = adapter.rank, plan.count(adapter.rank), len(plan.targets)
        kind = "rsLoRA" if adapter.rank_stabilized else "LoRA"
        say(
            f"adapter    {kind} of rank {rank} in {layers} layers of {depth} blocks: {count:,} weights, "
            f"{count / run.model.count_params():.2%} of all"
        )
        for line in plan.lines():
            say(f"adapter    {line}")
    elif recipe.adapter is not None:
        say("adapter    none, since no stage unfreezes a block")
        recipe = dataclasses.replace(recipe, adapter=None)
    try:
        _fit_stages(run, splits, features, callbacks, say, verbose, recipe, checkpoint)
    except BaseException:
        if (
            adapter is not None
        ):  # what is saved now has the kernels as they were; the checkpoint has the adapters
            with contextlib.suppress(RecipeError):
                take_adapters(run.model)
        raise
    return None if adapter is None else take_adapters(run.model, adapter=adapter)


def _keep_adapters(run: Run, adapters: Adapters | None, share: float, say: Say) -> None:
    """Add adapters to the kernels of the run's model, and write them to a file of their own."""
    if adapters is None:
        return
    kept = merge_share(run.model, adapters, share)
    path = run.path / FILE
    write_adapters(kept, path)
    weights = sum(a.size + b.size for a, b in kept.matrices)
    facts = {**kept.adapter.to_dict(), "layers": len(kept.names), "weights": weights, "share": share}
    facts |= {"path": FILE, "sha256": fingerprint(path)[0], "backbone": kept.fingerprint}
    run.update(adapter=facts)
    say(f"adapter    {path.stat().st_size / 2**10:,.0f} KiB with the head, merged in model.keras  {path}")


def _fit_stages(
    run: Run,
    splits: Splits,
    features: FrozenFeatures | None,
    callbacks: Sequence[keras.callbacks.Callback],
    say: Say,
    verbose: int | str,
    recipe: Recipe,
    checkpoint: Checkpoint | None,
) -> None:
    checkpoint = checkpoint or Checkpoint(_checkpoint(run), history=run.path / "history.csv")
    checkpoint.write_history()
    options: dict[str, Any] = {"checkpoint": checkpoint, "on_trouble": _trouble(run, say), "verbose": verbose}
    if features is not None and can_cache(recipe):
        fine_tune_cached(
            run.model,
            features,
            baseline=run.manifest["head"].get("validation"),
            callbacks=lambda stage: callbacks,
            **options,
        )
    else:
        data = _training_data(run, splits) | {"recipe": recipe}
        fine_tune(run.model, **data, task=splits.train.task, callbacks=callbacks, **options)


def _training_data(run: Run, splits: Splits, *, passed: int = 0) -> dict[str, Any]:
    """The batches of a `fit` on the examples themselves, after a number of earlier passes."""
    recipe, train = run.recipe, splits.train
    return {
        "train": lambda epoch: dataset(
            train, run, training=True, augmentation=recipe.augmentation, first_pass=passed + epoch
        ),
        "validation": dataset(splits.require_validation(), run),
        "recipe": recipe,
        "class_weight": _class_weight(run, train),
        "examples": len(train),
    }


def _class_weight(run: Run, train: Examples) -> dict[int, float] | None:
    if not run.recipe.class_weight:
        return None
    labels = hard_labels(train, run.preprocessing.row_labels(train))
    return dict(enumerate(class_weights(labels, len(run.outputs), run.recipe.class_weight)))


def _trouble(run: Run, say: Say) -> Say:
    def on_trouble(text: str) -> None:
        say(f"trouble    {text}")
        logged = run.manifest.get("trouble", [])
        if text not in logged:  # an epoch that is run again has the same
            run.update(trouble=[*logged, text])

    return on_trouble
