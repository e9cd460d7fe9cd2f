"""Made-up messages to a shop and a small random text backbone: what tutorials and tests on texts need offline."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ktransfer.errors import DataError
from ktransfer.utils.files import write_text

if TYPE_CHECKING:
    from ktransfer.core.typing import PathLike


_TOPICS = {
    "delivery": (
        "my parcel has not arrived",
        "the courier left the box at the wrong door",
        "when will the order be shipped",
        "tracking shows no change for a week",
    ),
    "refund": (
        "please send my money back",
        "I was charged twice for one item",
        "the discount is missing on my invoice",
        "how long does a repayment take",
    ),
    "account": (
        "I cannot log in any more",
        "the password link does not work",
        "please change the address of my profile",
        "my user name is shown with a typo",
    ),
}
_GREETINGS = ("hello", "good morning", "hi there", "dear team", "to whom it may concern")
_ENDINGS = ("thanks", "please help", "this is urgent", "best wishes", "looking forward to your answer")
_SMALL_TALK = ("I like your shop", "keep up the good work", "what a lovely catalog", "see you at the fair")

TEXT_CLASSES = tuple(sorted(_TOPICS))
"""Classes of the messages, in label order."""


def write_text_task(path: PathLike, *, rows: int = 240, several_labels: bool = False, seed: int = 0) -> Path:
    """Write made-up messages to a shop as a CSV table with the columns `text` and `label`.

    Args:
        path: The `.csv` file; must not exist yet.
        rows: How many messages, at least one of each class.
        several_labels: Whether a message may be about any number of topics, also none; the cell then holds their
            names with `|` between them. Defaults to `False`, one topic each.
        seed: Whole number that all messages follow from. Defaults to 0.

    Returns:
        `pathlib.Path` of the table.

    Raises:
        DataError: The file exists, or there are too few rows.

    Example:

        write_text_task("messages.csv")
    """
    path = Path(path)
    if path.exists():
        raise DataError(
            f"Expected a path of a new table, got {path}, which exists. Remove it or name another."
        )
    if rows < len(TEXT_CLASSES):
        raise DataError(f"Expected at least {len(TEXT_CLASSES)} rows, got {rows}. Ask for more.")
    rng = np.random.default_rng(seed)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["text", "label"])
    for number in range(rows):
        count = int(rng.integers(0, 3)) if several_labels and number >= len(TEXT_CLASSES) else 1
        first = number % len(TEXT_CLASSES)
        topics = [TEXT_CLASSES[(first + step) % len(TEXT_CLASSES)] for step in range(count)]
        topical = [str(rng.choice(_TOPICS[topic])) for topic in topics] or [str(rng.choice(_SMALL_TALK))]
        order = f"order {rng.integers(1000, 10000)}"
        parts = [str(rng.choice(_GREETINGS)), *topical, order, str(rng.choice(_ENDINGS))]
        writer.writerow([", ".join(parts), "|".join(sorted(topics))])
    write_text(path, table.getvalue())
    return path


def write_text_preset(folder: PathLike, *, hidden_dim: int = 64, seed: int = 0) -> Path:
    """Write a small BERT with random weights and the vocabulary of the messages as a keras-hub preset.

    It shows how texts are trained and exported where no pretrained backbone is at hand, and is of no other use.

    Args:
        folder: Where to write; must not exist yet.
        hidden_dim: Width of the backbone, a multiple of 4. Defaults to 64.
        seed: Of the weights. Defaults to 0.

    Returns:
        `pathlib.Path` of the folder, which `ktransfer train --backbone` takes.

    Raises:
        DataError: The folder exists.

    Example:

        write_text_preset("tiny_bert")
    """
    import keras
    import keras_hub

    folder = Path(folder)
    if folder.exists():
        raise DataError(
            f"Expected a path of a new folder, got {folder}, which exists. Remove it or name another."
        )
    keras.utils.set_random_seed(seed)
    sentences = [*_GREETINGS, *_ENDINGS, *_SMALL_TALK, *(s for group in _TOPICS.values() for s in group)]
    words = sorted({word for sentence in sentences for word in re.findall(r"\w+", sentence.lower())})
    digits = [f"{prefix}{digit}" for prefix in ("", "##") for digit in range(10)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", "order", *digits, *words]
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=list(dict.fromkeys(vocabulary)), lowercase=True)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=2,
        num_heads=4,
        hidden_dim=hidden_dim,
        intermediate_dim=2 * hidden_dim,
        max_sequence_length=64,
    )
    backbone.save_to_preset(str(folder))
    tokenizer.save_to_preset(str(folder))
    return folder
