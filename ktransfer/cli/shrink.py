"""`ktransfer shrink`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ktransfer.cli.distill import ImageSize, Layers, Scaling, SequenceLength
from ktransfer.cli.options import RunFolder
from ktransfer.cli.taught import checked, training, training_options
from ktransfer.exporting.formats import FORMATS, QUANTIZED, format_names
from ktransfer.utils.terminal import print_line, quiet_imports


@training_options("format", "no_export")
def shrink(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="The run folder of the result to create.")],
    drop: Annotated[
        float | None,
        typer.Option(
            help="Allowed loss of accuracy on validation; 0.01, one point, if no limit is given, else any."
        ),
    ] = None,
    latency: Annotated[
        str | None, typer.Option(help="Largest time of one example, such as 5ms, measured on the file.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Largest size of the file, such as 1.5MB.")] = None,
    format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help=f"Format to try, may be repeated: {', '.join((*FORMATS, *QUANTIZED))}; tflite and tflite-int8 if left "
            "out.",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtimes.")] = 1,
    trials: Annotated[
        int, typer.Option(min=1, help="Networks to prune and train, at most, of the run and of the student.")
    ] = 4,
    backbone: Annotated[
        str | None, typer.Option(help="Of a student that is tried as well, as for `ktransfer distill`.")
    ] = None,
    layers: Layers = None,
    image_size: ImageSize = None,
    scaling: Scaling = None,
    sequence_length: SequenceLength = None,
    importance: Annotated[
        str,
        typer.Option(
            help="Which units stay: taylor, by the change of the loss, or magnitude, of the weights."
        ),
    ] = "taylor",
    **given: Any,
) -> None:
    """Find the smallest file within an allowed loss of accuracy: a student, pruning and int8 together."""
    from ktransfer.commands.checks import check_choice, check_exclusive, check_run
    from ktransfer.errors import RunError
    from ktransfer.recipes.targets import parse_latency, parse_size

    check_choice(importance, ("taylor", "magnitude"), "--importance")
    check_exclusive(
        {"--backbone": backbone is not None, "--layers": layers is not None}, "what the student is"
    )
    alone = {"--image-size": image_size, "--scaling": scaling, "--sequence-length": sequence_length}
    for name, value in alone.items():
        if value is not None and backbone is None:
            raise RunError(f"Expected --backbone with {name}, got {name} {value}. Leave it out.")
    if latency is not None:
        parse_latency(latency)
    if size is not None:
        parse_size(size)
    check_run(run)
    options = checked([run], out, given)
    options["formats"] = format_names(format or ("tflite", "tflite-int8"))
    with training(out):
        with quiet_imports():
            from ktransfer.commands.shrink import shrink as shrink_run
        smaller = shrink_run(
            run,
            out,
            drop=drop,
            latency=latency,
            size=size,
            threads=threads,
            trials=trials,
            backbone=backbone,
            layers=layers,
            image_size=image_size,
            scaling=scaling,
            sequence_length=sequence_length,
            importance=importance,
            **options,
        )
    print_line(f"run        {smaller.path}")
