"""What the exporters' tests share: small classifiers, and the deployment kit as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

KIT = Path(__file__).resolve().parents[1] / "export"
CLASSES = ["daisy", "rose", "sun flower"]
SIZE = 32  # pixels, both sides

# Isolated, and with the libraries that the model was made with nowhere to be found.
_RUN_ALONE = """
import runpy, sys
sys.modules.update(dict.fromkeys(("keras", "keras_hub", "ktransfer")))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def pixels(count, size=SIZE):
    return np.random.default_rng(0).uniform(0, 255, (count, size, size, 3)).astype("float32")


def small_model():
    """A convolution and a BatchNorm that has seen data, with answers far apart."""
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    x = keras.layers.Flatten()(keras.layers.BatchNormalization()(x))
    model = keras.Model(image, keras.layers.Dense(len(CLASSES))(x))
    model(pixels(8), training=True)
    return model


def classifier(backbone, size=SIZE, classes=3, **scaling):
    image = keras.Input((size, size, 3))
    features = backbone(keras.layers.Rescaling(**scaling or {"scale": 1 / 127.5, "offset": -1.0})(image))
    pool = (
        keras.layers.GlobalAveragePooling2D
        if len(features.shape) == 4
        else keras.layers.GlobalAveragePooling1D
    )
    return keras.Model(image, keras.layers.Dense(classes)(pool()(features)))


def exported_to(run, format):
    """A run with an artifact of a format that its fixture leaves out, as SavedModels, which take longest."""
    from ktransfer.commands.export import export

    if format not in [entry["format"] for entry in run.manifest["artifacts"]]:
        export(run, [format], say=lambda line: None)
    return run


def multi_label_model():
    """`small_model` with ten times its logits, so that the probabilities of images are far apart."""
    model = small_model()
    return keras.Model(model.input, keras.layers.Rescaling(10.0)(model.output))


def between(probabilities):
    """Thresholds halfway between two probabilities `(N, C)` of each label, so that a third of them reach theirs."""
    ranked = np.sort(np.asarray(probabilities, float), axis=0)
    place = 2 * len(ranked) // 3
    return ((ranked[place - 1] + ranked[place]) / 2).tolist()


def manifest_facts(modality, task="single_label", format=2):
    """What a manifest says of its run's kind, in this format or in the one before."""
    if format == 1:
        return {"format": 1, "task": f"{modality}-classification"}
    return {"format": 2, "modality": modality, "task": task}


def write_text_manifest(run, artifact, preprocessing, tokenizer, labels=CLASSES, **kind):
    manifest = {
        **manifest_facts("text", **kind),
        "labels": labels,
        "preprocessing": preprocessing.to_dict(),
        "tokenizer": {**tokenizer, "path": f"artifacts/{tokenizer['path']}"},
        "artifacts": [artifact.to_dict()],
    }
    Path(run, "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def write_manifest(run, *artifacts, size=SIZE, labels=CLASSES, **kind):
    preprocessing = {
        "height": size,
        "width": size,
        "mode": "crop",
        "interpolation": "bilinear",
        "antialias": True,
    }
    manifest = {
        **manifest_facts("image", **kind),
        "labels": labels,
        "preprocessing": preprocessing,
        "artifacts": [artifact.to_dict() for artifact in artifacts],
    }
    Path(run, "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def run_kit(format, run, *given):
    """The kit's program in a subprocess, without Keras and ktransfer."""
    command = [sys.executable, "-I", "-c", _RUN_ALONE, KIT / format / "predict.py", run, *given]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def kit_answers(format, run, *given):
    """What the kit prints, parsed; fails if the kit does, as when it asks for Keras or ktransfer."""
    done = run_kit(format, run, *given)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
