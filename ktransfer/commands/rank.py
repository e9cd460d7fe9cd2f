"""`ktransfer rank`: which pretrained backbone, by what its frozen features know of the task, and what it costs."""

from __future__ import annotations

import dataclasses
import gc
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.commands.checks import check_folder_to_write, refuse_others
from ktransfer.commands.costs import backbone_multiply_adds, measure_costs, timed_formats
from ktransfer.commands.splits import Say, feature_store, progress_bar, readable
from ktransfer.commands.train import read_examples, train
from ktransfer.commands.train_options import TrainOptions
from ktransfer.data.modality import find_modality
from ktransfer.errors import BackboneError, KTransferError, RunError
from ktransfer.features.cached_features import FrozenFeatures
from ktransfer.models.blocks import find_blocks
from ktransfer.models.locate import find_backbone
from ktransfer.recipes.default_recipes import BALANCED, preset_recipe
from ktransfer.recipes.recipe import Recipe
from ktransfer.recipes.time_budget import TimeBudget, parse_duration
from ktransfer.searching.page import rank_page
from ktransfer.searching.ranking import Candidate, Ranking, ordered
from ktransfer.searching.transferability import (
    HeadScore,
    head_score_out_of_fold,
    log_maximum_evidence,
    shrinkage_h_score,
)
from ktransfer.utils.files import write_json, write_text
from ktransfer.utils.machine import has_gpu
from ktransfer.utils.terminal import print_line

if TYPE_CHECKING:
    from rich.progress import Progress

    from ktransfer.core.modality import Modality
    from ktransfer.core.task import Task
    from ktransfer.core.typing import Array
    from ktransfer.data.examples import Examples
    from ktransfer.features.store import FeatureStore
    from ktransfer.models.network import Network


JSON, PAGE = "rank.json", "rank.html"
_TIMED_FORMATS = ("tflite", "onnx")
_TIMES, _WARM_UP, _PROVED = (
    20,
    3,
    4,
)  # answers to one example, and examples that an exported file is proved on
_ROWS = 5_000  # of more rows, such as words, a head is not cross-validated


def rank(
    data: str | Path,
    backbones: Sequence[str],
    *,
    out: str | Path | None = None,
    options: TrainOptions | None = None,
    sample: int = 2_000,
    train_best: int = 2,
    train_budget: float | str = "5m",
    latency: bool = True,
    cache_dir: str | Path | None = None,
    say: Say = print_line,
    verbose: int | str = 1,
    **changes: Any,
) -> Ranking:
    """Rank pretrained backbones for a task, without training most of them.

    The frozen features of each, computed once on the same sample of the training examples and cached, are scored by
    the cross-validated loss of a solved head, which is the order; LogME and the shrinkage H-score are columns next to
    it. The best are then trained for a short time. The test split is not read.

    Args:
        data: As in `train`.
        backbones: Names as in `train`, at least two different ones; `NAME@0.6` is the lowest 60 % of the blocks of
            NAME.
        out: A folder for `rank.json`, `rank.html` and the runs of the best. Defaults to `None`, which writes nothing.
        options: `TrainOptions`, how examples are read and the best are trained. Defaults to `None`, those by default.
        sample: At most about so many training examples, each class by its share. Defaults to 2,000.
        train_best: How many of the best are trained; 0 trains none. Defaults to 2.
        train_budget: Time that each of these runs may take: seconds, or a text such as `"5m"`. Defaults to `"5m"`.
        latency: Whether each candidate is exported and timed in LiteRT and ONNX Runtime, where these are installed.
            Defaults to `True`.
        cache_dir: As in `train`. Defaults to `None`.
        say: Callable that receives progress messages. Defaults to `print_line`, which prints them.
        verbose: Whether progress is shown. Defaults to 1.
        **changes: Fields of `TrainOptions`, in place of those of `options`.

    Returns:
        The `Ranking`. Backbones that do not load are in its `left_out`.

    Raises:
        BackboneError: There are fewer than two candidates, or none can be measured.
        DataError: The data cannot be read, or is too small for cross-validation.
        RunError: `out` cannot be written to, or a number is out of range.

    Example:

        ktransfer.rank("flowers", ["resnet_50_imagenet", "resnet_50_imagenet@0.6"], image_size=160).best.name
    """
    options = TrainOptions.of(options, {"evaluate_test": False} | changes)
    names = _checked_names(backbones)
    _check_numbers(sample, train_best, train_budget)
    if out is not None:
        check_folder_to_write(out, "--out")
    modality = find_modality(data, data_dir=options.data_dir)
    refuse_others(options.reading(), modality, data)
    seed = options.seed or 0
    splits, facts, _ = read_examples(data, modality, options, seed, say)
    task = splits.train.task
    chosen = _sampled(splits.train, sample, seed)
    alone = dataclasses.replace(splits, train=chosen, validation=None, test=None)
    chosen = readable(alone, facts, say, verbose=verbose).train
    say(
        f"data       {len(chosen):,} of {len(splits.train):,} training {chosen.noun}; {len(names)} candidates"
    )
    recipe = preset_recipe(
        modality.noun,
        examples=len(splits.train),
        preset=BALANCED,
        epochs=0,
        gpu=has_gpu(),
        seed=seed,
        task=task.name,
    )
    measuring = _Measuring(modality, chosen, recipe, options, feature_store(cache_dir), latency, say, verbose)
    found: list[Candidate] = []
    left_out: dict[str, str] = {}
    scores: dict[str, HeadScore] = {}
    for name in names:
        try:
            candidate, scores[name] = measuring.measure(name)
        except KTransferError as error:
            left_out[name] = str(error)
            say(f"left out   {name}: {error}")
            continue
        for other in found:
            same = (other.parameters, other.blocks) == (candidate.parameters, candidate.blocks)
            if same and np.array_equal(scores[other.name].losses, scores[name].losses):
                measuring.note(f"{name} is the same network as {other.name}")
        found.append(candidate)
        say(
            f"candidate  {name}: {task.row_task.loss_title} {candidate.loss:.3f} ± {candidate.loss_error:.3f}, "
            f"{task.row_task.hit_title} {candidate.score:.3f}, {candidate.seconds:.0f} s"
        )
    if not found:
        raise BackboneError(
            f"Expected a backbone that can be measured, got none of {len(names)}. {next(iter(left_out.values()))}"
        )
    ranked = ordered(found)
    ranking = Ranking(
        tuple(_compared(each, scores[each.name], scores[ranked[0].name]) for each in ranked),
        left_out,
        examples=len(chosen),
        of=len(splits.train),
        loss_title=task.row_task.loss_title,
        score_title=task.row_task.hit_title,
        notes=tuple(measuring.notes),
    )
    if train_best:
        ranking = _with_runs(
            ranking,
            data,
            out,
            options,
            train_best,
            train_budget,
            cache_dir=cache_dir,
            say=say,
            verbose=verbose,
        )
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_json(Path(out) / JSON, {"data": facts["source"], **ranking.to_dict()})
        write_text(Path(out) / PAGE, rank_page(ranking, title=Path(str(data)).name))
    return ranking


def _checked_names(backbones: Sequence[str]) -> list[str]:
    names = [str(name) for name in ([backbones] if isinstance(backbones, str | Path) else backbones)]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise BackboneError(
            f"Expected two or more different backbones to rank, got {', '.join(names) or 'none'}. "
            "Repeat --backbone; NAME@0.6 is the lowest 60 % of the blocks of NAME."
        )
    return names


def _check_numbers(sample: int, train_best: int, train_budget: float | str) -> None:
    for name, value, least in (("--sample", sample, 10), ("--train-best", train_best, 0)):
        if type(value) is not int or value < least:
            raise RunError(f"Expected {name} of at least {least}, got {value!r}. Pass another number.")
    if train_best:
        TimeBudget(parse_duration(train_budget))  # refuses what is too short for any backbone


def _sampled(examples: Examples, count: int, seed: int) -> Examples:
    """About so many examples, each class by its share."""
    if len(examples) <= count:
        return examples
    chosen = examples.subset(np.sort(examples.task.sample(examples.labels, count, seed=seed)))
    # Where a class is rarer than the share of the sample, a task gives more.
    return chosen if len(chosen) <= 1.25 * count else examples.evenly(count)


def _compared(candidate: Candidate, score: HeadScore, best: HeadScore) -> Candidate:
    gap = score.behind(best)
    return candidate if gap is None else dataclasses.replace(candidate, behind=gap[0], behind_error=gap[1])


class _Measuring:
    """Measures one candidate after another on the same sample."""

    def __init__(
        self,
        modality: Modality,
        sample: Examples,
        recipe: Recipe,
        options: TrainOptions,
        store: FeatureStore,
        latency: bool,
        say: Say,
        verbose: int | str,
    ) -> None:
        self._modality, self._sample, self._recipe, self._options = modality, sample, recipe, options
        self._store, self._say, self._verbose = store, say, verbose
        self._timed = timed_formats(say) if latency else ()
        self.notes: list[str] = []

    def note(self, line: str) -> None:
        """Print a line once, and keep it for the page."""
        if line not in self.notes:
            self.notes.append(line)
            self._say(f"note       {line}")

    def measure(self, name: str) -> tuple[Candidate, HeadScore]:
        keras.utils.set_random_seed(self._recipe.seed)
        options = self._options
        network = self._modality.network(
            name,
            self._sample,
            self._recipe,
            random_weights=options.random_weights,
            fast_depthwise=options.fast_depthwise,
            **options.reading(),
        )
        backbone = find_backbone(network.model)
        with progress_bar(self._verbose) as bar:
            features, labels, seconds = self._rows(network, bar)
        task: Task = self._sample.task.row_task
        outputs = len(self._sample.task.output_names(self._sample.class_names))
        features, labels, outputs = self._usable(task, features, labels, outputs)
        score = head_score_out_of_fold(features, labels, task=task, seed=self._recipe.seed, classes=outputs)
        targets = np.asarray(task.targets(labels, outputs), "float64")
        candidate = Candidate(
            name,
            loss=score.loss,
            loss_error=score.loss_error,
            score=score.score,
            score_error=score.score_error,
            logme=log_maximum_evidence(features, targets),
            h_score=None if task.least_squares else shrinkage_h_score(features, targets),
            features=features.shape[1],
            parameters=backbone.count_params(),
            blocks=len(find_blocks(backbone)),
            multiply_adds=backbone_multiply_adds(network.model, network.preprocessing),
            seconds=seconds,
            **measure_costs(
                network.model, network.preprocessing, self._sample, self._timed, self._say, name=name
            ),
        )
        del network, backbone
        gc.collect()
        return candidate, score

    def _rows(self, network: Network, bar: Progress) -> tuple[Array, Array, float]:
        """Features and labels of the rows of the sample that a head is solved on, and how long it took."""
        preprocessing, start = network.preprocessing, time.perf_counter()
        sample = preprocessing.pieces(self._sample)
        features = FrozenFeatures(
            network.model,
            sample,
            sample,  # the same entries of the store
            self._recipe,
            preprocessing=preprocessing,
            store=self._store,
            track=lambda batches, total, description: bar.track(
                batches, total=total, description=description
            ),
            say=lambda line: None,
        ).pooled()
        seconds = time.perf_counter() - start
        task, seed = sample.task, self._recipe.seed
        labels = preprocessing.row_labels(sample)
        rows = np.asarray(task.head_rows(labels, None, seed=seed)[0])
        if len(rows) > _ROWS:
            rows = rows[task.row_task.sample(labels[rows], _ROWS, seed=seed)]
        return features[rows], labels[rows], seconds

    def _usable(self, task: Task, features: Array, labels: Array, outputs: int) -> tuple[Array, Array, int]:
        """Without the classes that have one example or none, of which there are no folds."""
        if not task.every_class:
            return features, labels, outputs
        present = np.flatnonzero(task.counts(labels, outputs) >= 2)
        if len(present) in (outputs, 0):
            return features, labels, outputs
        kept = np.isin(labels, present)
        note = (
            f"{outputs - len(present)} of {outputs} classes have fewer than 2 examples in the sample; "
            f"their {int((~kept).sum())} examples are left out of the scores"
        )
        self.note(note)
        return features[kept], np.searchsorted(present, labels[kept]), len(present)


def _with_runs(
    ranking: Ranking,
    data: str | Path,
    out: str | Path | None,
    options: TrainOptions,
    count: int,
    budget: float | str,
    **others: Any,
) -> Ranking:
    """The ranking with what a short run of each of its first candidates reached."""
    candidates = list(ranking.candidates)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) if out is None else Path(out) / "runs"
        for place, each in enumerate(candidates[:count]):
            others["say"](f"training   {each.name}, within {parse_duration(budget):.0f} s")
            start = time.perf_counter()
            run = train(
                data,
                each.name,
                runs / _slug(place, each.name),
                options=dataclasses.replace(options, budget=budget, refit=None),
                formats=(),
                overwrite=True,
                **others,
            )
            reached = {
                "score": float(run.manifest["metrics"]["validation"]),
                "title": run.manifest["metric"],
                "epochs": run.recipe.epochs,
                "seconds": time.perf_counter() - start,
            }
            candidates[place] = dataclasses.replace(each, trained=reached)
    return dataclasses.replace(ranking, candidates=tuple(candidates))


def _slug(place: int, name: str) -> str:
    """A name of a folder for the run of a candidate."""
    return f"{place + 1}-{re.sub(r'[^A-Za-z0-9.@_-]+', '-', Path(name).name)[-60:]}"
