"""keras-hub: the fine-tuned task as a preset folder, with its preprocessor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransfer.errors import ExportError
from ktransfer.utils.files import write_json, write_text

if TYPE_CHECKING:
    from ktransfer.exporting.serving import Serving

FACTS, LABELS = "ktransfer.json", "labels.txt"


def write(
    serving: Serving, path: Path, *, fixed: dict[str, int], extra: Mapping[str, Any] | None = None
) -> None:
    """Write a preset folder that keras-hub's `from_preset` loads, which gives logits.

    Args:
        serving: `Serving`.
        path: The folder to write.
        fixed: Sizes of axes by name; none, as keras-hub takes any batch.
        extra: JSON-able facts, written to `ktransfer.json` next to keras-hub's own files.

    Raises:
        ExportError: keras-hub has no such task, or its classifier of this backbone cannot hold the head.

    Example:

        write(serving, Path("keras_hub"), fixed={})
        keras_hub.models.ImageClassifier.from_preset("keras_hub").predict(images).shape   # (8, 2)
    """
    if serving.task.per_token or serving.task.least_squares:
        raise ExportError(
            f"Expected single-label or multi-label classification for keras-hub, got {serving.task.title}. "
            "Export another format."
        )
    task = serving.modality.hub_model(serving)
    task.save_to_preset(str(path))
    write_text(path / LABELS, "".join(f"{name}\n" for name in serving.class_names))
    # keras-hub has no place for labels; programs without ktransfer read them here.
    write_json(
        path / FACTS, {"labels": serving.class_names, **(extra or {}), "temperature": serving.temperature}
    )
