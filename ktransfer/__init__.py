"""Transfer learning for Keras: a pretrained backbone, a head, progressive unfreezing, verified exports.

The names below load on first use, so that `import ktransfer` costs nothing; `__init__.pyi` has them
for type checkers.
"""

import importlib

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
    "TextAugmentation": "ktransfer.data.text_augmentation",
    "TextPreprocessing": "ktransfer.text_preprocessing",
    "benchmark": "ktransfer.jobs.benchmark",
    "build_classifier": "ktransfer.classifier",
    "build_text_classifier": "ktransfer.text_classifier",
    "choose_sequence_length": "ktransfer.sequence_length",
    "evaluate": "ktransfer.jobs.evaluate",
    "export": "ktransfer.jobs.export",
    "extract_features": "ktransfer.head",
    "find_blocks": "ktransfer.blocks",
    "fine_tune": "ktransfer.training",
    "fine_tune_quantized": "ktransfer.quantization_aware",
    "image_dataset": "ktransfer.data.pipeline",
    "image_recipe": "ktransfer.default_recipes",
    "list_backbones": "ktransfer.backbones",
    "load_backbone": "ktransfer.backbones",
    "load_splits": "ktransfer.data.sources",
    "load_text_backbone": "ktransfer.text_backbones",
    "load_text_preprocessing": "ktransfer.text_backbones",
    "load_text_splits": "ktransfer.data.text_sources",
    "progressive_stages": "ktransfer.recipe",
    "read_data": "ktransfer.data.sources",
    "report": "ktransfer.jobs.report",
    "resume": "ktransfer.jobs.train",
    "set_depth": "ktransfer.freezing",
    "solve_head": "ktransfer.head",
    "text_dataset": "ktransfer.data.text_pipeline",
    "text_recipe": "ktransfer.default_recipes",
    "train": "ktransfer.jobs.train",
    "use_depthwise": "ktransfer.depthwise",
    "verify": "ktransfer.jobs.verify",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'ktransfer' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
