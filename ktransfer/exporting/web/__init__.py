"""A page for browsers: the TFLite or ONNX file, the program that answers with it, and its runtime for browsers."""

from ktransfer.exporting.registry import Format

FORMAT = Format(
    name="web",
    file="web",
    exporter="ktransfer.exporting.web.exporter",
    runtime="ktransfer.exporting.web.runtime",
    default=False,
    program="",
    one_example=True,
    modules=("onnx", "onnxruntime", "tf2onnx", "ai_edge_litert"),
    warm_up="ktransfer.exporting.tflite.conversion",
)
