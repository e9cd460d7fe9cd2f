import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from text_zoo import write_preset

from ktransfer import cli
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.errors import RunError

COMMAND = Path(sys.executable).with_name("ktransfer")


def run(monkeypatch, capsys, *arguments):
    """The command in this process: (exit status, standard output, standard error)."""
    monkeypatch.setattr(sys, "argv", ["ktransfer", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0, *capsys.readouterr()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_target_task(
        tmp_path_factory.mktemp("d") / "things", train_per_class=4, validation_per_class=3
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    out = tmp_path_factory.mktemp("r") / "run"
    arguments = ["train", data, "--backbone", PRESET_PATH, "--out", out, "--epochs", "0", "--no-export"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ktransfer", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code
    return out


def test_help_imports_neither_tensorflow_nor_keras():
    script = (
        "import sys; sys.argv = ['ktransfer', '--help']\n"
        "from ktransfer.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'tensorflow', 'keras', 'numpy', 'sklearn'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "train" in output
    assert output.splitlines()[-1] == "[]"


def test_evaluate_prints_a_table_and_writes_json_and_a_picture(monkeypatch, capsys, trained, data):
    status, out, _ = run(monkeypatch, capsys, "evaluate", trained, data)
    assert status == 0
    assert "macro mean" in out
    assert "umbrella" in out
    values = json.loads((trained / "evaluation.json").read_text())
    assert values["examples"] == 18
    assert f"accuracy {values['accuracy']:.3f} (95 % interval " in out
    assert " on 18 images" in out
    with Image.open(trained / "evaluation.png") as picture:
        assert picture.format == "PNG"


def test_evaluate_json_is_one_document_on_standard_output(monkeypatch, capsys, trained, data):
    status, out, _ = run(monkeypatch, capsys, "evaluate", trained, data, "--json")
    values = json.loads(out)
    assert status == 0
    assert set(values["per_class"]["mug"]) == {"precision", "recall", "f1", "support"}
    assert sum(map(sum, values["confusion"])) == 18


def test_predict_names_the_most_probable_labels(monkeypatch, capsys, trained, data):
    files = sorted((data / "val" / "lamp").iterdir())
    status, out, _ = run(monkeypatch, capsys, "predict", trained, *files, "--top-k", 2)
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [str(path) for path in files]
    assert all(line.count("%") == 2 for line in out.splitlines())


def test_predict_json_is_a_line_an_image(monkeypatch, capsys, trained, data):
    files = sorted((data / "val" / "lamp").iterdir())[:2]
    _, out, _ = run(monkeypatch, capsys, "predict", trained, *files, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["file"] for row in rows] == list(map(str, files))
    probabilities = [answer["probability"] for answer in rows[0]["predictions"]]
    assert len(probabilities) == 3
    assert probabilities == sorted(probabilities, reverse=True)


def test_backbones_lists_what_keras_hub_has(monkeypatch, capsys):
    status, out, _ = run(monkeypatch, capsys, "backbones", "--task", "image", "--max-params", "10M")
    assert status == 0
    assert "mobilenet_v3_small_100_imagenet" in out
    assert "resnet_50_imagenet" not in out
    rows = json.loads(run(monkeypatch, capsys, "backbones", "--json")[1])
    assert {"name": "resnet_50_imagenet", "parameters": 23561152}.items() <= next(
        row for row in rows if row["name"] == "resnet_50_imagenet"
    ).items()


def test_export_prints_parity(monkeypatch, capsys, trained):
    status, out, _ = run(monkeypatch, capsys, "export", trained, "--format", "onnx")
    assert status == 0
    assert "labels agree 100.0%" in out
    assert (trained / "artifacts" / "model.onnx").is_file()


BROKEN = {
    "no such folder": (lambda data: shutil.rmtree(data), "does not exist"),
    "an empty folder": (lambda data: [shutil.rmtree(data / name) for name in ("train", "val")], "empty"),
    "one class": (
        lambda data: [shutil.rmtree(p) for p in (data / "train").iterdir() if p.name != "mug"],
        "mug",
    ),
    "a text file named .jpg": (
        lambda data: (data / "train/mug/a.jpg").write_text("hello there"),
        "starts with text",
    ),
    "a file of no bytes": (lambda data: (data / "train/mug/a.jpg").write_bytes(b""), "empty file"),
    "a truncated image": (
        lambda data: (data / "train/mug/a.png").write_bytes(
            next((data / "train/mug").iterdir()).read_bytes()[:900]
        ),
        "train/mug/a.png",
    ),
    "a class in val alone": (lambda data: shutil.copytree(data / "val/mug", data / "val/teapot"), "teapot"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_bad_data_is_one_line_that_says_what_and_exits_2(monkeypatch, capsys, data, tmp_path, fault):
    copy = shutil.copytree(data, tmp_path / "with spaces and ünïcode")
    change, expected = BROKEN[fault]
    change(copy)
    status, _, err = run(
        monkeypatch, capsys, "train", copy, "--backbone", PRESET_PATH, "--out", tmp_path / "run"
    )
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("ktransfer: ")
    assert expected in err
    assert not (tmp_path / "run").exists()


def test_a_class_with_one_image_is_refused_when_it_has_to_be_split(monkeypatch, capsys, data, tmp_path):
    copy = shutil.copytree(data / "train", tmp_path / "data")
    for path in sorted((copy / "fish").iterdir())[1:]:
        path.unlink()
    status, _, err = run(
        monkeypatch, capsys, "train", copy, "--backbone", PRESET_PATH, "--out", tmp_path / "run"
    )
    assert status == 2
    assert "'fish'" in err


def test_names_with_spaces_and_other_letters_train_and_links_that_loop_do_not_hang(
    monkeypatch, capsys, data, tmp_path
):
    copy = shutil.copytree(data / "train", tmp_path / "Bilder für später")
    (copy / "mug").rename(copy / "eine Täßchen 杯")
    os.symlink(copy / "fish", copy / "fish" / "again")
    out = tmp_path / "run ü"
    arguments = ["--backbone", PRESET_PATH, "--out", out, "--epochs", 0, "--format", "onnx"]
    status, _, err = run(monkeypatch, capsys, "train", copy, *arguments)
    assert status == 0, err
    assert "eine Täßchen 杯" in json.loads((out / "manifest.json").read_text(encoding="utf-8"))["labels"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["train", "DATA", "--backbone", "resnet_50_imagnet", "--out", "OUT"],
            "Did you mean resnet_50_imagenet",
        ),
        (["train", "DATA", "--backbone", "DATA", "--out", "OUT"], "config.json"),
        (["train", "DATA", "--backbone", "nowhere.keras", "--out", "OUT"], "does not exist"),
        (["train", "DATA", "--backbone", "PRESET"], "--out"),
        (["train", "DATA", "--out", "OUT"], "--backbone"),
        (["train", "DATA", "--backbone", "PRESET", "--out", "DATA"], "other files"),
        (["train", "DATA", "--backbone", "PRESET", "--out", "RUN"], "--overwrite"),
        (["train", "--resume", "--out", "OUT"], "manifest.json"),
        (["evaluate", "DATA", "DATA"], "manifest.json"),
        (["predict", "RUN", "nowhere.jpg"], "nowhere.jpg"),
        (["export", "RUN", "--format", "coreml"], "coreml"),
        (["backbones", "--max-params", "ten"], "10M"),
        (["backbones", "--task", "video"], "video"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_2(
    monkeypatch, capsys, data, trained, tmp_path, arguments, expected
):
    places = {"DATA": data, "OUT": tmp_path / "run", "PRESET": PRESET_PATH, "RUN": trained}
    status, _, err = run(monkeypatch, capsys, *(places.get(a, a) for a in arguments))
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert expected in err


def test_skip_corrupt_leaves_out_and_names_what_cannot_be_read(monkeypatch, capsys, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "data")
    (copy / "train/mug/a.jpg").write_bytes(b"")
    arguments = ["--backbone", PRESET_PATH, "--out", tmp_path / "run", "--epochs", 0, "--no-export"]
    status, out, _ = run(monkeypatch, capsys, "train", copy, *arguments, "--skip-corrupt")
    assert status == 0
    assert "24 train, 18 validation" in out
    assert "skipped    1 train images that cannot be read" in out
    assert "train/mug/a.jpg" in out


@pytest.mark.slow
def test_the_demo_says_that_it_is_a_toy_and_compares_with_a_random_backbone(monkeypatch, capsys, tmp_path):
    status, out, _ = run(monkeypatch, capsys, "demo", "--out", tmp_path / "demo")
    assert status == 0
    assert "toy" in out
    assert "ktransfer train FOLDER --backbone" in out
    line = next(line for line in out.splitlines() if line.startswith("Accuracy on images held out"))
    pretrained, random = (float(word) for word in line.replace(",", "").split() if word[0] == "0")
    assert pretrained > random + 0.2
    assert all(
        (tmp_path / "demo/pretrained/artifacts" / name).exists() for name in ("savedmodel", "model.tflite")
    )
    status, _, err = run(monkeypatch, capsys, "demo", "--out", tmp_path / "demo")
    assert status == 2
    assert "pretrained" in err


def test_what_is_kept_of_frozen_backbones_is_shown_and_cleared(monkeypatch, capsys, data, tmp_path):
    monkeypatch.setattr("ktransfer.commands.fit._report", lambda *given: None)  # of three trainings
    cache = tmp_path / "cache"
    arguments = ["--backbone", PRESET_PATH, "--epochs", 1, "--no-export", "--cache-dir", cache]
    status, out, _ = run(monkeypatch, capsys, "train", data, *arguments, "--out", tmp_path / "a")
    assert status == 0
    assert "cache      below stack3_block0" in out
    _, out, _ = run(monkeypatch, capsys, "train", data, *arguments, "--out", tmp_path / "b")
    assert "kept from before" in out
    _, out, _ = run(monkeypatch, capsys, "train", data, *arguments, "--out", tmp_path / "c", "--no-cache")
    assert "cache " not in out
    _, out, _ = run(monkeypatch, capsys, "cache", "info", "--cache-dir", cache)
    assert (
        "5 entries" in out
    )  # of training and validation images for the head and the stage, and of all blocks
    assert "cut head, split validation" in out
    assert "cut stack3_block0, split train" in out
    assert len(json.loads(run(monkeypatch, capsys, "cache", "info", "--cache-dir", cache, "--json")[1])) == 5
    assert "freed" in run(monkeypatch, capsys, "cache", "clear", "--cache-dir", cache)[1]
    assert "0 entries" in run(monkeypatch, capsys, "cache", "info", "--cache-dir", cache)[1]
    status, _, err = run(monkeypatch, capsys, "cache", "eat")
    assert status == 2
    assert "'eat'" in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--format", "tflit"], "tflit"),
        (["--seed", "-1"], "--seed"),
        (["--recipe", "NOT UTF-8"], "JSON"),
        (["--recipe", "TOO DEEP"], "stack9"),
        (["--recipe", "TOO DEEP", "--epochs", 3], "epochs"),
    ],
)
def test_what_can_fail_at_once_fails_before_anything_is_made(
    monkeypatch, capsys, data, tmp_path, arguments, expected
):
    (tmp_path / "NOT UTF-8").write_bytes(b"\xff\xfe{")
    (tmp_path / "TOO DEEP").write_text(
        '{"stages": [{"depth": "stack9", "epochs": 1, "learning_rate": 1e-4}]}'
    )
    arguments = [tmp_path / a if a in ("NOT UTF-8", "TOO DEEP") else a for a in arguments]
    out = tmp_path / "run"
    status, _, err = run(
        monkeypatch, capsys, "train", data, "--backbone", PRESET_PATH, "--out", out, *arguments
    )
    assert status == 2
    assert expected in err
    assert "Traceback" not in err
    assert not out.exists()


def test_too_little_disk_is_said_before_training(monkeypatch, capsys, data, tmp_path):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30 - 2**20, 2**20)
    )
    arguments = ["--backbone", PRESET_PATH, "--out", tmp_path / "run"]
    status, _, err = run(monkeypatch, capsys, "train", data, *arguments)
    assert status == 2
    assert "1 MiB in" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_training_runs_on_jax(data, tmp_path):
    result = subprocess.run(
        [
            COMMAND,
            "train",
            data,
            "--backbone",
            PRESET_PATH,
            "--out",
            tmp_path / "run",
            "--epochs",
            "1",
            "--no-export",
        ],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["versions"]["backend"] == "jax"
    assert manifest["metrics"]["validation"] > 0.4


@pytest.mark.parametrize("verb", ["rank", "search", "lr-find"])
def test_a_client_is_passed_on_as_to_train(monkeypatch, capsys, data, tmp_path, verb):
    seen, name = {}, verb.replace("-", "_")

    def stopped(*given, **options):
        seen.update(options)
        raise RunError("Expected nothing more, got enough. Stop here.")

    monkeypatch.setattr(importlib.import_module(f"ktransfer.commands.{name}"), name, stopped)
    backbones = ["--backbone", PRESET_PATH, *(["--backbone", f"{PRESET_PATH}@0.5"] if verb == "rank" else [])]
    out = ["--out", tmp_path / "out"] if verb == "search" else []
    assert run(monkeypatch, capsys, verb, data, *backbones, *out, "--client", "mediapipe")[0] == 2
    assert seen["client"] == "mediapipe"


def test_the_version_is_that_of_the_package(monkeypatch, capsys):
    import importlib.metadata

    assert run(monkeypatch, capsys, "--version")[1].strip() == importlib.metadata.version("ktransfer")


@pytest.mark.slow
def test_texts_go_the_same_way(monkeypatch, capsys, tmp_path):
    _, preset = write_preset("Bert", tmp_path)
    table = tmp_path / "a.tsv"
    rows = [
        f"{'the fox' if i % 2 else 'you brown'} {'quick ' * (i % 5)}{i}\t{'ab'[i % 2]}" for i in range(30)
    ]
    table.write_text("\n".join(rows) + "\n")
    out = tmp_path / "run"
    options = ("--sequence-length", "8", "--class-weight", "balanced", "--loss", "focal")
    status, shown, _ = run(
        monkeypatch, capsys, "train", table, "--backbone", preset, "--out", out, "--no-export", *options
    )
    assert status == 0
    assert "columns    texts '1', labels '2', guessed, no header" in shown
    assert "texts of up to 8 tokens" in shown
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["recipe"]["loss"], manifest["recipe"]["class_weight"]) == ("focal", "balanced")

    status, shown, _ = run(monkeypatch, capsys, "evaluate", out, table)
    assert status == 0
    assert "30 texts, all of" in shown
    assert "accuracy 1.000 (95 % interval " in shown
    assert " on 30 texts" in shown

    status, shown, _ = run(monkeypatch, capsys, "predict", out, "the fox", "--json")
    assert json.loads(shown)["text"] == "the fox"
    assert json.loads(shown)["predictions"][0]["label"] == "b"

    status, _, error = run(
        monkeypatch, capsys, "train", table, "--backbone", PRESET_PATH, "--out", tmp_path / "other"
    )
    assert status == 2
    assert error.count("\n") == 1
    assert "token_ids" in error
    assert not (tmp_path / "other").exists()
