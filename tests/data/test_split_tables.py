"""Tables of a folder by the names of their splits, generated from names and suffixes."""

import gzip
import json

import pytest

from ktransfer.errors import DataError
from ktransfer.text.sources import load_text_splits, read_texts

SUFFIXES = [".csv", ".tsv", ".jsonl", ".parquet"]
ROWS = [(f"see you at {hour}", "ham") for hour in range(5)] + [
    (f"win {hour} now", "spam") for hour in range(5)
]


def table(path, rows=ROWS, header=("text", "label")):
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix
    if suffix == ".parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        objects = [dict(zip(header, row, strict=True)) for row in rows]
        parquet.write_table(pyarrow.Table.from_pylist(objects), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows))
    else:
        separator = "," if suffix == ".csv" else "\t"
        path.write_text("".join(separator.join(row) + "\n" for row in (header, *rows)))
    return path


def sizes(splits):
    parts = (splits.train, splits.validation, splits.test)
    return [part and len(part) for part in parts]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "validation", ["val", "Valid", "validation", "dev", "DEV", "eval", "holdout", "dev_set"]
)
@pytest.mark.parametrize("form", ["{}", "sst2_{}", "{}-data"])
def test_every_usual_name_of_a_table_is_its_split(tmp_path, suffix, validation, form):
    for name, count in (("train", 10), (validation, 4), ("test", 6)):
        table(tmp_path / f"{form.format(name)}{suffix}", ROWS[-count:] + ROWS[: max(0, count - 10)])
    splits, _ = read_texts(tmp_path, class_names=["ham", "spam"])
    assert sizes(splits) == [10, 4, 6]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_tables_with_other_suffixes_than_training_are_found(tmp_path, suffix):
    table(tmp_path / "train.csv")
    table(tmp_path / f"dev{'.tsv' if suffix == '.csv' else '.jsonl'}")
    assert sizes(load_text_splits(tmp_path)[0]) == [10, 10, None]


def test_shards_of_a_table_are_read_as_one(tmp_path):
    table(tmp_path / "data" / "train-00000-of-00002.csv", ROWS[:6])
    table(tmp_path / "data" / "train-00001-of-00002.csv", ROWS[6:])
    table(tmp_path / "data" / "test-00000-of-00001.csv")
    splits, _ = load_text_splits(tmp_path, validation_fraction=0.2)
    assert sizes(splits) == [8, 2, 10]
    assert "read from data/, the only folder of tables" in splits.notes


def test_a_wrong_row_of_a_shard_is_named_with_its_file(tmp_path):
    table(tmp_path / "train-00000-of-00001.csv")
    table(tmp_path / "val-00000-of-00002.csv")
    table(tmp_path / "val-00001-of-00002.csv", [("x", "eggs")])
    with pytest.raises(DataError, match=r"'eggs' in file val-00001-of-00002\.csv:2"):
        load_text_splits(tmp_path)


@pytest.mark.parametrize("name", ["train/data.csv", "train/0000.csv", "Training/train.csv"])
def test_folders_named_as_splits_may_hold_their_table(tmp_path, name):
    table(tmp_path / name)
    table(tmp_path / "dev" / "dev.csv")
    assert sizes(load_text_splits(tmp_path)[0]) == [10, 10, None]


def test_text_files_named_as_splits_are_tables_where_there_are_no_others(tmp_path):
    for name in ("train", "val"):
        (tmp_path / f"{name}.txt").write_text("".join(f"{text};{label}\n" for text, label in ROWS))
    assert sizes(load_text_splits(tmp_path)[0]) == [10, 10, None]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.csv", "train.tsv"], "one train split .*train.csv and train.tsv"),
        (["train.csv", "val.csv", "validation.csv"], "one validation split .*val.csv and validation.csv"),
        (["train.csv", "dev_matched.csv", "dev_mismatched.csv"], "one validation split"),
        (["dev.csv", "test.csv"], "a train split next to dev.csv"),
        (["x/train.csv", "y/train.csv"], r"one folder of tables .*got 2 \(x/, y/\)\. Pass one"),
        (["train/a.csv", "train/b.csv"], r"one table in .*train, got 2 \(a\.csv, b\.csv\)"),
        (["a.csv", "b.csv"], r"Expected train\.csv .*got a\.csv, b\.csv"),
    ],
)
def test_tables_that_are_not_clear_are_refused(tmp_path, names, message):
    for name in names:
        table(tmp_path / name)
    with pytest.raises(DataError, match=message):
        load_text_splits(tmp_path)


def test_what_is_no_split_is_named(tmp_path):
    for name in ("train.csv", "val.csv", "sample_submission.csv", "unlabeledTrainData.tsv", "assets/a.csv"):
        table(tmp_path / name)
    for name in ("README.md", ".DS_Store", "logo.png"):
        (tmp_path / name).touch()
    splits, _ = load_text_splits(tmp_path)
    assert sizes(splits) == [10, 10, None]
    assert splits.notes == (
        "not used: 2 tables (sample_submission.csv, unlabeledTrainData.tsv), no splits by their names",
        "not used: 2 files (README.md, logo.png) that are no tables",
        "not used: 1 folder (assets/)",
        "not used: left by other programs, 1 .DS_Store",
    )


def test_a_splits_own_name_goes_before_one_with_other_words(tmp_path):
    for name in ("train.csv", "train_extra.csv"):
        table(tmp_path / name)
    splits, _ = load_text_splits(tmp_path, validation_fraction=0.2)
    assert sizes(splits) == [8, 2, None]
    assert "not used: 1 table (train_extra.csv), no splits by their names" in splits.notes


@pytest.mark.parametrize("labels", [None, "-1", ""])
def test_a_test_table_without_labels_is_named(tmp_path, labels):
    table(tmp_path / "train.csv")
    rows = [(text,) if labels is None else (text, labels) for text, _ in ROWS]
    table(tmp_path / "test.csv", rows, ("text", "label")[: len(rows[0])])
    splits, _ = load_text_splits(tmp_path, validation_fraction=0.2)
    assert sizes(splits) == [8, 2, None]
    assert splits.notes == ("not used: test.csv, whose texts have no labels",)


def test_a_validation_table_without_labels_is_refused(tmp_path):
    table(tmp_path / "train.csv")
    table(tmp_path / "dev.csv", [(text,) for text, _ in ROWS], ("text",))
    with pytest.raises(DataError):
        load_text_splits(tmp_path)


def test_text_folders_and_tables_may_be_splits_of_one_data_set(tmp_path):
    table(tmp_path / "train.csv")
    for label in ("ham", "spam"):
        (tmp_path / "dev" / label).mkdir(parents=True)
        (tmp_path / "dev" / label / "1.txt").write_text("hello")
    assert sizes(load_text_splits(tmp_path)[0]) == [10, 2, None]


# A column of splits.


@pytest.mark.parametrize("column", ["split", "Split", "subset", "partition"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_column_of_splits_is_read(tmp_path, column, suffix):
    named = ["Train", "train", "training", "dev", "test"] * 2
    rows = [(*row, split) for row, split in zip(ROWS, named, strict=True)]
    splits, _ = load_text_splits(table(tmp_path / f"a{suffix}", rows, ("text", "label", column)))
    assert sizes(splits) == [6, 2, 2]
    assert splits.notes == (f"read the splits from the column {column!r}",)


@pytest.mark.parametrize(
    "form", ["array.json", "packed.jsonl.gz", "bars.csv", "stated.csv", "folder/train.csv"]
)
def test_a_column_of_splits_is_read_whatever_the_form_of_the_table(tmp_path, form):
    header, named = ("text", "label", "split"), ["train", "train", "train", "dev", "test"] * 2
    rows = [(*row, split) for row, split in zip(ROWS, named, strict=True)]
    objects = [dict(zip(header, row, strict=True)) for row in rows]
    bars, commas = ("".join(sep.join(row) + "\n" for row in (header, *rows)) for sep in "|,")
    content = {
        "array.json": json.dumps(objects).encode(),
        "packed.jsonl.gz": gzip.compress("\n".join(map(json.dumps, objects)).encode()),
        "bars.csv": bars.encode(),
        "stated.csv": b"sep=,\n" + commas.encode(),
        "folder/train.csv": commas.encode(),
    }[form]
    path = tmp_path / form
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    splits, _ = load_text_splits(path.parent if path.parent != tmp_path else path)
    assert sizes(splits) == [6, 2, 2]
    assert splits.notes == ("read the splits from the column 'split'",)


def test_columns_that_are_not_used_are_named(tmp_path):
    rows = [(str(at), *row, "ada", "") for at, row in enumerate(ROWS)]
    header = ("id", "text", "label", "user", "")
    path = table(tmp_path / "a.csv", rows, header)
    assert load_text_splits(path)[0].notes == ("not used: 3 columns (id, user, 5)",)
    table(tmp_path / "b/train.csv", rows, header)
    table(tmp_path / "b/val.csv", rows, header)
    assert load_text_splits(tmp_path / "b")[0].notes == ("not used: 3 columns (id, user, 5)",)
    splits, _ = load_text_splits(table(tmp_path / "c.csv"), validation=path)
    assert splits.notes == (f"{path}: not used: 3 columns (id, user, 5)",)


def test_rows_of_no_split_are_named_and_other_columns_called_split_too(tmp_path):
    named = ["train", "train", "train", "dev", "hidden"] * 2
    rows = [(*row, split) for row, split in zip(ROWS, named, strict=True)]
    header = ("text", "label", "split")
    splits, _ = load_text_splits(table(tmp_path / "a.csv", rows, header))
    assert sizes(splits) == [6, 2, None]
    assert splits.notes[1] == "not used: rows 6, 11, whose split is 'hidden', which names no split"
    rows = [(*row, str(index % 5)) for index, row in enumerate(ROWS)]
    splits, _ = load_text_splits(table(tmp_path / "b.csv", rows, header))
    assert splits.notes == ("not used: the column 'split', which names no splits of the rows",)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.jpg", "a.7z"])
def test_archives_and_images_are_no_tables(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="a table or a folder, got the file"):
        load_text_splits(tmp_path / name)
