"""A limit on the time of a whole command: how many epochs fit into it."""

import dataclasses
import re
import time
from collections.abc import Callable

from ktransfer.errors import RecipeError
from ktransfer.recipes.recipe import Recipe

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
# Seconds that a command takes apart from training, measured on two cores with backbones of 2 to 24 million weights:
# imports, evaluation and report; each format, which is converted and verified; both grow with the weights.
_FIXED, _EACH_FORMAT, _EACH_MILLION_WEIGHTS = 40.0, 15.0, 0.5
# A training step costs as much as this many forward passes, and more on some operations.
_STEP_COST = 4.0


def parse_duration(text: str | float) -> float:
    """Seconds of a duration such as `"90s"`, `"10m"`, `"1.5h"`; of a number itself.

    Raises:
        RecipeError: It is none, or not positive.

    Example:

        parse_duration("10m")   # 600.0
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|)\s*", str(text))
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds < float("inf"):
        raise RecipeError(f"Expected a duration such as 90s, 10m or 1.5h, got {text!r}. Pass one.")
    return seconds


class TimeBudget:
    """Time that a whole command may take, and what of it is reserved for what comes after training.

    Args:
        seconds: From now on.
        formats: How many formats are exported.
        weights: Of the model.
        clock: Seconds, rising.

    Raises:
        RecipeError: `seconds` are fewer than the reserve.

    Example:

        budget = TimeBudget(600, formats=3)
        budget.left()   # seconds that training may still take
    """

    def __init__(
        self,
        seconds: float,
        *,
        formats: int = 0,
        weights: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._end = clock, clock() + seconds
        self.reserve = _FIXED + formats * (_EACH_FORMAT + _EACH_MILLION_WEIGHTS * weights / 1e6)
        if seconds < self.reserve:
            raise RecipeError(
                f"Expected a budget of at least {self.reserve:.0f} s for this backbone and {formats} formats, got "
                f"{seconds:.0f} s. Give it more, export fewer formats, or take --epochs 0."
            )

    def left(self) -> float:
        """Seconds that training may still take; negative where the reserve is in use."""
        return self._end - self.reserve - self._clock()

    def fit_epochs(
        self, recipe: Recipe, *, example_seconds: float, examples: int, speedup: float = 1.0
    ) -> Recipe:
        """A recipe whose last stage has as many epochs as there is time for; none leaves the solved head.

        Args:
            recipe: Of one stage.
            example_seconds: Of the forward pass of an example.
            examples: For training, and a fifth as many for validation.
            speedup: How many times faster an epoch is on cached features.

        Example:

            budget.fit_epochs(recipe, example_seconds=0.02, examples=500)
        """
        epoch = example_seconds * examples * (_STEP_COST + 0.2) / speedup
        # Each candidate of the final weights costs one pass over the validation examples.
        left = self.left() - example_seconds * examples
        epochs = min(recipe.epochs, max(0, int(left / epoch)))
        if not epochs:
            return dataclasses.replace(recipe, stages=(), final_weights="best")
        stage = recipe.stages[-1]
        stages = (dataclasses.replace(stage, epochs=epochs, warmup=min(stage.warmup, epochs)),)
        return dataclasses.replace(recipe, stages=stages)
