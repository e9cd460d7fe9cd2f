"""Answers to shards in a Parquet file: those of `Run.predict`, every row once, whatever ends the process."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from shard_files import WRITERS, picture
from text_zoo import write_preset

from ktransfer import cli
from ktransfer.commands import batch_predict, batch_sources
from ktransfer.commands.batch_engines import answers, engine_named, fastest
from ktransfer.commands.batch_predict import predict_batch
from ktransfer.commands.batch_sources import Columns
from ktransfer.commands.train import train
from ktransfer.core.task import get_task, task_names
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import DataError, ExportError, RunError
from ktransfer.recipes.recipe import Recipe
from ktransfer.tasks.token_classification import WordAnswers
from ktransfer.text.augmentation import TextAugmentation


def silent(line):
    """Take a line and show nothing."""


OPTIONS = {"verbose": 0, "say": silent}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    rows = [f"{'the fox' if i % 2 else 'you brown'} {i},{'animal' if i % 2 else 'other'}" for i in range(40)]
    (folder / "data.csv").write_text("\n".join(["text,label", *rows]))
    recipe = Recipe(stages=(), augmentation=TextAugmentation())
    preset = write_preset("Bert", folder)[1]
    return train(
        folder / "data.csv", preset, folder / "run", formats=["onnx", "tflite"], recipe=recipe, **OPTIONS
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    data = write_target_task(folder / "things", train_per_class=4, validation_per_class=2)
    return train(data, PRESET_PATH, folder / "run", formats=["onnx"], recipe=Recipe(stages=()), **OPTIONS)


@pytest.fixture
def blocks_of_ten(monkeypatch):
    monkeypatch.setattr(batch_sources, "BLOCK_ROWS", 10)


def sentences(count, seed=0):
    random = np.random.default_rng(seed)
    words = ("the", "quick", "brown", "fox", "you")
    return [f"{' '.join(random.choice(words, random.integers(1, 14)))} {at}" for at in range(count)]


def write_texts(folder, count=60, shards=3):
    found = sentences(count)
    folder.mkdir(exist_ok=True)
    for at in range(shards):
        pq.write_table(pa.table({"text": found[at::shards]}), folder / f"new-{at}.parquet", row_group_size=7)
    return [text for at in range(shards) for text in found[at::shards]]


def answers_in(path):
    return pq.read_table(path).to_pylist()


def assert_as_predicted(found, expected):
    """The answers of a file are those of `Run.predict`."""
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert row["error"] is None
        assert [each["label"] for each in row["predictions"]] == [each["label"] for each in wanted]
        given = [each["probability"] for each in row["predictions"]]
        assert given == pytest.approx([each["probability"] for each in wanted], abs=1e-4)


@pytest.mark.parametrize("artifact", ["keras", "onnx", "tflite", "auto"])
def test_answers_are_those_of_the_run_by_any_engine(texts, tmp_path, artifact):
    given = write_texts(tmp_path / "shards")
    out = tmp_path / "answers.parquet"
    result = predict_batch(texts, [str(tmp_path / "shards")], out, top_k=2, artifact=artifact, **OPTIONS)
    found = answers_in(out)
    assert_as_predicted(found, texts.predict(given, top_k=2))
    assert (result.rows, result.unanswered, result.resumed) == (60, 0, 0)
    names = [(Path(row["source"]).name, row["row"]) for row in found]
    assert names == [(f"new-{shard}.parquet", row) for shard in range(3) for row in range(20)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.parquet", "shards"]


@pytest.mark.parametrize("kind", WRITERS)
def test_images_of_each_kind_of_shard_are_answered(images, tmp_path, kind):
    random = np.random.default_rng(0)
    rows = [(picture(random.integers(0, 256, 3), (30, 20)), 0) for _ in range(7)]
    rows[4] = (b"no image", 0)
    for at, (content, _) in enumerate(rows):
        (tmp_path / f"{at}.png").write_bytes(content)
    WRITERS[kind](tmp_path / f"a.{kind}", rows)
    out = tmp_path / "answers.parquet"
    result = predict_batch(images, [str(tmp_path / f"a.{kind}")], out, artifact="onnx", **OPTIONS)
    assert (result.rows, result.unanswered) == (7, 1)
    found = answers_in(out)
    assert found[4]["predictions"] is None
    assert "cannot be decoded" in found[4]["error"]
    kept = [at for at in range(7) if at != 4]
    expected = images.predict([tmp_path / f"{at}.png" for at in kept], top_k=3)
    assert_as_predicted([found[at] for at in kept], expected)


def test_folders_of_files_and_tables_are_answered_too(images, texts, tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.png", "deep/a.png"):
        Image.new("RGB", (9, 9), (200, 10, 10)).save(folder / name)
    (folder / "notes.txt").write_text("notes")
    lines = []
    predict_batch(images, [str(folder)], tmp_path / "a.parquet", artifact="onnx", say=lines.append)
    assert [Path(row["source"]).name for row in answers_in(tmp_path / "a.parquet")] == ["b.png", "a.png"]
    assert any(line.startswith("skipped    1 files") for line in lines)
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "new.csv").write_text("text\nthe fox\nyou brown\n")
    (tmp_path / "t" / "one.txt").write_text("quick fox")
    predict_batch(texts, [str(tmp_path / "t")], tmp_path / "b.parquet", artifact="onnx", **OPTIONS)
    assert_as_predicted(
        answers_in(tmp_path / "b.parquet"), texts.predict(["the fox", "you brown", "quick fox"], top_k=3)
    )


def test_shards_of_a_store_are_answered(texts, tmp_path):
    given = write_texts(tmp_path / "shards")
    files = fsspec.filesystem("memory")
    for path in (tmp_path / "shards").iterdir():
        files.pipe(f"/new/{path.name}", path.read_bytes())
    out = tmp_path / "answers.parquet"
    predict_batch(texts, ["memory://new/*.parquet"], out, artifact="onnx", **OPTIONS)
    assert_as_predicted(answers_in(out), texts.predict(given, top_k=3))


@pytest.mark.parametrize("ends", [(0,), (1,), (3,), (2, 2), (1, 1, 1)])
def test_every_row_is_answered_once_wherever_the_process_ends(
    texts, tmp_path, monkeypatch, blocks_of_ten, ends
):
    given = write_texts(tmp_path / "shards")
    out = tmp_path / "answers.parquet"
    answered, real, left = [], batch_predict.answers, [0]

    def counted(engine, encoded, pool):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        answered.extend(ids.tolist() for ids in encoded.examples)
        return real(engine, encoded, pool)

    monkeypatch.setattr(batch_predict, "answers", counted)
    for end in (*ends, None):
        left[0] = -1 if end is None else end
        if end is not None:
            with pytest.raises(KeyboardInterrupt):
                predict_batch(texts, [str(tmp_path / "shards")], out, artifact="onnx", **OPTIONS)
            assert not out.exists()
        else:
            result = predict_batch(texts, [str(tmp_path / "shards")], out, artifact="onnx", **OPTIONS)
    assert answered == [ids.tolist() for ids in texts.preprocessing.tokenize(given)]
    assert result.resumed == 10 * sum(ends)
    assert_as_predicted(answers_in(out), texts.predict(given, top_k=3))


def test_answers_begun_with_something_else_are_not_resumed(texts, tmp_path, monkeypatch, blocks_of_ten):
    write_texts(tmp_path / "shards")
    out = tmp_path / "answers.parquet"

    def ended(*_):
        raise KeyboardInterrupt

    real = batch_predict.answers
    monkeypatch.setattr(batch_predict, "answers", ended)
    with pytest.raises(KeyboardInterrupt):
        predict_batch(texts, [str(tmp_path / "shards")], out, artifact="onnx", **OPTIONS)
    monkeypatch.setattr(batch_predict, "answers", real)
    with pytest.raises(RunError, match="another top_k"):
        predict_batch(texts, [str(tmp_path / "shards")], out, artifact="onnx", top_k=1, **OPTIONS)
    columns = Columns(asked=("text",))
    with pytest.raises(RunError, match="another columns"):
        predict_batch(texts, [str(tmp_path / "shards")], out, artifact="onnx", columns=columns, **OPTIONS)
    write_texts(tmp_path / "shards", count=90)
    with pytest.raises(RunError, match="another sources"):
        predict_batch(texts, [str(tmp_path / "shards")], out, artifact="onnx", **OPTIONS)


def test_what_cannot_be_answered_leaves_nothing_behind(texts, tmp_path):
    write_texts(tmp_path / "shards")
    content = (tmp_path / "shards" / "new-1.parquet").read_bytes()
    (tmp_path / "shards" / "new-1.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"new-1\.parquet"):
        predict_batch(texts, [str(tmp_path / "shards")], tmp_path / "a.parquet", artifact="onnx", **OPTIONS)
    pq.write_table(pa.table({"number": [1, 2]}), tmp_path / "shards" / "new-1.parquet")
    with pytest.raises(DataError, match=r"a field of texts in .*new-1\.parquet"):
        predict_batch(texts, [str(tmp_path / "shards")], tmp_path / "a.parquet", artifact="onnx", **OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]


def test_texts_are_answered_by_their_tokens_and_padded_to_the_longest(texts, monkeypatch):
    engine, lengths = engine_named(texts, "onnx"), []
    given = ["the " * 9, "unknownwordoflength", "the " * 5] * 32
    encoded = engine.encode(given)
    real = engine.predict_on_batch
    monkeypatch.setattr(
        engine,
        "predict_on_batch",
        lambda inputs: lengths.append(inputs["token_ids"].shape[1]) or real(inputs),
    )
    with ThreadPoolExecutor(1) as pool:
        found = answers(engine, encoded, pool)
    assert lengths == sorted({len(ids) for ids in texts.preprocessing.tokenize(given)})
    assert np.stack(found) == pytest.approx(texts.predict_probabilities(given), abs=1e-5)


def test_an_artifact_that_was_changed_is_not_used(texts, tmp_path):
    path = texts.path / "artifacts" / "model.onnx"
    before = path.read_bytes()
    lines = []
    try:
        path.write_bytes(before + b"\0")
        with pytest.raises(ExportError, match="was changed since it was verified"):
            engine_named(texts, "onnx")
        assert fastest(texts, sentences(40), lines.append).name in ("keras", "tflite")
    finally:
        path.write_bytes(before)
    assert lines[0].startswith("not used   artifacts/model.onnx")
    with pytest.raises(ExportError, match=r"one of keras, onnx( and|,) tflite"):
        engine_named(texts, "onnx-int8")


def test_the_command_writes_a_file_and_refuses_what_it_cannot(texts, tmp_path, monkeypatch, capsys):
    write_texts(tmp_path / "shards")
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["ktransfer", "predict", str(texts.path), *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr()

    code, shown = command("shards/*.parquet", "--out", "a.parquet", "--artifact", "onnx", "--json")
    assert (code, json.loads(shown.out)["rows"]) == (0, 60)
    for arguments, message in (
        (["shards", "--out", "a.parquet"], "which exists"),
        (["shards", "--out", "a.csv"], "named .parquet"),
        (["shards", "--out", "none/a.parquet"], "a folder that exists"),
        (["none", "--out", "b.parquet"], "got none"),
        (["a text", "--artifact", "onnx"], "Expected --out"),
        (["shards", "--out", "b.parquet", "--file-column", "image"], "--file-column"),
        (["shards", "--out", "b.parquet", "--artifact", "onnx", "--text-column", "nothing"], "'nothing'"),
    ):
        code, shown = command(*arguments)
        assert code == 2, arguments
        [line] = shown.err.strip().splitlines()[-1:]
        assert message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "shards"]


@pytest.mark.slow
def test_two_kills_lose_no_row_and_repeat_none(texts, tmp_path):
    given = write_texts(tmp_path / "shards", count=60_000, shards=6)
    out = tmp_path / "answers.parquet"
    command = [sys.executable, "-m", "ktransfer", "predict", texts.path, tmp_path / "shards", "--out", out]
    parts = tmp_path / ".answers.parquet.parts"
    for kill in (1, 2):
        process = subprocess.Popen([*map(str, command), "--artifact", "onnx"], stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(parts.glob("*-*.parquet"))) < 3 * kill:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not out.exists()
    subprocess.run([*map(str, command), "--artifact", "onnx"], check=True, capture_output=True)
    found = pq.read_table(out, columns=["source", "row"]).to_pylist()
    assert len({(row["source"], row["row"]) for row in found}) == len(found) == len(given)


@pytest.mark.parametrize("name", task_names())
def test_the_answers_of_each_task_have_the_fields_that_it_names(name):
    task = get_task(name)
    kinds = {"text": str, "float": float, "floats": list, "int": int, "bool": bool}
    if task.per_token:
        probabilities = WordAnswers("In Rome", [(0, 2), (3, 7)], np.eye(3)[[0, 1]])
        decision = None
    else:
        probabilities, decision = np.array([0.7, 0.2, 0.1]), None
    found = task.answers(probabilities, ("a", "b", "c"), decision, top_k=2)
    assert found
    for answer in found:
        assert answer.keys() <= task.answer_fields.keys()
        for key, value in answer.items():
            assert isinstance(value, kinds[task.answer_fields[key]])
