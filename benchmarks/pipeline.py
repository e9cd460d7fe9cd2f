"""Images a second of the input pipeline alone, against the training steps that it feeds.

python benchmarks/pipeline.py [DATA [BACKBONES]]

The first pass reads, decodes and resizes; later ones take the kept pixels. The files are read once before,
so that they come from the system's own cache. A step is that of one batch which is in memory already.
"""

from harness import MOBILENET, RESNET, arguments, data_folder, presets, report
from measuring import classifier, medians, training_step

BATCH = 32


def passes(splits, resize, repeats):
    """Images a second by kind of pass."""
    import ktransfer

    def dataset(**options):
        return ktransfer.image_dataset(
            splits.train, resize=resize, batch_size=BATCH, training=True, **options
        )

    augmented = {"augmentation": ktransfer.Augmentation()}
    kept = {name: dataset(cache=True, **extra) for name, extra in (("plain", {}), ("augmented", augmented))}
    runs = {
        "pipeline, first pass": lambda: exhaust(dataset(cache=False)),
        "pipeline, first pass, augmented": lambda: exhaust(dataset(cache=False, **augmented)),
        "pipeline, kept pass": lambda: exhaust(kept["plain"]),
        "pipeline, kept pass, augmented": lambda: exhaust(kept["augmented"]),
    }
    return {name: len(splits.train) / seconds for name, seconds in medians(runs, repeats).items()}


def exhaust(dataset):
    for _ in dataset:
        pass


def steps(preset, size, classes, repeats):
    """Images a second of a training step, by what trains."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (BATCH, size, size, 3)).astype("float32")
    labels = rng.integers(classes, size=BATCH)
    found = {}
    for name, depth in (("head", 0), ("all blocks", "all")):
        model, backbone, _ = classifier(preset, size, classes)
        step = training_step(model, backbone, depth, images, labels)
        found[f"training step, {name}, {preset.name}"] = BATCH / medians({name: step}, repeats)[name]
    return found


def main():
    options = arguments(__doc__).parse_args()
    data, folders = data_folder(options), presets(options, RESNET, MOBILENET)
    size = options.image_size or (64 if options.smoke else 160)
    repeats = 1 if options.smoke else 5
    import ktransfer

    splits = ktransfer.load_splits(data)
    resize = classifier(folders[0], size, 2)[-1].resize
    speeds, fastest = passes(splits, resize, repeats), 0.0
    for preset in folders:
        measured = steps(preset, size, len(splits.train.class_names), repeats)
        fastest = max(fastest, *measured.values())
        speeds |= measured
    report(
        [
            {"what": name, "images_per_second": speed, "times_the_fastest_step": speed / fastest}
            for name, speed in speeds.items()
        ],
        image_size=size,
        batch_size=BATCH,
        training_images=len(splits.train),
    )


if __name__ == "__main__":
    main()
