import dataclasses
import json

import pytest

from ktransfer.errors import RecipeError
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.recipe import Recipe, Stage, progressive_stages, stage_at
from ktransfer.text.augmentation import TextAugmentation

STAGES = (
    Stage(depth=0, epochs=2, learning_rate=1e-3),
    Stage(depth=0.5, epochs=3, learning_rate=1e-4, warmup=1.0, schedule="cosine", patience=2),
    Stage(depth="all", epochs=1, learning_rate=1e-5),
)


@pytest.mark.parametrize(("epoch", "stage"), [(0, 0), (1, 0), (2, 1), (4, 1), (5, 2), (6, 2), (100, 2)])
def test_the_stage_follows_from_the_epoch(epoch, stage):
    assert stage_at(STAGES, epoch) == stage
    assert Recipe(stages=STAGES).stage_at(epoch) == stage


def test_rates_fall_geometrically_from_the_head_to_the_lowest_block():
    rates = Stage(depth="all", epochs=1, lowest_rate=0.01).rates(2)
    assert rates == pytest.approx([0.1, 0.01])


@pytest.mark.parametrize(
    "change",
    [{"augmentation": TextAugmentation(swap=0.1)}, {"loss": "focal", "focal_gamma": 1.5}],
)
def test_a_recipe_for_texts_survives_json(change):
    recipe = Recipe(stages=(Stage(depth=2, epochs=1, learning_rate=1e-4, schedule="linear"),), **change)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_a_recipe_survives_json():
    augmentation = Augmentation(flip=False, mixup=0.2)
    recipe = Recipe(stages=STAGES, label_smoothing=0.1, augmentation=augmentation, int8_agreement=0.9, seed=7)
    assert Recipe.from_json(recipe.to_json()) == recipe
    depths = [stage.depth for stage in Recipe.from_json(recipe.to_json()).stages]
    assert depths == [0, 0.5, "all"]
    assert [type(depth) for depth in depths] == [int, float, str]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"typos": 0.1}, TextAugmentation(typos=0.1)),
        (TextAugmentation().to_dict(), TextAugmentation()),
        ({"flip": False}, Augmentation(flip=False)),
        ({}, Augmentation()),
    ],
)
def test_an_augmentation_of_texts_is_told_from_one_of_images_by_its_fields(values, expected):
    assert Recipe.from_dict({"stages": [], "augmentation": values}).augmentation == expected


@pytest.mark.parametrize("values", [{"typos": 0.1, "flip": True}, {"typos": 2}, {"typos": "many"}, 3])
def test_an_augmentation_that_is_neither_of_texts_nor_of_images_is_refused(values):
    with pytest.raises(RecipeError, match=", got "):
        Recipe.from_dict({"stages": [], "augmentation": values})


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"depth": -1}, "depth"),
        ({"depth": 1.5}, "depth"),
        ({"depth": ""}, "depth"),
        ({"depth": True}, "depth"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": 1.0}, "epochs"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"lowest_rate": 2.0}, "lowest_rate"),
        ({"warmup": 9.0}, "warmup"),
        ({"schedule": "exponential"}, "schedule"),
        ({"patience": 0}, "patience"),
    ],
)
def test_a_stage_that_cannot_be_is_refused_at_birth(change, name):
    with pytest.raises(RecipeError, match=f"{name} .*, got "):
        dataclasses.replace(Stage(depth=1, epochs=2), **change)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"stages": (), "head": "train"}, "stages"),
        ({"stages": (Stage(depth=0, epochs=1),)}, "learning_rate"),
        ({"head": "guess"}, "head"),
        ({"batch_size": 0}, "batch_size"),
        ({"optimizer": "adagrad"}, "optimizer"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"loss": "hinge"}, "loss"),
        ({"focal_gamma": -1.0}, "focal_gamma"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"dropout": 1.0}, "dropout"),
        ({"batch_norm": "free"}, "batch_norm"),
        ({"augmentation": None}, "augmentation"),
        ({"float16_agreement": 1.5}, "float16_agreement"),
        ({"int8_agreement": float("nan")}, "int8_agreement"),
        ({"int8_accuracy_drop": -0.01}, "int8_accuracy_drop"),
        ({"quantization_aware": -1}, "quantization_aware"),
        ({"quantization_aware": True}, "quantization_aware"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_at_birth(change, name):
    with pytest.raises(RecipeError, match=f"{name}.*, got "):
        dataclasses.replace(Recipe(stages=STAGES), **change)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"stages": 3}',
        '{"stages": [{"depth": 0}]}',
        '{"stages": [], "colour": 1}',
        '{"stages": ["x"]}',
    ],
)
def test_json_that_is_no_recipe_is_refused(text):
    with pytest.raises(RecipeError, match=", got "):
        Recipe.from_json(text)


def test_an_unknown_field_is_named():
    values = json.loads(Recipe(stages=STAGES).to_json()) | {"learning_rat": 1}
    with pytest.raises(RecipeError, match="learning_rat"):
        Recipe.from_dict(values)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 7, 12, 50])
def test_progressive_stages_fill_the_epochs_and_start_with_the_head(epochs):
    stages = progressive_stages(epochs, learning_rate=1e-3)
    assert sum(stage.epochs for stage in stages) == epochs
    assert stages[0].depth == 0
    rates = [stage.learning_rate for stage in stages]
    assert rates == sorted(rates, reverse=True)
