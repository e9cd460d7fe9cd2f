"""`ktransfer pretrain`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ktransfer.cli.options import Encoding, LabelColumn, TextColumn
from ktransfer.errors import RunError
from ktransfer.utils.terminal import print_line, quiet_imports


def pretrain(
    data: Annotated[
        str | None,
        typer.Argument(
            help="Unlabeled texts: a table, a .txt file of one text a line, or a folder of tables and .txt files of "
            "one text each."
        ),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="A text backbone, as in train.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The preset folder to create, which every --backbone takes.")
    ] = None,
    labeled: Annotated[
        Path | None,
        typer.Option(
            help="A labeled task: texts of its validation and test splits may not be in DATA. Read as train reads it."
        ),
    ] = None,
    leave_out_leaks: Annotated[
        bool,
        typer.Option("--leave-out-leaks", help="Leave such texts out in place of refusing them."),
    ] = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    encoding: Encoding = None,
    sequence_length: Annotated[
        int | None, typer.Option(min=4, help="Tokens of a piece of text; 95 of 100 texts fit, at most 128.")
    ] = None,
    add_tokens: Annotated[
        int,
        typer.Option(
            min=0,
            max=100_000,
            help="Frequent words to add to a WordPiece vocabulary as tokens of their own, such as 500.",
        ),
    ] = 0,
    epochs: Annotated[float, typer.Option(help="Passes over the texts at most.")] = 3.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Pieces of text in a batch.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Its peak.")] = 1e-4,
    patience: Annotated[
        int, typer.Option(min=1, help="Rounds without a lower loss on texts held out after which it ends.")
    ] = 3,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time for the whole command, such as 90s, 20m or 1h.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")] = 0,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Start from a random backbone, for comparison.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier pretrain wrote.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Resume the interrupted or killed training at --out, with its options."
        ),
    ] = False,
) -> None:
    """Train a text backbone on unlabeled texts, and write it as a preset folder."""
    from ktransfer.commands.checks import check_data, check_encoding, check_exclusive
    from ktransfer.models.backbone_names import check_backbone_name
    from ktransfer.recipes.time_budget import parse_duration

    if data is None:
        raise RunError("Expected DATA, got none. Pass a table, a .txt file or a folder of texts.")
    if backbone is None:
        raise RunError("Expected --backbone, got none. `ktransfer backbones --task text` lists the names.")
    if out is None:
        raise RunError("Expected a folder to create, got no --out. Pass --out ADAPTED.")
    check_exclusive({"--resume": resume, "--overwrite": overwrite}, "what becomes of the folder at --out")
    check_exclusive({"--resume": resume, "--budget": budget is not None}, "how long to train")
    if leave_out_leaks and labeled is None:
        raise RunError("Expected --labeled with --leave-out-leaks, got none. Pass the labeled task.")
    check_data(data)
    check_encoding(encoding)
    check_backbone_name(backbone)
    if labeled is not None:
        check_data(labeled)
    if budget is not None:
        parse_duration(budget)
    with quiet_imports():
        from ktransfer.commands.pretrain import labeled_splits
        from ktransfer.commands.pretrain import pretrain as run
    splits = None
    if labeled is not None:
        splits = labeled_splits(labeled, label_column=label_column, encoding=encoding, seed=seed)
    try:
        run(
            data,
            backbone,
            out,
            labeled=splits,
            leave_out_leaks=leave_out_leaks,
            text_column=text_column,
            encoding=encoding,
            sequence_length=sequence_length,
            add_tokens=add_tokens,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            patience=patience,
            budget=budget,
            seed=seed,
            overwrite=overwrite,
            resume=resume,
            random_weights=random_weights,
            verbose=1 if sys.stdout.isatty() else 0,
        )
    except KeyboardInterrupt:
        begun = (out / "pretraining.json").is_file()
        how = " The same command with --resume completes it." if begun else ""
        print_line(f"\nInterrupted.{how}", stderr=True)
        raise typer.Exit(130) from None
