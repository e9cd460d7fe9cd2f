"""Map optional packages to the extras of ktransfer, and name the extra when one is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from ktransfer.errors import MissingExtraError

# What `pip install ktransfer` alone does not bring: the package of each module, and the extra of pyproject.toml. Those
# of `export` come with `all` too.
_TRAIN = {
    "flatbuffers": "flatbuffers",
    "jinja2": "jinja2",
    "keras_hub": "keras-hub",
    "markupsafe": "markupsafe",
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "regex": "regex",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "sentencepiece": "sentencepiece",
    "sklearn": "scikit-learn",
    "tensorboard": "tensorboard",
    "tensorflow": "tensorflow",
    "threadpoolctl": "threadpoolctl",
    "tokenizers": "tokenizers",
}
_EXPORT = {
    "ai_edge_litert": "ai-edge-litert",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "tf2onnx": "tf2onnx",
}
_OTHERS = {
    "datasketch": ("datasketch", "audit"),
    "fsspec": ("fsspec", "s3"),
    "gcsfs": ("gcsfs", "gs"),
    "jax": ("jax", "jax"),
    "optuna": ("optuna", "search"),
    "pi_heif": ("pi-heif", "heic"),
    "onnxruntime_extensions": ("onnxruntime-extensions", "strings"),
    "torch": ("torch", "transformers"),
    "transformers": ("transformers", "transformers"),
    "peft": ("peft", "peft"),
    "s3fs": ("s3fs", "s3"),
    "pyarrow": ("pyarrow", "parquet"),
    "huggingface_hub": ("huggingface-hub", "hf"),
    "tensorflow_datasets": ("tensorflow-datasets", "tfds"),
}
EXTRAS: dict[str, tuple[str, str]] = {
    **{module: (package, "train") for module, package in _TRAIN.items()},
    **{module: (package, "export") for module, package in _EXPORT.items()},
    **_OTHERS,
}


def missing_extra(error: ImportError, purpose: str = "this") -> MissingExtraError | None:
    """The error that names the extra of a module that could not be imported.

    Args:
        error: Of the import.
        purpose: What the module is needed for. Defaults to `"this"`.

    Returns:
        `None` where the module is of no extra, so that the error is another one.

    Example:
        >>> str(missing_extra(ModuleNotFoundError(name="onnx"), "the format onnx"))[:72]
        'Expected the package onnx for the format onnx, got an environment withou'
    """
    found = EXTRAS.get((error.name or "").partition(".")[0])
    if found is None or not isinstance(error, ModuleNotFoundError):
        return None
    package, extra = found
    return MissingExtraError(
        f"Expected the package {package} for {purpose}, got an environment without it. "
        f'Run `pip install "ktransfer[{extra}]"`.'
    )


def need_modules(modules: Iterable[str], purpose: str) -> None:
    """Refuse to go on without modules of an extra; none is imported.

    Args:
        modules: Top-level names, such as `"onnx"`.
        purpose: What they are needed for.

    Raises:
        MissingExtraError: One of them is not installed.

    Example:
        >>> need_modules(["numpy"], "arrays")
    """
    for module in modules:
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # a test may hide modules
            found = None
        if found is None:
            error = ModuleNotFoundError(f"No module named {module!r}", name=module)
            raise missing_extra(error, purpose) or error
