"""`ktransfer shrink`: the smallest exported file of a run within the allowed loss of accuracy, found by measuring."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ktransfer.commands.artifacts import artifacts, fixed_axes
from ktransfer.commands.benchmark import Contender, answers_of, middle_input, processor, timed_in_turn
from ktransfer.commands.checks import check_free_or_begun
from ktransfer.commands.costs import backbone_multiply_adds, measure_export
from ktransfer.commands.distill import train_student
from ktransfer.commands.evaluate import evaluate_splits
from ktransfer.commands.export import export
from ktransfer.commands.prunable import LEAST_KEEP, Prunable, Pruning, Scores, largest
from ktransfer.commands.prune import pruned_network
from ktransfer.commands.report import write_report
from ktransfer.commands.splits import (
    EVALUATION_EXAMPLES,
    Say,
    evenly,
    fingerprints,
    named_splits,
    progress_bar,
)
from ktransfer.commands.taught import RECIPE_FILE, Taught
from ktransfer.commands.train_options import TrainOptions
from ktransfer.errors import BackboneError, ExportError, RecipeError, RunError, listed
from ktransfer.exporting.artifact import Artifact, fingerprint
from ktransfer.exporting.export_model import check_formats
from ktransfer.exporting.registry import get_format
from ktransfer.exporting.runtimes import KERAS
from ktransfer.models.locate import find_backbone
from ktransfer.pruning.importance import CRITERIA
from ktransfer.pruning.pruned import require_loadable
from ktransfer.recipes.recipe import Recipe
from ktransfer.runs.provenance import absolute
from ktransfer.runs.run import Run
from ktransfer.security.safe_io import read_json
from ktransfer.shrinking.candidates import (
    RUN,
    STUDENT,
    Candidate,
    Limits,
    choose_candidate,
    interval_of,
    next_keep,
    not_dominated,
)
from ktransfer.shrinking.page import save_front, shrink_page
from ktransfer.utils.files import write_json, write_text
from ktransfer.utils.machine import cores
from ktransfer.utils.terminal import print_line, shortened

if TYPE_CHECKING:
    from ktransfer.data.examples import Examples, Splits

JSON, PAGE, PICTURE = "shrink.json", "shrink.html", "shrink.png"
TRIED_FORMATS = ("tflite", "tflite-int8")
_STATE = "state.json"
_ROUNDS = 10
# Of a quantized file the loss against the run counts, which is measured; one that has collapsed is not looked at.
_ANSWERS = {"agreement": 0.8, "accuracy_drop": 0.2}
_RESOLUTION = 0.05  # of the share whose file meets a limit of size or latency; each try is an export
_OF_THE_RUN = ("artifacts", "report.html", "benchmark.json", JSON, PAGE, PICTURE)  # not of a copy of it


def shrink(
    source: str | Path,
    out: str | Path,
    *,
    drop: float | None = None,
    latency: str | float | None = None,
    size: str | float | None = None,
    formats: Sequence[str] = TRIED_FORMATS,
    threads: int = 1,
    trials: int = 4,
    backbone: str | Path | None = None,
    layers: int | None = None,
    importance: str = "taylor",
    unlabelled: str | Path | None = None,
    temperature: float = 2.0,
    weight: float = 0.5,
    text_column: str | None = None,
    encoding: str | None = None,
    recipe: Recipe | None = None,
    options: TrainOptions | None = None,
    overwrite: bool = False,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    say: Say = print_line,
    verbose: int | str = 1,
    **changes: Any,
) -> Run:
    """Find the smallest file within an allowed loss of accuracy, by a student, pruning and quantization together.

    The run itself, and the student where one is asked for, are pruned to shares that a bisection chooses; each network
    is trained from the next larger one, with one pass of importance for all of them, and exported in every format.
    Each file answers validation examples in its own runtime, and all are timed in turn at the end. The test split is
    read once, for the file that is kept. A call that was killed goes on when it is repeated.

    Args:
        source: The run folder.
        out: The run folder to make. It holds `shrink.json`, `shrink.html` and `shrink.png` with all that was tried.
        drop: By how much the score on validation may be lower than the run's, such as 0.01. Defaults to `None`, which
            is 0.01 where no limit is given, and any amount with the others.
        latency: Largest time of one example, such as `"5ms"`, or milliseconds. Defaults to `None`, any.
        size: Largest size of the file, such as `"1.5MB"`, or bytes. Defaults to `None`, any.
        formats: What each network is exported as. Defaults to `("tflite", "tflite-int8")`.
        threads: Of the runtimes. Defaults to 1.
        trials: Networks that are pruned and trained, at most, from the run and from the student each. Defaults to 4.
        backbone: Of a student that is tried as well. Defaults to `None`.
        layers: Of a student of the run's own layers that is tried as well, as in `distill`. Defaults to `None`.
        importance: As in `prune`.
        unlabelled, temperature, weight, text_column, encoding, recipe, options: As in `distill`.
        overwrite, cache, cache_dir, say, verbose: As in `distill`.
        **changes: Fields of `TrainOptions`.

    Returns:
        The `Run`, whose `manifest["shrink"]` names the file that meets the limits.

    Raises:
        RecipeError: No file meets the limits; the nearest is kept in a folder whose name ends in `.best`.
        KTransferError: As in `distill` and `prune`.

    Example:

        ktransfer.shrink("runs/flowers", "runs/small", drop=0.01)
        ktransfer.shrink("runs/flowers", "runs/small", size="1.5MB", backbone="mobilenet_v2_100_imagenet")

    Source: pruning by levels as in Zhu and Gupta 2017, "To prune, or not to prune".
    """
    limits = Limits.of(drop=drop, latency=latency, size=size)
    formats = check_formats(formats)
    check_search(formats, threads, trials, importance)
    if backbone is not None and layers is not None:
        raise RunError(
            f"Expected one student, got a backbone and a number of layers, {backbone!r} and {layers}. Leave one out."
        )
    taught = Taught.of(
        source,
        out,
        unlabelled=unlabelled,
        temperature=temperature,
        weight=weight,
        text_column=text_column,
        encoding=encoding,
        recipe=recipe,
        options=TrainOptions.of(options, changes),
        overwrite=overwrite,
        cache=cache,
        cache_dir=cache_dir,
        say=say,
        verbose=verbose,
    )
    if taught.teacher.manifest.get("refit"):
        raise RunError(
            f"Expected a run that was not trained on its validation examples, got {taught.teacher.path}, which was "
            "refit on them, so that they cannot show a loss. Train it with --no-refit."
        )
    own = {
        "--drop": limits.drop,
        "--latency": latency,
        "--size": size,
        "--threads": threads,
        "--trials": trials,
        "--backbone": None if backbone is None else str(backbone),
        "--layers": layers,
        "--importance": importance,
    }
    command = taught.command("shrink", own)
    for name in formats:
        command = command.replace(" --recipe ", f" --format {name} --recipe ")
    search = _Search(taught, Path(out), limits, formats, threads, importance, command)
    search.begin()
    search.add_run()
    starts = [RUN]
    if backbone is not None or layers is not None:
        search.add_student(None if backbone is None else str(backbone), layers)
        starts.append(STUDENT)
    for start in starts:
        search.prune_from(start, trials)
    return search.finish()


def check_search(formats: Sequence[str], threads: int, trials: int, importance: str) -> None:
    """Raise for arguments of a search that cannot be.

    Args:
        formats, threads, trials, importance: As in `shrink`.

    Raises:
        RecipeError: One is out of range, or a format cannot be timed.

    Example:
        >>> check_search(["tflite"], 1, 4, "taylor")
    """
    if not formats:
        raise RecipeError("Expected formats to measure, got none. Pass such as tflite-int8.")
    for name, value in {"thread": threads, "trial": trials}.items():
        if type(value) is not int or value < 1:
            raise RecipeError(f"Expected at least one {name}, got {value!r}. Pass such as 4.")
    if importance not in CRITERIA:
        raise RecipeError(
            f"Expected the importance {' or '.join(CRITERIA)}, got {importance!r}. Pass one of them."
        )
    if untimed := [name for name in formats if not get_format(name).family.default]:
        raise RecipeError(
            f"Expected formats that have a runtime here, got {listed(untimed)}. Export it from the result."
        )


class _Search:
    """A search whose state is on disk."""

    def __init__(
        self,
        taught: Taught,
        out: Path,
        limits: Limits,
        formats: Sequence[str],
        threads: int,
        importance: str,
        command: str,
    ) -> None:
        self._whole: Splits = taught.read[0]
        splits, facts, groups = taught.read
        # No trial reads the test split.
        without = (dataclasses.replace(splits, test=None), facts | {"evaluate_test": False}, groups)
        self.taught = dataclasses.replace(taught, read=without, overwrite=False)
        self.out, self.limits, self.formats, self.threads = out, limits, formats, threads
        self._importance, self._command, self._overwrite = importance, command, taught.overwrite
        self.folder = Path(f"{out}.trials")
        self._say = taught.say
        self._validation: Examples = evenly(splits.require_validation(), EVALUATION_EXAMPLES)
        self.score = taught.teacher.task.row_task.hit_title
        self._state: dict[str, Any] = {}

    # The state.

    def begin(self) -> None:
        """Make the folder of the trials, or take up the one that the same command began."""
        path, made_by = self.folder / _STATE, self.taught.made_by(self._command)
        if self._overwrite and self.folder.is_dir() and path.is_file():
            shutil.rmtree(self.folder)
        if path.is_file():
            self._state = dict(read_json(path))
            if self._state.get("made_by") != made_by:
                raise RunError(
                    f"Expected the command that the trials in {self.folder} were begun with, got other options. Repeat "
                    "that, choose another --out, or pass --overwrite to lose them."
                )
            self._say(f"resumed    {len(self._state['candidates'])} files measured in {self.folder}")
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise RunError(
                f"Expected a free path for the trials, got {self.folder}, which holds files. Choose another --out."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._state = {
            "made_by": made_by,
            "candidates": [],
            "left_out": {},
            "keeps": {},
            "ceilings": {},
            "measured": [],
        }
        self._write()

    def _write(self) -> None:
        write_json(self.folder / _STATE, self._state)

    @property
    def candidates(self) -> list[Candidate]:
        """All that was measured."""
        return [Candidate.from_dict(each) for each in self._state["candidates"]]

    def _of(self, network: str) -> list[Candidate]:
        return [each for each in self.candidates if each.network == network]

    # Networks.

    def add_run(self) -> None:
        """Measure the run itself: a copy of it, so that nothing is written into it."""
        folder = self.folder / RUN
        if RUN not in self._state["measured"]:
            if folder.exists():
                shutil.rmtree(folder)
            shutil.copytree(
                self.taught.teacher.path, folder, ignore=lambda path, names: set(names) & set(_OF_THE_RUN)
            )
            run = Run.load(folder)
            run.update(artifacts=[])
            self._base(run)
        self._measure(RUN, RUN, 1.0, Run.load(folder))

    def add_student(self, backbone: str | None, layers: int | None) -> None:
        """Train the student and measure it."""
        folder = self.folder / STUDENT
        run = train_student(self.taught, folder, backbone=backbone, layers=layers, report=False)
        self._measure(STUDENT, STUDENT, 1.0, run)

    def prune_from(self, start: str, trials: int) -> None:
        """Train and measure networks pruned from one of these, as the bisection asks for them."""
        run = Run.load(self.folder / start)
        try:
            prunable = functools.cache(
                lambda: Prunable(run, self.taught.read[0], importance=self._importance)
            )
            ceiling = self._ceiling(start, run, prunable)
            for _ in range(trials):
                tried = {
                    float(keep): any(map(self.limits.hold_for, self._of(name)))
                    for keep, name in self._state["keeps"].get(start, {}).items()
                }
                if len(tried) >= trials:
                    break
                keep = next_keep(tried, ceiling=ceiling, least=LEAST_KEEP)
                if keep is None:
                    break
                self._level(start, run, keep, prunable)
        except BackboneError as error:
            self._leave_out(f"pruning of the {start}", str(error))

    def _ceiling(self, start: str, run: Run, prunable: Callable[[], Prunable]) -> float:
        """The largest share to keep whose files meet the limits of size and latency, by untrained networks."""
        if start in self._state["ceilings"]:
            return float(self._state["ceilings"][start])
        own = [self.limits.excess(each.size_bytes, each.latency_ms) for each in self._of(start)]
        found = 1.0
        if self.limits.has_caps and min(own, default=2.0) > 1:
            # The others are larger, and seldom faster.
            quantized = [name for name in self.formats if get_format(name).is_quantized]

            def excess(made: Pruning) -> float:
                return min(self._untrained(run, made, name) for name in quantized or self.formats)

            best, least = largest(prunable().to, excess, 1.0, resolution=_RESOLUTION)
            found = best.keep
            words = "is the largest within" if least <= 1 else "still exceeds"
            self._say(f"ceiling    {found:.0%} of each group of the {start} {words} {self.limits.line()}")
        self._state["ceilings"][start] = found
        self._write()
        return found

    def _untrained(self, run: Run, made: Pruning, format: str) -> float:
        try:
            took, size = measure_export(
                made.model,
                run.preprocessing,
                self._validation,
                format,
                threads=self.threads,
                calibration=self.taught.read[0].train,
            )
        except (ExportError, RunError) as error:
            self._say(f"note       {made.keep:.0%} of each group as {format}: {shortened(str(error))}")
            return float("inf")
        self._say(f"untrained  {made.keep:.0%} of each group as {format}: {size / 1e6:.2f} MB, {took:.2f} ms")
        return self.limits.excess(size, took)

    def _level(self, start: str, run: Run, keep: float, prunable: Callable[[], Prunable]) -> None:
        """One pruned network, from the smallest that was trained and is larger."""
        keeps = self._state["keeps"].setdefault(start, {})
        above = min((float(each) for each in keeps if float(each) > keep), default=None)
        name = f"{start}-{keep:g}"
        scores_of = self.folder / "scores"
        if above is None:
            found = prunable().to(keep)
        else:
            parent = keeps[f"{above:g}"]
            stored = read_json(scores_of / f"{parent}.json")
            scores = {group: Scores(whole, tuple(worth)) for group, (whole, worth) in stored.items()}
            source = Run.load(self.folder / parent)
            found = Prunable(source, self.taught.read[0], importance=self._importance, scores=scores).to(keep)
        if not keeps:
            require_loadable(found.model)
        weights, work = (
            find_backbone(run.model).count_params(),
            backbone_multiply_adds(run.model, run.preprocessing),
        )
        facts = {
            "source": str(self.taught.teacher.path),
            "importance": self._importance,
            "steps": len([each for each in keeps if float(each) > keep]) + 1,
            "keep": keep,
            "parameters": [weights, found.parameters[1]],
            "multiply_adds": [work, found.multiply_adds[1]],
        }
        self._say(f"pruned     the {start} to {found.line()}")
        smaller = self.taught.train(
            self.folder / name,
            f"{run.manifest.get('backbone', {}).get('name', 'backbone')}, pruned",
            network=pruned_network(run, found),
            facts={"pruning": facts},
            command=f"{self._command} {name}",
            report=False,
        )
        scores_of.mkdir(exist_ok=True)
        stored = {group: [each.whole, list(each.worth)] for group, each in found.scores.items()}
        write_json(scores_of / f"{name}.json", stored)
        self._measure(name, start, keep, smaller)
        keeps[f"{keep:g}"] = name
        self._write()

    # Measuring.

    def _base(self, run: Run) -> None:
        """Measure the run's Keras model."""
        size = fingerprint(run.path / "model.keras")[1]
        with Contender(run, KERAS, ".", size, {}, self.threads) as keras_model:
            hits = self._hits(run, keras_model)
        np.save(self.folder / "base.npy", hits)
        self._state["base"] = float(hits.mean())
        self._say(f"base       {self.score} {hits.mean():.3f} on {len(hits)} of the validation {run.noun}")

    def _hits(self, run: Run, contender: Contender) -> np.ndarray:
        """The score of each validation example."""
        chosen = run.preprocessing.pieces(self._validation)
        task = run.task.row_task
        with progress_bar(0) as bar:
            [answers] = answers_of(run, [contender], chosen, bar)
        decided = task.decide(answers, run.decision)
        return np.asarray(task.hits(decided, run.preprocessing.row_labels(chosen)), "float64")

    def _measure(self, network: str, start: str, keep: float, run: Run) -> None:
        """Export a network in every format, and enter how good and how large each file is."""
        if network in self._state["measured"]:
            return
        base, found = np.load(self.folder / "base.npy"), []
        multiply_adds = backbone_multiply_adds(run.model, run.preprocessing)
        for format in self.formats:
            title = f"{network} as {format}"
            try:
                [artifact] = export(run, [format], limits=_ANSWERS, say=lambda line: None)
            except ExportError as error:
                self._leave_out(title, str(error))
                continue
            if artifact.flex_ops:
                self._leave_out(
                    title, f"needs Flex for {', '.join(artifact.flex_ops)}, which only a phone can time"
                )
                continue
            with self._contender(run, artifact) as contender:
                hits = self._hits(run, contender)
                one = next(contender.pieces(middle_input(run, run.preprocessing.pieces(self._validation))))
                contender.seconds(one, 3)
                took = float(np.median(contender.seconds(one, 20)))
            lost = base - hits
            candidate = Candidate(
                network=network,
                start=start,
                keep=keep,
                format=format,
                size_bytes=artifact.size_bytes,
                score=float(hits.mean()),
                interval=interval_of(hits),
                lost=float(lost.mean()),
                lost_error=float(lost.std() / np.sqrt(len(lost))),
                examples=len(self._validation),
                latency_ms=took * 1e3,
                parameters=run.model.count_params(),
                multiply_adds=multiply_adds,
            )
            found.append(candidate)
            holds = "holds" if self.limits.hold_for(candidate) else "does not hold"
            self._say(f"tried      {candidate.line(self.score)}; {holds}")
        self._state["candidates"] += [each.to_dict() for each in found]
        self._state["measured"].append(network)
        self._write()

    def _contender(self, run: Run, artifact: Artifact) -> Contender:
        return Contender(
            run, artifact.format, artifact.path, artifact.size_bytes, fixed_axes(artifact), self.threads
        )

    def _leave_out(self, name: str, why: str) -> None:
        self._say(f"left out   {name}: {shortened(why)}")
        self._state["left_out"][name] = why
        self._write()

    def _timed(self) -> list[Candidate]:
        """The candidates with times that were measured in turn."""
        candidates = self.candidates
        runs = {name: Run.load(self.folder / name) for name in dict.fromkeys(c.network for c in candidates)}
        files = {name: {each.format: each for each in artifacts(run)} for name, run in runs.items()}
        inputs = {
            name: middle_input(run, run.preprocessing.pieces(self._validation)) for name, run in runs.items()
        }
        with contextlib.ExitStack() as stack:
            entered = [
                stack.enter_context(self._contender(runs[each.network], files[each.network][each.format]))
                for each in candidates
            ]
            seconds = timed_in_turn(entered, [inputs[each.network] for each in candidates], rounds=_ROUNDS)
        medians = [np.median(each, axis=1) for each in seconds]
        own = {
            each.format: took for each, took in zip(candidates, medians, strict=True) if each.network == RUN
        }
        return [
            dataclasses.replace(
                each,
                latency_ms=float(np.median(took) * 1e3),
                speedup=float(np.median(own[each.format] / took)) if each.format in own else None,
            )
            for each, took in zip(candidates, medians, strict=True)
        ]

    # The result.

    def finish(self) -> Run:
        """Time all files in turn, keep one, and write what was tried next to it."""
        if not self._state["candidates"]:
            raise ExportError(
                f"Expected a format that holds the run, got none of {listed(self.formats)}. "
                f"{next(iter(self._state['left_out'].values()), '')}"
            )
        candidates = self._timed()
        chosen, reached = choose_candidate(candidates, self.limits)
        out = self.out if reached else Path(f"{self.out}.best")
        check_free_or_begun(out, overwrite=self._overwrite)
        front = not_dominated(candidates)
        for each in sorted(front, key=lambda each: each.size_bytes):
            self._say(f"front      {each.line(self.score)}")
        run = Run.load(self.folder / chosen.network)
        facts = {
            "limits": dataclasses.asdict(self.limits),
            "limits_line": self.limits.line(),
            "reached": reached,
            "base": self._state["base"],
            "score": self.score,
            "threads": self.threads,
            "machine": {"processor": processor(), "cores": cores()},
            "chosen": chosen.to_dict(),
            "candidates": [each.to_dict() for each in candidates],
            "left_out": self._state["left_out"],
        }
        self._complete(run, out, chosen, facts)
        self._publish(run.path, out)
        kept = f"{chosen.line(self.score)}  {out / _file(run, chosen)}"
        if not reached:
            raise RecipeError(
                f"Expected limits that can be reached, {self.limits.line()}, got as the nearest {kept}. Raise the "
                "limits, or pass --trials, --backbone or --unlabelled."
            )
        self._say(f"kept       {kept}")
        self._say(f"page       {out / PAGE}")
        return Run.load(out)

    def _complete(self, run: Run, out: Path, chosen: Candidate, facts: Mapping[str, Any]) -> None:
        """Add what a trial has not: the test split's metrics, the report, and what was tried."""
        taught = self.taught
        if chosen.network != RUN:
            data = {name: value for name, value in run.manifest["data"].items() if name != "evaluate_test"}
            data["examples"] = {name: len(split) for name, split in named_splits(self._whole)}
            run.update(data=data | {"fingerprint": fingerprints(self._whole)})
        run.update(
            formats=[each.format for each in artifacts(run)],
            reproduce=run.manifest["reproduce"]
            | {"command": self._command.replace(RECIPE_FILE, f"{absolute(out)}/recipe.json")},
            shrink={
                "source": str(taught.teacher.path),
                "format": chosen.format,
                "path": _file(run, chosen),
                "limits": facts["limits"],
                "reached": facts["reached"],
            },
        )
        answers = evaluate_splits(run, self._whole, say=self._say)
        with _suppressed_report(self._say, run):
            write_report(run, self._whole, answers, say=lambda line: None)
        write_json(run.path / JSON, facts)
        write_text(run.path / PAGE, shrink_page(facts, title=taught.teacher.path.name))
        save_front(
            run.path / PICTURE,
            [Candidate.from_dict(each) for each in facts["candidates"]],
            chosen,
            self.score,
        )

    def _publish(self, folder: Path, out: Path) -> None:
        """Give the chosen run its name, and remove the others."""
        if out.exists():
            shutil.rmtree(out)
        os.replace(folder, out)
        shutil.rmtree(self.folder, ignore_errors=True)


def _file(run: Run, chosen: Candidate) -> str:
    return next(each.path for each in artifacts(run) if each.format == chosen.format)


@contextlib.contextmanager
def _suppressed_report(say: Say, run: Run) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  a report that fails must not fail the run
        say(f"warning    no report ({shortened(str(error))}); make it with `ktransfer report {run.path}`")
