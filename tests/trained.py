"""Tiny classifiers of every family, trained in seconds on an easy task that is drawn.

With random weights labels are draws, and a format's error says little of what it does to a trained model.
"""

from dataclasses import dataclass

import keras
import numpy as np
from text_zoo import write_preset
from zoo import BACKBONES, SIZE

from ktransfer.demo.textures import TEXTURES
from ktransfer.image.classifier import build_classifier
from ktransfer.image.decoding import Resize
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.models.depthwise import use_depthwise
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.preprocessing import TextPreprocessing

TRAINING, JUDGED = 512, 100  # examples
LENGTH = 24  # tokens
# TFLite leaves tensors of less than 1024 weights as they are.
_WIDE = {"hidden_dim": 48, "intermediate_dim": 96}
_BATCH = 32
_TINTS = {
    "stripes": (220, 90, 60),
    "dots": (60, 200, 90),
    "cracks": (70, 90, 220),
    "clouds": (200, 190, 60),
}
_WORDS = {"animal": ("quick", "fox", "brown"), "place": ("café", "you", "cafe")}
_OF_BOTH = ("the", "a", "!")


@dataclass(frozen=True)
class Trained:
    """A tiny classifier, and what it is exported with.

    Args:
        model: Raw pixels or ids to logits.
        preprocessing: `TextPreprocessing`; `None` says that it is one of images.
        class_names: In the order of the logits.
        training, evaluated: `(examples, labels)`, as `export_model` takes them.
    """

    model: keras.Model
    preprocessing: TextPreprocessing | None
    class_names: tuple[str, ...]
    training: tuple
    evaluated: tuple


def trained(family, folder, epochs=15):
    """The classifier of a family of `zoo` or `text_zoo`; its weights are kept in `folder` and found there."""
    keras.utils.set_random_seed(0)
    draw, build = (textures, _image_model) if family in BACKBONES else (sentences, _text_model)
    model, preprocessing = build(family, folder)
    training, evaluated = draw(TRAINING, seed=0), draw(JUDGED, seed=1)
    weights = folder / f"{family}.weights.h5"
    if weights.is_file():
        model.load_weights(weights)
    else:
        model.compile(
            keras.optimizers.Adam(2e-3 if preprocessing is None else 1e-2),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
        given = training[0] if preprocessing is None else preprocessing(training[0])
        model.fit(given, training[1], batch_size=_BATCH, epochs=epochs, verbose=0)
        model.save_weights(weights)
    return Trained(model, preprocessing, tuple(_WORDS if preprocessing else _TINTS), training, evaluated)


def textures(count, seed):
    """Images `(count, 32, 32, 3)` in 0-255 and their classes: four textures, each of about one tint."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(_TINTS)
    images = np.empty((count, SIZE, SIZE, 3), "float32")
    for image, label in zip(images, labels, strict=True):
        name, tint = list(_TINTS.items())[label]
        field = TEXTURES[name](rng, SIZE)[..., None]
        light, dark = tint + rng.normal(0, 45, 3), rng.uniform(0, 90, 3)
        image[:] = np.clip(np.rint(dark + field * (light - dark) + rng.normal(0, 6, image.shape)), 0, 255)
    return images, labels


def sentences(count, seed):
    """Texts and their classes: more than half of the words are of the class, few of the other."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(_WORDS)
    own = list(_WORDS.values())
    texts = []
    for label in labels:
        kinds = rng.choice(3, rng.integers(4, 12), p=(0.65, 0.05, 0.3))
        texts.append(" ".join(rng.choice((own[label], own[1 - label], _OF_BOTH)[kind]) for kind in kinds))
    return texts, labels


def _image_model(family, folder):
    backbone = BACKBONES[family]()
    use_depthwise(backbone)
    reading = Preprocessing(Resize(SIZE, SIZE), 1 / 127.5, -1.0)
    return build_classifier(backbone, len(_TINTS), reading), None


def _text_model(family, folder):
    heads = {"head_size": _WIDE["hidden_dim"] // 2} if family == "RoformerV2" else {}
    backbone, preset = write_preset(family, folder, **_WIDE, **heads)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=LENGTH)
    return build_text_classifier(backbone, len(_WORDS), preprocessing), preprocessing
