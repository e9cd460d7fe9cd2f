"""The space of a search: named parameters of a recipe with their ranges or choices, checked before anything trains."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ktransfer.errors import RecipeError, did_you_mean, listed
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.security.safe_io import parse_json

if TYPE_CHECKING:
    from ktransfer.core.modality import Modality
    from ktransfer.core.task import Task


# What a space may vary, by name: in which words it is described.
PARAMETERS = {
    "backbone": "names as in train",
    "image_size": "side of the images, pixels",
    "sequence_length": "tokens that longer texts are cut to",
    "depth": "how much of the backbone trains, from the top: a share in (0, 1], a number of blocks, all, or 0 for none",
    "frozen_ratio": "the share of the backbone that stays frozen, in [0, 1], in place of depth",
    "stages": "in how many equal stages the depth is reached, 1 to 4",
    "epochs": "of all stages",
    "learning_rate": "peak of the head's",
    "lowest_rate": "learning rate of the lowest unfrozen block as a share of the head's, in (0, 1]",
    "warmup": "epochs, or a part of one, of the first stage",
    "schedule": "constant, cosine or linear",
    "optimizer": "adamw, adam or sgd",
    "batch_size": "examples",
    "weight_decay": "at least 0",
    "dropout": "share of features before the last layer, in [0, 1)",
    "label_smoothing": "share of the target, in [0, 1)",
    "loss": "cross_entropy or focal; of regression huber or squared_error",
    "class_weight": "balanced or null",
    "augmentation": "none, default, or fields of the augmentation of the data",
}
# Which of them are read with the data, and which name the backbone; the others are of the recipe.
_READING = ("image_size", "sequence_length")
_WHOLE = ("epochs", "stages", "batch_size", "image_size", "sequence_length")
_FIELDS = ("optimizer", "batch_size", "weight_decay", "dropout", "label_smoothing", "loss", "class_weight")
_RANGE = ("low", "high", "log", "step")
_MOST_CHOICES = 1_000


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low, high: Of one type, int or float.
        log: Whether they are drawn by their logarithm. Defaults to `False`.
        step: Between numbers; `None` draws any, of whole numbers each. Defaults to `None`.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the numbers are whole ones."""
        return isinstance(self.low, int)

    def values(self) -> list[float] | None:
        """All numbers, for a grid; `None` where there is no step between them."""
        if self.step is None and not self.is_whole:
            return None
        step = self.step or 1
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return [self.low + index * step for index in range(min(count, _MOST_CHOICES + 1))]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high
        )

    def to_json(self) -> Any:
        """As a space in JSON has it."""
        found: dict[str, Any] = {"low": self.low, "high": self.high}
        return (
            found | ({"log": True} if self.log else {}) | ({} if self.step is None else {"step": self.step})
        )


@dataclass(frozen=True)
class Choices:
    """A few values, of which one is chosen.

    Attributes:
        options: JSON-able, each once.
    """

    options: tuple[Any, ...]

    def values(self) -> list[Any]:
        """All of them."""
        return list(self.options)

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return any(type(value) is type(each) and value == each for each in self.options)

    def to_json(self) -> Any:
        """As a space in JSON has it."""
        return {"choices": list(self.options)}


class Space:
    """Parameters that a search varies, each with its range or choices.

    Args:
        given: By the name of a parameter (`PARAMETERS`) `{"low": 1e-5, "high": 1e-3, "log": true}`, `{"choices":
            [...]}` or a list of choices, or one value that is the same in every trial.

    Raises:
        RecipeError: It names a parameter that there is not, or a range or a value that cannot be.

    Example:
        >>> Space({"learning_rate": {"low": 1e-5, "high": 1e-3, "log": True}, "depth": [0.5, "all"]}).names
        ('learning_rate', 'depth')
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        if not isinstance(given, Mapping) or not given:
            raise RecipeError(
                f"Expected a space as an object of named ranges and choices, got {given!r:.80}. "
                "`ktransfer search --show-space` prints one."
            )
        self.parameters: dict[str, Range | Choices] = {}
        for name, values in given.items():
            if name not in PARAMETERS:
                raise RecipeError(
                    f"Expected parameters of a space, {listed(PARAMETERS)}, got {name!r:.80}. "
                    f"{did_you_mean(name, PARAMETERS)}".rstrip()
                )
            self.parameters[name] = _parameter(name, values)
        if {"depth", "frozen_ratio"} <= self.parameters.keys():
            raise RecipeError("Expected depth or frozen_ratio in a space, got both. Leave one out.")

    @classmethod
    def from_json(cls, text: str | bytes) -> Space:
        """Read a space from JSON.

        Raises:
            RecipeError: It is not JSON, or no space.

        Example:
            >>> Space.from_json('{"depth": [0.5, "all"]}').names
            ('depth',)
        """
        try:
            values = parse_json(text)
        except ValueError as error:
            raise RecipeError(
                f"Expected a space in JSON, got {error}. `ktransfer search --show-space` prints one."
            ) from error
        return cls(values)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in the order in which they were given."""
        return tuple(self.parameters)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: values.to_json() for name, values in self.parameters.items()}

    def to_json(self) -> str:
        """As a file that `from_json` reads."""
        lines = (f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in self.to_dict().items())
        return "{\n" + ",\n".join(lines) + "\n}"

    def check(self, modality: Modality, task: Task, base: Recipe) -> None:
        """Refuse what cannot be with this kind of data and this task, whatever is drawn.

        Args:
            modality: Of the data.
            task: Of the labels.
            base: The recipe that a trial changes.

        Raises:
            RecipeError: A parameter is of another modality, or a value cannot be.
        """
        for name in _READING:
            if name in self.parameters and name not in modality.options:
                raise RecipeError(f"Expected a space for {modality.noun}, got {name}. Leave it out.")
        first = {name: _ends(values)[0] for name, values in self.parameters.items()}
        for name, values in self.parameters.items():
            for value in _ends(values):
                try:
                    task.check_recipe(self.recipe(first | {name: value}, base, modality))
                except RecipeError as error:
                    raise RecipeError(
                        f"Expected values of {name} in a space that a recipe can have, got {value!r:.80}. {error}"
                    ) from error

    def recipe(self, values: Mapping[str, Any], base: Recipe, modality: Modality) -> Recipe:
        """The recipe of one choice of values.

        Args:
            values: By the name of each parameter.
            base: What all else is taken from; its last stage where no parameter says otherwise.
            modality: Of the data, for the augmentation.

        Returns:
            A `Recipe`; one without stages where nothing of the backbone trains.

        Raises:
            RecipeError: The values cannot be together.

        Example:

            space.recipe({"learning_rate": 1e-4}, base, modality)
        """
        fields = {name: values[name] for name in _FIELDS if name in values}
        if "augmentation" in values:
            fields["augmentation"] = _augmentation(values["augmentation"], modality)
        stages = _stages(values, base)
        return dataclasses.replace(
            base, stages=stages, final_weights="interpolated" if stages else "best", head="solve", **fields
        )

    def reading(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The options of `train` among the values."""
        return {name: values[name] for name in _READING if name in values}

    def near(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that lie in the space, for the trial to begin with."""
        return {
            name: values[name]
            for name, allowed in self.parameters.items()
            if name in values and allowed.holds(values[name])
        }

    def grid(self) -> dict[str, list[Any]]:
        """All values of each parameter.

        Raises:
            RecipeError: A range of numbers has no step, or there are too many points.
        """
        found = {}
        for name, values in self.parameters.items():
            each = values.values()
            if each is None:
                raise RecipeError(
                    f"Expected choices or a step of each parameter for the sampler grid, got {name} without. "
                    'Write such as {"choices": [1e-4, 3e-4]}.'
                )
            found[name] = each
        points = math.prod(map(len, found.values()))
        if points > _MOST_CHOICES:
            raise RecipeError(
                f"Expected a grid of at most {_MOST_CHOICES:,} points, got {points:,}. Take fewer values."
            )
        return found


def default_space(modality: Modality, task: Task, base: Recipe, backbones: Sequence[str] = ()) -> Space:
    """The space that is searched where none is given, around a recipe of a preset.

    Args:
        modality: Of the data.
        task: Of the labels.
        base: Of the preset, with one stage.
        backbones: Names; a parameter of their own where there are several.

    Example:

        default_space(modality("image"), get_task("single_label"), base)
    """
    stage = _last(base)
    rate = stage.learning_rate or 1e-4  # which a recipe's stages have
    given: dict[str, Any] = {"backbone": list(backbones)} if len(backbones) > 1 else {}
    given |= {
        "depth": [0, 0.25, 0.5, "all"],
        "epochs": {"low": min(2, stage.epochs), "high": stage.epochs},
        "learning_rate": {
            "low": float(f"{rate / 5:.2g}"),
            "high": float(f"{rate * 4:.2g}"),
            "log": True,
        },
        "lowest_rate": {"low": 0.03, "high": 1.0, "log": True},
        "weight_decay": {"low": 1e-5, "high": 0.1, "log": True},
        "dropout": [0.0, 0.2],
    }
    if not task.least_squares:
        given["label_smoothing"] = [0.0, 0.1]
    return Space(given)


def values_of(recipe: Recipe, backbone: str) -> dict[str, Any]:
    """The parameters of a recipe with one stage, as a space names them, for the first trial.

    Example:
        >>> values_of(Recipe(stages=[Stage(depth=0.5, epochs=3, learning_rate=1e-3)]), "resnet")["epochs"]
        3
    """
    stage = _last(recipe)
    found: dict[str, Any] = {"backbone": backbone, "depth": stage.depth, "stages": len(recipe.stages) or 1}
    found |= {name: getattr(recipe, name) for name in _FIELDS}
    found |= {name: getattr(stage, name) for name in ("learning_rate", "lowest_rate", "warmup", "schedule")}
    share = 1.0 if stage.depth == "all" else stage.depth
    if isinstance(share, float):
        found["frozen_ratio"] = 1 - share
    return found | {"epochs": recipe.epochs or stage.epochs, "augmentation": "none"}


def _parameter(name: str, given: Any) -> Range | Choices:
    if isinstance(given, Mapping) and "choices" in given:
        if unknown := sorted(set(given) - {"choices"}):
            raise RecipeError(
                f"Expected choices alone of {name}, got {listed(unknown)} as well. Leave it out."
            )
        given = given["choices"]
    elif isinstance(given, Mapping) and set(given) & set(_RANGE):
        return _range(name, given)
    elif not isinstance(given, list | tuple):
        given = [given]  # the same in every trial
    if not isinstance(given, list | tuple) or not given:
        raise RecipeError(
            f'Expected {{"choices": [...]}} of {name}, got {given!r:.80}. Name one value or more.'
        )
    written = [json.dumps(value, sort_keys=True, default=repr) for value in given]
    repeated = any(given.index(value) != place for place, value in enumerate(given))  # 1 is 1.0 to Optuna
    if repeated or len(given) > _MOST_CHOICES:
        raise RecipeError(
            f"Expected choices of {name}, each once, got {listed(written)}. Remove what is repeated."
        )
    for value in given:
        if isinstance(value, float) and not math.isfinite(value):
            raise RecipeError(f"Expected finite numbers of {name}, got {value!r}. Remove it.")
        if name in _WHOLE and type(value) is not int:
            raise RecipeError(f"Expected whole numbers of {name}, got {value!r:.80}. {PARAMETERS[name]}.")
    return Choices(tuple(given))


def _range(name: str, given: Mapping[str, Any]) -> Range:
    if unknown := sorted(set(given) - set(_RANGE)):
        hint = did_you_mean(unknown[0], _RANGE)
        raise RecipeError(
            f"Expected low, high, log and step of {name}, got {unknown[0]!r:.80}. {hint}".rstrip()
        )
    low: Any
    high: Any
    low, high, log, step = (given.get(key) for key in _RANGE)
    numbers = [low, high] + ([] if step is None else [step])
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers):
        raise RecipeError(f"Expected numbers as low and high of {name}, got {dict(given)!r:.80}. Write both.")
    if not low < high or (step is not None and not 0 < step <= high - low):
        raise RecipeError(
            f"Expected low below high of {name}, and a step between them, got {dict(given)!r:.80}. "
            "Correct it."
        )
    if log not in (None, True, False) or (log and low <= 0) or (log and step is not None):
        raise RecipeError(
            f"Expected log as true or false of {name}, with low above 0 and no step, got "
            f"{dict(given)!r:.80}. Correct it."
        )
    if name in _WHOLE or (name == "depth" and all(type(n) is int for n in numbers)):
        if not all(type(n) is int for n in numbers):
            raise RecipeError(
                f"Expected whole numbers of {name}, got {dict(given)!r:.80}. {PARAMETERS[name]}."
            )
        return Range(low, high, bool(log), step)
    if isinstance(given.get("low"), int | float) and name in _TEXTS:
        raise RecipeError(
            f"Expected choices of {name}, got a range, {dict(given)!r:.80}. {PARAMETERS[name]}."
        )
    return Range(float(low), float(high), bool(log), None if step is None else float(step))


_TEXTS = ("backbone", "schedule", "optimizer", "loss", "class_weight", "augmentation")


def _ends(values: Range | Choices) -> list[Any]:
    return [values.low, values.high] if isinstance(values, Range) else values.values()


def _last(recipe: Recipe) -> Stage:
    """The stage that parameters change; where a recipe has none, one that trains everything."""
    return recipe.stages[-1] if recipe.stages else Stage(depth="all", epochs=4, learning_rate=1e-4)


def _stages(values: Mapping[str, Any], base: Recipe) -> tuple[Stage, ...]:
    stage = _last(base)
    depth = values.get("depth", stage.depth)
    if "frozen_ratio" in values:
        ratio = values["frozen_ratio"]
        if not isinstance(ratio, int | float) or not 0 <= ratio <= 1:
            raise RecipeError(
                f"Expected a frozen_ratio in [0, 1], got {ratio!r}. Pass 0.5 to freeze the lower half."
            )
        depth = 0 if ratio == 1 else float(1 - ratio)
    if depth == 0 and isinstance(depth, int | float):
        return ()
    epochs = values.get("epochs", base.epochs or stage.epochs)
    count = values.get("stages", 1)
    if type(count) is not int or not 1 <= count <= 4:
        raise RecipeError(f"Expected 1 to 4 stages, got {count!r}. Pass 1 to train all of the depth at once.")
    count = max(1, min(count, epochs)) if type(epochs) is int else count
    changed = {name: values[name] for name in ("learning_rate", "lowest_rate", "schedule") if name in values}
    found = []
    for index in range(count):
        length = epochs // count + (index < epochs % count) if type(epochs) is int else epochs
        warmup = values.get("warmup", stage.warmup) if index == 0 else 0.0
        found.append(
            dataclasses.replace(
                stage,
                depth=_part(depth, (index + 1) / count),
                epochs=length,
                warmup=min(warmup, length) if isinstance(length, int) else warmup,
                **changed,
            )
        )
    return tuple(found)


def _part(depth: Any, share: float) -> Any:
    """So much of a depth; the name of a block stays as it is."""
    if share == 1 or (isinstance(depth, str) and depth != "all"):
        return depth
    if depth == "all":
        return share
    return max(1, round(depth * share)) if isinstance(depth, int) else depth * share


def _augmentation(value: Any, modality: Modality) -> Any:
    if value == "none":
        return modality.augmentation.none()
    if value == "default":
        return modality.augmentation()
    if not isinstance(value, Mapping):
        raise RecipeError(
            f"Expected an augmentation of none, default or its fields, got {value!r:.80}. Write one."
        )
    known = [field.name for field in dataclasses.fields(modality.augmentation)]
    if unknown := [name for name in value if name not in known]:
        raise RecipeError(
            f"Expected fields of {modality.augmentation.__name__}, got {unknown[0]!r:.80}. "
            f"{did_you_mean(unknown[0], known)}".rstrip()
        )
    return modality.augmentation(**value)
