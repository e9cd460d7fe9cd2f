"""Classifiers with merged adapters, for the formats that have these apart."""

import numpy as np
from text_zoo import write_preset

from ktransfer.models.adapters import adapter_variables, add_adapters, attach_adapters, take_adapters
from ktransfer.models.blocks import find_blocks
from ktransfer.models.heads import Head
from ktransfer.models.locate import find_backbone
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier


def text_classifier(folder, classes=3, family="Bert"):
    backbone, preset = write_preset(family, folder, hidden_dim=32, intermediate_dim=64)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=16)
    return build_text_classifier(backbone, classes, preprocessing), preprocessing


def adapted(model, adapter, depth, seed):
    """The adapters of a model in which they are merged, and a head that is not as it was."""
    blocks = find_blocks(find_backbone(model))
    attach_adapters(blocks, depth, adapter, seed=seed)
    draw = np.random.default_rng(seed)
    for variable in adapter_variables(blocks):
        variable.assign(draw.normal(size=variable.shape, scale=0.3))
    head = Head.of(model)
    features, classes = head.weights[0].shape
    head.set_scaling(draw.normal(size=features), 1 + draw.random(features))
    head.set_weights(draw.normal(size=(features, classes)), draw.normal(size=classes))
    adapters = take_adapters(model, adapter=adapter)
    add_adapters(model, adapters)
    return adapters
