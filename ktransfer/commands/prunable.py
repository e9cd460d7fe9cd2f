"""The network of a run with fewer of its channels, heads and units, and the largest one that meets a target."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ktransfer.commands.costs import backbone_multiply_adds
from ktransfer.commands.splits import dataset
from ktransfer.errors import BackboneError, listed
from ktransfer.models.depthwise import use_depthwise
from ktransfer.models.heads import Head
from ktransfer.models.locate import find_backbone
from ktransfer.models.rebuild import with_backbone
from ktransfer.pruning.dependencies import Dependencies
from ktransfer.pruning.importance import magnitude, taylor
from ktransfer.pruning.pruned import choose, pruned
from ktransfer.pruning.unrolled import unrolled
from ktransfer.runs.run import Run

if TYPE_CHECKING:
    from ktransfer.data.examples import Splits

_IMPORTANCE_BATCHES = 16
LEAST_KEEP = 0.05
COSTS = ("multiply_adds", "parameters")


@dataclass(frozen=True)
class Scores:
    """The importance of the units of a group.

    Attributes:
        whole: How many there were before any pruning.
        worth: The importance of those that are there, in their order.
    """

    whole: int
    worth: tuple[float, ...]


@dataclass(frozen=True)
class Pruning:
    """The result of pruning a network.

    Attributes:
        model: The classifier.
        keep: Share of the units of each group that stays.
        groups: How many groups of units there were.
        parameters: Of the backbone, before and after.
        multiply_adds: Of the backbone for one example, before and after.
        scores: By group what the units that stay count, for further pruning of it.
    """

    model: keras.Model
    keep: float
    groups: int
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]
    scores: Mapping[str, Scores] = field(default_factory=dict)

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
        scores: `Pruning.scores` of the network that the run was trained from, in place of another pass over examples;
            shares are then of the network before all pruning. Defaults to `None`.

    Raises:
        BackboneError: Nothing in the backbone can be removed, with the reason.

    Example:

        Prunable(run, splits).to(0.5).model
    """

    def __init__(
        self,
        run: Run,
        splits: Splits,
        *,
        importance: str = "taylor",
        scores: Mapping[str, Scores] | None = None,
    ) -> None:
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
        groups = self.dependencies.groups
        self._whole = {name: len(units) for name, units in groups.items()}
        if scores is not None and all(
            name in scores and len(scores[name].worth) == len(units) for name, units in groups.items()
        ):
            self._whole = {name: scores[name].whole for name in groups}
            self._importance = {
                self.dependencies.root(unit[0]): worth
                for name, units in groups.items()
                for unit, worth in zip(units, scores[name].worth, strict=True)
            }
        elif importance == "magnitude":
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
        removed = choose(self.dependencies, self._importance, keep, whole=self._whole)
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
            self._scores(removed),
        )

    def _scores(self, removed: set[int]) -> dict[str, Scores]:
        return {
            name: Scores(
                self._whole[name],
                tuple(
                    float(self._importance.get(self.dependencies.root(unit[0]), 0.0))
                    for unit in units
                    if unit[0] not in removed
                ),
            )
            for name, units in self.dependencies.groups.items()
        }

    @property
    def scores(self) -> Mapping[str, Scores]:
        """The importance of the units, by group."""
        return self._scores(set())

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

    def within(self, cost: str, share: float) -> tuple[Pruning, float]:
        """The largest network whose cost is at most a share of what it was, and its share.

        Args:
            cost: One of `COSTS`.
            share: In (0, 1).
        """
        return largest(self.to, lambda found: found.share(cost), share)


def largest(
    make: Callable[[float], Pruning],
    measure: Callable[[Pruning], float],
    target: float,
    *,
    resolution: float = 0.01,
) -> tuple[Pruning, float]:
    """The network that keeps most among those whose measure is at most the target, by halving the interval.

    Args:
        make: From a share to keep to the network.
        measure: What must not exceed the target; it grows with what is kept.
        target: In the unit of `measure`.
        resolution: The interval of shares at which the search ends. Defaults to 0.01.

    Returns:
        The network and its measure; where even the smallest exceeds the target that one.

    Example:

        largest(prunable.to, lambda found: found.share("parameters"), 0.5)
    """
    low, high = LEAST_KEEP, 1.0
    best = make(low)
    least = measure(best)
    if least > target:
        return best, least
    while high - low > resolution:
        found = make((low + high) / 2)
        if (measured := measure(found)) <= target:
            best, least, low = found, measured, found.keep
        else:
            high = found.keep
    return best, least


def _ends_in_channels(backbone: keras.Model) -> bool:
    """Whether the head averages a map of channels, of which some may be missing."""
    return isinstance(backbone.output, keras.KerasTensor) and len(backbone.output.shape) == 4


def _arrays(batches: Any) -> Any:
    for batch in batches:
        yield keras.tree.map_structure(np.asarray, batch)


def _same_shapes(one: Any, other: Any) -> bool:
    return [tuple(w.shape) for w in one.weights] == [tuple(w.shape) for w in other.weights]
