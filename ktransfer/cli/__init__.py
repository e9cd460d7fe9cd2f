"""The command line: each verb is one call of the API and its printing; only that call imports TensorFlow."""

import sys
from typing import Annotated

import typer

from ktransfer import __version__
from ktransfer.cli import audit, export, judge, report, stock, train, verify
from ktransfer.errors import KTransferError
from ktransfer.untrusted import visible

app = typer.Typer(
    name="ktransfer",
    help="Transfer learning for Keras: from a folder of images or a table of texts to a classifier, and from "
    "there to SavedModel, TFLite and ONNX files that are proved to answer as it does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# In the order in which they are listed.
for verb in (
    *(
        audit.audit,
        train.train,
        judge.evaluate,
        judge.predict,
        report.report,
        export.export,
        verify.verify,
        verify.benchmark,
    ),
    *(stock.backbones, stock.cache, train.demo),
):
    app.command()(verb)


def main():
    """The `ktransfer` command: errors that a user can mend are one line, and the exit status is 2."""
    try:
        app()
    except KTransferError as error:
        _fail(" ".join(str(error).split()))
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))


def _fail(text):
    typer.echo(f"ktransfer: {visible(text)}", err=True)
    sys.exit(2)


def _version(wanted: bool):
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
):
    pass
