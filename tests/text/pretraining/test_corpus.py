import pytest

from ktransfer.errors import DataError
from ktransfer.text.pretraining.corpus import read_corpus, without_leaks

TEXTS = [f"text number {index}" for index in range(30)]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def folder(path):
    for index, text in enumerate(TEXTS[:10]):
        write(path / "notes" / f"{index}.txt", [text])
    write(path / "more.csv", ["text,label", *(f"{text},a" for text in TEXTS[10:])])
    write(path / "test" / "hidden.txt", ["a text to evaluate on"])
    write(path / "val.csv", ["text,label", "another one,a"])
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda path: write(path / "a.txt", TEXTS),
        lambda path: write(path / "a.csv", ["text,label", *(f"{text},x" for text in TEXTS)]),
        lambda path: write(path / "a.csv", ["label,sentence,id", *(f"x,{text},1" for text in TEXTS)]),
        lambda path: write(path / "a.jsonl", [f'{{"text": "{text}"}}' for text in TEXTS]),
        folder,
    ],
)
def test_texts_are_read_without_labels_and_some_held_out(tmp_path, make):
    corpus = read_corpus(make(tmp_path / "d"))
    assert sorted(text.strip() for text in corpus.train + corpus.held_out) == sorted(TEXTS)
    assert len(corpus.held_out) == 3


def test_what_is_named_as_validation_or_test_is_not_read(tmp_path):
    notes = read_corpus(folder(tmp_path / "d")).notes
    assert any("named as validation or test" in note for note in notes)


def test_empty_and_repeated_texts_are_left_out_with_their_number(tmp_path):
    corpus = read_corpus(write(tmp_path / "a.txt", [*TEXTS, "", "  ", TEXTS[0].upper()]))
    assert len(corpus.train) + len(corpus.held_out) == 30
    assert corpus.notes == (
        "left out   2 empty texts",
        "left out   1 texts that repeat an earlier one",
    )


@pytest.mark.parametrize(
    ("rows", "message"), [(["alike"] * 500, "got 1 of 500"), ([""] * 50, "got 0 of"), (TEXTS[:19], "got 19")]
)
def test_too_few_different_texts_are_refused(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read_corpus(write(tmp_path / "a.txt", rows))


@pytest.mark.parametrize("source", ["nowhere.txt", "tfds:imdb"])
def test_what_is_no_file_is_refused(tmp_path, source):
    with pytest.raises(DataError, match=r"Expected a table, a \.txt file or a folder"):
        read_corpus(source if source.startswith("tfds") else tmp_path / source)


def test_the_same_texts_are_held_out_for_a_seed(tmp_path):
    path = write(tmp_path / "a.txt", TEXTS)
    first, second, other = (read_corpus(path, seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first.held_out != other.held_out


class Split:
    def __init__(self, *texts):
        self.inputs = texts


def test_texts_of_validation_and_test_are_refused_or_left_out(tmp_path):
    corpus = read_corpus(write(tmp_path / "a.txt", TEXTS))
    splits = {"train": Split(*TEXTS[:5]), "validation": Split("TEXT number  7"), "test": Split(TEXTS[8])}
    with pytest.raises(DataError, match=r"got 1 of validation and 1 of test, such as"):
        without_leaks(corpus, splits)
    kept, lines = without_leaks(corpus, splits, leave_out=True)
    assert set(TEXTS) - set(kept.train + kept.held_out) == {TEXTS[7], TEXTS[8]}
    assert lines[0].startswith("labeled    5 texts are labeled training texts too")
    with pytest.raises(DataError, match="next to those"):
        without_leaks(corpus, {"test": Split(*TEXTS[:15])}, leave_out=True)


def test_pairs_leak_by_either_side(tmp_path):
    corpus = read_corpus(write(tmp_path / "a.txt", TEXTS))
    with pytest.raises(DataError, match="1 of test"):
        without_leaks(corpus, {"test": Split(("unseen", TEXTS[3]))})
