import pytest

from ktransfer.core import task as tasks
from ktransfer.core.modality import modality
from ktransfer.core.task import task_names
from ktransfer.errors import DataError
from ktransfer.tasks import single_label


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "reviews.csv"
    rows = [f"text {index},{index % 3 + 1}" for index in range(12)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_task_that_reads_classes_is_read_as_such(table, monkeypatch):
    class Stars(single_label.SingleLabel):
        name = "stars"

    monkeypatch.setitem(tasks._HOMES, "stars", "tests.stars")
    monkeypatch.setattr(tasks, "_load", {"stars": Stars(), "single_label": single_label.TASK}.__getitem__)
    splits, columns = modality("text").read(table, task="stars")
    assert splits.train.task.name == "stars"
    assert columns.task == "stars"
    splits, _ = modality("text").load_splits(table, task="stars", validation_fraction=0.25, seed=0)
    assert splits.validation.task is splits.train.task


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_task_that_there_is_none_of_is_named(kind, table):
    with pytest.raises(DataError, match=f"a task of {', '.join(task_names())}, got 'multilabel'"):
        modality(kind).read(table, task="multilabel")
