import csv
import functools
import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import types
import unicodedata
from pathlib import Path

import keras_hub
import numpy as np
import pytest
import regex
import sentencepiece
from clients import interpreter_with
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from ktransfer.errors import ExportError
from ktransfer.text import tokenizer_json
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.text.tokenizer_json import write_tokenizer
from ktransfer.text.tokenizer_normalizers import sentence_piece_normalizer
from ktransfer.text.tokenizer_texts import NASTY_TEXTS

SHARED = Path(__file__).resolve().parents[3] / "shared"
hub = keras_hub.tokenizers
# Nasty texts as well, or most of their characters would be unknown and any of them as good as another.
CORPUS = [text for text in NASTY_TEXTS if text.strip() and not {*text} & {*"\0\ud800\ufdd0"}]
CORPUS += ["The quick brown fox", "you and the café, don't", "a brown quick fox!", "1,234 foxes"] * 10
INPUTS = ("token_ids", "segment_ids", "padding_mask")


@functools.cache
def word_pieces():
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=False)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    folded = [text.casefold() for text in CORPUS] + [unicodedata.normalize("NFD", text) for text in CORPUS]
    trainer = trainers.WordPieceTrainer(vocab_size=3000, special_tokens=special, show_progress=False)
    trained.train_from_iterator([*CORPUS, *folded], trainer)
    vocabulary = trained.get_vocab()
    return sorted(vocabulary, key=vocabulary.get)


def byte_pairs(special):
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(CORPUS, trainer)
    model = json.loads(trained.to_str())["model"]
    return {"vocabulary": model["vocab"], "merges": [" ".join(pair) for pair in model["merges"]]}


def pieces(pad=None, rule="nmt_nfkc_cf", **options):
    special = {}
    if pad:
        special = {
            **{"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "pad_piece": pad},
            **{"bos_piece": "[CLS]", "eos_piece": "[SEP]", "user_defined_symbols": ["[MASK]"]},
        }
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=written,
        normalization_rule_name=rule,
        minloglevel=2,
        **{"vocab_size": 1000, "hard_vocab_limit": False, "character_coverage": 1.0, **special, **options},
    )
    return written.getvalue()


def bert(kind=hub.BertTokenizer, lowercase=True, **options):
    return kind(vocabulary=word_pieces(), lowercase=lowercase, **options)


FAMILIES = {
    "Bert": lambda: bert(strip_accents=True),
    "DistilBert": lambda: bert(hub.DistilBertTokenizer),
    "Electra": lambda: bert(hub.ElectraTokenizer, lowercase=False),
    "RoformerV2": lambda: bert(hub.RoformerV2Tokenizer, lowercase=False, strip_accents=True),
    "Roberta": lambda: hub.RobertaTokenizer(**byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])),
    "GPT2": lambda: hub.GPT2Tokenizer(**byte_pairs(["<|endoftext|>"])),
    "XLMRoberta": lambda: hub.XLMRobertaTokenizer(proto=pieces(rule="nmt_nfkc")),
    "Albert": lambda: hub.AlbertTokenizer(proto=pieces("<pad>")),
    "FNet": lambda: hub.FNetTokenizer(proto=pieces("<pad>", rule="nfkc")),
    "DebertaV3": lambda: hub.DebertaV3Tokenizer(proto=pieces("[PAD]", rule="identity")),
}


@pytest.fixture(scope="module", params=FAMILIES)
def preprocessing(request):
    fixed = request.param in ("FNet", "RoformerV2")
    return TextPreprocessing(FAMILIES[request.param](), INPUTS, 64, fixed_length=fixed)


@pytest.fixture(scope="module")
def one():
    return TextPreprocessing(bert(), INPUTS, 16)


@functools.cache
def real_texts():
    if not (SHARED / "data" / "snips").is_dir():
        pytest.skip("real data is not here")
    messages = (SHARED / "data" / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()
    texts = [line.split("\t", 1)[1] for line in messages]
    for name in ("train", "validation"):
        with (SHARED / "data" / "snips" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            texts += [row["text"] for row in csv.DictReader(file)]
    return texts


def utf8(text):
    return text.encode("utf-8", "replace").decode("utf-8")


def read(folder):
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


# Every family.


def test_nasty_and_given_texts_have_the_ids_of_keras_hub(preprocessing, tmp_path):
    facts = write_tokenizer(preprocessing, tmp_path / "new", texts=["Ein Text."])
    assert facts["compared_texts"] == len(NASTY_TEXTS) + 1
    fields = {"token_ids": "ids", "segment_ids": "type_ids", "padding_mask": "attention_mask"}
    assert facts["inputs"] == fields
    # Not by the function's own comparison, and as a backbone takes them.
    encodings = read(tmp_path / "new").encode_batch([utf8(text) for text in NASTY_TEXTS])
    tied = 0
    for text, encoding in zip(NASTY_TEXTS, encodings, strict=True):
        expected = preprocessing.pack(preprocessing.tokenize([text]), len(encoding.ids))
        if encoding.ids != expected["token_ids"][0].tolist():
            assert sorted(encoding.ids) == sorted(expected["token_ids"][0]), text
            tied += 1
        for name in ("segment_ids", "padding_mask"):
            np.testing.assert_array_equal(
                getattr(encoding, fields[name]), expected[name][0], err_msg=repr(text)
            )
    assert tied == facts["tied_texts"] <= 4 * isinstance(preprocessing.tokenizer, hub.SentencePieceTokenizer)
    assert not preprocessing.fixed_length or {len(encoding.ids) for encoding in encodings} == {64}


@pytest.mark.spread(4)
def test_hundreds_of_real_texts_have_the_ids_of_keras_hub(preprocessing, tmp_path):
    facts = write_tokenizer(preprocessing, tmp_path, texts=real_texts()[::20])
    assert facts["compared_texts"] > 1000
    assert facts["tied_texts"] <= 20 * isinstance(preprocessing.tokenizer, hub.SentencePieceTokenizer)


@pytest.mark.spread(4)
def test_strings_of_any_characters_have_the_ids_of_keras_hub(preprocessing, tmp_path):
    facts = write_tokenizer(preprocessing, tmp_path, texts=any_strings(400))
    assert facts["tied_texts"] <= 4 * isinstance(preprocessing.tokenizer, hub.SentencePieceTokenizer)


def any_strings(count, seed=0):
    """Strings of characters of every kind, and marks most of all, in any order."""
    chosen = random.Random(seed)
    points = [*range(0x250), *range(0x300, 0x600), *range(0x900, 0xA00), *range(0xE00, 0xE60)]
    points += [*range(0x1100, 0x1200), *range(0x1E00, 0x2100), *range(0x2100, 0x2200), *range(0x3000, 0x3100)]
    points += [
        *range(0xAC00, 0xAC40),
        *range(0xFB00, 0xFB50),
        *range(0xFE00, 0x10000),
        *range(0x1F3F0, 0x1F680),
    ]
    pools = [points, range(0x300, 0x370), range(0x20, 0x7F), range(0xC0, 0x250), range(0x110000)]
    pools = [[chr(point) for point in pool if not 0xD800 <= point < 0xE000] for pool in pools]
    return [
        "".join(chosen.choice(chosen.choice(pools)) for _ in range(chosen.randrange(1, 25)))
        for _ in range(count)
    ]


# Every character, and every twentieth of them by default.
STEPS = [20, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("strip_accents", [False, True])
def test_with_a_vocabulary_of_characters_ids_spell_every_folded_word_alike(strip_accents, step, tmp_path):
    changed = [chr(point) for point in (*range(0xD800), *range(0xE000, 0x20000))]
    changed = [one for one in changed if unicodedata.normalize("NFKC", one).casefold() != one]
    # Marks newer than the Unicode of tokenizers it leaves in an order that is not canonical.
    nfd, points = normalizers.NFD(), (*range(0x300, 0xD800), *range(0xE000, 0x20000))
    marks = [f"a\u0345{chr(point)}" for point in points if unicodedata.combining(chr(point))]
    newer = {text[-1] for text in marks if nfd.normalize_str(text) != unicodedata.normalize("NFD", text)}
    assert len(newer) < 100
    texts = [text for text in any_strings(3000 // step) if not newer & {*text}]
    texts += [f"a{one}\u0301b {one} {one}\u0323" for one in changed[::step]]
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD") for text in texts]
    forms += [unicodedata.normalize("NFKC", text.casefold()) for text in forms]
    lost = {"\0", "\ufffe", *map(chr, range(0xFDD0, 0xFDF0))}  # in no vocabulary
    characters = sorted({one for text in forms for one in text} - lost)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *characters, *(f"##{one}" for one in characters)]
    tokenizer = hub.BertTokenizer(vocabulary=vocabulary, lowercase=True, strip_accents=strip_accents)
    write_tokenizer(TextPreprocessing(tokenizer, INPUTS, 200), tmp_path, texts=texts)


def test_letters_newer_than_python_that_a_vocabulary_spells_are_decomposed_by_no_reader(tmp_path):
    letter = "\U0001e030"  # of Unicode 15: NFKC of a newer reader makes it U+0430
    if unicodedata.category(letter) != "Cn":
        pytest.skip("this Python knows the letter")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", letter, f"##{letter}", "\u0430", "##0"]
    write_tokenizer(
        TextPreprocessing(hub.BertTokenizer(vocabulary=words, lowercase=True), INPUTS, 16), tmp_path
    )
    assert read(tmp_path).encode(f"{letter}{letter} \u0430 {letter}0{letter}").ids == [2, 5, 6, 7, 5, 8, 6, 3]
    written = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    steps = steps_of(written["normalizer"])
    forms = [at for at, step in enumerate(steps) if step["type"] == "NFKC"]
    [away] = [at for at, step in enumerate(steps) if step.get("pattern") == {"String": letter}]
    [back] = [at for at, step in enumerate(steps) if step.get("content") == letter]
    assert away < forms[0] < forms[-1] < back


# SentencePiece's normalisation, for every rule there is.


@pytest.mark.spread(2)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("rule", ["nmt_nfkc_cf", "nmt_nfkc", "nfkc", "nfkc_cf", "identity"])
def test_every_rule_of_sentencepiece_and_any_string_is_normalised_as_there(rule, step):
    theirs = sentencepiece.SentencePieceNormalizer(
        rule_name=rule, add_dummy_prefix=True, escape_whitespaces=True, remove_extra_whitespaces=True
    )
    spec = sentencepiece_model_pb2.NormalizerSpec.FromString(theirs.serialized_normalizer_spec())
    ours = sentence_piece_normalizer(sentencepiece_model_pb2.ModelProto(normalizer_spec=spec))
    sources = [source for source, _ in theirs.decompile()] if rule != "identity" else []
    # NFKC of tokenizers is of Unicode 12: letters of a later one, with marks, it leaves.
    sources = [
        source
        for source in sources
        if len(source) == 1 or (max(source) < "\U00010000" and source[0] not in "\ua7f1\ua7f2\ua7f3")
    ]
    texts = [
        *sources,
        *CORPUS,
        *any_strings(5000 // step),
        *(f"aA{source}b {source}" for source in sources[::7]),
    ]
    texts += [f"x{chr(point)}y" for point in (*range(0xD800), *range(0xE000, 0x30000))]
    texts = [text for text in texts[::step] if not {"\0", *map(chr, range(0xFDD0, 0xFDF0))} & {*text}]
    # Many at once: each text takes hundreds of steps.
    joined = [" | ".join(texts[start : start + 200]) for start in range(0, len(texts), 200)]
    assert [text for text in joined if ours.normalize_str(text) != theirs.normalize(text)] == []


# What is written.


def test_ids_worked_out_by_hand(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "fox", "##es", ".", "##.", "é"]
    tokenizer = hub.BertTokenizer(vocabulary=words, lowercase=True)
    write_tokenizer(TextPreprocessing(tokenizer, INPUTS, 8), tmp_path)
    # An ellipsis is one word; a soft hyphen and a bell end one; a sign of no width does, unlike to BERT.
    texts = ["The foxes.", "É", "e\u0301", "…", "the\u00adfox", "the\u200bfox\x07the", "[CLS]", "fox " * 9]
    expected = [
        *([2, 5, 6, 7, 8, 3], [2, 10, 3], [2, 10, 3], [2, 8, 9, 9, 3], [2, 5, 6, 3], [2, 5, 6, 5, 3]),
        *([2, 1, 1, 1, 3], [2, 6, 6, 6, 6, 6, 6, 3]),
    ]
    assert [encoding.ids for encoding in read(tmp_path).encode_batch(texts)] == expected


def test_a_word_of_more_than_a_hundred_bytes_is_unknown(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "é", "##é"]
    tokenizer = hub.BertTokenizer(vocabulary=words)
    write_tokenizer(TextPreprocessing(tokenizer, INPUTS, 64), tmp_path)
    assert read(tmp_path).encode("é" * 50).ids == [2, 5, *[6] * 49, 3]
    assert read(tmp_path).encode("é" * 51).ids == [2, 1, 3]


def test_ids_of_xlm_roberta_are_one_up_and_the_unknown_token_is_three(tmp_path):
    tokenizer = FAMILIES["XLMRoberta"]()
    write_tokenizer(TextPreprocessing(tokenizer, INPUTS, 16), tmp_path)
    words = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.proto)
    the, space = words.encode("the"), words.piece_to_id("▁")
    assert read(tmp_path).encode("the \u4444").ids == [0, *(index + 1 for index in the), space + 1, 3, 2]


def test_the_description_is_what_a_program_needs(one, tmp_path):
    facts = write_tokenizer(one, tmp_path)
    assert json.loads(json.dumps(facts)) == facts
    data = (tmp_path / "tokenizer.json").read_bytes()
    assert (facts["path"], facts["size_bytes"]) == ("tokenizer.json", len(data))
    assert facts["sha256"] == hashlib.sha256(data).hexdigest()
    ids = [word_pieces().index(piece) for piece in ("[CLS]", "[SEP]", "[PAD]")]
    assert [facts[f"{name}_token_id"] for name in ("start", "end", "pad")] == ids
    assert (facts["sequence_length"], facts["fixed_length"]) == (16, False)


def test_it_is_read_where_keras_and_tensorflow_cannot_be_imported(one, tmp_path):
    write_tokenizer(one, tmp_path)
    program = (
        "import sys, json\n"
        "sys.modules.update(dict.fromkeys(('keras', 'keras_hub', 'tensorflow', 'ktransfer')))\n"
        "from tokenizers import Tokenizer\n"
        "print(json.dumps(Tokenizer.from_file(sys.argv[1]).encode(sys.argv[2]).ids))"
    )
    text = "Two foxes… Straße"
    command = [sys.executable, "-I", "-c", program, str(tmp_path / "tokenizer.json"), text]
    done = subprocess.run(command, capture_output=True, check=True)
    assert json.loads(done.stdout) == one.tokenize([text])[0].tolist()


def test_the_caller_cuts_a_text_to_the_characters_that_are_looked_at(one, tmp_path):
    texts = [" " * 99_999 + "fox", " " * 100_000 + "fox"]
    facts = write_tokenizer(one, tmp_path, texts=texts)
    assert facts["characters"] == 100_000
    cut = [text[: facts["characters"]] for text in texts]
    assert [len(encoding.ids) for encoding in read(tmp_path).encode_batch(cut)] == [3, 2]


@pytest.mark.spread(4)
def test_very_long_words_have_the_ids_of_keras_hub(preprocessing, tmp_path):
    texts = ["x" * 5000, "supercalifragilisticexpialidocious" * 20, "日" * 3000, "fox" + "\u0301" * 500]
    write_tokenizer(preprocessing, tmp_path, texts=texts)


# What other readers make of it.

# As far as JavaScript and OpenVINO go alike; `Precompiled` they have and do not carry out.
SHARED_STEPS = {"Sequence", "Replace", "NFD", "NFKC", "Lowercase", "Prepend", "Split", "ByteLevel"}


def steps_of(part):
    if part is None:
        return []
    inner = [*part.get("normalizers", ()), *part.get("pretokenizers", ())]
    return [part, *(step for each in inner for step in steps_of(each))]


def test_the_steps_are_those_that_every_reader_carries_out_alike(preprocessing, tmp_path):
    write_tokenizer(preprocessing, tmp_path)
    written = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    steps = [*steps_of(written["normalizer"]), *steps_of(written["pre_tokenizer"])]
    assert {step["type"] for step in steps} <= SHARED_STEPS
    assert not [step for step in steps if step["type"] == "ByteLevel" and step["use_regex"]]
    patterns = [step["pattern"]["Regex"] for step in steps if "Regex" in step.get("pattern", ())]
    # Escapes are of signs alone, and half a surrogate pair; no group is possessive, atomic or named.
    assert not [each for each in patterns if regex.search(r"\\(?!p\{Cs\}|[sS]|[\^$.*+?()\[\]{}|/\\-])", each)]
    assert not [each for each in patterns if regex.search(r"\(\?(?!:|=|!|<=|<!)", each)]
    assert not [step for step in steps if "$" in step.get("content", "")]
    # Plain strings OpenVINO takes for patterns, and JavaScript does not remove where it splits.
    plain = [step for step in steps if "String" in step.get("pattern", ())]
    assert not {*"".join(step["pattern"]["String"] for step in plain)} & {*"[](){}.*+?|^$"}
    assert "Split" not in {step["type"] for step in plain}
    special = written["post_processor"]["special_tokens"].values()
    names = written["model"]["vocab"]
    names = dict(names)
    assert {token["id"] for token in special} <= names.keys()


_BY_NODE = """
const {readFileSync} = require('fs');
const [file, texts, name] = process.argv.slice(1);
const json = JSON.parse(readFileSync(file)), library = require(name);
const kind = name.endsWith('tokenizers') ? library.Tokenizer : library.PreTrainedTokenizer;
const read = new kind(json, {});
const ids = text => { const found = read.encode(text); return Array.from(found.ids ?? found); };
console.log(JSON.stringify(JSON.parse(readFileSync(texts)).map(ids)));
"""


@pytest.mark.slow
@pytest.mark.parametrize("library", ["@huggingface/tokenizers", "@huggingface/transformers"])
def test_javascript_gives_the_ids_of_the_file(library, preprocessing, tmp_path):
    require_package(library)
    write_tokenizer(preprocessing, tmp_path)
    texts = [text for text in [*NASTY_TEXTS, *any_strings(500), *real_texts()[::20]] if text]
    texts += ["x" * 5000, "日" * 3000]
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    command = [
        "node",
        "-e",
        _BY_NODE,
        str(tmp_path / "tokenizer.json"),
        str(tmp_path / "texts.json"),
        library,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reader = read(tmp_path)
    reader.no_truncation()
    reader.no_padding()
    expected = [encoding.ids for encoding in reader.encode_batch([utf8(text) for text in texts])]
    found = json.loads(done.stdout)
    assert [text for text, one, two in zip(texts, expected, found, strict=True) if one != two] == []


def require_package(name):
    if shutil.which("node") is None:
        pytest.skip("node is not here")
    found = subprocess.run(["node", "-e", f"require.resolve('{name}')"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"{name} is not here: npm install it, and name its node_modules in NODE_PATH")


_BY_OPENVINO = """
import json, sys
import openvino, openvino_tokenizers, transformers
file, texts, pad = sys.argv[1:]
fast = transformers.PreTrainedTokenizerFast(tokenizer_file=file, model_max_length=8192, pad_token=pad)
run = openvino.compile_model(openvino_tokenizers.convert_tokenizer(fast), "CPU")
print(json.dumps([run([text])["input_ids"][0].tolist() for text in json.load(open(texts))]))
"""


@pytest.mark.slow
def test_openvino_gives_the_ids_but_for_ties_and_long_words(preprocessing, tmp_path):
    tokenizer = preprocessing.tokenizer
    if getattr(tokenizer, "strip_accents", False) and tokenizer.lowercase:
        pytest.skip("openvino_tokenizers holds one normal form; this tokenizer needs NFD and NFKC")
    python = interpreter_with("openvino_tokenizers")
    facts = write_tokenizer(preprocessing, tmp_path)
    # To have a padding token is to find it in a text.
    texts = [text for text in [*NASTY_TEXTS, *real_texts()[::50]] if text and "[PAD]" not in text]
    texts = [text for text in texts if utf8(text) == text]
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    pad = read(tmp_path).id_to_token(facts["pad_token_id"])
    command = [
        python,
        "-c",
        _BY_OPENVINO,
        str(tmp_path / "tokenizer.json"),
        str(tmp_path / "texts.json"),
        pad,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reader = read(tmp_path)
    reader.no_truncation()
    reader.no_padding()
    expected = [encoding.ids for encoding in reader.encode_batch(texts)]
    found = json.loads(done.stdout.splitlines()[-1])
    differ = {text for text, one, two in zip(texts, expected, found, strict=True) if one != two}
    # Rows of marks, jamo and final sigmas are among the nasty ones; which tell depends on the vocabulary.
    nasty = {*NASTY_TEXTS}
    assert len(differ & nasty) <= 0.15 * len(nasty)
    assert len(differ - nasty) <= 0.01 * len({*texts} - nasty)


# What is refused.


@pytest.mark.parametrize("family", ["Bert", "GPT2", "Albert"])
def test_a_file_whose_ids_differ_is_refused_and_the_earlier_one_stays(family, tmp_path, monkeypatch):
    preprocessing = TextPreprocessing(FAMILIES[family](), INPUTS, 16)
    write_tokenizer(preprocessing, tmp_path)
    before = (tmp_path / "tokenizer.json").read_bytes()
    for name in ("word_piece_normalizer", "byte_pair_normalizer", "sentence_piece_normalizer"):
        monkeypatch.setattr(tokenizer_json, name, lambda *_: normalizers.BertNormalizer())
    message = rf"ids of keras-hub's {family}Tokenizer, \[.*\], for the text '.*got \["
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(ExportError, match=message):
            write_tokenizer(preprocessing, folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "tokenizer.json"]
    assert (tmp_path / "tokenizer.json").read_bytes() == before


@pytest.mark.parametrize(
    "options", [{"model_type": "BPE"}, {"byte_fallback": True}, {"treat_whitespace_as_suffix": True}]
)
def test_a_sentencepiece_model_that_the_library_lacks_is_refused(options, tmp_path):
    tokenizer = hub.AlbertTokenizer(proto=pieces("<pad>", **options))
    with pytest.raises(ExportError, match=r"SentencePiece's unigram model.*got "):
        write_tokenizer(TextPreprocessing(tokenizer, INPUTS, 16), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"Expected WordPieceTokenizer.*got SimpleNamespace"):
        write_tokenizer(types.SimpleNamespace(tokenizer=types.SimpleNamespace()), tmp_path)


# A real one, where it is.


@pytest.mark.slow
def test_the_real_minilm_folder_gives_equal_ids_on_every_real_text(tmp_path):
    texts = real_texts()
    folder = str(SHARED / "backbones" / "minilm_l6_h384_uncased")
    backbone = keras_hub.models.BertBackbone.from_preset(folder, load_weights=False)
    loaded = load_text_preprocessing(folder, backbone, sequence_length=128)
    assert write_tokenizer(loaded, tmp_path, texts=[*texts, *any_strings(3000)])["compared_texts"] > 22_000
