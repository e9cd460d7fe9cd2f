"""The options of `train` other than data, backbone and recipe."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ktransfer.core.modality import Augmentation
from ktransfer.data.tables.columns import as_reference
from ktransfer.errors import RecipeError, did_you_mean
from ktransfer.recipes.adapter import LoRA
from ktransfer.recipes.default_recipes import BALANCED, check_preset
from ktransfer.recipes.recipe import Recipe
from ktransfer.recipes.time_budget import parse_duration


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options for reading examples, and for the duration and the recipe of training.

    Vary one with `dataclasses.replace`. `ktransfer.train` takes each field as a keyword of its own as well.

    Args:
        validation: Data of the same kind to validate on instead of a split of the data. Defaults to `None`.
        validation_fraction: The share of each class to hold out where there is no validation split. Defaults to 0.2.
        test_fraction: The share of each class to hold out as a test split, before validation is held out, where the
            data has no test split. Defaults to `None`, which holds out none.
        evaluate_test: Whether the test split is evaluated; `False` leaves it unread, for runs that are compared with
            each other. Defaults to `True`.
        data_dir: Where TensorFlow Datasets keeps its data. Defaults to `None`, its own choice.
        image_size: Pixels, one side or `(height, width)`. Defaults to `None`, the preset's own.
        scaling: As in `load_backbone`, for a `.keras` file. Defaults to `None`.
        text_column: Column of a table with the texts. Defaults to `None`, which guesses it.
        text_columns: Both columns of a table of pairs of texts, such as `("premise", "hypothesis")`, in place of
            `text_column`. Defaults to `None`, which guesses them by their usual names.
        file_column: Column of a table with the names of image files. Defaults to `None`, which guesses it.
        label_column: Column of the labels, or several columns of 0 and 1 with commas between their names. Defaults to
            `None`, which guesses it.
        label_separator: What stands between the labels of a cell, such as `"|"`. Defaults to `None`, which guesses it.
        task: `"single_label"`, `"multi_label"`, `"ner"` (named entities in texts), `"regression"` or `"ordinal"`
            (classes in order, each named by its rank or beginning with it). Defaults to `None`, what the data looks
            like; a column of numbers is taken as classes or refused, and as numbers or ranks only where it is given.
        target_transform: `"log"` trains a regression on the logarithm of a positive target; answers are in its own unit
            nevertheless. Defaults to `None`, the target as it is.
        group_column: Column with what an example belongs to, such as a patient: validation has other groups than
            training. Defaults to `None`.
        group_by: Callable from the name of a file below the folder of the data, or from a text of a table, to what it
            belongs to, in place of a group column. Defaults to `None`.
        encoding: Of tables and text files. Defaults to `None`, UTF-8.
        sequence_length: Tokens that a longer text is cut to. Defaults to `None`, what 95 of 100 texts fit into.
        client: `"mediapipe"` reads images and texts as MediaPipe Tasks do, so that its classifiers answer as the run
            does, and TFLite files are written for it. Defaults to `None`, as the backbone was pretrained.
        skip_corrupt: Leave out images that cannot be read. Defaults to `False`.
        exclude: An exclusion list that `ktransfer audit --fix` wrote; what it names is left out. Defaults to `None`.
        allow_leakage: Train although validation examples are trained on as well; it is printed. Defaults to `False`.
        preset: `"fast"`, `"balanced"` or `"best"`: how much time accuracy is worth (see `preset_recipe`); all but
            the first decide by evidence how much of the backbone is fine-tuned. Not with a recipe. Defaults to
            `None`, which is `"balanced"`.
        budget: Time that all of it may take, export included: seconds, or a text such as `"10m"`; fewer epochs are
            trained where there is no time for all of the preset's. Not with a recipe. Defaults to `None`, no limit.
        refit: Train once more on training and validation examples together, with what was chosen, and keep that
            model; the metrics stay those of the model before, and are an estimate. Not with `budget`. Defaults to
            `None`, which does so with the preset `"best"` and no budget, if validation was held out of fewer than 2,000
            training examples.
        epochs: Of fine-tuning by the preset; 0 keeps the solved head. Not with a recipe. Defaults to `None`.
        batch_size: Examples in a step, of all devices together. Defaults to `None`, the recipe's.
        seed: Of everything random. Defaults to `None`, the recipe's, which is 0 by default.
        class_weight: As in `Recipe`. Defaults to `None`, the recipe's.
        loss: As in `Recipe`. Defaults to `None`, the recipe's.
        augmentation: As in `Recipe`. Defaults to `None`, the recipe's.
        quantization_aware: As in `Recipe`. Defaults to `None`, the recipe's.
        adapter: As in `Recipe`: a `LoRA` trains adapters in place of all weights of the unfrozen blocks; the presets
            then have higher learning rates. Not with `quantization_aware`. Defaults to `None`, the recipe's.
        random_weights: Start from a random backbone, to see what the pretrained one is worth. Defaults to `False`.
        fast_depthwise: Compute depthwise convolutions as such (see `ktransfer.use_depthwise`). Defaults to `True`.

    Raises:
        RecipeError: The preset or the budget cannot be, or options exclude each other.

    Example:
        >>> dataclasses.replace(TrainOptions(epochs=3), seed=1).changes()
        {'seed': 1}
    """

    validation: str | Path | None = None
    validation_fraction: float = 0.2
    test_fraction: float | None = None
    evaluate_test: bool = True
    data_dir: str | Path | None = None
    image_size: int | tuple[int, int] | None = None
    scaling: str | None = None
    text_column: str | None = None
    text_columns: str | Sequence[str] | None = None
    file_column: str | None = None
    label_column: str | None = None
    label_separator: str | None = None
    task: str | None = None
    target_transform: str | None = None
    group_column: str | None = None
    group_by: Callable[[str], str] | None = None
    encoding: str | None = None
    sequence_length: int | None = None
    client: str | None = None
    skip_corrupt: bool = False
    exclude: str | Path | None = None
    allow_leakage: bool = False
    preset: str | None = None
    budget: float | str | None = None
    refit: bool | None = None
    epochs: int | None = None
    batch_size: int | None = None
    seed: int | None = None
    class_weight: str | None = None
    loss: str | None = None
    augmentation: Augmentation | None = None
    quantization_aware: int | None = None
    adapter: LoRA | None = None
    random_weights: bool = False
    fast_depthwise: bool = True

    def __post_init__(self) -> None:
        check_preset(self.preset or BALANCED)
        if self.test_fraction is not None and not 0 < self.test_fraction < 1:
            raise RecipeError(
                f"Expected a test_fraction between 0 and 1, got {self.test_fraction!r}. Pass 0.2 to hold out a fifth."
            )
        object.__setattr__(self, "text_columns", as_reference(self.text_columns))
        if self.budget is not None:
            parse_duration(self.budget)
            if self.refit:
                raise RecipeError(
                    f"Expected a budget or refit, which takes as long again, got both, budget={self.budget!r}. "
                    "Leave one out."
                )
        if self.refit and self.quantization_aware:
            raise RecipeError(
                "Expected refit or quantization_aware epochs, got both, "
                f"quantization_aware={self.quantization_aware}. Leave one out."
            )

    @classmethod
    def of(cls, options: "TrainOptions | None", changes: dict[str, Any]) -> "TrainOptions":
        """Options with some changed.

        Raises:
            TypeError: There is no such option.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if unknown := [name for name in changes if name not in names]:
            raise TypeError(
                f"Expected options of TrainOptions, got {unknown[0]!r}. {did_you_mean(unknown[0], names)}".rstrip()
            )
        return dataclasses.replace(options or cls(), **changes)

    def check_recipe(self, recipe: Recipe | None) -> None:
        """Raise `RecipeError` where a recipe is given as well as what takes its place."""
        if recipe is None:
            return
        if self.epochs is not None:
            raise RecipeError(
                f"Expected a recipe, which has its own epochs, or epochs, got both, epochs={self.epochs}. "
                "Leave one out."
            )
        for name in ("preset", "budget"):
            if (value := getattr(self, name)) is not None:
                raise RecipeError(
                    f"Expected a recipe or a {name}, got both, {name}={value!r}. Leave one out."
                )

    def reading(self) -> dict[str, Any]:
        """The options for reading examples, by the names that modalities use."""
        names = (
            *("image_size", "scaling", "skip_corrupt", "text_column", "text_columns", "file_column"),
            *("label_column", "label_separator", "task", "group_column", "encoding", "sequence_length"),
            "client",
        )
        return {name: getattr(self, name) for name in names}

    def changes(self) -> dict[str, Any]:
        """The fields of a recipe that these options change."""
        names = (
            "batch_size",
            "seed",
            "class_weight",
            "loss",
            "augmentation",
            "quantization_aware",
            "adapter",
        )
        return {name: value for name in names if (value := getattr(self, name)) is not None}
