"""Old names that still work: each warns once and names the new one.

A module that moved is listed in `MOVED`, a public name that was renamed in `RENAMED`. Listed are the modules that were
the home of a name of `ktransfer.__all__`; other modules were never public.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

REMOVAL = "0.4.0"
"""The version in which the names listed here go."""

MOVED: dict[str, tuple[str, ...]] = {
    "ktransfer.backbones": (
        "ktransfer.image.backbones",
        "ktransfer.models.presets",
        "ktransfer.image.preprocessing",
    ),
    "ktransfer.blocks": ("ktransfer.models.blocks",),
    "ktransfer.callbacks": ("ktransfer.training.progressive_unfreezing",),
    "ktransfer.classifier": ("ktransfer.image.classifier",),
    "ktransfer.data.augmentation": ("ktransfer.image.augmentation",),
    "ktransfer.data.pipeline": ("ktransfer.image.dataset",),
    "ktransfer.data.sources": ("ktransfer.image.sources",),
    "ktransfer.data.text_augmentation": ("ktransfer.text.augmentation",),
    "ktransfer.data.text_pipeline": ("ktransfer.text.dataset",),
    "ktransfer.data.text_sources": ("ktransfer.text.sources",),
    "ktransfer.default_recipes": (
        "ktransfer.recipes.default_recipes",
        "ktransfer.image.default_recipe",
        "ktransfer.text.default_recipe",
    ),
    "ktransfer.depthwise": ("ktransfer.models.depthwise",),
    "ktransfer.freezing": ("ktransfer.models.freezing",),
    "ktransfer.head": ("ktransfer.training.linear_probe", "ktransfer.features.extract"),
    "ktransfer.jobs": ("ktransfer.commands",),
    "ktransfer.jobs.benchmark": ("ktransfer.commands.benchmark",),
    "ktransfer.jobs.evaluate": ("ktransfer.commands.evaluate",),
    "ktransfer.jobs.export": ("ktransfer.commands.export",),
    "ktransfer.jobs.report": ("ktransfer.commands.report",),
    "ktransfer.jobs.train": ("ktransfer.commands.train",),
    "ktransfer.jobs.verify": ("ktransfer.commands.verify",),
    "ktransfer.quantization_aware": ("ktransfer.quantization.qat",),
    "ktransfer.recipe": ("ktransfer.recipes.recipe",),
    "ktransfer.run": ("ktransfer.runs.run",),
    "ktransfer.sequence_length": ("ktransfer.text.sequence_length",),
    "ktransfer.text_backbones": ("ktransfer.text.backbones",),
    "ktransfer.text_classifier": ("ktransfer.text.classifier",),
    "ktransfer.text_preprocessing": ("ktransfer.text.preprocessing",),
}
"""Old modules, and the modules that hold now what they held, the first one most of it."""

RENAMED: dict[str, str] = {}
"""Old public names, `ktransfer.NAME`, and the new ones. None was renamed so far."""

_warned: set[str] = set()


def warn_once(old: str, new: str, *, stacklevel: int = 2) -> None:
    """Warn that an old name was used, the first time in this process.

    Args:
        old: The old name, as it was written.
        new: What to write instead.
        stacklevel: As in `warnings.warn`: 2 is the caller of the function that calls this. Defaults to 2.

    Example:
        >>> with warnings.catch_warnings(record=True) as found:
        ...     warnings.simplefilter("always")
        ...     warn_once("ktransfer.old", "ktransfer.new")
        ...     warn_once("ktransfer.old", "ktransfer.new")
        >>> [str(warning.message) for warning in found]
        ['ktransfer.old is deprecated and goes in 0.4.0. Use ktransfer.new.']
    """
    if old not in _warned:
        _warned.add(old)
        message = f"{old} is deprecated and goes in {REMOVAL}. Use {new}."
        warnings.warn(message, DeprecationWarning, stacklevel=stacklevel + 1)


def current_name(name: str) -> str:
    """The present spelling of a public name; an old one warns once.

    Example:
        >>> current_name("train")
        'train'
    """
    if name not in RENAMED:
        return name
    warn_once(f"ktransfer.{name}", f"ktransfer.{RENAMED[name]}", stacklevel=3)
    return RENAMED[name]


class _Moved(MetaPathFinder, Loader):
    """Finds the modules of `MOVED`, each as one that looks its names up where they are now."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in MOVED:
            return None
        # The frames of the import itself do not count: the level is that of the `import` statement.
        warn_once(name, f"{MOVED[name][0]}, or for a public name `from ktransfer import ...`", stacklevel=2)
        return ModuleSpec(name, self, is_package=any(other.startswith(f"{name}.") for other in MOVED))

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        old, homes = module.__name__, MOVED[module.__name__]
        module.__doc__ = f"Deprecated: see {', '.join(homes)}."

        def find(name: str) -> Any:
            for home in homes if not name.startswith("__") else ():
                found = importlib.import_module(home)
                if hasattr(found, name):
                    return getattr(found, name)
            raise AttributeError(f"module {old!r} has no attribute {name!r}")

        module.__dict__["__getattr__"] = find


def install() -> None:
    """Let the modules of `MOVED` be imported by their old names."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
