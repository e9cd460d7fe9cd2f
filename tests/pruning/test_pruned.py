"""A backbone of every family, pruned to half, answers as the masked original; or is refused."""

import keras
import numpy as np
import pytest
from text_zoo import FAMILIES, write_preset
from zoo import BACKBONES

from ktransfer.errors import BackboneError
from ktransfer.models.depthwise import use_depthwise
from ktransfer.pruning.dependencies import Dependencies
from ktransfer.pruning.importance import magnitude, taylor
from ktransfer.pruning.pruned import choose, mask, pruned, require_loadable
from ktransfer.pruning.unrolled import random_inputs, unrolled

# What cannot be saved layer by layer, or not written out, with what the refusal names.
REFUSED = {
    "vit": "ViTPatchingAndEmbedding",
    "deit": "DeiTEmbeddings",
    "mit": "configuration",
    "swin": "configuration",
    "DebertaV3": "loads without",
}
QUICK = ("resnet_v1", "Bert")


def backbone_of(family, folder):
    if family in BACKBONES:
        return BACKBONES[family]()
    wide = {"hidden_dim": 16, "intermediate_dim": 32, "num_layers": 2}
    whole = write_preset(family, folder, **({"num_layers": 2} if family == "RoformerV2" else wide))[0]
    output = whole.output
    return keras.Model(whole.input, output["sequence_output"] if isinstance(output, dict) else output)


def answers(model, given):
    return [keras.ops.convert_to_numpy(each) for each in keras.tree.flatten(model(given, training=False))]


def shaken(backbone):
    """Random weights that no two channels share, with biases and BatchNorm other than they begin."""
    random = np.random.default_rng(0)
    for weight in backbone.weights:
        if "float" in str(weight.dtype):
            value = keras.ops.convert_to_numpy(weight)
            weight.assign(value + np.abs(random.normal(0, 0.05, value.shape)))
    return backbone


def copied(backbone):
    written = unrolled(backbone)
    require_loadable(pruned(written, Dependencies(written), set()))


def marked(families):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in families]


@pytest.mark.parametrize("family", marked([*BACKBONES, *FAMILIES]))
def test_half_of_a_backbone_answers_as_the_masked_original(family, tmp_path):
    backbone = shaken(backbone_of(family, tmp_path))
    given = random_inputs(backbone, size=32)
    before = answers(backbone, given)
    if family in REFUSED:
        with pytest.raises(BackboneError, match=REFUSED[family]):
            copied(backbone)
        return
    written = unrolled(backbone)
    dependencies = Dependencies(written)
    random = np.random.default_rng(1)
    importance = {number: random.random() for number in range(100_000)}
    removed = choose(dependencies, importance, 0.5)
    smaller = pruned(written, dependencies, removed)
    mask(dependencies, removed)
    masked, found = answers(written, given), answers(smaller, given)
    assert smaller.count_params() < 0.95 * backbone.count_params()
    for one, other, whole in zip(masked, found, before, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5 * max(1.0, np.abs(one).max()))
        assert np.abs(one - whole).max() > 1e-4  # the mask took something away
    # A plain model: saved and loaded without any code of ours.
    smaller.save(tmp_path / "smaller.keras")
    loaded = keras.models.load_model(tmp_path / "smaller.keras")
    for one, other in zip(answers(loaded, given), found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6 * max(1.0, np.abs(one).max()))


def residual():
    """Two convolutions added, concatenated with a third, squeezed and excited, then grouped and depthwise ones."""
    layers = keras.layers
    images = keras.Input((8, 8, 3))
    one = layers.Conv2D(8, 3, padding="same", name="one")(images)
    two = layers.Conv2D(8, 3, padding="same", name="two")(layers.ReLU()(layers.BatchNormalization()(one)))
    added = layers.Add()([one, two])
    both = layers.Concatenate()([added, layers.Conv2D(4, 1, name="three")(images)])
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(both)
    gate = layers.Conv2D(12, 1, activation="sigmoid", name="excite")(
        layers.Conv2D(6, 1, activation="relu", name="squeeze")(squeezed)
    )
    gated = layers.Multiply()([both, gate])
    wise = layers.DepthwiseConv2D(3, name="wise")(gated)
    grouped = layers.Conv2D(8, 3, groups=4, name="grouped")(wise)
    return keras.Model(images, layers.Conv2D(2, 1, name="last")(grouped))


def test_groups_are_what_the_graph_ties_together():
    dependencies = Dependencies(residual())
    sizes = sorted(
        (name, len(units), {len(unit) for unit in units}) for name, units in dependencies.groups.items()
    )
    names = {name for name, *_ in sizes}
    # `one`, `two` and `excite` are united by the sum and the gate; the grouped convolution ties places of its groups.
    assert "squeeze" in names
    assert "grouped" in names
    tied = next(name for name in names if "one" in name)
    assert {"one", "two", "three", "excite"} <= set(tied.split(", "))
    assert len(dependencies.groups["squeeze"]) == 6
    assert len(dependencies.groups["grouped"]) == 2  # of 8 channels in 4 groups
    assert not any("last" in name for name in names)  # the output keeps its channels


def test_a_graph_of_ties_is_pruned_exactly():
    model = shaken(residual())
    given = random_inputs(model)
    dependencies = Dependencies(model)
    removed = choose(dependencies, magnitude(dependencies), 0.5)
    smaller = pruned(model, dependencies, removed)
    mask(dependencies, removed)
    np.testing.assert_allclose(answers(smaller, given)[0], answers(model, given)[0], atol=1e-5)
    assert smaller.count_params() < model.count_params()


@pytest.mark.parametrize(
    "mixer", ["LayerNormalization", "Flatten", "GroupNormalization", "UnitNormalization"]
)
def test_what_meets_a_layer_that_mixes_channels_stays(mixer):
    images = keras.Input((4, 4, 3))
    made = keras.layers.Conv2D(8, 1, name="made")(images)
    options = {"groups": 2} if mixer == "GroupNormalization" else {}
    mixed = getattr(keras.layers, mixer)(**options)(made)
    dependencies = Dependencies(keras.Model(images, keras.layers.Dense(2)(mixed)))
    assert not dependencies.groups
    assert mixer in dependencies.fixed_by


def test_importance_is_the_square_of_the_first_order_change():
    """A linear model of two hidden units: the derivative is worked out by hand."""
    given = keras.Input((1,))
    hidden = keras.layers.Dense(2, use_bias=False, name="hidden")(given)
    model = keras.Model(given, keras.layers.Dense(1, use_bias=False, name="last")(hidden))
    model.get_layer("hidden").set_weights([np.array([[2.0, 3.0]])])
    model.get_layer("last").set_weights([np.array([[0.5], [1.0]])])
    dependencies = Dependencies(model)
    batches = [(np.array([[1.0]]), np.array([[0.0]])), (np.array([[2.0]]), np.array([[7.0]]))]
    found = taylor(model, dependencies, batches, keras.losses.MeanSquaredError())
    # f = x (2 * 0.5 + 3 * 1) = 4x; error 4x - y: 4 and 1; d loss / d h_i * w_i = 2 * error * x * v_i * w_i.
    steps = [2 * 4 * 1, 2 * 1 * 2]
    expected = [np.mean([(step * part) ** 2 for step in steps]) for part in (2 * 0.5, 3 * 1.0)]
    [units] = dependencies.groups.values()
    np.testing.assert_allclose([found[dependencies.root(unit[0])] for unit in units], expected, rtol=1e-4)
    np.testing.assert_array_equal(model.get_layer("hidden").get_weights()[0], [[2.0, 3.0]])


@pytest.mark.parametrize("inner", [True, False])
def test_a_frozen_backbone_has_the_importance_of_one_that_trains_and_stays_frozen(inner):
    """The backbone of a run is frozen where the head alone was trained; loaded, the layers in it are not."""
    given = keras.Input((1,))
    inside = keras.Model(given, keras.layers.Dense(2, use_bias=False, name="hidden")(given), name="backbone")
    model = keras.Model(inside.input, keras.layers.Dense(1, use_bias=False, name="last")(inside.output))
    inside.get_layer("hidden").trainable = inner
    batches = [(np.array([[1.0]]), np.array([[9.0]]))]
    dependencies = Dependencies(model)
    found = taylor(model, dependencies, batches, keras.losses.MeanSquaredError())
    [units] = dependencies.groups.values()
    assert all(found[dependencies.root(unit[0])] > 0 for unit in units)
    assert inside.get_layer("hidden").trainable is inner


def test_the_units_that_count_least_are_removed():
    model = residual()
    dependencies = Dependencies(model)
    units = dependencies.groups["squeeze"]
    importance = {dependencies.root(unit[0]): place for place, unit in enumerate(units)}
    removed = choose(dependencies, importance, 0.5)
    assert {number for unit in units[:3] for number in unit} <= removed
    assert not {number for unit in units[3:] for number in unit} & removed


def test_grouped_convolutions_computed_as_depthwise_ones_are_pruned_alike():
    images = keras.Input((8, 8, 3))
    made = keras.layers.Conv2D(8, 1, name="made")(images)
    wise = keras.layers.Conv2D(8, 3, groups=8, name="wise")(made)
    model = keras.Model(images, keras.layers.Conv2D(2, 1)(wise))
    use_depthwise(model)
    dependencies = Dependencies(model)
    smaller = pruned(model, dependencies, choose(dependencies, magnitude(dependencies), 0.5))
    assert smaller.get_layer("wise").groups == 4
    assert smaller.get_layer("wise").kernel.shape == (3, 3, 1, 4)
