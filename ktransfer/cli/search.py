"""`ktransfer search`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ktransfer.cli.options import (
    DATA_HELP,
    CacheDir,
    Client,
    DataDir,
    Encoding,
    FileColumn,
    Format,
    GroupColumn,
    LabelColumn,
    LabelSeparator,
    TaskName,
    TextColumn,
    TextColumns,
    time_passed,
)
from ktransfer.errors import BackboneError, RunError
from ktransfer.exporting.formats import FORMATS, format_names
from ktransfer.utils.extras import need_modules
from ktransfer.utils.terminal import print_line, quiet_imports

SAMPLERS, PRUNERS = ("tpe", "random", "grid"), ("halving", "hyperband", "median", "none")


def search(
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    backbone: Annotated[
        list[str] | None, typer.Option(help="As in train; several are a parameter of the search.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the search. One that is there goes on; several processes with the same command work "
            "on it together."
        ),
    ] = None,
    space: Annotated[Path | None, typer.Option(help="What is varied, as JSON; see --show-space.")] = None,
    show_space: Annotated[
        bool, typer.Option("--show-space", help="Print the space by default for DATA, and exit.")
    ] = False,
    trials: Annotated[
        int, typer.Option(min=1, help="How many in all, those of earlier calls among them.")
    ] = 20,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time for this command, the last run included, such as 20m or 2h."),
    ] = None,
    sampler: Annotated[str, typer.Option(help="tpe, random or grid.")] = "tpe",
    pruner: Annotated[
        str, typer.Option(help="What ends a trial early: halving, hyperband, median or none.")
    ] = "halving",
    storage: Annotated[
        str | None,
        typer.Option(help="A database URL of Optuna, for several machines; else a journal file in --out."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the study in the storage; else that of --out.")] = None,
    latency: Annotated[
        bool, typer.Option(help="Export each backbone and size once and time it in LiteRT and ONNX Runtime.")
    ] = False,
    validation: Annotated[Path | None, typer.Option(help="As in train.")] = None,
    validation_split: Annotated[float, typer.Option(help="As in train.")] = 0.2,
    test_split: Annotated[
        float | None,
        typer.Option(
            help="Share of each class that no trial sees, where the data has no test split; 0.2 if left out."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="fast, balanced or best: where the search starts; balanced if left out."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="The most that a trial of the default space has.")
    ] = None,
    refit: Annotated[
        bool | None, typer.Option(help="Train the last run on training and validation examples together.")
    ] = None,
    data_dir: DataDir = None,
    image_size: Annotated[int | None, typer.Option(min=1, help="Side of the images, pixels.")] = None,
    scaling: Annotated[str | None, typer.Option(help="For .keras files, as in train.")] = None,
    text_column: TextColumn = None,
    text_columns: TextColumns = None,
    file_column: FileColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    task: TaskName = None,
    target_transform: Annotated[str | None, typer.Option(help="log, as in train.")] = None,
    group_column: GroupColumn = None,
    encoding: Encoding = None,
    sequence_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens that longer texts are cut to, as in train.")
    ] = None,
    client: Client = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything random.")] = 0,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be read.")
    ] = False,
    exclude: Annotated[
        Path | None, typer.Option(help="What to leave out: the exclude.txt of `ktransfer audit --fix`.")
    ] = None,
    allow_leakage: Annotated[
        bool, typer.Option("--allow-leakage", help="Search although validation examples are trained on too.")
    ] = False,
    cache_dir: CacheDir = None,
    format: Format = None,
    no_export: Annotated[bool, typer.Option("--no-export", help="Export nothing of the last run.")] = False,
) -> None:
    """Search for a recipe and train with it: depth, learning rates, epochs, backbone, by Optuna."""
    from ktransfer.commands.checks import (
        check_backend,
        check_choice,
        check_data,
        check_encoding,
        check_exclusive,
        check_folder_to_write,
        check_modality,
        check_path,
    )
    from ktransfer.core.clients import CLIENTS
    from ktransfer.recipes.default_recipes import PRESETS
    from ktransfer.recipes.time_budget import TimeBudget, parse_duration
    from ktransfer.searching.space import Space

    if data is None:
        raise RunError("Expected DATA, got none. Pass a folder, a table or tfds:NAME.")
    check_data(data)
    if validation is not None:
        check_data(validation)
    check_encoding(encoding)
    check_path(data_dir, "--data-dir", folder=True)
    check_path(exclude, "--exclude")
    check_path(space, "--space")
    check_choice(preset, PRESETS, "--preset")
    check_choice(sampler, SAMPLERS, "--sampler")
    check_choice(pruner, PRUNERS, "--pruner")
    check_choice(target_transform, ("log",), "--target-transform")
    check_choice(client, CLIENTS, "--client")
    check_exclusive({"--format": bool(format), "--no-export": no_export}, "which artifacts to write")
    for option, share in (("--validation-split", validation_split), ("--test-split", test_split)):
        if share is not None and not 0 < share < 1:
            raise RunError(f"Expected {option} between 0 and 1, got {share}. Pass 0.2 to hold out a fifth.")
    formats = () if no_export else format_names(format or FORMATS)
    reading: dict[str, Any] = {
        "image_size": image_size,
        "scaling": scaling,
        "skip_corrupt": skip_corrupt,
        "text_column": text_column,
        "text_columns": text_columns,
        "file_column": file_column,
        "label_column": label_column,
        "label_separator": label_separator,
        "task": task,
        "group_column": group_column,
        "encoding": encoding,
        "sequence_length": sequence_length,
        "client": client,
    }
    modality = check_modality(data, reading)
    options = {
        "validation": validation,
        "validation_fraction": validation_split,
        "test_fraction": test_split,
        "preset": preset,
        "epochs": epochs,
        "data_dir": data_dir,
        "target_transform": target_transform,
        "seed": seed,
        "exclude": exclude,
        "allow_leakage": allow_leakage,
        **reading,
    }
    need_modules(["optuna"], "a search")
    if show_space:
        with quiet_imports():
            from ktransfer.commands.search import search_space
        print_line(search_space(data, backbone or [], **options).to_json())
        return
    if not backbone:
        raise BackboneError("Expected --backbone, got none. `ktransfer backbones` lists the names.")
    if out is None:
        raise RunError("Expected --out, got none. Pass --out SEARCH, a folder.")
    check_folder_to_write(out, "--out")
    if formats:
        check_backend()
    if budget is not None:
        TimeBudget(parse_duration(budget) - time_passed(), formats=len(formats))
    if space is not None:
        Space.from_json(space.read_bytes())
    if modality is not None:
        for each in backbone[:1] if len(backbone) == 1 else ():
            modality.check_backbone_name(each, scaling=scaling)
    with quiet_imports():
        from ktransfer.commands.search import PAGE
        from ktransfer.commands.search import search as search_recipes
    try:
        run = search_recipes(
            data,
            backbone,
            out,
            space=space,
            trials=trials,
            budget=None if budget is None else max(1.0, parse_duration(budget) - time_passed()),
            sampler=sampler,
            pruner=pruner,
            storage=storage,
            name=name,
            formats=formats,
            latency=latency,
            cache_dir=cache_dir,
            verbose=1 if sys.stdout.isatty() else 2,
            refit=refit,
            **options,
        )
    except KeyboardInterrupt:
        print_line("\nInterrupted. Go on with the same command.", stderr=True)
        raise typer.Exit(130) from None
    print_line(f"written to {out / PAGE}")
    print_line(f"run        {run.path}")
