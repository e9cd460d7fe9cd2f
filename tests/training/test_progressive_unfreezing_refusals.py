"""What the callback refuses, when it is made or when `fit` begins, and what it warns of."""

import keras
import pytest
import zoo
from unfreezing import IMAGES, LABELS, STAGES, classifier, fit

from ktransfer.errors import BackboneError, RecipeError
from ktransfer.recipes.recipe import Stage
from ktransfer.training.progressive_unfreezing import ProgressiveUnfreezing


def test_a_backbone_that_is_not_in_the_model_is_refused():
    model, _ = classifier()
    with pytest.raises(BackboneError, match="part of the model"):
        fit(model, [ProgressiveUnfreezing(zoo.vgg(), STAGES)])
    with pytest.raises(BackboneError, match="'nowhere'"):
        fit(model, [ProgressiveUnfreezing("nowhere", STAGES)])


def test_a_backbone_without_a_graph_is_refused():
    model, _ = classifier()
    with pytest.raises(BackboneError, match="functional"):
        fit(model, [ProgressiveUnfreezing("head", STAGES)])


def test_a_model_without_a_head_is_refused():
    backbone = zoo.vgg()
    images = keras.Input((32, 32, 3))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(backbone(images)))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(BackboneError, match="head"):
        fit(model, [ProgressiveUnfreezing(backbone, STAGES)])


def test_a_stage_that_fit_never_reaches_is_refused():
    model, backbone = classifier()
    with pytest.raises(RecipeError, match=r"epochs=3.*epochs=5"):
        fit(model, [ProgressiveUnfreezing(backbone, STAGES)], epochs=3)


def test_a_stage_deeper_than_the_backbone_is_refused():
    model, backbone = classifier()
    with pytest.raises(RecipeError, match="at most 4"):
        fit(model, [ProgressiveUnfreezing(backbone, [Stage(depth=5, epochs=1)])], epochs=1)


def test_a_schedule_and_a_stages_rate_exclude_each_other():
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.5)
    model, backbone = classifier(keras.optimizers.Adam(schedule))
    with pytest.raises(RecipeError, match="got both"):
        fit(model, [ProgressiveUnfreezing(backbone, STAGES)])


def test_warmup_over_data_of_unknown_length_is_refused():
    model, backbone = classifier()
    endless = ((IMAGES[:8], LABELS[:8]) for _ in range(9))
    with pytest.raises(RecipeError, match="steps_per_epoch"):
        model.fit(
            endless,
            epochs=1,
            verbose=0,
            callbacks=[ProgressiveUnfreezing(backbone, [Stage(depth=0, epochs=1, warmup=1)])],
        )


def test_a_multi_optimizer_is_refused():
    model, backbone = classifier()
    rates = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1))
    model.compile(keras.optimizers.MultiOptimizer(rates), "sparse_categorical_crossentropy")
    with pytest.raises(RecipeError, match="MultiOptimizer"):
        fit(model, [ProgressiveUnfreezing(backbone, STAGES)])


@pytest.mark.parametrize(
    "options", [{"stages": []}, {"stages": [{"depth": 0}]}, {"batch_norm": "x"}, {"mode": "x"}]
)
def test_arguments_that_cannot_be_are_refused_at_once(options):
    with pytest.raises(RecipeError, match="Expected"):
        ProgressiveUnfreezing("backbone", **options)


def test_patience_without_its_value_warns_and_goes_on():
    model, backbone = classifier()
    stages = [Stage(depth=0, epochs=2, learning_rate=1e-3, patience=1)]
    with pytest.warns(UserWarning, match="val_loss.*validation_data"):
        fit(model, [ProgressiveUnfreezing(backbone, stages, verbose=0)], epochs=2)
