"""Arguments and options that verbs share."""

import time
from pathlib import Path
from typing import Annotated

import typer

from ktransfer.core.task import task_names
from ktransfer.exporting.formats import FORMATS, FURTHER, QUANTIZED

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
    typer.Option(help="Separator of the labels in a cell, such as |; guessed if left out."),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        help=f"{', '.join(task_names())}: one label an example, any number of labels, named entities in texts, a "
        "number to predict, or one of several classes that have an order, such as 1 to 5; detected from the data if "
        "left out, except regression and ordinal.",
    ),
]
GroupColumn = Annotated[
    str | None,
    typer.Option(help="Column of groups, such as patients; examples of a group stay in one split."),
]
Encoding = Annotated[
    str | None, typer.Option(help="Encoding of tables and text files, such as latin-1; UTF-8 if left out.")
]
Client = Annotated[
    str | None,
    typer.Option(
        help="mediapipe: read images and texts as MediaPipe Tasks do, so that its apps answer as the run does."
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="A run folder that `ktransfer train` wrote.")]
DataDir = Annotated[Path | None, typer.Option(help="The folder of TensorFlow Datasets' prepared data.")]
Format = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        help=f"Format to export, may be repeated: {', '.join(FORMATS)}, which are exported if left out; "
        f"{', '.join(FURTHER)}; or smaller and less exact: {', '.join(QUANTIZED)}.",
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(help="Folder for cached features; KTRANSFER_CACHE or ~/.cache/ktransfer if left out."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
