"""The packages of npm that a page loads, found where npm has installed them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ktransfer.errors import ExportError
from ktransfer.security.safe_io import read_json
from ktransfer.utils.files import write_text
from ktransfer.utils.kit import kit_folder

_MODULES = "node_modules"


@dataclass(frozen=True)
class Package:
    """A package of npm.

    Args:
        name: As npm has it.
        files: What a page loads of it, in its folder.
        names: The names that files have in the page's folder, where they differ. Defaults to none.

    Example:
        >>> RUNTIME.name
        'onnxruntime-web'
    """

    name: str
    files: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)


RUNTIME = Package(
    "onnxruntime-web",
    (
        "dist/ort.wasm.min.mjs",
        "dist/ort-wasm-simd-threaded.mjs",
        "dist/ort-wasm-simd-threaded.wasm",
    ),
)
# The second pair is of browsers without relaxed SIMD; each loads one.
LITERT = Package(
    "@litertjs/core",
    (
        "dist/index.js",
        "wasm/litert_wasm_internal.js",
        "wasm/litert_wasm_internal.wasm",
        "wasm/litert_wasm_compat_internal.js",
        "wasm/litert_wasm_compat_internal.wasm",
    ),
    {"dist/index.js": "litert.js"},
)
LITERT_UTILS = Package("@litertjs/wasm-utils", ("dist/index.js",), {"dist/index.js": "litert-utils.js"})
TOKENIZERS = Package("@huggingface/tokenizers", ("dist/tokenizers.min.mjs",))


def find_package(package: Package) -> Path:
    """The folder of a package: in a folder of `NODE_PATH`, in `node_modules` here, or in that of the kit.

    Raises:
        ExportError: It is in none of them, or without the files.

    Example:

        find_package(RUNTIME) / "dist"
    """
    named = [Path(each) for each in os.environ.get("NODE_PATH", "").split(os.pathsep) if each]
    places = [*named, Path(_MODULES), kit_folder() / "web" / _MODULES]
    for place in places:
        folder = place / package.name
        if all((folder / file).is_file() for file in package.files):
            return folder
    raise ExportError(
        f"Expected the npm package {package.name} for the format web, got none with {Path(package.files[0]).name} in "
        f"{', '.join(str(place.absolute()) for place in places)}. Run `npm install {package.name}@"
        f"{wanted_versions()[package.name]}` here, or name its {_MODULES} in NODE_PATH."
    )


def wanted_versions() -> Mapping[str, str]:
    """The versions that the page was tested with, by package.

    Example:
        >>> sorted(wanted_versions())
        ['@huggingface/tokenizers', '@litertjs/core', '@litertjs/wasm-utils', 'onnxruntime-web']
    """
    return read_json(kit_folder() / "web" / "package.json")["dependencies"]


def found_versions(packages: Sequence[tuple[Package, Path]]) -> dict[str, str]:
    """The versions of packages in these folders.

    Raises:
        ExportError: A folder has no readable `package.json`.
    """
    found = {}
    for package, folder in packages:
        try:
            found[package.name] = str(read_json(folder / "package.json")["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ExportError(
                f"Expected the version of {package.name} in {folder / 'package.json'}, got {error}. Install it again."
            ) from error
    return found


def copy_packages(packages: Sequence[tuple[Package, Path]], folder: Path) -> None:
    """Copy the files of packages to a folder that a page loads them from, side by side.

    A page has no map of names to packages, so LiteRT's import of another package becomes one of its file.

    Raises:
        ExportError: LiteRT does not import that package as the version that was tested does.

    Example:

        copy_packages([(RUNTIME, find_package(RUNTIME))], Path("web/runtime"))
    """
    for package, source in packages:
        for file in package.files:
            shutil.copyfile(source / file, folder / package.names.get(file, Path(file).name))
    module = folder / "litert.js"
    if not module.exists():
        return
    code = module.read_text(encoding="utf-8")
    imported = f'from "{LITERT_UTILS.name}"'
    if code.count(imported) != 1:
        raise ExportError(
            f"Expected one import of {LITERT_UTILS.name} in {LITERT.name}, got {code.count(imported)}. Install "
            f"{LITERT.name}@{wanted_versions()[LITERT.name]}."
        )
    write_text(module, code.replace(imported, 'from "./litert-utils.js"'))
