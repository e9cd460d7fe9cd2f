"""Check names of image backbones and scalings of `.keras` files without importing Keras."""

from pathlib import Path

import numpy as np

from ktransfer.errors import BackboneError, did_you_mean
from ktransfer.models.backbone_names import check_backbone_name, split_share

# What the published image backbones outside keras-hub expect of 0-255 RGB pixels: x * scale + offset.
# ImageNet's channel means and standard deviations are those that torchvision made customary.
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SCALINGS = {
    "none": (1.0, 0.0),
    "0..1": (1 / 255, 0.0),
    "-1..1": (1 / 127.5, -1.0),
    "imagenet": ((1 / (255 * _STD)).tolist(), (-_MEAN / _STD).tolist()),
}


def check_image_backbone_name(name: str, *, scaling: str | None = None) -> None:
    """Refuse what cannot be a backbone for images, by its path.

    Args:
        name: As in `load_backbone`.
        scaling: As in `load_backbone`. Defaults to none.

    Raises:
        BackboneError: The path does not exist, is no preset folder, or does not go with the scaling.

    Example:
        >>> check_image_backbone_name("resnet_50_imagenet")
    """
    name = split_share(name)[0]
    path = Path(name).expanduser()
    if name.endswith(".keras"):
        if not path.is_file():
            raise BackboneError(f"Expected a .keras file, got {path}, which does not exist. Check the path.")
        if scaling not in SCALINGS:
            raise BackboneError(
                "Expected the scaling of the pixels of a .keras file, which does not record it, got "
                f"scaling={scaling!r}. {did_you_mean(scaling, SCALINGS) if scaling else ''}Pass --scaling "
                f"with one of {', '.join(SCALINGS)} (none: it scales 0-255 itself)."
            )
        return
    check_backbone_name(name, scaling=scaling)
