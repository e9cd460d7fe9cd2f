"""`ktransfer predict`: what a run makes of images, texts, or files of texts."""

import os
from collections.abc import Sequence
from pathlib import Path

from ktransfer.data.task import TEXTS
from ktransfer.data.text_tables import read_text, read_text_column, table_suffix
from ktransfer.errors import DataError
from ktransfer.run import Run


def predict(
    run: Run,
    inputs: Sequence[str],
    *,
    top_k: int = 5,
    text_column: str | None = None,
    encoding: str | None = None,
) -> tuple[str, list[tuple[str, list[dict]]]]:
    """Classify what a person names.

    Args:
        run: What `Run.load` gave.
        inputs: Image files. Of a text classifier: texts, tables whose every row has one, and other files,
            each of which is one text.
        top_k: How many labels for each.
        text_column: Of tables; `None` takes the one that the run was trained on.
        encoding: Of files, as Python names it; `None` takes UTF-8.

    Returns:
        `"file"` or `"text"`, and for each of these itself and its answers, as in `Run.predict`.

    Raises:
        DataError: A file cannot be read, or has no texts.

    Example:

        predict(Run.load("runs/spam"), ["Free entry!", "new.csv"])
    """
    if run.task != TEXTS:
        return "file", list(zip(inputs, run.predict(inputs, top_k=top_k), strict=True))
    column = text_column or run.manifest.get("data", {}).get("text_column")
    texts = [text for given in inputs for text in _texts(given, column, encoding)]
    return "text", list(zip(texts, run.predict(texts, top_k=top_k), strict=True))


def _texts(given, column, encoding):
    suffix = Path(given).suffix.lower() if len(given) < 4096 else ""  # a path cannot be longer
    # A file without a suffix is a table, as it is in training.
    if (suffix and table_suffix(given)) or (given.strip() and not suffix and os.path.isfile(given)):
        return read_text_column(given, text_column=column, encoding=encoding)
    if suffix and os.path.isfile(given):
        return [read_text(given, encoding)]
    if not given.strip():
        raise DataError("A text was expected. Received: an empty one. Pass some words.")
    return [given]
