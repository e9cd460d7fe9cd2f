import hashlib
import json
import shutil
import subprocess
import sys

import pytest
from images import class_folders, draw

from ktransfer import cli
from ktransfer.audit.exclusions import leave_out
from ktransfer.commands.audit import audit, audit_before_training
from ktransfer.demo import PRESET_PATH
from ktransfer.errors import DataError
from ktransfer.image.sources import read_data


@pytest.fixture
def leaking(tmp_path):
    """Images of which one is in both parts, one twice in training, and one broken."""
    root = class_folders(tmp_path / "data" / "train", {"a": 12, "b": 12}).parent
    for name in ("a", "b"):
        draw(root / "val" / name / "0.png", seed=ord(name) + 5000)
    shutil.copyfile(root / "train/a/000.png", root / "val/a/[red]1.png")
    shutil.copyfile(root / "train/a/001.png", root / "train/a/copy.png")
    (root / "train/b/000.png").write_bytes(b"")
    return root


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["ktransfer", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0, *capsys.readouterr()


def digests(root):
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in root.rglob("*") if path.is_file()}


def test_the_command_prints_a_table_writes_its_files_and_ends_with_one(
    monkeypatch, capsys, leaking, tmp_path
):
    before = digests(leaking)
    status, out, _ = run(monkeypatch, capsys, "audit", leaking, "--out", tmp_path / "found", "--fix")
    assert status == 1
    assert "train/b/000.png: empty file" in out
    values = json.loads((tmp_path / "found/audit.json").read_text())
    assert values["severe"]
    assert values["summary"] == {"unreadable": 1, "leak": 1, "duplicate": 1}
    assert "[red]1.png" in (tmp_path / "found/audit.html").read_text()
    assert (tmp_path / "found/exclude.txt").read_text().split("\n")[1:] == [
        "unreadable\ttrain/b/000.png",
        "leak\ttrain/a/000.png",
        "duplicate\ttrain/a/copy.png",
        "",
    ]
    assert digests(leaking) == before


def test_what_the_list_leaves_has_nothing_severe_any_more(leaking, tmp_path):
    audit(leaking, out=tmp_path / "found", fix=True, verbose=0)
    left = leave_out(read_data(leaking), tmp_path / "found/exclude.txt", root=leaking)
    assert len(left.train) == 22
    assert not audit_before_training(left, leaking, say=pytest.fail).is_severe


def test_nothing_severe_is_status_zero_and_json_is_one_document(monkeypatch, capsys, tmp_path):
    class_folders(tmp_path, {"a": 10, "b": 10})
    status, out, _ = run(monkeypatch, capsys, "audit", tmp_path, "--json")
    assert status == 0
    assert json.loads(out)["findings"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--fix"], "Pass --out FOLDER"), (["--out", "{data}/audit"], "outside the data")],
)
def test_where_to_write_has_to_be_said_and_is_not_in_the_data(monkeypatch, capsys, leaking, options, message):
    options = [option.format(data=leaking) for option in options]
    status, _, error = run(monkeypatch, capsys, "audit", leaking, *options)
    assert status == 2
    assert message in error


def test_texts_are_audited_by_the_same_command(monkeypatch, capsys, tmp_path):
    pytest.importorskip("datasketch")
    for name, rows in (("train", ["Win a prize,spam", "At six?,ham"]), ("val", ["win  a prize,ham"])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    status, out, _ = run(monkeypatch, capsys, "audit", tmp_path, "--json")
    assert status == 1
    leak = json.loads(out)["findings"][0]
    assert leak["kind"] == "leak"
    assert [item["text"] for item in leak["items"]] == ["Win a prize", "win  a prize"]


def test_leakage_stops_a_training_unless_told_otherwise(leaking):
    splits = read_data(leaking)
    with pytest.raises(DataError, match=r"1 leak, such as train/a/000\.png and val/a/\[red\]1\.png"):
        audit_before_training(splits, leaking)
    lines = []
    found = audit_before_training(splits, leaking, allow_leakage=True, say=lines.append)
    assert [line.split()[0] for line in lines] == ["warning"]
    assert len(found.of("unreadable")) == 1


def test_an_audit_without_a_backbone_loads_no_framework():
    script = (
        "import sys, ktransfer.commands.audit\n"
        "print(sorted({'tensorflow', 'keras', 'sklearn', 'datasketch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_backbone_finds_a_wrong_label(tmp_path):
    from ktransfer.demo.drawing import write_target_task

    data = write_target_task(tmp_path / "things", train_per_class=12, validation_per_class=2)
    first, second = sorted(folder for folder in (data / "train").iterdir())[:2]
    moved = sorted(first.iterdir())[0].rename(second / "moved.png")
    found = audit(data, backbone=PRESET_PATH, verbose=0)
    suspects = [finding.items[0].input for finding in found.of("suspect_label")]
    assert str(moved) in suspects[:5]
