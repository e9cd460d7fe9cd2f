"""The recipe of a training run: stages and options, validated on construction, to and from JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ktransfer.core.modality import Augmentation, augmentations
from ktransfer.errors import RecipeError, did_you_mean, listed
from ktransfer.recipes.adapter import LoRA
from ktransfer.security.safe_io import parse_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Built = TypeVar("_Built", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A run of epochs in which one part of the backbone trains.

    Attributes:
        depth: How much of the backbone trains, from the top: a number of blocks (0 = frozen, only the head
            trains), a share of its blocks in (0, 1] as a float, `"all"`, or the name of the lowest block.
        epochs: Length in epochs.
        learning_rate: Peak learning rate of the head; `None` keeps what the model was compiled with.
        lowest_rate: Learning rate of the backbone's lowest block as a share of the head's; the blocks between
            lie on a geometric line, so every block learns slower than the one above it (discriminative
            fine-tuning, Howard and Ruder 2018, section 3.2, made independent of how many blocks there are).
        warmup: Epochs, or a part of one, in which the learning rate rises linearly to its peak (Goyal et al. 2017,
            section 2.2).
        schedule: After the warmup `"constant"`, or down to zero at the stage's end: by `"cosine"` (Loshchilov
            and Hutter 2017), or `"linear"` (Howard and Ruder 2018, section 3.2; Devlin et al. 2019).
        patience: Epochs without a better monitored value after which the stage ends early; `None` never.
    """

    depth: int | float | str
    epochs: int
    learning_rate: float | None = None
    lowest_rate: float = 0.1
    warmup: float = 0.0
    schedule: str = "constant"
    patience: int | None = None

    def __post_init__(self) -> None:
        _check(
            self.depth == "all"
            or (isinstance(self.depth, str) and self.depth)
            or (type(self.depth) is int and self.depth >= 0)
            or (type(self.depth) is float and 0 < self.depth <= 1),
            'depth to be a number of blocks, a share in (0, 1], "all" or a block\'s name',
            self.depth,
        )
        _check(type(self.epochs) is int and self.epochs >= 1, "epochs to be at least 1", self.epochs)
        _check(
            self.learning_rate is None or _is_positive(self.learning_rate),
            "learning_rate to be positive or None",
            self.learning_rate,
        )
        _check(
            _is_positive(self.lowest_rate) and self.lowest_rate <= 1,
            "lowest_rate to be in (0, 1]",
            self.lowest_rate,
        )
        _check(0 <= self.warmup <= self.epochs, "warmup to be from 0 to the stage's epochs", self.warmup)
        _check(
            self.schedule in ("constant", "cosine", "linear"),
            'schedule to be "constant", "cosine" or "linear"',
            self.schedule,
        )
        _check(
            self.patience is None or (type(self.patience) is int and self.patience >= 1),
            "patience to be at least 1 epoch or None",
            self.patience,
        )

    def rates(self, blocks: int) -> list[float]:
        """Learning rates relative to the head's, for each of `blocks` blocks from the top."""
        return [self.lowest_rate ** ((index + 1) / blocks) for index in range(blocks)]


def stage_at(stages: Sequence[Stage], epoch: int) -> int:
    """Index of the stage of `epoch` (counted from 0); the last stage has no end.

    Example:

        stage_at([Stage(depth=0, epochs=2), Stage(depth="all", epochs=3)], 2)   # 1
    """
    end = 0
    for index, stage in enumerate(stages):
        end += stage.epochs
        if epoch < end:
            return index
    return len(stages) - 1


def progressive_stages(epochs: int, *, learning_rate: float | None = None) -> tuple[Stage, ...]:
    """Stages for a `fit` of `epochs`: the head first, then the upper half, then all, at falling learning rates.

    The head comes first so that its first, large gradients do not spoil what the backbone knows (Kumar et al.
    2022, LP-FT); deeper blocks unfreeze later (Howard and Ruder 2018, section 3.3).

    Args:
        epochs: How long the whole `fit` is.
        learning_rate: Of the head in the first stage; later stages take a tenth and 3 %. `None` leaves it to
            `ProgressiveUnfreezing`, which takes these factors of what the model is compiled with where it made
            the stages itself; stages without a learning rate keep the compiled one.

    Returns:
        Three stages, or fewer where there are fewer epochs.

    Raises:
        RecipeError: `epochs` is less than 1.
    """
    _check(epochs >= 1, "epochs to be at least 1", epochs)
    head = max(1, epochs // 3)
    upper = max(1, (epochs - head) // 2)
    lengths = [length for length in (head, min(upper, epochs - head), epochs - head - upper) if length > 0]
    rates = [None if learning_rate is None else learning_rate * share for share in (1.0, 0.1, 0.03)]
    depths: tuple[int | float | str, ...] = (0, 0.5, "all")
    return tuple(
        Stage(depth=depth, epochs=length, learning_rate=rate, warmup=min(1.0, length / 4) if depth else 0.0)
        for depth, length, rate in zip(depths, lengths, rates, strict=False)
    )


# Of classes the first two, of numbers the others.
LOSSES = ("cross_entropy", "focal", "squared_error", "huber")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that is chosen about a training run. Vary one with `dataclasses.replace`.

    Attributes:
        stages: What trains when; the epochs of a run are theirs.
        head: `"solve"`: one pass over the data with the frozen backbone, then logistic regression on its
            standardised features, solved to convergence, is the head that `stages` start from (LP-FT, Kumar
            et al. 2022). `"train"`: the head is trained by gradient in a stage of depth 0.
        batch_size: Images or texts in a batch.
        optimizer: `"adamw"`, `"adam"` or `"sgd"` (momentum 0.9).
        weight_decay: Decoupled (Loshchilov and Hutter 2019), not on biases and normalisation weights.
        loss: What fine-tuning minimises: `"cross_entropy"`, or `"focal"`, which counts an example
            `(1 - p) ** focal_gamma` times, the less the surer the model is of its label (Lin et al. 2017,
            section 3.2). A solved head minimises cross-entropy in either case; `class_weight` goes with both. Of
            regression `"huber"`, which `"cross_entropy"` stands for there, or `"squared_error"`, on the standardized
            target; its solved head minimizes squared errors.
        focal_gamma: Of the focal loss, at least 0; with 0 it is cross-entropy.
        label_smoothing: Share of the target spread over all classes (Szegedy et al. 2016, section 7).
        dropout: Share of features dropped before the last layer.
        batch_norm: `"frozen"` or `"adapt"` (see `ktransfer.set_depth`).
        augmentation: What is done to training images, an `Augmentation`, or texts, a `TextAugmentation`.
        class_weight: `"balanced"` lets every class weigh the same however many examples it has (King and Zeng
            2001); `None` every example.
        cached_views: With 0 each epoch varies the images anew, and each runs the whole backbone. With V each
            image is varied V times, what the frozen part makes of each is kept, and epochs take turns.
        cache_dtype: `"float32"`, or `"float16"` to keep features in half the space.
        precision: Keras dtype policy, e.g. `"float32"` or `"mixed_float16"`.
        float16_agreement: Smallest share of validation examples that a float16 artifact gives the model's
            label.
        int8_agreement: The same of an artifact in int8.
        int8_accuracy_drop: By how much its accuracy may be lower than the model's; 0.01 is a point.
        final_weights: `"best"` keeps the epoch that is best on validation, or the solved head where none beats it.
            `"interpolated"` trains to the last epoch and then keeps the weights farthest from those before
            fine-tuning whose log loss on validation is within one standard error of the lowest (see
            `ktransfer.training.candidates.choose_weights`).
        quantization_aware: Epochs after the stages in which the model is trained as its int8 file will round
            it (see `ktransfer.fine_tune_quantized`).
        adapter: A `LoRA`: in the blocks that a stage unfreezes only low-rank adapters train. `None` trains all of their
            weights.
        seed: Of the split, the shuffling, the augmentation, the head and the adapters.
    """

    stages: tuple[Stage, ...]
    head: str = "solve"
    batch_size: int = 32
    optimizer: str = "adamw"
    weight_decay: float = 1e-4
    loss: str = "cross_entropy"
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0
    dropout: float = 0.0
    batch_norm: str = "frozen"
    augmentation: Augmentation = field(default_factory=lambda: augmentations()[0]())
    class_weight: str | None = None
    cached_views: int = 0
    cache_dtype: str = "float32"
    precision: str = "float32"
    float16_agreement: float = 0.995
    int8_agreement: float = 0.98
    int8_accuracy_drop: float = 0.01
    final_weights: str = "best"
    quantization_aware: int = 0
    adapter: LoRA | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        _check(all(isinstance(s, Stage) for s in self.stages), "stages to be Stage objects", self.stages)
        _check(self.head in ("solve", "train"), 'head to be "solve" or "train"', self.head)
        _check(
            self.stages or self.head == "solve",
            'stages, which are optional only with head="solve"',
            self.stages,
        )
        _check(
            type(self.batch_size) is int and self.batch_size >= 1,
            "batch_size to be at least 1",
            self.batch_size,
        )
        _check(
            self.optimizer in ("adamw", "adam", "sgd"), "optimizer to be adamw, adam or sgd", self.optimizer
        )
        _check(self.weight_decay >= 0, "weight_decay not to be negative", self.weight_decay)
        _check(
            self.loss in LOSSES,
            f"loss to be one of {', '.join(map(repr, LOSSES))}",
            self.loss,
        )
        _check(0 <= self.focal_gamma < float("inf"), "focal_gamma not to be negative", self.focal_gamma)
        _check(0 <= self.label_smoothing < 1, "label_smoothing to be in [0, 1)", self.label_smoothing)
        _check(0 <= self.dropout < 1, "dropout to be in [0, 1)", self.dropout)
        _check(
            self.batch_norm in ("frozen", "adapt"), 'batch_norm to be "frozen" or "adapt"', self.batch_norm
        )
        names = [kind.__name__ for kind in augmentations()]
        _check(
            isinstance(self.augmentation, augmentations()),
            f"augmentation to be an {' or a '.join(names)}, which is reproducible from the seed and "
            "whose features can be cached",
            self.augmentation,
        )
        _check(
            self.class_weight in (None, "balanced"),
            'class_weight to be "balanced" or None',
            self.class_weight,
        )
        _check(
            self.final_weights in ("best", "interpolated"),
            'final_weights to be "best" or "interpolated"',
            self.final_weights,
        )
        for name, unit in (("cached_views", "views"), ("quantization_aware", "epochs")):
            count = getattr(self, name)
            _check(type(count) is int and count >= 0, f"{name} to be a number of {unit}, 0 for none", count)
        _check(
            not (self.cached_views and self.augmentation.mixes_labels),
            "cached_views to be 0 with mixup or cutmix, which blend other images at every epoch",
            self.cached_views,
        )
        _check(
            self.cache_dtype in ("float32", "float16"),
            'cache_dtype to be "float32" or "float16"',
            self.cache_dtype,
        )
        _check(
            self.adapter is None or isinstance(self.adapter, LoRA),
            "adapter to be a LoRA or None",
            self.adapter,
        )
        _check(
            self.adapter is None or not self.quantization_aware,
            "quantization_aware to be 0 with an adapter, since these epochs change the kernels under it",
            self.quantization_aware,
        )
        _check(
            self.adapter is None or self.batch_norm == "frozen",
            'batch_norm to be "frozen" with an adapter, which leaves all else as pretrained',
            self.batch_norm,
        )
        for name in ("float16_agreement", "int8_agreement", "int8_accuracy_drop"):
            _check(0 <= getattr(self, name) <= 1, f"{name} to be from 0 to 1", getattr(self, name))
        _check(type(self.seed) is int and 0 <= self.seed < 2**32, "seed to be from 0 to 2**32 - 1", self.seed)
        for stage in self.stages:
            _check(stage.learning_rate is not None, "stages to have a learning_rate", stage)

    @property
    def epochs(self) -> int:
        return sum(stage.epochs for stage in self.stages)

    def stage_at(self, epoch: int) -> int:
        """Index of the stage that `epoch` belongs to (see `stage_at`)."""
        return stage_at(self.stages, epoch)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Recipe:
        """Read what `to_json` wrote.

        Raises:
            RecipeError: It is not JSON, has unknown or missing fields, or values that cannot be.
        """
        try:
            values = parse_json(text)
        except ValueError as error:  # no JSON, or no UTF-8
            raise RecipeError(f"Expected a recipe in JSON, got {error}. Write one with to_json().") from error
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        values = dict(_mapping(values, "a recipe"))
        stages = values.get("stages", ())
        _check(isinstance(stages, list | tuple), "stages to be a list", stages)
        values["stages"] = tuple(_build(Stage, stage, "a stage") for stage in stages)
        if "augmentation" in values:
            given = _mapping(values["augmentation"], "an augmentation")
            first, *others = augmentations()
            meant = (kind for kind in others if any(item.name in given for item in dataclasses.fields(kind)))
            values["augmentation"] = _build(next(meant, first), given, "an augmentation")
        if values.get("adapter") is not None:
            values["adapter"] = _build(LoRA, values["adapter"], "an adapter")
        return _build(cls, values, "a recipe")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _check(holds: object, expected: str, received: object) -> None:
    if not holds:
        raise RecipeError(f"Expected a recipe's {expected}, got {received!r}. Change that value.")


def _mapping(values: object, what: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise RecipeError(
            f"Expected {what} as an object of named values, got {values!r}. Write it as name: value."
        )
    return values


def _build(kind: type[_Built], values: object, what: str) -> _Built:
    given = _mapping(values, what)
    names = {item.name for item in dataclasses.fields(kind)}
    if unknown := sorted(set(given) - names):
        raise RecipeError(
            f"Expected {what} with {listed(sorted(names))}, got {listed(unknown)} as well. "
            f"{did_you_mean(unknown[0], names)}Remove it."
        )
    try:
        return kind(**given)
    except TypeError as error:
        raise RecipeError(f"Expected every value of {what}, of its type, got {error}. Correct it.") from error
