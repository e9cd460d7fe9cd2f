"""A page for browsers: the ONNX file, the program that answers with it, and ONNX Runtime for browsers."""

from ktransfer.exporting.registry import Format

FORMAT = Format(
    name="web",
    file="web",
    exporter="ktransfer.exporting.web.exporter",
    runtime="ktransfer.exporting.web.runtime",
    default=False,
    program=False,
    modules=("onnx", "onnxruntime", "tf2onnx"),
)
