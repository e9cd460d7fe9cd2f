"""Transfer learning for Keras: a pretrained backbone, a head, progressive unfreezing, verified exports.

The names below load on first use, so that `import ktransfer` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "Augmentation": "ktransfer.data.augmentation",
    "BackboneError": "ktransfer.errors",
    "DataError": "ktransfer.errors",
    "Examples": "ktransfer.data.examples",
    "ExportError": "ktransfer.errors",
    "KTransferError": "ktransfer.errors",
    "ProgressiveUnfreezing": "ktransfer.callbacks",
    "Recipe": "ktransfer.recipe",
    "RecipeError": "ktransfer.errors",
    "Run": "ktransfer.run",
    "RunError": "ktransfer.errors",
    "Splits": "ktransfer.data.examples",
    "Stage": "ktransfer.recipe",
    "build_classifier": "ktransfer.classifier",
    "evaluate": "ktransfer.jobs",
    "export": "ktransfer.jobs",
    "extract_features": "ktransfer.head",
    "find_blocks": "ktransfer.freezing",
    "fine_tune": "ktransfer.training",
    "image_dataset": "ktransfer.data.pipeline",
    "image_recipe": "ktransfer.recipe",
    "list_backbones": "ktransfer.backbones",
    "load_backbone": "ktransfer.backbones",
    "load_splits": "ktransfer.data.sources",
    "progressive_stages": "ktransfer.recipe",
    "read_data": "ktransfer.data.sources",
    "resume": "ktransfer.jobs",
    "set_depth": "ktransfer.freezing",
    "solve_head": "ktransfer.head",
    "train": "ktransfer.jobs",
}
__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from ktransfer.backbones import list_backbones, load_backbone
    from ktransfer.callbacks import ProgressiveUnfreezing
    from ktransfer.classifier import build_classifier
    from ktransfer.data.augmentation import Augmentation
    from ktransfer.data.examples import Examples, Splits
    from ktransfer.data.pipeline import image_dataset
    from ktransfer.data.sources import load_splits, read_data
    from ktransfer.errors import (
        BackboneError,
        DataError,
        ExportError,
        KTransferError,
        RecipeError,
        RunError,
    )
    from ktransfer.freezing import find_blocks, set_depth
    from ktransfer.head import extract_features, solve_head
    from ktransfer.jobs import evaluate, export, resume, train
    from ktransfer.recipe import Recipe, Stage, image_recipe, progressive_stages
    from ktransfer.run import Run
    from ktransfer.training import fine_tune


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'ktransfer' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
