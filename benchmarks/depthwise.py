"""Milliseconds an image of keras-hub's depthwise convolutions, as written and as `use_depthwise` has them.

python benchmarks/depthwise.py [DATA [BACKBONES]]

The same preset, weights and random images; the two run in turn. DATA is not read.
"""

from harness import MOBILENET, arguments, note, presets, report
from measuring import classifier, medians, training_step

BATCH, CLASSES = 16, 5


def main():
    options = arguments(__doc__).parse_args()
    folders = presets(options, MOBILENET)
    size = options.image_size or (64 if options.smoke else 160)
    repeats = 1 if options.smoke else 7
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (BATCH, size, size, 3)).astype("float32")
    labels = rng.integers(CLASSES, size=BATCH)
    rows = []
    for preset in folders:
        forward, training, outputs = {}, {}, []
        for fast in (False, True):
            model, backbone, _ = classifier(preset, size, CLASSES, fast_depthwise=fast)
            outputs.append(model.predict_on_batch(images))
            forward[fast] = lambda model=model: model.predict_on_batch(images)
            training[fast] = training_step(model, backbone, "all", images, labels)
        difference, largest = (float(np.abs(a).max()) for a in (outputs[1] - outputs[0], outputs[0]))
        for what, functions in (("forward", forward), ("training step, all blocks", training)):
            found = medians(functions, repeats)
            rows.append(
                {
                    "preset": preset.name,
                    "what": what,
                    "keras_hub_ms_per_image": 1000 * found[False] / BATCH,
                    "use_depthwise_ms_per_image": 1000 * found[True] / BATCH,
                    "ratio": found[False] / found[True],
                }
            )
            note(rows[-1])
        note(f"largest difference of an output {difference:.1e}, largest output {largest:.1f}")
    report(rows, image_size=size, batch_size=BATCH, largest_difference=difference, largest_output=largest)


if __name__ == "__main__":
    main()
