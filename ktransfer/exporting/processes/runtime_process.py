"""An artifact run in a subprocess: one that aborts takes nothing with it, and threads are its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Self, cast

from ktransfer.errors import ExportError
from ktransfer.exporting.processes.converter_process import how_it_ended
from ktransfer.exporting.processes.ipc import receive, send
from ktransfer.exporting.runtimes import open_artifact

if TYPE_CHECKING:
    from ktransfer.core.typing import Array, PathLike
    from ktransfer.exporting.opened import Opened


# Not -m, which would load this module twice.
_PROGRAM = f"import sys; from {__name__} import _main; _main(*sys.argv[1:])"
_LONGEST = 600.0  # seconds that a few examples may take


class RuntimeProcess:
    """An artifact, opened by `open_artifact` in a subprocess, which ends with the `with`.

    It runs on the CPU.

    Args:
        format, path, threads: As in `open_artifact`.

    Attributes:
        labels, signature: As in `Opened`.

    Raises:
        ExportError: The runtime cannot load or run the artifact, the process ended, or it has not answered
            for ten minutes.

    Example:
        >>> with RuntimeProcess("onnx", "run/artifacts/model.onnx") as artifact:
        ...     artifact({"image": images}).shape
        (8, 2)
    """

    def __init__(self, format: str, path: PathLike, *, threads: int | None = None) -> None:
        self._name = f"{format} artifact"
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process
        self._process = subprocess.Popen(
            # -P: a file named as a library, where the command was given, must not be imported instead.
            [sys.executable, "-P", "-c", _PROGRAM, format, str(path), str(threads or 0)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        )

        # Both are there, as they were asked for.
        self._asks, self._answers = (
            cast("IO[bytes]", self._process.stdin),
            cast("IO[bytes]", self._process.stdout),
        )

    def __enter__(self) -> Self:
        try:
            with self._in_time():
                self.labels, self.signature = receive(self._answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __call__(self, inputs: dict[str, Array]) -> Array:
        """Return the answers `(B, C)` to inputs by name."""
        return self._asked(inputs, 0)

    def seconds(self, inputs: dict[str, Array], repeats: int) -> list[float]:
        """Answer so many times; return how long each took, without the way there and back."""
        return self._asked(inputs, repeats)

    def _asked(self, *question: Any) -> Any:
        with self._in_time():
            send(self._asks, question)
            return receive(self._answers)

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        """Raise if the process ended; end it if it takes too long."""
        hangs = threading.Event()

        def end() -> None:
            hangs.set()
            self._process.kill()

        timer = threading.Timer(_LONGEST, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, ValueError, OSError) as error:
            if hangs.is_set():
                raise ExportError(
                    f"Expected the {self._name} to run by its own runtime, got no answer within {_LONGEST:g} "
                    "seconds. Export it again, or another format."
                ) from error
            if isinstance(error, ValueError):  # the process is still alive
                self._process.kill()
            raise self._ended() from error
        finally:
            timer.cancel()

    def _ended(self) -> ExportError:
        how, last = how_it_ended(self._process, self._errors)
        return ExportError(
            f"Expected the {self._name} to run by its own runtime, got {how}, {last}. Export it again, or "
            "another format."
        )


def _main(format: str, path: str, threads: str) -> None:
    # What a runtime prints must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    # What goes wrong ends the process, and its last line says what it was.
    opened = open_artifact(format, path, threads=int(threads) or None)
    send(answers, (opened.labels, opened.signature))
    with contextlib.suppress(EOFError):  # the parent has closed the pipe
        while True:
            inputs, repeats = receive(sys.stdin.buffer)
            send(answers, _seconds(opened, inputs, repeats) if repeats else opened.answer(inputs))


def _seconds(opened: Opened, inputs: dict[str, Array], repeats: int) -> list[float]:
    found = []
    for _ in range(repeats):
        before = time.perf_counter()
        opened.answer(inputs)
        found.append(time.perf_counter() - before)
    return found
