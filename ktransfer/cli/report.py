"""`ktransfer report`."""

from pathlib import Path
from typing import Annotated

import typer

from ktransfer.cli.options import RunFolder
from ktransfer.utils.terminal import print_line, quiet_imports


def report(
    run: RunFolder,
    data: Annotated[
        Path | None, typer.Option(help="Present path of the run's data, if it was moved.")
    ] = None,
) -> None:
    """Evaluate a run again and write report.html: result, mistakes, explanations, artifacts."""
    from ktransfer.commands.checks import check_data, check_run

    check_run(run)
    if data is not None:
        check_data(data)
    with quiet_imports():
        from ktransfer.commands.report import report as report_run
        from ktransfer.runs.run import Run
    report_run(Run.load(run), data=data, say=print_line)
