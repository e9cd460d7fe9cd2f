"""Files of texts with marked entities: every layout that is read, and one clear line for what cannot be."""

import itertools
import json

import numpy as np
import pytest

from ktransfer.data.entities.conll import looks_like_conll, read_conll
from ktransfer.data.entities.files import find_annotated, is_annotated, read_annotated
from ktransfer.data.entities.span_records import looks_like_spans, read_spans
from ktransfer.data.entities.tag_schemes import entities_of, find_scheme
from ktransfer.data.entities.words import words_of
from ktransfer.errors import DataError
from ktransfer.text.tokenizer_texts import NASTY_TEXTS

TEXT = "Ann Lee lives in Zürich."
SPANS = [(0, 7, "PER"), (17, 23, "LOC")]


def cut(text):
    return [text[start:end] for start, end in words_of(text)]


def written(path, content):
    content = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_text(content, encoding="utf-8")
    return path


# Words.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("O'Neil's 3.5%", ["O", "'", "Neil", "'", "s", "3", ".", "5", "%"]),
        ("snake_case @you #1", ["snake_case", "@", "you", "#", "1"]),
        ("東京 タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("हिन्दी क\u093c", ["हिन्दी", "क\u093c"]),
        ("cafe\u0301!", ["cafe\u0301", "!"]),
        ("\u200ba\u200db c\u00add", ["\u200b", "a\u200db", "c\u00add"]),
        ("👩‍👩‍👧‍👦👍🏽", ["👩‍👩‍👧‍👦", "👍🏽"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
        (" \t\n", []),
    ],
)
def test_words_are_runs_of_letters_and_single_signs(text, words):
    assert cut(text) == words


@pytest.mark.parametrize("text", NASTY_TEXTS)
def test_words_are_all_of_a_text_but_its_white_space(text):
    words = words_of(text)
    assert all(start < end for start, end in words)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(words))
    left = "".join(
        text[:start] if not i else text[words[i - 1][1] : start] for i, (start, _) in enumerate(words)
    )
    assert not (left + text[words[-1][1] if words else 0 :]).strip()


# Schemes.


def tags_in(scheme, entities, count):
    """The tags of words in a scheme, by their entities `(first, last, type)`."""
    single, last = {"IOBES": ("S", "E"), "BILOU": ("U", "L"), "BMES": ("S", "E")}.get(scheme, ("B", "I"))
    tags = ["O"] * count
    for first, end, kind in entities:
        letters = ["B", *"I" * (end - first)]
        if last != "I":
            letters = (
                [single]
                if first == end
                else ["B", *("M" if scheme == "BMES" else "I") * (end - first - 1), last]
            )
        elif scheme == "IOB1" and not (first and tags[first - 1][2:] == kind):
            letters[0] = "I"
        tags[first : end + 1] = [f"{letter}-{kind}" for letter in letters]
    return tags


def random_entities(random, count):
    found, at = [], 0
    while at < count:
        length = int(random.integers(1, 4))
        if random.random() < 0.6 and at + length <= count:
            found.append((at, at + length - 1, str(random.choice(["PER", "LOC"]))))
        at += length
    return found


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "IOBES", "BILOU", "BMES"])
def test_entities_are_the_same_in_every_scheme(scheme):
    random = np.random.default_rng(0)
    expected = [random_entities(random, 12) for _ in range(40)]
    tags = [tags_in(scheme, entities, 12) for entities in expected]
    assert find_scheme(tags) == scheme
    assert [entities_of(each, scheme) for each in tags] == expected


@pytest.mark.parametrize(
    ("tags", "scheme", "message"),
    [
        (["O", "I-PER"], "IOB2", r"Expected B-PER .*got I-PER after O in line 2"),
        (["B-LOC", "I-PER"], "IOB2", r"got I-PER after B-LOC in line 2"),
        (["I-PER"], "IOB2", r"got I-PER after the beginning of the sentence in line 1"),
        (["B-PER", "O"], "BILOU", r"Expected L-PER at the end .*got O after B-PER in line 2"),
        (["O", "B-PER"], "IOBES", r"got B-PER at the end of the sentence in line 2"),
        (["E-PER"], "IOBES", r"got E-PER after the beginning"),
    ],
)
def test_a_tag_that_cannot_stand_there_is_named_with_its_line(tags, scheme, message):
    with pytest.raises(DataError, match=message):
        entities_of(tags, scheme)


# CoNLL columns.


@pytest.mark.parametrize(
    ("content", "layout"),
    [
        ("In\tO\nRome\tB-LOC\n\t\nAnn\tB-PER\n", "IOB2"),
        ("-DOCSTART- -X- O O\n\nIn IN O O\nRome NNP I-NP I-LOC\n\nAnn NNP I-NP I-PER\n", "IOB1"),
        ("\ufeff# a comment\nIn\tx\tO\r\nRome\ty\tU-LOC\r\n\r\n\r\nAnn\tz\tU-PER", "BILOU"),
        ("1\tIn\tO\n2\tRome\tS-LOC\n\n1\tAnn\tS-PER\n", "IOBES"),
    ],
)
def test_columns_are_read_with_tabs_or_spaces(tmp_path, content, layout):
    path = written(tmp_path / "train.txt", content)
    assert looks_like_conll(path)
    found = read_conll(path)
    assert found.texts == ["In Rome", "Ann"]
    assert found.spans == [((3, 7, "LOC"),), ((0, 3, "PER"),)]
    assert found.layout == f"CoNLL columns, {layout}"
    said = " ".join(found.notes)
    assert (f"tags are {layout}, converted to IOB2" in said) == (layout != "IOB2")
    assert ("lines -DOCSTART-" in said) == content.startswith("-DOC")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("In\tO\nRome\n", r"Expected 2 columns between tabs .*got 1 in line 2"),
        ("In O\nRome NNP B-LOC\nand O\n", r"Expected 2 columns between spaces .*got 3 in line 2"),
        ("In\tO\nRome\tNNP\n", r"got 'NNP' in line 2"),
        ("In\tO\n\tB-LOC\n", r"a tag without one in line 2"),
        ("In O\nRome I-LOC\nAnn B-PER\n", r"got I-LOC after O in line 2"),
        ("Rome U-LOC\nAnn S-PER\n", r"one scheme .*letters S, U"),
        ("\n\n", "got an empty file"),
        ("word\n", "got 1 columns"),
    ],
)
def test_columns_that_cannot_be_are_named_with_their_line(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as error:
        read_conll(written(tmp_path / "train.conll", content))
    assert "\n" not in str(error.value)


def test_the_column_of_tags_may_be_named(tmp_path):
    path = written(tmp_path / "a.conll", "In\tO\tO\nRome\tB-LOC\tO\n")
    assert read_conll(path).types == []
    assert read_conll(path, column="2").types == ["LOC"]
    with pytest.raises(DataError, match="1 to 3, got '4'"):
        read_conll(path, column="4")


@pytest.mark.parametrize(
    "content",
    [
        "text\tlabel\nfine\tgood\n",
        "a fine film\tO\nbad\tX\n",
        "",
        "In Rome\n",
        "label,text\nB-1,good\n",
        "a\tO\nb\tO",
    ],
)
def test_other_tables_do_not_look_like_columns_of_tags(tmp_path, content):
    assert not looks_like_conll(written(tmp_path / "train.tsv", content))


# Spans.

AS_DICTS = [{"start": start, "end": end, "label": kind} for start, end, kind in SPANS]
STUDIO = [
    {"value": {"start": s, "end": e, "text": TEXT[s:e], "labels": [kind]}, "type": "labels"}
    for s, e, kind in SPANS
]
LAYOUTS = {
    "own.jsonl": {"text": TEXT, "spans": AS_DICTS},
    "prodigy.jsonl": {
        "text": TEXT,
        "spans": [{**each, "token_start": 0} for each in AS_DICTS],
        "answer": "accept",
    },
    "doccano.jsonl": {"id": 7, "text": TEXT, "label": [list(span) for span in SPANS]},
    "doccano_new.jsonl": {
        "text": TEXT,
        "entities": [{"id": 1, "label": k, "start_offset": s, "end_offset": e} for s, e, k in SPANS],
    },
    "spacy.json": [[TEXT, {"entities": [list(span) for span in SPANS]}]],
    "spacy_tool.json": {
        "classes": ["PER"],
        "annotations": [[TEXT, {"entities": [list(span) for span in SPANS]}]],
    },
    "studio.json": [{"id": 1, "data": {"text": TEXT}, "annotations": [{"result": STUDIO}]}],
    "studio_min.json": [{"text": TEXT, "label": [each["value"] for each in STUDIO]}],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_annotation_programs_write_is_read(tmp_path, name):
    path = written(tmp_path / name, LAYOUTS[name])
    assert looks_like_spans(path)
    found = read_annotated(path)
    assert (found.texts, found.spans, found.notes) == ([TEXT], [tuple(SPANS)], [])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_words_with_tags_are_read(tmp_path, suffix):
    rows = [
        {"tokens": ["In", "Rome"], "ner_tags": ["O", "B-LOC"]},
        {"tokens": ["Ann"], "ner_tags": ["B-PER"]},
    ]
    path = tmp_path / f"train{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        written(path, "\n".join(map(json.dumps, rows)))
    assert is_annotated(path)
    found = read_annotated(path)
    assert found.texts == ["In Rome", "Ann"]
    assert found.spans == [((3, 7, "LOC"),), ((0, 3, "PER"),)]


def test_spans_in_parquet_are_read(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"text": TEXT, "spans": AS_DICTS}]), path)
    assert looks_like_spans(path)
    assert read_spans(path).spans == [tuple(SPANS)]


def records(tmp_path, *rows):
    return written(tmp_path / "train.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))


def span(start, end, label="PER"):
    return {"start": start, "end": end, "label": label}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": "Ann", "spans": [span(0, 4)]}],
            r"within their text .*PER from 0 to 4 in a text of 3 .*row 1",
        ),
        ([{"text": "Ann", "spans": []}, {"text": " ", "spans": []}], r"an empty text in row 2"),
        ([{"text": "Ann", "spans": [{"start": 0, "end": 3}]}], r"got \{'start': 0, 'end': 3\} in row 1"),
        ([{"text": "Ann", "spans": [{"start": 2, "end": 1, "label": "X"}]}], "in row 1"),
        ([{"text": "Ann", "spans": [{"start": "0", "end": 1, "label": "X"}]}], "in row 1"),
        (
            [{"text": "Ann is", "spans": [{**span(0, 3), "text": "is"}]}],
            r"got 'is' where the text has 'Ann' in row 1",
        ),
        ([{"tokens": ["a"], "tags": ["O", "O"]}], r"got 2 tags for 1 words in row 1"),
        ([{"tokens": ["a"], "tags": [1]}], r"got 1 in row 1. Write the names"),
        ([{"tokens": [], "tags": []}], r"got none in row 1"),
        ([{"text": "Ann", "label": "good"}], r"got the keys 'text', 'label'"),
    ],
)
def test_records_that_cannot_be_are_named_with_their_row(tmp_path, rows, message):
    with pytest.raises(DataError, match=message) as error:
        read_spans(records(tmp_path, *rows))
    assert "\n" not in str(error.value)


def in_units(text, spans, encoding, width):
    def moved(offset):
        return len(text[:offset].encode(encoding)) // width

    return [span(moved(start), moved(end), kind) for start, end, kind in spans]


@pytest.mark.parametrize(
    ("encoding", "width", "unit"), [("utf-8", 1, "bytes"), ("utf-16-le", 2, "UTF-16 units")]
)
def test_offsets_in_other_units_than_characters_are_found(tmp_path, encoding, width, unit):
    text = "👍 Zoë met Ann in Zürich"
    spans = [(2, 5, "PER"), (10, 13, "PER"), (17, 23, "LOC")]
    assert [text[s:e] for s, e, _ in spans] == ["Zoë", "Ann", "Zürich"]
    plain = {"text": "Ann", "spans": [span(0, 3)]}
    rows = [plain, {"text": text, "spans": in_units(text, spans, encoding, width)}]
    with pytest.raises(DataError, match=f"characters .*only as {unit}, in row 2. Convert"):
        read_spans(records(tmp_path, *rows))
    right = records(tmp_path, plain, {"text": text, "spans": [span(*each) for each in spans]})
    assert read_spans(right).spans[1] == tuple(spans)


def test_what_is_left_out_or_changed_of_spans_is_said(tmp_path):
    path = records(
        tmp_path,
        {"text": "Ann Lee in Rome", "spans": [span(0, 7), span(4, 7), span(8, 8), span(10, 15, "LOC")]},
        {"text": "unhappy", "spans": [span(2, 7)]},
    )
    found = read_spans(path)
    assert found.spans == [((0, 7, "PER"), (11, 15, "LOC")), ((2, 7, "PER"),)]
    said = "\n".join(found.notes)
    for expected in (
        "1 span of no character, left out (row 1)",
        "1 span over a longer one",
        "white space at an end",
    ):
        assert expected in said
    assert "1 span with an end within a word" in said
    assert "(row 2)" in said


# Folders.


def test_the_files_of_a_folder_are_found_by_their_names(tmp_path):
    for name in ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"):
        written(tmp_path / name, "Rome\tB-LOC\n")
    written(tmp_path / "README.md", "# Rome")
    found = find_annotated(tmp_path)
    assert {split: path.name for split, path in found.items()} == {
        "train": "wnut17train.conll",
        "validation": "emerging.dev.conll",
        "test": "emerging.test.annotated",
    }


def test_the_names_of_conll_2003_are_known(tmp_path):
    for name in ("eng.train", "eng.testa", "eng.testb"):
        written(tmp_path / name, "Rome NNP I-NP I-LOC\n")
    assert {split: path.name for split, path in find_annotated(tmp_path).items()} == {
        "train": "eng.train",
        "validation": "eng.testa",
        "test": "eng.testb",
    }


def test_two_files_for_a_split_or_none_for_training_are_refused(tmp_path):
    written(tmp_path / "dev.conll", "Rome\tB-LOC\n")
    with pytest.raises(DataError, match=r"for training next to dev\.conll"):
        find_annotated(tmp_path)
    written(tmp_path / "train.conll", "Rome\tB-LOC\n")
    written(tmp_path / "train.jsonl", {"text": TEXT, "spans": AS_DICTS})
    with pytest.raises(DataError, match="one train file"):
        find_annotated(tmp_path)


def test_a_folder_of_classified_texts_has_no_annotated_files(tmp_path):
    written(tmp_path / "train.csv", "text,label\ngood,pos\nbad,neg\n")
    written(tmp_path / "train.jsonl", {"text": "good", "label": "pos"})
    written(tmp_path / "test.json", [{"text": "good", "labels": ["a", "b"]}])
    assert find_annotated(tmp_path) == {}
