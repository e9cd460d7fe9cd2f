"""Arguments and options that verbs share."""

import time
from pathlib import Path
from typing import Annotated

import typer

from ktransfer.core.task import task_names
from ktransfer.exporting.formats import FORMATS, QUANTIZED

_STARTED = time.monotonic()


def time_passed() -> float:
    """Seconds since the command began."""
    return time.monotonic() - _STARTED


DATA_HELP = (
    "Images: a folder of class folders, one that holds train/ val/ test/, or a table that names files. Texts: a "
    "table (.csv, .tsv, .json, .jsonl, .parquet, packed as .csv.gz), or folders of .txt files. Either: a folder with "
    "train.csv and so on. Or tfds:NAME."
)
Data = Annotated[str, typer.Argument(help=DATA_HELP)]
TextColumn = Annotated[str | None, typer.Option(help="Column of the texts: its name, or its number from 1.")]
TextColumns = Annotated[
    str | None,
    typer.Option(
        help="Both columns of pairs of texts, with a comma between their names, such as premise,hypothesis."
    ),
]
FileColumn = Annotated[
    str | None, typer.Option(help="Column of the image files: its name, or its number from 1.")
]
LabelColumn = Annotated[
    str | None,
    typer.Option(help="Column of the labels, or several of 0 and 1, with commas between their names."),
]
LabelSeparator = Annotated[
    str | None,
    typer.Option(help="What stands between the labels of a cell, such as |; guessed if left out."),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        help=f"{', '.join(task_names())}: one label an example, any number of labels, named entities in texts, or a "
        "number to predict; what the data looks like if left out, never regression.",
    ),
]
GroupColumn = Annotated[
    str | None,
    typer.Option(help="Column with what an example belongs to, such as a patient; no group is divided."),
]
Encoding = Annotated[str | None, typer.Option(help="Of tables and text files, such as latin-1; else UTF-8.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder that `ktransfer train` wrote.")]
DataDir = Annotated[Path | None, typer.Option(help="Where TensorFlow Datasets keeps its prepared data.")]
Format = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        help=f"What to export, may be repeated: {', '.join(FORMATS)}, which are exported if left out; or "
        f"smaller and less exact: {', '.join(QUANTIZED)}.",
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(help="Where features are kept; KTRANSFER_CACHE or ~/.cache/ktransfer if left out."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
