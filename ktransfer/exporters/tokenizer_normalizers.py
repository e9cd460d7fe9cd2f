"""What keras-hub's tokenizers do to a text before they look words up, in normalizers of `tokenizers`."""

import functools
import itertools
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

import regex
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, normalizers

CHARACTERS = 100_000  # of a text are looked at
# Noncharacters of Unicode; the first step takes them out of a text, so that they mean this alone.
BREAK = "\ufdd0"  # between two words
_HOLD = "\ufdd1"  # where characters must not be taken together
_NAME = "\ufdd2"  # around the number of a piece that no text may spell
_OTHER = "\ufffe"  # in their place in a text: unknown to every vocabulary, as they were

# Where `_HOLD` goes: `Precompiled` looks at a letter with its marks as one, and would lose the marks.
_APART = r"(?<=\r)(?=\n)|(?<=.)(?=[^\x00-\x7f\p{L}])"


def word_piece_normalizer(tokenizer) -> normalizers.Normalizer:
    """Normalizer that leaves words as keras-hub's WordPiece cuts and folds them, `BREAK` between two.

    It cuts before it folds, so that an ellipsis is one word, "...", and cuts at format characters as well;
    `BertNormalizer` and `BertPreTokenizer` do neither, and lower case where keras-hub folds. What is left are
    several marks on one letter of which one is newer than the Unicode of `tokenizers`, in another order.

    Args:
        tokenizer: `keras_hub.tokenizers.WordPieceTokenizer`; its `lowercase`, `strip_accents` and
            `split_on_cjk` are heeded.

    Example:

        >>> tokenizer = keras_hub.tokenizers.WordPieceTokenizer(["[UNK]"], lowercase=True)
        >>> word_piece_normalizer(tokenizer).normalize_str("Straße…").split(BREAK)
        ['strasse', '...', '']
    """
    kept = _matching(r"[!-/:-@\[-`{-~\p{P}]")
    if tokenizer.split_on_cjk:
        kept += itertools.chain.from_iterable(map(chr, block) for block in _CJK)
    kept = _class(kept)
    steps = _first_steps()
    if tokenizer.strip_accents:
        steps += [normalizers.NFD(), _replace(_class(_marks()), "")]
    steps += [
        _replace(_class(_matching(r"[ \t\n\r\f\p{Cc}\p{Cf}]")), BREAK),
        # Not at the very start: tokenizers 0.23 would panic in the next step.
        _replace(f"(?<={kept})|(?<=.)(?={kept})", BREAK),
    ]
    if tokenizer.lowercase:
        steps += [
            normalizers.NFKC(),
            _replace(_APART, _HOLD),
            normalizers.Precompiled(_case_folding()),
            _replace(_HOLD, ""),
            normalizers.NFKC(),
            _replace(_class(_matching(r"\p{Default_Ignorable_Code_Point}")), ""),
        ]
    return normalizers.Sequence(steps)


def sentence_piece_normalizer(proto: sentencepiece_model_pb2.ModelProto) -> normalizers.Normalizer:
    """Normalizer that writes a text as SentencePiece does before it looks for pieces.

    A piece that the user defined is written as `unspelt` names it, which nothing afterwards changes.

    Example:

        >>> sentence_piece_normalizer(proto).normalize_str("  the   Fox ")
        '▁the▁Fox'
    """
    spec = proto.normalizer_spec
    steps = _first_steps()
    defined = {
        piece.piece: unspelt(index)
        for index, piece in enumerate(proto.pieces)
        if piece.type == piece.USER_DEFINED
    }
    steps += [normalizers.Replace(piece, defined[piece]) for piece in sorted(defined, key=len, reverse=True)]
    if spec.precompiled_charsmap:
        steps += _charsmap(spec)
    if spec.remove_extra_whitespaces:
        steps += [_replace(r"\A +| +\z", ""), _replace(" {2,}", " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend("▁"))
    steps.append(normalizers.Replace(" ", "▁"))
    if spec.remove_extra_whitespaces:
        steps.append(_replace(r"▁+\z", ""))
    return normalizers.Sequence(steps)


def byte_pair_normalizer() -> normalizers.Normalizer:
    """Normalizer that changes nothing but what `TextPreprocessing` changes in every text."""
    return normalizers.Sequence(_first_steps()[:2])


def unspelt(index: int) -> str:
    """A name for a piece that no text has in it once `sentence_piece_normalizer` has seen it."""
    return f"{_NAME}{index}{_NAME}"


# unicodedata and keras-hub's own patterns are asked, not `tokenizers`: each has Unicode of another year.
_CJK = (
    *(range(0x4E00, 0xA000), range(0x3400, 0x4DC0), range(0x20000, 0x2A6E0), range(0x2A700, 0x2B740)),
    *(range(0x2B740, 0x2B820), range(0x2B820, 0x2CEB0), range(0xF900, 0xFB00), range(0x2F800, 0x2FA20)),
)


@functools.cache
def _characters():
    """All there are, without halves of surrogate pairs."""
    return "".join(map(chr, itertools.chain(range(0xD800), range(0xE000, 0x110000))))


def _matching(pattern):
    return regex.findall(pattern, _characters())


def _marks():
    return [one for one in _characters() if unicodedata.category(one) == "Mn"]


def _compatible():
    return [one for one in _characters() if unicodedata.normalize("NFKC", one) != one]


def _class(characters: Iterable[str]) -> str:
    """A class of a regular expression that has just these characters."""
    points = sorted({ord(character) for character in characters})
    runs = [[*run] for _, run in itertools.groupby(enumerate(points), lambda pair: pair[1] - pair[0])]
    return "[" + "".join(rf"\x{{{run[0][1]:x}}}-\x{{{run[-1][1]:x}}}" for run in runs) + "]"


def _first_steps():
    # As TextPreprocessing does: no more of a text is looked at, and NUL is a space.
    cut = _replace(rf"\A[\x{{0}}-\x{{10ffff}}]{{{CHARACTERS}}}\K[\x{{0}}-\x{{10ffff}}]+", "")
    return [cut, _replace(r"\x00", " "), _replace("[\ufdd0-\ufdef]", _OTHER)]


def _replace(pattern, content):
    return normalizers.Replace(Regex(pattern), content)


@functools.cache
def _case_folding() -> bytes:
    """A map, as SentencePiece writes it, of what Python folds each character to that NFKC leaves."""
    sentencepiece.set_min_log_level(1)  # it tells of each map that it makes
    folded = [(one, unicodedata.normalize("NFKC", one).casefold()) for one in _characters()]
    nfkc = normalizers.NFKC()
    changes = [(one, two) for one, two in folded if one != two and nfkc.normalize_str(one) == one]
    spec = sentencepiece_model_pb2.NormalizerSpec.FromString(
        sentencepiece.SentencePieceNormalizer(norm_map=changes).serialized_normalizer_spec()
    )
    return spec.precompiled_charsmap


def _charsmap(spec):
    """Steps that replace as SentencePiece does: at each place what the longest rule that fits says.

    `Precompiled` applies rules to single characters alone, and now and then a wrong one to a letter with
    marks. Rules for several characters all say to compose: NFKC does it where `_HOLD` keeps nothing apart.
    What is left are letters newer than the Unicode of `tokenizers` with marks of their own.
    """
    rules = dict(sentencepiece.SentencePieceNormalizer(normalizer_spec=spec).Decompile())
    longer = [source for source in rules if len(source) > 1]
    apart, precompiled = _APART, normalizers.Precompiled(spec.precompiled_charsmap)
    if not longer:
        return [_replace(apart, _HOLD), precompiled, _replace(_HOLD, "")]
    joined = _class(itertools.chain.from_iterable(source[1:] for source in longer))
    marks = _class(source[0] for source in longer if unicodedata.category(source[0])[0] == "M")
    apart = rf"(?=.{joined}){_longest(longer)}\K|{apart}|(?<=.)(?={joined})"
    nfkc = normalizers.NFKC()
    steps = [
        _replace(f"(?<=.)(?={marks})", _HOLD),
        _replace(apart, _HOLD),
        nfkc,
        precompiled,
        _replace(_HOLD, ""),
    ]
    # What NFKC changes and the rules leave, such as a wide tilde, goes by another name meanwhile.
    for index, one in enumerate(one for one in _compatible() if one not in rules):
        if precompiled.normalize_str(nfkc.normalize_str(one)) != one:
            name = f"{_NAME}x{index}{_NAME}"
            steps = [normalizers.Replace(one, name), *steps, normalizers.Replace(name, one)]
    return steps


def _longest(strings: Iterable[str]) -> str:
    """A pattern for the longest of `strings` that fits: their tree, with equal branches drawn together."""
    branches = defaultdict(set)
    for string in strings:
        branches[string[0]].add(string[1:])
    alike = defaultdict(list)
    for first, rests in branches.items():
        alike[frozenset(rests)].append(first)
    patterns = []
    for rests, firsts in alike.items():
        rest = _longest(rests - {""}) if rests != {""} else ""
        patterns.append(_class(firsts) + rest + ("?" if rest and "" in rests else ""))
    return f"(?:{'|'.join(patterns)})"
