"""`tokenizer.json`: the same ids where there is no Keras, by `tokenizers` in Rust, Python and JavaScript."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_hub
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from ktransfer.errors import ExportError
from ktransfer.exporting.artifact import fingerprint
from ktransfer.text.byte_pair import byte_pair_tokenizer
from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.text.tokenizer_normalizers import (
    BREAK,
    CHARACTERS,
    byte_pair_normalizer,
    byte_pair_pattern,
    client_steps,
    sentence_piece_normalizer,
    unspelt,
    word_piece_normalizer,
)
from ktransfer.text.tokenizer_texts import NASTY_TEXTS
from ktransfer.utils.files import replacing

NAME = "tokenizer.json"
# Where an encoding of `tokenizers` has what a backbone's input takes.
_FIELDS = {"token_ids": "ids", "segment_ids": "type_ids", "padding_mask": "attention_mask"}
# keras-hub makes a word of more bytes than this the unknown token.
_BYTES_PER_WORD = 100
_SHOWN = 12  # ids of a list in an error


def write_tokenizer(
    preprocessing: TextPreprocessing,
    folder: str | os.PathLike[str],
    *,
    texts: Sequence[str] = (),
    pair: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `tokenizer.json`, prove that it gives the ids that `preprocessing` gives, and describe it.

    It takes a text of up to `characters` characters, adds the special tokens, cuts to the sequence length,
    and pads to it where the backbone wants one length; elsewhere a program pads a batch with `pad_token_id`
    as far as it likes. Halves of surrogate pairs, which UTF-8 does not have, are question marks to
    `preprocessing`.

    The file has only steps that `@huggingface/tokenizers` 0.2 and transformers.js 4.3 carry out alike; those
    neither cut nor pad. openvino_tokenizers 2026.4 reads it too, unless the tokenizer strips accents and
    folds case.

    Of SentencePiece's ways to cut a text into pieces two may be equally probable, such as a long row of dots
    into threes and twos. It adds probabilities in float32 and `tokenizers` in float64, so either may come
    out: such texts are counted, and there were 3 to 7 among 5,574 text messages, 0 among 14,484 commands.

    Args:
        preprocessing: What the model was trained with.
        folder: Is made where it does not exist; a file of an earlier export is replaced.
        texts: Real ones to compare on, in addition to `NASTY_TEXTS`.
        pair: Of a model of pairs the ids of the special tokens, as `PairPreprocessing.to_dict` has them: the file then
            packs two texts as well. Where both are too long it may cut one token off the other text than keras-hub
            does; programs that cut pairs do so by themselves. Defaults to `None`.

    Returns:
        JSON-able facts: `path`, in `folder`; `sha256` and `size_bytes`; `characters`, that a longer text has
        to be cut to before the file reads it; `sequence_length` in tokens; `fixed_length`; `start_token_id`,
        `end_token_id` and `pad_token_id`; `inputs`, from the name of each input of the backbone to the field
        of an encoding that it takes; `compared_texts`, how many, and `tied_texts`, for how many of them other
        ids of equal probability came out; and `pair` where it was given.

    Raises:
        ExportError: The library cannot do what the tokenizer does, or the ids of a text differ; a file of
            an earlier export stays as it was.

    Example:

        facts = write_tokenizer(preprocessing, "run/artifacts")
        encoding = tokenizers.Tokenizer.from_file("run/artifacts/tokenizer.json").encode("A fine film.")
        encoding.ids   # as preprocessing(["A fine film."])["token_ids"]
    """
    written = _converted(preprocessing.tokenizer)
    if preprocessing.client is not None:
        written.normalizer = normalizers.Sequence([*client_steps(), *written.normalizer])
    _add_packing(written, preprocessing, pair)
    texts = [*NASTY_TEXTS, *texts]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / NAME) as partial:
        written.save(str(partial), pretty=False)
        tied = prove_tokenizer(Tokenizer.from_file(str(partial)), preprocessing, texts)
        sha256, size_bytes = fingerprint(partial)
    settings = preprocessing.to_dict()
    names = ("sequence_length", "fixed_length", "start_token_id", "end_token_id", "pad_token_id")
    return {
        "path": NAME,
        "sha256": sha256,
        "size_bytes": size_bytes,
        "characters": CHARACTERS,
        **{name: settings[name] for name in names},
        "inputs": {name: _FIELDS[name] for name in preprocessing.inputs},
        "compared_texts": len(texts),
        "tied_texts": tied,
        **({} if pair is None else {"pair": dict(pair)}),
    }


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Read what `write_tokenizer` wrote.

    Raises:
        ExportError: It is no such file.

    Example:

        load_tokenizer("run/artifacts/tokenizer.json").encode("A fine film.").ids
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` has no kinds of its own
        raise ExportError(f"Expected a file of the library tokenizers, got {error}. Export again.") from error


def _converted(tokenizer: Any) -> Tokenizer:
    for kind, convert in _CONVERTERS.items():
        if isinstance(tokenizer, kind):
            return convert(tokenizer)
    raise ExportError(
        f"Expected {', '.join(kind.__name__ for kind in _CONVERTERS)} to write a tokenizer.json, got "
        f"{type(tokenizer).__name__}. Export the SavedModel, which takes texts."
    )


def _word_piece(tokenizer: Any) -> Tokenizer:
    # Words as GPT-2 writes bytes, as keras-hub counts a word's bytes and the library counts characters.
    as_bytes = normalizers.ByteLevel().normalize_str
    written = Tokenizer(
        models.WordPiece(
            {as_bytes(token): index for index, token in enumerate(tokenizer.get_vocabulary())},
            unk_token=as_bytes(tokenizer.oov_token),
            continuing_subword_prefix=as_bytes(tokenizer.suffix_indicator),
            max_input_chars_per_word=_BYTES_PER_WORD,
        )
    )
    written.normalizer = word_piece_normalizer(tokenizer)
    written.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(BREAK), "removed"),  # JavaScript would not remove a plain string
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    if tokenizer.special_tokens_in_strings:
        written.add_special_tokens(list(tokenizer.special_tokens))
    return written


def _byte_pair(tokenizer: Any) -> Tokenizer:
    written = byte_pair_tokenizer(tokenizer)
    written.normalizer = byte_pair_normalizer(tokenizer.add_prefix_space)
    written.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(byte_pair_pattern()), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return written


def _sentence_piece(tokenizer: Any) -> Tokenizer:
    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.proto)
    trainer = proto.trainer_spec
    if (
        trainer.model_type != trainer.UNIGRAM
        or trainer.byte_fallback
        or trainer.treat_whitespace_as_suffix
        or not proto.normalizer_spec.escape_whitespaces
    ):
        kind = trainer.ModelType.Name(trainer.model_type)
        raise ExportError(
            "Expected SentencePiece's unigram model, without byte fallback and with white space before "
            f"words to write a tokenizer.json, got {kind}, byte fallback {trainer.byte_fallback}, white "
            f"space behind words {trainer.treat_whitespace_as_suffix}. Export the SavedModel, which takes "
            "texts."
        )
    # XLM-RoBERTa's ids are fairseq's: one up, and the unknown token, SentencePiece's first, is 3.
    moved = isinstance(tokenizer, keras_hub.tokenizers.XLMRobertaTokenizer)
    unknown = tokenizer.unk_token_id if moved else None
    pieces = [(unspelt(-1 - index), 0.0) for index in range(tokenizer.vocabulary_size())]
    for index, piece in enumerate(proto.pieces):
        if piece.type == piece.UNKNOWN and not moved:
            unknown = index
        elif piece.type in (piece.NORMAL, piece.USER_DEFINED):
            name = piece.piece if piece.type == piece.NORMAL else unspelt(index)
            pieces[index + moved] = (name, piece.score if piece.type == piece.NORMAL else 0.0)
    written = Tokenizer(models.Unigram(pieces, unknown, False))
    written.normalizer = sentence_piece_normalizer(proto)
    return written


_CONVERTERS = {
    keras_hub.tokenizers.WordPieceTokenizer: _word_piece,
    keras_hub.tokenizers.BytePairTokenizer: _byte_pair,
    keras_hub.tokenizers.SentencePieceTokenizer: _sentence_piece,
}


def _add_packing(
    written: Tokenizer, preprocessing: TextPreprocessing, pair: Mapping[str, Any] | None = None
) -> None:
    tokenizer = preprocessing.tokenizer
    start, end, pad = tokenizer.start_token_id, tokenizer.end_token_id, tokenizer.pad_token_id
    # As the file calls them: JavaScript looks their ids up by name.
    names = {int(index): written.id_to_token(int(index)) for index in (start, end, pad)}
    special, of_pairs = {start, end}, {}
    if pair is not None:
        around = [pair["start"], pair["separator"], pair["end"]]
        special |= {index for ids in around for index in ids}
        names |= {int(index): written.id_to_token(int(index)) for index in special}
        before, between, after = ([names[int(index)] for index in ids] for ids in around)
        of_pairs["pair"] = [
            *(f"{name}:0" for name in before),
            "$A:0",
            *(f"{name}:0" for name in between),
            "$B:1",
            *(f"{name}:1" for name in after),
        ]
    written.post_processor = processors.TemplateProcessing(
        single=[names[start], "$A", names[end]],
        **of_pairs,
        special_tokens=[(names[index], int(index)) for index in sorted(special)],
    )
    written.enable_truncation(preprocessing.sequence_length)
    if preprocessing.fixed_length:
        written.enable_padding(length=preprocessing.sequence_length, pad_id=int(pad), pad_token=names[pad])


def prove_tokenizer(written: Tokenizer, preprocessing: TextPreprocessing, texts: Sequence[str]) -> int:
    """Raise `ExportError` unless `written` gives the ids of `preprocessing`; return how many texts tie."""
    wanted = preprocessing.tokenize(texts)
    length = preprocessing.sequence_length if preprocessing.fixed_length else 0
    pad = preprocessing.tokenizer.pad_token_id
    utf8 = [text[:CHARACTERS].encode("utf-8", "replace").decode("utf-8") for text in texts]
    encodings = written.encode_batch(utf8)
    expected = [[*ids.tolist(), *[pad] * (length - len(ids))] for ids in wanted]
    wrong = [index for index, ids in enumerate(expected) if ids != encodings[index].ids]
    written.no_truncation()
    written.no_padding()
    scores = piece_scores(preprocessing.tokenizer) if wrong else None
    for index in wrong:
        ids = written.encode(utf8[index], add_special_tokens=False).ids
        if not equally_probable(preprocessing, texts[index], ids, scores):
            raise ExportError(
                f"Expected {NAME} to give the ids of keras-hub's {type(preprocessing.tokenizer).__name__}, "
                f"{_shown(expected[index], encodings[index].ids)}, for the text {texts[index][:80]!r}, got "
                f"{_shown(encodings[index].ids, expected[index])} from tokenizers {tokenizers.__version__}. "
                "Export the SavedModel, which takes texts."
            )
    return len(wrong)


def piece_scores(tokenizer: keras_hub.tokenizers.Tokenizer) -> list[float] | None:
    """Logarithm of the probability of each id, for a SentencePiece tokenizer; None for another kind."""
    if not isinstance(tokenizer, keras_hub.tokenizers.SentencePieceTokenizer):
        return None
    model = json.loads(_converted(tokenizer).to_str())["model"]
    scores = [score for _, score in model["vocab"]]
    scores[model["unk_id"]] = min(scores) - 10  # as the library and SentencePiece do
    return scores


def equally_probable(
    preprocessing: TextPreprocessing, text: str, ids: Sequence[int], scores: Sequence[float] | None
) -> bool:
    """Whether SentencePiece could as well have cut a text into these ids as into those it did.

    Args:
        preprocessing: What cut the text.
        text: The text.
        ids: All of it, special tokens left out.
        scores: `piece_scores` of its tokenizer.

    Example:

        equally_probable(preprocessing, "......", ids, piece_scores(preprocessing.tokenizer))
    """
    if scores is None:
        return False
    unlimited = dataclasses.replace(preprocessing, sequence_length=CHARACTERS + 2, longest=None)
    [whole] = unlimited.tokenize([text])
    return _tie(whole[1:-1].tolist(), ids, scores)


def _tie(ids: Sequence[int], others: Sequence[int], scores: Sequence[float]) -> bool:
    """Whether two ways to cut are equally probable in float32, in which SentencePiece adds."""
    one, other = (math.fsum(scores[index] for index in way) for way in (ids, others))
    return abs(one - other) <= 2**-24 * max(len(ids), len(others)) * abs(one)


def _shown(ids: Sequence[int], others: Sequence[int]) -> str:
    """The ids from shortly before where two lists part."""
    parts = (at for at, (one, other) in enumerate(zip(ids, others, strict=False)) if one != other)
    first = max(0, next(parts, min(len(ids), len(others))) - 2)
    shown = ", ".join(map(str, ids[first : first + _SHOWN]))
    return f"[{'..., ' if first else ''}{shown}{', ...' if len(ids) > first + _SHOWN else ''}]"
