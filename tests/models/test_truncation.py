"""Backbones without their upper blocks, on tiny random ones of several families."""

import keras
import numpy as np
import pytest
import text_zoo
import zoo

from ktransfer.errors import BackboneError
from ktransfer.models.blocks import find_blocks
from ktransfer.models.truncation import split_share, truncated
from ktransfer.text.backbones import load_text_backbone, load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier


@pytest.mark.parametrize("make", [zoo.resnet, zoo.mobilenet, zoo.densenet, zoo.vgg])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_the_lower_part_gives_what_the_whole_has_inside(make, share):
    backbone = make()
    blocks = find_blocks(backbone)
    lower = truncated(backbone, share, "it")
    kept = find_blocks(lower)
    assert abs(len(kept) - share * len(blocks)) <= 1
    # The topmost blocks are gone, and the weights of the others are the same objects.
    assert {id(w) for block in kept for w in block.weights} == {
        id(w) for block in blocks[len(blocks) - len(kept) :] for w in block.weights
    }
    pixels = np.random.default_rng(0).random((1, 32, 32, 3)).astype("float32")
    entry = blocks[len(blocks) - len(kept) - 1].entry
    expected = keras.Model(backbone.input, entry)(pixels)
    np.testing.assert_array_equal(lower(pixels), expected)


def test_a_text_backbone_keeps_what_bounds_its_texts(tmp_path):
    backbone = text_zoo.write_preset("Bert", tmp_path)[0]
    lower = truncated(backbone, 0.5, "it")
    assert len(find_blocks(lower)) < len(find_blocks(backbone))
    assert lower.max_sequence_length == backbone.max_sequence_length


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("family", ["Bert", "GPT2"])
def test_every_cut_of_a_text_backbone_tells_texts_apart(tmp_path, family, share):
    """Below attention each vector depends on its token alone, and the last token is the same in all texts."""
    _, preset = text_zoo.write_preset(family, tmp_path)
    backbone = load_text_backbone(f"{preset}@{share}")
    preprocessing = load_text_preprocessing(f"{preset}@{share}", backbone)
    model = build_text_classifier(backbone, 2, preprocessing)
    pooled = keras.Model(model.input, model.get_layer("pooled").output)
    one, other = pooled(preprocessing(["the quick fox", "a lazy dog"]))
    assert np.abs(one - other).max() > 1e-4


@pytest.mark.parametrize("share", [None, 1.0])
def test_all_of_it_is_the_backbone_itself(share):
    backbone = zoo.vgg()
    assert truncated(backbone, share, "it") is backbone


def test_a_backbone_that_cannot_be_cut_there_is_refused():
    given = keras.Input((8, 8, 3))
    backbone = keras.Model(given, keras.layers.Conv2D(4, 3)(given))
    with pytest.raises(
        BackboneError, match=r"Expected a backbone that can be cut at 0\.5 of its 1 blocks, got it"
    ):
        truncated(backbone, 0.5, "it")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet@0.6", ("resnet", 0.6)),
        ("resnet@1", ("resnet", 1.0)),
        ("hf://a/b@0.25", ("hf://a/b", 0.25)),
        ("resnet", ("resnet", None)),
        ("me@home", ("me@home", None)),
        ("hf://a/b@v1", ("hf://a/b@v1", None)),
    ],
)
def test_the_share_is_what_stands_behind_the_name(name, expected):
    assert split_share(name) == expected


def test_a_folder_of_that_name_is_no_cut(tmp_path):
    (tmp_path / "a@0.5").mkdir()
    assert split_share(tmp_path / "a@0.5") == (str(tmp_path / "a@0.5"), None)


@pytest.mark.parametrize("share", ["0", "1.5", "-0.5", "0.0", ".", "1e3", "0.0.1"])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(BackboneError, match=r"Expected a share of the blocks in \(0, 1\]"):
        split_share(f"resnet@{share}")
