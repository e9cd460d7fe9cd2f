"""What `benchmark` measures and writes; how fast anything is, is not held."""

import json
import shutil
import sys

import numpy as np
import pytest
from text_zoo import write_preset

from ktransfer import cli
from ktransfer.commands.artifacts import validation_examples
from ktransfer.commands.benchmark import BATCH, benchmark, pieces
from ktransfer.commands.splits import evenly
from ktransfer.commands.train import train
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import DataError, RunError
from ktransfer.recipes.recipe import Recipe
from ktransfer.runs.run import Run
from ktransfer.text.augmentation import TextAugmentation

OPTIONS = {"recipe": Recipe(stages=()), "verbose": 0, "say": lambda line: None}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = write_target_task(
        tmp_path_factory.mktemp("d") / "things", train_per_class=4, validation_per_class=2
    )
    out = tmp_path_factory.mktemp("r") / "run"
    return train(data, PRESET_PATH, out, formats=["onnx", "tflite"], **OPTIONS)


def test_each_artifact_is_measured_beside_keras_printed_and_written_down(monkeypatch, capsys, run):
    arguments = ["benchmark", run.path, "--examples", 11, "--rounds", 2, "--threads", 1]
    monkeypatch.setattr(sys, "argv", ["ktransfer", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        cli.main()
    out = capsys.readouterr().out
    assert not end.value.code
    assert [line.split()[0] for line in out.splitlines() if "%" in line] == ["keras", "onnx", "tflite"]
    assert "11 of 12 validation examples" in out
    result = json.loads((run.path / "benchmark.json").read_text(encoding="utf-8"))
    rows = {row["format"]: row for row in result["measured"]}
    judged = evenly(validation_examples(run), 11)
    accuracy = (run.predict_probabilities(judged.inputs).argmax(-1) == judged.labels).mean()
    for row in rows.values():
        assert row["accuracy"] == pytest.approx(accuracy)
        assert row["label_agreement"] == 1
        assert row["max_abs_delta"] < 1e-4
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"]
        assert row["batch"] == (1 if row["format"] == "tflite" else BATCH)
        assert row["examples_per_s"] > 0
        assert row["speedup"] > 0
    assert rows["keras"]["speedup"] == 1
    assert rows["keras"]["size_bytes"] == (run.path / "model.keras").stat().st_size
    assert rows["onnx"]["size_bytes"] == (run.path / "artifacts" / "model.onnx").stat().st_size
    assert (result["examples"], result["of"], result["rounds"], result["threads"]) == (11, 12, 2, 1)
    assert result["machine"]["processor"]


def test_ids_of_texts_are_measured(tmp_path):
    rows = [f"{'the fox' if i % 2 else 'you brown'} {i},{'animal' if i % 2 else 'other'}" for i in range(40)]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]))
    preset = write_preset("Bert", tmp_path)[1]
    options = OPTIONS | {"recipe": Recipe(stages=(), augmentation=TextAugmentation())}
    run = train(tmp_path / "data.csv", preset, tmp_path / "run", formats=["onnx"], **options)
    keras, onnx = benchmark(run, threads=1, rounds=1).measured
    assert onnx.label_agreement == 1
    assert onnx.accuracy == keras.accuracy == pytest.approx(run.manifest["metrics"]["validation"])


@pytest.fixture
def copied(run, tmp_path):
    return Run.load(shutil.copytree(run.path, tmp_path / "run", ignore=lambda *_: ["benchmark.json"]))


def test_what_is_not_as_exported_is_not_measured(copied):
    path = copied.path / "artifacts" / "model.onnx"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(RunError, match=r"model\.onnx as it was exported, got .*ktransfer verify"):
        benchmark(copied)
    path.unlink()
    with pytest.raises(RunError, match="got no file"):
        benchmark(copied)
    copied.update(artifacts=[])
    with pytest.raises(RunError, match="ktransfer export"):
        benchmark(copied)
    assert not (copied.path / "benchmark.json").exists()


def test_validation_data_of_other_classes_is_refused(copied, tmp_path):
    data = shutil.copytree(copied.manifest["data"]["source"], tmp_path / "data")
    for part in ("train", "val"):
        (data / part / "mug").rename(data / part / "teapot")
    copied.manifest["data"]["source"] = str(data)
    with pytest.raises(DataError, match="teapot"):
        benchmark(copied)


def test_an_artifact_of_one_batch_and_length_is_given_these():
    ids = np.array([[5, 6], [7, 8], [9, 1]], np.int32)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    first, last = pieces(inputs, fixed={"batch": 2, "sequence": 4}, pad_token_id=3)
    assert first["token_ids"].tolist() == [[5, 6, 3, 3], [7, 8, 3, 3]]
    assert last["token_ids"].tolist() == [[9, 1, 3, 3], [5, 6, 3, 3]]
    assert last["padding_mask"].tolist() == [[1, 1, 0, 0]] * 2
    [whole] = pieces(inputs, fixed={}, pad_token_id=3)
    assert whole["token_ids"].tolist() == ids.tolist()
