"""`ktransfer distill`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ktransfer.cli.taught import checked, training, training_options
from ktransfer.utils.terminal import print_line, quiet_imports

Backbone = Annotated[
    str | None, typer.Option(help="Of the student: a name or path as `ktransfer train` takes it.")
]
Layers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Make the student of so many of the teacher's transformer layers, evenly chosen."
    ),
]
ImageSize = Annotated[int | None, typer.Option(min=1, help="Side of the student's images in pixels.")]
Scaling = Annotated[
    str | None, typer.Option(help="For a .keras file: none, 0..1, -1..1 or imagenet, as for `train`.")
]
SequenceLength = Annotated[
    int | None, typer.Option(min=1, help="Maximum length of the student's texts in its tokens.")
]


@training_options()
def distill(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="The teacher: a trained run, or several, which are averaged."),
    ],
    out: Annotated[Path, typer.Option(help="The run folder of the student to create.")],
    backbone: Backbone = None,
    layers: Layers = None,
    image_size: ImageSize = None,
    scaling: Scaling = None,
    sequence_length: SequenceLength = None,
    **given: Any,
) -> None:
    """Train a smaller model on the labels and on the answers of a trained one."""
    from ktransfer.commands.checks import check_exclusive
    from ktransfer.errors import RunError

    check_exclusive(
        {"--backbone": backbone is not None, "--layers": layers is not None}, "what the student is"
    )
    if backbone is None and layers is None:
        raise RunError("Expected --backbone or --layers for the student, got none. Pass one.")
    options = checked(runs, out, given)
    with training(out):
        with quiet_imports():
            from ktransfer.commands.distill import distill as distill_runs
        student = distill_runs(
            runs,
            out,
            backbone=backbone,
            layers=layers,
            image_size=image_size,
            scaling=scaling,
            sequence_length=sequence_length,
            **options,
        )
    print_line(f"run        {student.path}")
