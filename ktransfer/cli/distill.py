"""`ktransfer distill`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ktransfer.cli.options import CacheDir, Encoding, Format, TextColumn
from ktransfer.exporting.formats import FORMATS, format_names
from ktransfer.utils.terminal import print_line, quiet_imports

Epochs = Annotated[int | None, typer.Option(min=0, help="Epochs of fine-tuning; 0 trains the head only.")]
PresetName = Annotated[
    str | None, typer.Option(help="fast, balanced or best: training time against accuracy; best if left out.")
]
RecipeFile = Annotated[
    Path | None, typer.Option(help="A recipe as JSON, instead of the preset's; the seed stays the teacher's.")
]
Unlabelled = Annotated[
    Path | None,
    typer.Option(
        "--unlabelled",
        "--unlabeled",
        help="Folder or table of examples without labels, whose answers by the teacher are learned.",
    ),
]
Temperature = Annotated[
    float, typer.Option(help="By which the teacher's logits are divided before they are learned.")
]
Weight = Annotated[
    float, typer.Option(help="Share of the teacher's answers in the loss of a labelled example, 0 to 1.")
]
ClassWeight = Annotated[
    str | None, typer.Option(help="balanced: every class counts the same, independent of its size.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run at --out.")]
NoExport = Annotated[bool, typer.Option("--no-export", help="Only train and evaluate.")]
Cache = Annotated[bool, typer.Option(help="Cache the teacher's answers and the features of frozen layers.")]


def distill(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="The teacher: a trained run, or several, which are averaged."),
    ],
    out: Annotated[Path, typer.Option(help="The run folder of the student to create.")],
    backbone: Annotated[
        str | None, typer.Option(help="Of the student: a name or path as `ktransfer train` takes it.")
    ] = None,
    layers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Make the student of so many of the teacher's transformer layers, evenly chosen."
        ),
    ] = None,
    unlabelled: Unlabelled = None,
    text_column: TextColumn = None,
    encoding: Encoding = None,
    temperature: Temperature = 2.0,
    weight: Weight = 0.5,
    preset: PresetName = None,
    epochs: Epochs = None,
    recipe: RecipeFile = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the student's images in pixels.")
    ] = None,
    scaling: Annotated[
        str | None, typer.Option(help="For a .keras file: none, 0..1, -1..1 or imagenet, as for `train`.")
    ] = None,
    sequence_length: Annotated[
        int | None, typer.Option(min=1, help="Maximum length of the student's texts in its tokens.")
    ] = None,
    class_weight: ClassWeight = None,
    quantization_aware: Annotated[
        int | None,
        typer.Option(min=0, metavar="EPOCHS", help="Additional last epochs on a fake-quantized model."),
    ] = None,
    overwrite: Overwrite = False,
    cache: Cache = True,
    cache_dir: CacheDir = None,
    format: Format = None,
    no_export: NoExport = False,
) -> None:
    """Train a smaller model on the labels and on the answers of a trained one."""
    from ktransfer.commands.checks import check_backend, check_choice, check_exclusive, check_path
    from ktransfer.errors import RunError
    from ktransfer.recipes.default_recipes import PRESETS
    from ktransfer.recipes.recipe import Recipe
    from ktransfer.runs.manifest import check_free, read_manifest

    check_exclusive({"--format": bool(format), "--no-export": no_export}, "which artifacts to write")
    check_exclusive(
        {"--backbone": backbone is not None, "--layers": layers is not None}, "what the student is"
    )
    if backbone is None and layers is None:
        raise RunError("Expected --backbone or --layers for the student, got none. Pass one.")
    check_exclusive({"--recipe": recipe is not None, "--epochs": epochs is not None}, "how long to train")
    check_exclusive({"--recipe": recipe is not None, "--preset": preset is not None}, "how to train")
    check_choice(preset, PRESETS, "--preset")
    check_choice(class_weight, ("balanced",), "--class-weight")
    check_path(recipe, "--recipe")
    for run in runs:
        read_manifest(run)
    if unlabelled is not None and not unlabelled.exists():
        raise RunError(f"Expected a folder or a file for --unlabelled, got {unlabelled}. Check the path.")
    formats = () if no_export else format_names(format or FORMATS)
    if formats:
        check_backend()
    check_free(out, overwrite=overwrite)
    chosen = Recipe.from_json(recipe.read_bytes()) if recipe else None
    with quiet_imports():
        from ktransfer.commands.distill import distill as distill_runs
    options: dict[str, Any] = {
        "preset": preset,
        "epochs": epochs,
        "image_size": image_size,
        "scaling": scaling,
        "sequence_length": sequence_length,
        "class_weight": class_weight,
        "quantization_aware": quantization_aware,
    }
    try:
        student = distill_runs(
            runs,
            out,
            backbone=backbone,
            layers=layers,
            unlabelled=unlabelled,
            temperature=temperature,
            weight=weight,
            text_column=text_column,
            encoding=encoding,
            recipe=chosen,
            formats=formats,
            overwrite=overwrite,
            cache=cache,
            cache_dir=cache_dir,
            verbose=1 if sys.stdout.isatty() else 2,
            **options,
        )
    except KeyboardInterrupt:
        interrupted(out)
        raise typer.Exit(130) from None
    print_line(f"run        {student.path}")


def interrupted(out: Path) -> None:
    """Print how to go on with a run after Ctrl-C."""
    begun = (out / "manifest.json").is_file()
    how = f" Go on with: ktransfer train --resume --out {out}" if begun else ""
    print_line(f"\nInterrupted.{how}", stderr=True)
