"""`ktransfer lr-find`."""

import math
import sys
from pathlib import Path
from typing import Annotated

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
from ktransfer.errors import RunError, did_you_mean
from ktransfer.utils.terminal import print_json, print_line, quiet_imports


def lr_find(
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    backbone: Annotated[str | None, typer.Option(help="As in train.")] = None,
    depth: Annotated[
        str,
        typer.Option(
            metavar="all|N|SHARE",
            help="How much of the backbone trains, from the top: all, a number of blocks such as 3, or a share "
            "such as 0.5.",
        ),
    ] = "all",
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for lr_find.json and lr_find.png; nothing is written if left out."),
    ] = None,
    lowest: Annotated[float, typer.Option(help="Learning rate of the first step.")] = 1e-7,
    highest: Annotated[float, typer.Option(help="Learning rate of the last step.")] = 1.0,
    steps: Annotated[int, typer.Option(min=10, help="Batches to train.")] = 100,
    data_dir: DataDir = None,
    image_size: Annotated[int | None, typer.Option(min=1, help="Side of the images in pixels.")] = None,
    scaling: Annotated[str | None, typer.Option(help="For a .keras file, as in train.")] = None,
    text_column: TextColumn = None,
    text_columns: TextColumns = None,
    file_column: FileColumn = None,
    label_column: LabelColumn = None,
    label_separator: LabelSeparator = None,
    task: TaskName = None,
    group_column: GroupColumn = None,
    encoding: Encoding = None,
    sequence_length: Annotated[
        int | None, typer.Option(min=1, help="Maximum length of texts in tokens, as in train.")
    ] = None,
    client: Client = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")] = 0,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be read.")
    ] = False,
    exclude: Annotated[
        Path | None, typer.Option(help="Examples to leave out: the exclude.txt of `ktransfer audit --fix`.")
    ] = None,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Find a learning rate for fine-tuning by raising it from batch to batch."""
    from ktransfer.commands.checks import (
        check_choice,
        check_data,
        check_encoding,
        check_folder_to_write,
        check_modality,
        check_path,
    )
    from ktransfer.core.clients import CLIENTS

    how_deep = parse_depth(depth)
    if not 0 < lowest < highest < math.inf:
        raise RunError(
            f"Expected 0 < --lowest < --highest, got {lowest:g} and {highest:g}. Pass such as 1e-7 and 1."
        )
    if data is None:
        raise RunError("Expected DATA, got none. Pass a folder, a table or tfds:NAME.")
    check_data(data)
    check_encoding(encoding)
    check_path(data_dir, "--data-dir", folder=True)
    check_path(exclude, "--exclude")
    if out is not None:
        check_folder_to_write(out, "--out")
    if backbone is None:
        raise RunError("Expected --backbone, got none. `ktransfer backbones` lists the names.")
    check_choice(client, CLIENTS, "--client")
    columns = {
        "text_column": text_column,
        "text_columns": text_columns,
        "file_column": file_column,
        "label_column": label_column,
        "label_separator": label_separator,
        "task": task,
        "group_column": group_column,
        "encoding": encoding,
    }
    of_modality = {"image_size": image_size, "scaling": scaling, "skip_corrupt": skip_corrupt, **columns}
    modality = check_modality(data, of_modality | {"sequence_length": sequence_length})
    if modality is not None:
        modality.check_backbone_name(backbone, scaling=scaling)
    with quiet_imports():
        from ktransfer.commands.lr_find import JSON, PLOT
        from ktransfer.commands.lr_find import lr_find as find
    try:
        curve = find(
            data,
            backbone,
            depth=how_deep,
            out=out,
            data_dir=data_dir,
            image_size=image_size,
            scaling=scaling,
            **columns,
            sequence_length=sequence_length,
            client=client,
            lowest=lowest,
            highest=highest,
            steps=steps,
            seed=seed,
            skip_corrupt=skip_corrupt,
            exclude=exclude,
            cache_dir=cache_dir,
            say=lambda line: print_line(line, stderr=True),
            verbose=sys.stderr.isatty(),
        )
    except KeyboardInterrupt:
        print_line("\nInterrupted.", stderr=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(curve.to_dict())
        return
    suggested = "none" if curve.suggestion is None else f"{curve.suggestion:.1e}"
    print_line(f"suggested learning rate {suggested}: {curve.reason}")
    if out is not None:
        print_line(f"written to {out / PLOT} and {JSON}")


def parse_depth(text: str) -> int | float | str:
    """Parse `--depth`: `"all"`, a number of blocks or a share of them.

    Raises:
        RunError: It is none of these.

    Example:
        >>> parse_depth("all"), parse_depth("3"), parse_depth("0.5")
        ('all', 3, 0.5)
    """
    if text == "all":
        return text
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise RunError(
            f"Expected --depth of all, a number of blocks or a share in (0, 1], got {text!r}. "
            f"{did_you_mean(text, ['all'])}Pass such as 3 or 0.5."
        )
    return share
