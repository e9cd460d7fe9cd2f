"""Training by several processes, of which one writes the run; export by TensorFlow of a run of another backend."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ktransfer.errors import ExportError, RunError
from ktransfer.security.safe_io import visible
from ktransfer.utils.processes import Processes, find_processes


def asked_processes(devices: str | None) -> Processes | None:
    """The processes that a launcher has started, where `--devices` asks for them.

    Args:
        devices: The option, or `None`.

    Raises:
        RunError: There are several processes and `--devices` was not given: each would write the same run.

    Example:
        >>> asked_processes("all")
    """
    found = find_processes(os.environ)
    if found is not None and devices is None:
        raise RunError(
            f"Expected --devices all for {found.count} processes, got none ({found.line()}). Pass it, or start one "
            "process."
        )
    return found


@contextlib.contextmanager
def own_folder(out: Path, processes: Processes | None, *, resumes: bool) -> Iterator[Path]:
    """The run folder of this process: the run itself, or one for a while of processes that do not write it.

    Args:
        out: The run.
        processes: Of which this is one; `None` without others.
        resumes: Whether training resumes, for which each process needs the run.

    Raises:
        RunError: The run is not on this machine.

    Example:

        with own_folder(Path("runs/a"), None, resumes=False) as folder:
            train(data, backbone, folder)
    """
    if processes is None or processes.index == 0:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="ktransfer-") as scratch:
        folder = Path(scratch) / "run"
        if resumes:
            if not (out / "manifest.json").is_file():
                raise RunError(
                    f"Expected the run {out} on each machine to resume it, got none in process {processes.index}. Put "
                    "it into a folder that all of them share."
                )
            shutil.copytree(out, folder, ignore=shutil.ignore_patterns("artifacts"))
        yield folder


def export_by_tensorflow(run: Path, formats: Sequence[str]) -> None:
    """Export a run and write its report again by a subprocess on TensorFlow, whatever the backend here is.

    Args:
        run: The run folder.
        formats: What to write.

    Raises:
        ExportError: A format cannot be written; its reason is printed by the subprocess.

    Example:

        export_by_tensorflow(Path("runs/a"), ["onnx"])
    """
    hidden = ("XLA_FLAGS", "JAX_PLATFORMS")
    environ = {name: value for name, value in os.environ.items() if name not in hidden}
    environ |= {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    options = [word for name in formats for word in ("--format", name)]
    for verb, more in (("export", options), ("report", [])):
        # -P: a file named as a library, where the command was given, must not be imported instead.
        command = [sys.executable, "-P", "-m", "ktransfer", verb, str(run), *more]
        done = subprocess.run(command, env=environ, check=False)
        if done.returncode:
            raise ExportError(
                f"Expected TensorFlow to {verb} {visible(str(run))}, got exit code {done.returncode}. See the message "
                f"above; then `KERAS_BACKEND=tensorflow ktransfer {verb} {run}`."
            )
