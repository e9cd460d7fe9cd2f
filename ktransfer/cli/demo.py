"""`ktransfer demo`."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ktransfer.utils.terminal import quiet_imports


def demo(
    out: Annotated[Path | None, typer.Option(help="Folder for data and runs; a new one if left out.")] = None,
) -> None:
    """Run everything on a toy task that ktransfer draws itself, with the small backbone that it ships."""
    folder = out or Path(tempfile.mkdtemp(prefix="ktransfer-demo-"))
    from ktransfer.runs.manifest import check_free

    for name in ("pretrained", "random"):
        check_free(folder / name)
    with quiet_imports():
        from ktransfer.demo.job import run_demo
    run_demo(folder, verbose=1 if sys.stdout.isatty() else 2)
