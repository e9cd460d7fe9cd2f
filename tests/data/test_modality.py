import pytest

from ktransfer.data.modality import IMAGES, TEXTS, find_task


@pytest.mark.parametrize(
    ("files", "task"),
    [
        (["roses/1.jpg", "tulips/2.PNG"], IMAGES),
        (["train/roses/1.jpg", "LICENSE.txt", "labels.csv"], IMAGES),
        (["ham/1.txt", "spam/2.txt"], TEXTS),
        (["train.csv", "test.csv", "README.txt"], TEXTS),
        (["train/ham/1.txt", "train/spam/1.txt"], TEXTS),
        (["README.txt"], IMAGES),
        ([".cache/1.jpg", "ham/1.txt"], TEXTS),
        # One picture makes no images of a folder of texts, wherever it lies.
        (["train.csv", "logo.png"], TEXTS),
        (["train.csv", "dev.tsv", "plots/a.png", "plots/b.png"], TEXTS),
        (["Training_set.jsonl", "a/1.png", "b/1.png"], TEXTS),
        (["reviews.csv", "logo.png"], TEXTS),
        (["reviews.csv", "assets/logo.png"], TEXTS),
        (["data/train-00000-of-00001.parquet", "assets/plot.png", "README.md"], TEXTS),
        (["x/train.csv", "x/logo.png"], TEXTS),
        (["ham/1.txt", "ham/2.txt", "spam/3.txt", "spam/scan.jpg"], TEXTS),
        (["ham/1.txt", "spam/3.txt", "logo.png"], TEXTS),
        (["train/ham/1.txt", "train/spam/1.txt", "train/plot.png"], TEXTS),
        (["train.txt", "val.txt"], TEXTS),
        # Text files of images make no texts of them.
        (["a/1.jpg", "a/1.txt", "b/1.jpg", "b/1.txt"], IMAGES),
        (["a/1.jpg", "b/1.jpg", "notes.txt", "labels.csv", "classes.csv"], IMAGES),
        (["train.txt", "train/a/1.jpg", "train/b/1.jpg"], IMAGES),
        (["__MACOSX/1.jpg", "@eaDir/2.jpg", "train.csv"], TEXTS),
        (["1.jpg", "2.jpg"], IMAGES),
    ],
)
def test_the_task_follows_from_the_files(files, task, tmp_path):
    for name in files:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert find_task(tmp_path / "data") == task


def test_a_file_is_a_table_and_what_is_missing_is_what_its_name_says(tmp_path):
    (tmp_path / "SMSSpamCollection").touch()
    assert find_task(tmp_path / "SMSSpamCollection") == TEXTS
    assert find_task(tmp_path / "none.csv") == TEXTS
    assert find_task(tmp_path / "flowers") == IMAGES


@pytest.mark.parametrize("rows", [["train/a/1.jpg,a", "train/b/1.JPEG,b"], ["1.tiff,a", "2.heic.png,b"]])
def test_a_training_table_of_image_files_is_no_table_of_texts(tmp_path, rows):
    for name in ("train/a/1.jpg", "train/b/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "train.csv").write_text("\n".join(["file,label", *rows]))
    assert find_task(tmp_path) == IMAGES
    (tmp_path / "train.csv").write_text("\n".join(["text,label", "see you,a", "win now,b"]))
    assert find_task(tmp_path) == TEXTS


def test_a_table_of_more_rows_than_there_are_images_is_of_texts(tmp_path):
    for name in ("plots/1.jpg", "figures/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "reviews.csv").write_text("".join(f"text {index},a\n" for index in range(9)))
    assert find_task(tmp_path) == TEXTS
