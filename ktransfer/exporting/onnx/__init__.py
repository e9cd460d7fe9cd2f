"""ONNX: for servers, run by ONNX Runtime."""

from ktransfer.exporting.registry import Format

FORMAT = Format(
    name="onnx",
    file="model.onnx",
    exporter="ktransfer.exporting.onnx.exporter",
    runtime="ktransfer.exporting.onnx.runtime",
    precisions=("float32", "float16", "int8"),
    options=frozenset({"any_size"}),
    takes_raw=lambda options: options.any_size,
    concurrent=True,
    modules=("onnx", "onnxruntime", "tf2onnx"),
    calibrated=frozenset({"int8"}),
)
