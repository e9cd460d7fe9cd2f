"""Adapters as an option of a recipe: which layers get one, and how large it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from ktransfer.errors import RecipeError

ADAPTERS = ("lora", "rslora")
_ONCE = 8  # the rank whose product counts once in a rank-stabilized adapter


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank adaptation: a kernel stays as pretrained, and the product of two small matrices is added to it.

    In the blocks that a stage unfreezes only the adapters train; their kernels, biases and normalization do not.

    Args:
        rank: Of the product at least, for the whole kernel as a matrix; at least 1. Defaults to 8.
        alpha: The product counts `alpha / rank` times. Defaults to `None`, which is `rank`, so once.
        rank_stabilized: The product counts `alpha / sqrt(rank)` times, so that its gradients do not shrink with the
            rank (rsLoRA); alpha is then `sqrt(8)` if left out, so that rank 8 counts once. Defaults to `False`.
        targets: Names of layers, or patterns such as `"*query*"` that are compared with the path of a layer. Defaults
            to none, which is every Dense, EinsumDense and convolution whose adapter is smaller than its kernel,
            depthwise ones left out.

    Raises:
        RecipeError: `rank` or `alpha` is not positive, `rank_stabilized` is no truth value, or a target is empty.

    Example:
        >>> LoRA(rank=4).scale
        1.0
        >>> LoRA(rank=32, rank_stabilized=True).scale
        0.5

    Source: Hu et al. 2022, "LoRA: Low-rank adaptation of large language models", section 4.1. `rank_stabilized`:
    Kalajdzievski 2023, "A rank stabilization scaling factor for fine-tuning with LoRA".
    """

    rank: int = 8
    alpha: float | None = None
    targets: Sequence[str] = ()
    rank_stabilized: bool = False

    def __post_init__(self) -> None:
        targets = (self.targets,) if isinstance(self.targets, str) else tuple(self.targets)
        object.__setattr__(self, "targets", targets)
        if type(self.rank) is not int or self.rank < 1:
            raise RecipeError(
                f"Expected an adapter's rank of at least 1, got {self.rank!r}. Pass such as 8, or no adapter."
            )
        if self.alpha is not None and (
            isinstance(self.alpha, bool)
            or not isinstance(self.alpha, int | float)
            or not 0 < self.alpha < float("inf")
        ):
            raise RecipeError(
                f"Expected an adapter's alpha to be positive, got {self.alpha!r}. Leave it out for the rank."
            )
        if not isinstance(self.rank_stabilized, bool):
            raise RecipeError(
                f"Expected an adapter's rank_stabilized to be true or false, got {self.rank_stabilized!r}. Leave it "
                "out for LoRA."
            )
        if wrong := [target for target in targets if not isinstance(target, str) or not target]:
            raise RecipeError(
                f"Expected names of layers as an adapter's targets, got {wrong[0]!r}. Leave targets out for all layers."
            )

    @property
    def scale(self) -> float:
        """The factor on the product."""
        if self.rank_stabilized:
            return ((_ONCE if self.alpha is None else self.alpha**2) / self.rank) ** 0.5
        return 1.0 if self.alpha is None else self.alpha / self.rank

    def to_dict(self) -> dict[str, object]:
        """The fields as JSON values."""
        return dataclasses.asdict(self) | {"targets": list(self.targets)}
