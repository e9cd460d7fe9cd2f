"""Defer Ctrl-C during `fit` until the current batch finishes."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import keras


class Interrupts(keras.callbacks.Callback):
    """Raises the `KeyboardInterrupt` that was asked for, once a batch is done."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_for = False

    def ask(self, number: int, frame: Any) -> None:
        if self.asked_for:  # nothing came of the first
            raise KeyboardInterrupt
        self.asked_for = True

    def check(self) -> None:
        """Raise it now, if it was asked for."""
        if self.asked_for:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.check()

    on_test_batch_end = on_epoch_begin = on_epoch_end = on_train_batch_end


@contextlib.contextmanager
def between_batches() -> Iterator[Interrupts]:
    """Hold Ctrl-C back until a batch is done, in a `fit` that is given the callback, or at its `check()`.

    One that lands inside TensorFlow can crash the process, such as with `free(): invalid next size`, before
    the run is saved (4 of 40 interrupts at the start of an epoch).
    A second Ctrl-C does not wait.

    Example:

        with between_batches() as interrupts:
            model.fit(train, callbacks=[interrupts])
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield interrupts
        return
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, or somebody else's business
        yield interrupts
        return
    signal.signal(signal.SIGINT, interrupts.ask)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
    interrupts.check()
