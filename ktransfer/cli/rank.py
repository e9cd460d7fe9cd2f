"""`ktransfer rank`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ktransfer.cli.options import (
    DATA_HELP,
    AsJson,
    CacheDir,
    Client,
    DataDir,
    Encoding,
    FileColumn,
    GroupColumn,
    LabelColumn,
    LabelSeparator,
    TaskName,
    TextColumn,
    TextColumns,
)
from ktransfer.errors import BackboneError, RunError
from ktransfer.utils.terminal import print_json, print_line, print_ranking, quiet_imports


def rank(
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(help="As in train; repeat it. NAME@0.6 is the lowest 60 % of the blocks of NAME."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder for rank.json, rank.html and the runs of the best; nothing is written if left out."
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(help="Approximate maximum of training examples, each class by its share.")
    ] = 2_000,
    train_best: Annotated[
        int, typer.Option(help="Number of the best backbones to train for a short time.")
    ] = 2,
    train_budget: Annotated[
        str, typer.Option(metavar="TIME", help="Time for each of these runs, such as 90s or 5m.")
    ] = "5m",
    train: Annotated[bool, typer.Option(help="Train the best for a short time.")] = True,
    latency: Annotated[
        bool, typer.Option(help="Export each and time it in LiteRT and ONNX Runtime, where installed.")
    ] = True,
    validation: Annotated[Path | None, typer.Option(help="As in train.")] = None,
    data_dir: DataDir = None,
    image_size: Annotated[int | None, typer.Option(min=1, help="Side of the images in pixels.")] = None,
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
        int | None, typer.Option(min=1, help="Maximum length of texts in tokens, as in train.")
    ] = None,
    client: Client = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")] = 0,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Rank random backbones, for comparison.")
    ] = False,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be read.")
    ] = False,
    exclude: Annotated[
        Path | None, typer.Option(help="Examples to leave out: the exclude.txt of `ktransfer audit --fix`.")
    ] = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Rank pretrained backbones for a task by their frozen features, and what they cost."""
    from ktransfer.commands.checks import (
        check_choice,
        check_data,
        check_encoding,
        check_folder_to_write,
        check_modality,
        check_path,
    )
    from ktransfer.core.clients import CLIENTS
    from ktransfer.recipes.time_budget import TimeBudget, parse_duration

    if data is None:
        raise RunError("Expected DATA, got none. Pass a folder, a table or tfds:NAME.")
    check_data(data)
    if validation is not None:
        check_data(validation)
    check_encoding(encoding)
    check_path(data_dir, "--data-dir", folder=True)
    check_path(exclude, "--exclude")
    check_choice(target_transform, ("log",), "--target-transform")
    check_choice(client, CLIENTS, "--client")
    if out is not None:
        check_folder_to_write(out, "--out")
    if len(backbone or []) < 2:
        raise BackboneError(
            f"Expected --backbone two or more times, got {', '.join(backbone or []) or 'none'}. "
            "`ktransfer backbones` lists the names; NAME@0.6 is the lowest 60 % of the blocks of NAME."
        )
    train_best = train_best if train else 0
    if train_best > 0:
        TimeBudget(parse_duration(train_budget))
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
    check_modality(data, reading)
    with quiet_imports():
        from ktransfer.commands.rank import PAGE
        from ktransfer.commands.rank import rank as rank_backbones
    try:
        ranking = rank_backbones(
            data,
            backbone or [],
            out=out,
            sample=sample,
            train_best=train_best,
            train_budget=train_budget,
            latency=latency,
            cache_dir=cache_dir,
            say=lambda line: print_line(line, stderr=True),
            verbose=1 if sys.stderr.isatty() else 0,
            validation=validation,
            data_dir=data_dir,
            target_transform=target_transform,
            seed=seed,
            random_weights=random_weights,
            exclude=exclude,
            **reading,
        )
    except KeyboardInterrupt:
        print_line("\nInterrupted. Features that were computed stay cached.", stderr=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(ranking.to_dict())
        return
    print_ranking(ranking)
    if out is not None:
        print_line(f"written to {out / PAGE}")
