"""The made-up messages and the tiny backbone of the tutorials."""

import csv

import pytest

from ktransfer.demo.texts import TEXT_CLASSES, write_text_preset, write_text_task
from ktransfer.errors import DataError


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_messages_follow_from_the_seed_and_have_every_class(tmp_path):
    one, same, other = (
        rows(write_text_task(tmp_path / f"{name}.csv", rows=30, seed=seed))
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert one == same != other
    assert {row["label"] for row in one} == set(TEXT_CLASSES)
    assert len({row["text"] for row in one}) == len(one) == 30


def test_messages_of_several_topics_have_none_one_or_two_labels(tmp_path):
    sets = [row["label"].split("|") for row in rows(write_text_task(tmp_path / "a.csv", several_labels=True))]
    assert {len([label for label in labels if label]) for labels in sets} == {0, 1, 2}
    assert {label for labels in sets for label in labels} == {"", *TEXT_CLASSES}


def test_what_is_there_is_not_replaced_and_too_few_rows_are_refused(tmp_path):
    path = write_text_task(tmp_path / "a.csv", rows=3)
    before = path.read_text(encoding="utf-8")
    with pytest.raises(DataError, match=r"exists\. Remove it or name another"):
        write_text_task(path)
    assert path.read_text(encoding="utf-8") == before
    with pytest.raises(DataError, match="Expected at least 3 rows, got 2"):
        write_text_task(tmp_path / "b.csv", rows=2)
    with pytest.raises(DataError, match="Expected a path of a new folder"):
        write_text_preset(tmp_path)


def test_the_backbone_knows_every_word_of_the_messages(tmp_path):
    import keras_hub

    folder = write_text_preset(tmp_path / "tiny")
    tokenizer = keras_hub.models.Tokenizer.from_preset(str(folder))
    for row in rows(write_text_task(tmp_path / "a.csv", several_labels=True)):
        assert "[UNK]" not in [tokenizer.id_to_token(int(token)) for token in tokenizer(row["text"])]
