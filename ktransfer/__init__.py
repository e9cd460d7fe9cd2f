"""Transfer learning for Keras: a pretrained backbone, a head, progressive unfreezing, verified exports.

The names below load on first use, so that `import ktransfer` costs nothing; `__init__.pyi` has them
for type checkers.
"""

import importlib
from typing import Any

from ktransfer.utils import deprecation as _deprecation
from ktransfer.utils import onednn as _onednn

__version__ = "0.2.0"

_HOMES = {
    "Augmentation": "ktransfer.image.augmentation",
    "BackboneError": "ktransfer.errors",
    "DataError": "ktransfer.errors",
    "Examples": "ktransfer.data.examples",
    "ExportError": "ktransfer.errors",
    "KTransferError": "ktransfer.errors",
    "LearningRateCurve": "ktransfer.training.lr_curve",
    "LoRA": "ktransfer.recipes.adapter",
    "MissingExtraError": "ktransfer.errors",
    "ProgressiveUnfreezing": "ktransfer.training.progressive_unfreezing",
    "Recipe": "ktransfer.recipes.recipe",
    "RecipeError": "ktransfer.errors",
    "Run": "ktransfer.runs.run",
    "RunError": "ktransfer.errors",
    "Splits": "ktransfer.data.examples",
    "Stage": "ktransfer.recipes.recipe",
    "TextAugmentation": "ktransfer.text.augmentation",
    "TextPreprocessing": "ktransfer.text.preprocessing",
    "TrainOptions": "ktransfer.commands.train_options",
    "benchmark": "ktransfer.commands.benchmark",
    "build_classifier": "ktransfer.image.classifier",
    "build_text_classifier": "ktransfer.text.classifier",
    "choose_sequence_length": "ktransfer.text.sequence_length",
    "distill": "ktransfer.commands.distill",
    "evaluate": "ktransfer.commands.evaluate",
    "export": "ktransfer.commands.export",
    "extract_features": "ktransfer.features.extract",
    "find_blocks": "ktransfer.models.blocks",
    "find_learning_rate": "ktransfer.training.lr_finder",
    "fine_tune": "ktransfer.training.fine_tune",
    "fine_tune_quantized": "ktransfer.quantization.qat",
    "image_dataset": "ktransfer.image.dataset",
    "image_recipe": "ktransfer.image.default_recipe",
    "list_backbones": "ktransfer.models.presets",
    "load_adapters": "ktransfer.models.adapters",
    "load_backbone": "ktransfer.image.backbones",
    "load_splits": "ktransfer.image.sources",
    "load_text_backbone": "ktransfer.text.backbones",
    "load_text_preprocessing": "ktransfer.text.backbones",
    "load_text_splits": "ktransfer.text.sources",
    "merge_adapters": "ktransfer.models.adapters",
    "package": "ktransfer.commands.package",
    "pretrain": "ktransfer.commands.pretrain",
    "progressive_stages": "ktransfer.recipes.recipe",
    "prune": "ktransfer.commands.prune",
    "rank": "ktransfer.commands.rank",
    "read_data": "ktransfer.image.sources",
    "report": "ktransfer.commands.report",
    "resume": "ktransfer.commands.train",
    "save_adapters": "ktransfer.models.adapters",
    "search": "ktransfer.commands.search",
    "set_depth": "ktransfer.models.freezing",
    "shrink": "ktransfer.commands.shrink",
    "solve_head": "ktransfer.training.linear_probe",
    "text_dataset": "ktransfer.text.dataset",
    "text_recipe": "ktransfer.text.default_recipe",
    "train": "ktransfer.commands.train",
    "use_depthwise": "ktransfer.models.depthwise",
    "verify": "ktransfer.commands.verify",
}
__all__ = sorted(_HOMES)


_deprecation.install()
_onednn.prefer_onednn()


def __getattr__(name: str) -> Any:
    name = _deprecation.current_name(name)
    if name not in _HOMES:
        raise AttributeError(f"module 'ktransfer' has no attribute {name!r}")
    try:
        home = importlib.import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        from ktransfer.utils.extras import missing_extra

        raise missing_extra(error, f"ktransfer.{name}") or error from error
    value = getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
