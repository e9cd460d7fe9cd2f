"""One family of the export matrix: a tiny classifier trained, exported and timed; a JSON line a format.

python benchmarks/export_cells.py FAMILY FOLDER FORMAT [FORMAT ...]

FAMILY is a key of `tests/zoo.py` or `tests/text_zoo.py`. The weights are kept in FOLDER and found there.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
CALIBRATION = 96  # training examples
_ANSWERS, _WARM_UP = 200, 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family")
    parser.add_argument("folder", type=Path)
    parser.add_argument("formats", nargs="+")
    options = parser.parse_args()
    from trained import trained

    given = trained(options.family, options.folder)
    for format in options.formats:
        print(json.dumps({"format": format} | cell(given, format, options.folder)), flush=True)


def cell(given, format, folder):
    """The outcome of one format: `{"outcome": "works", ...}` and figures, or `"refused"` and the reason.

    Args:
        given: From `trained`.
        format: Of `FORMATS` of the page.
        folder: Where the artifact is written, `artifacts` below it.
    """
    from ktransfer.errors import ExportError
    from ktransfer.exporting.export_model import export_model

    examples, labels = given.evaluated
    try:
        artifact = export_model(
            given.model,
            folder / "artifacts",
            format,
            class_names=given.class_names,
            examples=examples,
            labels=labels,
            preprocessing=given.preprocessing,
            calibration=given.training[0][:CALIBRATION],
        )
    except ExportError as error:
        return {"outcome": "refused", "reason": str(error)}
    wrong = wrong_inside(format, folder / artifact.path)
    if wrong:
        return {"outcome": "failed", "reason": wrong}
    parity = artifact.parity
    return {
        "outcome": "works",
        "size_bytes": artifact.size_bytes,
        "batch": artifact.batch,
        "sequence": artifact.sequence,
        "max_abs_delta": parity.max_abs_delta,
        "label_agreement": parity.label_agreement,
        "accuracy": parity.accuracy,
        "accuracy_of_model": parity.accuracy_of_model,
        "latency_ms": latency_ms(given, artifact, folder),
    }


def wrong_inside(format, path):
    """Faults of a file whose answers are right: it is not smaller, or slow for its format."""
    family, _, precision = format.partition("-")
    if not precision:
        return None
    operations, weights = (_inside_onnx if family == "onnx" else _inside_tflite)(path)
    if "ConvInteger" in operations:
        return "convolutions are quantized as they come, ten times as slow"
    narrow = sum(count for bits, count in weights if bits < 32) / sum(count for _, count in weights)
    return None if narrow >= 0.5 else f"only {narrow:.0%} of the weights are of fewer bits"


def _inside_onnx(path):
    """Names of the operations, and `(bits, count)` of each tensor of weights."""
    import onnx

    graph = onnx.load(path).graph
    weights = [onnx.numpy_helper.to_array(value) for value in graph.initializer]
    return {node.op_type for node in graph.node}, [(8 * each.itemsize, each.size) for each in weights]


def _inside_tflite(path):
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    bits = {schema.TensorType.FLOAT32: 32, schema.TensorType.FLOAT16: 16, schema.TensorType.INT8: 8}
    sizes = [
        (bits[tensor.type], len(model.buffers[tensor.buffer].data) * 8 // bits[tensor.type])
        for tensor in model.subgraphs[0].tensors
        if tensor.type in bits and model.buffers[tensor.buffer].data is not None
    ]
    return set(), sizes


def latency_ms(given, artifact, folder):
    """Median milliseconds of an answer to one example, on one thread of a subprocess."""
    from ktransfer.exporting.processes.runtime_process import RuntimeProcess

    if given.preprocessing is None:
        inputs = {"image": given.evaluated[0][:1]}
    else:
        length = artifact.sequence if isinstance(artifact.sequence, int) else None
        inputs = given.preprocessing.pack(given.preprocessing.tokenize(given.evaluated[0][:1]), length)
    with RuntimeProcess(artifact.format, folder / artifact.path, threads=1) as opened:
        opened.seconds(inputs, _WARM_UP)
        return 1e3 * statistics.median(opened.seconds(inputs, _ANSWERS))


if __name__ == "__main__":
    main()
