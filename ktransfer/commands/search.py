"""`ktransfer search`: try recipes on one set of data, resumably and by several processes, and train the best."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from ktransfer.commands.checks import check_choice, check_folder_to_write, refuse_others
from ktransfer.commands.costs import backbone_multiply_adds, measure_costs, timed_formats
from ktransfer.commands.fit import validation_loss
from ktransfer.commands.splits import Say, fingerprints
from ktransfer.commands.train import ReadExamples, audited, read_examples, train_on
from ktransfer.commands.train_options import TrainOptions
from ktransfer.data.modality import find_modality
from ktransfer.errors import BackboneError, KTransferError, RunError
from ktransfer.exporting.export_model import FORMATS, check_formats
from ktransfer.models.blocks import find_blocks
from ktransfer.models.freezing import resolve_depth
from ktransfer.models.locate import find_backbone
from ktransfer.recipes.default_recipes import BALANCED, preset_recipe, with_adapter
from ktransfer.recipes.recipe import Recipe
from ktransfer.recipes.time_budget import TimeBudget, parse_duration
from ktransfer.runs.run import Run
from ktransfer.searching.page import search_page
from ktransfer.searching.pruning import PruneEpochs
from ktransfer.searching.space import Space, default_space, values_of
from ktransfer.searching.study import (
    JOURNAL,
    PRUNERS,
    SAMPLERS,
    TrialStudy,
    make_pruner,
    make_sampler,
    params_of,
    suggest,
    values_of_trial,
)
from ktransfer.security.safe_io import read_json
from ktransfer.utils.files import write_json, write_text
from ktransfer.utils.machine import has_gpu
from ktransfer.utils.oom import is_out_of_memory
from ktransfer.utils.terminal import print_line, shortened

if TYPE_CHECKING:
    from ktransfer.core.modality import Modality
    from ktransfer.data.examples import Splits


JSON, PAGE, BEST, TRIALS = "search.json", "search.html", "best", "trials"
_TEST_FRACTION = 0.2  # of data without a test split
_KEPT = ("manifest.json", "recipe.json", "metrics.json", "history.csv")  # of the run of a trial
_POLL = 1.0  # seconds between looks at what other processes do


def search(
    data: str | Path,
    backbone: str | Sequence[str],
    out: str | Path,
    *,
    space: Space | Mapping[str, Any] | str | Path | None = None,
    options: TrainOptions | None = None,
    trials: int = 20,
    budget: float | str | None = None,
    sampler: str = "tpe",
    pruner: str = "halving",
    storage: str | None = None,
    name: str | None = None,
    formats: Sequence[str] = FORMATS,
    latency: bool = False,
    cache_dir: str | Path | None = None,
    say: Say = print_line,
    verbose: int | str = 1,
    **changes: Any,
) -> Run:
    """Search for the recipe with the lowest loss on validation, and train with it.

    The trials share cached features, so one that changes only what lies above a cut costs only that. The first trial
    is the recipe of the preset. A search that was killed goes on when it is called again, and several processes that
    are called with the same arguments work on it together. No trial sees the test split: that of the data, or a fifth
    that is held out before the search where the data has none. It gives the outer estimate of the run at the end; the
    loss on validation, by which the recipe was chosen, is optimistic.

    Args:
        data: As in `train`.
        backbone: As in `train`, or several names, of which those that do not load are left out.
        out: A folder for the search: `journal.log` (Optuna's storage), `trials/`, `search.json`, `search.html`, and
            `best/`, an ordinary run.
        space: What is varied: a `Space`, the dictionary that makes one, or a JSON file. Defaults to `None`, that of
            `search_space`.
        options: `TrainOptions`: how examples are read, and from which preset the other parts of a recipe are. Defaults
            to `None`, those by default.
        trials: How many there are to be in all, those of other processes and earlier calls among them. Defaults to 20.
        budget: Time for this call, the last run included: seconds, or a text such as `"20m"`. Defaults to `None`.
        sampler: `"tpe"` (Bergstra et al. 2011), `"random"` or `"grid"`. Defaults to `"tpe"`.
        pruner: What ends a trial early: `"halving"`, `"hyperband"`, `"median"` or `"none"`. Defaults to `"halving"`.
        storage: A database URL of Optuna, for processes on several machines. Defaults to `None`, a journal file in
            `out`.
        name: Of the study in the storage. Defaults to `None`, the name of `out`.
        formats: What the last run exports. Defaults to all in float32.
        latency: Whether the files of each backbone and size are timed. Defaults to `False`.
        cache_dir: As in `train`. Defaults to `None`.
        say: Callable that receives messages. Defaults to `print_line`.
        verbose: Of the progress of the last run. Defaults to 1.
        **changes: Fields of `TrainOptions`, in place of those of `options`.

    Returns:
        The `Run` in `out/best`.

    Raises:
        KTransferError: The data, a backbone, the space, the storage or the folder will not do, or no trial finished.

    Example:

        run = ktransfer.search("flowers", "resnet_50_imagenet", "searches/flowers", trials=20, image_size=160)
    """
    options, formats = TrainOptions.of(options, changes), check_formats(formats)
    check_choice(sampler, SAMPLERS, "--sampler")
    check_choice(pruner, PRUNERS, "--pruner")
    if type(trials) is not int or trials < 1:
        raise RunError(f"Expected --trials of at least 1, got {trials!r}. Pass such as 20.")
    clock = _Clock(budget, formats)
    out = Path(out)
    _check_out(out)
    task = _Job(data, backbone, space, options, say, cache_dir=cache_dir, latency=latency, verbose=verbose)
    folder_name = name or out.absolute().name
    if sampler == "grid":
        trials = min(trials, math.prod(map(len, task.space.grid().values())))
    study = TrialStudy(
        out,
        storage,
        folder_name,
        task.owner(),
        make_sampler(sampler, task.space, task.base.seed, trials),
        make_pruner(pruner, max(task.base.epochs, 9)),
    )
    facts = {"trials": trials, "sampler": sampler, "pruner": pruner, "storage": storage or JOURNAL}
    with study:
        if sampler != "grid":
            study.begin(params_of(task.space.near(values_of(task.base, task.backbones[0])), task.space))
        _work(study, task, out, trials, clock, say)
        run = _finale(study, task, out, formats, facts, say)
        _write(study, task, out, run, facts)
    return run


def search_space(
    data: str | Path,
    backbone: str | Sequence[str] = (),
    *,
    options: TrainOptions | None = None,
    **changes: Any,
) -> Space:
    """The space that `search` takes for data where it is given none.

    Args:
        data, backbone, options, changes: As in `search`.

    Returns:
        A `Space`; `to_json()` writes it for a file.

    Raises:
        KTransferError: The data cannot be read.

    Example:

        print(search_space("flowers", "resnet_50_imagenet").to_json())
    """
    options = TrainOptions.of(options, changes)
    modality = find_modality(data, data_dir=options.data_dir)
    refuse_others(options.reading(), modality, data)
    splits, _, _ = read_examples(data, modality, options, options.seed or 0, lambda line: None)
    base = _base(modality, splits, options)
    names = [backbone] if isinstance(backbone, str) else list(backbone)
    return default_space(modality, splits.train.task, base, names)


class _Clock:
    """The time that the search may take."""

    def __init__(self, budget: float | str | None, formats: Sequence[str]) -> None:
        self.begun = time.monotonic()
        self.seconds = None if budget is None else parse_duration(budget)
        self.reserve = 0.0
        if self.seconds is not None:
            # Refuses what is too short for a run of any backbone.
            self.reserve = TimeBudget(self.seconds, formats=len(formats)).reserve

    @property
    def left(self) -> float:
        """Seconds that trials and the training of the last run may still take."""
        passed = time.monotonic() - self.begun
        return math.inf if self.seconds is None else self.seconds - self.reserve - passed


class _OutOfTime(Exception):
    """The budget ended within a trial."""


class _EndWithBudget(keras.callbacks.Callback):
    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self._clock = clock

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._clock.left < 0:
            raise _OutOfTime


def _base(modality: Modality, splits: Splits, options: TrainOptions) -> Recipe:
    """The recipe of the preset, whose stages train for long, with what the options change."""
    recipe = preset_recipe(
        modality.noun,
        examples=len(splits.train),
        preset=options.preset or BALANCED,
        gpu=has_gpu(),
        epochs=options.epochs,
        task=splits.train.task.name,
    )
    recipe = with_adapter(recipe, options.adapter)
    recipe = splits.train.task.adapted(dataclasses.replace(recipe, **options.changes()))
    splits.train.task.check_recipe(recipe)
    return recipe


class _Job:
    """The data of a search, read once, its space, and how one trial runs."""

    def __init__(
        self,
        data: str | Path,
        backbone: str | Sequence[str],
        space: Space | Mapping[str, Any] | str | Path | None,
        options: TrainOptions,
        say: Say,
        *,
        cache_dir: str | Path | None,
        latency: bool,
        verbose: int | str,
    ) -> None:
        self.data, self._say, self._cache_dir, self.verbose = data, say, cache_dir, verbose
        modality = self.modality = find_modality(data, data_dir=options.data_dir)
        refuse_others(options.reading(), modality, data)
        seed = options.seed or 0
        options = dataclasses.replace(options, evaluate_test=True)
        as_it_is = dataclasses.replace(options, test_fraction=None)
        read = read_examples(data, modality, as_it_is, seed, lambda line: None)
        self.outer = "the data's own"
        if read[0].test is None:
            options = dataclasses.replace(options, test_fraction=options.test_fraction or _TEST_FRACTION)
            self.outer = "held out before the search"
        read = read_examples(data, modality, options, seed, say)
        self.splits = audited(read[0], read[1], options, say)
        self.read: ReadExamples = (self.splits, read[1], read[2])
        self.base = _base(modality, self.splits, options)
        self._options = options
        # The recipe has these already.
        settled: dict[str, Any] = dict.fromkeys(
            (
                "preset",
                "epochs",
                "budget",
                "seed",
                "class_weight",
                "loss",
                "augmentation",
                "quantization_aware",
                "adapter",
            )
        )
        self.of_run = dataclasses.replace(options, **settled)
        self.of_trial = dataclasses.replace(self.of_run, evaluate_test=False, refit=False)
        self.backbones = self._backbones(
            [backbone] if isinstance(backbone, str) else list(map(str, backbone)), space
        )
        self.space = self._space(space)
        self._formats = timed_formats(say) if latency else ()

    def _backbones(self, names: list[str], space: Any) -> list[str]:
        """The names of backbones that load; of one alone its first trial shows that."""
        if not names or len(set(names)) < len(names):
            raise BackboneError(f"Expected names of backbones, each once, got {', '.join(names) or 'none'}.")
        if len(names) == 1:
            return names
        found, reason = [], ""
        for name in names:
            try:
                self._network(name)
                found.append(name)
            except KTransferError as error:
                reason = f"{name}: {error}"
                self._say(f"left out   {reason}")
            gc.collect()
        if not found:
            raise BackboneError(f"Expected a backbone that loads, got none of {len(names)}. {reason}")
        return found

    def _network(self, name: str) -> Any:
        options = self._options
        return self.modality.network(
            name,
            self.splits.train,
            self.base,
            random_weights=options.random_weights,
            fast_depthwise=options.fast_depthwise,
            **options.reading(),
        )

    def _space(self, given: Space | Mapping[str, Any] | str | Path | None) -> Space:
        task = self.splits.train.task
        if given is None:
            space = default_space(self.modality, task, self.base, self.backbones)
        elif isinstance(given, Space):
            space = given
        elif isinstance(given, str | Path):
            space = Space.from_json(Path(given).expanduser().read_bytes())
        else:
            space = Space(given)
        if len(self.backbones) > 1 and "backbone" not in space.names:
            space = Space({"backbone": self.backbones} | space.to_dict())
        space.check(self.modality, task, self.base)
        return space

    def owner(self) -> dict[str, Any]:
        """Facts that tell this search from others."""
        reading = {name: str(value) for name, value in self._options.reading().items() if value is not None}
        recipe = hashlib.sha256(self.base.to_json().encode()).hexdigest()
        return {
            "data": fingerprints(self.splits),
            "space": self.space.to_dict(),
            "backbones": self.backbones,
            "recipe": recipe,
            "reading": reading,
        }

    def values(self, trial: Trial | FrozenTrial) -> dict[str, Any]:
        """The values of a trial."""
        return (
            suggest(trial, self.space)
            if isinstance(trial, Trial)
            else values_of_trial(trial.params, self.space)
        )

    def train(self, values: Mapping[str, Any], out: Path, *, final: bool, **given: Any) -> Run:
        """A run with the recipe of some values."""
        options = dataclasses.replace(self.of_run if final else self.of_trial, **self.space.reading(values))
        splits, facts, groups = self.read
        recipe = self.space.recipe(values, self.base, self.modality)
        if not final:
            splits, facts = dataclasses.replace(splits, test=None), facts | {"evaluate_test": False}
            recipe = dataclasses.replace(recipe, quantization_aware=0)
        # Of a search that varies how examples are read.
        facts = facts | {name: value for name, value in self.space.reading(values).items() if name in facts}
        return train_on(
            (splits, facts, groups),
            self.data,
            str(values.get("backbone", self.backbones[0])),
            out,
            recipe=recipe,
            options=options,
            overwrite=True,
            cache_dir=self._cache_dir,
            **given,
        )

    def costs(self, run: Run, values: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Latency and size of the exported files, measured once for each backbone and size of the input."""
        if not self._formats:
            return {}
        key = [values.get("backbone", self.backbones[0]), self.space.reading(values)]
        path = out / "costs" / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json"
        if path.is_file():
            return dict(read_json(path))
        validation = self.splits.require_validation()
        found = measure_costs(
            run.model, run.preprocessing, validation, self._formats, self._say, name=str(key[0])
        )
        path.parent.mkdir(exist_ok=True)
        write_json(path, found)
        return found


def _check_out(out: Path) -> None:
    check_folder_to_write(out, "--out")
    known = {JOURNAL, JSON, PAGE, BEST, TRIALS, "workers", "costs"}
    if out.is_dir() and (
        others := [path.name for path in out.iterdir() if path.name.lstrip(".") not in known]
    ):
        others = [name for name in others if not name.startswith((JOURNAL, "."))]
        if others:
            raise RunError(
                f"Expected a free folder or a search as --out, got {out}, which holds {others[0]!r:.80}."
            )


def _work(study: TrialStudy, job: _Job, out: Path, count: int, clock: _Clock, say: Say) -> None:
    """Run trials until all are finished, or the time is over."""
    waited = False
    while True:
        taken = [float(each.user_attrs["seconds"]) for each in study.complete]
        # The last run takes as long as the best trial did.
        needed = (sum(taken) / len(taken) + taken[0]) if taken else 0.0
        if clock.left < needed or clock.left <= 0:
            say(f"budget     over after {len(study.finished)} of {count} trials")
            break
        trial = study.ask(count, say=say)
        if trial is None:
            if len(study.finished) >= count or not study.others:
                break
            if not waited:
                say(f"waiting    for {len(study.others)} trials of other processes")
                waited = True
            time.sleep(_POLL)
            continue
        if not _run_trial(study, trial, job, out, clock, say):
            say(f"budget     over within trial {trial.number}, which counts as not tried")
            break
    if not study.complete:
        raise _nothing(study, clock)


def _nothing(study: TrialStudy, clock: _Clock) -> RunError:
    failed = [each.user_attrs["error"] for each in study.finished if "error" in each.user_attrs]
    if failed:
        return RunError(
            f"Expected a trial that finished, got {len(study.finished)} that failed, the last with: "
            f"{failed[-1].rstrip('.')}. Change what it names, and run the same command again."
        )
    if clock.seconds is not None:
        return RunError(f"Expected a budget that one trial fits into, got {clock.seconds:.0f} s. Raise it.")
    return RunError("Expected a trial that finished, got none. Raise --trials.")


def _run_trial(study: TrialStudy, trial: Trial, job: _Job, out: Path, clock: _Clock, say: Say) -> bool:
    """Run one trial and tell the study; `False` where the budget ended within it."""
    start, folder = time.perf_counter(), out / TRIALS / str(trial.number)
    label = f"trial {trial.number:<5}"
    try:
        values = job.values(trial)
        task = job.splits.train.task
        run = job.train(
            values,
            folder,
            final=False,
            formats=(),
            report=False,
            callbacks=[PruneEpochs(trial, f"val_{task.score}"), _EndWithBudget(clock)],
            say=lambda line: None,
            verbose=0,
        )
        loss = validation_loss(run, job.splits)
        if not math.isfinite(loss):
            raise RunError(f"Expected a finite loss on validation, got {loss}. Lower the learning rates.")
        _describe(trial, run, job, values, out, time.perf_counter() - start)
        study.study.tell(trial, loss)
        score = run.manifest["metrics"]["validation"]
        best = study.complete[0]
        say(
            f"{label}{task.loss_title} {loss:.4f}, {run.manifest['metric']} {score:.3f}, "
            f"{time.perf_counter() - start:.0f} s; best is trial {best.number} with {best.value:.4f}"
        )
    except optuna.TrialPruned as error:
        trial.set_user_attr("seconds", time.perf_counter() - start)
        study.study.tell(trial, state=TrialState.PRUNED)
        say(f"{label}pruned {error}")
    except _OutOfTime:
        study.give_up(trial)
        return False
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, KTransferError):
            raise  # such as a full disk; the trial is tried again when the search goes on
        reason = shortened(str(error) or type(error).__name__, 300)
        trial.set_user_attr("error", reason)
        study.study.tell(trial, state=TrialState.FAIL)
        if not isinstance(error, KTransferError) and not is_out_of_memory(error):
            raise
        say(f"{label}failed: {reason}")
    finally:
        _keep_little(folder)
        keras.utils.clear_session()
        gc.collect()
    return True


def _describe(
    trial: Trial, run: Run, job: _Job, values: Mapping[str, Any], out: Path, seconds: float
) -> None:
    backbone = find_backbone(run.model)
    found: dict[str, Any] = {
        "score": run.manifest["metrics"]["validation"],
        "metric": run.manifest["metric"],
        "seconds": seconds,
        "parameters": backbone.count_params(),
        "multiply_adds": backbone_multiply_adds(run.model, run.preprocessing),
        "depth_share": _depth_share(run, backbone),
        **job.costs(run, values, out),
    }
    if trouble := run.manifest.get("trouble"):
        found["trouble"] = trouble
    for name, value in found.items():
        trial.set_user_attr(name, value)


def _depth_share(run: Run, backbone: keras.Model) -> float:
    """The share of the blocks that trains at the end."""
    blocks = find_blocks(backbone)
    stages = run.recipe.stages
    return resolve_depth(stages[-1].depth, blocks) / len(blocks) if stages else 0.0


def _keep_little(folder: Path) -> None:
    """Remove what takes room of the run of a trial: its winner is trained again."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name not in _KEPT:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _finale(
    study: TrialStudy, job: _Job, out: Path, formats: Sequence[str], facts: Mapping[str, Any], say: Say
) -> Run:
    """The run with the winner's recipe, trained by whichever process comes first."""
    with study.exclusively("best"):
        winner = study.complete[0]
        path = out / BEST
        try:
            run = Run.load(path)
        except RunError:
            run = None
        if run is not None and run.manifest.get("search", {}).get("trial") == winner.number:
            return run
        say(f"best       trial {winner.number}; trained again with its recipe; test split: {job.outer}")
        run = job.train(job.values(winner), path, final=True, formats=formats, say=say, verbose=job.verbose)
        run.update(
            search={
                "trial": winner.number,
                "validation_loss": winner.value,
                "finished_trials": len(study.finished),
                "outer": job.outer,
                **facts,
            }
        )
        return run


def _write(study: TrialStudy, job: _Job, out: Path, run: Run, facts: Mapping[str, Any]) -> None:
    """`search.json` and `search.html`."""
    left = study.left
    rows = [
        {
            "trial": each.number,
            "state": "left" if each.number in left else each.state.name.lower(),
            "loss": each.value if each.state == TrialState.COMPLETE else None,
            "values": values_of_trial(each.params, job.space),
            "epochs": each.last_step,
            **{name: value for name, value in each.user_attrs.items() if name not in ("worker",)},
        }
        for each in study.trials
    ]
    found = {
        "data": job.read[1]["source"],
        "space": job.space.to_dict(),
        "backbones": job.backbones,
        **facts,
        "loss_title": job.splits.train.task.row_task.loss_title,
        "metric": run.manifest["metric"],
        "best": {
            "trial": run.manifest["search"]["trial"],
            "run": BEST,
            "validation": run.manifest["metrics"]["validation"],
            "test": run.manifest["metrics"].get("test"),
            "test_examples": len(job.splits.test) if job.splits.test is not None else 0,
            "validation_examples": len(job.splits.require_validation()),
            "outer": job.outer,
        },
        "trial_list": rows,
        "importances": _importances(study),
    }
    with study.exclusively("page"):
        write_json(out / JSON, found)
        write_text(out / PAGE, search_page(found, title=Path(str(job.data)).name))


def _importances(study: TrialStudy) -> dict[str, float]:
    """The share of the loss that each parameter explains, by fANOVA (Hutter et al. 2014); empty of too few trials."""
    varied = [
        name
        for name in {key for each in study.complete for key in each.params}
        if len({str(each.params.get(name)) for each in study.complete}) > 1
    ]
    if len(study.complete) < 4 or not varied:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        found = optuna.importance.get_param_importances(
            study.study, params=sorted(varied), evaluator=evaluator
        )
    except (
        ValueError,
        RuntimeError,
    ):  # of losses that are all the same, or parameters that not all trials have
        return {}
    return {name: float(value) for name, value in found.items()}
