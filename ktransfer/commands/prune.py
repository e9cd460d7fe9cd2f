"""`ktransfer prune`: a run with fewer channels, heads and feed-forward units, trained with the run as its teacher."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.commands.costs import backbone_multiply_adds
from ktransfer.commands.distill import read_as, refuse_teachers_path, student_recipe
from ktransfer.commands.splits import Say, dataset
from ktransfer.commands.train import train_on
from ktransfer.commands.train_options import TrainOptions
from ktransfer.distillation.teachers import Distillation
from ktransfer.errors import BackboneError, RecipeError, listed
from ktransfer.exporting.export_model import FORMATS, check_formats
from ktransfer.models.depthwise import use_depthwise
from ktransfer.models.heads import Head
from ktransfer.models.locate import find_backbone
from ktransfer.models.network import Network
from ktransfer.models.rebuild import with_backbone
from ktransfer.pruning.dependencies import Dependencies
from ktransfer.pruning.importance import CRITERIA, magnitude, taylor
from ktransfer.pruning.pruned import choose, pruned, require_loadable
from ktransfer.pruning.unrolled import unrolled
from ktransfer.recipes.recipe import Recipe
from ktransfer.runs.provenance import absolute
from ktransfer.runs.run import Run
from ktransfer.training.soft_targets import SoftTargets
from ktransfer.utils.terminal import print_line

if TYPE_CHECKING:
    from ktransfer.data.examples import Splits

_IMPORTANCE_BATCHES = 16
LEAST_KEEP = 0.05
_TRIES = 12  # halvings of the share that a target is searched with
COSTS = ("multiply_adds", "parameters")


@dataclass(frozen=True)
class Pruning:
    """The result of pruning a network.

    Attributes:
        model: The classifier.
        keep: Share of the units of each group that stays.
        groups: How many groups of units there were.
        parameters: Of the backbone, before and after.
        multiply_adds: Of the backbone for one example, before and after.
    """

    model: keras.Model
    keep: float
    groups: int
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]

    def share(self, cost: str) -> float:
        """The remaining share of a cost, one of `COSTS`."""
        before, after = getattr(self, cost)
        return after / before

    def line(self) -> str:
        """A line for the log."""
        (weights, fewer), (work, less) = self.parameters, self.multiply_adds
        return (
            f"{self.keep:.0%} of each of {self.groups} groups of channels, heads and units; parameters "
            f"{weights:,} -> {fewer:,} ({fewer / weights:.0%}), multiply-adds {work / 1e6:,.1f} -> {less / 1e6:,.1f} M "
            f"({less / work:.0%})"
        )


class Prunable:
    """The backbone of a trained run, written out, with the importance of its channels.

    Args:
        run: Trained.
        splits: Its examples, for the first-order criterion.
        importance: `"taylor"` or `"magnitude"`. Defaults to `"taylor"`.

    Raises:
        BackboneError: Nothing in the backbone can be removed, with the reason.

    Example:

        Prunable(run, splits).to(0.5).model
    """

    def __init__(self, run: Run, splits: Splits, *, importance: str = "taylor") -> None:
        self._run, self._classifier = run, run.model
        found: list[tuple[keras.Model, Dependencies]] = []

        def change(backbone: keras.Model) -> keras.Model:
            written = unrolled(backbone)
            found.append((written, Dependencies(written, fix_outputs=not _ends_in_channels(backbone))))
            return written

        # A copy, whose layers are taken apart.
        whole = with_backbone(Run.load(run.path).model, change)
        [(self._backbone, self.dependencies)] = found
        if not self.dependencies.groups:
            why = listed(self.dependencies.fixed_by)
            raise BackboneError(
                f"Expected a backbone with channels that can be removed, got {self._backbone.name}, in which all "
                f"of them meet {why}. Distill it to a smaller backbone instead."
            )
        use_depthwise(self._backbone)
        if importance == "magnitude":
            self._importance = magnitude(self.dependencies)
        else:
            recipe = run.recipe
            chosen = splits.train.evenly(_IMPORTANCE_BATCHES * recipe.batch_size)
            plain = dataclasses.replace(recipe, label_smoothing=0.0)
            batches = ((inputs, np.asarray(targets)) for inputs, targets, *_ in _arrays(dataset(chosen, run)))
            self._importance = taylor(whole, self.dependencies, batches, run.task.loss(plain))

    def to(self, keep: float) -> Pruning:
        """The classifier with so much of each group.

        Args:
            keep: Share of each group, in (0, 1].
        """
        removed = choose(self.dependencies, self._importance, keep)
        smaller = pruned(self._backbone, self.dependencies, removed)
        use_depthwise(smaller)
        model = with_backbone(self._classifier, lambda backbone: smaller)
        self._fit_head(model, removed)
        preprocessing = self._run.preprocessing
        before = find_backbone(self._classifier)
        return Pruning(
            model,
            keep,
            len(self.dependencies.groups),
            (before.count_params(), smaller.count_params()),
            tuple(backbone_multiply_adds(each, preprocessing) for each in (self._classifier, model)),  # type: ignore[arg-type]
        )

    def _fit_head(self, model: keras.Model, removed: set[int]) -> None:
        """Give the head the weights of the features that stay."""
        if _same_shapes(Head.of(model).logits, Head.of(self._classifier).logits):
            return
        gone = {self.dependencies.root(number) for number in removed}
        kept = np.flatnonzero(
            [self.dependencies.root(number) not in gone for number in self.dependencies.outputs[-1].tolist()]
        )
        old, new = Head.of(self._classifier), Head.of(model)
        (mean, variance), (kernel, bias) = old.scaling, old.weights
        new.set_scaling(mean[kept], variance[kept])
        new.set_weights(kernel[kept], bias)

    def within(self, cost: str, share: float) -> Pruning:
        """The largest network whose cost is at most a share of what it was.

        Args:
            cost: One of `COSTS`.
            share: In (0, 1).

        Raises:
            RecipeError: The smallest one costs more.
        """
        return largest(self.to, lambda found: found.share(cost), share, cost.replace("_", "-"))


def largest(
    make: Callable[[float], Pruning], measure: Callable[[Pruning], float], target: float, name: str
) -> Pruning:
    """The network that keeps most among those whose measure is at most the target, by halving the interval.

    Args:
        make: From a share to keep to the network.
        measure: What must not exceed the target; it grows with what is kept.
        target: In the unit of `measure`.
        name: Of it, for the message.

    Raises:
        RecipeError: Even the smallest network exceeds it.

    Example:

        largest(prunable.to, lambda found: found.share("parameters"), 0.5, "parameters")
    """
    low, high = LEAST_KEEP, 1.0
    best = make(low)
    if (least := measure(best)) > target:
        raise RecipeError(
            f"Expected a target for {name} that can be reached, got {target:.3g}; the smallest network, with "
            f"{low:.0%} of each group, has {least:.3g}. Pass that or more, or distill to a smaller backbone."
        )
    for _ in range(_TRIES):
        if high - low < 0.01:
            break
        found = make((low + high) / 2)
        if measure(found) <= target:
            best, low = found, found.keep
        else:
            high = found.keep
    return best


def prune(
    source: str | Path,
    out: str | Path,
    *,
    keep: float | None = None,
    multiply_adds: float | None = None,
    parameters: float | None = None,
    importance: str = "taylor",
    steps: int = 1,
    unlabelled: str | Path | None = None,
    temperature: float = 2.0,
    weight: float = 0.5,
    text_column: str | None = None,
    encoding: str | None = None,
    recipe: Recipe | None = None,
    options: TrainOptions | None = None,
    formats: Sequence[str] = FORMATS,
    overwrite: bool = False,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    report: bool = True,
    say: Say = print_line,
    verbose: int | str = 1,
    **changes: Any,
) -> Run:
    """Remove the least important channels, heads and feed-forward units of a run, and train on what is left.

    The network of the new run is smaller, not masked, and an ordinary Keras model. It is trained as by `distill`, with
    the run it came from as the teacher.

    Args:
        source: The run folder.
        out: The run folder to make.
        keep: Share of each group of units to keep, above 0 and below 1. Defaults to `None`, which is 0.5 where no
            target is given.
        multiply_adds: Keep as much as costs at most this share of the multiply-adds of the backbone. Defaults to
            `None`.
        parameters: The same of its parameters. Defaults to `None`.
        importance: Which units stay: `"taylor"`, the first-order change of the loss, or `"magnitude"`, the size of
            the weights. Defaults to `"taylor"`.
        steps: Prune and train so many times, each by the same factor. Defaults to 1.
        unlabelled, temperature, weight, text_column, encoding, recipe, options, formats: As in `distill`.
        overwrite, cache, cache_dir, report, say, verbose: As in `distill`.
        **changes: Fields of `TrainOptions`.

    Returns:
        The `Run`.

    Raises:
        KTransferError: The run is not trained, nothing in its backbone can be removed, or a target is out of reach.

    Example:

        ktransfer.prune("runs/flowers", "runs/smaller", keep=0.5)
        ktransfer.prune("runs/flowers", "runs/smaller", multiply_adds=0.5, steps=2)

    Source: Molchanov et al. 2019, "Importance estimation for neural network pruning"; dependencies as in Fang et al.
    2023, "DepGraph", section 3.2.
    """
    options = TrainOptions.of(options, changes)
    formats = check_formats(formats)
    targets = {"keep": keep, "multiply_adds": multiply_adds, "parameters": parameters}
    check_targets(targets, importance, steps)
    keep = 0.5 if all(value is None for value in targets.values()) else keep
    distillation = Distillation(
        teachers=(absolute(source),),
        temperature=temperature,
        weight=weight,
        unlabelled=None if unlabelled is None else absolute(unlabelled),
        text_column=text_column,
        encoding=encoding,
    )
    Run.check_free(out, overwrite=overwrite)
    refuse_teachers_path(distillation, out)
    teacher = distillation.runs[0]
    SoftTargets(teacher.task, temperature=temperature, weight=weight)
    read = read_as(teacher, options, say, verbose)
    inputs, notes = distillation.inputs_without_labels(read[0])
    for note in notes:
        say(f"note       {note}")
    recipe = student_recipe(teacher, read[0], len(inputs), recipe, options)
    prunable = Prunable(teacher, read[0], importance=importance)
    [(cost, target)] = [
        (name, value) for name, value in ({**targets, "keep": keep}).items() if value is not None
    ]
    found = prunable.to(target) if cost == "keep" else prunable.within(cost, target)
    require_loadable(found.model)
    whole = found.keep
    earlier: list[Path] = []
    run, before = teacher, (found.parameters[0], found.multiply_adds[0])
    try:
        for step in range(1, steps + 1):
            last = step == steps
            folder = Path(out) if last else Path(f"{out}.step{step}")
            if step < steps:
                Run.check_free(folder, overwrite=overwrite)
            if steps > 1:
                part = whole ** (1 / steps)
                prunable = Prunable(run, read[0], importance=importance)
                if last and cost != "keep":
                    left = before[0 if cost == "parameters" else 1] * float(target)
                    now = prunable.to(1.0)
                    found = prunable.within(cost, min(1.0, left / getattr(now, cost)[0]))
                else:
                    found = prunable.to(part)
            say(f"pruned     {found.line()}")
            facts = {
                "source": str(teacher.path),
                "importance": importance,
                "steps": steps,
                "keep": whole,
                "parameters": [before[0], found.parameters[1]],
                "multiply_adds": [before[1], found.multiply_adds[1]],
            }
            network = Network(
                found.model,
                teacher.preprocessing,
                {
                    name: value
                    for name, value in teacher.manifest.get("backbone", {}).items()
                    if name not in ("name", "layer", "parameters", "random_weights")
                },
                teacher.modality.reads(teacher.preprocessing.to_dict()),
            )
            run = train_on(
                read,
                read[1]["source"],
                f"{teacher.manifest.get('backbone', {}).get('name', 'backbone')}, pruned",
                folder,
                recipe=recipe,
                options=dataclasses.replace(options, preset=None, epochs=None, seed=recipe.seed),
                formats=formats if last else (),
                overwrite=overwrite,
                cache=cache,
                cache_dir=cache_dir,
                report=report and last,
                distillation=distillation,
                network=network,
                facts={"pruning": facts},
                reproduce=_command(distillation, {cost: target}, importance, steps, absolute(out)),
                say=say,
                verbose=verbose,
            )
            if not last:
                earlier.append(folder)
    finally:
        for folder in earlier:
            shutil.rmtree(folder, ignore_errors=True)
    mine, its = (each.manifest.get("metrics", {}).get("validation") for each in (run, teacher))
    if mine is not None and its is not None:
        say(f"result     validation {run.task.score_title} {mine:.3f}, before pruning {its:.3f}")
    return run


def check_targets(targets: dict[str, float | None], importance: str, steps: int) -> None:
    """Raise `RecipeError` for what no network can be pruned to.

    Args:
        targets: By the name of the argument of `prune`.
        importance: As in `prune`.
        steps: As in `prune`.

    Example:
        >>> check_targets({"keep": 0.5}, "taylor", 1)
    """
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) > 1:
        raise RecipeError(f"Expected one target of pruning, got {listed(given)}. Leave the others out.")
    for name, value in given.items():
        if not 0 < value < 1:
            raise RecipeError(
                f"Expected {name} as a share above 0 and below 1, got {value!r}. Pass such as 0.5."
            )
    if importance not in CRITERIA:
        raise RecipeError(
            f"Expected the importance {' or '.join(CRITERIA)}, got {importance!r}. Pass one of them."
        )
    if not 1 <= steps <= 20:
        raise RecipeError(f"Expected from 1 to 20 steps of pruning, got {steps!r}. Pass such as 3.")


def _ends_in_channels(backbone: keras.Model) -> bool:
    """Whether the head averages a map of channels, of which some may be missing."""
    return isinstance(backbone.output, keras.KerasTensor) and len(backbone.output.shape) == 4


def _arrays(batches: Any) -> Any:
    for batch in batches:
        yield keras.tree.map_structure(np.asarray, batch)


def _same_shapes(one: Any, other: Any) -> bool:
    return [tuple(w.shape) for w in one.weights] == [tuple(w.shape) for w in other.weights]


def _command(
    distillation: Distillation, target: dict[str, Any], importance: str, steps: int, out: str
) -> str:
    words = ["ktransfer", "prune", *distillation.teachers]
    given = {
        **{f"--{name.replace('_', '-')}": value for name, value in target.items()},
        "--importance": importance,
        "--steps": steps,
        "--unlabelled": distillation.unlabelled,
        "--text-column": distillation.text_column,
        "--encoding": distillation.encoding,
        "--temperature": distillation.temperature,
        "--weight": distillation.weight,
        "--recipe": f"{out}/recipe.json",
    }
    words += [str(word) for option, value in given.items() if value is not None for word in (option, value)]
    return shlex.join([*words, "--out", "NEW"])
