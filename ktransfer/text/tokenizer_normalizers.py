"""Text normalization of keras-hub's tokenizers, as normalizers of `tokenizers`.

Only steps that every reader of `tokenizer.json` has and carries out alike are used: replacements, NFD, NFKC
and lower case. `Precompiled` is not among them (JavaScript ignores its map). Patterns are in the syntax that
Oniguruma, ECMAScript and PCRE share: classes of the characters themselves, no `\\A`, `\\K` or `\\x{...}`.
"""

import functools
import itertools
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from string import ascii_uppercase
from typing import Any, Literal

import regex
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, normalizers

from ktransfer.errors import ExportError
from ktransfer.text.preprocessing import UNKNOWN, control_characters

CHARACTERS = 100_000  # of a text are looked at
# Noncharacters of Unicode; the first step takes them out of a text, so that they mean this alone.
BREAK = "\ufdd0"  # between two words
_HOLD = "\ufdd1"  # where characters must not be taken together
_NAME, _NAMED = "\ufdd2", "\ufdd3"  # around the number of a piece that no text may spell
_OTHER = "\ufffe"  # in their place in a text: unknown to every vocabulary, as they were

_BREAKS, _IGNORED = r"[ \t\n\r\f\p{Cc}\p{Cf}]", r"\p{Default_Ignorable_Code_Point}"
START, END = r"(?<![\s\S])", r"(?![\s\S])"  # of a text: `\A` and `\z` in every syntax
_BETWEEN = r"(?<=[\s\S])"  # not at the very start: tokenizers 0.23 would panic in the next step


def word_piece_normalizer(tokenizer: Any) -> normalizers.Normalizer:
    """Normalizer that leaves words as keras-hub's WordPiece cuts and folds them, `BREAK` between two.

    It cuts before it folds, so that an ellipsis is one word, "...", and cuts at format characters as well;
    `BertNormalizer` and `BertPreTokenizer` do neither, and lower case where keras-hub folds. What is left are
    several marks on one letter of which one is newer than the Unicode of `tokenizers`, in another order.

    Args:
        tokenizer: `keras_hub.tokenizers.WordPieceTokenizer`; its `lowercase`, `strip_accents` and
            `split_on_cjk` are applied.

    Example:

        >>> import keras_hub
        >>> tokenizer = keras_hub.tokenizers.WordPieceTokenizer(["[UNK]", "strasse"], lowercase=True)
        >>> word_piece_normalizer(tokenizer).normalize_str("Straße…").split(BREAK)
        ['strasse', '...', '']
    """
    kept, breaks = _kept(tokenizer), _matching(_BREAKS)
    marks, ignored = _marks(), _matching(_IGNORED)
    spelt = {*"".join(tokenizer.get_vocabulary())}
    steps, named = _first_steps(), {}
    if tokenizer.lowercase or tokenizer.strip_accents:
        known = {*kept, *breaks, *marks, *ignored}
        steps.append(replaced(class_of(_unassigned() - known - spelt), _OTHER))
        # Those in the vocabulary a newer reader would decompose: they take a name meanwhile.
        named = {one: unspelt(index) for index, one in enumerate(sorted(spelt & _unassigned() - known))}
        steps += _each(named)
    if tokenizer.strip_accents:
        steps += [*_each(_newer("NFD")), normalizers.NFD(), replaced(class_of(marks), "")]
    kept_class = class_of(kept)
    steps += [
        replaced(class_of({*breaks} - {"\0"}), BREAK),
        replaced(f"(?<={kept_class})|{_BETWEEN}(?={kept_class})", BREAK),
    ]
    if tokenizer.lowercase:
        steps += [
            *_each(_of_use(_newer("NFKC"), spelt)),
            normalizers.NFKC(),
            *_each(_of_use(_newer_capitals(), spelt)),
            normalizers.Lowercase(),
            *_each(_of_use(_case_folding(), spelt)),
            normalizers.NFKC(),
            replaced(class_of(ignored), ""),
        ]
    steps += _each({name: one for one, name in named.items()})
    return normalizers.Sequence(steps)


def kept_and_broken(tokenizer: Any) -> tuple[set[str], set[str], set[str]]:
    """Characters that are words by themselves to keras-hub's WordPiece, that end words, and that it leaves out.

    Example:

        >>> import keras_hub
        >>> kept, breaks, dropped = kept_and_broken(keras_hub.tokenizers.WordPieceTokenizer(["[UNK]"]))
        >>> "," in kept, "\\n" in breaks, dropped
        (True, True, set())
    """
    breaks = {*_matching(_BREAKS)}
    dropped = {*(_marks() if tokenizer.strip_accents else ())}
    dropped |= {*(_matching(_IGNORED) if tokenizer.lowercase else ())}
    return {*_kept(tokenizer)}, breaks - {"\0"}, dropped - breaks


def _kept(tokenizer: Any) -> list[str]:
    found = _matching(r"[!-/:-@\[-`{-~\p{P}]")
    if tokenizer.split_on_cjk:
        found += itertools.chain.from_iterable(map(chr, block) for block in _CJK)
    return found


def sentence_piece_normalizer(proto: sentencepiece_model_pb2.ModelProto) -> normalizers.Normalizer:
    """Normalizer that writes a text as SentencePiece does before it looks for pieces.

    A piece that the user defined is written as `unspelt` names it, which nothing afterwards changes.

    Raises:
        ExportError: The model has rules of its own for several characters that are no composition.

    Example:

        >>> sentence_piece_normalizer(proto).normalize_str("  the   Fox ")  # doctest: +SKIP
        '▁the▁Fox'
    """
    spec = proto.normalizer_spec
    steps = _first_steps()
    defined = {
        piece.piece: unspelt(index)
        for index, piece in enumerate(proto.pieces)
        if piece.type == piece.USER_DEFINED
    }
    steps += [
        # Not as a plain string: OpenVINO would take its brackets for a class of characters.
        replaced(regex.sub(r"[\^$.*+?()[\]{}|/\\]", r"\\\g<0>", piece), defined[piece])
        for piece in sorted(defined, key=len, reverse=True)
    ]
    if spec.precompiled_charsmap:
        steps += _charsmap(spec.SerializeToString())
    if spec.remove_extra_whitespaces:
        steps += [replaced(f"{START} +| +{END}", ""), replaced(" {2,}", " ")]
    if spec.add_dummy_prefix:
        # JavaScript writes it before an empty text too.
        steps += [normalizers.Prepend("▁"), replaced(f"{START}▁{END}", "")]
    steps.append(normalizers.Replace(" ", "▁"))
    if spec.remove_extra_whitespaces:
        steps.append(replaced(f"▁+{END}", ""))
    return normalizers.Sequence(steps)


def byte_pair_normalizer(add_prefix_space: bool = False) -> normalizers.Normalizer:
    """Normalizer that changes nothing but what `TextPreprocessing` changes in every text.

    Args:
        add_prefix_space: Whether a text that begins without a space is given one. Defaults to False.
    """
    steps = _first_steps()[:2]
    if add_prefix_space:
        steps += [normalizers.Prepend(" "), replaced(f"{START}  ", " ")]
    return normalizers.Sequence(steps)


@functools.cache
def byte_pair_pattern() -> str:
    """GPT-2's pattern of words, with the letters, numbers and white space that `tokenizers` finds.

    `ByteLevel` takes each reader's own: a byte order mark is white space to JavaScript, a next line (U+0085)
    is not, and letters are those of the reader's year.
    """
    letters, numbers, spaces = (_class_in_oniguruma(name) for name in (r"\p{L}", r"\p{N}", r"\s"))
    others = class_of([*letters, *numbers, *spaces], negated=True)
    letters, numbers, spaces = map(class_of, (letters, numbers, spaces))
    return (
        f"'s|'t|'re|'ve|'m|'ll|'d| ?{letters}+| ?{numbers}+| ?{others}+|{spaces}+(?={spaces}|{END})|{spaces}+"
    )


def client_steps() -> list[Any]:
    """Steps before all others where a client library's ids are made: see `TextPreprocessing.client`."""
    capitals = ((letter, letter.lower()) for letter in ascii_uppercase)
    return [*_each(dict(capitals)), replaced(class_of(control_characters()), UNKNOWN)]


def unspelt(index: int) -> str:
    """A name for a piece that no text has in it once `sentence_piece_normalizer` has seen it."""
    return f"{_NAME}{index}{_NAMED}"


def class_of(characters: Iterable[str], *, negated: bool = False) -> str:
    """A class of a regular expression that has just these characters, written as they are.

    Example:

        >>> class_of("abcx]")
        '[\\\\]a-cx]'
    """
    points = sorted({ord(character) for character in characters})
    runs = [[*run] for _, run in itertools.groupby(enumerate(points), lambda pair: pair[1] - pair[0])]
    ranges = ((_escaped(run[0][1]), _escaped(run[-1][1]), len(run)) for run in runs)
    spelt = (first if size == 1 else first + "-" * (size > 2) + last for first, last, size in ranges)
    return f"[{'^' * negated}{''.join(spelt)}]"


def replaced(pattern: str, content: str) -> normalizers.Replace:
    """Step that writes `content`, without a `$`, wherever a regular expression matches."""
    return normalizers.Replace(Regex(pattern), content)


# unicodedata and keras-hub's own patterns are asked, not `tokenizers`: each has Unicode of another year.
_CJK = (
    *(range(0x4E00, 0xA000), range(0x3400, 0x4DC0), range(0x20000, 0x2A6E0), range(0x2A700, 0x2B740)),
    *(range(0x2B740, 0x2B820), range(0x2B820, 0x2CEB0), range(0xF900, 0xFB00), range(0x2F800, 0x2FA20)),
)


@functools.cache
def _characters() -> str:
    """All there are, but for halves of surrogate pairs and what stands between words."""
    points = itertools.chain(range(0xD800), range(0xE000, 0x110000))
    return "".join(map(chr, points)).replace(BREAK, "")


def _matching(pattern: str) -> list[str]:
    return regex.findall(pattern, _characters())


@functools.cache
def _marks() -> list[str]:
    return [one for one in _characters() if unicodedata.category(one) == "Mn"]


@functools.cache
def _unassigned() -> set[str]:
    """Characters that Python's Unicode version lacks and leaves as they are."""
    return {one for one in _characters() if unicodedata.category(one) == "Cn"}


@functools.cache
def _class_in_oniguruma(name: str) -> str:
    return replaced(f"[^{name}]", "").normalize_str(_characters())


def _escaped(point: int) -> str:
    return ("\\" if chr(point) in r"\]^-[" else "") + chr(point)


def _first_steps() -> list[Any]:
    # As TextPreprocessing does: NUL is a space, and half a surrogate pair, which only JavaScript has in a
    # text, is a question mark.
    return [
        normalizers.Replace("\0", " "),
        replaced(r"\p{Cs}", "?"),
        replaced("[\ufdd0-\ufdef]", _OTHER),
    ]


@functools.cache
def _changed(name: str) -> dict[str, str]:
    """The result of a normalizer of `tokenizers` for each character that it changes."""
    made = getattr(normalizers, name)().normalize_str(BREAK.join(_characters()))
    pairs = zip(_characters(), made.split(BREAK), strict=False)
    return {one: other for one, other in pairs if one != other}


@functools.cache
def _changed_by_python(form: Literal["NFD", "NFKC", "NFKD"]) -> dict[str, str]:
    normalized = ((one, unicodedata.normalize(form, one)) for one in _characters())
    return {one: other for one, other in normalized if one != other}


def _newer(form: Literal["NFD", "NFKC", "NFKD"]) -> dict[str, str]:
    """The result of `form` for characters newer than the Unicode version of `tokenizers`."""
    theirs = _changed(form)
    return {one: other for one, other in _changed_by_python(form).items() if other != theirs.get(one, one)}


def _of_use(changes: Mapping[str, str], spelt: AbstractSet[str]) -> dict[str, str]:
    """The `changes` of characters that matter for a vocabulary of `spelt` characters.

    A word is unknown as soon as one character is; the last one may yet be composed with what follows.
    """
    bases = {text[0] for text in _changed_by_python("NFD").values()}
    return {
        one: other
        for one, other in changes.items()
        if one in spelt or ({*other[:-1]} <= spelt and (other[-1] in spelt or other[-1] in bases))
    }


def _each(changes: Mapping[str, str]) -> list[Any]:
    return [normalizers.Replace(one, other) for one, other in changes.items()]


@functools.cache
def _case_folding() -> dict[str, str]:
    """Python's case folding of characters that NFKC and lower case leave unchanged.

    A final sigma is among them, which JavaScript makes of a sigma at the end of a word.
    """
    return {one: one.casefold() for one in _characters() if one.lower() == one != one.casefold()}


@functools.cache
def _newer_capitals() -> dict[str, str]:
    """Lower case of letters newer than Unicode 3.2: a reader on an old phone may not know theirs."""
    old = unicodedata.ucd_3_2_0
    return {
        one: one.lower()
        for one in _characters()
        if old.category(one) == "Cn" and one.lower() != one and len(one.lower()) == 1
    }


@functools.lru_cache(maxsize=8)
def _charsmap(spec: bytes) -> list[normalizers.Normalizer]:
    """Steps that replace as SentencePiece does: at each place by the longest rule that fits.

    Rules for several characters all say to compose: NFKC does it, where `_HOLD` keeps nothing apart. Of those
    for one character most say what NFKC and lower case do; the others take a name, which neither changes, and
    are written out at the end. What is left are letters newer than the Unicode of `tokenizers` with marks.
    """
    sentencepiece.set_min_log_level(1)  # it logs each map that it reads
    spec = sentencepiece_model_pb2.NormalizerSpec.FromString(spec)
    rules = dict(sentencepiece.SentencePieceNormalizer(normalizer_spec=spec).Decompile())
    folds = rules.get("A") == "a"
    python, theirs = _changed_by_python("NFKC"), _changed("NFKC")
    lower = _changed("Lowercase") if folds else {}
    changed = {source for source in rules if len(source) == 1} | {*python, *theirs, *lower}
    if folds:
        changed |= {one for one in _characters() if one.lower() != one}
    ordered = sorted(changed)
    kept: dict[str, str] = {}  # what NFKC leaves, and lower case alone would make something else of
    for one in ordered if folds else ():
        wanted = rules.get(one, one)
        stable = one not in python and one not in theirs and wanted not in ("", " ")
        if stable and (one.lower() != wanted or lower.get(one, one) != wanted):
            kept[one] = wanted

    def folded(text: str) -> str:
        return "".join(kept.get(one) or (one.lower() if folds else one) for one in text)

    def usual(text: str) -> set[str]:
        """The result of NFKC and lower case, by Python's Unicode and by that of `tokenizers`."""
        if len(text) > 1:
            return {folded(unicodedata.normalize("NFKC", text)), folded(nfkc(text))}
        return {folded(python.get(text, text)), folded(theirs.get(text, text))}

    nfkc = normalizers.NFKC().normalize_str
    blanks = {wanted: [one for one in ordered if rules.get(one) == wanted] for wanted in ("", " ")}
    blank = {*blanks[""], *blanks[" "]}
    named = {
        one: rules.get(one, one)
        for one in ordered
        if one not in blank
        and one not in kept
        and (usual(one) != {rules.get(one, one)} or (folds and one in _newer_capitals()))
    }
    joined = {source for source, wanted in rules.items() if len(source) > 1 and usual(source) == {wanted}}
    _check_rules(rules, joined)
    following = {one for source in joined for one in source[1:]}
    apart = following | {one for one in _characters() if unicodedata.combining(one)}
    decomposed = _changed_by_python("NFKD").items()
    apart |= {one for one, other in decomposed if other[0] in following or unicodedata.combining(other[0])}
    names = {**named, **kept}
    names = {one: f"{_NAME}x{index}{_NAMED}" for index, one in enumerate(names)}
    steps: list[normalizers.Normalizer] = [normalizers.Replace(one, names[one]) for one in named]
    if blanks[" "]:
        steps.append(replaced(class_of(blanks[" "]), " "))
    if blanks[""]:
        steps.append(replaced(class_of(blanks[""]), _HOLD))
    steps.append(replaced(f"{_BETWEEN}(?={class_of(apart)})", _HOLD))
    steps += [_rejoined(joined, length) for length in sorted({len(source) for source in joined})]
    steps.append(normalizers.NFKC())
    steps += [normalizers.Replace(one, names[one]) for one in kept]
    if folds:
        # JavaScript has another small sigma for the end of a word.
        steps += [normalizers.Replace("Σ", "σ"), normalizers.Lowercase()]
    steps.append(normalizers.Replace(_HOLD, ""))
    steps += [normalizers.Replace(names[one], wanted) for one, wanted in {**named, **kept}.items()]
    return steps


def _check_rules(rules: Mapping[str, str], joined: Collection[str]) -> None:
    others = [source for source in rules if len(source) > 1 and source not in joined]
    others = [source for source in others if not {*source} & _unassigned() and not _is_newer(source)]
    if others:
        raise ExportError(
            "Expected a SentencePiece model whose rules for several characters compose them, got "
            f"{len(others)} others, such as {others[0]!r} to {rules[others[0]]!r}. Export the SavedModel, "
            "which takes texts."
        )


def _is_newer(text: str) -> bool:
    """Whether it has characters of Python's Unicode version that `tokenizers` lacks."""
    return unicodedata.normalize("NFKC", text) != normalizers.NFKC().normalize_str(text)


def _rejoined(joined: Collection[str], length: int) -> Any:
    """Step that takes `_HOLD` out again before the last character of the `joined` of this length."""
    before = defaultdict(set)
    for source in joined:
        if len(source) == length:
            before[source[-1]].add(source[:-1])
    alike = defaultdict(list)
    for last, sources in before.items():
        alike[frozenset(sources)].append(last)
    branches = (
        f"(?={class_of(lasts)})(?<={'|'.join(_sequences(sources))}{_HOLD})"
        if length == 2
        else f"(?={class_of(lasts)})(?<=(?:{'|'.join(_sequences(sources))}){_HOLD})"
        for sources, lasts in alike.items()
    )
    return replaced(f"{_HOLD}(?:{'|'.join(branches)})", "")


def _sequences(strings: Collection[str]) -> list[str]:
    """Patterns for `strings`, all of one length: those alike but for the first character in one."""
    firsts = defaultdict(list)
    for string in strings:
        firsts[string[1:]].append(string[0])
    alike = defaultdict(list)
    for rest, ones in firsts.items():
        alike[frozenset(ones), rest[:-1]].append(rest[-1:])
    return [
        class_of(ones) + middle + (class_of(lasts) if lasts != [""] else "")
        for (ones, middle), lasts in alike.items()
    ]
