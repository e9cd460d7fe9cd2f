"""`ktransfer package`."""

from pathlib import Path
from typing import Annotated

import typer

from ktransfer.cli.options import RunFolder


def package(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="The archive to write, such as flowers.zip.")],
    format: Annotated[
        list[str] | None,
        typer.Option("--format", help="A format that the run has, may be repeated; all if left out."),
    ] = None,
    backbone_license: Annotated[
        str | None,
        typer.Option(help="License of the backbone for the card; what its own folder names if left out."),
    ] = None,
) -> None:
    """Write the artifacts of a run into one archive: model card, labels, programs, checksums."""
    from ktransfer.commands.package import package as package_run

    package_run(run, out, formats=format, license=backbone_license)
