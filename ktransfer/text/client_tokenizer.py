"""The BERT tokenizer of a client library, MediaPipe's `TextClassifier`.

It reads `vocab.txt` in a TFLite file and makes the ids itself, by one fixed way to cut and to fold case:
`mediapipe/tasks/cc/text/tokenizers/bert_tokenizer.cc` and `bert_preprocessor_calculator.cc`, which the Task Library's
`BertNLClassifier` has too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras_hub
import regex

from ktransfer.errors import ExportError, RecipeError

if TYPE_CHECKING:
    from ktransfer.exporting.serving import Serving
    from ktransfer.text.preprocessing import TextPreprocessing


MOST_PIECES = 100_000  # of a vocabulary on a phone
MOST_DIFFERING = 0.05  # of the texts
_INPUTS = ("token_ids", "segment_ids", "padding_mask")
_KEPT = (
    r"[!-/:-@\[-`{-~\p{P}\u4E00-\u9FFF\u3400-\u4DBF\U00020000-\U0002A6DF\U0002A700-\U0002B73F\U0002B740-\U0002B81F"
    r"\U0002B820-\U0002CEAF\uF900-\uFAFF\U0002F800-\U0002FA1F]"
)
_WORDS = regex.compile(rf"{_KEPT}|(?:(?!{_KEPT})[^ \t\n\r\f])+")
_BYTES_PER_WORD = 100
_UNKNOWN, _START, _END = "[UNK]", "[CLS]", "[SEP]"


def word_pieces(tokenizer: Any) -> tuple[str, ...]:
    """The vocabulary of a WordPiece tokenizer by id; of another kind none.

    Example:
        >>> word_pieces(keras_hub.tokenizers.WordPieceTokenizer(["[UNK]", "the"]))
        ('[UNK]', 'the')
    """
    if not isinstance(tokenizer, keras_hub.tokenizers.WordPieceTokenizer):
        return ()
    return tuple(tokenizer.get_vocabulary())


def not_for_client(preprocessing: TextPreprocessing, *, rows_an_example: bool = False) -> str:
    """Reason why MediaPipe's tokenizer cannot take the place of a run's; empty where it can.

    Args:
        preprocessing: What the model was trained with.
        rows_an_example: Whether an example is one row of answers, and not one a token. Defaults to `False`.

    Example:

        not_for_client(preprocessing, rows_an_example=True)   # "the tokenizer RobertaTokenizer; it has ..."
    """
    tokenizer = preprocessing.tokenizer
    kind = type(tokenizer).__name__
    pieces = word_pieces(tokenizer)
    found = [
        (len(preprocessing.text_names) > 1, "pairs of texts, where it takes one text"),
        (not rows_an_example, "an answer for each token, where it gives one for a text"),
        (not pieces, f"the tokenizer {kind}; of those for phones it has BERT's WordPiece alone"),
    ]
    if pieces:
        config = tokenizer.get_config()
        special = tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.pad_token_id
        found += [
            (sorted(preprocessing.inputs) != sorted(_INPUTS), _inputs_in_words(preprocessing)),
            (
                not config["lowercase"] and preprocessing.client is None,
                f"the tokenizer {kind} of a cased model; it writes all in lower case",
            ),
            (config.get("suffix_indicator", "##") != "##", "pieces that do not go on with ##"),
            (
                not {_UNKNOWN, _START, _END} <= {*pieces}
                or special != (pieces.index(_START), pieces.index(_END), 0),
                "special tokens other than [CLS], [SEP], [UNK] and a padding of id 0",
            ),
            (
                len(pieces) > MOST_PIECES,
                f"a vocabulary of {len(pieces):,} pieces, over the {MOST_PIECES:,} for a phone",
            ),
            (not all(map(_is_line, pieces)), "pieces that are empty or of several lines"),
        ]
    return next((reason for holds, reason in found if holds), "")


def read_as(
    client: str, preprocessing: TextPreprocessing, *, rows_an_example: bool = True, pairs: bool = False
) -> TextPreprocessing:
    """A preprocessing that makes the ids which a client library makes, for a run that is to be used with it.

    Args:
        client: `"mediapipe"`.
        preprocessing: Of the backbone.
        rows_an_example: As in `not_for_client`. Defaults to `True`.
        pairs: Whether examples are pairs of texts. Defaults to `False`.

    Raises:
        RecipeError: The library cannot make ids for this backbone.

    Example:

        read_as("mediapipe", preprocessing)(["Café"])   # as with `é`, which the library keeps
    """
    reason = not_for_client(preprocessing, rows_an_example=rows_an_example)
    if pairs:
        reason = "pairs of texts, where it takes one text"
    pieces = word_pieces(preprocessing.tokenizer)
    if not reason and any(regex.search(r"[\p{Cc}\p{Cf}]", piece) for piece in pieces):
        reason = "pieces with control characters"
    if reason:
        raise RecipeError(
            f"Expected examples and a backbone that {client} reads with --client (client), got {reason}. Leave it out, "
            "or choose another backbone."
        )
    config = preprocessing.tokenizer.get_config()
    kept = {"vocabulary": list(pieces), "lowercase": False, "strip_accents": False}
    tokenizer = type(preprocessing.tokenizer).from_config(config | kept)
    return dataclasses.replace(preprocessing, tokenizer=tokenizer, client=client)


def _inputs_in_words(preprocessing: TextPreprocessing) -> str:
    return (
        f"a model of the inputs {', '.join(preprocessing.inputs)}, where it gives {', '.join(_INPUTS)} and takes no "
        "fewer"
    )


def _is_line(piece: str) -> bool:
    return bool(piece) and not {*piece} & {"\n", "\r"}


class ClientTokenizer:
    """The ids of MediaPipe's BERT tokenizer.

    Args:
        pieces: The vocabulary by id.

    Example:
        >>> ClientTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fox", "##es"]).ids("FOXES!", 16)
        [2, 4, 5, 1, 3]
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self._ids = {piece: index for index, piece in enumerate(pieces)}

    def ids(self, text: str, length: int) -> list[int]:
        """The ids of a text, cut to `length` with the special ones, and not padded."""
        found = [id for word in _WORDS.findall(_ascii_lower(text)) for id in self._word(word)]
        return [self._ids[_START], *found[: length - 2], self._ids[_END]]

    def _word(self, word: str) -> list[int]:
        if len(word.encode("utf-8", "replace")) > _BYTES_PER_WORD:
            return [self._ids[_UNKNOWN]]
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = self._ids.get(("##" if start else "") + word[start:end])
                if piece is not None:
                    found.append(piece)
                    start = end
                    break
            else:
                return [self._ids[_UNKNOWN]]
        return found


def _ascii_lower(text: str) -> str:
    return text.encode("utf-8", "replace").lower().decode("utf-8")


def compare_texts(serving: Serving) -> dict[str, int]:
    """Count the texts of a serving, and those of which the client's tokenizer makes other ids.

    Args:
        serving: Of texts, with `word_pieces`.

    Returns:
        `compared_texts` and `differing_texts`.

    Raises:
        ExportError: More than one in twenty has other ids.

    Example:

        compare_texts(serving)   # {"compared_texts": 100, "differing_texts": 0}
    """
    examples: Any = serving.examples
    preprocessing: Any = serving.preprocessing
    tokenizer = ClientTokenizer(serving.word_pieces)
    differing = [
        text
        for text, ids in zip(examples.texts, examples.ids, strict=True)
        if tokenizer.ids(text, preprocessing.sequence_length) != ids.tolist()
    ]
    if len(differing) > MOST_DIFFERING * len(examples):
        raise ExportError(
            f"Expected {serving.client}'s tokenizer to make the run's ids of all but {MOST_DIFFERING:.0%} of "
            f"{len(examples)} texts, got other ids of {len(differing)}, such as {differing[0][:60]!r}: it folds the "
            "case of ASCII letters only and keeps accents. Train with --client, or leave it out."
        )
    return {"compared_texts": len(examples), "differing_texts": len(differing)}
