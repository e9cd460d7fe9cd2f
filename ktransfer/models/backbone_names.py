"""What names of backbones look like, and how a `.keras` file may scale pixels; checked without Keras."""

import os
from pathlib import Path

import numpy as np

from ktransfer.errors import BackboneError, did_you_mean

HUB_PREFIXES = ("hf://", "kaggle://", "modelscope://")

# What the published image backbones outside keras-hub expect of 0-255 RGB pixels: x * scale + offset.
# ImageNet's channel means and standard deviations are those that torchvision made customary.
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SCALINGS = {
    "none": (1.0, 0.0),
    "0..1": (1 / 255, 0.0),
    "-1..1": (1 / 127.5, -1.0),
    "imagenet": ((1 / (255 * _STD)).tolist(), (-_MEAN / _STD).tolist()),
}


def check_backbone_name(name: str, *, scaling: str | None = None, images: bool = True) -> None:
    """Refuse what cannot be a backbone, by its path; whether a preset of the name exists is checked later.

    Args:
        name: As in `load_backbone` and `load_text_backbone`.
        scaling: As in `load_backbone`. Defaults to none.
        images: Whether the backbone is for images. Defaults to `True`.

    Raises:
        BackboneError: The path does not exist, is no preset folder, or does not go with the scaling.

    Example:
        >>> check_backbone_name("resnet_50_imagenet")
    """
    path = Path(name).expanduser()
    if images and name.endswith(".keras"):
        if not path.is_file():
            raise BackboneError(f"A .keras file was expected. Received: {path}, which does not exist.")
        if scaling not in SCALINGS:
            raise BackboneError(
                "A .keras file does not say how its pixels are scaled, and a guess would ruin it. "
                f"Received: scaling={scaling!r}. {did_you_mean(scaling, SCALINGS) if scaling else ''}"
                f"Pass --scaling with one of {', '.join(SCALINGS)} (none: it scales 0-255 itself)."
            )
        return
    if scaling is not None:
        raise BackboneError(
            f"A preset brings its own scaling. Received: scaling={scaling!r} for {name!r}. Leave it out."
        )
    if name.startswith(HUB_PREFIXES):
        return
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BackboneError(
                f"A preset folder holds config.json. Received: {name}, which does not. "
                "Write one with backbone.save_to_preset()."
            )
    elif not name or os.sep in name or (os.altsep and os.altsep in name):  # no preset is named so
        raise BackboneError(
            "The name of a preset, a hub handle, a preset folder or a .keras file was expected. "
            f"Received: {name!r}, a path that does not exist. Check it; "
            "`ktransfer backbones` lists the names."
        )
