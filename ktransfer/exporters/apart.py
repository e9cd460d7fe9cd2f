"""A function run in a process of its own, so that a converter that aborts takes nothing with it."""

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from io import BytesIO

from ktransfer.errors import ExportError
from ktransfer.exporters.messages import receive, send


def apart(function, *arguments, doing):
    """Call a function in a process of its own and return what it returns.

    A process costs as long as the import of the function's module: a second for ONNX Runtime, five for
    TensorFlow. So what has never been seen to abort, the conversion to float32, is done without.

    Args:
        function: Of a module, so that the other process finds it by name.
        arguments: Data, as `messages.send` takes it; so must be what the function returns.
        doing: What it does, for the error: `"convert to tflite-int8"`.

    Raises:
        ExportError: The function raised, or its process ended by a signal or otherwise.

    Example:
        >>> apart(os.path.basename, "artefacts/model.onnx", doing="take a name apart")
        'model.onnx'
    """
    with tempfile.TemporaryFile() as said:
        # -P: a file named as a library, where the command was given, is not to be imported for it.
        with subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"},
        ) as process:
            try:
                question = BytesIO()
                send(question, (function.__module__, function.__qualname__, arguments))
                answer, _ = process.communicate(question.getvalue())
            except BaseException:  # Ctrl-C: nobody waits for it any more
                process.kill()
                raise
        if process.returncode == 0 and answer:
            value, error = receive(BytesIO(answer))
            if error is not None:
                raise ExportError(error)
            return value
        said.seek(0)
        lines = said.read().decode("utf-8", "replace").splitlines()
    status = process.returncode
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    last = next((line.strip()[:300] for line in reversed(lines) if line.strip()), "nothing was said")
    raise ExportError(
        f"A process of its own has to {doing}. Received: its end by {how}; the last line was: "
        f"{last.rstrip('.')}. Export another format; nothing was written."
    )


def _end_with(parent):
    """End the process when the one that asked is gone: killed, it would meet our files in its next run."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _main(parent):
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    # What a converter prints must not come before the answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    module, name, arguments = receive(sys.stdin.buffer)
    try:
        answer = getattr(importlib.import_module(module), name)(*arguments), None
    except ExportError as error:  # any other ends the process, and its last line says what it was
        answer = None, str(error)
    with answers:
        send(answers, answer)


if __name__ == "__main__":
    _main(*sys.argv[1:])
