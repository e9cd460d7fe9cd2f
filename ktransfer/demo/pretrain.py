"""Make the shipped preset: draw the corpus, train a small ResNet to name its kinds, keep the backbone.

    python -m ktransfer.demo.pretrain

The defaults are the settings the shipped preset was made with. It took 36 minutes of one core that other
work shared, and holds 0.5 GiB of images in memory. Formula-driven pretraining is from Kataoka et al. 2020 and
Baradad et al. 2021; see `corpus.py`.
"""

from __future__ import annotations

import os
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import keras_hub
import numpy as np
import typer

from ktransfer.demo import DEMO_IMAGE_SIZE, PRESET_PATH
from ktransfer.demo.corpus import PRETRAINING_KINDS, draw_pretraining

if TYPE_CHECKING:
    from ktransfer.core.typing import Array


HELD_OUT_PER_KIND = 20  # images; drawn from seeds of their own, never trained on


def pretrain(
    folder: Path = PRESET_PATH,
    *,
    images_per_kind: int = 700,
    epochs: int = 12,
    batch_size: int = 128,
    learning_rate: float = 0.002,
    seed: int = 0,
) -> float:
    """Pretrain the demo's backbone on the drawn corpus and write it as a keras-hub preset.

    Args:
        folder: Where the preset's files go; files of the same names are replaced.
        images_per_kind: Training images drawn of each of the corpus' kinds.
        epochs: Passes over the corpus.
        batch_size: Images a step.
        learning_rate: AdamW's peak; it rises over the first twentieth of the steps, then falls by cosine.
        seed: Whole number that the images, the first weights and the order follow from.

    Returns:
        Accuracy from 0 to 1 on held-out drawn images, the network in inference mode.

    Example:

        pretrain("preset", images_per_kind=10, epochs=1)
    """
    keras.utils.set_random_seed(seed)
    images, labels = _draw_corpus(images_per_kind, seed, split=0)
    held_out = _draw_corpus(HELD_OUT_PER_KIND, seed, split=1)

    # The first stage's width and the stem's last are 64 because keras-hub's basic blocks ask for it.
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[32, 64],
        input_conv_kernel_sizes=[3, 3],
        stackwise_num_filters=[64, 80, 112, 128],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(DEMO_IMAGE_SIZE, DEMO_IMAGE_SIZE), scale=1 / 127.5, offset=-1.0, crop_to_aspect_ratio=True
    )
    pixels = keras.Input((DEMO_IMAGE_SIZE, DEMO_IMAGE_SIZE, 3))
    features = backbone(keras.layers.Rescaling(1 / 127.5, -1.0)(pixels))
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    model = keras.Model(pixels, keras.layers.Dense(len(PRETRAINING_KINDS))(pooled))

    corpus = _Corpus(images, labels, batch_size, seed)
    steps = epochs * len(corpus)
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 100, steps - steps // 20, warmup_target=learning_rate, warmup_steps=steps // 20
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(corpus, epochs=epochs, validation_data=held_out, validation_freq=3, verbose=2)
    accuracy = model.evaluate(*held_out, verbose=0, return_dict=True)["accuracy"]
    typer.echo(f"held-out accuracy: {accuracy:.3f} over {len(PRETRAINING_KINDS)} kinds")

    preprocessor = keras_hub.models.ResNetImageClassifierPreprocessor(image_converter=converter)
    partial = Path(folder).with_name(f".{Path(folder).name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    backbone.save_to_preset(partial)
    preprocessor.save_to_preset(partial)
    options = f"--images-per-kind {images_per_kind} --epochs {epochs} --batch-size {batch_size}"
    (partial / "README.txt").write_text(
        _README.format(
            parameters=backbone.count_params(),
            kinds=len(PRETRAINING_KINDS),
            options=f"{options} --learning-rate {learning_rate} --seed {seed}",
            accuracy=accuracy,
            images=len(held_out[0]),
        ),
        encoding="utf-8",
    )
    Path(folder).mkdir(parents=True, exist_ok=True)
    for file in partial.iterdir():
        os.replace(file, Path(folder) / file.name)
    partial.rmdir()
    return accuracy


class _Corpus(keras.utils.PyDataset):
    """Shuffled batches, half of them mirrored, each with its colour channels in a random order."""

    def __init__(self, images: Array, labels: Array, batch_size: int, seed: int) -> None:
        super().__init__()
        self._images, self._labels, self._batch_size = images, labels, batch_size
        self._rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        self._order = self._rng.permutation(len(self._images))

    def __len__(self) -> int:
        return len(self._images) // self._batch_size

    def __getitem__(self, number: int) -> tuple[Array, Array]:
        chosen = self._order[number * self._batch_size : (number + 1) * self._batch_size]
        batch = self._images[chosen][..., self._rng.permutation(3)]
        return batch[:, :, :: self._rng.choice([-1, 1])], self._labels[chosen]


def _draw_corpus(per_kind: int, seed: int, *, split: int) -> tuple[Array, Array]:
    """Images uint8 `(N, H, W, 3)` and labels int32 `(N,)`, kind by kind."""
    images = np.empty((len(PRETRAINING_KINDS) * per_kind, DEMO_IMAGE_SIZE, DEMO_IMAGE_SIZE, 3), np.uint8)
    for row in range(len(images)):
        label, number = divmod(row, per_kind)
        rng = np.random.default_rng([seed, split, label, number])
        images[row] = draw_pretraining(PRETRAINING_KINDS[label], rng)
    return images, np.repeat(np.arange(len(PRETRAINING_KINDS), dtype=np.int32), per_kind)


_README = textwrap.dedent("""\
    What: keras-hub preset (ResNetBackbone, basic blocks, {parameters} parameters) and its image converter:
    RGB, 0-255, 64 x 64 pixels, scaled to -1 to 1. It is for ktransfer's demo and tests; for photographs use
    a backbone pretrained on photographs.
    From: ktransfer itself. It has seen no photograph: it was trained to name {kinds} kinds of images that
    ktransfer/demo/corpus.py draws (after Kataoka et al. 2020 and Baradad et al. 2021). The classes of the
    demo's task are not among them.
    Command: python -m ktransfer.demo.pretrain {options}
    Held-out accuracy: {accuracy:.3f} over the {kinds} kinds, {images} images that it was not trained on.
    Licence: Apache-2.0, as the project.
""")


if __name__ == "__main__":
    typer.run(pretrain)
