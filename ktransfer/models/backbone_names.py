"""Check names of backbones without importing Keras."""

import os
import re
from pathlib import Path

from ktransfer.errors import BackboneError

HUB_PREFIXES = ("hf://", "kaggle://", "modelscope://")


def split_share(name: str | os.PathLike[str]) -> tuple[str, float | None]:
    """The name of a backbone, and the share of its blocks that `NAME@SHARE` keeps.

    Args:
        name: As in `load_backbone`. What exists under the whole name is no cut.

    Returns:
        The name, and `None` where it says no share.

    Raises:
        BackboneError: The share is not in (0, 1].

    Example:
        >>> split_share("resnet_50_imagenet@0.6"), split_share("resnet_50_imagenet")
        (('resnet_50_imagenet', 0.6), ('resnet_50_imagenet', None))
    """
    name = str(name)
    found = re.fullmatch(r"(.+)@([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)", name)
    if found is None or Path(name).expanduser().exists():
        return name, None
    try:
        share = float(found[2])
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise BackboneError(
            f"Expected a share of the blocks in (0, 1] after @, got {name!r}. Write such as {found[1]}@0.6."
        )
    return found[1], share


def check_backbone_name(name: str, *, scaling: str | None = None) -> None:
    """Refuse what cannot be a backbone, by its path; whether a preset of the name exists is checked later.

    Args:
        name: As in `load_backbone` and `load_text_backbone`.
        scaling: As in `load_backbone`. Defaults to none.

    Raises:
        BackboneError: The path does not exist, is no preset folder, or does not go with the scaling.

    Example:
        >>> check_backbone_name("resnet_50_imagenet")
    """
    name = split_share(name)[0]
    path = Path(name).expanduser()
    if scaling is not None:
        raise BackboneError(
            f"Expected no scaling for a preset, which has its own, got scaling={scaling!r} for {name!r}. "
            "Leave it out."
        )
    if name.startswith(HUB_PREFIXES):
        return
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BackboneError(
                f"Expected a preset folder with config.json, got {name}, which has none. Write one with "
                "backbone.save_to_preset()."
            )
    elif not name or os.sep in name or (os.altsep and os.altsep in name):  # no preset is named so
        raise BackboneError(
            f"Expected the name of a preset, a hub handle, a preset folder or a .keras file, got {name!r}, a "
            "path that does not exist. Check it; `ktransfer backbones` lists the names."
        )
