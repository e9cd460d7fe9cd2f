"""SavedModel: for TensorFlow Serving and programs with TensorFlow but without Keras."""

from pathlib import Path
from typing import Any

from ktransfer.exporting.registry import Format


def _needs(path: Path) -> dict[str, Any]:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    content = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    return {"name": "TensorFlow", "version": content.meta_graphs[0].meta_info_def.tensorflow_version}


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
    needs=_needs,
)
