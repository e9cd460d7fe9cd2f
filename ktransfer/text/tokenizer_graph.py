"""A tokenizer as operators of ONNX and onnxruntime-extensions: from one text to a model's inputs."""

from __future__ import annotations

import functools
import json
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras_hub
import numpy as np

from ktransfer.errors import ExportError
from ktransfer.text.tokenizer_normalizers import (
    BREAK,
    CHARACTERS,
    class_of,
    kept_and_broken,
    word_piece_normalizer,
)
from ktransfer.text.tokenizer_texts import NASTY_TEXTS

if TYPE_CHECKING:
    from ktransfer.text.preprocessing import TextPreprocessing

EXTENSIONS = "onnxruntime-extensions"
MOST_DIFFERING = 0.01  # of the texts of a run
_DOMAIN, _OPSET, _IR = "ai.onnx.contrib", 17, 8
_UNKNOWN = "\ufffe"  # a noncharacter: no vocabulary spells it
_BYTES_PER_WORD = 100  # a longer one is unknown to keras-hub
# Characters of so many bytes of UTF-8 each, and how many of them in a row make a word too long.
_LONG = (("\u0080-\u07ff", 51), ("\u0800-\uffff", 34), ("\U00010000-\U0010ffff", 26))
_LACKING = -1  # an id, where a text has no more
_AT_ONCE = 500  # texts
_SHOWN = 60  # characters of a text in an error


class _Graph:
    """Nodes and constants in the order in which they are made; all named so that they can be found again."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: str | None = None) -> str:
        from onnx import numpy_helper

        name = f"tokenizer_c{len(self.constants)}"
        if isinstance(value, str):
            self.constants.append(numpy_helper.from_array(np.array([value.encode()], object), name))
        else:
            self.constants.append(numpy_helper.from_array(np.asarray(value, dtype or np.int64), name))
        return name

    def node(
        self, kind: str, inputs: Sequence[str], *, outputs: Any = 1, own: bool = False, **attributes: Any
    ) -> Any:
        """Add one; return the name of its output, or of its outputs."""
        from onnx import helper

        name = f"tokenizer_n{len(self.nodes)}"
        found = [f"{name}_{index}" for index in range(outputs)] if isinstance(outputs, int) else outputs
        domain = _DOMAIN if own else ""
        self.nodes.append(helper.make_node(kind, inputs, found, name=name, domain=domain, **attributes))
        return found[0] if len(found) == 1 else found

    def replaced(self, text: str, pattern: str, content: str) -> str:
        """`StringRegexReplace`, in RE2's syntax."""
        return self.node(
            "StringRegexReplace", [text, self.constant(pattern), self.constant(content)], own=True
        )

    def model(self, outputs: Sequence[tuple[str, int]]) -> bytes:
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self.nodes,
            "tokenizer",
            [helper.make_tensor_value_info("text", TensorProto.STRING, [1])],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
            self.constants,
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR).SerializeToString()


def tokenizer_graph(
    preprocessing: TextPreprocessing, length: int | None = None, *, fill: int | None = None
) -> bytes:
    """An ONNX model from one text, string `(1,)`, to the inputs of a text classifier, int32 `(1, tokens)`.

    Args:
        preprocessing: What the model was trained with.
        length: How many ids it takes, padded to as many. Defaults to `None`: as many as the text has.
        fill: The id to pad with. Defaults to `None`: the tokenizer's.

    Raises:
        ExportError: There are no operators for such texts or such a tokenizer.

    Example:

        tokenizer_graph(preprocessing, 64)   # bytes of a model
    """
    from onnx import TensorProto

    graph = _Graph()
    found = _cut(graph, preprocessing, _ids(graph, preprocessing))
    ones = graph.node(
        "ConstantOfShape", [graph.node("Shape", [found])], value=_tensor(np.array([1], np.int32))
    )
    made = {"token_ids": graph.node("Cast", [found], to=TensorProto.INT32), "padding_mask": ones}
    made["segment_ids"] = graph.node("Mul", [ones, graph.constant([0], "int32")])
    outputs = []
    for name in preprocessing.inputs:
        row = made[name]
        if length is not None:
            lacking = graph.node("Sub", [graph.constant([length]), graph.node("Shape", [row])])
            pads = graph.node("Concat", [graph.constant([0]), lacking], axis=0)
            pad = int(preprocessing.tokenizer.pad_token_id) if fill is None else fill
            value = graph.constant(pad if name == "token_ids" else 0, "int32")
            row = graph.node("Pad", [row, pads, value])
        graph.node("Unsqueeze", [row, graph.constant([0])], outputs=[name])
        outputs.append((name, TensorProto.INT32))
    return graph.model(outputs)


def _tensor(array: np.ndarray[Any, Any]) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(array)


def _ids(graph: _Graph, preprocessing: TextPreprocessing) -> str:
    """Ids of the whole text, int64 `(tokens,)`, without special tokens."""
    tokenizer = preprocessing.tokenizer
    if preprocessing.client is not None:
        raise ExportError(
            "Expected a run that reads texts as its backbone does for onnx-strings, got one of "
            f"{preprocessing.client}. Export onnx."
        )
    for kind, build in (
        (keras_hub.tokenizers.WordPieceTokenizer, _word_piece),
        (keras_hub.tokenizers.SentencePieceTokenizer, _sentence_piece),
        (keras_hub.tokenizers.BytePairTokenizer, _byte_pair),
    ):
        if isinstance(tokenizer, kind):
            return build(graph, tokenizer)
    raise ExportError(
        f"Expected WordPiece, SentencePiece or byte pairs for onnx-strings, got {type(tokenizer).__name__}. Export the "
        "SavedModel, which takes texts."
    )


def _cut(graph: _Graph, preprocessing: TextPreprocessing, ids: str) -> str:
    """The ids up to the sequence length, with the special tokens around them."""
    room = preprocessing.sequence_length - 2
    kept = graph.node("Slice", [ids, graph.constant([0]), graph.constant([room])])
    tokenizer = preprocessing.tokenizer
    first, last = (graph.constant([int(each)]) for each in (tokenizer.start_token_id, tokenizer.end_token_id))
    return graph.node("Concat", [first, kept, last], axis=0)


def _word_piece(graph: _Graph, tokenizer: Any) -> str:
    """Words as keras-hub cuts and folds them, written by replacements, then the pieces of `BertTokenizer`.

    That operator's own cutting and folding is left out, since it differs: it splits at other white space, folds the
    case of fewer letters, and answers the pieces before an unknown one.
    """
    vocabulary = tuple(tokenizer.get_vocabulary())
    kept, breaks, dropped = kept_and_broken(tokenizer)
    text = graph.replaced("text", class_of(breaks), " ")
    text = graph.replaced(text, f"({class_of(kept)})", r" \1 ")
    if dropped:
        text = graph.replaced(text, class_of(dropped), "")
    table = _table(vocabulary, tokenizer.lowercase, tokenizer.strip_accents, tokenizer.split_on_cjk)
    every = graph.constant("(?s)(.)")
    characters, *_ = graph.node("StringRegexSplitWithOffsets", [text, every, every], outputs=4, own=True)
    kept_characters = graph.node("Slice", [characters, graph.constant([0]), graph.constant([CHARACTERS])])
    lines = "\n".join(f"{one}\t{other}" for one, other in table)
    mapped = graph.node("StringMapping", [kept_characters], own=True, map=lines)
    text = graph.node("StringJoin", [mapped, graph.constant(""), graph.constant([0])], own=True)
    spelt = class_of({*"".join(vocabulary), " "}, negated=True)
    words = [f"[^ ]*{spelt}[^ ]*", f"[^ ]{{{_BYTES_PER_WORD + 1},}}"]
    words += [f"[^ ]*[{characters}]{{{count},}}[^ ]*" for characters, count in _LONG]
    for pattern in words:
        text = graph.replaced(text, pattern, _UNKNOWN)
    text = graph.replaced(graph.replaced(text, " +", " "), "^ | $", "")
    # A space before the text would be a word to it, and no text at all one as well.
    names = dict.fromkeys(("unk_token", "sep_token", "pad_token", "cls_token"), tokenizer.oov_token)
    ids, *_ = graph.node(
        "BertTokenizer",
        [text],
        outputs=3,
        own=True,
        vocab_file="\n".join(vocabulary),
        do_lower_case=0,
        do_basic_tokenize=0,
        strip_accents=0,
        tokenize_chinese_chars=0,
        suffix_indicator=tokenizer.suffix_indicator,
        mask_token=tokenizer.oov_token,
        **names,
    )
    # Without those that it puts around a text.
    return graph.node("Slice", [ids, graph.constant([1]), graph.constant([-1])])


@functools.lru_cache(maxsize=4)
def _table(
    vocabulary: tuple[str, ...], lowercase: bool, strip_accents: bool, split_on_cjk: bool
) -> tuple[tuple[str, str], ...]:
    """The characters that keras-hub writes otherwise, of those that a vocabulary can tell apart, and how."""
    tokenizer = keras_hub.tokenizers.WordPieceTokenizer(
        list(vocabulary), lowercase=lowercase, strip_accents=strip_accents, split_on_cjk=split_on_cjk
    )
    normalize = word_piece_normalizer(tokenizer).normalize_str
    _, breaks, dropped = kept_and_broken(tokenizer)
    spelt, found = {*"".join(vocabulary)}, {}
    for one in map(chr, (*range(1, 0xD800), *range(0xE000, 0x110000))):
        if one in breaks or one in dropped or one == " ":
            continue
        if one.isspace():
            found[one] = _UNKNOWN  # within a word to keras-hub
            continue
        if unicodedata.normalize("NFKC", one).casefold() == one == unicodedata.normalize("NFKD", one):
            continue
        other = normalize(one).strip(BREAK)
        if other != one and (one in spelt or {*other} <= spelt | {" "}):
            found[one] = _UNKNOWN if " " in other else other or _UNKNOWN
    return tuple(found.items())


def _sentence_piece(graph: _Graph, tokenizer: Any) -> str:
    proto = tokenizer.proto
    options = [graph.constant([0]), graph.constant([0.0], "float32"), *(graph.constant([False], "bool"),) * 3]
    ids, _ = graph.node("SentencepieceTokenizer", ["text", *options], outputs=2, own=True, model=proto)
    from onnx import TensorProto

    ids = graph.node("Cast", [ids], to=TensorProto.INT64)
    if isinstance(tokenizer, keras_hub.tokenizers.XLMRobertaTokenizer):
        # Its ids are fairseq's: one up, and the unknown token, SentencePiece's first, is 3.
        unknown = graph.node("Equal", [ids, graph.constant([0])])
        moved = graph.node("Add", [ids, graph.constant([1])])
        ids = graph.node("Where", [unknown, graph.constant([int(tokenizer.unk_token_id)]), moved])
    return ids


def _byte_pair(graph: _Graph, tokenizer: Any) -> str:
    vocabulary = {token: int(tokenizer.token_to_id(token)) for token in tokenizer.get_vocabulary()}
    ids, _ = graph.node(
        "GPT2Tokenizer",
        ["text"],
        outputs=2,
        own=True,
        vocab=json.dumps(vocabulary, ensure_ascii=False),
        merges="\n".join(["#version: 0.2", *tokenizer.merges]),
        padding_length=-1,
    )
    return graph.node("Reshape", [ids, graph.constant([-1])])


def ids_in_graph(preprocessing: TextPreprocessing, texts: Iterable[str]) -> list[list[int]]:
    """Ids of texts by the operators of a graph, special tokens around them, cut at the sequence length.

    Example:

        ids_in_graph(preprocessing, ["A fine film."])   # as preprocessing.tokenize, in lists
    """
    from ktransfer.exporting.processes.runtime_process import RuntimeProcess

    given = [text.encode("utf-8", "replace") for text in texts]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokenizer.onnx")
        path.write_bytes(tokenizer_graph(preprocessing, preprocessing.sequence_length, fill=_LACKING))
        # In a subprocess: TensorFlow's SentencePiece and that of the operators end a process that has both.
        with RuntimeProcess("onnx-strings", path) as tokenize:
            for start in range(0, len(given), _AT_ONCE):
                found += list(tokenize({"text": np.array(given[start : start + _AT_ONCE], object)}))
    return [row[row != _LACKING].tolist() for row in found]


def compare_in_graph(preprocessing: TextPreprocessing, texts: Sequence[str]) -> dict[str, Any]:
    """Count the texts of which the operators of a graph make other ids than the run.

    Args:
        preprocessing: What the model was trained with.
        texts: All of the run.

    Returns:
        `compared_texts`, `differing_texts`; of difficult texts `difficult_texts`, `differing_difficult_texts`, and
        `differing_kinds`, what is in those.

    Raises:
        ExportError: More than one in a hundred of the run's texts has other ids.

    Example:

        compare_in_graph(preprocessing, texts)["differing_texts"]   # 0
    """
    differing = _differing(preprocessing, texts)
    if len(differing) > MOST_DIFFERING * len(texts):
        raise ExportError(
            f"Expected the operators of {EXTENSIONS} to make the run's ids of all but {MOST_DIFFERING:.0%} of "
            f"{len(texts)} texts, got other ids of {len(differing)}, such as {differing[0][:_SHOWN]!r} "
            f"({', '.join(_kinds(preprocessing, differing))}). Export onnx with tokenizer.json."
        )
    difficult = _differing(preprocessing, NASTY_TEXTS)
    return {
        "compared_texts": len(texts),
        "differing_texts": len(differing),
        "difficult_texts": len(NASTY_TEXTS),
        "differing_difficult_texts": len(difficult),
        "differing_kinds": _kinds(preprocessing, [*differing, *difficult]),
    }


def _differing(preprocessing: TextPreprocessing, texts: Sequence[str]) -> list[str]:
    expected = preprocessing.tokenize(list(texts))
    found = ids_in_graph(preprocessing, texts)
    return [text for text, one, ids in zip(texts, expected, found, strict=True) if one.tolist() != ids]


def _kinds(preprocessing: TextPreprocessing, texts: Iterable[str]) -> list[str]:
    """Names of the contents of texts that operators of a graph are known to read otherwise."""
    special = [str(each) for each in getattr(preprocessing.tokenizer, "special_tokens", ())]
    kinds: dict[str, Callable[[str], bool]] = {
        "NUL characters": lambda text: "\0" in text,
        "special tokens spelt out": lambda text: any(token in text for token in special),
        "letters and marks that compose": lambda text: (
            len(unicodedata.normalize("NFC", unicodedata.normalize("NFKD", text)))
            != len(unicodedata.normalize("NFKD", text))
        ),
        f"words over {_BYTES_PER_WORD} bytes": lambda text: any(
            len(word.encode("utf-8", "replace")) > _BYTES_PER_WORD for word in text.split()
        ),
    }
    found = [next((name for name, holds in kinds.items() if holds(text)), "others") for text in texts]
    return sorted(set(found), key=[*kinds, "others"].index)
