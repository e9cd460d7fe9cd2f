import dataclasses
from functools import partial

import pytest

import ktransfer
from ktransfer.errors import RecipeError
from ktransfer.image.default_recipe import image_recipe
from ktransfer.recipes.default_recipes import head_is_weak, preset_recipe, what_trains, worth_fine_tuning
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.text.augmentation import TextAugmentation
from ktransfer.text.default_recipe import text_recipe


def test_the_default_for_images_takes_the_epochs_it_is_given():
    assert image_recipe(images=500, epochs=0).stages == ()
    assert image_recipe(images=500, epochs=5).epochs == 5
    assert image_recipe(images=50_000, epochs=5).epochs == 5


def test_many_images_thaw_the_whole_backbone_and_few_do_not():
    assert image_recipe(images=50_000).stages[-1].depth == "all"
    assert all(stage.depth != "all" for stage in image_recipe(images=300).stages)


@pytest.mark.parametrize("recipe", [partial(image_recipe, images=500), partial(text_recipe, texts=500)])
def test_a_gpu_gets_mixed_precision_and_larger_batches(recipe):
    with_gpu, without = recipe(gpu=True), recipe()
    assert (with_gpu.precision, without.precision) == ("mixed_float16", "float32")
    assert with_gpu.batch_size > without.batch_size


@pytest.mark.parametrize("texts", [100, 10_000])
def test_the_default_for_texts_solves_the_head_and_thaws_at_once(texts):
    recipe = text_recipe(texts=texts, seed=3)
    assert recipe.head == "solve"
    assert all(stage.depth != 0 for stage in recipe.stages)
    assert recipe.augmentation == TextAugmentation()
    assert recipe.seed == 3


def test_the_default_for_texts_takes_the_epochs_it_is_given():
    assert text_recipe(texts=500, epochs=0).stages == ()
    assert text_recipe(texts=500, epochs=5).epochs == 5


@pytest.mark.parametrize("recipe", [partial(image_recipe, images=500), partial(text_recipe, texts=500)])
def test_fewer_epochs_than_none_are_refused_by_name(recipe):
    with pytest.raises(RecipeError, match=r"epochs .*got -1"):
        recipe(epochs=-1)


def test_few_texts_are_seen_more_often():
    assert text_recipe(texts=300).epochs > text_recipe(texts=30_000).epochs


def test_both_defaults_are_public():
    assert ktransfer.text_recipe is text_recipe
    assert ktransfer.image_recipe is image_recipe


def test_blocks_of_a_text_backbone_learn_at_one_rate_and_those_of_images_slower_below():
    texts, images = preset_recipe("texts", examples=2_000), preset_recipe("images", examples=500)
    assert (texts.stages[0].lowest_rate, texts.stages[0].depth, texts.epochs) == (1.0, 0.5, 8)
    assert preset_recipe("texts", examples=1_999).stages[0].depth == "all"
    assert (images.stages[0].lowest_rate, images.stages[0].depth, images.epochs) == (0.3, "all", 8)
    assert preset_recipe("texts", examples=13_000).epochs == 4


def test_a_weak_head_of_many_texts_trains_more_blocks_at_a_higher_rate():
    weak = preset_recipe("texts", examples=3_394, weak=True)
    # 107 batches an epoch: 0.05 / (2e-4 / 2 * 107) is 4.7 epochs.
    assert (weak.stages[0].depth, weak.stages[0].learning_rate, weak.epochs) == (0.75, 2e-4, 5)
    assert preset_recipe("texts", examples=50_000, weak=True).epochs == 3
    few = {"examples": 500, "preset": "balanced"}
    assert preset_recipe("texts", **few, weak=True) == preset_recipe("texts", **few)
    best = {"examples": 5_000, "preset": "best"}
    assert preset_recipe("texts", **best, weak=True) == preset_recipe("texts", **best)
    assert preset_recipe("images", examples=5_000, weak=True) == preset_recipe("images", examples=5_000)


@pytest.mark.parametrize(
    ("loss", "constant", "weak"),
    [(0.4, 0.5, True), (0.2, 0.5, False), (0.25, 0.5, False), (None, None, False), (0.4, None, False)],
)
def test_a_head_is_weak_that_tells_less_than_half(loss, constant, weak):
    assert head_is_weak({"log_loss": loss, "constant_log_loss": constant}) is weak


@pytest.mark.parametrize("long", [True, False])
def test_labels_are_smoothed_where_an_example_has_one_and_in_no_other_task(long):
    smoothed = {
        (kind, task): preset_recipe(kind, examples=500, long=long, task=task).label_smoothing
        for kind in ("texts", "images")
        for task in ("single_label", "multi_label", "ner", "regression")
    }
    assert {smoothed.pop((kind, "single_label")) for kind in ("texts", "images")} == {0.1}
    assert set(smoothed.values()) == {0.0}


@pytest.mark.parametrize(("gain", "words"), [(0.1, "falls by 0.100"), (-0.04, "rises by 0.040")])
def test_the_reason_says_which_way_the_loss_moves(gain, words):
    assert words in worth_fine_tuning({"log_loss": 0.5, "taps_gain": gain, "taps_error": 0.02})[1]


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((), "the head alone"),
        ((Stage(depth="all", epochs=1),), "all blocks for 1 epoch"),
        ((Stage(depth=0.5, epochs=4),), "the upper 50% of the blocks for 4 epochs"),
        (
            (Stage(depth=0.3, epochs=2), Stage(depth="all", epochs=2)),
            "the upper 30% of the blocks for 2 epochs, then all blocks for 2 epochs",
        ),
        ((Stage(depth=2, epochs=2),), "blocks by depth 2 for 2 epochs"),
    ],
)
def test_what_trains_is_said_in_words(stages, words):
    stages = tuple(dataclasses.replace(stage, learning_rate=1e-3) for stage in stages)
    assert what_trains(Recipe(stages=stages)) == words
