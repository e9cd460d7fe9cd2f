"""`ktransfer prune`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ktransfer.cli.distill import (
    Cache,
    ClassWeight,
    Epochs,
    NoExport,
    Overwrite,
    PresetName,
    RecipeFile,
    Temperature,
    Unlabelled,
    Weight,
    interrupted,
)
from ktransfer.cli.options import CacheDir, Encoding, Format, RunFolder, TextColumn
from ktransfer.exporting.formats import FORMATS, format_names
from ktransfer.utils.terminal import print_line, quiet_imports


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
    importance: Annotated[
        str,
        typer.Option(
            help="Which units stay: taylor, by the change of the loss, or magnitude, of the weights."
        ),
    ] = "taylor",
    steps: Annotated[int, typer.Option(min=1, help="Prune and train in so many steps.")] = 1,
    unlabelled: Unlabelled = None,
    text_column: TextColumn = None,
    encoding: Encoding = None,
    temperature: Temperature = 2.0,
    weight: Weight = 0.5,
    preset: PresetName = None,
    epochs: Epochs = None,
    recipe: RecipeFile = None,
    class_weight: ClassWeight = None,
    overwrite: Overwrite = False,
    cache: Cache = True,
    cache_dir: CacheDir = None,
    format: Format = None,
    no_export: NoExport = False,
) -> None:
    """Remove the least important channels, heads and units of a run, and train on with the run as teacher."""
    from ktransfer.commands.checks import check_backend, check_choice, check_exclusive, check_path
    from ktransfer.errors import RunError
    from ktransfer.recipes.default_recipes import PRESETS
    from ktransfer.recipes.recipe import Recipe
    from ktransfer.runs.manifest import check_free, read_manifest

    check_exclusive({"--format": bool(format), "--no-export": no_export}, "which artifacts to write")
    check_exclusive({"--recipe": recipe is not None, "--epochs": epochs is not None}, "how long to train")
    check_exclusive({"--recipe": recipe is not None, "--preset": preset is not None}, "how to train")
    check_choice(preset, PRESETS, "--preset")
    check_choice(class_weight, ("balanced",), "--class-weight")
    check_choice(importance, ("taylor", "magnitude"), "--importance")
    check_path(recipe, "--recipe")
    read_manifest(run)
    if unlabelled is not None and not unlabelled.exists():
        raise RunError(f"Expected a folder or a file for --unlabelled, got {unlabelled}. Check the path.")
    formats = () if no_export else format_names(format or FORMATS)
    if formats:
        check_backend()
    check_free(out, overwrite=overwrite)
    chosen = Recipe.from_json(recipe.read_bytes()) if recipe else None
    with quiet_imports():
        from ktransfer.commands.prune import prune as prune_run
    try:
        smaller = prune_run(
            run,
            out,
            keep=keep,
            multiply_adds=multiply_adds,
            parameters=parameters,
            importance=importance,
            steps=steps,
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
            preset=preset,
            epochs=epochs,
            class_weight=class_weight,
        )
    except KeyboardInterrupt:
        interrupted(out)
        raise typer.Exit(130) from None
    print_line(f"run        {smaller.path}")
