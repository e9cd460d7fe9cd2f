"""Lines that say how far a long export is, a few seconds apart."""

import time
from collections.abc import Callable
from typing import Protocol


class ProgressCallback(Protocol):
    """Callable that receives a stage, and where known the steps done and their total."""

    def __call__(self, stage: str, done: int = 0, total: int | None = None) -> None: ...


_APART_S = 5.0  # seconds


def silent(stage: str, done: int = 0, total: int | None = None) -> None:
    """Do nothing: the default progress callback.

    Example:
        >>> silent("calibrating", 3, 20)
    """


class Progress:
    """Turns what a converter reports into lines, not more than one in five seconds of one stage.

    The first report of a stage is a line at once, so that an export is never silent for long, in a log file
    as in a terminal.

    Args:
        say: Callable that receives progress messages.
        name: What the lines begin with, such as `"tflite-int8"`.
        clock: Callable that gives seconds. Defaults to `time.monotonic`.

    Example:
        >>> on_progress = Progress(print, "onnx-int8")
        >>> on_progress("measuring layers in int8", 3, 40)
        onnx-int8      measuring layers in int8, 3 of 40
    """

    def __init__(
        self, say: Callable[[str], None], name: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._name, self._clock = say, name, clock
        self._stage: str | None = None
        self._last = 0.0

    def __call__(self, stage: str, done: int = 0, total: int | None = None) -> None:
        """Report a stage.

        Args:
            stage: What is being done.
            done: How much of it. Defaults to 0, of which no line is made.
            total: Of how much; `None` where that is not known.
        """
        now = self._clock()
        if stage == self._stage and now - self._last < _APART_S:
            return
        self._stage, self._last = stage, now
        far = f", {done:,} of {total:,}" if total else f", {done:,} so far" if done else ""
        self._say(f"{self._name:<15}{stage}{far}")
