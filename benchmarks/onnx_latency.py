"""Milliseconds for one image by ONNX Runtime: ktransfer's file, conversions by hand, and Keras itself.

python benchmarks/onnx_latency.py [DATA [BACKBONES]]

The same weights and image; all run in turn, each file in a subprocess, as the threads of one runtime
go on spinning for a while and would slow the next. DATA is not read. By hand are: tf2onnx of the model as it
stands, Keras' own `model.export`, ktransfer's file of a fixed batch, and ktransfer's after `onnxslim`, if
installed. A conversion that fails, or answers otherwise than Keras, is left out and named.
"""

import contextlib
import functools
import importlib.util
import os
import statistics
import tempfile
import time
from pathlib import Path

from harness import MOBILENET, RESNET, arguments, note, presets, report
from measuring import classifier

_SINGLES = 10  # answers, a round
CLASSES = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]


def main():
    options = arguments(__doc__).parse_args()
    folders = presets(options, RESNET, MOBILENET)
    size = options.image_size or (64 if options.smoke else 160)
    rounds = 1 if options.smoke else 20
    import numpy as np

    from ktransfer.core.task import get_task
    from ktransfer.exporting.processes.runtime_process import RuntimeProcess

    image = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype("float32")
    rows, left_out, softmax = [], [], get_task("single_label").probabilities
    for preset in folders:
        model, _, _ = classifier(preset, size, len(CLASSES))
        expected = softmax(model.predict_on_batch(image))
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            contenders = {"Keras": lambda repeats, model=model: _seconds(model, image, repeats)}
            for name, convert in _conversions(image).items():
                try:
                    path = convert(model, Path(folder))
                    runtime = stack.enter_context(RuntimeProcess("onnx", path, threads=_cores()))
                    [given] = runtime.signature["inputs"]
                    inputs = {given["name"]: image}
                    found = runtime(inputs)
                    found = found if np.allclose(found.sum(), 1, atol=1e-3) else softmax(found)
                    if np.abs(found - expected).max() > 1e-3:
                        raise ValueError("answers otherwise than Keras")
                except Exception as error:  # noqa: BLE001  whatever a converter or runtime raises
                    left_out.append(f"{preset.name}, {name}: {str(error).splitlines()[0][:150]}")
                    note(left_out[-1])
                else:
                    contenders[name] = functools.partial(runtime.seconds, inputs)
            milliseconds = _in_turn(contenders, rounds)
        note(milliseconds)
        by_hand = {name: value for name, value in milliseconds.items() if name not in ("Keras", "ktransfer")}
        best = min(by_hand, key=by_hand.get)
        rows.append(
            {
                "preset": preset.name,
                "keras_ms": milliseconds["Keras"],
                "ktransfer_ms": milliseconds["ktransfer"],
                "keras_to_ktransfer": milliseconds["Keras"] / milliseconds["ktransfer"],
                "best_by_hand": best,
                "best_by_hand_ms": by_hand[best],
                "ktransfer_to_best_by_hand": milliseconds["ktransfer"] / by_hand[best],
            }
        )
        note(rows[-1])
    report(rows, image_size=size, batch_size=1, left_out=left_out)


def _conversions(image):
    """Functions of a model and a folder that write a file and return its path, by name."""
    import onnx
    import tensorflow as tf
    import tf2onnx

    from ktransfer.exporting.export_model import export_model
    from ktransfer.exporting.onnx import exporter
    from ktransfer.image.serving import serve_images

    def ours(model, folder):
        artifact = export_model(model, folder / "artifacts", "onnx", class_names=CLASSES, examples=image)
        return folder / artifact.path

    def fixed(model, folder):
        path = folder / "fixed.onnx"
        exporter.write(serve_images(model, CLASSES, image), path, fixed={"batch": 1})
        return path

    def by_tf2onnx(model, folder):
        path = folder / "tf2onnx.onnx"
        spec = [tf.TensorSpec(image.shape, tf.float32, name="image")]
        function = tf.function(lambda x: tf.nn.softmax(model(x, training=False)), input_signature=spec)
        tf2onnx.convert.from_function(function, spec, opset=17, output_path=str(path))
        return path

    def by_keras(model, folder):
        path = folder / "keras.onnx"
        model.export(path, format="onnx", verbose=False)
        return path

    def slim(model, folder):
        import onnxslim

        path = folder / "slim.onnx"
        onnx.save(onnxslim.slim(str(folder / "artifacts" / "model.onnx")), path)
        return path

    found = {"ktransfer": ours, "fixed batch": fixed, "tf2onnx": by_tf2onnx, "keras export": by_keras}
    return found | ({"onnxslim": slim} if importlib.util.find_spec("onnxslim") else {})


def _in_turn(contenders, rounds):
    """Median milliseconds of each by name; none is always the one that follows the slowest."""
    names, found = list(contenders), {name: [] for name in contenders}
    for name in names:
        contenders[name](_SINGLES)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name] += contenders[name](_SINGLES)
    return {name: 1000 * statistics.median(seconds) for name, seconds in found.items()}


def _seconds(model, image, repeats):
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        model.predict_on_batch(image)
        found.append(time.perf_counter() - start)
    return found


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


if __name__ == "__main__":
    main()
