"""SavedModel: for TensorFlow Serving and programs with TensorFlow but without Keras."""

from ktransfer.exporting.registry import Format

FORMAT = Format(
    name="savedmodel",
    file="savedmodel",
    exporter="ktransfer.exporting.saved_model.exporter",
    runtime="ktransfer.exporting.saved_model.runtime",
    converts=False,
    takes_raw=lambda options: True,
    reads_files=True,
    concurrent=True,
    in_process=True,
)
