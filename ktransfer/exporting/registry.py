"""The formats of export: what each is called, made by, run by and can do. Everything else reads them from here."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ktransfer.exporting.options import ExportOptions


# The modules that describe a format, as `FORMAT`; those who ask for none of several in particular get them in this
# order.
_HOMES = (
    "ktransfer.exporting.saved_model",
    "ktransfer.exporting.tflite",
    "ktransfer.exporting.onnx",
    "ktransfer.exporting.onnx_strings",
    "ktransfer.exporting.onnx_adapters",
    "ktransfer.exporting.keras_hub",
    "ktransfer.exporting.hf",
    "ktransfer.exporting.hf_peft",
    "ktransfer.exporting.web",
)
FLOAT32 = "float32"


@dataclass(frozen=True)
class Format:
    """One format of files, in one or more precisions.

    Args:
        name: What a person writes, such as `"tflite"`.
        file: The name of the file or folder in float32; others have their precision in it.
        exporter: The module with `write(serving, path, *, fixed, extra)`; of a format of several precisions it takes
            `precision` and `on_progress` as well. It is imported when the format is written.
        runtime: The module with `open_file(path, threads)`, which returns an `Opened`.
        default: Whether it is written where no formats are asked for. Defaults to `True`.
        program: The folder of the deployment kit that is handed over with it; empty for none. Defaults to `None`, the
            one of its name.
        output: The name of what it gives. Defaults to `"probabilities"`; its runtime makes these of `"logits"`.
        precisions: Those that it has, float32 first. Defaults to that alone.
        converts: Whether a converter may need some axes to be of one size. Defaults to `True`.
        one_example: Whether it takes one example at a time unless `dynamic_batch` is asked for. Defaults to `False`.
        options: Which fields of `ExportOptions` it knows that are not for every format. Defaults to none.
        takes_raw: Whether examples are taken as people have them, given the options. Defaults to never.
        tokenizes: Whether texts become ids in the file by operators that are not the run's tokenizer; they are then
            compared with it on every text of the run. Defaults to `False`.
        reads_files: Whether the bytes of image files are taken. Defaults to `False`.
        uint8: The precisions in which images are taken in uint8 in any case. Defaults to none.
        calibrated: The precisions that need training examples. Defaults to none.
        in_process: Whether its runtime is TensorFlow, which is here anyhow, so that none is started. Defaults to
            `False`.
        concurrent: Whether several threads may ask one opened file at once. Defaults to `False`.
        modules: The top-level modules that writing and running it needs next to TensorFlow. Defaults to none.
        warm_up: A module that a subprocess imports before it is wanted. Defaults to `None`.
        operations: Callable from a file to the operations that need more than its runtime. Defaults to none.
        adapters: Whether it has the adapters of a run apart from the pretrained backbone, so that only runs with
            adapters have it. Defaults to `False`.
        needs: Callable from a file to the `name` and least `version` of the runtime that it needs. Defaults to unknown.

    Example:
        >>> get_format("tflite-int8").file_name
        'model_int8.tflite'
    """

    name: str
    file: str
    exporter: str
    runtime: str
    default: bool = True
    program: str | None = None
    output: str = "probabilities"
    precisions: tuple[str, ...] = (FLOAT32,)
    converts: bool = True
    one_example: bool = False
    options: frozenset[str] = frozenset()
    takes_raw: Callable[[ExportOptions], bool] = lambda options: False
    tokenizes: bool = False
    reads_files: bool = False
    uint8: frozenset[str] = frozenset()
    calibrated: frozenset[str] = frozenset()
    in_process: bool = False
    concurrent: bool = False
    modules: tuple[str, ...] = ()
    warm_up: str | None = None
    operations: Callable[[Path], tuple[str, ...]] = lambda path: ()
    adapters: bool = False
    needs: Callable[[Path], dict[str, Any]] = lambda path: {}


@dataclass(frozen=True)
class FormatSpec:
    """A format in one precision.

    Args:
        family: The `Format`.
        precision: Of its `precisions`.

    Example:
        >>> get_format("onnx-int8").precision
        'int8'
    """

    family: Format
    precision: str

    @property
    def name(self) -> str:
        """The name as users write it: the family, and the precision unless it is float32."""
        return self.family.name if self.precision == FLOAT32 else f"{self.family.name}-{self.precision}"

    @property
    def is_quantized(self) -> bool:
        """Whether it is smaller and less exact than float32."""
        return self.precision != FLOAT32

    @property
    def file_name(self) -> str:
        """The name of its file or folder."""
        stem, dot, suffix = self.family.file.partition(".")
        return f"{stem}_{self.precision}{dot}{suffix}" if self.is_quantized else self.family.file

    @property
    def needs_calibration(self) -> bool:
        """Whether training examples are needed."""
        return self.precision in self.family.calibrated

    @property
    def uint8(self) -> bool:
        """Whether images are taken in uint8 in any case."""
        return self.precision in self.family.uint8

    def exporter(self) -> ModuleType:
        """The module that writes it; its converter is imported with it."""
        return importlib.import_module(self.family.exporter)

    def runtime(self) -> ModuleType:
        """The module that opens it."""
        return importlib.import_module(self.family.runtime)


@functools.cache
def formats() -> tuple[Format, ...]:
    """All formats, in the order in which they are exported.

    Example:
        >>> [each.name for each in formats()]
        ['savedmodel', 'tflite', 'onnx', 'onnx-strings', 'onnx-adapters', 'keras-hub', 'transformers', 'peft', 'web']
    """
    return tuple(importlib.import_module(home).FORMAT for home in _HOMES)


@functools.cache
def format_specs() -> dict[str, FormatSpec]:
    """All formats in all precisions by name: those in float32 first.

    Example:
        >>> list(format_specs())[:9]
        ['savedmodel', 'tflite', 'onnx', 'onnx-strings', 'onnx-adapters', 'keras-hub', 'transformers', 'peft', 'web']
    """
    specs = [FormatSpec(each, precision) for each in formats() for precision in each.precisions]
    return {spec.name: spec for spec in sorted(specs, key=lambda spec: spec.is_quantized)}


def get_format(name: str) -> FormatSpec:
    """The format of a name, as `format_names` returns it.

    Raises:
        KeyError: There is none.

    Example:
        >>> get_format("onnx").family.file
        'model.onnx'
    """
    return format_specs()[name]
