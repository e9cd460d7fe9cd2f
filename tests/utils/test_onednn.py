"""oneDNN is preferred before TensorFlow is loaded, and never against the user's choice."""

import os
import platform
import subprocess
import sys

import pytest

from ktransfer.utils.onednn import onednn_is_on, prefer_onednn

VARIABLE = "TF_ENABLE_ONEDNN_OPTS"


@pytest.fixture
def unloaded(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv(VARIABLE, "0")  # so that it is put back
    monkeypatch.delenv(VARIABLE)


def test_it_is_on_where_nobody_chose(unloaded):
    prefer_onednn()
    assert os.environ[VARIABLE] == "1"
    assert onednn_is_on() is True


@pytest.mark.parametrize("chosen", ["0", "1", "false", "true"])
def test_the_choice_of_the_user_stands(unloaded, monkeypatch, chosen):
    monkeypatch.setenv(VARIABLE, chosen)
    prefer_onednn()
    assert os.environ[VARIABLE] == chosen
    assert onednn_is_on() is (chosen in ("1", "true"))


def test_a_tensorflow_that_is_loaded_already_stays_as_it_is(unloaded, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", os)
    prefer_onednn()
    assert VARIABLE not in os.environ
    assert onednn_is_on() is None


def test_another_processor_stays_as_it_is(unloaded, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    prefer_onednn()
    assert VARIABLE not in os.environ


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="not an x86 processor")
def test_importing_the_package_is_enough():
    code = f"import ktransfer, os; print(os.environ['{VARIABLE}'])"
    environ = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
