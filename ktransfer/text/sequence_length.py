"""Choose the sequence length of a run from the token counts of its texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ktransfer.errors import DataError
from ktransfer.text.preprocessing import LONGEST, TextPreprocessing

_SAMPLE = 20_000  # texts; enough for a percentile of their lengths


@dataclass(frozen=True)
class LengthChoice:
    """A sequence length and what it was chosen by, all in tokens with the special ones.

    Attributes:
        sequence_length: The choice.
        median, percentile_95, longest: Of the texts.
        share_cut: Share of the texts that are longer than the choice, 0 to 1.

    Example:

        choice = choose_sequence_length(preprocessing, examples.inputs)
        print(f"{choice.sequence_length} tokens; 95 of 100 texts have up to {choice.percentile_95}")
    """

    sequence_length: int
    median: int
    percentile_95: int
    longest: int
    share_cut: float


def choose_sequence_length(
    preprocessing: TextPreprocessing, texts: Sequence[str], *, most: int = LONGEST
) -> LengthChoice:
    """The length that 95 of 100 texts fit into, rounded up to a multiple of 8.

    Args:
        preprocessing: Whose tokenizer counts; its own length does not matter.
        texts: Of the training split; of over 40,000 every second, third and so on is looked at.
        most: Tokens that are never exceeded, nor is what the backbone takes.

    Returns:
        `LengthChoice`.

    Raises:
        DataError: There is no text.

    Example:

        choice = choose_sequence_length(preprocessing, examples.inputs)
        preprocessing = preprocessing.with_sequence_length(choice.sequence_length)
    """
    if not len(texts):
        raise DataError("Expected at least one text to choose a length by, got none. Pass some.")
    counts = preprocessing.count_tokens(texts[:: max(1, len(texts) // _SAMPLE)])
    median, high = (int(np.percentile(counts, share, method="higher")) for share in (50, 95))
    chosen = min(-(-high // 8) * 8, most, preprocessing.longest or most)
    return LengthChoice(chosen, median, high, int(counts.max()), float((counts > chosen).mean()))
