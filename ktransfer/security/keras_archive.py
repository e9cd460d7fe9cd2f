"""Validate an untrusted `.keras` file or preset folder before Keras creates objects from it.

Keras' safe mode refuses code in a file and a list of functions that are known to do harm. What is asked here
is more: that every object named in a configuration is a layer or the like, and every function an activation
or one that was registered by its owner.
"""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import keras

from ktransfer.security.safe_io import MOST_JSON, parse_json, read_json

# Keras stores weights as they are; what unpacks to more than so many times the file was made to.
_MOST_EXPANSION = 10
_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
# Where classes that are made from a configuration are at home; functions are in two of them.
_CLASSES = frozenset(
    ["keras"]
    + [f"keras.{name}" for name in ("activations", "constraints", "dtype_policies", "initializers", "layers")]
    + [f"keras.{name}" for name in ("losses", "metrics", "models", "optimizers", "optimizers.schedules")]
    + [f"keras.{name}" for name in ("quantizers", "random", "regularizers")]
)
_FUNCTIONS = ("builtins", "keras.activations")
_VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")
# Of tokenizers and lookups: lists, or written next to it; a string here is a path from untrusted input.
_VOCABULARIES = ("vocabulary", "merges", "proto")
# Of weights in several files, by keras-hub and Hugging Face.
_WEIGHT_LISTS = ("model.weights.json", "model.safetensors.index.json")
_PRESET_CONFIGS = ("config.json", "tokenizer.json", "image_converter.json", "preprocessor.json", "task.json")


def load_keras_file(path: Path) -> keras.Model:
    """Load a `.keras` file in safe mode, without its optimizer, if there is nothing in it but a model.

    Raises:
        ValueError: It is no such file, damaged, or has in it what no model needs.
        OSError: It cannot be read.

    Example:

        load_keras_file(Path("runs/flowers/model.keras")).name   # "classifier"
    """
    try:
        _check_archive(path)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # Keras, h5py and layers raise many kinds of errors for a damaged file
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"a {type(model).__name__} and no model")
    return model


def check_preset(folder: Path) -> None:
    """Raise `ValueError` if a configuration in a local preset folder names what no model needs.

    Example:

        check_preset(Path("presets/resnet_18"))
    """
    for name in _PRESET_CONFIGS:
        if (folder / name).exists():
            # Of Hugging Face's layout a tokenizer.json holds the whole vocabulary.
            check_config(read_json(folder / name, most=8 * MOST_JSON))
    for name in _WEIGHT_LISTS:
        if (folder / name).exists():
            _check_weight_list(read_json(folder / name))


def _check_weight_list(values: object) -> None:
    listed = values.get("weight_map") if isinstance(values, dict) else None
    for names in (listed if isinstance(listed, dict) else {}).values():
        for name in names if isinstance(names, list) else [names]:
            if not isinstance(name, str) or PurePosixPath(name).name != name:
                raise ValueError(f"weights in {name!r:.80}, which is no file of the preset")


def check_config(config: Any) -> None:
    """Raise `ValueError` if a configuration of Keras names what no model needs.

    Example:

        check_config({"module": "keras.layers", "class_name": "Dense", "config": {"units": 2}})
    """
    for node in _objects(config):
        for key in _VOCABULARIES:
            if isinstance(node.get(key), str):
                raise ValueError(f"a path as {key}")
        if "class_name" in node and ("config" in node or "module" in node):
            _check_object(node)


def _check_object(node: Mapping[str, Any]) -> None:
    name, module, inner = node["class_name"], node.get("module"), node.get("config")
    if not isinstance(name, str) or not isinstance(module, str | None):
        raise ValueError(f"an object of class {name!r:.80} in {module!r:.80}")
    if name.startswith("_"):
        if module is None and name in _VALUES:
            return
        raise ValueError(f"an object of class {name!r:.80}, which no model is made of")
    known = inner if name == "function" else node.get("registered_name") or name
    if isinstance(known, str) and keras.saving.get_registered_object(known) is not None:
        return
    if name == "function":
        allowed = module in _FUNCTIONS
    else:
        # Elsewhere in these packages Keras itself takes nothing but what is made to be saved.
        within = (module or "").startswith(("keras.src.", "keras_hub."))
        allowed = module in _CLASSES or within
    if not allowed:
        what = f"function {inner}" if name == "function" else name
        raise ValueError(f"{what!r:.80} of {module!r:.80}, which no model is made of")


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    level = [config]
    while level:
        value = level.pop()
        if isinstance(value, dict):
            yield value
            level += value.values()
        elif isinstance(value, list):
            level += value


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if len(set(names)) != len(names):
            raise ValueError("a file in it twice")
        for name in names:
            parts = PurePosixPath(name).parts
            asset = parts[:1] == ("assets",) and ".." not in parts and "\\" not in name
            if name not in _MEMBERS and not asset:
                raise ValueError(f"{name!r:.80} in it")
        unpacked = sum(member.file_size for member in members)
        if unpacked > _MOST_EXPANSION * path.stat().st_size + MOST_JSON:
            raise ValueError(f"{unpacked:,} bytes in a file of {path.stat().st_size:,}")
        if archive.getinfo("config.json").file_size > MOST_JSON:
            raise ValueError(f"a configuration of more than {MOST_JSON:,} bytes")
        check_config(parse_json(archive.read("config.json")))
