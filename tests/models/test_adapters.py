import dataclasses
import json

import keras
import numpy as np
import pytest
import text_zoo
import zoo
from unfreezing import IMAGES, LABELS, STAGES, classifier, fit, same, snapshot

import ktransfer
from ktransfer.errors import RecipeError, RunError
from ktransfer.models.adapters import (
    adapter_variables,
    attach_adapters,
    plan_adapters,
    read_adapters,
    take_adapters,
    write_adapters,
)
from ktransfer.models.blocks import find_blocks
from ktransfer.models.freezing import AdapterFreezing, located_alone
from ktransfer.recipes.adapter import LoRA

RANK_2 = LoRA(rank=2)


def answers(model, inputs=IMAGES):
    return keras.ops.convert_to_numpy(model(inputs, training=False))


def filled(model, adapter=RANK_2, depth=2, scale=0.1):
    """Adapters in a backbone, whose second matrices are random instead of zero."""
    backbone = model.get_layer("backbone") if "backbone" in [layer.name for layer in model.layers] else model
    attach_adapters(find_blocks(backbone), depth, adapter)
    draw = np.random.default_rng(1)
    for variable in adapter_variables(find_blocks(backbone)):
        variable.assign(draw.normal(size=variable.shape, scale=scale))


QUICK = ("vgg", "vit", "swin", "Bert", "FNet", "GPT2", "Albert")
FAMILIES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in (*zoo.BACKBONES, *text_zoo.FAMILIES)
]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gets_adapters_that_merge_exactly(name):
    backbone = zoo.BACKBONES[name]() if name in zoo.BACKBONES else text_zoo.backbone_of(name, 30)
    blocks = find_blocks(backbone)
    draw = np.random.default_rng(0)

    def given(symbol):
        return (
            draw.random((2, 32, 32, 3)).astype("float32")
            if len(symbol.shape) == 4
            else np.ones((2, 8), "int32")
        )

    inputs = keras.tree.map_structure(given, backbone.input)

    def outputs():
        return np.concatenate(
            [
                keras.ops.convert_to_numpy(each).ravel()
                for each in keras.tree.flatten(backbone(inputs, training=False))
            ]
        )

    before, count = outputs(), len(backbone.weights)
    plan = attach_adapters(blocks, len(blocks), RANK_2)
    assert plan.targets
    assert np.array_equal(outputs(), before)  # nothing is added yet
    filled(backbone, depth=len(blocks), scale=0.05)
    attached = outputs()
    assert not np.allclose(attached, before, rtol=0, atol=1e-4 * np.abs(before).max())
    assert ktransfer.merge_adapters(backbone) == len(plan.targets)
    assert len(backbone.weights) == count
    np.testing.assert_allclose(outputs(), attached, rtol=0, atol=1e-5 * np.abs(attached).max())


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_only_adapters_of_unfrozen_blocks_train(depth):
    backbone = zoo.vit()
    blocks = find_blocks(backbone)
    attach_adapters(blocks, len(blocks), RANK_2)
    AdapterFreezing(located_alone(backbone, blocks)).set_depth(depth)
    expected = adapter_variables(blocks[:depth])
    assert list(map(id, backbone.trainable_variables)) == list(
        map(id, [v for v in backbone.variables if any(v is each for each in expected)])
    )


def test_a_fit_trains_adapters_and_head_alone(tmp_path):
    model, backbone = classifier()
    model.evaluate(IMAGES, LABELS, verbose=0)  # traced without adapters
    before = snapshot(backbone.weights)
    unfreezing = ktransfer.ProgressiveUnfreezing(backbone, STAGES, adapter=RANK_2, verbose=0)
    fit(model, [unfreezing], validation_data=(IMAGES, LABELS))
    adapters = read_adapters(model)
    assert any(np.any(b) for _, b in adapters.matrices)
    expected = model.evaluate(IMAGES, LABELS, verbose=0)
    path = tmp_path / "adapters.safetensors"
    ktransfer.save_adapters(model, path)
    attached = answers(model)
    kept = dataclasses.replace(take_adapters(model))
    assert same(before, snapshot(backbone.weights))  # the kernels were never changed
    ktransfer.load_adapters(model, path)
    np.testing.assert_allclose(answers(model), attached, atol=1e-5)
    np.testing.assert_allclose(model.evaluate(IMAGES, LABELS, verbose=0), expected, rtol=1e-4)
    assert kept.names == adapters.names


def test_adapters_load_into_the_same_backbone_only(tmp_path):
    model, backbone = classifier()
    filled(backbone)
    path = tmp_path / "adapters.safetensors"
    ktransfer.save_adapters(model, path)
    other, other_backbone = classifier()
    with pytest.raises(RunError, match=r"Expected the backbone that .* was trained on"):
        ktransfer.load_adapters(other, path)
    other_backbone.set_weights([v.numpy() for v in _plain(backbone)])
    other.layers[-1].set_weights([np.zeros_like(w) for w in other.layers[-1].get_weights()])
    ktransfer.load_adapters(other, path, merge=False)
    assert np.array_equal(answers(other), answers(model))
    with pytest.raises(RunError, match="without adapters"):
        ktransfer.load_adapters(other, path)
    with pytest.raises(RunError, match="without block"):
        ktransfer.load_adapters(zoo.vit(), path)


def _plain(backbone):
    adapters = set(map(id, adapter_variables(find_blocks(backbone))))
    return [variable for variable in backbone.weights if id(variable) not in adapters]


@pytest.mark.parametrize("change", ["cut", "text", "rank", "format", "nan"])
def test_a_damaged_file_is_refused(tmp_path, change):
    model, backbone = classifier()
    filled(backbone)
    path = tmp_path / "adapters.safetensors"
    ktransfer.save_adapters(model, path)
    content = path.read_bytes()
    changed = {
        "cut": content[: len(content) // 2],
        "text": b"no tensors here",
        "rank": content.replace(b'\\"rank\\": 2', b'\\"rank\\": 3'),
        "format": content.replace(b'\\"format\\": 1', b'\\"format\\": 9'),
        "nan": content[:-4] + np.float32("nan").tobytes(),
    }[change]
    assert changed != content
    path.write_bytes(changed)
    before = snapshot(model.weights)
    with pytest.raises(RunError, match=r"file of adapters|matrices of rank"):
        ktransfer.load_adapters(model, path)
    assert same(before, snapshot(model.weights))


@pytest.mark.parametrize(
    "fields",
    [{"rank": 0}, {"rank": -1}, {"rank": 2.5}, {"alpha": 0}, {"targets": [""]}, {"rank_stabilized": 1}],
)
def test_adapters_that_cannot_be_are_refused(fields):
    with pytest.raises(RecipeError, match=r"Expected .* adapter's"):
        LoRA(**fields)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (LoRA(rank=8, targets=["no_such_layer"]), "targets no_such_layer .* got .*block"),
        (LoRA(rank=10_000), "rank 10000"),
        (LoRA(rank=33, targets=["*conv*"]), "rank of at most"),
    ],
)
def test_a_refused_fit_leaves_the_model_as_it_was(adapter, message):
    model, backbone = classifier()
    before, count = snapshot(model.weights), len(model.weights)
    with pytest.raises(RecipeError, match=message):
        fit(model, [ktransfer.ProgressiveUnfreezing(backbone, STAGES, adapter=adapter, verbose=0)])
    assert len(model.weights) == count
    assert same(before, snapshot(model.weights))


def test_targets_are_names_or_patterns():
    blocks = find_blocks(zoo.vit())
    every = {target.name for target in plan_adapters(blocks, 3, RANK_2).targets}
    for target in ("query", "*query*"):
        chosen = {t.name for t in plan_adapters(blocks, 3, LoRA(rank=2, targets=[target])).targets}
        assert chosen == {name for name in every if name.endswith("query")}
        assert len(chosen) == 3


def test_layers_with_other_adapters_are_refused():
    backbone = zoo.vgg()
    attach_adapters(find_blocks(backbone), 1, RANK_2)
    with pytest.raises(RecipeError, match="of rank 3"):
        attach_adapters(find_blocks(backbone), 1, LoRA(rank=3))


def test_what_keras_merged_when_it_saved_trains_on(tmp_path):
    model, backbone = classifier()
    filled(backbone)
    expected = answers(model)
    model.save_weights(tmp_path / "model.weights.h5")
    model.load_weights(tmp_path / "model.weights.h5")
    assert not any(np.any(v.numpy()) for v in adapter_variables(find_blocks(backbone)))
    attach_adapters(find_blocks(backbone), 2, RANK_2)
    np.testing.assert_allclose(answers(model), expected, atol=1e-5)
    fit(model, [ktransfer.ProgressiveUnfreezing(backbone, STAGES, adapter=RANK_2, verbose=0)])
    assert any(np.any(b) for _, b in read_adapters(model).matrices)


def test_an_adapter_is_written_to_json_and_read():
    recipe = ktransfer.Recipe(stages=(), adapter=LoRA(rank=4, alpha=8, targets=["query"]))
    assert ktransfer.Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.adapter.scale == 2
    with pytest.raises(RecipeError, match="an adapter with"):
        ktransfer.Recipe.from_dict(json.loads(recipe.to_json()) | {"adapter": {"rnak": 3}})


def test_a_rank_stabilized_adapter_counts_by_the_root_of_its_rank(tmp_path):
    adapters = [
        LoRA(rank=2, rank_stabilized=True),
        LoRA(rank=16, alpha=2, rank_stabilized=True),
        LoRA(rank=16, alpha=2),
    ]
    assert [each.scale for each in adapters] == [2.0, 0.5, 0.125]
    model, backbone = classifier()
    before = snapshot(backbone.weights)
    filled(backbone, adapters[0])
    attached = answers(model)
    path = tmp_path / "adapters.safetensors"
    write_adapters(read_adapters(model, adapter=adapters[0]), path)
    take_adapters(model)
    assert same(before, snapshot(backbone.weights))
    assert ktransfer.load_adapters(model, path).adapter == adapters[0]
    np.testing.assert_allclose(answers(model), attached, atol=1e-5)
    assert not same(before, snapshot(backbone.weights))


def test_the_rank_is_that_of_the_whole_kernel_as_a_matrix():
    backbone = text_zoo.backbone_of("Bert", 30, hidden_dim=32, num_heads=4, intermediate_dim=64)
    filled(backbone, LoRA(rank=4), depth=9)
    ranks = {}
    for name, (a, b) in zip(
        *[getattr(read_adapters(backbone), each) for each in ("names", "matrices")], strict=True
    ):
        update = a @ b
        # Of query, key and value the output has two axes, heads and what each has.
        update = (
            update.reshape(32, 32)
            if name.endswith(("query", "key", "value"))
            else update.reshape(-1, update.shape[-1])
        )
        ranks[name.rpartition("/")[2]] = np.linalg.matrix_rank(update), a.size + b.size
    assert ranks["query"] == (4, 32 * 4 + 8)  # one for each of four heads, in place of 2 * 32 * 4
    assert ranks["attention_output"] == (4, 2 * 32 * 4)
    assert ranks["feedforward_intermediate_dense"] == (4, (32 + 64) * 4)
