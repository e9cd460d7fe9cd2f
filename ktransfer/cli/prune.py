"""`ktransfer prune`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ktransfer.cli.options import RunFolder
from ktransfer.cli.taught import checked, training, training_options
from ktransfer.utils.terminal import print_line, quiet_imports


@training_options()
def prune(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="The run folder of the smaller model to create.")],
    keep: Annotated[
        float | None,
        typer.Option(help="Share of the channels, heads and units of each layer to keep; 0.5 if left out."),
    ] = None,
    multiply_adds: Annotated[
        float | None, typer.Option(help="Keep what costs at most this share of the multiply-adds.")
    ] = None,
    parameters: Annotated[
        float | None, typer.Option(help="Keep what has at most this share of the parameters.")
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            help="Keep what answers one example within this time, such as 5ms, measured on the file of --format, or "
            "of TFLite."
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads for --latency; 1 if left out.")] = None,
    importance: Annotated[
        str,
        typer.Option(
            help="Which units stay: taylor, by the change of the loss, or magnitude, of the weights."
        ),
    ] = "taylor",
    steps: Annotated[int, typer.Option(min=1, help="Prune and train in so many steps.")] = 1,
    **given: Any,
) -> None:
    """Remove the least important channels, heads and units of a run, and train on with the run as teacher."""
    from ktransfer.commands.checks import check_choice
    from ktransfer.errors import RecipeError

    check_choice(importance, ("taylor", "magnitude"), "--importance")
    if threads is not None and latency is None:
        raise RecipeError(f"Expected --latency with --threads, got --threads {threads}. Leave it out.")
    options = checked([run], out, given)
    with training(out):
        with quiet_imports():
            from ktransfer.commands.prune import prune as prune_run
        smaller = prune_run(
            run,
            out,
            keep=keep,
            multiply_adds=multiply_adds,
            parameters=parameters,
            latency=latency,
            threads=threads or 1,
            importance=importance,
            steps=steps,
            **options,
        )
    print_line(f"run        {smaller.path}")
