"""`ktransfer verify`."""

from functools import partial
from typing import Annotated

import typer

from ktransfer.cli.options import AsJson, RunFolder
from ktransfer.utils.terminal import print_json, print_line, quiet_imports


def verify(
    run: RunFolder,
    no_answers: Annotated[
        bool,
        typer.Option(
            "--no-answers", help="Compare no answers, such as where the data of the run is missing."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a run's artifacts: sha256, labels, inputs and outputs, and answers; exit status 1 if anything differs."""
    from ktransfer.commands.checks import check_run

    check_run(run, model=not no_answers, artifacts=True)
    with quiet_imports():
        from ktransfer.commands.verify import verify as verify_run
        from ktransfer.runs.run import Run
    found = verify_run(Run.load(run), answers=not no_answers, say=partial(print_line, stderr=as_json))
    if as_json:
        print_json(found.to_dict())
    if not found.ok:
        raise typer.Exit(1)
