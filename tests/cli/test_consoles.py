"""Every verb on consoles of any encoding, with names of classes and files in many scripts."""

import io
import json
import os
import shutil
import subprocess
import sys

import keras
import pytest

from ktransfer import cli
from ktransfer.commands.train import train
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.security.safe_io import read_json
from ktransfer.utils import terminal
from ktransfer.utils.files import write_json

NAMES = ("杯子 日本", "καφές", "قلم", "🔑 key", "ünï", "plain")
ENCODINGS = ("ascii", "cp1252", "latin-1", "cp437", "utf-8")
SLOW = ("train", "evaluate", "predict a", "report", "export", "verify", "benchmark")  # on two of them
COMMANDS = {
    "help": ("--help",),
    **{
        f"help of {verb}": (verb, "--help")
        for verb in (
            *("audit", "train", "evaluate", "predict", "report", "export"),
            *("verify", "benchmark", "backbones", "cache", "demo"),
        )
    },
    "version": ("--version",),
    "audit": ("audit", "DOUBLED"),
    "audit in files": ("audit", "DOUBLED", "--out", "OUT/audit", "--fix"),
    "audit in JSON": ("audit", "DOUBLED", "--json"),
    "train": (
        *("train", "DATA", "--backbone", str(PRESET_PATH), "--out", "OUT/new", "--overwrite"),
        *("--epochs", "1", "--no-export"),
    ),
    "evaluate": ("evaluate", "RUN", "DATA"),
    "evaluate in JSON": ("evaluate", "RUN", "DATA", "--json"),
    "predict a file": ("predict", "RUN", "FILE"),
    "predict a folder": ("predict", "RUN", "FOLDER"),
    "predict in JSON": ("predict", "RUN", "FILE", "--json"),
    "predict what is not there": ("predict", "RUN", "写真.png"),
    "report": ("report", "RUN"),
    "export": ("export", "RUN", "--format", "onnx"),
    "export to a typo": ("export", "RUN", "--format", "😀nnx"),
    "verify": ("verify", "RUN"),
    "verify in JSON": ("verify", "RUN", "--json"),
    "benchmark": ("benchmark", "RUN", "--rounds", "1", "--examples", "2"),
    "backbones": ("backbones", "--max-params", "1M"),
    "cache": ("cache", "info"),
    "cache in JSON": ("cache", "info", "--json"),
    "an option that is none": ("audit", "DOUBLED", "--größe"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("日本 😀")
    data = write_target_task(folder / "data", train_per_class=3, validation_per_class=2)
    for part in ("train", "val"):
        for old, new in zip(sorted((data / part).iterdir()), NAMES, strict=True):
            for number, file in enumerate(sorted(old.iterdir())):
                file.rename(old / f"{new} 写真{number}{file.suffix}")
            old.rename(data / part / new)
    doubled = shutil.copytree(data / "train", folder / "doubled")
    for label in sorted(doubled.iterdir()):
        first = sorted(label.iterdir())[0]
        shutil.copy(first, label / f"zweites {first.name}")
    (doubled / "καφές" / "καφές κενό.png").write_bytes(b"")
    files = shutil.copytree(data / "val" / NAMES[0], folder / "Ελλάδα")
    (files / "notes قلم.txt").write_text("notes", encoding="utf-8")
    run = train(
        data, PRESET_PATH, folder / "run 🔑", epochs=0, formats=["onnx"], verbose=0, say=lambda line: None
    )
    return {
        **{"DATA": data, "DOUBLED": doubled, "RUN": run.path, "OUT": folder},
        **{"FOLDER": files, "FILE": sorted(files.iterdir())[1]},
    }


class Console(io.TextIOWrapper):
    """A stream of an encoding that Python opens strict, as standard output is."""

    def __init__(self, encoding):
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", write_through=True)

    def said(self):
        return self.buffer.getvalue().decode(self.encoding)


def run_on(monkeypatch, encoding, arguments, columns):
    """(exit status, standard output, standard error) of a command on a console."""
    out, err = Console(encoding), Console(encoding)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["ktransfer", *map(str, arguments)])
        patch.setenv("COLUMNS", str(columns))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as end:
            cli.main()
    return end.value.code or 0, out.said(), err.said()


# These train, or open artifacts in subprocesses, twice; the others print as they do.
TAKES_LONG = ("train", "report", "export", "verify in JSON", "benchmark")


@pytest.mark.parametrize(
    "what",
    [pytest.param(what, marks=pytest.mark.slow) if what in TAKES_LONG else what for what in COMMANDS],
)
def test_a_command_exits_alike_on_every_console(monkeypatch, places, what):
    arguments = [
        os.path.join(places[word.partition("/")[0]], word.partition("/")[2]).rstrip("/")
        if word.partition("/")[0] in places
        else word
        for word in COMMANDS[what]
    ]
    found = {
        (encoding, columns): run_on(monkeypatch, encoding, arguments, columns)
        for encoding in (("ascii", "cp1252") if what.startswith(SLOW) else ENCODINGS)
        for columns in ((20,) if encoding == "ascii" else (100,))
    }
    assert len({status for status, _, _ in found.values()}) == 1, found
    assert not any("Traceback" in err for _, _, err in found.values())
    if "JSON" in what:
        values = [[json.loads(line) for line in out.splitlines()] for _, out, _ in found.values()]
        assert all(len(each) == len(values[0]) for each in values)
        assert all(out.isascii() for _, out, _ in found.values())


def test_json_keeps_the_names(monkeypatch, places):
    _, out, _ = run_on(monkeypatch, "ascii", ["evaluate", places["RUN"], places["DATA"], "--json"], 80)
    assert set(json.loads(out)["per_class"]) == set(NAMES)


def test_what_a_console_lacks_is_escaped_and_lines_of_tables_are_ascii():
    out = Console("cp1252")
    out.reconfigure(errors=terminal._CONSOLE_ERRORS)
    out.write("ünï 杯 ╭──┬─╮ │ ━━ … • 🔑 \udcff")
    assert out.said() == "ünï \\u676f +--+-+ | -- … • \\U0001f511 \\udcff"


def test_a_line_can_be_printed_where_no_command_made_the_console_ready(monkeypatch):
    out = Console("ascii")
    monkeypatch.setattr(sys, "stdout", out)
    terminal.print_line("καφές")
    assert out.said().strip() == r"\u03ba\u03b1\u03c6\u03ad\u03c2"


def test_the_progress_of_keras_is_shown_on_a_console_in_ascii(monkeypatch):
    out = Console("ascii")
    monkeypatch.setattr(sys, "stdout", out)
    terminal.accept_any_text()
    keras.utils.Progbar(3).update(1, [("καφές", 1.0)])
    assert "1/3" in out.said()


def test_a_path_that_is_not_utf8_survives_in_json(tmp_path):
    path = os.fsdecode(b"b\xffd/\xe6\x9d\xaf")
    write_json(tmp_path / "a.json", {"path": path})
    assert read_json(tmp_path / "a.json") == {"path": path}


@pytest.mark.skipif(os.name != "posix", reason="file names are UTF-8 on Windows")
def test_names_are_read_as_utf8_in_a_locale_without_it(places, tmp_path):
    script = "import sys; sys.argv[0] = 'ktransfer'; from ktransfer.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "audit", places["DOUBLED"], "--json"],
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout.decode("ascii"))["examples"]
    assert [set(counts) for counts in found.values()] == [set(NAMES)]
