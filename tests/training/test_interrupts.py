import os
import signal
import subprocess
import sys
import threading

import pytest

from ktransfer.training.interrupts import between_batches


@pytest.fixture(autouse=True)
def _sigint_as_in_a_terminal():
    """A shell ignores SIGINT in what it runs in the background, and children inherit it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ask():
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_waits_for_the_end_of_the_batch():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), between_batches() as interrupts:  # noqa: PT012
        ask()
        waited = True
        interrupts.on_train_batch_end(0)
        pytest.fail("went on")
    assert waited
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_one_does_not_wait():
    with pytest.raises(KeyboardInterrupt), between_batches():  # noqa: PT012
        ask()
        ask()
        pytest.fail("went on")


def test_one_that_came_after_the_last_batch_is_not_lost():
    with pytest.raises(KeyboardInterrupt), between_batches():
        ask()


def test_without_one_nothing_happens():
    with between_batches() as interrupts:
        interrupts.on_train_batch_end(0)
        interrupts.on_epoch_begin(1)


def test_a_handler_of_the_users_own_stays():
    asked = []
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        with between_batches():
            ask()
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked == [True]


def test_another_thread_leaves_signals_alone():
    def run():
        with between_batches() as interrupts:
            interrupts.check()
            done.append(True)

    done = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [True]


def test_an_interrupt_that_a_finalizer_swallows_is_heeded_all_the_same():
    script = """
import signal, sys, time, typer
from ktransfer import cli

signal.signal(signal.SIGINT, signal.default_int_handler)

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def swallowing():
    Finalized()
    time.sleep(600)

cli.app.command()(swallowing)
sys.argv = ["ktransfer", "swallowing"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")
