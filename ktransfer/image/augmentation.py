"""Configuration of image augmentation; the operations are in `augmentation_ops`."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ktransfer.errors import RecipeError, did_you_mean, listed


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images, independent for each image and epoch.

    Args:
        flip: Mirror left and right in half of the cases.
        crop: Lowest and highest share of the image's area that is kept, each over 0 and up to 1.
        rotation: Largest turn to either side, degrees, 0 to 180.
        brightness: Largest relative change of the brightness, 0 to 1: 0.2 multiplies by 0.8 to 1.2.
        contrast: Largest relative change of the distance from the image's mean grey, 0 to 1.
        saturation: Largest relative change of the distance from each pixel's grey, 0 to 1.
        mixup: Alpha of the Beta distribution that two images and their labels are blended by (Zhang et al.
            2018); 0 is off.
        cutmix: Alpha of the Beta distribution of the area cut from another image (Yun et al. 2019); 0 is
            off. With mixup on as well, each image gets one of the two by chance.

    Raises:
        RecipeError: A value is out of its range.

    Example:
        >>> dataclasses.replace(Augmentation(), flip=False, mixup=0.2).mixes_labels
        True
    """

    flip: bool = True
    crop: tuple[float, float] = (0.6, 1.0)
    rotation: float = 10.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        crop = tuple(self.crop)
        if len(crop) != 2 or not 0 < crop[0] <= crop[1] <= 1:
            raise RecipeError(
                f"Expected crop as two shares of the area, 0 < lowest <= highest <= 1, got {self.crop}. Pass "
                "(1, 1) to crop nothing."
            )
        object.__setattr__(self, "crop", crop)
        highest = {
            "rotation": 180,
            "brightness": 1,
            "contrast": 1,
            "saturation": 1,
            "mixup": 10,
            "cutmix": 10,
        }
        for name, most in highest.items():
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise RecipeError(
                    f"Expected {name} between 0 and {most}, got {value}. Pass 0 to leave it off."
                )

    @classmethod
    def none(cls) -> "Augmentation":
        """The augmentation that changes nothing.

        Example:
            >>> Augmentation.none().flip
            False
        """
        return cls(flip=False, crop=(1.0, 1.0), rotation=0.0, brightness=0.0, contrast=0.0, saturation=0.0)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Augmentation":
        """The inverse of `to_dict`; what is left out takes its default.

        Raises:
            RecipeError: A key is unknown or a value is out of its range.

        Example:
            >>> Augmentation.from_dict({"rotation": 30}).rotation
            30
        """
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise RecipeError(
                f"Expected augmentation keys out of {listed(names)}, got {unknown[0]!r}. "
                f"{did_you_mean(unknown[0], names)}Remove it."
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON holds it.

        Example:
            >>> Augmentation().to_dict()["crop"]
            [0.6, 1.0]
        """
        return {**dataclasses.asdict(self), "crop": list(self.crop)}

    @property
    def is_on(self) -> bool:
        """Whether anything is varied."""
        return self != type(self).none()

    @property
    def mixes_labels(self) -> bool:
        """Whether images are blended, so that labels become one-hot shares of classes."""
        return self.mixup > 0 or self.cutmix > 0
