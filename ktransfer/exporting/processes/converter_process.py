"""Functions run in a subprocess, so that a converter that aborts takes nothing with it."""

import atexit
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from ktransfer.errors import ExportError
from ktransfer.exporting.processes.ipc import receive, send
from ktransfer.utils.progress import ProgressCallback, silent

# Not -m, which would load this module twice.
_PROGRAM = f"import sys; from {__name__} import _main; _main(*sys.argv[1:])"
_IDLE = 600.0  # seconds of idleness after which the process ends
_REPORT, _ANSWER = "report", "answer"  # what a message begins with
_ANSWERS: IO[bytes] | None = None  # in a subprocess, the stream of its messages
_KEPT: dict[str, "_Process"] = {}  # by the module whose functions it runs
_LOCK = threading.RLock()

_Returned = TypeVar("_Returned")


class Ended(ExportError):
    """The subprocess ended before it answered; `aborted` if by a signal, not by an exception."""

    aborted = False


def run_in_subprocess(
    function: Callable[..., _Returned], *arguments: Any, doing: str, on_progress: ProgressCallback = silent
) -> _Returned:
    """Call a function in a subprocess and return what it returns.

    The process is kept for the next function of that module and ends when ten minutes have passed without
    one: the import of TensorFlow alone takes five seconds.

    Args:
        function: Of a module, so that the other process finds it by name.
        arguments: Data, as `ipc.send` takes it; so must be what the function returns. A `Path` is made absolute.
        doing: What it does, for the error: `"convert to tflite-int8"`.
        on_progress: Callable that receives what the function passes to `report`. Defaults to none.

    Raises:
        Ended: Its process ended by a signal or otherwise.
        ExportError: The function raised one.

    Example:
        >>> run_in_subprocess(os.path.basename, "artifacts/model.onnx", doing="take a name apart")
        'model.onnx'
    """
    # A process that is kept has the working directory of its first question.
    asked = [given.absolute() if isinstance(given, Path) else given for given in arguments]
    with _LOCK:
        process = _kept(function.__module__)
        try:
            value, error = process.asked(on_progress, function.__qualname__, asked)
        except _Lost as lost:
            raise _forget(function.__module__).ended(doing) from lost
        except BaseException:  # Ctrl-C: the answer is no longer needed
            _forget(function.__module__).close()
            raise
    if error is not None:
        raise ExportError(error)
    return value


def report(stage: str, done: int = 0, total: int | None = None) -> None:
    """Report progress to the parent process; does nothing without one.

    Args:
        stage: What is being done.
        done: How much of it. Defaults to 0.
        total: Of how much; `None` where that is not known.

    Example:
        >>> report("measuring layers in int8", 3, 40)
    """
    if _ANSWERS is not None:
        send(_ANSWERS, (_REPORT, stage, done, total))


def prepare(module: str) -> None:
    """Start the process for the functions of a module, which it imports in the background.

    Example:
        >>> prepare("ktransfer.exporting.tflite.conversion")
    """
    with _LOCK:
        _kept(module)


def how_it_ended(process: subprocess.Popen[bytes], stderr: IO[bytes]) -> tuple[str, str]:
    """Wait for the end of a process; return how it came, and its last line on standard error.

    Args:
        process: `subprocess.Popen`. One that goes on for ten minutes more is killed.
        stderr: The file of its standard error.

    Example:
        >>> how_it_ended(process, stderr)  # doctest: +SKIP
        ('SIGABRT', 'no output')
    """
    try:
        status = process.wait(_IDLE)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    stderr.seek(0)
    lines = stderr.read().decode("utf-8", "replace").splitlines()
    last = next((line.strip()[:300] for line in reversed(lines) if line.strip()), "no output")
    return signal.Signals(-status).name if status < 0 else f"exit status {status}", last.rstrip(".")


class _Lost(Exception):
    """No answer can come any more."""


class _Process:
    def __init__(self, module: str) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process
        self._process = subprocess.Popen(
            # -P: a file named as a library, where the command was given, must not be imported instead.
            [sys.executable, "-P", "-c", _PROGRAM, str(os.getpid()), module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"},
        )
        # Both are there, as they were asked for.
        self._asks, self._answers = (
            cast("IO[bytes]", self._process.stdin),
            cast("IO[bytes]", self._process.stdout),
        )
        self._end_later()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def asked(self, on_progress: ProgressCallback, *question: Any) -> list[Any]:
        self._retirement.cancel()
        self._stderr.seek(0)  # for both: earlier output belongs to another request
        self._stderr.truncate()
        kind, *answer = self._received(question)
        while kind == _REPORT:
            on_progress(*answer)
            kind, *answer = self._received()
        self._end_later()
        return answer

    def _received(self, question: Any = None) -> Any:
        try:
            if question is not None:
                send(self._asks, question)
            return receive(self._answers)
        except ValueError as error:  # the process is still alive
            self._process.kill()
            raise _Lost from error
        except (EOFError, OSError) as error:
            raise _Lost from error

    def _end_later(self) -> None:
        self._idle_since = time.monotonic()
        self._retirement = threading.Timer(_IDLE, self._end_if_idle)
        self._retirement.daemon = True
        self._retirement.start()

    def _end_if_idle(self) -> None:
        with _LOCK:  # a request in progress holds the lock, and then the process is not idle
            if time.monotonic() - self._idle_since >= _IDLE:
                self.close()

    def ended(self, doing: str) -> Ended:
        """The error that describes how the process ended."""
        how, last = how_it_ended(self._process, self._stderr)
        self.close()
        ended = Ended(
            f"Expected a subprocess to {doing}, got its end by {how}; the last line was: {last}. Export "
            "another format; nothing was written."
        )
        ended.aborted = self._process.returncode < 0
        return ended

    def close(self) -> None:
        self._retirement.cancel()
        self._process.kill()
        self._process.wait()
        for stream in (self._asks, self._answers, self._stderr):
            with contextlib.suppress(OSError):  # what was not sent
                stream.close()


def _kept(module: str) -> _Process:
    if module in _KEPT and not _KEPT[module].alive:
        _forget(module).close()
    if module not in _KEPT:
        _KEPT[module] = _Process(module)
    return _KEPT[module]


def _forget(module: str) -> _Process:
    return _KEPT.pop(module)


@atexit.register
def _close_all() -> None:
    for module in list(_KEPT):
        _forget(module).close()


def _end_with(parent: int) -> None:
    """End the process when its parent has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _main(parent: str, module: str) -> None:
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    # What a converter prints must not come before the answer.
    global _ANSWERS
    _ANSWERS = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    functions = importlib.import_module(module)
    with contextlib.suppress(EOFError):  # the parent has closed the pipe
        while True:
            name, arguments = receive(sys.stdin.buffer)
            try:
                answer: Any = (_ANSWER, getattr(functions, name)(*arguments), None)
            except ExportError as error:  # any other ends the process, and its last line says what it was
                answer = _ANSWER, None, str(error)
            send(_ANSWERS, answer)
