"""An archive of a run has what its programs need, is the same bytes again, and is whole or not there."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ktransfer.commands.package import package
from ktransfer.errors import KTransferError
from ktransfer.reporting.model_card import backbone_license, figures, model_card
from ktransfer.runs.exported import exported
from ktransfer.runs.manifest import read_manifest

RUN = Path(__file__).parents[1] / "runs" / "run_of_0_1_0"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path):
    """A run on texts, with an ONNX file."""
    return Path(shutil.copytree(RUN, tmp_path / "run"))


def change(run, **fields):
    path = run / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def test_two_copies_of_a_run_give_the_same_bytes(run, tmp_path):
    lines = []
    first = package(run, tmp_path / "first.zip", say=lines.append)
    later = Path(shutil.copytree(run, tmp_path / "other" / "run"))
    for path in later.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o700)
    second = package(later, tmp_path / "second.zip", say=lines.append)
    assert first.read_bytes() == second.read_bytes()
    [line, _] = lines
    assert hashlib.sha256(first.read_bytes()).hexdigest()[:16] in line


def test_checksums_are_those_of_every_other_file(run, tmp_path):
    found = contents(package(run, tmp_path / "run.zip"))
    lines = [line.split("  ") for line in found.pop("SHA256SUMS").decode().splitlines()]
    assert {name: digest for digest, name in lines} == {
        name: hashlib.sha256(content).hexdigest() for name, content in found.items()
    }


def test_its_program_answers_as_the_run_without_ktransfer(run, tmp_path):
    with zipfile.ZipFile(package(run, tmp_path / "run.zip")) as archive:
        archive.extractall(tmp_path / "unpacked")
    done = subprocess.run(
        [sys.executable, "programs/onnx/predict.py", ".", "the quick fox 1", "you 2"],
        cwd=tmp_path / "unpacked",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"label": "animal", "probability": pytest.approx(0.963571, abs=1e-5)},
        {"label": "other", "probability": pytest.approx(0.703705, abs=1e-5)},
    ]


def test_a_file_that_takes_texts_comes_with_the_program_of_onnx(run, tmp_path):
    [entry] = [each for each in read_manifest(run)["artifacts"] if each["format"] == "onnx"]
    change(run, artifacts=[entry | {"format": "onnx-strings"}])
    assert "programs/onnx/predict.py" in contents(package(run, tmp_path / "run.zip"))


def test_nothing_of_the_training_machine_is_handed_over(run, tmp_path):
    found = contents(package(run, tmp_path / "run.zip"))
    manifest = json.loads(found["manifest.json"])
    assert "machine" not in manifest
    assert "reproduce" not in manifest
    assert manifest["data"]["source"] == "animals.csv"
    assert manifest["backbone"]["name"] == "preset"
    assert b"/data/" not in found["manifest.json"] + found["MODEL_CARD.md"]


def test_the_card_has_figures_with_intervals_data_and_limits(run, tmp_path):
    card = contents(package(run, tmp_path / "run.zip", license="Apache-2.0"))["MODEL_CARD.md"].decode()
    metrics = json.loads((run / "metrics.json").read_text())
    found = metrics[list(metrics)[-1]]
    low, high = found["accuracy_interval"]
    assert f"| accuracy | {found['accuracy']:.4g} | {low:.4g} to {high:.4g} |" in card
    assert "| train | 32 | `c18665a07783c104` |" in card
    assert "texts of up to 16 tokens; longer ones are cut" in card
    assert "a little too good" in card
    assert "Backbone preset: Apache-2.0." in card


def test_a_card_without_metrics_and_license_says_how_to_get_them(run):
    manifest = read_manifest(run)
    card = model_card("a|b", manifest, {}, exported(run, manifest), license=None)
    assert card.startswith("# a\\|b\n")
    assert "was not evaluated" in card
    assert "license not known" in card


def test_figures_of_each_task_come_with_their_intervals():
    found = figures(
        {
            "examples": 8,
            "mean_average_precision": 0.5,
            "mean_average_precision_interval": [0.4, 0.6],
            "micro": {"precision": 0.7, "f1": 0.8, "interval": [0.75, 0.85], "support": 9},
            "r2": {"value": 0.1, "interval": [0.0, 0.2]},
            "per_class": {"a": {"f1": 1.0}},
            "coverage": None,
        }
    )
    assert found == [
        ("mean average precision", 0.5, [0.4, 0.6]),
        ("micro precision", 0.7, None),
        ("micro f1", 0.8, [0.75, 0.85]),
        ("r2", 0.1, [0.0, 0.2]),
    ]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("README.md", "---\ntags: [a]\nlicense: apache-2.0\n---\n# A model", "apache-2.0"),
        ("README.md", "---\nlicense: 'mit'\n---", "mit"),
        ("SOURCE.txt", "From: a place. Licence: Apache-2.0 (its card).", "Apache-2.0"),
        ("LICENSE", "\n    Apache License\n    Version 2.0, January 2004\n", "Apache License Version 2.0"),
        ("LICENSE", "MIT License\n\nCopyright", "MIT License"),
        ("README.md", "A model whose license nobody wrote down", None),
        ("LICENSE", "All rights reserved", None),
        ("other.txt", "license: mit", None),
    ],
)
def test_the_license_is_what_the_folder_of_the_backbone_names(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    found = backbone_license({"backbone": {"name": str(tmp_path)}})
    assert found == (expected and f"{expected} ({name} of the backbone)")
    assert backbone_license({"backbone": {"name": "bert_tiny_en_uncased"}}) is None


def damage_file(run):
    (run / "artefacts" / "model.onnx").write_bytes(b"other")


def remove_file(run):
    (run / "artefacts" / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("prepare", "options", "message"),
    [
        (None, {"out": "run.tar"}, "a name that ends in .zip"),
        (None, {"out": "folder.zip"}, "which is a folder"),
        (None, {"out": "missing/run.zip"}, "a folder that exists"),
        (None, {"formats": ["tflite"]}, "formats that .* has, onnx, got tflite"),
        (None, {"formats": ["onx"]}, "Did you mean onnx"),
        (damage_file, {}, "as it was exported"),
        (remove_file, {}, "got nothing there"),
        (lambda run: change(run, artefacts=[]), {}, "a run with artifacts"),
        (lambda run: (run / "metrics.json").write_text("[1"), {}, "readable metrics"),
        (lambda run: (run / "metrics.json").write_text("[1]"), {}, "metrics by split"),
        (lambda run: (run / "manifest.json").unlink(), {}, "Expected a run folder"),
    ],
)
def test_what_cannot_be_packed_is_one_line_and_leaves_nothing(run, tmp_path, prepare, options, message):
    if prepare is not None:
        prepare(run)
    (tmp_path / "folder.zip").mkdir()
    options = {"out": "run.zip"} | options
    out = tmp_path / options.pop("out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KTransferError, match=message) as raised:
        package(run, out, **options)
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_that_is_there_stays_where_a_new_one_fails(run, tmp_path):
    out = package(run, tmp_path / "run.zip")
    before = out.read_bytes()
    damage_file(run)
    with pytest.raises(KTransferError):
        package(run, out)
    assert out.read_bytes() == before


def test_the_command_prints_one_line(run, tmp_path):
    command = [sys.executable, "-m", "ktransfer", "package", str(run), "--out"]
    done = subprocess.run([*command, "run.zip"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("package    run.zip")
    done = subprocess.run([*command, "run.tar"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
