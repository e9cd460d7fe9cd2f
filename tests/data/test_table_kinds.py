"""Tables as programs and people write them: each is read as meant, or refused by what it is.

A table of cases, generated: one content in every format, delimiter, quoting, encoding and packing; labels in
every spelling; and what is no text or no class in either column.
"""

import bz2
import csv
import datetime
import decimal
import gzip
import io
import itertools
import json
import lzma
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from ktransfer.commands.predict import predict
from ktransfer.commands.splits import hint_at_classes
from ktransfer.core.modality import modality_of_task
from ktransfer.data.label_names import class_order
from ktransfer.data.modality import IMAGES, TEXTS, find_task
from ktransfer.data.tables.columns import Columns
from ktransfer.data.tables.file_bytes import require_table, table_suffix
from ktransfer.data.tables.table import read_input_column, read_table
from ktransfer.data.tables.table_files import read_text
from ktransfer.errors import DataError
from ktransfer.text.default_recipe import text_recipe
from ktransfer.text.sources import load_text_splits, read_texts

SHARED = Path(__file__).resolve().parents[3] / "shared"
TEXT = [
    "No, the harbour is grey",
    'She said "hello" to him',
    "Half; or whole | of it",
    "été à la mer",
    "plain words",
    "two\nlines, of words",
    "a tab\there",
    " spaces ",
]
LABELS = ["neg", "pos"] * 4
PAIRS = list(zip(TEXT, LABELS, strict=True))
CLASSES = ["b", "a", "b", "a", "b", "a"]


def put(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def delimited(rows, delimiter=",", ends="\r\n", **options):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=ends, **options).writerows(rows)
    return file.getvalue()


def column(labels, texts=None):
    texts = texts or [f"some words {index}" for index in range(len(labels))]
    return delimited([("text", "label"), *zip(texts, labels, strict=True)])


def pairs_of(path, **options):
    found = read_table(path, **options)
    return list(zip(found.inputs, found.labels, strict=True))


# One content in every way of writing it.


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("name", "delimiter"),
    [
        *itertools.product(("a.csv", "a.txt", "a"), ",;\t|"),
        *itertools.product(("a.tsv", "a.TAB"), "\t,;"),
    ],
)
def test_every_delimiter_quoting_and_line_end_of_a_writer_is_undone(tmp_path, name, delimiter, ends, quoting):
    # A writer leaves another line end than its own as it is.
    pairs = [(text.replace("\n", ends), label) for text, label in PAIRS]
    for header in ([("text", "label")], []):
        content = delimited([*header, *pairs], delimiter, ends, quoting=quoting)
        assert pairs_of(put(tmp_path / name, content)) == pairs


@pytest.mark.parametrize("delimiter", ",;\t|")
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_every_row_of_a_long_table_is_read(tmp_path, delimiter, quoting):
    pairs = [(f'number "{at}", or so', "ab"[at % 2]) for at in range(2_500)]
    content = delimited([("text", "label"), *pairs], delimiter, quoting=quoting)
    for path in (tmp_path / "a.csv", tmp_path / "a.tsv"):
        assert pairs_of(put(path, content)) == pairs


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("packing", ["", ".gz", ".bz2", ".xz", ".zip"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.ndjson", "A.CSV"])
def test_every_encoding_with_a_mark_and_every_packing_is_undone(tmp_path, name, packing, encoding):
    rows = [("text", "label"), *PAIRS]
    objects = [dict(zip(rows[0], pair, strict=True)) for pair in PAIRS]
    kinds = {
        "csv": delimited(rows),
        "tsv": delimited(rows, "\t"),
        "json": json.dumps(objects, indent=1),
        "jsonl": "\r\n".join(map(json.dumps, objects)),
        "ndjson": "\r".join(map(json.dumps, objects)),
    }
    content = kinds[name.split(".")[1].lower()].encode(encoding)
    assert pairs_of(put(tmp_path / f"{name}{packing}", packed(content, packing, name))) == PAIRS


def packed(content, packing, name="a.csv"):
    if packing == ".zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
            archive.writestr(f"__MACOSX/._{name}", b"\0\5\26\7")
        return file.getvalue()
    return {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[packing](content)


@pytest.mark.parametrize(
    ("content", "pairs"),
    [
        # Every text has one comma, none is a delimiter; and the other way round.
        ("No, it is;neg\r\nYes, it is;pos\r\nNo, or so;neg\r\nYes, or so;pos\r\n", ("No, it is", "neg")),
        ("No; it is,neg\r\nYes; it is,pos\r\nNo; or so,neg\r\nYes; or so,pos\r\n", ("No; it is", "neg")),
        ("No, it is|neg\nYes, it is|pos\nNo, or so|neg\nYes, or so|pos\n", ("No, it is", "neg")),
        ("No, it is\tneg\nYes, it is\tpos\nNo, or so\tneg\nYes, or so\tpos\n", ("No, it is", "neg")),
        ("text;label\nNo,it is;neg\nYes;pos\n", ("No,it is", "neg")),
        ("text|label\nNo,it;is|neg\nYes|pos\n", ("No,it;is", "neg")),
        ("text, label\nNo, neg\nYes, pos\n", ("No", " neg")),
        ('label, text\nneg, "No, it is"\npos, "Yes"\n', ("No, it is", "neg")),
        ('text,label\n"He said \\"no\\", twice",neg\n"Yes",pos\n', ('He said "no", twice', "neg")),
        ('"text"\t"label"\n"He said \\"no\\""\t"neg"\n"Yes"\t"pos"\n', ('He said "no"', "neg")),
        ('text\tlabel\n"No, it is"\tneg\nYes\tpos\n', ("No, it is", "neg")),  # as Excel writes it
        ("text,label\nNo\\, it is,neg\nYes,pos\n", ("No, it is", "neg")),
        ('"a\tb, ""c"""|"neg"\n"d\te"|"pos"\n"f\tg"|"neg"\n"h\ti"|"pos"\n', ('a\tb, "c"', "neg")),
        ('"a\tb"\tneg\n"d\te"\tpos\n"f\tg"\tneg\n"h\ti"\tpos\n', ("a\tb", "neg")),  # a tab in every text
        ('"a\tb","neg"\n"d\te","pos"\n"f\tg","neg"\n"h\ti","pos"\n', ("a\tb", "neg")),
        ("'text','label'\n'No, it is','neg'\n'Yes','pos'\n", ("No, it is", "neg")),
        ("text,label\n'No it is','neg'\n'Yes','pos'\n", ("No it is", "neg")),
        ("text,label\n'tis so,neg\n'twas,pos\n", ("'tis so", "neg")),
        ("text,label\nNo it is,neg\nYes,pos\n\x1a", ("No it is", "neg")),
        ("text;label;\nNo, it is;neg;\nYes, it is;pos;\n", ("No, it is", "neg")),
    ],
)
def test_the_delimiter_is_the_one_that_the_rows_agree_on(tmp_path, content, pairs):
    assert pairs_of(put(tmp_path / "a.csv", content))[0] == pairs


@pytest.mark.parametrize("delimiter", [";", "|", ",", "\t", ":", "^"])
@pytest.mark.parametrize("line", ["sep={}", "SEP={}", '"sep={}"'])
def test_a_first_line_states_the_delimiter_and_counts_as_a_row(tmp_path, delimiter, line):
    body = delimited([("text", "label"), ("one, or two", "a"), ("", "b"), ("x", "a")], delimiter)
    path = put(tmp_path / "a.csv", f"{line.format(delimiter)}\r\n{body}")
    assert read_table(path).rows == [3, 4, 5]
    assert read_table(path).inputs[0] == "one, or two"
    with pytest.raises(DataError, match=r"empty text in row 4"):
        read_texts(path)


def test_two_delimiters_that_both_fit_are_refused_and_a_first_line_settles_it(tmp_path):
    content = "No,one;neg\nYes,two;pos\nNo,three;neg\nYes,four;pos\n"
    with pytest.raises(DataError, match=r"got a comma and a semicolon that both separate every row.*sep=;"):
        read_table(put(tmp_path / "a.csv", content))
    assert pairs_of(put(tmp_path / "b.csv", "sep=;\n" + content))[0] == ("No,one", "neg")


@pytest.mark.parametrize(
    "texts",
    [
        ['"stray', "none", 'at the end"', "x"],
        ['a 5" pipe', '"whole"', '"one" and more', "x"],
        ['"Hello', "x", 'there"', "y"],  # a quoted cell over three rows, were it not for their labels
        ['"', '""', "x", "y"],
        ['"quoted by its author"', "x, and more", "y", "z"],
    ],
)
@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a"])
def test_stray_quotes_of_tsv_are_characters(tmp_path, name, texts):
    rows = list(zip(["ham", "spam"] * 2, texts, strict=True))
    content = "".join("\t".join(row) + "\n" for row in rows)
    assert read_table(put(tmp_path / name, content)).inputs == texts


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    "value",
    [
        [{"text": t, "label": n} for t, n in PAIRS],
        {"data": [{"text": t, "label": n} for t, n in PAIRS], "version": "1.0"},
        {"schema": {"fields": []}, "data": [{"index": 0, "text": t, "label": n} for t, n in PAIRS]},
        {"text": TEXT, "label": LABELS},
        {"text": dict(enumerate(TEXT)), "label": dict(enumerate(LABELS))},
        {str(at): {"text": t, "label": n} for at, (t, n) in enumerate(PAIRS)},
        {f"id{at}": {"text": t, "label": n} for at, (t, n) in enumerate(PAIRS)},
        {"columns": ["text", "label"], "index": list(range(8)), "data": PAIRS},
    ],
)
def test_json_is_read_in_every_layout_of_a_table(tmp_path, name, value):
    if name == "a.jsonl" and isinstance(value, dict):
        pytest.skip("an object is one row of JSON lines")
    assert pairs_of(put(tmp_path / name, json.dumps(value))) == PAIRS
    assert pairs_of(put(tmp_path / name, json.dumps(value, indent=2))) == PAIRS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[["a", "b"], ["c", "d"]]', r"row 1, a JSON list"),
        ('[{"text": "a", "label": "b"}, 5]', r"row 2, a JSON int"),
        ('"text"', r"got a JSON str"),
        ("{}", "got an empty object"),
        ("", "got nothing"),
        ("[]", "got no row of data"),
        ('[{"text": "a"\n "label": "b"}]', r"row 2, which is no JSON"),
        ('{"text": ["a", "b"], "label": ["x"]}', r"'text' with 2, 'label' with 1"),
        ('{"train": [{"text": "a"}], "test": [{"text": "a"}]}', r"the lists 'train', 'test'.*train\.jsonl"),
        ('{"text": "a", "label": "b", "text": "c"}', r"the key 'text' given twice"),
        ('{"a": {"x": [1]}, "b": 1}', r"an object with the keys 'a', 'b'"),
        ('{"columns": ["text", "label"], "data": [["a", "b"], ["c"]]}', r"row 2, 1 values for 2 columns"),
        ("[" * 100_000, "Expected a table"),
    ],
)
def test_json_of_another_layout_is_refused_by_what_it_is(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_texts(put(tmp_path / "a.json", content))


# What is no table, or damaged.


@pytest.mark.parametrize(
    "suffix",
    [
        *("xlsx", "XLSX", "xls", "xlsm", "xlsb", "ods", "numbers", "arrow", "feather", "orc", "avro", "db"),
        *(
            "sqlite",
            "pkl",
            "h5",
            "rds",
            "npy",
            "html",
            "yaml",
            "docx",
            "pdf",
            "csv.zst",
            "7z",
            "rar",
            "tar.gz",
        ),
        *("tgz", "tar", "dta", "sav", "xml", "zip", "gz", "bz2", "xz", "parquet.gz"),
    ],
)
def test_a_kind_of_table_that_is_not_read_is_refused_by_its_name(tmp_path, suffix):
    path = put(tmp_path / f"a.{suffix}", column(CLASSES))
    last = suffix.lower().split(".")[-1]
    with pytest.raises(DataError, match=rf"(?s)got .*a\.{suffix}, .*\.{last}\).*\."):
        read_texts(path)
    with pytest.raises(DataError, match=r"Expected a table (as CSV|or a folder)"):
        require_table(path)


@pytest.mark.parametrize(
    ("beginning", "kind"),
    [
        (b"PK\x03\x04", "ZIP archive or an Excel"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel"),
        (gzip.compress(b"x", mtime=0), "gzip"),
        (bz2.compress(b"x"), "bzip2"),
        (lzma.compress(b"x"), "xz"),
        (b"PAR1", r"a Parquet file\. Name it \.parquet"),
        (b"ARROW1\0\0", "Arrow"),
        (b"SQLite format 3\0", "SQLite"),
        (b"%PDF-1.7", "PDF"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a", "a.csv.gz"])
def test_a_file_of_another_kind_than_its_name_says_is_named(tmp_path, name, beginning, kind):
    content = beginning + b" " * 20
    path = put(tmp_path / name, gzip.compress(content, mtime=0) if name.endswith("gz") else content)
    with pytest.raises(DataError, match=kind):
        read_table(path)


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zip"])
def test_a_packed_table_that_is_damaged_or_a_bomb_is_refused(tmp_path, packing, monkeypatch):
    content = packed(column(CLASSES).encode(), packing)
    for wrong in (content[: len(content) // 2], b"text,label\n", content[:-9] + bytes(9)):
        with pytest.raises(DataError, match=rf"packed as {packing}, got .*a\.csv{packing}"):
            read_table(put(tmp_path / f"a.csv{packing}", wrong))
    monkeypatch.setattr("ktransfer.data.tables.file_bytes._ALWAYS", 2**16)
    bomb = put(tmp_path / f"b.csv{packing}", packed(b"text,label\n" + b"a,b\n" * 2**20, packing))
    assert bomb.stat().st_size < 10_000
    with pytest.raises(DataError, match="bytes, unpacked"):
        read_table(bomb)


def test_an_xz_file_that_states_a_huge_dictionary_is_refused(tmp_path):
    content = bytearray(lzma.compress(column(CLASSES).encode()))
    # The dictionary's size is one byte of the block header, whose checksum follows it.
    at = content.index(b"\x21\x01", 12) + 2
    content[at] = 40  # 4 GiB - 1
    start, length = 12, (content[12] + 1) * 4
    content[start + length - 4 : start + length] = zlib.crc32(content[start : start + length - 4]).to_bytes(
        4, "little"
    )
    with pytest.raises(DataError, match=r"packed as \.xz.*[Mm]emory"):
        read_table(put(tmp_path / "a.csv.xz", bytes(content)))


def test_an_archive_with_a_file_without_a_name_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a", "text,label")
    content = (tmp_path / "a.csv.zip").read_bytes()
    at = content.index(b"PK\x01\x02")  # the central directory: lengths of the name, extra field and comment
    put(tmp_path / "a.csv.zip", content[: at + 28] + bytes(2) + b"\1\0" + content[at + 32 :])
    with pytest.raises(DataError, match=r"packed as \.zip"):
        read_table(tmp_path / "a.csv.zip")


def test_an_archive_of_several_files_or_of_no_table_is_refused(tmp_path):
    for names, message in (
        (["a.csv", "b.csv"], r"2 files in it \(a\.csv, b\.csv\)"),
        ([], "nothing in it"),
        (["a.xlsx"], "Excel"),
    ):
        with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
            for name in names:
                archive.writestr(name, column(CLASSES))
        with pytest.raises(DataError, match=message):
            read_table(tmp_path / "a.csv.zip")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,label\na,x\nb\0c,y\n", r"a\.csv, got NUL characters in line 3\. Remove"),
        ("text,label\na,x\nb,y\n".encode("utf-16-le"), r"--encoding utf-16-le"),
        ("text,label\na,x\nb,y\n".encode("utf-16-be"), r"--encoding utf-16-be"),
        (b"", "got nothing"),
        (b"\n \n", "got nothing"),
        (b"text,label\n", "got no row of data"),
        (b"text;label\n", "got no row of data"),
        (b"text\nx\n", "got one column.*sep="),
        (b"text::label\nx::a\n", "got one column.*sep="),
        (
            b"text,label\n1,x,a\n2,y,b\n",
            r"row 2, 3 cells where row 1 has 2, and so has every.* Name each column",
        ),
        (b"| text | label |\n|---|:--|\n| x | a |\n| y | b |\n", "got one of Markdown"),
        (b"text,label,label\nx,a,b\n", "'label' is there more than once: pass the number"),
        (b"__label__pos it is, or was\n__label__neg it was\n", "got lines of fastText"),
        (b"text,label\nx,a\ny,a\n", "got only 'a'"),
        (b"text;label\nx, y;a\nz;b;c\n", r"row 3, 3 cells where row 1 has 2.*semicolon"),
        (b"text;label\n" + b"x, y;a\nz;b\n" * 2000 + b"z;b;c\n", r"row 4002, 3 cells where row 1 has 2"),
        (b'sep=;\ntext;label\nx;a\n"y;b\n', r"row 4, a quote that is never closed"),
        (b"text\tlabel\nx\ta\ny\tb\tc\n", r"row 3, 3 cells where row 1 has 2.*tab"),
    ],
)
def test_a_broken_file_is_refused_with_its_row(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_texts(put(tmp_path / "a.csv", content))


def test_a_mark_is_no_part_of_the_first_name_when_the_encoding_is_given(tmp_path):
    path = put(tmp_path / "a.csv", column(CLASSES), "utf-8-sig")
    assert read_table(path, encoding="utf-8").columns.input == "text"
    wide = put(tmp_path / "b.csv", "\ufeff" + column(CLASSES), "utf-16-le")
    assert read_table(wide, encoding="utf-16-le").columns.input == "text"


# Columns.


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        ((" text ", " label "), ("text", "label")),
        (("TEXT", "Label"), ("TEXT", "Label")),
        (("", "text", "kind"), ("text", "kind")),
        (("Unnamed: 0", "words", "kind"), ("words", "kind")),
        (("Unnamed: 0.1", "words", "kind"), ("words", "kind")),
        (("id", "words", "kind"), ("words", "kind")),
        (("counter", "words", "kind"), ("words", "kind")),
    ],
)
def test_a_column_that_numbers_the_rows_is_neither_texts_nor_labels(tmp_path, names, columns):
    rows = [(f"words {at}", "ab"[at % 2]) for at in range(6)]
    if len(names) == 3:
        rows = [(str(at), *row) for at, row in enumerate(rows)]
    found = read_table(put(tmp_path / "a.csv", delimited([names, *rows])))
    assert (found.columns.input, found.columns.label) == columns
    assert found.labels == ["a", "b"] * 3


def test_an_unlabelled_table_with_ids_is_not_trained_on_its_ids(tmp_path):
    rows = [("id", "text"), *((str(at), f"words {at}") for at in range(6))]
    with pytest.raises(DataError, match="to know the columns"):
        read_texts(put(tmp_path / "a.csv", delimited(rows)))


def test_of_names_given_twice_a_number_finds_the_column_again(tmp_path):
    rows = [("text", "text", "label"), *((f"a{at}", f"b{at}", "xy"[at % 2]) for at in range(8))]
    for split in ("train", "val"):
        put(tmp_path / f"{split}.csv", delimited(rows))
    with pytest.raises(DataError, match="to know the columns"):
        load_text_splits(tmp_path)
    splits, columns = load_text_splits(tmp_path, text_column="2")
    assert columns == Columns("2", "label", header=True, guessed=True)
    assert splits.validation.inputs[0] == "b0"


def test_the_names_of_columns_may_differ_in_case_between_files(tmp_path):
    put(tmp_path / "train.csv", column(CLASSES))
    put(tmp_path / "val.csv", column(CLASSES).replace("text,label", "Text, LABEL"))
    put(tmp_path / "test.jsonl", '{"TEXT": "x", "Label": "a"}\n')
    splits, _ = load_text_splits(tmp_path)
    assert (len(splits.validation), len(splits.test)) == (6, 1)


def test_numbers_in_the_first_row_of_a_table_of_numbers_are_no_names(tmp_path):
    path = put(tmp_path / "a.csv", "words,7\nmore,3\nothers,3\nand,3\n")
    assert not read_table(path).columns.header
    with_names = put(
        tmp_path / "b.csv", "0,1\nwords,a\nmore,b\nothers,a\nand,b\n"
    )  # as pandas numbers columns
    assert read_table(with_names).columns.header


# One label, however it is written.

SPELLINGS = {
    "csv of ints": ("csv", ["0", "1"]),
    "csv of floats": ("csv", ["0.0", "1.0"]),
    "csv of more digits": ("csv", ["0.00", "1."]),
    "csv with signs": ("csv", ["-0", "+1"]),
    "json of ints": ("jsonl", [0, 1]),
    "json of floats": ("jsonl", [0.0, 1.0]),
    "json of texts": ("jsonl", ["0", "1.0"]),
    "parquet of ints": ("parquet", [0, 1]),
    "parquet of floats": ("parquet", [0.0, 1.0]),
    "parquet of texts": ("parquet", ["0", "1"]),
    "parquet of decimals": ("parquet", [decimal.Decimal("0.00"), decimal.Decimal("1.00")]),
}
BOOLEANS = {
    "csv as Python": ("csv", ["False", "True"]),
    "csv as JSON": ("csv", ["false", "true"]),
    "csv as Excel": ("csv", ["FALSE", "TRUE"]),
    "json": ("jsonl", [False, True]),
    "parquet": ("parquet", [False, True]),
}


def write_labels(folder, split, kind, labels):
    labels = labels * 3
    texts = [f"{split} words {index}" for index in range(len(labels))]
    path = folder / f"{split}.{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"text": texts, "label": labels}), path)
        return path
    if kind == "csv":
        return put(path, column(labels, texts))
    rows = (json.dumps({"text": t, "label": n}) for t, n in zip(texts, labels, strict=True))
    return put(path, "\n".join(rows))


@pytest.mark.parametrize("train", SPELLINGS)
def test_a_whole_number_is_one_label_in_every_spelling_and_format(tmp_path, train):
    for index, other in enumerate(SPELLINGS):
        folder = tmp_path / str(index)
        write_labels(folder, "train", *SPELLINGS[train])
        write_labels(folder, "val", *SPELLINGS[other])
        splits, _ = load_text_splits(folder)
        assert splits.train.class_names == ("0", "1")
        assert splits.validation.labels.tolist() == [0, 1] * 3


@pytest.mark.parametrize("train", BOOLEANS)
def test_a_boolean_is_one_label_in_every_spelling_and_format(tmp_path, train):
    for index, other in enumerate(BOOLEANS):
        folder = tmp_path / str(index)
        write_labels(folder, "train", *BOOLEANS[train])
        write_labels(folder, "val", *BOOLEANS[other])
        splits, _ = load_text_splits(folder)
        assert splits.train.class_names == tuple(map(str, BOOLEANS[train][1]))
        assert splits.validation.labels.tolist() == [0, 1] * 3


def test_spellings_within_one_column_are_one_class_or_refused(tmp_path):
    mixed = put(tmp_path / "a.csv", column(["true", "True", "FALSE", "False", "0.0", "0", "1", "1.0"]))
    assert read_texts(mixed)[0].train.class_names == ("0", "1", "False", "True")
    codes = put(tmp_path / "b.csv", column(["007", "042", "007", "042"]))
    assert read_texts(codes)[0].train.class_names == ("007", "042")
    twice = put(tmp_path / "c.csv", column(["01", "1", "02", "01", "1", "02"]))
    with pytest.raises(DataError, match=r"one number spelled in two ways, such as '01', '1' in rows 2, 3"):
        read_texts(twice)
    put(tmp_path / "d" / "train.csv", column(["01", "02"] * 2))
    put(tmp_path / "d" / "val.csv", column(["1", "2"]))
    with pytest.raises(
        DataError, match=r"out of 01, 02, got '1' in rows 2, 3 of column 'label' of .*val\.csv"
    ):
        load_text_splits(tmp_path / "d")


def test_a_run_reads_labels_by_the_classes_that_it_knows(tmp_path):
    for names, labels in (
        (("0.0", "1.0"), ["0", "1.00"]),
        (("0", "1"), ["0.0", "1"]),
        (("False", "True"), ["false", "TRUE"]),
        (("true", "True"), ["true", "True"]),
        (("0.5", "1.5"), ["0.50", "1.5"]),
    ):
        path = put(tmp_path / "a.csv", column(labels))
        assert read_texts(path, class_names=names)[0].train.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (map(str, range(11)), [str(number) for number in range(11)]),
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (["10.5", "9.5", "2"], ["2", "9.5", "10.5"]),
        (["010", "9", "2"], ["2", "9", "010"]),
        (["10", "9", "other"], ["10", "9", "other"]),
        (["b", "a", "B"], ["B", "a", "b"]),
        (["1_0", "9"], ["1_0", "9"]),
    ],
)
def test_classes_that_are_numbers_sort_by_value_and_others_by_letter(tmp_path, names, order):
    names = list(names)
    assert list(class_order(reversed(names))) == order
    for name in names:
        for copy in "12":
            put(tmp_path / name / f"{copy}.txt", f"{name} {copy}")
    assert list(read_texts(tmp_path)[0].train.class_names) == order


# What is missing, and what is only called so.

ABSENT = ["nan", "NaN", "NA", "N/A", "None", "none", "null", "NULL", "#N/A", "<NA>", "empty", "undefined"]


@pytest.mark.parametrize("name", ABSENT)
def test_a_class_may_be_called_as_what_is_missing(tmp_path, name):
    labels = ["cmn", name] * 3
    path = put(tmp_path / "a.csv", column(labels))
    lines = put(
        tmp_path / "a.jsonl",
        "\n".join(json.dumps({"text": str(i), "label": n}) for i, n in enumerate(labels)),
    )
    assert set(read_texts(path)[0].train.class_names) == {"cmn", name}
    assert set(read_table(lines).labels) == {"cmn", name}
    texts = put(tmp_path / "b.csv", column(CLASSES, [name, "x", "y", "z", "v", "w"]))
    assert read_texts(texts)[0].train.inputs[0] == name
    if "/" not in name:
        for folder in ("cmn", name):
            put(tmp_path / "folders" / folder / "1.txt", folder)
        assert set(read_texts(tmp_path / "folders")[0].train.class_names) == {"cmn", name}


@pytest.mark.parametrize("name", [name for name in ABSENT if name not in ("empty", "undefined")])
@pytest.mark.parametrize("others", [["0", "1"], ["0.0", "1.0"], ["True", "False"]])
def test_among_numbers_nan_and_its_like_is_no_label(tmp_path, name, others):
    path = put(tmp_path / "a.csv", column([*others, name, *others]))
    with pytest.raises(DataError, match=r"a\.csv, got .* among numbers, which is no label, in row 4"):
        read_texts(path)


def test_cells_that_are_empty_are_missing_and_named_by_their_rows(tmp_path):
    for labels in (["a", "", "b"], ["a", "  ", "b"], ["a", "\u00a0", "b"]):
        with pytest.raises(DataError, match="no label in row 3"):
            read_texts(put(tmp_path / "a.csv", column(labels)))
    for value in ("null", "NaN", '""', '" "'):
        rows = f'{{"text": "x", "label": "a"}}\n{{"text": "y", "label": {value}}}\n{{"text": "z"}}'
        with pytest.raises(DataError, match="no label in rows 2, 3"):
            read_texts(put(tmp_path / "a.jsonl", rows))
    with pytest.raises(DataError, match="an empty text in row 3"):
        read_texts(put(tmp_path / "b.csv", column(["a", "b"], ["x", "  "])))


# What is no class.

DATE = datetime.date(2024, 1, 30)
NO_CLASSES = {
    "names of files": [
        ["dog_1.jpg", "cat_1.JPG", "dog_2.jpeg", "cat_2.png"],
        ["images/1.webp", "images/2.webp"] * 4,
        ["a/b c/1.txt", "d\\e.wav"] * 4,
    ],
    "lists of numbers": [
        ["2,27", "2", "27", "3,2"],
        ["0 1 0", "1 0 0", "0 0 1"],
        ["0,1,0", "1,0,0", "0,0,1"],
        ["0,11", "0,48", "1,5", "2,0"],
        ["0.11 0.48", "0.2 0.8", "0.11 0.48"],
        ["0.11, 0.48", "0.25, 0.75"] * 2,
        [".5;.5", "1;0", "0.25;0.75"],
    ],
    "numbers with a fraction": [
        ["0.11", "0.48", "0.11", "0.95"],
        ["4.5", "3", "5.0", "4.5", "3", "5"],
        ["-1.25", "2e-3", "0", "1"],
        [".5", "1", "1", ".5"],
    ],
    "numbers that hardly repeat": [
        [str(869_500 + 37 * at) for at in range(12)],
        [str(1000 + at) for at in range(40)],
    ],
    "dates": [
        ["2024-01-30", "2024-01-31"] * 4,
        ["30/01/2024", "31.01.24", "1-2-2023"] * 3,
        ["2024-01-30 12:00:00", "2024-01-31T08:30:00Z"] * 4,
        ["Jan 30, 2024", "February 1, 2024"] * 4,
    ],
    "tags of single words": [
        ["O", "B-person", "I-person", "O"],
        ["B-loc", "I-loc", "B-loc"],
    ],
    "ids or texts that hardly repeat": [
        [f"user_{at:03}" for at in range(12)],
        [f"ada{at}@example.org" for at in range(12)],
        [f"{at * 7919:032x}a" for at in range(12)],
    ],
    "texts, ": [[f"this is the review with number {at}" for at in range(12)]],
}


@pytest.mark.parametrize(
    ("look", "labels"), [(look, labels) for look, cases in NO_CLASSES.items() for labels in cases]
)
def test_what_names_no_classes_is_refused_with_what_it_looks_like(tmp_path, look, labels):
    path = put(tmp_path / "a.csv", column(labels))
    expected = rf"column 'label' of .*a\.csv, got {look}.* such as .* in rows? \d+.*--label-column"
    if look.startswith("tags"):
        expected = rf"column 'label' of .*a\.csv, got {look}.* in rows 3, 4|in rows 2, 3"
    with pytest.raises(DataError, match=expected) as error:
        read_texts(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    with pytest.raises(DataError, match=look):  # a run that knows other classes says the same
        read_texts(path, class_names=["ham", "spam"])


@pytest.mark.parametrize(
    "labels",
    [
        ["1", "2", "3", "4", "5"] * 2,
        [str(number) for number in range(11)] * 2,
        [str(number) for number in range(11)],
        ["Sports, leisure", "Books, film", "Food"] * 2,
        ["books|fiction", "books|travel", "toys|games"] * 2,
        ["Sci/Tech", "World", "Business"] * 2,
        ["credit card", "credit limit", "card limit"] * 2,
        ["1e5", "2e5"] * 2,
        ["v1.0", "v1.1", "other"] * 2,
        ["1.2.10", "1.2.11", "1.3.0"] * 2,
        ["B-side", "A-side"] * 3,
        ["[spam]", "ham", "eggs"] * 2,
        ["2021", "2022", "2023"] * 2,
        ["node.js", "c++", "asp.net"] * 2,
        ["🙂", "☹", "été"] * 2,
    ],
)
def test_names_of_classes_that_resemble_something_else_are_classes(tmp_path, labels):
    found = read_texts(put(tmp_path / "a.csv", column(labels)))[0].train
    assert set(found.class_names) == set(labels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([{"x": 1}, {"x": 2}, {"x": 1}], "an object in rows 1, 2, 3"),
        ([[{"x": 1}], [{"x": 2}], []], "an object in rows 1, 2"),
        ([[["a"]], [["b"]], []], "a list in a list in rows 1, 2"),
        ([["a", None], ["b"], []], "a missing value in a list in row 1"),
        ([DATE, DATE, DATE], "a value of type date in rows 1, 2, 3"),
        ([b"a", b"b", b"a"], "a value of type bytes in rows 1, 2, 3"),
        ([0.25, 0.5, 0.75], "numbers with a fraction"),
        (
            [decimal.Decimal("0.25"), decimal.Decimal("0.50"), decimal.Decimal("1.00")],
            "numbers with a fraction",
        ),
        ([None, "a", "b"], "no label in row 1"),
        ([float("nan"), 1.0, 0.0], "no label in row 1"),
    ],
)
def test_typed_labels_that_are_no_classes_are_refused_by_type(tmp_path, values, message):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"text": ["x", "y", "z"], "label": values})
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        read_texts(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (
            ("words", "title", "joy", "anger"),
            [("a", "x", "1", "1"), ("b", "y", "0", "1"), ("c", "z", "0", "0")],
            r"'joy' and 'anger' look like one column a label: pass them as --label-column, commas between",
        ),
        (
            ("sentence1", "sentence2", "score"),
            [("a b", "c d", "2.5"), ("e f", "g h", "0.8"), ("i j", "k l", "4.0")],
            r"column 'score' of .*, got numbers with a fraction .* Pass --task regression",
        ),
        (
            ("file", "price"),
            [(f"images/{at}.jpg", str(100_000 + 37 * at)) for at in range(12)],
            r"'file' has names of files, such as 'images/0\.jpg' and 'price' has numbers that hardly repeat",
        ),
    ],
)
def test_columns_that_are_unclear_are_named_by_what_they_look_like(tmp_path, header, rows, message):
    with pytest.raises(DataError, match=message):
        read_texts(put(tmp_path / "a.csv", delimited([header, *rows])))


def test_one_of_several_columns_of_zeros_and_ones_can_be_trained_on(tmp_path):
    rows = [("comment_text", "toxic", "insult"), *((f"w {i}", str(i % 2), str(i % 3 // 2)) for i in range(6))]
    path = put(tmp_path / "a.csv", delimited(rows))
    splits, _ = read_texts(path, text_column="comment_text", label_column="insult")
    assert splits.train.counts() == {"0": 4, "1": 2}


# What is no text.


@pytest.mark.parametrize(
    ("texts", "look"),
    [
        ([f"dog_{at}.jpg" for at in range(6)], "names of files.*images as --file-column"),
        ([f"data/train/IMG {at}.PNG" for at in range(6)], "names of files"),
        ([f"https://example.org/{at}.jpg" for at in range(6)], "names of files"),
        ([f"reviews/{at}.txt" for at in range(6)], "names of files.*Write what is in the files"),
        ([str(at * 17) for at in range(6)], "numbers"),
        ([f"{at}.25" for at in range(6)], "numbers"),
    ],
)
def test_a_column_of_texts_without_texts_is_refused_by_every_reader(tmp_path, texts, look):
    path = put(tmp_path / "a.csv", column(CLASSES, texts))
    expected = rf"Expected texts in column 'text' of .*a\.csv, got {look}"
    for read in (
        lambda: load_text_splits(path),
        lambda: read_texts(path, class_names=("a", "b")),
        lambda: read_input_column(path, input_column="text"),
    ):
        with pytest.raises(DataError, match=expected):
            read()


def test_texts_that_name_a_file_or_hold_numbers_are_texts(tmp_path):
    texts = [
        "Look at photo.jpg",
        "open report.pdf",
        "5 apples",
        "call 555 1234",
        "1, 2 and 3",
        "see 1.txt, too",
    ]
    texts = [*texts, *(f"more words {at}" for at in range(6))]
    path = put(tmp_path / "a.csv", column(CLASSES * 2, texts))
    assert list(read_texts(path)[0].train.inputs) == texts


@pytest.mark.parametrize("text", ["a\\u0000b", "a\\ud800b"])
def test_a_text_with_half_a_character_or_nul_is_refused_by_every_reader(tmp_path, text):
    rows = [f'{{"text": "{value}", "label": "{name}"}}' for value, name in ((text, "a"), ("x", "b"))]
    path = put(tmp_path / "a.jsonl", "\n".join(rows))
    for read in (lambda: read_texts(path), lambda: read_input_column(path, input_column="text")):
        with pytest.raises(DataError, match=r"(NUL character|surrogate pair).* in row 1"):
            read()


# Names of files.


def test_suffixes_say_which_files_are_tables(tmp_path):
    for name, suffix in {
        "train.csv": ".csv",
        "TRAIN.CSV.GZ": ".csv.gz",
        "train.v2.jsonl.xz": ".jsonl.xz",
        "train.json": ".json",
        "train.xlsx": ".xlsx",
        "train.zip": "",
        "train.tar.gz": "",
        "train.parquet.gz": "",
        "csv": "",
        ".csv": ".csv",
    }.items():
        assert table_suffix(name) == suffix
    for name in ("reviews.csv.gz", "reviews.json", "reviews.xlsx"):
        assert find_task(tmp_path / name) == TEXTS
        put(tmp_path / name.split(".", 1)[1] / name, "x")
        assert find_task(tmp_path / name.split(".", 1)[1]) == TEXTS
    put(tmp_path / "photos" / "daisy" / "Thumbs.db", "x")
    assert find_task(tmp_path / "photos") == IMAGES


@pytest.mark.parametrize("suffix", ["csv.gz", "tsv.bz2", "json", "jsonl.zip"])
def test_splits_are_found_by_the_name_without_the_packing(tmp_path, suffix):
    kind, _, packing = suffix.partition(".")
    for split in ("train", "val", "test"):
        rows = [("text", "label"), *((f"{split} {at}", name) for at, name in enumerate(CLASSES))]
        objects = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
        content = {"csv": delimited(rows), "tsv": delimited(rows, "\t"), "json": json.dumps(objects)}
        content["jsonl"] = "\n".join(map(json.dumps, objects))
        packing = f".{packing}" if packing and not packing.startswith(".") else packing
        put(tmp_path / f"{split}.{suffix}", packed(content[kind].encode(), packing))
    splits, _ = load_text_splits(tmp_path)
    assert [part.inputs[0] for part in (splits.train, splits.validation, splits.test)] == [
        "train 0",
        "val 0",
        "test 0",
    ]


def test_a_folder_of_workbooks_is_refused_by_their_kind(tmp_path):
    for split in ("train", "val"):
        put(tmp_path / f"{split}.xlsx", b"PK\x03\x04")
    assert find_task(tmp_path) == TEXTS
    with pytest.raises(
        DataError, match=r"train\.xlsx, an Excel workbook \(\.xlsx\)\. Save it as CSV in UTF-8"
    ):
        load_text_splits(tmp_path)


def test_a_file_of_one_text_that_is_packed_or_an_image_is_refused(tmp_path):
    for content in (gzip.compress(b"x", mtime=0), b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(DataError, match=r"a\.txt"):
            read_text(put(tmp_path / "a.txt", content))


# What a run predicts.


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "A.JSONL", "a.json.xz", "a.tsv.zip", "messages"])
def test_a_run_predicts_every_row_of_every_kind_of_table(tmp_path, name):
    rows = [("text", "label"), *PAIRS]
    objects = [dict(zip(rows[0], pair, strict=True)) for pair in PAIRS]
    kind = name.lower().split(".")[1] if "." in name else "tsv"
    content = {"csv": delimited(rows), "tsv": delimited(rows, "\t"), "json": json.dumps(objects)}
    content["jsonl"] = "\n".join(map(json.dumps, objects))
    packing = f".{name.split('.')[2]}" if name.count(".") == 2 else ""
    path = put(tmp_path / name, packed(content[kind].encode(), packing))
    run = SimpleNamespace(
        modality=modality_of_task(TEXTS),
        path=tmp_path,
        manifest={"task": TEXTS, "data": {"text_column": "text"}},
        predict=lambda texts, top_k: [[] for _ in texts],
    )
    assert [text for text, _ in predict(run, [str(path)])[1]] == TEXT
    for wrong in ("a.xlsx", "a.feather"):
        with pytest.raises(DataError, match=r"a\.(xlsx|feather), an? "):
            predict(run, [str(put(tmp_path / wrong, b"x"))])


# What is said in training.


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (list("12345"), "hint       classes 1 to 5 look like ratings; each is a class of its own here"),
        (["cmn", "nan"], "hint       'nan' is read as the name of a class, of 4 examples, not as a missing"),
        (["ham", "Spam", "spam"], "hint       the classes 'Spam' and 'spam' differ only in case or spaces"),
        (
            ["11%", "48.5 %", "30%"],
            "hint       the 3 classes look like amounts or ratings, '11%' to '48.5 %'",
        ),
        (["1/5", "2/5", "5/5"], "hint       the 3 classes look like amounts or ratings, '1/5' to '5/5'"),
        (["$5", "10 €"], "hint       the 2 classes look like amounts or ratings"),
        (["5 people", "1/2 litre", "50 %"], None),
        ([str(at) for at in range(0, 100, 4)], "hint       the 25 classes are all numbers, 0 to 96"),
        (["0", "1", "2"], None),
        (["ham", "spam"], None),
    ],
)
def test_training_names_classes_that_may_not_be_meant_as_such(tmp_path, labels, line):
    splits, _ = read_texts(put(tmp_path / "a.csv", column(labels * 4)))
    lines = []
    hint_at_classes(splits, text_recipe(texts=8, gpu=False), lines.append)
    assert [found.startswith(line) for found in lines] == [True] if line else not lines


# Real data, where it is.


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip("real data is not here")
    return SHARED / name


@pytest.mark.parametrize(
    ("name", "look"),
    [
        (
            "data/stsb",
            r"column 'score' of .*, got numbers with a fraction .* Pass --task regression",
        ),
        (
            "data/wnut17_ner/wnut17train.conll",
            r"got tags of single words, .*'B-location'.* in rows 15, 16, 33",
        ),
        ("data/wnut17_ner/emerging.dev.conll", r"got tags of single words"),
        ("data/wnut17_ner/emerging.test.annotated", r"got tags of single words"),
        (
            "data/houses/prices.csv",
            r"'file' has names of files.* and 'price_usd' has numbers that hardly repeat",
        ),
        ("data/camvid_tags/train.csv", r"column 'file' .*got names of files.*as --file-column"),
        ("cases/tables/scores.csv", r"column 'score' .*got numbers with a fraction"),
        ("cases/tables/file_column.csv", r"column 'filename' .*got names of files"),
    ],
)
def test_real_tables_for_other_tasks_are_refused_by_what_they_hold(name, look):
    with pytest.raises(DataError, match=look):
        read_texts(shared(name))


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [
        ("data/sms_spam/SMSSpamCollection", ("ham", "spam"), 5574),
        ("cases/tables/class_called_nan.csv", ("cmn", "nan"), 12),
        ("cases/tables/quoted.tsv", ("a", "b"), 12),
        ("cases/tables/semicolons_and_commas.csv", ("neg", "pos"), 12),
        ("cases/tables/float_labels_train.csv", ("0", "1"), 12),
    ],
)
def test_real_tables_of_texts_and_classes_are_read(name, classes, count):
    train = read_texts(shared(name))[0].train
    assert (train.class_names, len(train)) == (classes, count)
    if name.endswith("SMSSpamCollection"):  # its quotes stray, and stay
        raw = shared(name).read_text(encoding="utf-8").splitlines()
        assert list(train.inputs) == [line.split("\t", 1)[1] for line in raw]
    else:
        assert not any(text.startswith('"') for text in train.inputs)


def test_float_labels_of_training_meet_whole_ones_of_validation():
    folder = shared("cases/tables")
    train, validation = folder / "float_labels_train.csv", folder / "float_labels_val.csv"
    splits, _ = load_text_splits(train, validation=validation)
    assert splits.validation.counts() == {"0": 3, "1": 3}
