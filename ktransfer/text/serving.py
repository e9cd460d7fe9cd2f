"""A text classifier, made ready for export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ktransfer.data.pairs import Pair
from ktransfer.errors import ExportError, listed
from ktransfer.exporting.precision import in_float32
from ktransfer.exporting.serving import BATCH, SEQUENCE, Input, Serving, check_class_names
from ktransfer.text.client_tokenizer import not_for_client, word_pieces

if TYPE_CHECKING:
    import keras

    from ktransfer.core.typing import Array
    from ktransfer.text.preprocessing import TextPreprocessing


def serve_texts(
    model: keras.Model,
    class_names: Sequence[str],
    texts: Sequence[str],
    preprocessing: TextPreprocessing,
) -> Serving:
    """Return the `Serving` of a text classifier, after checking that its arguments are consistent.

    Args:
        model: From `build_text_classifier`.
        class_names: C names, one line each.
        texts: Real ones, at least one.
        preprocessing: `TextPreprocessing` that the model was trained with.

    Raises:
        ExportError: The model is of another kind, the class names, texts or preprocessing do not fit it, or
            it cannot be built again in float32.

    Example:
        >>> serving = serve_texts(model, ["ham", "spam"], ["Free entry!"], preprocessing)
        >>> serving.inputs[0].name, serving.inputs[0].axes
        ('token_ids', ('batch', 'sequence'))
    """
    kind = Pair if len(preprocessing.text_names) > 1 else str
    if isinstance(texts, str) or not len(texts) or not all(isinstance(text, kind) for text in texts):
        received = repr(texts)[:80]
        raise ExportError(
            f"Expected a list of at least one {'pair of texts' if kind is Pair else 'text'} to measure parity on, "
            f"got {received}. Give texts as people write them."
        )
    names, shapes = sorted(model.input) if isinstance(model.input, dict) else [], model.output_shape
    positions = preprocessing.positions(list(texts))
    rank = 2 if positions is None else 3
    if names != sorted(preprocessing.inputs) or not isinstance(shapes, tuple) or len(shapes) != rank:
        raise ExportError(
            f"Expected a model from {', '.join(preprocessing.inputs)}, which its preprocessing makes, to "
            f"logits (None, classes), got one from {listed(names) or model.input_shape} to {shapes}. Build "
            "it with `build_text_classifier`."
        )
    check_class_names(class_names, shapes[-1])
    length = preprocessing.sequence_length
    axes = (BATCH, length if preprocessing.fixed_length else SEQUENCE)
    attempts: tuple[dict[str, int], ...] = ({}, {SEQUENCE: length}, {BATCH: 1, SEQUENCE: length})
    return Serving(
        model=in_float32(model),
        class_names=list(class_names),
        inputs=tuple(Input(name, axes, "int32") for name in preprocessing.inputs),
        examples=Texts(texts, preprocessing),
        attempts=({}, {BATCH: 1}) if preprocessing.fixed_length else attempts,
        preprocessing=preprocessing,
        positions=positions,
        not_for_client=not_for_client(preprocessing, rows_an_example=rank == 2),
        word_pieces=word_pieces(preprocessing.tokenizer),
    )


def web_facts(serving: Serving, folder: Path) -> dict[str, Any]:
    """Facts by which a page in a browser tokenizes, with `tokenizer.json`, which is written to a folder.

    Raises:
        ExportError: The model takes pairs, or its tokenizer cannot be written so.

    Example:

        web_facts(serving, Path("web"))["tokenizer"]["sequence_length"]   # 64
    """
    from ktransfer.text.tokenizer_json import write_tokenizer

    preprocessing, examples = (
        cast("TextPreprocessing", serving.preprocessing),
        cast("Texts", serving.examples),
    )
    if len(preprocessing.text_names) > 1:
        raise ExportError("Expected one text an example for the page, got pairs of texts. Export onnx.")
    facts = write_tokenizer(preprocessing.as_tokenizer(), folder, texts=preprocessing.encoded(examples.texts))
    return {"tokenizer": facts}


def check_one_text(serving: Serving, format: str) -> list[str]:
    """The texts of a serving, of which each is one example with one answer.

    Raises:
        ExportError: They are pairs, or an answer is of each token.

    Example:

        check_one_text(serving, "onnx-strings")   # ["Free entry!"]
    """
    preprocessing = cast("TextPreprocessing", serving.preprocessing)
    if len(preprocessing.text_names) > 1 or serving.positions is not None:
        got = "pairs of texts" if len(preprocessing.text_names) > 1 else serving.task.title
        raise ExportError(
            f"Expected one text and one answer an example for {format}, got {got}. Export onnx."
        )
    return cast("Texts", serving.examples).texts


class Texts:
    """Real texts as `Examples`: their ids, a batch padded as in training."""

    def __init__(self, texts: Sequence[str], preprocessing: TextPreprocessing) -> None:
        self.texts = list(texts)
        self.ids = preprocessing.tokenize(self.texts)
        self._preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, indices: Array, *, longest: bool = False) -> dict[str, Array]:
        length = self._preprocessing.sequence_length if longest else None
        return self._preprocessing.pack([self.ids[index] for index in np.ravel(indices)], length)
