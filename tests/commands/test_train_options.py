import dataclasses
import inspect

import pytest

from ktransfer.commands.train import train
from ktransfer.commands.train_options import TrainOptions
from ktransfer.errors import RecipeError
from ktransfer.recipes.adapter import LoRA
from ktransfer.recipes.recipe import Recipe
from ktransfer.runs.provenance import arguments


def test_keywords_take_the_place_of_the_options_given():
    options = TrainOptions.of(TrainOptions(seed=1, image_size=96), {"image_size": 160})
    assert (options.seed, options.image_size) == (1, 160)


def test_an_option_that_there_is_none_of_is_named_with_the_nearest(tmp_path):
    with pytest.raises(TypeError, match=r"got 'imagesize'.*Did you mean image_size"):
        train("flowers", "backbone", tmp_path / "run", imagesize=160)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "slow"}, "slow"),
        ({"budget": "soon"}, "soon"),
        ({"budget": 600, "refit": True}, "a budget or refit"),
        ({"refit": True, "quantization_aware": 2}, "refit or quantization_aware"),
    ],
)
def test_options_that_cannot_be_are_refused_at_birth(options, message):
    with pytest.raises(RecipeError, match=message):
        TrainOptions(**options)


@pytest.mark.parametrize("options", [{"epochs": 2}, {"preset": "fast"}, {"budget": "10m"}])
def test_a_recipe_takes_the_place_of_a_preset(options):
    TrainOptions(**options).check_recipe(None)
    with pytest.raises(RecipeError, match="recipe"):
        TrainOptions(**options).check_recipe(Recipe(stages=()))


def test_every_option_can_be_repeated_from_a_run():
    fields = {field.name for field in dataclasses.fields(TrainOptions)}
    given = arguments(
        {"data": "d", "backbone": "b", "cache": True, "cache_dir": None, "formats": ()} | vars(TrainOptions())
    )
    of_the_recipe = {"preset", "budget", "refit", "epochs", "seed"} | TrainOptions(
        batch_size=8, seed=1, class_weight="balanced", loss="focal", quantization_aware=1, adapter=LoRA()
    ).changes().keys()
    assert fields - given.keys() - of_the_recipe == {"augmentation", "group_by"}


def test_train_has_a_dozen_parameters():
    assert len(inspect.signature(train).parameters) <= 13
