"""A preset name, a hub handle, a folder or a `.keras` file -> a headless backbone and its preprocessing."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import keras_hub
import numpy as np

from ktransfer.errors import BackboneError, listed
from ktransfer.image.backbone_names import SCALINGS, check_image_backbone_name
from ktransfer.image.decoding import Resize
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.models.backbone_names import HUB_PREFIXES, split_share
from ktransfer.models.depthwise import use_depthwise
from ktransfer.models.presets import load_part
from ktransfer.models.truncation import truncated
from ktransfer.security.keras_archive import load_keras_file

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


def load_backbone(
    name: str,
    *,
    image_size: int | tuple[int, int] | None = None,
    scaling: str | None = None,
    load_weights: bool = True,
    dtype: str = "float32",
    fast_depthwise: bool = True,
) -> tuple[keras.Model, Preprocessing]:
    """Load an image backbone without a head, and the preprocessing that it was trained with.

    Args:
        name: A keras-hub preset name, a hub handle (`hf://`, `kaggle://`), a local preset folder, or a
            `.keras` file that holds a functional model without a classifier. With `@0.6` behind it only the lowest
            60 % of its blocks are taken.
        image_size: Pixels, one number for a square or `(height, width)`; `None` takes the preset's own.
        scaling: For a `.keras` file, which does not say it: what the model does to 0-255 pixels, one of
            `SCALINGS` (`"none"` where scaling is inside). For a preset its own is used.
        load_weights: `False` gives random weights, for a comparison.
        dtype: Keras dtype policy of a preset's backbone; a `.keras` file brings its own.
        fast_depthwise: Compute depthwise convolutions as such (see `ktransfer.use_depthwise`).

    Returns:
        `(backbone, preprocessing)`.

    Raises:
        BackboneError: There is no such backbone, it cannot be loaded, is not for images, or cannot take
            images of this size.
        RecipeError: `image_size` is no size.

    Example:

        backbone, preprocessing = load_backbone("resnet_50_imagenet", image_size=160)
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    check_image_backbone_name(str(name), scaling=scaling)
    name, share = split_share(name)
    if name.endswith(".keras"):
        backbone, preprocessing = _from_file(Path(name), size, scaling)
    else:
        backbone, preprocessing = _from_preset(name, size, load_weights=load_weights, dtype=dtype)
    if fast_depthwise:
        use_depthwise(backbone)
    return truncated(backbone, share, name), preprocessing


def _from_preset(
    name: str, size: tuple[int, int] | None, **options: Any
) -> tuple[keras.Model, Preprocessing]:
    preset = _checked_preset(name)
    converter = load_part(keras_hub.layers.ImageConverter, preset, "an image converter")
    size = size or _own_size(converter)
    backbone = load_part(keras_hub.models.Backbone, preset, "a backbone", **options)
    fixed = _image_input(backbone).shape[1:3]
    if None not in fixed and fixed != tuple(size):
        try:
            backbone = keras_hub.models.Backbone.from_preset(preset, image_shape=(*size, 3), **options)
        except (ValueError, TypeError) as error:
            raise BackboneError(
                f"Expected images of {fixed[0]} by {fixed[1]} pixels for the backbone {name}, got {size[0]} "
                f"by {size[1]}. Use --image-size {fixed[0]}."
            ) from error
    return backbone, _preprocessing(converter, size)


def _checked_preset(name: str) -> str:
    if name.startswith(HUB_PREFIXES):
        return name
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    known = keras_hub.layers.ImageConverter.presets
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"Did you mean {', '.join(near)}?" if near else "`ktransfer backbones` lists the names."
        raise BackboneError(
            "Expected the name of an image preset, a hub handle, a preset folder or a .keras file, got "
            f"{name!r}, which is none of these. {hint}"
        )
    return name


def _image_input(backbone: keras.Model) -> keras.KerasTensor:
    # A model that was never built, or is no graph, has none.
    inputs = keras.tree.flatten(getattr(backbone, "inputs", None) or [])
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[-1] != 3:
        shapes = listed(tensor.shape for tensor in inputs)
        raise BackboneError(
            f"Expected a backbone for RGB images of shape (batch, height, width, 3), got {backbone.name}, "
            f"which takes {shapes or 'no known input'}. Choose another backbone."
        )
    return inputs[0]


def _own_size(converter: keras.layers.Layer) -> tuple[int, int]:
    size = converter.image_size or (224, 224)
    if not isinstance(size, list | tuple) or [type(pixels) for pixels in size] != [int, int]:
        raise BackboneError(
            f"Expected a height and a width in pixels of the preset's image converter, got {size!r:.80}. "
            "Pass --image-size, or correct image_converter.json."
        )
    return tuple(size)


def _preprocessing(converter: keras.layers.Layer, size: tuple[int, int]) -> Preprocessing:
    """Read scale and offset off what the converter does to pixels, whatever its class calls them."""
    config = converter.get_config()
    mode = "crop" if config["crop_to_aspect_ratio"] else "pad" if config["pad_to_aspect_ratio"] else "stretch"
    resize = Resize(*size, mode=mode, interpolation=config["interpolation"], antialias=config["antialias"])
    square = max(size)
    probes = np.stack(
        [
            np.broadcast_to(np.array(p, "float32"), (square, square, 3))
            for p in ((0,) * 3, (255,) * 3, (50, 120, 200))
        ]
    )
    # Two sizes differ only in the resizing, which does not change constant images.
    seen = np.stack([keras.ops.convert_to_numpy(converter(p[None]))[0, 0, 0] for p in probes]).astype(
        "float64"
    )
    scale, offset = (seen[1] - seen[0]) / 255, seen[0]
    if not np.allclose(seen[2], np.array([50, 120, 200]) * scale + offset, atol=1e-3):
        raise BackboneError(
            "Expected an image converter that scales each channel by itself, got "
            f"{type(converter).__name__}, which does more. Wrap the backbone and save it as .keras."
        )
    return Preprocessing(resize, _exact(config["scale"], scale, 1.0), _exact(config["offset"], offset, 0.0))


def _exact(given: Any, measured: Array, neutral: float) -> list[float]:
    """The converter's own figures where they explain what it does, else the measured ones, in float64."""
    given = neutral if given is None else given
    values = np.broadcast_to(np.asarray(given, "float64"), (3,))
    return values.tolist() if np.allclose(values, measured, rtol=1e-4, atol=1e-5) else measured.tolist()


def _from_file(
    path: Path, size: tuple[int, int] | None, scaling: str | None
) -> tuple[keras.Model, Preprocessing]:
    try:
        model = load_keras_file(path)
    except (OSError, ValueError, MemoryError) as error:
        reason = str(error).rstrip(".")
        raise BackboneError(
            f"Expected a Keras model in {path}, got {reason}. Save it again with model.save()."
        ) from error
    last = model.layers[-1] if getattr(model, "layers", None) else None
    if isinstance(last, keras.layers.Dense | keras.layers.Softmax):
        raise BackboneError(
            f"Expected a backbone without its classifier, got {path}, which ends in {last.name}. Save "
            "keras.Model(model.inputs, the_layer_before.output)."
        )
    fixed = _image_input(model).shape[1:3]
    if None in fixed:
        size = size or (224, 224)
    elif size not in (None, tuple(fixed)):
        raise BackboneError(
            f"Expected images of {fixed[0]} by {fixed[1]} pixels for the backbone in {path}, got {size[0]} "
            f"by {size[1]}. Leave --image-size out."
        )
    height, width = size or fixed
    resize = Resize(height, width, mode="crop", interpolation="bilinear", antialias=True)
    scale, offset = SCALINGS[str(scaling)]  # checked with the name
    return model, Preprocessing(resize, scale, offset)
