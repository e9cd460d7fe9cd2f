import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ktransfer.errors import ExportError
from ktransfer.exporting.processes import converter_process as apart_module
from ktransfer.exporting.processes.converter_process import Ended, prepare, run_in_subprocess

_WAITS = """
import sys, time
from ktransfer.exporting.processes.converter_process import run_in_subprocess
print("asked", flush=True)
run_in_subprocess(time.sleep, 600, doing="wait")
"""


def children(pid):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def waited_for(condition, seconds=600):
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def test_what_a_process_of_its_own_said_last_is_in_the_error():
    with pytest.raises(ExportError, match=r"exit status 1; the last line was: ModuleNotFoundError.*'nope'"):
        run_in_subprocess(importlib.import_module, "nope", doing="import it")


def test_a_process_of_its_own_returns_values_and_raises_errors_whatever_it_prints():
    assert run_in_subprocess(eval, "print('said') or 6 * 7", doing="count") == 42
    with pytest.raises(ExportError, match=r"builtin operations only"):
        run_in_subprocess(
            exec, "import ktransfer.errors as e\nraise e.ExportError('builtin operations only')", doing="x"
        )


def test_a_process_is_kept_for_the_next_question_and_another_takes_the_place_of_one_that_ended():
    prepare("os")
    first = run_in_subprocess(os.getpid, doing="tell its number")
    assert first != os.getpid()
    assert run_in_subprocess(os.getpid, doing="tell its number") == first
    with pytest.raises(Ended, match=r"to stop, got its end by SIGABRT"):
        run_in_subprocess(os.abort, doing="stop")
    assert run_in_subprocess(os.getpid, doing="tell its number") != first


def test_a_kept_process_finds_a_relative_path_from_another_folder(tmp_path, monkeypatch):
    run_in_subprocess(os.path.exists, Path("here"), doing="start")
    (tmp_path / "here").touch()
    monkeypatch.chdir(tmp_path)
    assert run_in_subprocess(os.path.exists, Path("here"), doing="look")


def test_what_was_said_to_an_earlier_question_is_not_in_the_error():
    run_in_subprocess(os.write, 2, b"said before\n", doing="say it")
    with pytest.raises(Ended, match="the last line was: no output"):
        run_in_subprocess(os.abort, doing="stop")


def test_a_process_that_nobody_asks_ends(monkeypatch):
    monkeypatch.setattr(apart_module, "_IDLE", 0.3)
    kept = run_in_subprocess(os.getpid, doing="tell its number")
    assert waited_for(lambda: not is_there(kept))
    assert run_in_subprocess(os.getpid, doing="tell its number") != kept


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_when_the_process_that_asked_is_killed_the_other_ends():
    parent = subprocess.Popen([sys.executable, "-c", _WAITS], stdout=subprocess.PIPE)
    try:
        assert parent.stdout.readline() == b"asked\n"
        [child] = waited_for(lambda: children(parent.pid))
        time.sleep(2)  # past its imports
        assert is_there(child)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
    assert waited_for(lambda: not is_there(child))
