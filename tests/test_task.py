import pytest

from ktransfer.data.task import IMAGES, TEXTS, find_task


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
