"""Seconds of an epoch by stage, on images against on cached features.

python benchmarks/epoch_cost.py [DATA [BACKBONES]]

Both train the same stage on the same examples, in the same batches, validation included; the images are
kept decoded after the first epoch. The median is of the second epoch and later ones. What the
one pass that fills the cache takes is given next to it: it is paid before the first epoch.
"""

import statistics
import tempfile
import time

from harness import MOBILENET, RESNET, arguments, data_folder, note, presets, report
from measuring import classifier, epoch_timer

STAGES = {"head": 0, "upper 0.3": 0.3}


def on_images(preset, size, splits, recipe):
    """Seconds of each epoch of `fine_tune`."""
    import ktransfer

    model, _, preprocessing = classifier(preset, size, len(splits.train.class_names))
    timer, seconds = epoch_timer()
    batches = {"batch_size": recipe.batch_size, "one_hot": True, "seed": recipe.seed}
    ktransfer.fine_tune(
        model,
        preprocessing.dataset(splits.train, training=True, **batches),
        preprocessing.dataset(splits.validation, **batches),
        recipe,
        callbacks=[timer],
        verbose=0,
    )
    return seconds


def on_features(preset, size, splits, recipe):
    """Seconds of each epoch of `fine_tune_cached`, and of the pass over the images before them."""
    from ktransfer.features.cached_features import FrozenFeatures
    from ktransfer.features.store import FeatureStore
    from ktransfer.training.fine_tune_cached import fine_tune_cached

    model, _, preprocessing = classifier(preset, size, len(splits.train.class_names))
    timer, seconds = epoch_timer()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        features = FrozenFeatures(
            model,
            splits.train,
            splits.validation,
            recipe,
            preprocessing=preprocessing,
            store=FeatureStore(folder),
            say=note,
        )
        fine_tune_cached(model, features, callbacks=lambda stage: [timer], verbose=0)
        before = time.perf_counter() - start - sum(seconds)
    return seconds, before


def main():
    options = arguments(__doc__).parse_args()
    data, folders = data_folder(options), presets(options, RESNET, MOBILENET)
    size = options.image_size or (64 if options.smoke else 160)
    import ktransfer

    splits, rows = ktransfer.load_splits(data), []
    for preset in folders:
        for name, depth in STAGES.items():

            def recipe(epochs, depth=depth):
                stage = ktransfer.Stage(depth=depth, epochs=epochs, learning_rate=1e-4)
                return ktransfer.Recipe(
                    stages=(stage,), head="train", augmentation=ktransfer.Augmentation.none()
                )

            # Epochs on features are short: more of them for a steady median.
            kept, before = on_features(preset, size, splits, recipe(2 if options.smoke else 9))
            images = on_images(preset, size, splits, recipe(2 if options.smoke else 4))
            kept, images = statistics.median(kept[1:]), statistics.median(images[1:])
            rows.append(
                {
                    "preset": preset.name,
                    "stage": name,
                    "images_seconds": images,
                    "features_seconds": kept,
                    "ratio": images / kept,
                    "pass_before_seconds": before,
                }
            )
            note(rows[-1])
    report(rows, image_size=size, batch_size=32, training_images=len(splits.train))


if __name__ == "__main__":
    main()
