"""The recipe that `ktransfer train` takes for images where none is given: a pure function of facts."""

from ktransfer.core.task import SINGLE_LABEL
from ktransfer.image.augmentation import Augmentation
from ktransfer.recipes.default_recipes import BALANCED, BEST, FineTuning
from ktransfer.recipes.recipe import Recipe, Stage

FINE_TUNING = FineTuning(
    learning_rate=5e-4,
    schedule="cosine",
    weight_decay=1e-4,
    # A solved head fits its training examples, so that without smoothing little gradient is left but noise. Accuracy
    # and log loss on test by `ktransfer train`, without and with smoothing: drawings, MobileNet, 288 images, seeds 0
    # and 1, 0.842 and 0.950 (0.63, 0.23), then 0.942 and 0.950 (0.42, 0.31); flowers, EfficientNet-Lite0, 400 images,
    # 0.808 (0.67), then 0.862 (0.51); brain_mri, EfficientNet-Lite0, 567 images, two runs, 0.459 and 0.492 (2.6, 2.8),
    # then 0.492 and 0.475 (1.3, 1.2). At 2e-4 with smoothing the drawings have 0.883 on seed 0; at 1e-3 MobileNet's
    # activations die on seed 1; in 4 epochs in place of 8 it has 0.758.
    label_smoothing={SINGLE_LABEL: 0.1},
    depth={BALANCED: "all", BEST: "all"},
    epochs={BALANCED: (4, 8), BEST: (8, 16)},
)


def image_recipe(
    *,
    images: int,
    gpu: bool = False,
    epochs: int | None = None,
    seed: int = 0,
) -> Recipe:
    """The default recipe for images, a pure function of facts about the data and the device.

    The head is solved on the frozen backbone, so fine-tuning starts where it can only refine: at a learning rate well
    below a new head's (LP-FT, Kumar et al. 2022, section 4.2), with warmup and cosine; weights that do not
    beat the solved head on validation are not kept. The schedule grows with the data (BiT-HyperRule,
    Kolesnikov et al. 2020, section 3.3): with few images a sixth of the blocks for two epochs, else the upper
    third and then all (Howard and Ruder 2018, section 3.3). With few images there is no label smoothing and
    no dropout, which work against a head that has converged, and no augmentation, without which the frozen
    part is run only once.

    Measured with few images, without augmentation, seed 0, accuracy of the solved head and of the last epoch.
    630 flowers at 160 px, 130 of them for validation, means of three splits: MobileNetV2 0.895, then 0.882 by
    two epochs of a sixth of the blocks at 1e-4, and 0.880 to 0.900 by other depths (0.3), rates (3e-5) and
    epochs (4); at 3e-4 0.831 to 0.877. ResNet-50 V2 without its last stage 0.844, then 0.838, and 0.826 to
    0.843. The demo's drawings, 240 for validation: 0.946, then 0.950 at 3e-5, 0.963 in four epochs at 1e-4.
    So fine-tuning is short, and worth more the less the images are like those of pretraining.
    `python benchmarks/time_to_accuracy.py` measures the whole.

    Args:
        images: Training images.
        gpu: There is a GPU: larger batches, mixed precision.
        epochs: Total epochs of fine-tuning, instead of the default for this number of images; 0 keeps the
            solved head.
        seed: See `Recipe`.

    Returns:
        A `Recipe`.
    """
    few = images < 2_000
    epochs = (2 if few else 8) if epochs is None else epochs
    lengths: dict[float | str, int] = {0.15: epochs} if few else {0.3: (epochs + 1) // 2, "all": epochs // 2}
    return Recipe(
        stages=tuple(
            Stage(
                depth=depth,
                epochs=length,
                learning_rate=1e-4 if few else 3e-5,
                warmup=min(1.0, length / 4),
                schedule="cosine",
                patience=max(5, length // 3),
            )
            for depth, length in lengths.items()
            if length
        ),
        batch_size=64 if gpu else 32,
        label_smoothing=0.0 if few else 0.1,
        dropout=0.0 if few else 0.2,
        augmentation=Augmentation.none() if few else Augmentation(),
        precision="mixed_float16" if gpu else "float32",
        seed=seed,
    )
