"""An artefact run in a process of its own: one that aborts takes nothing with it, and threads are its own."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time

from ktransfer.errors import ExportError
from ktransfer.exporters.messages import receive, send
from ktransfer.exporters.runtimes import open_artefact


class OwnProcess:
    """An artefact, opened by `open_artefact` in a process of its own, which ends with the `with`.

    It runs on the CPU.

    Args:
        format, path, threads: As in `open_artefact`.

    Attributes:
        labels, signature: As in `Opened`.

    Raises:
        ExportError: The runtime cannot load or run the artefact, or the process ended.

    Example:
        >>> with OwnProcess("onnx", "run/artefacts/model.onnx") as artefact:
        ...     artefact({"image": images}).shape
        (8, 2)
    """

    def __init__(self, format, path, *, threads=None):
        self._name = f"{format} artefact"
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  open as long as the process
        self._process = subprocess.Popen(
            # -P: a file named as a library, where the command was given, is not to be imported for it.
            [sys.executable, "-P", "-m", __name__, format, str(path), str(threads or 0)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        )

    def __enter__(self):
        try:
            self.labels, self.signature = self._received()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __call__(self, inputs):
        """Return the answers `(B, C)` to inputs by name."""
        return self._asked(inputs, 0)

    def seconds(self, inputs, repeats):
        """Answer so many times; return how long each took, without the way there and back."""
        return self._asked(inputs, repeats)

    def _asked(self, *question):
        try:
            send(self._process.stdin, question)
        except OSError as error:
            raise self._ended() from error
        return self._received()

    def _received(self):
        try:
            return receive(self._process.stdout)
        except (EOFError, ValueError) as error:
            raise self._ended() from error

    def _ended(self):
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip()[:300] for line in reversed(lines) if line.strip()), "nothing was said")
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return ExportError(
            f"The {self._name} has to run by its own runtime. "
            f"Received: {how}, {last.rstrip('.')}. Export it again, or another format."
        )


def _main(format, path, threads):
    # What a runtime prints must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    # What goes wrong ends the process, and its last line says what it was.
    opened = open_artefact(format, path, threads=int(threads) or None)
    send(answers, (opened.labels, opened.signature))
    with contextlib.suppress(EOFError):  # nobody asks any more
        while True:
            inputs, repeats = receive(sys.stdin.buffer)
            send(answers, _seconds(opened, inputs, repeats) if repeats else opened.answer(inputs))


def _seconds(opened, inputs, repeats):
    found = []
    for _ in range(repeats):
        before = time.perf_counter()
        opened.answer(inputs)
        found.append(time.perf_counter() - before)
    return found


if __name__ == "__main__":
    _main(*sys.argv[1:])
