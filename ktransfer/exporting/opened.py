"""Description of an artifact as its runtime loaded it, and helpers that runtimes share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ktransfer.errors import ExportError
from ktransfer.security.safe_io import MOST_JSON, is_line


@dataclass(frozen=True)
class Opened:
    """An artifact that its runtime has loaded.

    Args:
        labels: Those that it carries, in their order; none if it has none.
        signature: As in `Artifact`, without what a file does not know, such as the range of pixels.
        answer: Callable, inputs by name to the answers `(B, C)`.
    """

    labels: list[str]
    signature: dict[str, Any]
    answer: Callable[[dict[str, np.ndarray]], np.ndarray]


def label_lines(content: bytes) -> list[str]:
    """Labels of a file of lines, of which no more was read than may be.

    Raises:
        ExportError: There are more bytes than that, or a label is no line.
    """
    if len(content) > MOST_JSON:
        raise ExportError(f"Expected labels of at most {MOST_JSON:,} bytes, got more. Export again.")
    return checked_labels(content.decode("utf-8", "replace").splitlines())


def checked_labels(labels: Any) -> list[str]:
    """The labels, if each is one line.

    Raises:
        ExportError: They are not.
    """
    if not isinstance(labels, list) or not all(map(is_line, labels)):
        raise ExportError(f"Expected labels of one line, got {labels!r:.80}. Export again.")
    return labels


def limit_tensorflow(threads: int | None) -> None:
    """Set how many threads TensorFlow uses in this process, before it has done anything."""
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
