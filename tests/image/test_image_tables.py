"""Tables that name image files: beside class folders, in place of them, and what is wrong with them."""

import csv
import json
from pathlib import Path

import pytest
from images import class_folders, draw

from ktransfer.data.modality import IMAGES, TEXTS, find_modality, find_task
from ktransfer.errors import DataError
from ktransfer.image.sources import load_image_splits, load_splits, read_data, read_images

SHARED = Path(__file__).resolve().parents[3] / "shared"
FILES = ["a/1.png", "a/2.PNG", "b/3.png", "4.png"]


def table(path, rows, header=("file", "label")):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
    elif path.suffix == ".parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(
            pyarrow.Table.from_pylist([dict(zip(header, row, strict=True)) for row in rows]), path
        )
    else:
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([header, *rows] if header else rows)
    return path


@pytest.fixture
def folder(tmp_path):
    for at, name in enumerate(FILES):
        draw(tmp_path / "data" / name, seed=at)
    return tmp_path / "data"


def below(examples, folder):
    return [Path(path).relative_to(folder).as_posix() for path in examples.inputs]


ROWS = list(zip(FILES, ["mug", "key", "mug", "key"], strict=True))


@pytest.mark.parametrize("name", ["train.csv", "train.tsv", "train.jsonl", "train.parquet"])
@pytest.mark.parametrize("column", ["file", "Filename", "image_path", "which"])
def test_a_table_of_image_files_is_read_in_every_format_under_every_usual_name(folder, name, column):
    path = table(folder / name, ROWS, (column, "label"))
    for data in (folder, path):
        assert find_task(data) == IMAGES
        splits, columns = read_images(data)
        assert below(splits.train, folder) == FILES
        assert splits.train.counts() == {"key": 2, "mug": 2}
        assert splits.train.kind == "file"
        assert columns.facts() == {
            "file_column": column,
            "label_column": "label",
            "group_column": None,
            "label_separator": None,
            "task": "single_label",
        }
        assert columns.line() == f"image files {column!r}, labels 'label', guessed"


def test_sets_of_labels_and_tables_of_splits_are_read(folder):
    table(folder / "train.csv", [("a/1.png", "mug|key"), ("a/2.PNG", "key|mug"), ("b/3.png", "")])
    table(folder / "dev.csv", [("4.png", "mug")])
    splits, columns = read_images(folder)
    assert splits.train.task.name == "multi_label"
    assert splits.train.labels.tolist() == [[1, 1], [1, 1], [0, 0]]
    assert splits.validation.labels.tolist() == [[0, 1]]
    assert (columns.separator, columns.task) == ("|", "multi_label")
    assert splits.notes == (
        "read dev.csv as validation",
        "read train.csv, dev.csv; folders are not read as classes, as they say something else",
        "labels are lists separated by '|': multi-label with 2 labels (task=\"single_label\" takes each cell as one "
        "class)",
        "rows without any label: 1 of 3 in train",
    )
    again, _ = find_modality(folder).read(folder, **columns.facts())
    assert again.train.fingerprint() == splits.train.fingerprint()


def test_columns_of_ones_and_zeros_next_to_files_are_labels(folder):
    rows = [(name, at % 2, at // 2) for at, name in enumerate(FILES)]
    splits, columns = read_images(table(folder / "a.csv", rows, ("file", "mug", "key")))
    assert (columns.label, columns.task) == ("mug,key", "multi_label")
    assert splits.train.labels.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_a_table_without_a_header_is_read(folder):
    splits, columns = read_images(table(folder / "a.csv", ROWS, None))
    assert (columns.input, columns.label, columns.header, len(splits.train)) == ("1", "2", False, 4)
    # A label that does not come again, or none, makes no header of the name of a file.
    for label in ("once", ""):
        path = table(folder / "a.csv", [(FILES[0], label), *ROWS[1:]], None)
        assert len(read_images(path, task="multi_label")[0].train) == 4


def test_a_column_of_files_can_be_named(folder):
    rows = [(name, other, label) for (name, label), other in zip(ROWS, reversed(FILES), strict=True)]
    path = table(folder / "a.csv", rows, ("left", "right", "label"))
    with pytest.raises(
        DataError, match=r"columns of image files and of labels .*--file-column and --label-column"
    ):
        read_images(path)
    assert below(read_images(path, file_column="right")[0].train, folder) == FILES[::-1]


def test_images_that_no_table_names_are_one_note(folder):
    table(folder / "train.csv", ROWS[:2])
    for name in ("a/more.png", ".hidden/x.png", "a/._1.png", "masks/1.png"):
        draw(folder / name)
    assert read_data(folder, file_column="file").notes == (
        "not used: left by other programs, 1 .hidden/",
        "not used: 4 images (4.png, a/more.png, b/3.png, ...) that no table names",
    )
    # Of a table by itself, folders that it does not lead to are not looked at.
    assert read_data(folder / "train.csv").notes == ("not used: 1 image (a/more.png) that no table names",)


def test_paths_with_backslashes_and_dots_are_read(folder):
    rows = [("a\\1.png", "mug"), ("./a/../a/2.PNG", "key"), (" b/3.png ", "mug"), ("4.png", "key")]
    assert below(read_data(table(folder / "a.csv", rows)).train, folder) == FILES


def test_a_decomposed_name_of_a_file_is_found(folder):
    for name, written in (("e\u0301.png", "\u00e9.png"), ("\u00e8.png", "e\u0300.png")):
        draw(folder / name)
        assert len(read_data(table(folder / "a.csv", [*ROWS, (written, "mug")])).train) == 5


def test_links_within_the_folder_are_followed(folder, tmp_path):
    (folder / "linked").symlink_to(draw_folder(tmp_path / "outside"), target_is_directory=True)
    rows = [("linked/x.png", "mug"), ("a/1.png", "key")]
    assert len(read_data(table(folder / "a.csv", rows)).train) == 2


def draw_folder(path):
    draw(path / "x.png")
    return path


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["gone.png"],
            r"files that are there in column 'file' of .*a\.csv, got 'gone\.png' in row 6\. Add it",
        ),
        (
            [f"gone{at}.png" for at in range(5)],
            r"got 'gone0\.png' in rows 6, 7, 8 and 2 more\. 5 of 9 are missing",
        ),
        (["1.png"], r"'1\.png' in row 6\. There is a/1\.png: write paths that are relative to"),
        (["b/3"], r"'b/3' in row 6\. There is b/3\.png"),
        (["a"], r"files that are there .*got 'a' in row 6"),
        (["/etc/passwd.png"], r"paths that are relative to the folder of the table .*in row 6"),
        (
            ["~/x.png", "C:\\x.png", "\\\\host\\x.png"],
            r"paths that are relative .*got '~/x\.png' in rows 6, 7, 8",
        ),
        (["../x.png", "a/../../x.png", "..\\x.png"], r"paths that stay within the folder .*in rows 6, 7, 8"),
        (["https://example.org/x.png"], r"names of files .*got 'https.* in row 6\. Download"),
        (["", " "], r"the name of an image file|the name of a file in every row .*got '' in rows 6, 7"),
        (["notes.txt"], r"images \(\.jpg .*got 'notes\.txt' in row 6\. Pass the column that names images"),
        (["drawing.svg"], r"images of formats that are read .*'drawing\.svg' in row 6\. Convert them"),
        (["a/\x1b.png"], r"names of files .*got 'a/\\x1b\.png'|names of files .*in row 6"),
    ],
)
def test_what_names_no_file_within_the_folder_is_refused_with_its_rows(folder, cells, message):
    (folder / "notes.txt").write_text("x")
    (folder / "drawing.svg").write_text("x")
    path = table(folder / "a.csv", [*ROWS, *((cell, "mug") for cell in cells)])
    with pytest.raises(DataError, match=message):
        read_images(path)


@pytest.mark.parametrize("value", [None, 5, ["a/1.png"], "a/\u0000.png", "a/\ud800.png", "x" * 5000 + ".png"])
def test_cells_that_are_no_names_are_refused(folder, value):
    path = table(folder / "a.jsonl", [*ROWS, (value, "mug")])
    with pytest.raises(DataError, match=r"Expected (names of files|the name of a file).* in row 5"):
        read_images(path)


def test_files_of_several_rows_are_told(folder):
    rows = [*ROWS, ("a/1.png", "mug"), ("a/../4.png", "key"), ("b/3.png", "key")]
    splits = read_data(table(folder / "a.csv", rows))
    assert len(splits.train) == 5
    again, differ = splits.notes
    assert again.endswith("a.csv, which say the same of image files that are listed before")
    assert again.startswith("not used: rows 6, 7 of ")
    assert differ.startswith("image files that ")
    assert differ.endswith("b/3.png in rows 4, 8; write all labels of a file into one row")


def test_a_given_table_is_validated_on(folder, tmp_path):
    for name in ("a/x.png", "b/y.png"):
        draw(tmp_path / "other" / name, seed=9)
    table(folder / "train.csv", ROWS)
    other = table(tmp_path / "other" / "o.csv", [("a/x.png", "mug")])
    splits = load_splits(folder, validation=other)
    assert below(splits.validation, tmp_path / "other") == ["a/x.png"]
    classes = class_folders(tmp_path / "classes", {"mug": 2, "key": 2})
    assert len(load_splits(folder, validation=classes).validation) == 4
    assert len(load_splits(classes, validation=other).validation) == 1
    unknown = table(tmp_path / "other" / "u.csv", [("a/x.png", "cup")])
    with pytest.raises(DataError, match=r"out of key, mug, got 'cup' in row 2 of column 'label' of .*u\.csv"):
        load_splits(folder, validation=unknown)
    sets = table(folder / "sets.csv", [("a/1.png", "mug|key"), ("a/2.PNG", "key|mug"), ("4.png", "mug")])
    with pytest.raises(DataError, match="a table to validate on, as the data is multi-label, got the folder"):
        load_splits(sets, validation=classes)


def test_groups_are_those_of_a_column_or_of_a_function_of_the_name(folder):
    rows = [(name, label, name[0]) for name, label in ROWS]
    path = table(folder / "a.csv", rows, ("file", "label", "drive"))
    splits, columns = read_images(path, group_column="drive")
    assert splits.train.groups == ("a", "a", "b", "4")
    assert columns.facts()["group_column"] == "drive"
    splits, _ = read_images(path, group_by=lambda name: name.split("/")[0])
    assert splits.train.groups == ("a", "a", "b", "4.png")
    classes = class_folders(folder / "classes", {"mug": 3, "key": 3})
    splits = read_data(classes, group_by=lambda name: name.split("/")[1])
    assert splits.train.groups == ("000.png", "001.png", "002.png") * 2
    with pytest.raises(DataError, match=r"a table for group_column='drive', got .*function of the file name"):
        read_data(classes, group_column="drive")
    with pytest.raises(DataError, match=r"several groups in group_by of .*only 'x'"):
        read_data(classes, group_by=lambda name: "x")


def test_class_folders_say_which_options_they_do_not_need(tmp_path):
    classes = class_folders(tmp_path, {"mug": 2, "key": 2})
    splits, columns = read_images(classes, file_column="file", label_column="x", encoding="latin-1")
    assert columns is None
    assert splits.notes == (
        "not used: file_column='file' and label_column='x' and encoding='latin-1', as folders are the classes",
    )


# Tables next to class folders.


def both(tmp_path, rows):
    class_folders(tmp_path / "train", {"mug": 2, "key": 2})
    table(tmp_path / "train.csv", rows)
    return tmp_path


AGREE = [(f"train/{label}/{at:03}.png", label) for label in ("mug", "key") for at in range(2)]


def test_class_folders_are_read_where_tables_say_the_same(tmp_path):
    splits, columns = read_images(both(tmp_path, AGREE))
    assert (columns, len(splits.train)) == (None, 4)
    assert splits.notes[-1] == "not used: train.csv, as folders are the classes and say the same"
    splits, columns = read_images(tmp_path, file_column="file")
    assert (columns.input, len(splits.train)) == ("file", 4)


def test_tables_are_read_where_they_say_something_else_than_class_folders(tmp_path):
    differ = [(name, "cup" if at else label) for at, (name, label) in enumerate(AGREE)]
    splits, _ = read_images(both(tmp_path, differ))
    assert splits.train.counts() == {"cup": 3, "mug": 1}
    assert splits.notes == ("read train.csv; folders are not read as classes, as they say something else",)
    assert read_images(tmp_path / "train")[0].train.counts() == {"key": 2, "mug": 2}
    table(tmp_path / "train.csv", [*differ, ("gone.png", "cup")])
    with pytest.raises(DataError, match=r"'gone\.png' in row 6.* Or move train\.csv out of .*class folders"):
        read_images(tmp_path)


def test_class_folders_by_another_name_say_the_same(tmp_path):
    splits, columns = read_images(both(tmp_path, [(name, label.upper()) for name, label in AGREE]))
    assert (columns, splits.train.class_names) == (None, ("key", "mug"))


def test_tables_that_name_no_labels_leave_class_folders_as_they_are(tmp_path):
    class_folders(tmp_path / "train", {"mug": 2, "key": 2})
    for rows, reason in (
        ([(name, 100 + at % 2, 200) for at, (name, _) in enumerate(AGREE)], "Expected to know the columns"),
        (
            [(name, 100 + at, 200) for at, (name, _) in enumerate(AGREE)],
            "its column 'height' may hold no labels)",
        ),
    ):
        table(tmp_path / "train.csv", rows, ("file", "width", "height"))
        splits, columns = read_images(tmp_path)
        assert (columns, len(splits.train)) == (None, 4)
        assert splits.notes[-1].startswith(f"not used: train.csv, as folders are the classes ({reason}")


def test_a_table_of_another_name_says_to_pass_it(folder):
    table(folder / "labels.csv", ROWS)
    for name in FILES:
        (folder / name).rename(folder / "a" / Path(name).name) if not name.startswith("a/") else None
    with pytest.raises(DataError, match=r"Expected train\.csv .*got labels\.csv\. Pass that file itself"):
        read_data(folder)


def test_the_only_folder_is_looked_through(folder, tmp_path):
    table(folder / "train.csv", ROWS)
    assert find_task(tmp_path) == IMAGES
    assert len(read_data(tmp_path).train) == 4


def test_metadata_within_folders_of_splits_is_read(tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        for at in range(count):
            draw(tmp_path / split / f"{at}.png", seed=at)
        rows = [(f"{at}.png", "ab"[at % 2]) for at in range(count)]
        table(tmp_path / split / "metadata.csv", rows, ("file_name", "label"))
    splits, columns = read_images(tmp_path)
    assert (columns.input, len(splits.train), len(splits.test)) == ("file_name", 4, 2)


def test_files_of_a_table_are_named_below_its_folder(folder):
    path = table(folder / "a.csv", ROWS)
    key = find_modality(path).item_keys(path)
    assert [key(name, "") for name in read_data(path).train.inputs] == FILES


# Detection.


@pytest.mark.parametrize(
    ("content", "task"),
    [
        ("file,label\na/1.png,x\nb/2.png,y\n", IMAGES),
        ('{"path": "a/1.png", "label": 1}\n{"path": "a/2.png", "label": 1}\n', IMAGES),
        ("1.png;x\n2.png;y\n", IMAGES),
        ("text,label\nsee 1.png,x\nsee 2.png,y\n", TEXTS),
        ("text,image,label\nhello,1.png,x\nso,2.png,y\n", TEXTS),
        ("title,image,label\nhello,https://example.org/1.png,x\nso,https://example.org/2.png,y\n", TEXTS),
        ("words,label\nhello,x\nsee 2.png,y\nso,x\n", TEXTS),
        ("words,label\nhttp://example.org/a.png.html,x\nx.pngs,y\n", TEXTS),
        ("file,label\n", TEXTS),
        ("", TEXTS),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a", "a.jsonl"])
def test_a_table_is_of_images_where_its_rows_name_image_files(tmp_path, content, task, name):
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert find_task(tmp_path / name) == task


def test_packed_and_damaged_tables_are_looked_into(tmp_path):
    import bz2
    import gzip
    import lzma
    import zipfile

    content = b"file,label\na/1.png,x\nb/2.png,y\n"
    for suffix, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        path = tmp_path / f"a.csv{suffix}"
        path.write_bytes(pack(content))
        assert find_task(path) == IMAGES
        path.write_bytes(pack(content)[:9])
        assert find_task(path) == TEXTS
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a.csv", content)
    assert find_task(tmp_path / "a.csv.zip") == IMAGES
    (tmp_path / "b.csv.zip").write_bytes(b"PK\x03\x04")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    (tmp_path / "b.csv").write_bytes("file,label\n1.png,x\n".encode("utf-16"))
    assert [find_task(tmp_path / name) for name in ("b.csv.zip", "b.csv")] == [TEXTS, IMAGES]
    with pytest.raises(DataError, match=r"Expected a Parquet file in .*b\.parquet"):
        find_task(tmp_path / "b.parquet")


# Real data, where it is.


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip("real data is not here")
    return SHARED / name


def test_camvid_tags_are_sets_of_labels_of_images():
    data = shared("data/camvid_tags")
    assert find_task(data) == IMAGES
    splits, columns = read_images(data)
    parts = (splits.train, splits.validation, splits.test)
    assert [part.labels.shape for part in parts] == [(184, 8), (101, 8), (117, 8)]
    names = ("bicyclist", "car", "fence", "pavement", "pedestrian", "pole", "sign", "tree")
    assert splits.train.class_names == names
    assert splits.train.counts()["bicyclist"] == 28
    assert splits.validation.counts()["fence"] == 101
    assert columns.line() == "image files 'file', labels 'labels' separated by '|', guessed"
    assert splits.notes[-1].startswith("not used: 402 images (masks/")


def test_drives_of_camvid_are_groups_of_which_two_splits_share_one():
    data = shared("data/camvid_tags")

    def drive(name):
        return name.split("/")[1].split("_")[0]

    splits, _ = load_image_splits(data / "train.csv", validation=data / "test.csv", group_by=drive)
    assert set(splits.train.groups) == {"0001TP", "0006R0", "0016E5"}
    assert "31 of 117 rows of validation are of groups that train has too: 0001TP" in splits.notes
    splits, _ = load_image_splits(data / "train.csv", group_by=drive, seed=1)
    assert not set(splits.train.groups) & set(splits.validation.groups)


def test_prices_of_houses_are_no_classes():
    with pytest.raises(DataError, match="numbers that hardly repeat"):
        read_images(shared("data/houses/prices.csv"))
    with pytest.raises(DataError, match=r"got prices\.csv\. Pass that file itself"):
        read_images(shared("data/houses"))


def test_a_real_table_of_files_that_are_not_there_is_refused():
    assert find_task(shared("cases/tables/file_column.csv")) == IMAGES
    with pytest.raises(DataError, match=r"'dog_000\.jpg' in rows 2, 3, 4 and 9 more\. 12 of 12 are missing"):
        read_images(shared("cases/tables/file_column.csv"))
