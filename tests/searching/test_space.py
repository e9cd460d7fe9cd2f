"""Spaces of a search: what they refuse, and the recipes that they give."""

import json

import pytest

from ktransfer.core.modality import modality
from ktransfer.core.task import get_task
from ktransfer.errors import RecipeError
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.searching.space import PARAMETERS, Space, default_space, values_of

IMAGE, TEXT = modality("image"), modality("text")
SINGLE, REGRESSION = get_task("single_label"), get_task("regression")


def base(kind=IMAGE, **options):
    stage = Stage(depth="all", epochs=4, learning_rate=5e-4, lowest_rate=0.3, warmup=0.5, schedule="cosine")
    return Recipe(stages=[stage], augmentation=kind.augmentation.none(), **options)


# What is wrong with it by itself, and words of the message.
REFUSED = {
    "nothing": ({}, "Expected a space as an object"),
    "a list": ([1], "Expected a space as an object"),
    "an unknown name": ({"learning_rat": [1e-3]}, "Did you mean learning_rate"),
    "an unknown key": ({"epochs": {"low": 1, "hihg": 3}}, "Did you mean high"),
    "a key next to choices": ({"epochs": {"choices": [1], "low": 1}}, "choices alone"),
    "no choice": ({"depth": []}, "Name one value"),
    "choices that are none": ({"depth": {"choices": 3}}, "Expected"),
    "a repeated choice": ({"depth": [0.5, 0.5]}, "each once"),
    "an equal choice": ({"depth": [1, 1.0]}, "each once"),
    "low alone": ({"dropout": {"low": 0.1}}, "Expected numbers"),
    "words as ends": ({"dropout": {"low": "a", "high": "b"}}, "Expected numbers"),
    "true as an end": ({"dropout": {"low": False, "high": True}}, "Expected numbers"),
    "infinity": ({"dropout": {"low": 0, "high": float("inf")}}, "Expected numbers"),
    "NaN among choices": ({"dropout": [float("nan")]}, "finite"),
    "the wrong way round": ({"dropout": {"low": 0.5, "high": 0.1}}, "low below high"),
    "no width": ({"dropout": {"low": 0.5, "high": 0.5}}, "low below high"),
    "a step over the width": ({"dropout": {"low": 0.1, "high": 0.2, "step": 1.0}}, "step"),
    "a step backwards": ({"dropout": {"low": 0.1, "high": 0.2, "step": -0.1}}, "step"),
    "the logarithm of 0": ({"weight_decay": {"low": 0.0, "high": 0.1, "log": True}}, "above 0"),
    "a step and a logarithm": ({"dropout": {"low": 0.1, "high": 0.4, "log": True, "step": 0.1}}, "no step"),
    "parts of epochs": ({"epochs": {"low": 1.5, "high": 3}}, "whole numbers"),
    "a choice of parts of epochs": ({"epochs": [1, 1.5]}, "whole numbers"),
    "a range of words": ({"optimizer": {"low": 1, "high": 2}}, "choices"),
    "depth twice": ({"depth": [0.5], "frozen_ratio": [0.5]}, "got both"),
}


@pytest.mark.parametrize("given", REFUSED)
def test_what_is_no_space_is_refused(given):
    values, said = REFUSED[given]
    with pytest.raises(RecipeError, match=said):
        Space(values)


# What no recipe can have.
UNFIT = {
    "a dropout of 1": (IMAGE, SINGLE, {"dropout": {"low": 0.0, "high": 1.0}}),
    "an unknown optimizer": (IMAGE, SINGLE, {"optimizer": ["adamw", "adan"]}),
    "a learning rate of 0": (IMAGE, SINGLE, {"learning_rate": [0.0, 1e-3]}),
    "a depth over 1": (IMAGE, SINGLE, {"depth": [1.5]}),
    "a negative depth": (IMAGE, SINGLE, {"depth": [-1]}),
    "a frozen ratio over 1": (IMAGE, SINGLE, {"frozen_ratio": {"low": 0.0, "high": 1.5}}),
    "no epochs": (IMAGE, SINGLE, {"epochs": {"low": 0, "high": 3}}),
    "no stages": (IMAGE, SINGLE, {"stages": [0]}),
    "an unknown schedule": (IMAGE, SINGLE, {"schedule": ["cosin"]}),
    "an unknown augmentation": (IMAGE, SINGLE, {"augmentation": ["strong"]}),
    "an unknown field of it": (IMAGE, SINGLE, {"augmentation": [{"flipp": True}]}),
    "that of images for texts": (TEXT, SINGLE, {"augmentation": [{"flip": True}]}),
    "a size of texts": (TEXT, SINGLE, {"image_size": [64]}),
    "a length of images": (IMAGE, SINGLE, {"sequence_length": [64]}),
    "smoothed numbers": (TEXT, REGRESSION, {"label_smoothing": [0.0, 0.1]}),
    "a loss of classes for numbers": (TEXT, REGRESSION, {"loss": ["focal"]}),
}


@pytest.mark.parametrize("given", UNFIT)
def test_values_that_no_recipe_can_have_are_refused(given):
    kind, task, values = UNFIT[given]
    with pytest.raises(RecipeError, match="Expected"):
        Space(values).check(kind, task, task.adapted(base(kind)))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a": 1}', "\udcff"])
def test_a_file_that_is_no_space_is_refused(text):
    with pytest.raises(RecipeError, match="Expected"):
        Space.from_json(text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("task", ["single_label", "multi_label", "ner", "regression"])
@pytest.mark.parametrize("kind", [IMAGE, TEXT])
def test_the_default_space_fits_and_holds_the_recipe_of_the_preset(kind, task):
    task = get_task(task)
    recipe = task.adapted(base(kind))
    space = default_space(kind, task, recipe, ["a", "b"])
    space.check(kind, task, recipe)
    first = space.near(values_of(recipe, "a"))
    assert first["backbone"] == "a"
    assert first["depth"] == "all"
    assert first["epochs"] == 4
    again = space.recipe(first, recipe, kind)
    assert again.stages == recipe.stages
    assert Space.from_json(space.to_json()).to_dict() == space.to_dict()


@pytest.mark.parametrize(
    ("values", "depths", "lengths"),
    [
        ({"depth": "all", "epochs": 3}, ["all"], [3]),
        ({"depth": "all", "epochs": 5, "stages": 2}, [0.5, "all"], [3, 2]),
        ({"depth": 0.5, "epochs": 2, "stages": 3}, [0.25, 0.5], [1, 1]),
        ({"depth": 4, "epochs": 4, "stages": 2}, [2, 4], [2, 2]),
        ({"frozen_ratio": 0.25, "epochs": 1}, [0.75], [1]),
        ({"depth": 0}, [], []),
        ({"frozen_ratio": 1.0}, [], []),
        ({"frozen_ratio": 0.0, "epochs": 2}, [1.0], [2]),
        ({"depth": "stack1_block0", "epochs": 2, "stages": 2}, ["stack1_block0"] * 2, [1, 1]),
    ],
)
def test_stages_follow_from_depth_epochs_and_their_number(values, depths, lengths):
    space = Space({name: [value] for name, value in values.items()})
    recipe = space.recipe(values, base(), IMAGE)
    assert [stage.depth for stage in recipe.stages] == depths
    assert [stage.epochs for stage in recipe.stages] == lengths
    assert recipe.final_weights == ("interpolated" if depths else "best")


def test_all_else_is_taken_from_the_recipe():
    values = {"learning_rate": 1e-3, "weight_decay": 0.02, "augmentation": {"flip": True, "rotation": 0.0}}
    space = Space({name: [value] for name, value in values.items()})
    recipe = space.recipe(values, base(label_smoothing=0.1), IMAGE)
    assert recipe.label_smoothing == 0.1
    assert recipe.weight_decay == 0.02
    assert recipe.augmentation.rotation == 0
    assert recipe.stages[0].schedule == "cosine"
    assert recipe.stages[0].learning_rate == 1e-3


def test_a_grid_has_all_values():
    space = Space({"epochs": {"low": 1, "high": 3}, "dropout": {"low": 0.0, "high": 0.2, "step": 0.1}})
    assert space.grid() == {"epochs": [1, 2, 3], "dropout": pytest.approx([0.0, 0.1, 0.2])}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"dropout": {"low": 0.0, "high": 0.2}}, "step"),
        ({"epochs": {"low": 1, "high": 500}, "batch_size": {"low": 1, "high": 500}}, "at most"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(values, said):
    with pytest.raises(RecipeError, match=said):
        Space(values).grid()


def test_every_parameter_is_described_and_used():
    assert all(PARAMETERS.values())
    written = json.dumps(values_of(base(), "a"))
    for name in set(PARAMETERS) - {"image_size", "sequence_length"}:
        assert f'"{name}"' in written or name == "frozen_ratio"
