"""The phones' tokenizers: Kotlin's compiled, and run on stubs of Android."""

import subprocess

import keras_hub
import pytest
from kotlin_code import kotlin_jar
from test_tokenizer_json import FAMILIES, INPUTS, any_strings, real_texts
from tokenizers import Tokenizer

from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.text.tokenizer_json import write_tokenizer
from ktransfer.text.tokenizer_texts import NASTY_TEXTS

LENGTH = 64  # tokens


def texts():
    """The nasty ones, any strings, and 5,000 real ones."""
    real = real_texts()
    return [*NASTY_TEXTS, *any_strings(400), *real[:: len(real) // 5000][:5000]]


@pytest.fixture(scope="module")
def ids_of(tmp_path_factory):
    """A function from a `tokenizer.json` and texts to the ids of `Tokenizer.kt`."""
    jar = kotlin_jar()

    def ids(path, given):
        file = tmp_path_factory.mktemp("texts") / "texts"
        file.write_text("".join(f"{text.encode('utf-16-be', 'surrogatepass').hex()}\n" for text in given))
        command = ["java", "-cp", jar, "tokenizing.TokenizerMainKt", path, file]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return [list(map(int, line.split())) for line in done.stdout.splitlines()]

    return ids


QUICK = ("Bert", "Roberta", "Albert")  # one of each kind


@pytest.mark.parametrize(
    "family", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in FAMILIES]
)
def test_kotlin_gives_the_ids_of_the_run(family, ids_of, tmp_path):
    fixed = family in ("FNet", "RoformerV2")
    preprocessing = TextPreprocessing(FAMILIES[family](), INPUTS, LENGTH, fixed_length=fixed)
    write_tokenizer(preprocessing, tmp_path)
    given = texts()
    found = ids_of(tmp_path / "tokenizer.json", given)
    utf8 = [text.encode("utf-8", "replace").decode("utf-8") for text in given]
    expected = [each.ids for each in Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode_batch(utf8)]
    assert [
        (text, one) for text, one, other in zip(given, found, expected, strict=True) if one != other
    ] == []
    assert {len(ids) for ids in found} == {LENGTH} if fixed else len({len(ids) for ids in found}) > 20


def test_kotlin_refuses_a_vocabulary_that_is_too_large_for_a_phone(ids_of, tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(100_000))]
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=words, lowercase=True)
    write_tokenizer(TextPreprocessing(tokenizer, INPUTS, LENGTH), tmp_path)
    with pytest.raises(AssertionError, match="Expected a vocabulary of up to 100000 pieces, got 100005"):
        ids_of(tmp_path / "tokenizer.json", ["fox"])


def test_kotlin_cuts_a_text_where_training_does(ids_of, tmp_path):
    write_tokenizer(TextPreprocessing(FAMILIES["Bert"](), INPUTS, LENGTH), tmp_path)
    cut, whole, outside = ids_of(
        tmp_path / "tokenizer.json", [" " * 100_000 + "fox", " " * 99_997 + "fox", "😂" * 99_999 + " fox"]
    )
    assert (len(cut), len(whole), len(outside)) == (2, 3, 3)
