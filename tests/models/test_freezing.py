import keras
import numpy as np
import pytest
import text_zoo
import zoo

from ktransfer.errors import BackboneError, RecipeError
from ktransfer.image.classifier import backbone_features
from ktransfer.models.blocks import find_blocks, sublayers
from ktransfer.models.freezing import DepthFreezing, resolve_depth, set_depth
from ktransfer.models.locate import locate

# Worked out by hand from the definitions of the tiny backbones, topmost first.
NAMES = {
    "resnet_v1": ["stack1_block1", "stack1_block0", "stack0_block1", "stack0_block0", "conv1_conv"],
    "resnet_v2": ["stack1_block1", "stack1_block0", "stack0_block1", "stack0_block0", "conv1_conv"],
    "mobilenet": ["block_4_0", "block_3_0", "block_2_1", "block_2_0", "block_1_0", "block_0_0", "input_conv"],
    "vgg": ["block3_conv1", "block2_conv2", "block2_conv1", "block1_conv1"],
    "vit": [
        "transformer_block_3",
        "transformer_block_2",
        "transformer_block_1",
        "vit_patching_and_embedding",
    ],
    "dinov2": ["layers_1", "layers_0", "embeddings"],
    "swin": ["blocks_1", "blocks_0", "stage_0", "patch_embedding"],
}


LAYERS = ["transformer_layer_1", "transformer_layer_0"]
TEXT_NAMES = {
    "Bert": ["pooled_dense", *LAYERS, "position_embedding", "token_embedding"],
    "DistilBert": [*LAYERS, "token_and_position_embedding"],
    "Electra": ["pooled_dense", *LAYERS, "position_embedding", "token_embedding"],
    "RoformerV2": [*LAYERS, "segment_embedding", "token_embedding"],
    "Roberta": [*LAYERS, "embeddings"],
    "GPT2": [*LAYERS, "position_embedding", "token_embedding"],
    "XLMRoberta": [*LAYERS, "embeddings"],
    # All its layers have the same weights.
    "Albert": ["group_0_inner_layer_0", "embedding_projection", "position_embedding", "token_embedding"],
    "FNet": [
        "pooled_dense",
        *("f_net_layer_1", "f_net_layer_0"),
        *("embedding_projection", "position_embedding", "token_embedding"),
    ],
    "DebertaV3": [
        *("disentangled_attention_encoder_layer_1", "disentangled_attention_encoder_layer_0"),
        *("rel_embedding", "token_embedding"),
    ],
}


@pytest.fixture(scope="module", params=sorted(zoo.BACKBONES))
def backbone(request):
    return request.param, zoo.BACKBONES[request.param]()


def test_blocks_hold_every_weight_once(backbone):
    _, network = backbone
    held = [id(weight) for block in find_blocks(network) for weight in block.weights]
    assert sorted(held) == sorted(map(id, network.weights))


def test_blocks_are_named_once_each_and_sensibly(backbone):
    name, network = backbone
    names = [block.name for block in find_blocks(network)]
    assert len(names) >= 3
    assert len(set(names)) == len(names)
    if name in NAMES:
        assert names == NAMES[name]


@pytest.mark.spread(7)
def test_everything_passes_through_the_tensor_a_block_starts_from(backbone):
    """A cut is real: the rest of the graph computed from it alone gives the backbone's own output."""
    _, network = backbone
    images = np.random.default_rng(0).normal(size=(2, zoo.SIZE, zoo.SIZE, 3)).astype("float32")
    expected = backbone_features(network, images)
    cuts = [block.entry for block in find_blocks(network) if block.entry is not None]
    assert cuts
    output = network.output
    output = output[list(output)[-1]] if isinstance(output, dict) else output
    for cut in (cuts[0], cuts[-1]):
        below = keras.Model(network.inputs[0], cut)(images, training=False)
        above = keras.Model(cut, output)(below, training=False)
        np.testing.assert_allclose(above, expected, atol=1e-5)


@pytest.mark.spread(7)
def test_frozen_weights_stay_and_thawed_ones_move(backbone):
    _, network = backbone
    blocks = find_blocks(network)
    depth = len(blocks) // 2
    images = keras.Input((zoo.SIZE, zoo.SIZE, 3))
    features = backbone_features(network, images)
    features = keras.layers.Flatten()(features) if None not in features.shape[1:] else features
    pooled = keras.layers.GlobalAveragePooling2D()(features) if len(features.shape) == 4 else features
    model = keras.Model(images, keras.layers.Dense(2)(pooled))
    set_depth(network, blocks, depth)
    model.compile(keras.optimizers.SGD(1.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.run_eagerly = True
    before = [[w.numpy() for w in block.weights] for block in blocks]
    rng = np.random.default_rng(0)
    model.train_on_batch(
        rng.normal(size=(4, zoo.SIZE, zoo.SIZE, 3)).astype("float32"), np.array([0, 1, 0, 1])
    )
    moved = [
        any(not np.array_equal(w.numpy(), old) for w, old in zip(block.weights, held, strict=True))
        for block, held in zip(blocks, before, strict=True)
    ]
    assert moved == [index < depth for index in range(len(blocks))]


def test_a_thawed_batchnorm_keeps_its_moving_statistics():
    network = zoo.resnet()
    set_depth(network, find_blocks(network), 5)
    norms = [layer for layer in sublayers(network) if isinstance(layer, keras.layers.BatchNormalization)]
    before = [[w.numpy() for w in norm.weights] for norm in norms]
    network(np.random.default_rng(0).normal(size=(4, 32, 32, 3)), training=True)
    after = [[w.numpy() for w in norm.weights] for norm in norms]
    assert len(norms) == 10
    keras.tree.map_structure(np.testing.assert_array_equal, before, after)
    assert not any(norm.trainable_weights for norm in norms)


def test_batchnorm_adapts_in_thawed_blocks_only_when_asked():
    network = zoo.resnet()
    blocks = find_blocks(network)
    set_depth(network, blocks, 1, batch_norm="adapt")
    statistics = [
        [layer.moving_mean for layer in block.layers if isinstance(layer, keras.layers.BatchNormalization)]
        for block in blocks
    ]
    before = keras.tree.map_structure(lambda v: v.numpy(), statistics)
    network(np.random.default_rng(0).normal(size=(4, 32, 32, 3)), training=True)
    moved = [
        any(not np.array_equal(now.numpy(), old) for now, old in zip(block, held, strict=True))
        for block, held in zip(statistics, before, strict=True)
    ]
    assert moved == [True, False, False, False, False]


@pytest.mark.parametrize("name", ["resnet_v1", "mobilenet"])
def test_depth_zero_freezes_a_backbone_that_was_saved_frozen(name, tmp_path):
    backbone = zoo.BACKBONES[name]()
    set_depth(backbone, find_blocks(backbone), 0)
    backbone.save(tmp_path / "frozen.keras")
    loaded = keras.models.load_model(tmp_path / "frozen.keras")
    set_depth(loaded, find_blocks(loaded), 0)
    assert not [layer.name for layer in sublayers(loaded) if layer.trainable and layer.weights]
    before = [variable.numpy() for variable in loaded.variables]
    loaded(np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32"), training=True)
    for variable, value in zip(loaded.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)


def test_depth_zero_freezes_everything_and_thawing_again_undoes_it():
    network = zoo.vgg()
    blocks = find_blocks(network)
    set_depth(network, blocks, 0)
    assert network.trainable_weights == []
    set_depth(network, blocks, 2)
    assert {id(w) for w in network.trainable_weights} == {id(w) for b in blocks[:2] for w in b.weights}


@pytest.mark.parametrize(
    ("depth", "count"), [(0, 0), (3, 3), ("all", 5), (0.5, 2), (0.01, 1), ("stack0_block1", 3)]
)
def test_a_depth_means_a_number_of_blocks(depth, count):
    assert resolve_depth(depth, find_blocks(zoo.resnet())) == count


@pytest.mark.parametrize("depth", [6, "block9"])
def test_a_depth_the_backbone_does_not_have_is_refused_by_name(depth):
    with pytest.raises(RecipeError, match=f"got {depth!r}"):
        resolve_depth(depth, find_blocks(zoo.resnet()))


def test_a_model_without_a_graph_is_refused():
    class Opaque(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(BackboneError, match=r"functional .*got Opaque"):
        find_blocks(Opaque())


def test_what_lies_above_a_layer_that_is_used_twice_is_one_block():
    images = keras.Input((8,))
    dense = keras.layers.Dense(8, name="shared")
    below = keras.layers.Dense(8, name="below")(images)
    above = keras.layers.Dense(8, name="above")(dense(dense(below)))
    network = keras.Model(images, above)
    blocks = find_blocks(network)
    assert [[layer.name for layer in block.layers] for block in blocks] == [["shared", "above"], ["below"]]
    assert blocks[0].entry is below


@pytest.mark.parametrize("name", TEXT_NAMES)
def test_text_backbones_come_apart_between_their_transformer_layers(name, monkeypatch):
    monkeypatch.setitem(text_zoo.SIZES, "num_layers", 2)
    network = text_zoo.backbone_of(name, 20)
    blocks = find_blocks(network)
    assert [block.name for block in blocks] == TEXT_NAMES[name]
    held = [id(weight) for block in blocks for weight in block.weights]
    assert sorted(held) == sorted(map(id, network.weights))
    assert all(block.entry is not None for block in blocks[:-1]) == (name != "DebertaV3")


def test_backbones_of_keras_applications_have_blocks_too():
    network = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.35
    )
    names = [block.name for block in find_blocks(network)]
    assert {f"block_{i}" for i in range(1, 16)} <= set(names)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["resnet_v1", "vit", "Bert"])
def test_all_depth_restores_whatever_pattern_of_layers_trained(name, seed):
    backbone = text_zoo.backbone_of("Bert", len(text_zoo.PIECES)) if name == "Bert" else zoo.BACKBONES[name]()
    layers, random = sublayers(backbone), np.random.default_rng(seed)
    for index in random.permutation(len(layers)):  # parents after their children, and before them
        layers[index].trainable = bool(random.integers(2))
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    before = {variable.path for variable in backbone.variables if variable.trainable}
    assert before
    freezing = DepthFreezing(locate(keras.Sequential([backbone]), backbone))
    freezing.set_depth(0)
    assert not backbone.trainable_variables
    freezing.set_depth(99)
    assert {variable.path for variable in backbone.variables if variable.trainable} == before
