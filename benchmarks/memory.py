"""Peak memory of a whole training run, on the data and on 20 times as much of it.

python benchmarks/memory.py [DATA [BACKBONES]]

The training files are repeated as links under other names; validation is not. Each run is a
subprocess; its peak resident memory is the system's figure at its end.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import MOBILENET, arguments, data_folder, note, presets, report


def recipe(kind):
    """A solved head and one epoch of a short stage, on cached features or on augmented images."""
    import ktransfer

    varied = ktransfer.Augmentation() if kind == "augmented" else ktransfer.Augmentation.none()
    return ktransfer.Recipe(
        stages=(ktransfer.Stage(depth=0.1, epochs=1, learning_rate=1e-5),), augmentation=varied
    )


def train_once(options, preset, size):
    """Run the measured process."""
    import ktransfer

    with tempfile.TemporaryDirectory() as folder:
        ktransfer.train(
            options.data,
            str(preset),
            Path(folder) / "run",
            image_size=size,
            recipe=recipe(options.once),
            cache_dir=Path(folder) / "cache",
            formats=(),
            say=note,
            verbose=0,
        )


def repeat(data, folder, copies):
    """Link the images of `data` into `folder`, those of training `copies` times; returns their number."""
    import ktransfer

    splits = ktransfer.load_splits(data)
    for split, examples, times in (("train", splits.train, copies), ("val", splits.validation, 1)):
        for name in examples.class_names:
            (folder / split / name).mkdir(parents=True)
        for index, (path, label) in enumerate(zip(examples.inputs, examples.labels, strict=True)):
            for copy in range(times):
                name = f"{index}_{copy}{Path(path).suffix}"
                link = folder / split / examples.class_names[label] / name
                link.symlink_to(Path(path).resolve())
    return copies * len(splits.train)


def peak_mib(command):
    """Peak resident memory of a command, MiB, and its seconds.

    Linux counts the parent's size at the start towards it, so this process must stay without TensorFlow.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return usage.ru_maxrss / unit, time.perf_counter() - start


def main():
    parser = arguments(__doc__)
    parser.add_argument("--once", choices=("cached", "augmented"), help="only train on DATA, measure nothing")
    options = parser.parse_args()
    data, (preset,) = data_folder(options), presets(options, MOBILENET)
    size = options.image_size or (64 if options.smoke else 96)
    if options.once:
        return train_once(options, preset, size)
    rows, copies = [], 2 if options.smoke else 20
    for kind in ("cached", "augmented"):
        measured = {}
        for times in (1, copies):
            with tempfile.TemporaryDirectory() as folder:
                images = repeat(data, Path(folder), times)
                command = [sys.executable, __file__, folder, str(preset), "--image-size", str(size)]
                mib, seconds = peak_mib([*command, "--once", kind])
            measured[times] = mib
            rows.append(
                {
                    "recipe": kind,
                    "training_images": images,
                    "peak_mib": mib,
                    "ratio": mib / measured[1],
                    "seconds": seconds,
                }
            )
            note(rows[-1])
    return report(rows, image_size=size, preset=preset.name)


if __name__ == "__main__":
    main()
